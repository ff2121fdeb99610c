"""How captions are searched for: settings without any machinery."""

from __future__ import annotations

from dataclasses import dataclass

from img2prompt.errors import ConfigError


@dataclass(frozen=True)
class Decoding:
    """Settings of a decoding. The defaults are those of open_clip's `CoCa.generate`, token for token.

    Attributes:
        strategy: "greedy", "beam" or "sample".
        max_tokens: length of the whole sequence; start token, prefix and end token count.
        min_tokens: no end token before the sequence has this length.
        beams: hypotheses an image, in all groups together.
        groups: groups that search apart; without a diversity penalty they find the same, so one is searched.
        diversity_penalty: taken off the score of a token for each earlier group that chose it in the same step.
        length_penalty: a finished hypothesis scores its sum divided by length to this power; 0: by nothing.
        normalized: beams sum log-probabilities; False: raw logits, which is what open_clip sums.
        repetition_penalty: divides positive and multiplies negative logits of tokens that were used; 1: off.
        temperature: of sampling; applies after top-k and top-p, as in open_clip.
        top_k: sample among so many most probable tokens only.
        top_p: sample among the most probable tokens that together have this probability only.
        candidates: captions an image.
        prefix: words that every caption starts with; they are no part of the returned text.
    """

    strategy: str = "beam"
    max_tokens: int = 30
    min_tokens: int = 5
    beams: int = 6
    groups: int = 3
    diversity_penalty: float = 0.0
    length_penalty: float = 1.0
    normalized: bool = False
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    candidates: int = 1
    prefix: str = ""

    def __post_init__(self) -> None:
        """Checks every value.

        Raises:
            ConfigError: a value is out of range, or two do not go together.
        """
        wrong = [
            ("strategy", self.strategy in ("greedy", "beam", "sample"), "greedy, beam or sample"),
            ("max_tokens", self.max_tokens > max(self.min_tokens, 1), "more than min_tokens"),
            ("min_tokens", self.min_tokens >= 0, "0 or more"),
            ("beams", self.beams >= 2 or self.strategy != "beam", "2 or more; for 1 take greedy"),
            ("groups", self.groups >= 1 and self.beams % self.groups == 0, "a divisor of beams"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0"),
            ("temperature", self.temperature > 0, "above 0; for 0 take greedy"),
            ("top_k", self.top_k is None or self.top_k >= 1, "1 or more"),
            ("top_p", self.top_p is None or 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("candidates", 1 <= self.candidates <= self._available(), f"1 to {self._available()} with these settings"),
        ]
        for name, fine, allowed in wrong:
            if not fine:
                raise ConfigError(f"{name} is {getattr(self, name)!r}; it must be {allowed}")

    def _available(self) -> int:
        if self.strategy == "sample":
            return 1024
        return self.searched_beams if self.strategy == "beam" else 1

    @property
    def searched_groups(self) -> int:
        """Groups that find something different."""
        return self.groups if self.diversity_penalty else 1

    @property
    def searched_beams(self) -> int:
        """Hypotheses an image that are worth searching."""
        return max(1, self.beams // max(self.groups, 1)) * self.searched_groups


@dataclass(frozen=True)
class TokenIds:
    """Attributes: the first token, the last, and what stands after it; CLIP's by default."""

    start: int = 49406
    end: int = 49407
    pad: int = 0
