"""The models that have a name: one row a model, what each knows, and where it lies on this machine."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from img2prompt import hub
from img2prompt.errors import PresetError

BUNDLED = Path(__file__).parent / "bundled"


@dataclass(frozen=True, slots=True)
class Preset:
    """One model that `--preset` takes by name."""

    name: str
    knows: str  # what its pictures may show, for the table
    licence: str
    size_mb: int  # of the weights, 10**6 bytes
    folder: str | None = None  # inside `bundled/`; None: it comes from the hub
    repository: str | None = None  # on the Hugging Face hub
    open_clip: str | None = None  # "ARCHITECTURE/TAG": most of these repositories hold no configuration of their own
    sha256: Mapping[str, str] = field(default_factory=dict)  # file name -> digest, where it is known beforehand
    regressor: str | None = None  # inside `bundled/`: estimates the embeddings of its world's prompts
    contrastive: bool = True  # its image and text embeddings were trained to meet

    @property
    def general(self) -> bool:
        """Whether it knows pictures of any kind."""
        return self.folder is None


_GENERAL = "photographs and art of any kind"

# Best first: without --preset the first that lies on this machine is used.
# Repositories: open_clip 3.3.0, pretrained.py; licences and sizes: the repositories' cards.
PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            name="coca-l14",
            knows=f"{_GENERAL}; captions in the manner of COCO",
            licence="MIT",
            size_mb=2550,
            repository="laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k",
            open_clip="coca_ViT-L-14/mscoco_finetuned_laion2b_s13b_b90k",
            sha256={
                "open_clip_pytorch_model.safetensors": (
                    "e7a260a9de42fc86e67452546013b1f8619b50f01971900f141d2202628ea28f"
                )
            },
        ),
        Preset(
            name="coca-b32",
            knows=f"{_GENERAL}; captions in the manner of COCO; small",
            licence="MIT",
            size_mb=1010,
            repository="laion/mscoco_finetuned_CoCa-ViT-B-32-laion2B-s13B-b90k",
            open_clip="coca_ViT-B-32/mscoco_finetuned_laion2b_s13b_b90k",
        ),
        Preset(
            name="coca-l14-plain",
            knows=f"{_GENERAL}; in the manner of web alt-text; to fine-tune from",
            licence="MIT",
            size_mb=2550,
            repository="laion/CoCa-ViT-L-14-laion2B-s13B-b90k",
            open_clip="coca_ViT-L-14/laion2b_s13b_b90k",
        ),
        Preset(
            name="coca-b32-plain",
            knows=f"{_GENERAL}; in the manner of web alt-text; to fine-tune from; small",
            licence="MIT",
            size_mb=1010,
            repository="laion/CoCa-ViT-B-32-laion2B-s13B-b90k",
            open_clip="coca_ViT-B-32/laion2b_s13b_b90k",
        ),
        Preset(
            name="storybook",
            knows="the storybook world only",
            licence="MIT",
            size_mb=12,
            folder="captioner",
            regressor="regressor",
            contrastive=False,
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Located:
    """A model on this machine."""

    name: str  # the preset's name, or the folder or repository that was asked for
    source: str  # what `models.coca.load_coca` takes
    folder: Path  # where the weights lie
    preset: Preset | None = None  # None: a folder or a repository without a row


def cached(preset: Preset) -> Path | None:
    """Where the preset's weights lie on this machine, or None; no network, and nothing heavy is imported."""
    if preset.folder is not None:
        weights = (BUNDLED / preset.folder / name for name in hub.WEIGHTS)
        return next((path for path in weights if path.is_file()), None)
    return None if preset.repository is None else hub.cached_weights(preset.repository)


def companion(preset: Preset | None) -> Path | None:
    """The folder of the preset's regressor where it lies on this machine, else None."""
    if preset is None or preset.regressor is None:
        return None
    folder = BUNDLED / preset.regressor
    return folder if (folder / "regressor.json").is_file() else None


def best_available() -> Located:
    """The best preset on this machine.

    Raises:
        PresetError: there is none, so the installation is damaged.
    """
    for preset in PRESETS.values():
        if cached(preset) is not None:
            return resolve(preset.name)
    raise PresetError("no model is on this machine, not even the bundled one; reinstall img2prompt, or pull coca-l14")


def resolve(name: str) -> Located:
    """Finds a model by a preset's name, a folder, "local-dir:FOLDER" or "hf-hub:OWNER/NAME"; downloads nothing.

    Raises:
        PresetError: there is no such preset, it was not pulled, or the folder holds no model.
    """
    if name in PRESETS:
        return _resolve_preset(PRESETS[name])
    if name.startswith("hf-hub:"):
        return _resolve_repository(name)
    folder = Path(name.removeprefix("local-dir:")).expanduser()
    if folder.is_dir():
        if not (folder / "open_clip_config.json").is_file():
            raise PresetError(f"{folder}: holds no open_clip_config.json, so it is no model folder")
        return Located(str(folder), str(folder), folder)
    near = difflib.get_close_matches(name, PRESETS, n=1)
    hint = f"did you mean {near[0]}?" if near else f"the presets are {', '.join(PRESETS)}"
    raise PresetError(f"{name}: neither a preset nor a folder; {hint}")


def pull(name: str, endpoint: str | None = None) -> Located:
    """Downloads a preset or an "hf-hub:OWNER/NAME" model, verifies it, and says where it lies.

    Raises:
        PresetError: there is no such preset.
        DownloadError: no connection, no space or a wrong checksum; nothing half-written counts as cached.
    """
    preset = PRESETS.get(name)
    if preset is None and not name.startswith("hf-hub:"):
        raise PresetError(f"{name}: nothing to pull; the presets are {', '.join(PRESETS)}, or hf-hub:OWNER/NAME")
    repository = name.removeprefix("hf-hub:") if preset is None else preset.repository
    if repository is not None:
        hub.download(repository, sha256=preset.sha256 if preset else None, endpoint=endpoint)
    return resolve(name)


def _resolve_preset(preset: Preset) -> Located:
    weights = cached(preset)
    if weights is None and preset.folder is not None:
        raise PresetError(f"preset {preset.name}: its files are missing from the installation; reinstall img2prompt")
    if weights is None:
        raise PresetError(f"preset {preset.name}: not on this machine; get it with: img2prompt pull {preset.name}")
    return Located(preset.name, preset.open_clip or str(weights.parent), weights.parent, preset)


def _resolve_repository(name: str) -> Located:
    repository = name.removeprefix("hf-hub:")
    weights = hub.cached_weights(repository)
    if weights is None:
        raise PresetError(f"{name}: not on this machine; get it with: img2prompt pull {name}")
    return Located(name, name, weights.parent)
