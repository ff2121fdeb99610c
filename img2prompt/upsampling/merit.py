"""How good a rich prompt is, as one number: facts kept, within the limit, and richer than its base."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

from img2prompt.pairs.words import telling, words_of
from img2prompt.upsampling.drift import Check

if TYPE_CHECKING:
    from img2prompt.upsampling.limits import TokenCounter

RICH_WORDS = 25  # telling words beyond the base's, from which on more are worth nothing


def merit_by(check: Check, counter: TokenCounter) -> Callable[[str, str, int], float]:
    """The measure: facts kept * fit * (a half, and a half for richness and nearness of meaning).

    Args:
        check: of DRIFT_CHECKS; its cosine counts where it gives one.
        counter: of the text encoder that will read the prompt.

    Returns:
        Base prompt, rich prompt, most tokens -> 0..1, higher is better; 0 for an empty prompt.
    """

    @lru_cache(maxsize=4096)
    def merit(base: str, rich: str, limit: int) -> float:
        if not rich.strip():
            return 0.0
        (drift,) = check([base], [rich])
        if drift.unchecked is not None:
            return 0.0
        facts = 1 / (1 + len(drift.lost) + len(drift.contradicted))
        fits = min(1.0, limit / max(counter.count(rich), 1))
        near = 1.0 if drift.cosine is None else max(0.0, drift.cosine)
        return facts * fits * (0.5 + 0.4 * richness(base, rich) + 0.1 * near)

    return merit


def richness(base: str, rich: str) -> float:
    """How many telling words a prompt has that its base has not: 0..1."""
    more = set(telling(words_of(rich))) - set(telling(words_of(base)))
    return min(1.0, len(more) / RICH_WORDS)
