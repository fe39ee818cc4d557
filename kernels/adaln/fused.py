"""AdaLN as one product with LN(s) and one pass over `a`; differentiable and compilable."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from seedfold.kernels import backend
from seedfold.kernels.adaln.triton_kernels import modulate, modulate_backward
from seedfold.kernels.dense.triton_kernels import norm_linear, norm_linear_backward


def adaln(
    a: Float[Tensor, "*N c_a"],
    s: Float[Tensor, "*#N c_s"],
    norm_s_weight: Float[Tensor, " c_s"],
    weight_scale: Float[Tensor, "c_a c_s"],
    bias_scale: Float[Tensor, " c_a"],
    weight_offset: Float[Tensor, "c_a c_s"],
) -> Float[Tensor, "*N c_a"]:
    """As the reference, in the compute dtype."""
    weight = torch.cat([weight_scale, weight_offset]).to(backend.compute_dtype(a))
    a_rows, s_rows = _rows(a, s)
    out, _ = _adaln(a_rows, s_rows, norm_s_weight, weight, bias_scale)
    return out.view(a.shape)


def example(device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Small random arguments: tensors, settings."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "a": (2, 3, 19, 48),
        "s": (2, 1, 19, 32),
        "norm_s_weight": (32,),
        "weight_scale": (48, 32),
        "bias_scale": (48,),
        "weight_offset": (48, 32),
    }
    draw = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: x.to(device, dtype) for name, x in draw.items()}, {}


def _rows(
    a: Float[Tensor, "*N c_a"], s: Float[Tensor, "*#N c_s"]
) -> tuple[Float[Tensor, "O S I c_a"], Float[Tensor, "O I c_s"]]:
    """Views in which `s` is the same for all samples S; copies where there is no such view."""
    axes = a.shape[:-1]
    s = s.reshape((1,) * (a.dim() - s.dim()) + s.shape)
    shared = [i for i, n in enumerate(axes) if s.shape[i] != n]
    start, stop = (shared[0], shared[-1] + 1) if shared else (0, 0)
    if any(n > 1 for n in s.shape[start:stop]):
        s, stop = s.expand(*axes, -1), start
    outer, samples, inner = (math.prod(n) for n in (axes[:start], axes[start:stop], axes[stop:]))
    rows = a.reshape(outer, samples, inner, -1).contiguous()
    return rows, s.reshape(outer, inner, -1).contiguous()


@torch.library.custom_op("seedfold::adaln", mutates_args=())
def _adaln(
    a: Tensor, s: Tensor, norm_weight: Tensor, weight: Tensor, bias_scale: Tensor
) -> tuple[Tensor, Tensor]:
    """Returns the result and the projections of LN(s): scale before its bias, then offset."""
    projected, _ = norm_linear(s, norm_weight, torch.zeros_like(norm_weight), weight)
    return modulate(a, projected, bias_scale), projected


@_adaln.register_fake
def _(
    a: Tensor, s: Tensor, norm_weight: Tensor, weight: Tensor, bias_scale: Tensor
) -> tuple[Tensor, Tensor]:
    projected = weight.new_empty(*s.shape[:-1], len(weight))
    return weight.new_empty(a.shape), projected


@torch.library.custom_op("seedfold::adaln_backward", mutates_args=())
def _adaln_backward(
    d_out: Tensor,
    a: Tensor,
    s: Tensor,
    norm_weight: Tensor,
    weight: Tensor,
    bias_scale: Tensor,
    projected: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of the five arguments of `_adaln`."""
    d_a, d_projected = modulate_backward(d_out.contiguous(), a, projected, bias_scale)
    zeros = torch.zeros_like(norm_weight)
    d_s, d_norm_weight, _, d_weight, _ = norm_linear_backward(
        s, norm_weight, zeros, weight, d_projected
    )
    d_scale = d_projected[..., : a.shape[-1]].flatten(0, 1)
    d_bias = d_scale.sum(0, dtype=torch.float32).to(bias_scale.dtype)
    return d_a, d_s, d_norm_weight, d_weight, d_bias


@_adaln_backward.register_fake
def _(
    d_out: Tensor,
    a: Tensor,
    s: Tensor,
    norm_weight: Tensor,
    weight: Tensor,
    bias_scale: Tensor,
    projected: Tensor,
) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x) for x in (a, s, norm_weight, weight, bias_scale))


def _save(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs, output[1])


def _backward(ctx: Any, d_out: Tensor, _: Tensor) -> tuple[Tensor, ...]:
    return _adaln_backward(d_out, *ctx.saved_tensors)


_adaln.register_autograd(_backward, setup_context=_save)
