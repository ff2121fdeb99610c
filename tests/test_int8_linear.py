"""Products of bytes: near the exact ones, exact for tokens that do not fit, each token by itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from img2prompt.models import int8_linear
from img2prompt.models.int8_linear import Int8FeedForward, Int8Linear, multiplies_bytes
from img2prompt.models.packed_linear import FeedForward, FloatLinear

pytestmark = pytest.mark.skipif(not multiplies_bytes(), reason="this processor has no products of bytes")


def inputs(seed: int, tokens: int, width: int = 48) -> torch.Tensor:
    """Channels of many widths and means, one of them very wide: (T,K)."""
    x = torch.randn(tokens, width, generator=torch.Generator().manual_seed(seed))
    x[:, 3] *= 40
    x[:, 5] += 9
    return x * torch.linspace(0.2, 3, width)


@settings(deadline=None)
@given(seed=st.integers(0, 9), splits=st.integers(0, 24))
def test_a_value_is_the_nearest_level_however_its_channel_is_divided(seed: int, splits: int) -> None:
    seen = inputs(seed, 400)
    linear = Int8Linear(FloatLinear(torch.eye(48), torch.zeros(48)), seen, splits=splits)
    parts = 1 + torch.bincount(linear.levels.copied, minlength=48)
    step = 1 / (linear.levels.slope[:48] * parts)
    assert len(linear.levels.slope) == 48 + splits
    off = (linear(seen) - seen).abs() / step  # (T,K), in levels
    assert off.max() < 0.51
    assert off[:, parts > 1].numel() == 0 or off[:, parts > 1].max() > 0.3  # divided, not left out


@settings(deadline=None)  # the first product of a shape is compiled
@given(gelu=st.booleans(), splits=st.sampled_from([0, 1, 8]))
def test_products_are_near_and_what_follows_comes_with_them(gelu: bool, splits: int) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 48), torch.randn(24), inputs(1, 60)
    linear = Int8Linear(FloatLinear(weight, bias, gelu), inputs(0, 400), splits=splits)
    exact = F.linear(x, weight, bias)
    exact = F.gelu(exact) if gelu else exact
    assert (linear(x) - exact).norm() < 0.03 * exact.norm()


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize("size", [1e2, -1e3, 1e6, 1e20, float("inf")])
def test_tokens_beyond_the_scale_are_exact(size: float, gelu: bool) -> None:
    torch.manual_seed(0)
    weight, bias, x = torch.randn(24, 48), torch.randn(24), inputs(1, 9)
    linear = Int8Linear(FloatLinear(weight, bias, gelu), inputs(0, 400), splits=4)
    x[4, 7] = size
    exact = F.linear(x[4:5], weight, bias)
    torch.testing.assert_close(linear(x)[4:5], F.gelu(exact) if gelu else exact, rtol=1e-5, atol=1e-4, equal_nan=True)


def test_what_is_no_number_stays_none() -> None:
    linear = Int8Linear(FloatLinear(torch.eye(48), torch.zeros(48)), inputs(0, 400))
    x = inputs(1, 3)
    x[1, 0] = float("nan")
    assert linear(x).isnan().any(1).tolist() == [False, True, False]


def test_a_token_does_not_depend_on_the_others() -> None:
    torch.manual_seed(0)
    linear = Int8Linear(FloatLinear(torch.randn(24, 48), torch.randn(24), True), inputs(0, 400), splits=4)
    x = inputs(1, 33)
    x[7] *= 100
    alone = torch.cat([linear(row[None]) for row in x])
    torch.testing.assert_close(linear(x), alone, rtol=1e-6, atol=1e-5)


def test_channels_that_never_move_and_weights_of_zero() -> None:
    seen = torch.zeros(40, 8)
    seen[:, 1] = 5
    weight = torch.zeros(4, 8)
    weight[0, 1] = 2
    y = Int8Linear(FloatLinear(weight, torch.ones(4)), seen)(seen[:3])
    torch.testing.assert_close(y, torch.tensor([[11.0, 1, 1, 1]] * 3))


def feed_forward() -> tuple[FeedForward, torch.Tensor, torch.Tensor]:
    """One with 48 channels and 96 after GELU; what it saw, and what it is tried with."""
    torch.manual_seed(0)
    up = FloatLinear(torch.randn(96, 48) * 0.05, torch.randn(96) * 0.5 - 0.5, gelu=True)
    return FeedForward(up, FloatLinear(torch.randn(48, 96) * 0.2, torch.randn(48))), inputs(0, 400), inputs(1, 60)


@given(splits=st.sampled_from([0, 6]))
@settings(deadline=None)
def test_a_feed_forward_is_near(splits: int) -> None:
    exact, seen, x = feed_forward()
    cheap = Int8FeedForward(exact, seen, splits=splits)
    moved = exact(x) - x
    assert 1e-4 * moved.norm() < (cheap(x) - exact(x)).norm() < 0.03 * moved.norm()


@pytest.mark.parametrize("size", [1e3, 1e8])
def test_a_token_beyond_the_levels_goes_through_an_exact_feed_forward(size: float) -> None:
    exact, seen, x = feed_forward()
    cheap = Int8FeedForward(exact, seen)
    x[4, 7] = size
    torch.testing.assert_close(cheap(x)[4:5], exact(x[4:5]), rtol=1e-5, atol=1e-4)


def test_what_gelu_gives_beyond_the_levels_is_exact_though_what_came_before_fits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exact, seen, x = feed_forward()
    monkeypatch.setattr(int8_linear, "_ROOM", 0.01)  # levels far too narrow for what comes
    cheap = Int8FeedForward(exact, seen)
    torch.testing.assert_close(cheap(x), exact(x), rtol=1e-5, atol=1e-4)


def test_a_feed_forward_of_a_token_does_not_depend_on_the_others() -> None:
    exact, seen, x = feed_forward()
    cheap = Int8FeedForward(exact, seen, splits=3)
    x[7] *= 100
    torch.testing.assert_close(cheap(x), torch.cat([cheap(row[None]) for row in x]), rtol=1e-6, atol=1e-4)
