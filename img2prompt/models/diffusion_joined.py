"""Pipelines that make a picture only together with another one: one row a kind of base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from img2prompt.errors import ModelError
from img2prompt.models.diffusion_loading import open_pipeline, set_up
from img2prompt.models.diffusion_settings import RunSettings

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

REFINED_FROM = 0.8  # of the steps the base walks this share, as the refiner's card advises


@dataclass(frozen=True, slots=True)
class Joined:
    """What draws.

    Attributes:
        pipeline: whose arguments, scheduler and tokenizers count.
        draw: is called as the pipeline is.
        refiner: a second pipeline that follows the first's scheduler, or None.
    """

    pipeline: DiffusionPipeline
    draw: Callable[..., Any]
    refiner: DiffusionPipeline | None = None

    def follow(self) -> None:
        """Gives the refiner the scheduler that the base has now."""
        if self.refiner is not None:
            self.refiner.scheduler = type(self.pipeline.scheduler).from_config(self.pipeline.scheduler.config)


def open_joined(
    folder: Path, companion: Path | None, run: RunSettings, device: str, *, safety_checker: bool = True
) -> Joined:
    """Loads a pipeline, and its companion where it has one, and sets them up for a run.

    Args:
        folder: of the base, in diffusers' format.
        companion: of its refiner or prior; None: it draws alone.
        run: how the work is done.
        device: where it is done, as `usable` gave it.
        safety_checker: False leaves it out.

    Raises:
        As `load_pipeline`; ModelError too for a base that no companion is known for.
    """
    base = open_pipeline(folder, run, device, safety_checker=safety_checker)
    if companion is None:
        set_up(base, run, device)
        return Joined(base, base)
    row = _JOINS.get(type(base).__name__)
    if row is None:
        raise ModelError(f"{folder}: a {type(base).__name__} takes no companion; {', '.join(_JOINS)} do")
    return row(base, companion, run, device)


def _with_refiner(base: Any, companion: Path, run: RunSettings, device: str) -> Joined:
    """An "ensemble of expert denoisers" (Podell et al. 2023, arXiv:2307.01952): the refiner walks the last steps."""
    # The two share their second text encoder and the autoencoder, which are the same in both repositories.
    shared = {name: getattr(base, name) for name in ("vae", "text_encoder_2")}
    refiner: Any = open_pipeline(companion, run, device, shared=shared)
    for pipeline in (base, refiner):
        set_up(pipeline, run, device)

    def draw(*, prompt: list[str], generator: list[Any], output_type: str, **named: Any) -> Any:
        own = {"height", "width"}
        latents = base(
            prompt=prompt, generator=generator, output_type="latent", denoising_end=REFINED_FROM, **named
        ).images
        kept = {name: value for name, value in named.items() if name not in own}
        return refiner(
            prompt=prompt,
            generator=generator,
            output_type=output_type,
            image=latents,
            denoising_start=REFINED_FROM,
            **kept,
        )

    return Joined(base, draw, refiner)


def _with_prior(base: Any, companion: Path, run: RunSettings, device: str) -> Joined:
    """The prior turns a prompt into an image's embedding, the decoder that into a picture."""
    from diffusers import KandinskyV22CombinedPipeline

    prior: Any = open_pipeline(companion, run, device)
    parts = {f"prior_{name}": part for name, part in prior.components.items()}
    whole: Any = KandinskyV22CombinedPipeline(**base.components, **parts)
    whole.set_progress_bar_config(disable=True)
    set_up(whole, run, device)

    def draw(
        *, prompt: list[str], generator: list[torch.Generator], negative_prompt: list[str] | None = None, **named: Any
    ) -> Any:
        # The whole's own call hands the prior too few generators when there are negative prompts.
        further = [] if negative_prompt is None else [one.clone_state() for one in generator]
        own = {name: named.pop(name) for name in list(named) if name.startswith("prior_")}
        embeddings = whole.prior_pipe(
            prompt=prompt,
            negative_prompt=negative_prompt,
            generator=generator + further,
            output_type="pt",
            return_dict=False,
            **{name.removeprefix("prior_"): value for name, value in own.items()},
        )
        made = whole.decoder_pipe(*embeddings, generator=generator, **named)
        whole.maybe_free_model_hooks()
        return made

    return Joined(whole, draw)


_JOINS: dict[str, Callable[[Any, Path, RunSettings, str], Joined]] = {
    "StableDiffusionXLPipeline": _with_refiner,
    "KandinskyV22Pipeline": _with_prior,
}
