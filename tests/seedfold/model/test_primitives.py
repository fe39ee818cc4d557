import math

import pytest
import torch

from seedfold.model.primitives import (
    AdaLN,
    ConditionedTransitionBlock,
    FourierEmbedding,
    Linear,
    Transition,
)


@pytest.mark.parametrize(("init", "variance"), [("default", 1.0), ("relu", 2.0), ("zeros", 0.0)])
def test_initial_variance(init, variance):
    """SI 5.1: fan-in scaled truncated normals (LeCun, He) and zeros."""
    torch.manual_seed(0)
    weight = Linear(64, 4000, init=init).weight
    assert weight.var().item() * 64 == pytest.approx(variance, rel=0.02)
    assert weight.abs().max() <= 2 * math.sqrt(variance / 64) / 0.8796 + 1e-6


def test_gates_start_nearly_closed():
    block = ConditionedTransitionBlock(8, 6)
    assert torch.equal(block.linear_gate.bias, torch.full((8,), -2.0))
    assert not block.linear_gate.weight.any()


def test_transition_by_hand():
    """Algorithm 11 on two channels with weights that pick channels."""
    layer = Transition(2, 1)
    with torch.no_grad():
        for linear, rows in (
            (layer.linear_a, [[1.0, 0], [0, 1]]),
            (layer.linear_b, [[0.0, 1], [1, 0]]),
            (layer.linear_out, [[1.0, 0], [0, 2]]),
        ):
            linear.weight.copy_(torch.tensor(rows))
    # LayerNorm of (1, 3) is (-1, 1); silu(-1) * 1 = -1 / (1 + e), silu(1) * -1 = -e / (1 + e).
    e = math.e
    expected = torch.tensor([[-1 / (1 + e), -2 * e / (1 + e)]])
    torch.testing.assert_close(layer(torch.tensor([[1.0, 3.0]])), expected, atol=1e-4, rtol=0)


def test_adaln_starts_as_half_a_layer_norm():
    """Zero initialisation: sigmoid(0) = 1/2 and no offset."""
    a = torch.randn(3, 5)
    found = AdaLN(5, 4)(a, torch.randn(3, 4))
    torch.testing.assert_close(found, 0.5 * torch.nn.functional.layer_norm(a, (5,)))


def test_the_extra_factor_multiplies():
    torch.manual_seed(1)
    block = ConditionedTransitionBlock(4, 3, extra_factor=True)
    a, s = torch.randn(2, 4), torch.randn(2, 3)
    before = block(a, s)
    block.linear_factor.weight.data *= 3
    torch.testing.assert_close(block(a, s), 3 * before)


def test_fourier_constants_are_fixed_and_kept():
    one, two = FourierEmbedding(16), FourierEmbedding(16)
    assert set(one.state_dict()) == {"w", "b"} and torch.equal(one.w, two.w)
    t = torch.tensor([0.3])
    expected = [math.cos(2 * math.pi * (0.3 * w + b)) for w, b in zip(one.w, one.b, strict=True)]
    torch.testing.assert_close(one(t)[0], torch.tensor(expected), atol=1e-5, rtol=0)
