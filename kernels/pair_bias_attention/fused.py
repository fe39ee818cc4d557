"""Attention with pair bias by the softmax core of triangle attention: its rows are samples here."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.triangle_attention.triton_kernels import attend, attend_backward

_LOWEST = -1e4
"""Of the bias: masks a key among others, leaves logits their precision in rows without others."""


def pair_bias_attention(
    q: Float[Tensor, "B *S N_head N_q c"],
    k: Float[Tensor, "B *S N_head N_k c"],
    v: Float[Tensor, "B *S N_head N_k c"],
    bias: Float[Tensor, "B N_head N_q N_k"],
) -> Float[Tensor, "B *S N_head N_q c"]:
    """As the reference, in the compute dtype. The result is a view of [B *S N_q N_head c]."""
    dtype = backend.compute_dtype(q)
    o, _ = _attend(*(_by_token(x.to(dtype)) for x in (q, k, v)), bias)
    return o.view(*q.shape[:-3], *o.shape[2:]).transpose(-2, -3)


def example(device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Small random arguments, the last keys masked: tensors, settings."""
    generator = torch.Generator().manual_seed(0)
    shape = (1, 3, 2, 37, 24)
    tensors = {name: torch.randn(shape, generator=generator) for name in ("q", "k", "v")}
    tensors["bias"] = torch.randn(1, 2, 37, 37, generator=generator)
    tensors["bias"][..., 33:] = -1e9
    return {name: x.to(device, dtype) for name, x in tensors.items()}, {}


def _by_token(x: Float[Tensor, "B *S N_head N c"]) -> Float[Tensor, "B S N N_head c"]:
    """The order of memory, with one axis of samples."""
    x = x.transpose(-2, -3)
    x = x.unsqueeze(1) if x.dim() == 4 else x.flatten(1, -4)
    return x if x.stride(-1) == 1 else x.contiguous()


@torch.library.custom_op("seedfold::pair_bias_attention", mutates_args=())
def _attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Returns o [B S N_q N_head c] and the base-2 logarithm of the denominators."""
    bias = bias.clamp_min(_LOWEST)
    results = [attend(*example, None) for example in zip(q, k, v, bias, strict=True)]
    return _stack([o for o, _ in results]), _stack([lse for _, lse in results])


@_attend.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    n_batch, n_samples, n_q, n_head, _ = q.shape
    lse = q.new_empty(n_batch, n_samples, n_head, n_q, dtype=torch.float32)
    return q.new_empty(q.shape), lse


@torch.library.custom_op("seedfold::pair_bias_attention_backward", mutates_args=())
def _attend_backward(
    d_o: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, o: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of q, k, v and bias."""
    d_o = d_o if d_o.stride(-1) == 1 else d_o.contiguous()
    d_q, d_k, d_v = (torch.empty(x.shape, dtype=x.dtype, device=x.device) for x in (q, k, v))
    low = bias.clamp_min(_LOWEST)
    d_bias = [
        attend_backward(
            d_o[b], q[b], k[b], v[b], low[b], None, o[b], lse[b], d_q[b], d_k[b], d_v[b]
        ).to(bias.dtype)
        for b in range(len(q))
    ]
    return d_q, d_k, d_v, _stack(d_bias)


@_attend_backward.register_fake
def _(
    d_o: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, o: Tensor, lse: Tensor
) -> tuple[Tensor, ...]:
    return tuple(x.new_empty(x.shape) for x in (q, k, v, bias))


def _stack(examples: list[Tensor]) -> Tensor:
    """As torch.stack, but without a copy of a single one."""
    return examples[0].unsqueeze(0) if len(examples) == 1 else torch.stack(examples)


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, *output)


def _backward(ctx: Any, d_o: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    return _attend_backward(d_o, *ctx.saved_tensors)


_attend.register_autograd(_backward, setup_context=_save)
