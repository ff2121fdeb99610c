"""AdamW whose matrix groups may move by Muon instead."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic iteration, from the source below


def orthogonalised(matrices: Tensor, steps: int = 5) -> Tensor:
    """Nearly the closest semi-orthogonal matrices: singular values come to 0.7-1.2.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024 (Newton-Schulz iteration).

    Args:
        matrices: (...,m,n).
        steps: of the iteration.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class MuonAdamW(torch.optim.AdamW):
    """Groups with `muon=True` hold matrices and move by orthogonalised momentum; the others by AdamW.

    A matrix that stacks query, key and value projections, (3W,W), is orthogonalised in three parts.

    Args:
        groups: parameter groups; `lr` and `weight_decay` of a Muon group are Muon's.
        momentum: of Muon, Nesterov's kind.
        options: of AdamW.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, momentum: float = 0.95, **options: Any) -> None:
        super().__init__([{"muon": False, **group} for group in groups], **options)
        self.momentum = momentum

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of all groups."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        groups = self.param_groups
        for group in groups:
            if group["muon"]:
                self._muon(group)
        self.param_groups = [group for group in groups if not group["muon"]]
        try:
            super().step()
        finally:
            self.param_groups = groups
        return loss

    @torch.no_grad()
    def _muon(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:  # AdamW looks for a step in every state that it loads
                state |= {"step": torch.zeros(()), "momentum": torch.zeros_like(parameter)}
            state["step"] += 1
            momentum = state["momentum"]
            momentum.lerp_(parameter.grad, 1 - self.momentum)
            update = parameter.grad.lerp(momentum, self.momentum)
            rows, columns = update.shape
            packed = rows == 3 * columns
            whole = orthogonalised(update.view(3, columns, columns) if packed else update).reshape(rows, columns)
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.add_(whole, alpha=-group["lr"] * (1.0 if packed else max(1.0, rows / columns) ** 0.5))
