"""The definition: softmax(q k^T / sqrt(c) + bias) v with one bias for all samples."""

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def pair_bias_attention(
    q: Float[Tensor, "B *S N_head N_q c"],
    k: Float[Tensor, "B *S N_head N_k c"],
    v: Float[Tensor, "B *S N_head N_k c"],
    bias: Float[Tensor, "B N_head N_q N_k"],
) -> Float[Tensor, "B *S N_head N_q c"]:
    """Attends with `bias` added to the scaled logits; masking is a large negative bias."""
    while bias.dim() < q.dim():
        bias = bias.unsqueeze(1)
    bias = bias.expand(*q.shape[:-1], bias.shape[-1])
    flat = [x.reshape(-1, *x.shape[-3:]) for x in (q, k, v)]
    # A view while B = 1, which is the case where samples make it worth while.
    bias = bias[0] if bias.shape[0] == 1 else bias
    bias = bias.reshape(-1, *bias.shape[-3:]) if bias.dim() > 4 else bias
    return F.scaled_dot_product_attention(*flat, attn_mask=bias.to(q.dtype)).view_as(q)
