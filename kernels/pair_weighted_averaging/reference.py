"""The definition, in plain PyTorch, by blocks of MSA rows."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.backend import by_example, by_rows


def pair_weighted_averaging(
    m: Float[Tensor, "B N_msa N c_m"],
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
    *,
    norm_m_weight: Float[Tensor, " c_m"],
    norm_m_bias: Float[Tensor, " c_m"],
    norm_z_weight: Float[Tensor, " c_z"],
    norm_z_bias: Float[Tensor, " c_z"],
    weight_v: Float[Tensor, "c c_m"],
    weight_gate: Float[Tensor, "c c_m"],
    weight_z: Float[Tensor, "N_head c_z"],
    weight_out: Float[Tensor, "c_m c"],
) -> Float[Tensor, "B N_msa N c_m"]:
    """Returns the update of `m`.

    Token i of every row and head gets the values of tokens j averaged with weights
    softmax_j(W_z LN(z[i, j])), then a gate and the output projection.
    """
    n, n_heads = z.shape[1], len(weight_z)
    z_bytes = z.element_size() * n * 2 * z.shape[-1]
    m_bytes = m.element_size() * n * (4 * len(weight_v) + 2 * m.shape[-1])

    def weights(z: Tensor, mask: Tensor) -> Tensor:
        y = F.layer_norm(z, z.shape[-1:], norm_z_weight, norm_z_bias)
        logits = F.linear(y, weight_z).masked_fill(~mask[..., None], -1e9)
        return torch.softmax(logits, dim=-2)

    def averaged(m: Tensor, w: Tensor) -> Tensor:
        y = F.layer_norm(m, m.shape[-1:], norm_m_weight, norm_m_bias)
        v = F.linear(y, weight_v).unflatten(-1, (n_heads, -1)).permute(2, 1, 0, 3)
        o = (w @ v.flatten(2)).view(v.shape).permute(2, 1, 0, 3).flatten(-2)
        return F.linear(o * torch.sigmoid(F.linear(y, weight_gate)), weight_out)

    def update(m: Tensor, z: Tensor, mask: Tensor, out: Tensor) -> Tensor:
        w = z.new_empty(n, n, n_heads)
        w = by_rows(lambda rows: weights(z[rows], mask[rows]), z_bytes, w)
        w = w.permute(2, 0, 1).contiguous()  # [N_head i j]
        return by_rows(lambda rows: averaged(m[rows], w), m_bytes, out)

    return by_example(update, torch.empty_like(m), m, z, pair_mask)
