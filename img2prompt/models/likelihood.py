"""How likely a captioner finds given texts for given pictures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from img2prompt.models.coca import LoadedCoca, encode_images
from img2prompt.models.decoding_cache import CachedDecoder

if TYPE_CHECKING:
    from PIL.Image import Image


class Likelihood:
    """Scores texts as VQAScore scores answers: by the probability that the model itself writes them.

    The score is the mean over the text's tokens, its end included, of their log-probabilities given the picture and
    what stands before. A model that writes in several styles scores the text in each and the best counts, so a long
    prompt is not held against the habit of short ones. What the model has no room for is not read.

    Source: Lin et al., "Evaluating text-to-visual generation with image-to-text generation", ECCV 2024; the mean over
    tokens instead of their product, so that texts of different lengths can be compared.

    Args:
        loaded: the model; its weights must not change afterwards.
        batch_size: pairs at once.
    """

    def __init__(self, loaded: LoadedCoca, batch_size: int = 16) -> None:
        self._loaded, self._batch_size = loaded, batch_size
        self._decoder = CachedDecoder(loaded.model)
        styles = [loaded.tokenizer.encode(prefix) for prefix in loaded.prefixes.values()]
        self._prefixes = [[loaded.tokenizer.sot_id, *prefix] for prefix in styles or [[]]]

    def score_many(self, images: Sequence[Image], texts: Sequence[str]) -> NDArray[np.float64]:
        """Mean log-likelihood of a token, natural log, of each text for the picture at its place: (B,), 0 at most."""
        scores = np.zeros(len(texts))
        tokens: dict[int, Tensor] = {}  # of the pictures of the last batch, since one may meet several texts
        for start in range(0, len(texts), self._batch_size):
            some = images[start : start + self._batch_size]
            tokens = self._seen(some, tokens)
            memory = torch.stack([tokens[id(image)] for image in some])  # (B,S,D)
            words = [self._loaded.tokenizer.encode(text) for text in texts[start : start + self._batch_size]]
            each = [self._scored(memory, words, prefix) for prefix in self._prefixes]
            scores[start : start + len(some)] = np.max(each, axis=0)
        return scores

    @torch.inference_mode()
    def _seen(self, images: Sequence[Image], known: dict[int, Tensor]) -> dict[int, Tensor]:
        fresh = list({id(image): image for image in images if id(image) not in known}.values())
        found = {id(image): known[id(image)] for image in images if id(image) in known}
        if fresh:
            weight = self._loaded.model.visual.conv1.weight
            pixels = encode_images(self._loaded, fresh).to(weight.device, weight.dtype)  # (B,3,H,W)
            encoded = self._decoder.encode(pixels)[1]
            found |= {id(image): row for image, row in zip(fresh, encoded, strict=True)}
        return found

    @torch.inference_mode()
    def _scored(self, memory: Tensor, words: Sequence[Sequence[int]], prefix: Sequence[int]) -> NDArray[np.float64]:
        """(B,) of pictures (B,S,D) and their texts as token ids, after the same first tokens."""
        room = self._decoder.context_length - len(prefix)
        # What is cut has no end: the model was never asked whether the text ends there.
        rows = [[*ids, self._loaded.tokenizer.eot_id][:room] for ids in words]
        longest = max(map(len, rows))
        tokens = torch.full((len(rows), len(prefix) + longest), self._loaded.tokenizer.eot_id)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(prefix) + len(ids)] = torch.tensor([*prefix, *ids])
        tokens = tokens.to(memory.device)
        cache = self._decoder.start(memory, 1, tokens.shape[1] - 1, tokens.shape[1] - 1)
        logits = self._decoder.read_texts(cache, tokens[:, :-1])[:, len(prefix) - 1 :]  # (B,T,V)
        wanted = tokens[:, len(prefix) :, None]  # (B,T,1)
        found = logits.log_softmax(dim=-1).gather(2, wanted)[..., 0].double().cpu().numpy()  # (B,T)
        counted = np.arange(longest) < np.array([len(ids) for ids in rows])[:, None]
        scores: NDArray[np.float64] = np.where(counted, found, 0).sum(axis=1) / counted.sum(axis=1)
        return scores
