import torch
import torch.nn.functional as F

from seedfold.kernels import outer_product_mean

ROWS, N, C_M, C, C_Z = 3, 5, 6, 2, 4


def naive(m, mask, **w):
    """Algorithm 9, one pair of tokens at a time; the bias is divided with the rest."""
    y = F.layer_norm(m, (C_M,), w["norm_weight"], w["norm_bias"])
    a, b = y @ w["weight_a"].T, y @ w["weight_b"].T
    pairs = []
    for e in range(len(m)):
        for i in range(N):
            for j in range(N):
                rows = [r for r in range(ROWS) if mask[e, r, i] and mask[e, r, j]]
                total = sum(
                    (torch.outer(a[e, r, i], b[e, r, j]).flatten() for r in rows),
                    m.new_zeros(C * C),
                )
                pairs.append((w["weight_out"] @ total + w["bias_out"]) / (len(rows) + 1e-3))
    return torch.stack(pairs).view(len(m), N, N, C_Z)


def test_agrees_with_the_loop(random, agree):
    mask = torch.ones(2, ROWS, N, dtype=torch.bool)
    mask[0, 2], mask[1, 1, 3] = False, False
    weights = {
        "norm_weight": random(C_M),
        "norm_bias": random(C_M),
        "weight_a": random(C, C_M),
        "weight_b": random(C, C_M),
        "weight_out": random(C_Z, C * C),
        "bias_out": random(C_Z),
    }
    agree(outer_product_mean, naive, random(2, ROWS, N, C_M), mask, **weights)
