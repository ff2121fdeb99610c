"""What turns pictures into the embeddings of their prompts: a regressor, an ensemble, or a captioner's own prompts."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import ConfigError
from img2prompt.models.sentence import MINILM

if TYPE_CHECKING:
    from PIL.Image import Image

    from img2prompt.models.sentence import SentenceEncoder
    from img2prompt.predictor import Predictor
    from img2prompt.results import Regressor


@dataclass(frozen=True, slots=True)
class Embedder:
    """A model that estimates embeddings.

    Attributes:
        name: for people.
        place: the file or folder of its weights, or of what names them.
        model: does the work.
        sentence_model: whose embeddings they are.
    """

    name: str
    place: Path
    model: Regressor
    sentence_model: str = MINILM


def add_embedder_options(parser: argparse.ArgumentParser) -> None:
    """--regressor and --ensemble, beside --preset of `add_model_options`."""
    parser.add_argument(
        "--regressor", metavar="FOLDER", help="a regressor's folder (runs/NAME/best), or a preset's name"
    )
    parser.add_argument("--ensemble", type=Path, metavar="FILE", help="a file that `img2prompt ensemble fit` wrote")


def chosen(options: argparse.Namespace) -> str:
    """Which of the rows of EMBEDDERS the options ask for; "preset" when they ask for none.

    Raises:
        ConfigError: they ask for two.
    """
    asked = [kind for kind in EMBEDDERS if getattr(options, kind) is not None]
    if len(asked) > 1:
        raise ConfigError(f"--{asked[0]} and --{asked[1]} are two models; give one, or join them with --ensemble")
    return asked[0] if asked else "preset"


def load_embedder(options: argparse.Namespace) -> Embedder:
    """The model that the options name.

    Raises:
        ConfigError, PresetError, ModelError, MissingExtra: it cannot be had.
    """
    return EMBEDDERS[chosen(options)](options)


def _regressor(options: argparse.Namespace) -> Embedder:
    from img2prompt.models.devices import usable
    from img2prompt.models.regressor import EmbeddingRegressor, load_regressor

    folder = options.regressor
    model = load_regressor(folder, device=usable(options.device))
    regressor = EmbeddingRegressor(model, batch_size=options.batch_size)
    return Embedder(str(folder), folder, regressor, model.config.sentence_model)


def _ensemble(options: argparse.Namespace) -> Embedder:
    from img2prompt.ensemble import Ensemble

    return Embedder(str(options.ensemble), options.ensemble, Ensemble.load(options.ensemble))


def _captioner(options: argparse.Namespace) -> Embedder:
    from img2prompt.models.sentence import SentenceEncoder
    from img2prompt.predictor import Predictor

    predictor = Predictor.from_preset(options.preset, device=options.device)
    located = predictor.located
    assert located is not None  # from_preset found a model
    asked = {name: getattr(options, name) for name in ("candidates", "style", "seed")}
    model = CaptionEmbedder(predictor, SentenceEncoder(), **asked)
    return Embedder(located.name, located.folder, model)


EMBEDDERS: dict[str, Callable[[argparse.Namespace], Embedder]] = {  # option -> what it loads
    "preset": _captioner,
    "regressor": _regressor,
    "ensemble": _ensemble,
}


@dataclass(frozen=True, slots=True)
class CaptionEmbedder:
    """A captioner's prompts as the sentence encoder sees them; implements `results.Regressor`."""

    predictor: Predictor
    encoder: SentenceEncoder
    candidates: int = 1
    style: str = "short"
    seed: int = 0

    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Embeddings (B,D) of the prompts of the pictures, unit length."""
        rows = self.predictor.predict_many(
            images,
            batch_size=max(len(images), 1),
            candidates=self.candidates,
            style=self.style,
            seed=self.seed,
            ignore_metadata=True,
        )
        return self.encoder.encode_many([row.prompt for row in rows])  # (B,D)
