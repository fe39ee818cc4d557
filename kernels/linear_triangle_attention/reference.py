"""The definition, in plain PyTorch, by blocks of rows and, in the gated form, of queries.

The sums over keys are not normalised: they are accumulated, and normalised by the LayerNorm behind
them, in at least single precision.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.backend import blocks, by_example, by_rows

BIAS_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "identity": lambda x: x,
}


def linear_triangle_attention(
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
    *,
    norm_weight: Float[Tensor, " c_z"],
    norm_bias: Float[Tensor, " c_z"],
    weight_q: Float[Tensor, "c c_z"],
    weight_k: Float[Tensor, "c c_z"],
    weight_v: Float[Tensor, "c c_z"],
    weight_bias: Float[Tensor, "N_head c_z"],
    norm_out_weight: Float[Tensor, " c"],
    norm_out_bias: Float[Tensor, " c"],
    weight_gate: Float[Tensor, "c c_z"],
    weight_out: Float[Tensor, "c_z c"],
    gated: bool,
    bias_activation: Literal["sigmoid", "relu", "identity"],
) -> Float[Tensor, "B N N c_z"]:
    """Returns the update of `z`: W_out (sigmoid(W_gate LN(z)) * LN(o)).

    With psi = bias_activation(W_bias LN(z)), row i sums over its keys k

        (relu(q[i, j]) . relu(k[i, k])) * psi[j, k] * v[i, k]      if `gated`, else
        (relu(q[i, j]) . relu(k[i, k]) + psi[j, k]) * v[i, k].

    Keys with a False pair_mask[i, k] are left out.
    """
    (c, c_z), n_heads = weight_q.shape, len(weight_bias)
    weight_qkvg = torch.cat([weight_q, weight_k, weight_v, weight_gate])
    row_bytes = max(4, z.element_size()) * z.shape[1] * (9 * c + 2 * c_z)
    attend = attend_gated if gated else attend_additive

    def norm(z: Tensor) -> Tensor:
        return F.layer_norm(z, z.shape[-1:], norm_weight, norm_bias)

    def attended(z: Tensor, mask: Tensor, psi: Tensor) -> Tensor:
        qkv, g = F.linear(norm(z), weight_qkvg).split([3 * c, c], dim=-1)
        qkv = qkv.to(psi.dtype).unflatten(-1, (3, n_heads, -1)).transpose(1, 3)
        q, k, v = qkv.unbind(2)  # [rows N_head N d]
        v = v * mask[:, None, :, None]
        with torch.autocast(z.device.type, enabled=False):
            o = attend(q.relu(), k.relu(), v, psi).transpose(1, 2).flatten(-2)
        o = F.layer_norm(o, o.shape[-1:], norm_out_weight.to(o.dtype), norm_out_bias.to(o.dtype))
        return F.linear(o.to(g.dtype) * torch.sigmoid(g), weight_out)

    def update(z: Tensor, mask: Tensor, out: Tensor) -> Tensor:
        bias = z.new_empty(*z.shape[:2], n_heads)
        bias = by_rows(lambda rows: F.linear(norm(z[rows]), weight_bias), row_bytes, bias)
        bias = bias.to(torch.promote_types(bias.dtype, torch.float32)).permute(2, 0, 1)
        psi = BIAS_ACTIVATIONS[bias_activation](bias.contiguous())
        return by_rows(lambda rows: attended(z[rows], mask[rows], psi), row_bytes, out)

    # `out` is laid out as z is, so that a transposed z is added to without a copy.
    return by_example(update, torch.empty_like(z), z, pair_mask)


def attend_gated(
    q: Float[Tensor, "rows N_head N d"],
    k: Float[Tensor, "rows N_head N d"],
    v: Float[Tensor, "rows N_head N d"],
    psi: Float[Tensor, "N_head N N"],
) -> Float[Tensor, "rows N_head N d"]:
    """((q k^T) * psi) v for every row and head."""
    if torch.is_grad_enabled():
        return ((q @ k.mT) * psi) @ v
    o = torch.empty_like(q)
    rows_, n_heads, n = q.shape[:3]
    for rows in blocks(rows_, q.element_size() * n_heads * n * n, q.device):
        for queries in blocks(
            n, q.element_size() * n_heads * n * (rows.stop - rows.start), q.device
        ):
            weights = q[rows, :, queries] @ k[rows].mT
            o[rows, :, queries] = weights.mul_(psi[:, queries]) @ v[rows]
    return o


def attend_additive(
    q: Float[Tensor, "rows N_head N d"],
    k: Float[Tensor, "rows N_head N d"],
    v: Float[Tensor, "rows N_head N d"],
    psi: Float[Tensor, "N_head N N"],
) -> Float[Tensor, "rows N_head N d"]:
    """q (k^T v) + psi v for every row and head, the second as one product for all rows."""
    all_rows = v.permute(1, 2, 0, 3)  # [N_head N rows d]
    biased = (psi @ all_rows.flatten(2)).view(all_rows.shape)
    return q @ (k.mT @ v) + biased.permute(2, 0, 1, 3)
