"""Sequence-local attention in windows with pair bias. Source: AF3 SI, Algorithm 7."""

from jaxtyping import Float, Int
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.window_attention import reference

__all__ = ["window_attention"]

_MAX_CHANNELS = 64
_MAX_SCORES = 2**14
"""Queries times keys of a window, whose scores a program holds all at once."""


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
    if backend.triton_serves(window_attention, q, _refusal(q, bias)):
        from seedfold.kernels.window_attention import fused

        return fused.window_attention(q, k, v, bias, key_index)
    return reference.window_attention(q, k, v, bias, key_index)


def _refusal(q: Tensor, bias: Tensor) -> str:
    """Why a window is too large to be held by one program; empty if it is not."""
    (n_queries, n_keys), c = bias.shape[-2:], q.shape[-1]
    if c > _MAX_CHANNELS or n_queries * n_keys > _MAX_SCORES:
        return f"windows of {n_queries} x {n_keys} with {c} channels are too large"
    return ""
