import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from seedfold.kernels import triangle_multiplication

N, C_Z, C = 5, 6, 4


def naive(z, mask, edges, **w):
    """Algorithms 12 and 13 with a loop over i, j, k."""
    y = F.layer_norm(z, (C_Z,), w["norm_in_weight"], w["norm_in_bias"])
    a, b = (
        mask[..., None] * torch.sigmoid(y @ w[f"weight_{x}_gate"].T) * (y @ w[f"weight_{x}"].T)
        for x in "ab"
    )
    rows = []
    for i in range(N):
        for j in range(N):
            if edges == "outgoing":
                rows.append(sum(a[:, i, k] * b[:, j, k] for k in range(N)))
            else:
                rows.append(sum(a[:, k, i] * b[:, k, j] for k in range(N)))
    x = torch.stack(rows, dim=1).view(len(z), N, N, C)
    x = F.layer_norm(x, (C,), w["norm_out_weight"], w["norm_out_bias"]) @ w["weight_out"].T
    return torch.sigmoid(y @ w["weight_gate"].T) * x


@pytest.fixture
def weights(random) -> dict[str, Tensor]:
    return {
        "norm_in_weight": random(C_Z),
        "norm_in_bias": random(C_Z),
        "weight_a": random(C, C_Z),
        "weight_a_gate": random(C, C_Z),
        "weight_b": random(C, C_Z),
        "weight_b_gate": random(C, C_Z),
        "norm_out_weight": random(C),
        "norm_out_bias": random(C),
        "weight_out": random(C_Z, C),
        "weight_gate": random(C_Z, C_Z),
    }


@pytest.mark.parametrize("edges", ["outgoing", "incoming"])
def test_agrees_with_the_loop(edges, random, agree, pair_mask, weights):
    agree(
        lambda z, mask, **w: triangle_multiplication(z, mask, edges, **w),
        lambda z, mask, **w: naive(z, mask, edges, **w),
        random(2, N, N, C_Z),
        pair_mask,
        **weights,
    )


def test_a_transposed_input_is_updated_in_its_own_layout(random, pair_mask, weights):
    z = random(2, N, N, C_Z).transpose(1, 2)
    with torch.no_grad():
        found = triangle_multiplication(z, pair_mask, "outgoing", **weights)
        expected = naive(z, pair_mask, "outgoing", **weights)
    assert found.stride() == z.stride()
    torch.testing.assert_close(found, expected)
