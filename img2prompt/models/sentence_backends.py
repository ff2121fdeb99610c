"""How sentence embeddings are computed: batches by tokens, through a BERT without padding or through any other model.

A batch is filled by tokens, not by texts, from texts sorted by tokens: sorting by characters, as sentence-transformers
does, makes a quarter of the work for real prompts padding. On a processor with several cores every core takes a batch
of its own: at this size one batch spread over the cores waits for its small steps.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from img2prompt.models.devices import fast_dtype
from img2prompt.models.int8_linear import multiplies_bytes
from img2prompt.models.sentence_bert import PackedBert, readable
from img2prompt.models.sentence_int8 import CALIBRATION, in_int8

BATCH_TOKENS = 1024  # measured: 512 to 4096 are equally fast on processors; more only takes memory
_SHORT = 9  # tokens of a text up to which bytes are not used: few tokens average out little of what they move
ENOUGH_COSINE = 0.9995  # of the worst sample text, for a cheaper precision to be used
SAMPLE = (  # fixed, so that the same machine always decides alike
    "a cat",
    "Venice",
    "a very old tortoise with a teapot on its back",
    "blurry photo of a market stall at night, rain on the lens",
    "clockwork whale carved out of walnut, museum lighting, in the manner of an engraving",
    "a polite robot sells paper umbrellas next to a flooded metro station, gouache",
    "portrait of a tired lighthouse keeper with a parrot, dramatic rim light, oil on linen",
    "an ice skater made of smoke crosses a mirror, surrounded by dandelions and copper wire",
    'close-up of a handwritten sign that says "back at five" on the door of a bakery, early morning',
    "a red cube on top of a blue sphere, to the left of three green cylinders",
    "two dogs run through shallow water while a man in a yellow raincoat watches them",
    "8 k, octane render, trending on artstation, cinematic lighting, highly detailed, sharp focus, volumetric fog",
    "isometric low-poly room of a wizard, warm candle light, scrolls and potions on every shelf, soft shadows",
    "1girl, solo, silver hair, (blue eyes:1.2), school uniform, cherry blossoms, masterpiece, best quality",
    "logo of a coffee company called 'Nord', flat vector, two colours, white background",
    "ein Schloss am See im Nebel, Ölgemälde, 19. Jahrhundert",
    "The old harbour at dawn. Fishing boats lie close together and their paint peels. A woman in a green coat carries "
    "a basket of oranges along the quay; behind her the lighthouse is still lit, and far out the first ferry crosses a "
    "sea as flat as glass. Shot on 35 mm film with a wide lens, faded colours and fine grain.",
)


class Backend(Protocol):
    """Computes embeddings."""

    def embed(self, texts: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        """Unit vectors (N,D) in the order of the texts, no more than `batch_size` of them at once."""
        ...


class PackedBackend:
    """sentence-transformers models that are a BERT and a mean, which `packable` says."""

    def __init__(self, model: Any, dtype: torch.dtype = torch.float32) -> None:
        from tokenizers import Tokenizer

        self._exact = self._bert = PackedBert(model[0].model, dtype)
        self._short = 0  # tokens of texts that go through `_exact`
        self._device = str(model.device)
        self._tokenizer = Tokenizer.from_str(model.tokenizer.backend_tokenizer.to_str())  # a copy: its settings change
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(model.max_seq_length)

    def in_int8(self) -> PackedBackend:
        """The same with products of bytes, see `in_int8`; what is exact is shared."""
        cheap = copy.copy(self)
        known = sorted((row.ids for row in self._tokenizer.encode_batch_fast(list(CALIBRATION))), key=len)
        with torch.inference_mode():
            cheap._bert = in_int8(self._exact, known)
        cheap._short = _SHORT
        return cheap

    def embed(self, texts: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        """Unit vectors (N,D) in the order of the texts."""
        tokens = [row.ids for row in self._tokenizer.encode_batch_fast(list(texts))]

        def embedded(places: Sequence[int]) -> NDArray[np.float32]:
            some = [tokens[i] for i in places]
            with torch.inference_mode():
                bert = self._exact if len(some[-1]) <= self._short else self._bert
                emb: NDArray[np.float32] = F.normalize(bert.embed(some)).cpu().numpy()
            return emb

        batches = list(batches_of([len(row) for row in tokens], batch_size, apart=self._short))
        return _in_order(batches, _on_all_cores(embedded, batches, self._device))


class PlainBackend:
    """Any other sentence-transformers model, through its own `encode`."""

    def __init__(self, model: Any, dtype: torch.dtype = torch.float32) -> None:
        self._model = model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)

    def embed(self, texts: Sequence[str], batch_size: int) -> NDArray[np.float32]:
        """Unit vectors (N,D) in the order of the texts."""
        batches, parts = list(batches_of(self._lengths(texts), batch_size)), []
        for places in batches:
            some = [texts[i] for i in places]
            emb = self._model.encode(
                some, batch_size=len(some), normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False
            )
            parts.append(emb.float().cpu().numpy())
        return _in_order(batches, parts)

    def _lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text; of a model that has no such tokenizer, characters."""
        tokenizer, most = getattr(self._model, "tokenizer", None), self._model.max_seq_length
        if not callable(tokenizer):
            return [len(text) for text in texts]
        return [min(len(ids), most or len(ids)) for ids in tokenizer(list(texts), verbose=False)["input_ids"]]


