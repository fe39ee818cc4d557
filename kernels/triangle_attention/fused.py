"""Triangle attention by Triton kernels, differentiable. Source: AF3 SI, Algorithms 14 and 15.

Kept for the backward pass: z, the projections q, k, v and g in one tensor, the bias, the output o
of the heads and the logarithms of their denominators. Without autograd nothing is, and where the
rows are too many for the memory they are worked on in blocks.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.backend import blocks, compute_dtype
from seedfold.kernels.dense.triton_kernels import (
    gate_linear,
    gate_linear_backward,
    norm_linear,
    norm_linear_backward,
)
from seedfold.kernels.triangle_attention.triton_kernels import attend, attend_backward


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
    """Returns the update of `z`; that of a single example is laid out as `z` is."""
    dtype = compute_dtype(z)
    weight_qkvg = torch.cat([weight_q, weight_k, weight_v, weight_gate]).to(dtype)
    weights = (norm_weight, norm_bias, weight_qkvg, weight_bias.to(dtype), weight_out.to(dtype))

    def update(z: Tensor, mask: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return _forward(z, mask, *weights, transpose_bias)[0]
        return _lean_forward(z, mask, *weights, transpose_bias)

    if len(z) == 1:  # Unlike a stack of one, this copies nothing.
        return update(z.squeeze(0), pair_mask.squeeze(0)).unsqueeze(0)
    return torch.stack([update(*example) for example in zip(z, pair_mask, strict=True)])


@torch.library.custom_op("seedfold::triangle_attention", mutates_args=())
def _forward(
    z: Tensor,
    mask: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_qkvg: Tensor,
    weight_bias: Tensor,
    weight_out: Tensor,
    transpose_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the output and what the backward pass needs: qkvg, heads, o and lse."""
    z = _with_contiguous_channels(z)
    norm = (norm_weight, norm_bias)
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        qkvg, heads = norm_linear(z, *norm, weight_qkvg, weight_heads=weight_bias)
        assert heads is not None
        q, k, v = _operands(qkvg, len(heads))
        o, lse = attend(q, k, v, heads.mT if transpose_bias else heads, mask)
        out = torch.empty_like(z, dtype=weight_out.dtype)
        gate_linear(o.flatten(2), _gate(qkvg), weight_out, out=out)
    return out, qkvg, heads, o, lse


@torch.library.custom_op("seedfold::triangle_attention_lean", mutates_args=())
def _lean_forward(
    z: Tensor,
    mask: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_qkvg: Tensor,
    weight_bias: Tensor,
    weight_out: Tensor,
    transpose_bias: bool,
) -> Tensor:
    """Returns the output."""
    z = _with_contiguous_channels(z)
    norm, n_heads, dtype = (norm_weight, norm_bias), len(weight_bias), weight_out.dtype
    n_channels = len(weight_qkvg) + weight_out.shape[1] + z.shape[2]  # Of qkvg, o and LN(z).
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        parts = list(blocks(len(z), dtype.itemsize * z.shape[1] * n_channels, z.device))
        if len(parts) == 1:
            weights = (*norm, weight_qkvg, weight_bias, weight_out)
            return _forward(z, mask, *weights, transpose_bias)[0]
        heads = weight_out.new_empty(n_heads, *z.shape[:2])
        for rows in parts:
            heads[:, rows] = norm_linear(z[rows], *norm, weight_bias)[0].permute(2, 0, 1)
        bias = heads.mT.contiguous() if transpose_bias else heads
        out = torch.empty_like(z, dtype=dtype)
        for rows in parts:
            qkvg, _ = norm_linear(z[rows], *norm, weight_qkvg)
            o, _ = attend(*_operands(qkvg, n_heads), bias, mask[rows])
            gate_linear(o.flatten(2), _gate(qkvg), weight_out, out=out[rows])
            del qkvg, o  # Before the next block allocates its own.
    return out


