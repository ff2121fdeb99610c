"""What a pipeline of diffusers needs before it does what its documentation says: one row a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import nn
from torch.utils.hooks import RemovableHandle

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


def mend(pipeline: DiffusionPipeline) -> RemovableHandle | None:
    """Makes up for what is known to be wrong with a pipeline of this class; the handle undoes it."""
    row = _MENDINGS.get(type(pipeline).__name__)
    return None if row is None else row(pipeline)


def usual_call(pipeline: DiffusionPipeline) -> dict[str, Any]:
    """Arguments that a pipeline's own defaults do not suit."""
    row = _CALLS.get(type(pipeline).__name__)
    return {} if row is None else row(pipeline)


def _one_time_a_picture(pipeline: Any) -> RemovableHandle:
    """With guidance, diffusers 0.42 gives PRX two times for 2 B pictures, which only fits B = 1."""
    transformer: nn.Module = pipeline.transformer
    return transformer.register_forward_pre_hook(_spread_times, with_kwargs=True)


def _spread_times(
    module: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    times, pictures = named.get("timestep"), named.get("hidden_states")
    if times is not None and pictures is not None and len(times) not in (1, len(pictures)):
        named = {**named, "timestep": times[:1].expand(len(pictures))}  # one sampler step is one time for all
    return positional, named


_MENDINGS: dict[str, Callable[[Any], RemovableHandle]] = {
    "PRXPipeline": _one_time_a_picture,
    "PRXPixelPipeline": _one_time_a_picture,
}


def _only_known_bins(pipeline: Any) -> dict[str, Any]:
    """PRX fits every size into bins of its training, and refuses to where the model was trained at other sizes."""
    from diffusers.pipelines.prx.pipeline_prx_pixel import ASPECT_RATIO_BINS

    return {} if pipeline.config.default_sample_size in ASPECT_RATIO_BINS else {"use_resolution_binning": False}


_CALLS: dict[str, Callable[[Any], dict[str, Any]]] = {"PRXPixelPipeline": _only_known_bins}