def batches_of(
    lengths: Sequence[int], batch_size: int, most_tokens: int = BATCH_TOKENS, apart: int = 0
) -> Iterator[list[int]]:
    """Places of texts, sorted by length and cut so that a batch has at most so many texts and tokens; at least one.

    Texts of up to `apart` tokens share no batch with longer ones.
    """
    batch: list[int] = []
    held = 0
    for place in np.argsort(lengths, kind="stable").tolist():
        full = held + lengths[place] > most_tokens or len(batch) >= batch_size
        if batch and (full or lengths[batch[-1]] <= apart < lengths[place]):
            yield batch
            batch, held = [], 0
        batch.append(place)
        held += lengths[place]
    if batch:
        yield batch


def packable(model: Any) -> bool:
    """Whether a SentenceTransformer is a BERT followed by a plain mean, without a prompt put before every text."""
    kinds = [type(module).__name__ for module in model]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        return False
    bert, pooling = model[0], model[1]
    plain = not getattr(bert, "do_lower_case", False) and not getattr(bert, "processing_kwargs", None)
    return (
        plain
        and pooling.pooling_mode == "mean"
        and model.default_prompt_name is None
        and model.truncate_dim is None
        and hasattr(model.tokenizer, "backend_tokenizer")
        and readable(bert.model)
    )


def chosen(model: Any, precision: str) -> tuple[Backend, str | None]:
    """The backend of a precision; where it is not to be used, that of float32 and why.

    A cheaper precision is used where this machine multiplies it faster and the cosine to float32 of the worst text of
    SAMPLE is at least ENOUGH_COSINE. The worst, not the mean: one caption in a hundred that moves is one wrong rank.
    """
    packed = packable(model)
    exact = PackedBackend(model) if packed else PlainBackend(model)
    if precision == "float32":
        return exact, None
    device = str(model.device)
    if precision == "bfloat16":
        if fast_dtype(device) != torch.bfloat16:
            return exact, f"{device} here multiplies no bfloat16 faster"
        cheap: Backend = PackedBackend(model, torch.bfloat16) if packed else PlainBackend(model, torch.bfloat16)
    elif device != "cpu" or not isinstance(exact, PackedBackend):
        return exact, "int8 is for BERT with a mean, on the processor"
    elif not multiplies_bytes():
        return exact, "this processor multiplies no bytes faster"
    else:
        cheap = exact.in_int8()
    worst = worst_cosine(exact, cheap)
    if worst >= ENOUGH_COSINE:
        return cheap, None
    return exact, f"its worst cosine to float32 is {worst:.5f}, and {ENOUGH_COSINE} is asked for"


def worst_cosine(exact: Backend, cheap: Backend) -> float:
    """The smallest cosine of the two embeddings of a text of SAMPLE; -1 where one is not finite."""
    cosines = (exact.embed(SAMPLE, 64) * cheap.embed(SAMPLE, 64)).sum(1)  # (N,)
    return float(cosines.min()) if np.isfinite(cosines).all() else -1.0


def _on_all_cores(
    function: Callable[[Sequence[int]], NDArray[np.float32]], batches: Sequence[Sequence[int]], device: str
) -> list[NDArray[np.float32]]:
    """The function of every batch; on a processor each core works on its own batch."""
    threads = torch.get_num_threads()
    if device != "cpu" or threads == 1 or len(batches) < 2 * threads:
        return [function(batch) for batch in batches]
    try:
        # The longest texts, which lie last, go first: then no core is left with a long batch at the end.
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            return list(pool.map(function, reversed(batches)))[::-1]
    finally:
        torch.set_num_threads(threads)  # a worker's setting reaches the products of the whole process


def _in_order(batches: Sequence[Sequence[int]], parts: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Rows of the batches (B,D), back in the order of the texts (N,D)."""
    emb = np.concatenate(parts)  # (N,D), sorted by length
    result = np.empty_like(emb)
    result[np.concatenate(batches)] = emb
    return result
