import pytest
import torch
import torch.nn.functional as F

from seedfold.model.triangle import AdditiveTriangleAttention, GatedTriangleAttention


def paper(attention, z, combine):
    """SeedFold's formulas for whole tensors: out = Linear(sigmoid(gate) * LN(weights v))."""
    y = attention.layer_norm(z)
    q, k, v = (
        linear(y).unflatten(-1, (attention.n_heads, -1))
        for linear in (attention.linear_q, attention.linear_k, attention.linear_v)
    )
    products = torch.einsum("bijhc,bikhc->bhijk", F.relu(q), F.relu(k))
    bias = attention.linear_bias(y).permute(0, 3, 1, 2)[:, :, None]  # [b h 1 j k]
    o = torch.einsum("bhijk,bikhc->bijhc", combine(products, bias), v).flatten(-2)
    gate = torch.sigmoid(attention.linear_gate(y))
    return attention.linear_out(gate * attention.layer_norm_out(o))


def test_gated_is_the_paper_s(randomised, z, full):
    attention = randomised(GatedTriangleAttention(GatedTriangleAttention.Config(), 64))
    expected = paper(attention, z, lambda products, bias: products * torch.sigmoid(bias))
    torch.testing.assert_close(attention(z, full), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("option", "psi"),
    [
        ({}, F.relu),
        ({"bias_activation": "sigmoid"}, torch.sigmoid),
        ({"bias_activation": "identity"}, lambda x: x),
    ],
)
def test_additive_is_the_paper_s(option, psi, randomised, z, full):
    config = AdditiveTriangleAttention.Config(**option)
    attention = randomised(AdditiveTriangleAttention(config, 64))
    expected = paper(attention, z, lambda products, bias: products + psi(bias))
    torch.testing.assert_close(attention(z, full), expected, rtol=1e-10, atol=1e-10)


def test_one_norm_more_than_softmax(randomised):
    """The variants differ from softmax attention by the norm of their output, 2 c_z numbers."""
    attention = GatedTriangleAttention(GatedTriangleAttention.Config(), 64)
    assert sum(p.numel() for p in attention.parameters()) == 5 * 64**2 + 2 * 64 + 2 * 64 + 2 * 64
