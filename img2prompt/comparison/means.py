"""What measures share: the captioner, the towers and the folders that hold weights, each opened on first use."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from img2prompt import hub
from img2prompt.errors import PresetError

if TYPE_CHECKING:
    from img2prompt.companions import Models
    from img2prompt.models.clip_texts import ClipTexts
    from img2prompt.models.features import FeatureEncoder
    from img2prompt.models.sentence import SentenceEncoder
    from img2prompt.results import Regressor

# One model in two formats: repository -> family and source for `towers`.
CLIP = {
    "openai/clip-vit-base-patch32": ("transformers", "openai/clip-vit-base-patch32"),
    "timm/vit_base_patch32_clip_224.openai": ("open_clip", "ViT-B-32/openai"),
}

T = TypeVar("T")


class Once(Generic[T]):
    """A function of two sequences that computes once what several metrics ask for, one after the other.

    The sequences are told apart by identity, so they must not be changed between two calls.
    """

    def __init__(self, function: Callable[[Sequence[Any], Sequence[Any]], T]) -> None:
        self._function = function
        self._last: tuple[Sequence[Any], Sequence[Any], T] | None = None

    def __call__(self, first: Sequence[Any], second: Sequence[Any]) -> T:
        if self._last is None or self._last[0] is not first or self._last[1] is not second:
            self._last = first, second, self._function(first, second)
        return self._last[2]


class Means:
    """What the measures of one `Comparer` share.

    Args:
        device: as `Comparer.open`.
        theirs: the captioner and its companions of a predictor; None: the best preset on this machine.
        weights: a folder that may hold weights files.
    """

    def __init__(self, device: str, theirs: Models | None = None, weights: Path | None = None) -> None:
        from img2prompt.models.devices import usable

        self.device, self.weights, self._theirs = usable(device), weights, theirs

    @cached_property
    def models(self) -> Models:
        """The captioner and its regressor in float32: in less, scores would depend on the batch."""
        from img2prompt.companions import Models
        from img2prompt.presets import best_available

        if self._theirs is None:
            return Models(best_available(), self.device, precision="float32")
        return Models(self._theirs.located, self.device, self._theirs.companions, "float32")

    @cached_property
    def regressor(self) -> Regressor:
        """The regressor that stands beside the captioner.

        Raises:
            PresetError: the captioner brings none.
        """
        if self.models.regressor is None:
            raise PresetError(
                f"{self.models.located.name} brings no regressor; train one and name its folder with --regressor,"
                " or take --preset storybook"
            )
        return self.models.regressor

    @cached_property
    def likelihoods(self) -> Once[NDArray[np.float64]]:
        """The captioner as a judge of texts: `Likelihood.score_many`."""
        from img2prompt.models.likelihood import Likelihood

        return Once(Likelihood(self.models.captioner.loaded).score_many)

    @cached_property
    def sentences(self) -> SentenceEncoder:
        """all-MiniLM-L6-v2."""
        from img2prompt.models.sentence import MINILM, SentenceEncoder

        return SentenceEncoder(MINILM, self.device)

    @cached_property
    def clip_source(self) -> tuple[str, str]:
        """Family and source of CLIP ViT-B/32, in whichever format lies on this machine.

        Raises:
            PresetError: in none.
        """
        return CLIP[self.cached(*CLIP)]

    def cached(self, *repositories: str) -> str:
        """The first of the repositories whose weights are in the Hugging Face cache.

        Raises:
            PresetError: none is.
        """
        for repository in repositories:
            if hub.cached_weights(repository) is not None:
                return repository
        ways = ", or: ".join(f"img2prompt pull hf-hub:{repository}" for repository in repositories)
        raise PresetError(f"{repositories[0]} is not in the Hugging Face cache; get it with: {ways}")

    @cached_property
    def clip_pictures(self) -> FeatureEncoder:
        """CLIP's image embeddings."""
        from img2prompt.models.features import load_features

        return load_features(":".join(self.clip_source), self.device)

    @cached_property
    def clip_texts(self) -> ClipTexts:
        """CLIP's text embeddings."""
        from img2prompt.models.clip_texts import ClipTexts
        from img2prompt.models.towers import TowerSpec

        family, source = self.clip_source
        return ClipTexts(TowerSpec(family, source=source), self.device)

    @cached_property
    def set_distances(self) -> Once[dict[str, float]]:
        """FID and KID: `Inception.distances`."""
        from img2prompt.models.inception import Inception

        return Once(Inception(self.device, self.weights).distances)
