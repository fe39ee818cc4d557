"""Windowed attention with Triton's kernels; differentiable and compilable."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.window_attention import triton_kernels


def window_attention(
    q: Float[Tensor, "B *S N_head N_atom c"],
    k: Float[Tensor, "B *S N_head N_atom c"],
    v: Float[Tensor, "B *S N_head N_atom c"],
    bias: Float[Tensor, "B N_head N_block n_queries n_keys"],
    key_index: Int[Tensor, "N_block n_keys"],
) -> Float[Tensor, "B *S N_head N_atom c"]:
    """As the reference, in the compute dtype. The result is a view of [B *S N_atom N_head c]."""
    dtype = backend.compute_dtype(q)
    operands = [_by_atom(x.to(dtype)) for x in (q, k, v)]
    o = _attend(*operands, bias, key_index)
    return o.view(*q.shape[:-3], *o.shape[2:]).transpose(-2, -3)


def example(device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Small random arguments, the first and last keys of the molecule masked: tensors, settings."""
    generator = torch.Generator().manual_seed(0)
    n_atom, n_queries, n_keys = 37, 16, 24
    first = torch.arange(0, n_atom, n_queries)[:, None] - (n_keys - n_queries) // 2
    key_index = first + torch.arange(n_keys)
    inside = (key_index >= 0) & (key_index < n_atom)
    shape = (1, 3, 2, n_atom, 24)
    tensors = {name: torch.randn(shape, generator=generator) for name in ("q", "k", "v")}
    bias = torch.randn(1, 2, len(first), n_queries, n_keys, generator=generator)
    tensors["bias"] = bias.masked_fill(~inside[:, None], -1e4)
    tensors = {name: x.to(device, dtype) for name, x in tensors.items()}
    return tensors | {"key_index": key_index.clamp(0, n_atom - 1).to(device)}, {}


def _by_atom(x: Float[Tensor, "B *S N_head N_atom c"]) -> Float[Tensor, "B S N_atom N_head c"]:
    """The order of memory, with one axis of samples."""
    x = x.transpose(-2, -3)
    x = x.unsqueeze(1) if x.dim() == 4 else x.flatten(1, -4)
    return x if x.stride(-1) == 1 else x.contiguous()


@torch.library.custom_op("seedfold::window_attention", mutates_args=())
def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, key_index: Tensor) -> Tensor:
    return triton_kernels.attend(q, k, v, _rows(bias), key_index.contiguous())


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, key_index: Tensor) -> Tensor:
    return q.new_empty(q.shape)


@torch.library.custom_op("seedfold::window_attention_backward", mutates_args=())
def _attend_backward(
    d_o: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, key_index: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the gradients of q, of k and v in one tensor, and of bias."""
    return triton_kernels.attend_backward(_rows(d_o), q, k, v, _rows(bias), key_index.contiguous())


@_attend_backward.register_fake
def _(
    d_o: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, key_index: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(2, *k.shape), bias.new_empty(bias.shape)


def _rows(x: Tensor) -> Tensor:
    """With a contiguous last axis; the others may have any strides."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, d_o: Tensor) -> tuple[Tensor | None, ...]:
    d_q, d_keys, d_bias = _attend_backward(d_o, *ctx.saved_tensors)
    return d_q, *d_keys.unbind(), d_bias, None


_attend.register_autograd(_backward, setup_context=_save)
