"""What measures share: the captioner, the towers and the folders that hold weights, each opened on first use."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from img2prompt.errors import MissingExtra, PresetError

if TYPE_CHECKING:
    from img2prompt.companions import Models
    from img2prompt.models.clip_texts import ClipTexts
    from img2prompt.models.features import FeatureEncoder
    from img2prompt.models.inception import Inception
    from img2prompt.models.likelihood import Likelihood
    from img2prompt.models.sentence import SentenceEncoder
    from img2prompt.results import Regressor

CLIP = (("transformers", "openai/clip-vit-base-patch32"), ("open_clip", "ViT-B-32/openai"))  # one model, two formats


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
        """
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
    def likelihood(self) -> Likelihood:
        """The captioner as a judge of texts."""
        from img2prompt.models.likelihood import Likelihood

        return Likelihood(self.models.captioner.loaded)

    @cached_property
    def sentences(self) -> SentenceEncoder:
        """all-MiniLM-L6-v2."""
        from img2prompt.models.sentence import MINILM, SentenceEncoder

        return SentenceEncoder(MINILM, self.device)

    @cached_property
    def clip_source(self) -> tuple[str, str]:
        """Family and source of CLIP ViT-B/32, in whichever format lies on this machine."""
        from img2prompt import hub

        repositories = ("openai/clip-vit-base-patch32", "timm/vit_base_patch32_clip_224.openai")
        for source, repository in zip(CLIP, repositories, strict=True):
            if hub.cached_weights(repository) is not None:
                return source
        raise MissingExtra(
            "CLIP ViT-B/32 of OpenAI is not in the Hugging Face cache; get it with:"
            f" hf download {repositories[0]}, or: hf download {repositories[1]}"
        )

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
    def inception(self) -> Inception:
        """What FID and KID look at."""
        from img2prompt.models.inception import Inception

        return Inception(self.device, self.weights)
