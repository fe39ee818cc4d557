import torch
import torch.nn.functional as F

from seedfold.kernels import pair_weighted_averaging

ROWS, N, C_M, C_Z, HEADS, D = 3, 5, 6, 4, 2, 3


def naive(m, z, mask, **w):
    """Algorithm 10, one token of one row at a time."""
    y = F.layer_norm(m, (C_M,), w["norm_m_weight"], w["norm_m_bias"])
    v, g = y @ w["weight_v"].T, y @ w["weight_gate"].T
    b = F.layer_norm(z, (C_Z,), w["norm_z_weight"], w["norm_z_bias"]) @ w["weight_z"].T
    found = []
    for e in range(len(m)):
        for row in range(ROWS):
            for i in range(N):
                keys = mask[e, i].nonzero()[:, 0]
                keys = keys if len(keys) else torch.arange(1)
                heads = [
                    b[e, i, keys, h].softmax(0) @ v[e, row, keys, h * D : (h + 1) * D]
                    for h in range(HEADS)
                ]
                found.append(torch.sigmoid(g[e, row, i]) * torch.cat(heads))
    return torch.stack(found).view(len(m), ROWS, N, HEADS * D) @ w["weight_out"].T


def test_agrees_with_the_loop(random, agree, pair_mask):
    weights = {
        "norm_m_weight": random(C_M),
        "norm_m_bias": random(C_M),
        "norm_z_weight": random(C_Z),
        "norm_z_bias": random(C_Z),
        "weight_v": random(HEADS * D, C_M),
        "weight_gate": random(HEADS * D, C_M),
        "weight_z": random(HEADS, C_Z),
        "weight_out": random(C_M, HEADS * D),
    }
    m, z = random(2, ROWS, N, C_M), random(2, N, N, C_Z)
    # A token without any keys gets something finite, but nothing defined.
    some = pair_mask.any(-1)

    def defined(function):
        return lambda m, z, **w: function(m, z, pair_mask, **w).transpose(1, 2)[some]

    agree(defined(pair_weighted_averaging), defined(naive), m, z, **weights)
