"""An auxiliary loss that tells the vision tower what stands where, for data whose scenes are known.

From captions alone a small tower learns to see slowly: one sentence says little about 64 patches. Where the data
knows its scenes, dense targets say it directly: what covers each patch, in which colour, where the centres of
objects are, and, on the mean of the tokens that the decoder attends to, setting, style, time, weather and the
count of every kind. The heads live in the training module only; the saved model has none of them. Towards the end
of a run the weight goes to 0, so that the captions have the last word.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from img2prompt.training.forward import Seen
from img2prompt.training.grounding_targets import COLOUR_INDEX, FACTS, KIND_INDEX, MAX_COUNT, Targets


@dataclass(frozen=True)
class Grounding:
    """Weights of the auxiliary losses; all 0 turns them off.

    Attributes:
        kinds: what covers a patch.
        colours: the colour of what covers a patch, where something does.
        centres: whether a patch holds the centre of an object.
        facts: setting, style, time and weather.
        counts: objects of each kind.
        window: patches a side of the window around an object that the tower sees until captions train; 0: all.
        constant_until: share of the run after which the weights fall linearly, to 0 at its end.
    """

    kinds: float = 0.0
    colours: float = 0.0
    centres: float = 0.0
    facts: float = 0.0
    counts: float = 0.0
    window: int = 0
    constant_until: float = 0.6

    @property
    def on(self) -> bool:
        """Whether anything is asked for."""
        return any((self.kinds, self.colours, self.centres, self.facts, self.counts))

    def scale(self, share: float) -> float:
        """What all weights are multiplied by after `share` (0..1) of the run."""
        return min(1.0, max(0.0, (1 - share) / max(1e-9, 1 - self.constant_until)))


class Heads(nn.Module):
    """Linear heads for training only.

    Args:
        patch_width: W of the patch tokens.
        token_width: D of the pooled tokens.
    """

    def __init__(self, patch_width: int, token_width: int) -> None:
        super().__init__()
        self.patch_sizes = (len(KIND_INDEX) + 1, len(COLOUR_INDEX) + 1, 1)
        self.image_sizes = (*(len(words) for _, words in FACTS), len(KIND_INDEX) * (MAX_COUNT + 1))
        self.patch = nn.Sequential(nn.LayerNorm(patch_width), nn.Linear(patch_width, sum(self.patch_sizes)))
        self.image = nn.Sequential(nn.LayerNorm(token_width), nn.Linear(token_width, sum(self.image_sizes)))

    def losses(self, seen: Seen, targets: Targets, weights: Grounding, keep: Tensor | None = None) -> dict[str, Tensor]:
        """The losses whose weight is not 0, unweighted, each a mean over its targets.

        Args:
            seen: what the tower hands on.
            targets: of the same pictures, all patches.
            weights: of the losses.
            keep: patch numbers (B,N) that the tower looked at; None: all. A part of a picture has no counts.
        """
        losses: dict[str, Tensor] = {}
        if keep is not None:
            kinds, colours, centres = (
                part.gather(1, keep) for part in (targets.kinds, targets.colours, targets.centres)
            )
            targets = Targets(kinds, colours, centres, targets.facts, targets.counts)
        kinds, colours, centres = self.patch(seen.patches).flatten(0, 1).split(self.patch_sizes, dim=-1)  # (B*P,·)
        if weights.kinds:
            losses["kinds"] = F.cross_entropy(kinds, targets.kinds.flatten())
        if weights.colours:
            covered = (targets.kinds > 0).flatten().float()  # of the background nothing is asked
            each_patch = F.cross_entropy(colours, targets.colours.flatten(), reduction="none")  # (B*P,)
            losses["colours"] = (each_patch * covered).sum() / covered.sum().clamp(min=1)
        if weights.centres:
            losses["centres"] = F.binary_cross_entropy_with_logits(centres[:, 0], targets.centres.flatten().float())
        *facts, counts = self.image(seen.tokens.mean(dim=1)).split(self.image_sizes, dim=-1)  # (B,·)
        if weights.facts:
            each = [F.cross_entropy(logits, targets.facts[:, i]) for i, logits in enumerate(facts)]
            losses["facts"] = torch.stack(each).sum()
        if weights.counts and keep is None:
            # Summed over the kinds: nearly all are absent, and their mean would be nearly 0 from the start.
            wide = counts.reshape(-1, MAX_COUNT + 1)  # (B*K,5)
            losses["counts"] = F.cross_entropy(wide, targets.counts.flatten(), reduction="sum") / len(counts)
        return losses
