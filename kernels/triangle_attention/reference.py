"""The definition, in plain PyTorch, by blocks of rows."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.backend import by_example, by_rows


def triangle_attention(
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
    *,
    norm_weight: Float[Tensor, " c_z"],
    norm_bias: Float[Tensor, " c_z"],
    weight_q: Float[Tensor, "c c_z"],
    weight_k: Float[Tensor, "c c_z"],
    weight_v: Float[Tensor, "c c_z"],
    weight_bias: Float[Tensor, "N_head c_z"],
    weight_gate: Float[Tensor, "c c_z"],
    weight_out: Float[Tensor, "c_z c"],
    transpose_bias: bool = False,
) -> Float[Tensor, "B N N c_z"]:
    """Returns the update of `z`.

    Row i attends from its pairs (i, j) to its pairs (i, k) with logits q[i, j] . k[i, k] / sqrt(d)
    + bias[j, k]; bias = W_bias LN(z), or its transpose. Keys with a False pair_mask[i, k] are left
    out; a row without any keys attends to nothing, and its update is 0.
    """
    (c, c_z), n_heads = weight_q.shape, len(weight_bias)
    weight_qkvg = torch.cat([weight_q, weight_k, weight_v, weight_gate])
    row_bytes = z.element_size() * z.shape[1] * (7 * c + 2 * c_z)

    def norm(z: Tensor) -> Tensor:
        return F.layer_norm(z, z.shape[-1:], norm_weight, norm_bias)

    def attended(z: Tensor, mask: Tensor, bias: Tensor) -> Tensor:
        q, k, v, g = F.linear(norm(z), weight_qkvg).unflatten(-1, (4, n_heads, -1)).unbind(-3)
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [rows N_head N d]
        o = attend(q, k, v, bias, mask).transpose(1, 2)
        return F.linear((o * torch.sigmoid(g)).flatten(-2), weight_out)

    def update(z: Tensor, mask: Tensor, out: Tensor) -> Tensor:
        bias = z.new_empty(*z.shape[:2], n_heads)
        bias = by_rows(lambda rows: F.linear(norm(z[rows]), weight_bias), row_bytes, bias)
        bias = bias.permute(2, 1, 0) if transpose_bias else bias.permute(2, 0, 1)
        bias = bias.contiguous()
        return by_rows(lambda rows: attended(z[rows], mask[rows], bias), row_bytes, out)

    # `out` is laid out as z is, so that a transposed z is added to without a copy.
    return by_example(update, torch.empty_like(z), z, pair_mask)


def attend(
    q: Float[Tensor, "rows N_head N d"],
    k: Float[Tensor, "rows N_head N d"],
    v: Float[Tensor, "rows N_head N d"],
    bias: Float[Tensor, "N_head N N"],
    mask: Bool[Tensor, "rows N"],
) -> Float[Tensor, "rows N_head N d"]:
    """Softmax attention of every row with one bias for all; `mask` leaves out keys.

    A row without keys gives 0.
    """
    scale = q.shape[-1] ** -0.5
    masked = torch.is_grad_enabled() or not mask.all()
    if masked:
        q, k = _with_mask(q, k, mask)
    # Expanded, the bias is read in place: no copy for each row.
    bias = bias.to(q.dtype).expand(len(q), *bias.shape)
    o = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=scale)
    return o.masked_fill(~mask.any(-1)[:, None, None, None], 0) if masked else o


def _with_mask(q: Tensor, k: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Appends channels whose product is 0, or hugely negative for masked keys.

    The mask differs from row to row; in the bias it would cost a copy of it for each. Eight
    channels and not one because fused kernels want widths divisible by eight.
    """
    ones, penalty = torch.zeros_like(q[..., :8]), torch.zeros_like(k[..., :8])
    ones[..., 0] = 1
    # Half of what float16 can hold: with all keys of a row masked it must not become infinite.
    lowest = max(-1e9, torch.finfo(k.dtype).min / 2)
    penalty[..., 0] = penalty[..., 0].masked_fill(~mask[:, None, :], lowest)
    return torch.cat([q, ones], dim=-1), torch.cat([k, penalty], dim=-1)
