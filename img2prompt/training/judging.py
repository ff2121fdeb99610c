"""What validation says beside the loss: captions are written and judged, so that a collapse is seen at once."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from img2prompt.errors import Img2PromptError
from img2prompt.metrics import bleu, identical_share, mean_cosine
from img2prompt.models.decoding_cache import CachedDecoder
from img2prompt.models.generation import Decoding, decode, token_ids
from img2prompt.models.sentence import SentenceEncoder
from img2prompt.models.tokenizer import CocaTokenizer
from img2prompt.pairs.storybook.parse import facts_of
from img2prompt.pairs.storybook.scene import Scene
from img2prompt.pairs.storybook.score import score_prompts

logger = logging.getLogger(__name__)


@torch.inference_mode()
def write_captions(
    model: Any, tokenizer: CocaTokenizer, batches: Iterable[Tensor], prefix: str, max_tokens: int
) -> list[str]:
    """Greedy captions.

    Args:
        model: an open_clip CoCa in evaluation mode.
        tokenizer: its tokenizer.
        batches: normalised pictures (B,3,H,W).
        prefix: what each caption starts with.
        max_tokens: of a whole sequence, prefix included.
    """
    decoder, given = CachedDecoder(model), tokenizer.encode(prefix) if prefix else []
    longest = min(max_tokens, decoder.context_length)
    settings = Decoding(strategy="greedy", max_tokens=longest, min_tokens=min(5, longest - 1), prefix=prefix)
    texts = []
    for images in batches:
        found = decode(decoder, decoder.encode(images)[1], settings, token_ids(tokenizer), prefix=given)
        texts += [tokenizer.decode(hypotheses[0].tokens[1 + len(given) :]) for hypotheses in found]
    return texts


class Judge:
    """Scores written captions against true ones.

    Args:
        cosine: whether to embed them with MiniLM, which must be on this machine.
    """

    def __init__(self, cosine: bool = True) -> None:
        self.encoder: SentenceEncoder | None = None
        self._truths: dict[tuple[str, ...], Any] = {}
        if cosine:
            try:
                self.encoder = SentenceEncoder()
            except Img2PromptError as error:
                logger.warning("validation goes without the mean cosine: %s", error)

    def score(self, written: Sequence[str], truth: Sequence[str], scenes: Sequence[str] | None) -> dict[str, float]:
        """Identical share, BLEU, mean MiniLM cosine and, with scenes, the storybook's accuracies; no NaN among them."""
        scores = {"identical_share": identical_share(written), "bleu": bleu(written, [[text] for text in truth])}
        if self.encoder is not None:
            key = tuple(truth)
            if key not in self._truths:
                self._truths[key] = self.encoder.encode_many(truth)
            scores["mean_cosine"] = mean_cosine(self.encoder.encode_many(written), self._truths[key])
        if scenes is not None:
            scores |= score_prompts(written, [facts_of(Scene.from_json(scene)) for scene in scenes])
        return {name: value for name, value in scores.items() if not math.isnan(value)}
