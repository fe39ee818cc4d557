import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seedfold.kernels import linear_triangle_attention

N, C_Z, HEADS, D = 5, 6, 2, 3
FORMS = [(True, "sigmoid"), (False, "relu"), (False, "sigmoid"), (False, "identity")]
PSI = {"sigmoid": torch.sigmoid, "relu": torch.relu, "identity": lambda x: x}


def naive(z, mask, gated, bias_activation, **w):
    """The sums of the module's docstring, pair by pair."""
    y = F.layer_norm(z, (C_Z,), w["norm_weight"], w["norm_bias"])
    q, k, v, g = (y @ w[f"weight_{x}"].T for x in ("q", "k", "v", "gate"))
    psi = PSI[bias_activation](y @ w["weight_bias"].T)
    rows = []
    for e in range(len(z)):
        for i in range(N):
            for j in range(N):
                heads = []
                for h in range(HEADS):
                    at = slice(h * D, (h + 1) * D)
                    o = v.new_zeros(D)
                    for key in range(N):
                        similarity = q[e, i, j, at].relu() @ k[e, i, key, at].relu()
                        weight = psi[e, j, key, h]
                        weight = similarity * weight if gated else similarity + weight
                        o = o + mask[e, i, key] * weight * v[e, i, key, at]
                    heads.append(o)
                rows.append(torch.cat(heads))
    o = torch.stack(rows).view(len(z), N, N, HEADS * D)
    o = F.layer_norm(o, (HEADS * D,), w["norm_out_weight"], w["norm_out_bias"])
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
        "norm_out_weight": random(c),
        "norm_out_bias": random(c),
        "weight_gate": random(c, C_Z),
        "weight_out": random(C_Z, c),
    }


@pytest.mark.parametrize(("gated", "bias_activation"), FORMS)
def test_agrees_with_the_sums(gated, bias_activation, random, agree, pair_mask, weights):
    def with_form(function):
        return lambda z, mask, **w: function(
            z, mask, gated=gated, bias_activation=bias_activation, **w
        )

    z = random(2, N, N, C_Z)
    agree(with_form(linear_triangle_attention), with_form(naive), z, pair_mask, **weights)


@pytest.mark.parametrize(("gated", "bias_activation"), FORMS[:2])
def test_sums_are_not_rounded_to_bf16(gated, bias_activation, random, pair_mask, weights):
    """Under autocast projections are in bf16; the sums over keys must add no error of that size."""
    z = random(2, N, N, C_Z)
    form = {"gated": gated, "bias_activation": bias_activation}
    low = {name: w.bfloat16() for name, w in weights.items()}
    exact = naive(
        z.bfloat16().double(), pair_mask, **form, **{n: w.double() for n, w in low.items()}
    )
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        single = {name: w.float() for name, w in low.items()}
        found = linear_triangle_attention(z.bfloat16().float(), pair_mask, **form, **single)
    assert (found - exact).norm() / exact.norm() < 2e-2
