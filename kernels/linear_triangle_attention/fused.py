"""Linear triangular attention by Triton kernels, differentiable. Source: arXiv 2512.24354.

Kept for the backward pass: z, the projections phi(q), phi(k), v and g in one tensor, the bias and
the sums o. Without autograd nothing is, and where the rows are too many for the memory they are
worked on in blocks. Masked keys have phi(k) = v = 0, which is all that the mask takes.
"""

from collections.abc import Callable
from typing import Any, Literal

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
from seedfold.kernels.linear_triangle_attention import triton_kernels
from seedfold.kernels.linear_triangle_attention.reference import BIAS_ACTIVATIONS

_BIAS_GRADIENTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "sigmoid": lambda d_psi, psi: d_psi * psi * (1 - psi),
    "relu": lambda d_psi, psi: d_psi * (psi > 0),
    "identity": lambda d_psi, psi: d_psi,
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
    """Returns the update of `z`; that of a single example is laid out as `z` is."""
    dtype = compute_dtype(z)
    weight_qkvg = torch.cat([weight_q, weight_k, weight_v, weight_gate]).to(dtype)
    arguments = (
        *(norm_weight, norm_bias, weight_qkvg, weight_bias.to(dtype)),
        *(norm_out_weight, norm_out_bias, weight_out.to(dtype), gated, bias_activation),
    )

    def update(z: Tensor, mask: Tensor) -> Tensor:
        if torch.is_grad_enabled():
            return _forward(z, mask, *arguments)[0]
        return _lean_forward(z, mask, *arguments)

    if len(z) == 1:  # Unlike a stack of one, this copies nothing.
        return update(z.squeeze(0), pair_mask.squeeze(0)).unsqueeze(0)
    return torch.stack([update(*example) for example in zip(z, pair_mask, strict=True)])


