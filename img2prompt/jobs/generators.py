"""What makes pictures from prompts, by name: one row a generator."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path

from img2prompt.errors import ConfigError, PresetError
from img2prompt.models.diffusion_presets import DIFFUSION_PRESETS
from img2prompt.models.diffusion_settings import PictureSettings, RunSettings
from img2prompt.results import Generator

STORYBOOK_PX = 256


@dataclass(frozen=True, slots=True)
class GeneratorRow:
    """One generator that has a name."""

    about: str
    licence: str
    open: Callable[[str, PictureSettings, RunSettings], Generator]
    negatives: bool = True  # whether it may have negative prompts; a pipeline says so when it is open


def open_generator(name: str, picture: PictureSettings, run: RunSettings) -> Generator:
    """Opens a generator of GENERATORS, a folder of diffusers, or a repository "OWNER/NAME" of the local cache.

    Raises:
        MissingExtra: diffusers is not installed.
        PresetError: there is none of that name on this machine; nothing is downloaded.
        ModelError: it is unusable.
        ConfigError: it does not have one of the settings.
    """
    row = GENERATORS.get(name)
    if row is not None:
        return row.open(name, picture, run)
    near = difflib.get_close_matches(name, GENERATORS, n=1)
    if near and near[0] not in DIFFUSION_PRESETS and not Path(name).exists():
        raise PresetError(f"{name}: no generator of that name; did you mean {near[0]}?")
    return _diffusion(name, picture, run)


def _diffusion(name: str, picture: PictureSettings, run: RunSettings) -> Generator:
    from img2prompt.models.diffusion import DiffusionGenerator

    return DiffusionGenerator(name, picture, run)


def _storybook(name: str, picture: PictureSettings, run: RunSettings) -> Generator:
    from img2prompt.pairs.storybook.imagine import StorybookGenerator

    usual = PictureSettings()
    for setting in fields(PictureSettings):
        if setting.name.endswith("_px"):
            continue
        if getattr(picture, setting.name) != getattr(usual, setting.name):
            raise ConfigError(f"{name}: draws without a model, so it has no {setting.name.replace('_', ' ')}")
    if picture.width_px != picture.height_px:
        raise ConfigError(f"{name}: pictures are square; {picture.width_px}x{picture.height_px} is not possible")
    return StorybookGenerator(picture.width_px or STORYBOOK_PX)


GENERATORS: dict[str, GeneratorRow] = {
    "storybook": GeneratorRow("the storybook world, drawn without a model", "MIT", _storybook, negatives=False),
    **{
        preset.name: GeneratorRow(preset.about or f"{preset.image_px} px", preset.licence, _diffusion)
        for preset in DIFFUSION_PRESETS.values()
    },
}