@torch.library.custom_op("seedfold::triangle_attention_backward", mutates_args=())
def _backward(
    d_out: Tensor,
    qkvg: Tensor,
    heads: Tensor,
    o: Tensor,
    lse: Tensor,
    z: Tensor,
    mask: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_qkvg: Tensor,
    weight_bias: Tensor,
    weight_out: Tensor,
    transpose_bias: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of z and of the weights, in their order."""
    z, d_out = _with_contiguous_channels(z), _with_contiguous_channels(d_out)
    q, k, v = _operands(qkvg, len(heads))
    d_qkvg = torch.empty_like(qkvg)
    d_q, d_k, d_v = _operands(d_qkvg, len(heads))
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        d_o, d_weight_out, *_ = gate_linear_backward(
            d_out, o.flatten(2), _gate(qkvg), weight_out, _gate(d_qkvg)
        )
        bias = heads.mT if transpose_bias else heads
        d_bias = attend_backward(d_o.view_as(o), q, k, v, bias, mask, o, lse, d_q, d_k, d_v)
        del d_o
        d_heads = d_bias.mT if transpose_bias else d_bias
        d_heads = d_heads.to(heads.dtype).contiguous()
        del d_bias
        *gradients, d_weight_bias = norm_linear_backward(
            z, norm_weight, norm_bias, weight_qkvg, d_qkvg,
            weight_heads=weight_bias, d_heads=d_heads,
        )  # fmt: skip
    assert d_weight_bias is not None
    d_z, d_norm_weight, d_norm_bias, d_weight_qkvg = gradients
    return d_z, d_norm_weight, d_norm_bias, d_weight_qkvg, d_weight_bias, d_weight_out


def _with_contiguous_channels(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _operands(qkvg: Float[Tensor, "R N c4"], n_heads: int) -> tuple[Tensor, Tensor, Tensor]:
    """The parts q, k and v by head [R N N_head d], as views."""
    q, k, v, _ = qkvg.unflatten(-1, (4, n_heads, -1)).unbind(2)
    return q, k, v


def _gate(qkvg: Float[Tensor, "R N c4"]) -> Float[Tensor, "R N c"]:
    """The part g, as a view."""
    return qkvg.chunk(4, -1)[3]


@_forward.register_fake
def _(z: Tensor, mask: Tensor, *others: Any) -> tuple[Tensor, ...]:
    weight_qkvg, weight_bias, weight_out = others[2:5]
    (n_rows, n, _), n_heads, c = z.shape, len(weight_bias), weight_out.shape[1]
    return (
        torch.empty_like(_with_contiguous_channels(z), dtype=weight_out.dtype),
        weight_qkvg.new_empty(n_rows, n, 4 * c),
        weight_bias.new_empty(n_heads, n_rows, n),
        weight_qkvg.new_empty(n_rows, n, n_heads, c // n_heads),
        z.new_empty(n_rows, n_heads, n, dtype=torch.float32),
    )


@_lean_forward.register_fake
def _(z: Tensor, mask: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(_with_contiguous_channels(z), dtype=others[4].dtype)


@_backward.register_fake
def _(
    d_out: Tensor, qkvg: Tensor, heads: Tensor, o: Tensor, lse: Tensor, z: Tensor, *others: Any
) -> tuple[Tensor, ...]:
    weights = [weight.new_empty(weight.shape) for weight in others[1:-1]]
    return torch.empty_like(_with_contiguous_channels(z)), *weights


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.transpose_bias = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:], *tensors)


def _differentiate(ctx: Any, d_out: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    d_z, *d_weights = _backward(d_out, *ctx.saved_tensors, ctx.transpose_bias)
    return d_z, None, *d_weights, None


_forward.register_autograd(_differentiate, setup_context=_keep)


def example(device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns small arguments of `triangle_attention`: tensors by name, and the rest."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    n = 133 if device.type == "cuda" else 18  # More than a tile, and no multiple of one.
    c_z, n_heads, c = 64, 2, 64
    mask = torch.rand(1, n, n, generator=generator) < 0.9
    mask[:, -3:] = mask[:, :, -3:] = False
    tensors = {
        "z": draw(1, n, n, c_z).transpose(1, 2),
        "pair_mask": mask.to(device),
        "norm_weight": 1 + 0.1 * draw(c_z),
        "norm_bias": 0.1 * draw(c_z),
        **{f"weight_{x}": draw(c, c_z) / c_z**0.5 for x in ("q", "k", "v", "gate")},
        "weight_bias": draw(n_heads, c_z) / c_z**0.5,
        "weight_out": draw(c_z, c) / c**0.5,
    }
    return tensors, {"transpose_bias": True}
