"""How open_clip's own `generate` is made to run beside transformers 5.

open_clip 3.3.0 looks for `transformers.BeamSearchScorer`, which transformers 5 no longer has, and then refuses every
mode. Everything else it needs is still there. `enable_generate` gives it a scorer written for this purpose
(`BeamScorer` below: the same rules as transformers 4.56.2, against which it was checked) and clears the refusal; not
one line of open_clip's loop is changed. Where the real scorer can be imported, it is used.
"""

from __future__ import annotations

import torch
import transformers
from open_clip import coca_model


class BeamScorer:
    """The part of a beam search that open_clip leaves to transformers: which hypotheses go on and which are kept."""

    def __init__(self, batch_size: int, num_beams: int, device: torch.device, num_beam_groups: int = 1) -> None:
        self.num_beams, self.num_beam_groups, self.device = num_beams, num_beam_groups, device
        self.size = num_beams // num_beam_groups
        self._beam_hyps: list[list[tuple[float, torch.Tensor]]] = [[] for _ in range(batch_size * num_beam_groups)]
        self.finished = [False] * (batch_size * num_beam_groups)

    @property
    def is_done(self) -> bool:
        """Whether every group of every image has finished."""
        return all(self.finished)

    def _add(self, slot: int, score: float, tokens: torch.Tensor) -> None:
        kept = self._beam_hyps[slot]
        if len(kept) < self.size or score > min(value for value, _ in kept):
            kept.append((score, tokens.clone()))
        if len(kept) > self.size:
            kept.pop(min(range(len(kept)), key=lambda i: kept[i][0]))

    def process(
        self,
        input_ids: torch.Tensor,
        next_scores: torch.Tensor,
        next_tokens: torch.Tensor,
        next_indices: torch.Tensor,
        pad_token_id: int,
        eos_token_id: torch.Tensor,
        beam_indices: None = None,
        group_index: int = 0,
    ) -> dict[str, torch.Tensor]:
        """Takes the best 2 x size continuations of a group; returns those that go on."""
        length, scores, tokens, parents = input_ids.shape[1] + 1, [], [], []
        for image in range(len(next_scores)):
            slot = image * self.num_beam_groups + group_index
            if self.finished[slot]:
                scores += [0.0] * self.size
                tokens += [int(pad_token_id)] * self.size
                parents += [0] * self.size
                continue
            going = 0
            for rank, token in enumerate(next_tokens[image].tolist()):
                parent = image * self.size + int(next_indices[image, rank])
                value = float(next_scores[image, rank])
                if token == int(eos_token_id):
                    if rank < self.size:
                        self._add(slot, value / length, input_ids[parent])
                    continue
                scores.append(value)
                tokens.append(token)
                parents.append(parent)
                going += 1
                if going == self.size:
                    break
            kept, best = self._beam_hyps[slot], float(next_scores[image].max())
            self.finished[slot] = len(kept) == self.size and min(value for value, _ in kept) >= best / length
        return {
            "next_beam_scores": torch.tensor(scores, device=self.device),
            "next_beam_tokens": torch.tensor(tokens, device=self.device),
            "next_beam_indices": torch.tensor(parents, device=self.device),
        }

    def finalize(
        self,
        input_ids: torch.Tensor,
        final_beam_scores: torch.Tensor,
        *_: torch.Tensor,
        max_length: int,
        pad_token_id: int,
        eos_token_id: torch.Tensor,
        beam_indices: None = None,
    ) -> dict[str, torch.Tensor]:
        """Adds what is still open and returns the best sequence of each image."""
        for slot, finished in enumerate(self.finished):
            for row in range(slot * self.size, (slot + 1) * self.size):
                if not finished:
                    self._add(slot, float(final_beam_scores[row]) / input_ids.shape[1], input_ids[row])
        groups, best = self.num_beam_groups, []
        for image in range(len(self._beam_hyps) // groups):
            found = [hyp for slot in range(image * groups, (image + 1) * groups) for hyp in self._beam_hyps[slot]]
            best.append(max(found, key=lambda hyp: hyp[0])[1])
        width = min(max(len(tokens) for tokens in best) + 1, max_length)
        decoded = torch.full((len(best), width), int(pad_token_id), device=self.device)
        for row, tokens in zip(decoded, best, strict=True):
            row[: len(tokens)] = tokens
            if len(tokens) < width:
                row[len(tokens)] = int(eos_token_id)
        return {"sequences": decoded}


def enable_generate() -> str:
    """Lets open_clip's `CoCa.generate` run with transformers 5; says how."""
    if getattr(coca_model, "_has_transformers", False):
        return "as installed"
    coca_model.BeamSearchScorer = BeamScorer
    coca_model.GENERATION_TYPES = {
        "top_k": transformers.TopKLogitsWarper,
        "top_p": transformers.TopPLogitsWarper,
        "beam_search": "beam_search",
    }
    coca_model._has_transformers = True
    return f"transformers {transformers.__version__} without BeamSearchScorer: our BeamScorer in its place"
