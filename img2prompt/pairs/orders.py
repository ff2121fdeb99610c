"""Which pictures are wanted: prompts in their order, each with a seed that follows from its words."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from img2prompt.pairs.embedded.values import clean

SEED_BITS = 53  # whole numbers that JSON readers keep exactly


@dataclass(frozen=True, slots=True)
class Order:
    """One picture that is wanted."""

    prompt: str
    seed: int
    source: str  # where the prompt stands, e.g. file name and row


def orders_of(prompts: Iterable[tuple[str, str]], images_per_prompt: int = 1, base_seed: int = 0) -> list[Order]:
    """The pictures of prompts (each with where it stands), those of one prompt behind one another.

    A prompt that occurs again is given other seeds than before, and every other prompt keeps its own, whatever stands
    around it.
    """
    seen: Counter[str] = Counter()
    orders = []
    for words, source in prompts:
        prompt = clean(words)
        if not prompt:
            continue
        for _ in range(images_per_prompt):
            orders.append(Order(prompt, seed_of(prompt, seen[prompt], base_seed), source))
            seen[prompt] += 1
    return orders


def seed_of(prompt: str, index: int, base_seed: int = 0) -> int:
    """The seed of picture `index` of a prompt, 0 to 2**53 - 1; the same on every machine.

    Args:
        prompt: its words.
        index: pictures of the same prompt that come before.
        base_seed: another one gives other pictures.
    """
    digest = hashlib.sha256(f"{base_seed} {index} {prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> (64 - SEED_BITS)
