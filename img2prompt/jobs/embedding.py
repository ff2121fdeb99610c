"""What turns pictures into the embeddings of their prompts: a regressor, an ensemble, or a captioner's own prompts."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from img2prompt.errors import ConfigError, ImageError, ModelError, PresetError
from img2prompt.jobs.options import number
from img2prompt.pairs.images import DEFAULT_LIMITS, Source
from img2prompt.presets import PRESETS, companion
from img2prompt.reading import Reader
from img2prompt.results import Failed, Prediction

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
        places: files and folders of its weights, or of what names them.
        model: does the work.
        sentence_model: whose embeddings they are; None: the default of `SentenceEncoder`.
    """

    name: str
    places: tuple[Path, ...]
    model: Regressor
    sentence_model: str | None = None


def add_embedder_options(parser: argparse.ArgumentParser) -> None:
    """--regressor, --ensemble and --rank, beside --preset of `add_model_options`."""
    parser.add_argument(
        "--regressor", metavar="FOLDER", help="a regressor's folder (runs/NAME/best), or a preset's name"
    )
    parser.add_argument("--ensemble", type=Path, metavar="FILE", help="a file that `img2prompt ensemble fit` wrote")
    parser.add_argument(
        "--rank",
        type=number(int, 1, 64),
        metavar="N",
        help="captions to choose the prompt from (default: as many as the preset's weights were fitted for;"
        " 1: the captioner's own choice, faster)",
    )


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
    folder = Path(options.regressor).expanduser()
    if options.regressor in PRESETS:
        of_preset = companion(PRESETS[options.regressor])
        if of_preset is None:
            raise PresetError(f"preset {options.regressor}: comes without a regressor; give --regressor a folder")
        folder = of_preset
    regressor, sentence_model = _load(folder, options)
    return Embedder(options.regressor, (folder,), regressor, sentence_model)


def _load(folder: Path, options: argparse.Namespace) -> tuple[Regressor, str]:
    """A regressor and the sentence model whose embeddings it estimates."""
    from img2prompt.models.devices import usable
    from img2prompt.models.regressor import EmbeddingRegressor, load_regressor

    model = load_regressor(folder, device=usable(options.device))
    return EmbeddingRegressor(model, options.batch_size), model.config.sentence_model


def _ensemble(options: argparse.Namespace) -> Embedder:
    from img2prompt.ensemble import Ensemble, read_ensemble

    spec = read_ensemble(options.ensemble)
    ensemble = Ensemble.load(spec, options.device, options.batch_size)
    folders = [Path(member.source) for member in spec.members if Path(member.source).is_dir()]
    return Embedder(str(spec.path), (spec.path, *folders), ensemble, spec.sentence_model)


def _captioner(options: argparse.Namespace) -> Embedder:
    from img2prompt.models.sentence import SentenceEncoder
    from img2prompt.predictor import Predictor

    predictor = Predictor.from_preset(
        options.preset, device=options.device, rank=options.rank, precision=options.precision
    )
    located = predictor.located
    assert located is not None  # from_preset found a model
    folder = companion(located.preset)
    regressor = predictor.rater.models.regressor  # the preset's own, by which candidates are ranked as well
    asked = {name: getattr(options, name) for name in ("candidates", "style", "seed")}
    model = CaptionEmbedder(predictor, SentenceEncoder(), regressor, **asked)
    return Embedder(located.name, (located.folder,) if folder is None else (located.folder, folder), model)


EMBEDDERS: dict[str, Callable[[argparse.Namespace], Embedder]] = {  # option -> what it loads
    "preset": _captioner,
    "regressor": _regressor,
    "ensemble": _ensemble,
}


def embedded(embedder: Embedder, sources: Iterable[Source], batch_size: int) -> Iterator[NDArray[np.float32] | Failed]:
    """Streams the embedding (D,) of each picture, in order; Failed for one that cannot be read.

    Raises:
        ModelError: the model gives NaN.
    """
    opened = Reader(DEFAULT_LIMITS, metadata=False).open_many(sources, 2 * batch_size)
    while group := list(itertools.islice(opened, batch_size)):
        images = [o.image for o in group if o.image is not None]
        rows: Iterator[NDArray[np.float32]] = iter(embedder.model.embed_many(images) if images else ())
        for o in group:
            if o.error is not None:
                reason = o.error.reason if isinstance(o.error, ImageError) else str(o.error)
                yield Failed(o.name, reason, type(o.error).__name__)
                continue
            row = next(rows)
            if not np.isfinite(row).all():
                raise ModelError(f"{embedder.name}: gives NaN for {o.name}; its weights are damaged")
            yield row


@dataclass(frozen=True, slots=True)
class CaptionEmbedder:
    """A captioner's prompts as the sentence encoder sees them; implements `results.Regressor`.

    Attributes:
        predictor: writes the prompts.
        encoder: embeds them.
        regressor: its estimates and the prompts' embeddings are averaged, both at unit length; None: there is none.
        candidates, style, seed: as for `Predictor.predict_many`.
    """

    predictor: Predictor
    encoder: SentenceEncoder
    regressor: Regressor | None = None
    candidates: int = 1
    style: str = "short"
    seed: int = 0

    def embed_many(self, images: Sequence[Image]) -> NDArray[np.float32]:
        """Rows (B,D) of unit length."""
        rows = self.predictor.predict_many(
            images,
            batch_size=max(len(images), 1),
            candidates=self.candidates,
            style=self.style,
            seed=self.seed,
            ignore_metadata=True,
        )
        emb = self.encoder.encode_many([_prompt(row) for row in rows])  # (B,D)
        if self.regressor is None:
            return emb
        both = emb + self.regressor.embed_many(images)  # (B,D)
        unit: NDArray[np.float32] = both / np.linalg.norm(both, axis=1, keepdims=True)
        return unit


def _prompt(row: Prediction | Failed) -> str:
    if isinstance(row, Failed):  # the picture was readable a moment ago
        raise ModelError(f"{row.source}: {row.error}")
    return row.prompt
