"""Samplers by name: one row a scheduler of diffusers with its settings, and what web interfaces call it."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from img2prompt.errors import ConfigError

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline


@dataclass(frozen=True, slots=True)
class SchedulerRow:
    """One way to walk from noise to a picture."""

    class_name: str  # in diffusers
    sampler: str  # as AUTOMATIC1111 writes it
    settings: Mapping[str, Any] = field(default_factory=dict)


# Every setting that tells rows apart stands in each of them: a pipeline's own scheduler may bring another value along.
_SIGMAS: Mapping[str, Any] = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_KARRAS: Mapping[str, Any] = {**_SIGMAS, "use_karras_sigmas": True}  # levels of Karras et al. 2022, arXiv:2206.00364
_ODE: Mapping[str, Any] = {"algorithm_type": "dpmsolver++"}
_SDE: Mapping[str, Any] = {"algorithm_type": "sde-dpmsolver++"}

# DPM-Solver++: Lu et al. 2022, arXiv:2211.01095; UniPC: Zhao et al. 2023, arXiv:2302.04867;
# DDIM: Song et al. 2020, arXiv:2010.02502; PNDM: Liu et al. 2022, arXiv:2202.09778; LCM: Luo et al. 2023,
# arXiv:2310.04378; DEIS: Zhang & Chen 2022, arXiv:2204.13902.
SCHEDULERS: dict[str, SchedulerRow] = {
    "dpmpp-2m": SchedulerRow("DPMSolverMultistepScheduler", "DPM++ 2M", {**_ODE, **_SIGMAS}),
    "dpmpp-2m-karras": SchedulerRow("DPMSolverMultistepScheduler", "DPM++ 2M Karras", {**_ODE, **_KARRAS}),
    "dpmpp-2m-sde": SchedulerRow("DPMSolverMultistepScheduler", "DPM++ 2M SDE", {**_SDE, **_SIGMAS}),
    "dpmpp-2m-sde-karras": SchedulerRow("DPMSolverMultistepScheduler", "DPM++ 2M SDE Karras", {**_SDE, **_KARRAS}),
    "dpmpp-2s": SchedulerRow("DPMSolverSinglestepScheduler", "DPM++ 2S", {**_ODE, **_SIGMAS}),
    "euler": SchedulerRow("EulerDiscreteScheduler", "Euler", _SIGMAS),
    "euler-karras": SchedulerRow("EulerDiscreteScheduler", "Euler Karras", _KARRAS),
    "euler-a": SchedulerRow("EulerAncestralDiscreteScheduler", "Euler a"),
    "heun": SchedulerRow("HeunDiscreteScheduler", "Heun", _SIGMAS),
    "dpm2": SchedulerRow("KDPM2DiscreteScheduler", "DPM2", _SIGMAS),
    "dpm2-a": SchedulerRow("KDPM2AncestralDiscreteScheduler", "DPM2 a", _SIGMAS),
    "lms": SchedulerRow("LMSDiscreteScheduler", "LMS", _SIGMAS),
    "ddim": SchedulerRow("DDIMScheduler", "DDIM"),
    "ddpm": SchedulerRow("DDPMScheduler", "DDPM"),
    "pndm": SchedulerRow("PNDMScheduler", "PLMS"),
    "unipc": SchedulerRow("UniPCMultistepScheduler", "UniPC", _SIGMAS),
    "deis": SchedulerRow("DEISMultistepScheduler", "DEIS", _SIGMAS),
    "lcm": SchedulerRow("LCMScheduler", "LCM"),
}


def row_of(name: str) -> SchedulerRow:
    """The row of a name.

    Raises:
        ConfigError: there is none.
    """
    if name not in SCHEDULERS:
        near = difflib.get_close_matches(name, SCHEDULERS, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise ConfigError(f"scheduler {name!r}: {hint}choose from {', '.join(SCHEDULERS)}")
    return SCHEDULERS[name]


def set_scheduler(pipeline: DiffusionPipeline, name: str) -> str:
    """Gives a pipeline another scheduler that goes on from the settings of its own; returns the sampler's name.

    Raises:
        ConfigError: there is no such row, or it does not fit the pipeline's model.
    """
    import diffusers

    row, own = row_of(name), pipeline.scheduler
    wanted = getattr(diffusers, row.class_name)
    if not hasattr(own, "betas") or own.config.get("use_flow_sigmas"):  # flow matching: no row walks that way
        raise ConfigError(
            f"scheduler {name!r}: does not fit a {type(pipeline).__name__} with a {type(own).__name__};"
            " leave --scheduler away to use the pipeline's own"
        )
    pipeline.scheduler = wanted.from_config(own.config, **row.settings)
    return row.sampler


def sampler_of(scheduler: Any) -> str:
    """What web interfaces call a pipeline's own scheduler; its class name where they have no word for it."""
    name = type(scheduler).__name__
    rows = [row for row in SCHEDULERS.values() if row.class_name == name]
    exact = [row for row in rows if _is_set(scheduler, row.settings)]
    return next((row.sampler for row in (*exact, *rows)), name.removesuffix("Scheduler"))


def _is_set(scheduler: Any, settings: Mapping[str, Any]) -> bool:
    return all(scheduler.config.get(key) == value for key, value in settings.items())
