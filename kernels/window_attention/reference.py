"""The definition: every block of queries attends to its own window of keys."""

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


def window_attention(
    q: Float[Tensor, "B *S N_head N_atom c"],
    k: Float[Tensor, "B *S N_head N_atom c"],
    v: Float[Tensor, "B *S N_head N_atom c"],
    bias: Float[Tensor, "B N_head N_block n_queries n_keys"],
    key_index: Int[Tensor, "N_block n_keys"],
) -> Float[Tensor, "B *S N_head N_atom c"]:
    """Softmax attention of block n's queries to the atoms `key_index[n]`.

    `bias`, shared by the samples `*S`, is added to the scaled logits; keys outside the molecule
    carry a large negative bias and any valid index. The last block may be short.
    """
    n_atom, (n_block, n_queries) = q.shape[-2], bias.shape[-3:-1]
    q = F.pad(q, (0, 0, 0, n_block * n_queries - n_atom)).unflatten(-2, (n_block, n_queries))
    k, v = (
        x.index_select(-2, key_index.flatten()).unflatten(-2, tuple(key_index.shape))
        for x in (k, v)
    )
    # Four axes for the fused attention: the samples, then heads and blocks. Expanded over the
    # samples the bias stays a view while B = 1, the case in which samples are many.
    bias = bias.flatten(1, 2).to(q.dtype)
    while bias.dim() < q.dim() - 1:
        bias = bias.unsqueeze(1)
    flat = [x.flatten(-4, -3) for x in (q, k, v)]
    bias = bias.expand(*flat[0].shape[:-1], -1)
    flat = [x.reshape(-1, *x.shape[-3:]) for x in (*flat, bias)]
    o = F.scaled_dot_product_attention(*flat[:3], attn_mask=flat[3])
    return o.view_as(q).flatten(-3, -2)[..., :n_atom, :]
