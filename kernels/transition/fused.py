"""The transition by Triton kernels, differentiable. Source: AF3 SI, Algorithm 11.

Only `x` is kept for the backward pass, which computes the hidden activations again. Whatever is as
wide as they are is held for a block of rows at a time.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from seedfold.kernels.backend import blocks, compute_dtype
from seedfold.kernels.dense.triton_kernels import norm, norm_linear_backward, sum_over_pairs
from seedfold.kernels.transition.triton_kernels import (
    FUSED_CHANNELS,
    fused_transition,
    swiglu,
    swiglu_backward,
)


def transition(
    x: Float[Tensor, "*N c"],
    norm_weight: Float[Tensor, " c"],
    norm_bias: Float[Tensor, " c"],
    weight_a: Float[Tensor, "c_hidden c"],
    weight_b: Float[Tensor, "c_hidden c"],
    weight_out: Float[Tensor, "c c_hidden"],
) -> Float[Tensor, "*N c"]:
    """Returns the update of `x`, laid out as `x` is."""
    dtype = compute_dtype(x)
    matrices = (weight_a.to(dtype), weight_b.to(dtype), weight_out.to(dtype))
    return _forward(x, norm_weight, norm_bias, *matrices)


@torch.library.custom_op("seedfold::transition", mutates_args=())
def _forward(
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_a: Tensor,
    weight_b: Tensor,
    weight_out: Tensor,
) -> Tensor:
    (c_hidden, c), dtype = weight_a.shape, weight_a.dtype
    weight_a, weight_b, weight_out = (
        weight.contiguous() for weight in (weight_a, weight_b, weight_out)
    )
    x = _regular(x)
    out = torch.empty_like(x, dtype=dtype)
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        for rows, out_rows in _by_pairs(x, out):
            if c <= FUSED_CHANNELS:
                fused_transition(
                    rows, norm_weight, norm_bias, weight_a, weight_b, weight_out, out_rows
                )
                continue
            bytes_each = dtype.itemsize * rows.shape[1] * (2 * c + c_hidden)
            for block in blocks(len(rows), bytes_each, x.device):
                y = norm(rows[block], norm_weight, norm_bias, dtype).view(-1, c)
                hidden, update = swiglu(y, weight_a, weight_b), out_rows[block]
                if update.is_contiguous():
                    torch.mm(hidden, weight_out.t(), out=update.view(-1, c))
                else:
                    update.copy_((hidden @ weight_out.t()).view(update.shape))
    return out


@torch.library.custom_op("seedfold::transition_backward", mutates_args=())
def _backward(
    d_out: Tensor,
    x: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_a: Tensor,
    weight_b: Tensor,
    weight_out: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    (c_hidden, c), dtype = weight_a.shape, weight_a.dtype
    weight_in = torch.cat([weight_a, weight_b])
    weight_a, weight_b = weight_in[:c_hidden], weight_in[c_hidden:]
    x = _regular(x)
    d_x = torch.empty_like(x)
    sums = [
        torch.zeros(shape, device=x.device)
        for shape in (norm_weight.shape, norm_bias.shape, weight_in.shape, weight_out.shape)
    ]
    with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
        for rows, d_rows, d_out_rows in _by_pairs(x, d_x, d_out):
            bytes_each = dtype.itemsize * rows.shape[1] * (4 * c + 4 * c_hidden)
            for block in blocks(len(rows), bytes_each, x.device):
                y = norm(rows[block], norm_weight, norm_bias, dtype).view(-1, c)
                d_update = d_out_rows[block].reshape(-1, c)
                hidden, d_products = swiglu_backward(y, weight_a, weight_b, d_update @ weight_out)
                d_products = d_products.view(*rows[block].shape[:2], 2 * c_hidden)
                _, *gradients, _ = norm_linear_backward(
                    rows[block], norm_weight, norm_bias, weight_in, d_products, d_x=d_rows[block]
                )
                gradients.append(sum_over_pairs(d_update, hidden))
                for total, gradient in zip(sums, gradients, strict=True):
                    total += gradient
    d_norm_weight, d_norm_bias = sums[0].to(norm_weight.dtype), sums[1].to(norm_bias.dtype)
    d_in, d_weight_out = sums[2].to(dtype), sums[3].to(dtype)
    d_weight_a, d_weight_b = d_in[:c_hidden].clone(), d_in[c_hidden:].clone()
    return d_x, d_norm_weight, d_norm_bias, d_weight_a, d_weight_b, d_weight_out


def _regular(x: Tensor) -> Tensor:
    """`x` itself if `_by_pairs` can view it as pairs, or else a copy."""
    pairs = x.ndim in (3, 4) and x.stride(-1) == 1
    return x if pairs else x.contiguous()


def _by_pairs(x: Tensor, *others: Tensor) -> list[list[Tensor]]:
    """Lists `x` and all others of its shape as [A, B, c], where B is the inner axis in memory."""
    if x.is_contiguous():
        return [[t.reshape(-1, 1, x.shape[-1]) for t in (x, *others)]]
    shape = (-1, *x.shape[-3:])
    examples = zip(*(t.reshape(shape) for t in (x, *others)), strict=True)
    return [
        [t.transpose(0, 1) if example[0].stride(0) < example[0].stride(1) else t for t in example]
        for example in examples
    ]


@_forward.register_fake
def _(x: Tensor, *weights: Tensor) -> Tensor:
    return torch.empty_like(_regular(x), dtype=weights[-1].dtype)


@_backward.register_fake
def _(d_out: Tensor, x: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(tensor) for tensor in (_regular(x), *weights))


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _differentiate(ctx: Any, d_out: Tensor) -> tuple[Tensor, ...]:
    return _backward(d_out, *ctx.saved_tensors)


_forward.register_autograd(_differentiate, setup_context=_keep)


def example(device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns small arguments of `transition`: tensors by name, and the rest."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    c, c_hidden = 64, 160
    tensors = {
        "x": draw(1, 37, 41, c).transpose(1, 2),
        "norm_weight": 1 + 0.1 * draw(c),
        "norm_bias": 0.1 * draw(c),
        "weight_a": draw(c_hidden, c) / c**0.5,
        "weight_b": draw(c_hidden, c) / c**0.5,
        "weight_out": draw(c, c_hidden) / c_hidden**0.5,
    }
    return tensors, {}
