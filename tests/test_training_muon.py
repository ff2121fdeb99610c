"""Muon beside AdamW: what it does to a matrix, and that it goes on from a checkpoint."""

from __future__ import annotations

import copy

import torch
from torch import nn

from img2prompt.training.muon import MuonAdamW, orthogonalised


def _pair(seed: int) -> tuple[nn.Linear, MuonAdamW]:
    torch.manual_seed(seed)
    layer = nn.Linear(6, 18)
    groups = [
        {"params": [layer.weight], "lr": 0.02, "weight_decay": 0.0, "muon": True},
        {"params": [layer.bias], "lr": 1e-3, "weight_decay": 0.0, "muon": False},
    ]
    return layer, MuonAdamW(groups, lr=1e-3)


def _train(layer: nn.Linear, optimizer: MuonAdamW, steps: range) -> None:
    for step in steps:
        x = torch.randn(4, 6, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        layer(x).square().mean().backward()
        optimizer.step()


def test_singular_values_come_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((16, 16), (8, 32), (32, 8), (3, 16, 16)):
        u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
        spread = torch.linspace(0.2, 5, 8 if 8 in shape else 16)
        values = torch.linalg.svdvals(orthogonalised(u * spread @ v))
        assert values.min() > 0.5
        assert values.max() < 1.3


def test_loaded_state_goes_on_as_if_never_stopped() -> None:
    layer, optimizer = _pair(1)
    _train(layer, optimizer, range(3))
    other, resumed = _pair(2)
    other.load_state_dict(layer.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _train(layer, optimizer, range(3, 6))
    _train(other, resumed, range(3, 6))
    torch.testing.assert_close(other.weight, layer.weight, rtol=0, atol=0)
    torch.testing.assert_close(other.bias, layer.bias, rtol=0, atol=0)


def test_both_kinds_of_group_learn() -> None:
    layer, optimizer = _pair(3)
    before = copy.deepcopy(layer.state_dict())
    _train(layer, optimizer, range(20))
    assert (layer.weight - before["weight"]).abs().max() > 1e-3
    assert (layer.bias - before["bias"]).abs().max() > 1e-4
    assert layer.bias.abs().mean() < before["bias"].abs().mean()
