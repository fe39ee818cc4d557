import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seedfold.kernels import triangle_attention

N, C_Z, HEADS, D = 5, 6, 2, 3


def naive(z, mask, transpose_bias=False, **w):
    """Algorithm 14 with a loop over rows, heads and queries."""
    y = F.layer_norm(z, (C_Z,), w["norm_weight"], w["norm_bias"])
    q, k, v, g = (y @ w[f"weight_{x}"].T for x in ("q", "k", "v", "gate"))
    bias = y @ w["weight_bias"].T
    rows = []
    for e in range(len(z)):
        for i in range(N):
            for j in range(N):
                heads = []
                for h in range(HEADS):
                    at = slice(h * D, (h + 1) * D)
                    keys = [key for key in range(N) if mask[e, i, key]]
                    if not keys:
                        heads.append(v.new_zeros(D))
                        continue
                    logits = [
                        q[e, i, j, at] @ k[e, i, key, at] / math.sqrt(D)
                        + (bias[e, key, j, h] if transpose_bias else bias[e, j, key, h])
                        for key in keys
                    ]
                    p = torch.stack(logits).softmax(0)
                    heads.append(sum(p[n] * v[e, i, key, at] for n, key in enumerate(keys)))
                rows.append(torch.cat(heads))
    o = torch.stack(rows).view(len(z), N, N, HEADS * D)
    return (torch.sigmoid(g) * o) @ w["weight_out"].T


@pytest.fixture
def weights(random) -> dict[str, Tensor]:
    c = HEADS * D
    return {
        "norm_weight": random(C_Z),
        "norm_bias": random(C_Z),
        "weight_q": random(c, C_Z),
        "weight_k": random(c, C_Z),
        "weight_v": random(c, C_Z),
        "weight_bias": random(HEADS, C_Z),
        "weight_gate": random(c, C_Z),
        "weight_out": random(C_Z, c),
    }


@pytest.mark.parametrize("transpose_bias", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_agrees_with_the_loop(transpose_bias, masked, random, agree, pair_mask, weights):
    mask = pair_mask if masked else torch.ones_like(pair_mask)

    def with_form(function):
        return lambda z, mask, **w: function(z, mask, transpose_bias=transpose_bias, **w)

    z = random(2, N, N, C_Z)
    agree(with_form(triangle_attention), with_form(naive), z, mask, **weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rows_without_keys_give_zero(dtype, random, weights):
    mask = torch.zeros(1, N, N, dtype=torch.bool)
    inputs = [x.to(dtype).requires_grad_() for x in (random(1, N, N, C_Z), *weights.values())]
    out = triangle_attention(inputs[0], mask, **dict(zip(weights, inputs[1:], strict=True)))
    assert not out.any()
    for gradient in torch.autograd.grad(out.sum(), inputs):
        assert not gradient.any()


def test_single_precision_is_as_good_masked_as_not(random, pair_mask, weights):
    """The mask enters the products of queries and keys: it must not cost them any digits."""
    z = random(2, N, N, C_Z)
    expected = naive(z, pair_mask, **weights)
    single = {name: w.float() for name, w in weights.items()}
    with torch.no_grad():
        found = triangle_attention(z.float(), pair_mask, **single)
    assert (found - expected).norm() / expected.norm() < 2e-6


def test_half_precision_can_be_masked(random, pair_mask, weights):
    """float16 has no number as negative as those that other types take for masked keys."""
    weights = {name: w.half().requires_grad_() for name, w in weights.items()}
    z = random(2, N, N, C_Z).half().requires_grad_()
    exact = {name: w.detach().double().requires_grad_() for name, w in weights.items()}
    expected = naive(z.detach().double(), pair_mask, **exact)
    found = triangle_attention(z, pair_mask, **weights)
    assert (found - expected).norm() / expected.norm() < 1e-2
    truth = torch.autograd.grad(expected.sum(), list(exact.values()))
    for a, b in zip(torch.autograd.grad(found.sum(), list(weights.values())), truth, strict=True):
        assert (a - b).norm() / b.norm() < 3e-2
