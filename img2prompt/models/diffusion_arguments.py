"""What a pipeline is called with: the arguments that stay the same from picture to picture."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from img2prompt.errors import ConfigError, ModelError
from img2prompt.models.diffusion_mending import usual_call

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline

    from img2prompt.models.diffusion_presets import LocatedPipeline
    from img2prompt.models.diffusion_settings import PictureSettings

_OURS = {"prompt", "generator", "output_type"}  # arguments of a pipeline that every picture gives


def takes_negatives(pipeline: DiffusionPipeline, arguments: Mapping[str, Any]) -> bool:
    """Whether a negative prompt changes anything: the pipeline has such, and guides away from them.

    Args:
        pipeline: of diffusers.
        arguments: that every call is given.
    """
    parameters = _parameters(pipeline)
    if "negative_prompt" not in parameters:
        return False
    # Distilled models take their scale as an input, and guide by a second, "true" one.
    name = "true_cfg_scale" if "true_cfg_scale" in parameters else "guidance_scale"
    if name not in parameters:
        return True
    scale = arguments.get(name, parameters[name].default)
    return scale is None or scale > 1


def arguments_of(located: LocatedPipeline, pipeline: DiffusionPipeline, wanted: PictureSettings) -> dict[str, Any]:
    """Arguments of every call: what was asked for, else the preset's value, else the pipeline's own.

    Raises:
        ModelError: the pipeline makes no pictures from prompts alone.
        ConfigError: it does not have one of the settings.
    """
    preset, name = located.preset, type(pipeline).__name__
    parameters = _parameters(pipeline)
    if not parameters.keys() >= _OURS:
        raise ModelError(f"{located.name}: a {name} makes no pictures from prompts alone")
    asked = {
        "num_inference_steps": (wanted.steps, preset and preset.steps),
        "guidance_scale": (wanted.guidance_scale, preset and preset.guidance_scale),
        "height": (wanted.height_px, preset and preset.image_px),
        "width": (wanted.width_px, preset and preset.image_px),
        "negative_prompt": (wanted.negative_prompt, None),
    }
    arguments = usual_call(pipeline) | (dict(preset.call) if preset is not None else {})
    for argument, (given, usual) in asked.items():
        if argument not in parameters:
            if given is not None:
                raise ConfigError(f"{located.name}: a {name} takes no {argument.replace('_', ' ')}")
            continue
        value = next((v for v in (given, usual, parameters[argument].default) if v is not None), None)
        if value is not None and argument != "negative_prompt":
            arguments[argument] = value
    needed = [n for n, p in parameters.items() if _is_needed(p) and n not in {*_OURS, *arguments, "self"}]
    if needed:
        raise ModelError(f"{located.name}: a {name} needs more than a prompt: {needed[0]}")
    return arguments


def _parameters(pipeline: DiffusionPipeline) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(type(pipeline).__call__).parameters)


def _is_needed(parameter: inspect.Parameter) -> bool:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in kinds