@torch.library.custom_op("seedfold::linear_triangle_attention", mutates_args=())
def _forward(
    z: Tensor,
    mask: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_qkvg: Tensor,
    weight_bias: Tensor,
    norm_out_weight: Tensor,
    norm_out_bias: Tensor,
    weight_out: Tensor,
    gated: bool,
    bias_activation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the output and what the backward pass needs: qkvg, heads and o."""
    z = _with_contiguous_channels(z)
    norm_out = {"norm_weight": norm_out_weight, "norm_bias": norm_out_bias}
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        qkvg, heads = norm_linear(
            z, norm_weight, norm_bias, weight_qkvg,
            weight_heads=weight_bias, **_finish(mask, weight_qkvg),
        )  # fmt: skip
        assert heads is not None
        psi = _activated(heads, bias_activation).to(heads.dtype)
        o = _attend(*_operands(qkvg, len(heads)), psi, gated)
        out = torch.empty_like(z, dtype=weight_out.dtype)
        gate_linear(o.flatten(2), _gate(qkvg), weight_out, **norm_out, out=out)
    return out, qkvg, heads, o


@torch.library.custom_op("seedfold::linear_triangle_attention_lean", mutates_args=())
def _lean_forward(
    z: Tensor,
    mask: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_qkvg: Tensor,
    weight_bias: Tensor,
    norm_out_weight: Tensor,
    norm_out_bias: Tensor,
    weight_out: Tensor,
    gated: bool,
    bias_activation: str,
) -> Tensor:
    """Returns the output."""
    z = _with_contiguous_channels(z)
    norm, n_heads, dtype = (norm_weight, norm_bias), len(weight_bias), weight_out.dtype
    norm_out = {"norm_weight": norm_out_weight, "norm_bias": norm_out_bias}
    # Of qkvg, LN(z), o, and what the additive form adds up to it.
    n_channels = len(weight_qkvg) + z.shape[2] + weight_out.shape[1] * (2 if gated else 6)
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        parts = list(blocks(len(z), dtype.itemsize * z.shape[1] * n_channels, z.device))
        if len(parts) == 1:
            weights = (*norm, weight_qkvg, weight_bias, *norm_out.values(), weight_out)
            return _forward(z, mask, *weights, gated, bias_activation)[0]
        heads = weight_out.new_empty(n_heads, *z.shape[:2])
        for rows in parts:
            heads[:, rows] = norm_linear(z[rows], *norm, weight_bias)[0].permute(2, 0, 1)
        psi = _activated(heads, bias_activation).to(dtype)
        out = torch.empty_like(z, dtype=dtype)
        for rows in parts:
            finish = _finish(mask[rows], weight_qkvg)
            qkvg, _ = norm_linear(z[rows], *norm, weight_qkvg, **finish)
            o = _attend(*_operands(qkvg, n_heads), psi, gated)
            gate_linear(o.flatten(2), _gate(qkvg), weight_out, **norm_out, out=out[rows])
            del qkvg, o  # Before the next block allocates its own.
    return out


@torch.library.custom_op("seedfold::linear_triangle_attention_backward", mutates_args=())
def _backward(
    d_out: Tensor,
    qkvg: Tensor,
    heads: Tensor,
    o: Tensor,
    z: Tensor,
    mask: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight_qkvg: Tensor,
    weight_bias: Tensor,
    norm_out_weight: Tensor,
    norm_out_bias: Tensor,
    weight_out: Tensor,
    gated: bool,
    bias_activation: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of z and of the weights, in their order."""
    z, d_out = _with_contiguous_channels(z), _with_contiguous_channels(d_out)
    d_qkvg = torch.empty_like(qkvg)
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        d_o, d_weight_out, *d_norm_out = gate_linear_backward(
            d_out, o.flatten(2), _gate(qkvg), weight_out, _gate(d_qkvg),
            norm_weight=norm_out_weight, norm_bias=norm_out_bias,
        )  # fmt: skip
        psi = _activated(heads, bias_activation)
        operands = (*_operands(qkvg, len(heads)), psi.to(heads.dtype))
        d_operands = _operands(d_qkvg, len(heads))
        if gated:
            d_psi = _gated_backward(d_o.view(o.shape), *operands, *d_operands)
        else:
            d_psi = _additive_backward(d_o.view(o.shape), *operands, mask, *d_operands)
        del d_o
        d_heads = _BIAS_GRADIENTS[bias_activation](d_psi, psi).to(heads.dtype)
        del d_psi, psi
        *gradients, d_weight_bias = norm_linear_backward(
            z, norm_weight, norm_bias, weight_qkvg, d_qkvg,
            weight_heads=weight_bias, d_heads=d_heads,
        )  # fmt: skip
    return *gradients, d_weight_bias, *d_norm_out, d_weight_out  # pyright: ignore[reportReturnType]


def _attend(
    q: Float[Tensor, "R N N_head d"],
    k: Float[Tensor, "R N N_head d"],
    v: Float[Tensor, "R N N_head d"],
    psi: Float[Tensor, "N_head N N"],
    gated: bool,
) -> Float[Tensor, "R N N_head d"]:
    """The sums over keys, contiguous; not in float16, which they may exceed."""
    o = torch.empty(q.shape, dtype=_sum_dtype(q.dtype), device=q.device)
    if gated:
        return triton_kernels.gated(q, k, v, psi, out=o)
    q, k, v, psi = (x.to(o.dtype) for x in (q, k, v, psi))
    local = torch.einsum("rjhd,rhde->rjhe", q, _state(k, v))
    return torch.add(torch.einsum("hjk,rkhe->rjhe", psi, v), local, out=o)


def _state(
    k: Float[Tensor, "R N N_head d"], v: Float[Tensor, "R N N_head d"]
) -> Float[Tensor, "R N_head d d"]:
    """k^T v of every row and head."""
    return torch.einsum("rkhd,rkhe->rhde", k, v)


def _gated_backward(
    d_o: Tensor, q: Tensor, k: Tensor, v: Tensor, psi: Tensor,
    d_q: Tensor, d_k: Tensor, d_v: Tensor,
) -> Float[Tensor, "N_head N N"]:  # fmt: skip
    """Writes the gradients of q and k, before their relu, and of v; returns that of psi (fp32)."""
    transposed = psi.mT.contiguous()
    triton_kernels.gated(d_o, v, k, psi, sign=q, out=d_q)
    triton_kernels.gated(v, d_o, q, transposed, sign=k, out=d_k)
    triton_kernels.gated(k, q, d_o, transposed, out=d_v)
    return triton_kernels.gate_gradient(d_o, q, k, v)


def _additive_backward(
    d_o: Tensor, q: Tensor, k: Tensor, v: Tensor, psi: Tensor, mask: Tensor,
    d_q: Tensor, d_k: Tensor, d_v: Tensor,
) -> Float[Tensor, "N_head N N"]:  # fmt: skip
    """As `_gated_backward`. Masked values get a gradient from psi, which is left out."""
    d_o, q, k, v, psi = (x.to(_sum_dtype(x.dtype)) for x in (d_o, q, k, v, psi))
    d_state = _state(q, d_o)
    d_q.copy_(torch.einsum("rjhe,rhde->rjhd", d_o, _state(k, v)) * (q > 0))
    d_k.copy_(torch.einsum("rkhe,rhde->rkhd", v, d_state) * (k > 0))
    d_values = torch.einsum("hjk,rjhe->rkhe", psi, d_o)
    d_values += torch.einsum("rkhd,rhde->rkhe", k, d_state)
    d_v.copy_(d_values * mask[:, :, None, None])
    return torch.einsum("rjhe,rkhe->hjk", d_o, v).float()


def _activated(heads: Tensor, bias_activation: str) -> Tensor:
    """psi in single precision."""
    return BIAS_ACTIVATIONS[bias_activation](heads.float())


def _sum_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype == torch.float16 else dtype


def _finish(mask: Tensor, weight_qkvg: Tensor) -> dict[str, Any]:
    """What the projection does to its columns: relu of q and k, zeros for masked k and v."""
    c = len(weight_qkvg) // 4
    return {"n_relu": 2 * c, "mask": mask, "masked": (c, 3 * c)}


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
    weight_qkvg, weight_bias, *_, weight_out = others[2:7]
    (n_rows, n, _), n_heads, c = z.shape, len(weight_bias), weight_out.shape[1]
    return (
        torch.empty_like(_with_contiguous_channels(z), dtype=weight_out.dtype),
        weight_qkvg.new_empty(n_rows, n, 4 * c),
        weight_bias.new_empty(n_heads, n_rows, n),
        z.new_empty(n_rows, n, n_heads, c // n_heads, dtype=_sum_dtype(weight_qkvg.dtype)),
    )


@_lean_forward.register_fake
def _(z: Tensor, mask: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(_with_contiguous_channels(z), dtype=others[6].dtype)


@_backward.register_fake
def _(
    d_out: Tensor, qkvg: Tensor, heads: Tensor, o: Tensor, z: Tensor, mask: Tensor, *others: Any
) -> tuple[Tensor, ...]:
    weights = [weight.new_empty(weight.shape) for weight in others[:-2]]
    return torch.empty_like(_with_contiguous_channels(z)), *weights


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.gated, ctx.bias_activation = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:], *tensors)


def _differentiate(ctx: Any, d_out: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    d_z, *d_weights = _backward(d_out, *ctx.saved_tensors, ctx.gated, ctx.bias_activation)
    return d_z, None, *d_weights, None, None


_forward.register_autograd(_differentiate, setup_context=_keep)


def example(device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns small arguments of `linear_triangle_attention`: tensors by name, and the rest."""
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
        "norm_out_weight": 1 + 0.1 * draw(c),
        "norm_out_bias": 0.1 * draw(c),
        "weight_out": draw(c_z, c) / c**0.5,
    }
    return tensors, {"gated": True, "bias_activation": "sigmoid"}
