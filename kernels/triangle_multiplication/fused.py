"""Triangle multiplication by Triton kernels, differentiable. AF3 SI, Algorithms 12 and 13.

Kept for the backward pass: z, the operands a and b and their product x; projections and gates are
computed again, for a block of rows at a time. Without autograd only as much is held as the
definition does: a and b, and x in the place of a.
"""

from collections.abc import Iterator
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.backend import blocks, compute_dtype
from seedfold.kernels.dense.triton_kernels import norm, norm_linear_backward, sum_over_pairs
from seedfold.kernels.triangle_multiplication.triton_kernels import (
    FUSED_CHANNELS,
    channel_norm,
    channel_norm_backward,
    operands,
    operands_backward,
    output,
    output_backward,
    padded,
)


def triangle_multiplication(
    z: Float[Tensor, "B N N c_z"],
    pair_mask: Bool[Tensor, "B N N"],
    edges: Literal["outgoing", "incoming"],
    *,
    norm_in_weight: Float[Tensor, " c_z"],
    norm_in_bias: Float[Tensor, " c_z"],
    weight_a: Float[Tensor, "c c_z"],
    weight_a_gate: Float[Tensor, "c c_z"],
    weight_b: Float[Tensor, "c c_z"],
    weight_b_gate: Float[Tensor, "c c_z"],
    norm_out_weight: Float[Tensor, " c"],
    norm_out_bias: Float[Tensor, " c"],
    weight_out: Float[Tensor, "c_z c"],
    weight_gate: Float[Tensor, "c_z c_z"],
) -> Float[Tensor, "B N N c_z"]:
    """Returns the update of `z`, laid out as `z` is."""
    dtype = compute_dtype(z)
    a, b = [weight_a, weight_a_gate], [weight_b, weight_b_gate]
    outgoing = edges == "outgoing"
    swapped = z.stride(1) < z.stride(2)
    if swapped:
        # In memory order, x[i, j] = sum_k a[i, k] b[j, k] is x'[j, i] = sum_k b'[k, j] a'[k, i].
        z, pair_mask = z.transpose(1, 2), pair_mask.transpose(1, 2)
        a, b, outgoing = b, a, not outgoing
    weight_in = torch.cat([a[0], b[0], a[1], b[1], weight_gate]).to(dtype)
    arguments = (
        *(z, pair_mask, norm_in_weight, norm_in_bias, weight_in),
        *(norm_out_weight, norm_out_bias, weight_out.to(dtype), outgoing),
    )
    if torch.is_grad_enabled():
        out, *_ = _forward(*arguments)
    else:
        out = _lean_forward(*arguments)
    return out.transpose(1, 2) if swapped else out


@torch.library.custom_op("seedfold::triangle_multiplication", mutates_args=())
def _forward(
    z: Tensor,
    pair_mask: Tensor,
    norm_in_weight: Tensor,
    norm_in_bias: Tensor,
    weight_in: Tensor,
    norm_out_weight: Tensor,
    norm_out_bias: Tensor,
    weight_out: Tensor,
    outgoing: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the output and what the backward pass needs: a, b and x."""
    z = _with_contiguous_channels(z)
    norm_in, norm_out = (norm_in_weight, norm_in_bias), (norm_out_weight, norm_out_bias)
    weight_in, weight_out = weight_in.contiguous(), weight_out.contiguous()
    out, a, b, x = _empty(z, weight_out)
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        for example in range(len(z)):
            _project(z[example], pair_mask[example], norm_in, weight_in, a[example], b[example])
            _multiply(a[example], b[example], outgoing, x[example])
            _finish(x[example], z[example], norm_out, norm_in, weight_out, weight_in, out[example])
    return out, a, b, x


@torch.library.custom_op("seedfold::triangle_multiplication_lean", mutates_args=())
def _lean_forward(
    z: Tensor,
    pair_mask: Tensor,
    norm_in_weight: Tensor,
    norm_in_bias: Tensor,
    weight_in: Tensor,
    norm_out_weight: Tensor,
    norm_out_bias: Tensor,
    weight_out: Tensor,
    outgoing: bool,
) -> Tensor:
    """Returns the output."""
    z = _with_contiguous_channels(z)
    norm_in, norm_out = (norm_in_weight, norm_in_bias), (norm_out_weight, norm_out_bias)
    weight_in, weight_out = weight_in.contiguous(), weight_out.contiguous()
    out = torch.empty(0)
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        for example in range(len(z)):
            x = _product(z[example], pair_mask[example], norm_in, weight_in, weight_out, outgoing)
            if example == 0:
                # Not before the operands have given back their memory.
                out = torch.empty_like(z, dtype=weight_in.dtype)
            _finish(x, z[example], norm_out, norm_in, weight_out, weight_in, out[example])
    return out


@torch.library.custom_op("seedfold::triangle_multiplication_backward", mutates_args=())
def _backward(
    d_out: Tensor,
    a: Tensor,
    b: Tensor,
    x: Tensor,
    z: Tensor,
    pair_mask: Tensor,
    norm_in_weight: Tensor,
    norm_in_bias: Tensor,
    weight_in: Tensor,
    norm_out_weight: Tensor,
    norm_out_bias: Tensor,
    weight_out: Tensor,
    outgoing: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Returns the gradients of z and of the weights, in their order."""
    z = _with_contiguous_channels(z)
    d_out = _with_contiguous_channels(d_out)
    norm_in, norm_out = (norm_in_weight, norm_in_bias), (norm_out_weight, norm_out_bias)
    weights = (*norm_in, weight_in.contiguous(), *norm_out, weight_out.contiguous())
    d_z = torch.empty_like(z)
    sums = [torch.zeros(weight.shape, device=z.device) for weight in weights]
    with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        for example in range(len(z)):
            d_x, d_gate = _output_backward(
                d_out[example], x[example], z[example], weights, sums[3:]
            )
            d_a, d_b = _multiply_backward(d_x, a[example], b[example], outgoing)
            del d_x
            _project_backward(
                d_a, d_b, d_gate, z[example], pair_mask[example], weights, sums[:3], d_z[example]
            )
    gradients = [total.to(w.dtype) for total, w in zip(sums, weights, strict=True)]
    return d_z, *gradients  # pyright: ignore[reportReturnType]


def _with_contiguous_channels(z: Tensor) -> Tensor:
    return z if z.stride(-1) == 1 else z.contiguous()


def _empty(z: Tensor, weight_out: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Memory for the output, a, b and x."""
    shape = (z.shape[0], weight_out.shape[1], z.shape[1], padded(z.shape[1]))
    a, b, x = (weight_out.new_empty(shape) for _ in range(3))
    return torch.empty_like(z, dtype=weight_out.dtype), a, b, x


def _rows(z: Tensor, c: int, dtype: torch.dtype, *, whole: bool) -> Iterator[slice]:
    """Blocks of rows for which intermediates of `c` channels are held; all if `whole`."""
    bytes_each = z.shape[1] * c * dtype.itemsize
    yield from [slice(0, len(z))] if whole else blocks(len(z), bytes_each, z.device)


def _project(
    z: Tensor, mask: Tensor, norm_in: tuple, weight_in: Tensor, a: Tensor, b: Tensor
) -> None:
    """Writes the operands of one example."""
    c_z, dtype = z.shape[-1], weight_in.dtype
    whole = c_z <= FUSED_CHANNELS
    for rows in _rows(z, c_z, dtype, whole=whole):
        y = z[rows] if whole else norm(z[rows], *norm_in, dtype)
        operands(y, mask[rows], *norm_in, weight_in, a[:, rows], b[:, rows])


def _multiply(a: Tensor, b: Tensor, outgoing: bool, x: Tensor) -> None:
    """Writes the sum over the third token; all are channel-major with padded rows."""
    n = a.shape[1]
    a, b = a[..., :n], b[..., :n]
    x[..., n:].zero_()
    torch.bmm(*((a, b.mT) if outgoing else (a.mT, b)), out=x[..., :n])


def _product(
    z: Tensor,
    mask: Tensor,
    norm_in: tuple,
    weight_in: Tensor,
    weight_out: Tensor,
    outgoing: bool,
) -> Tensor:
    """Returns x of one example, in the memory of its first operand if it is large."""
    n, c = len(z), weight_out.shape[1]
    a, b = (weight_in.new_empty(c, n, padded(n)) for _ in range(2))
    _project(z, mask, norm_in, weight_in, a, b)
    for channels in blocks(c, a[0].numel() * a.element_size(), z.device):
        x = torch.empty_like(a[channels])
        _multiply(a[channels], b[channels], outgoing, x)
        if len(x) == c:
            return x
        a[channels] = x
    return a


def _finish(
    x: Tensor,
    z: Tensor,
    norm_out: tuple,
    norm_in: tuple,
    weight_out: Tensor,
    weight_in: Tensor,
    out: Tensor,
) -> None:
    """Writes the output of one example."""
    c_z, c = weight_out.shape
    whole = max(c, c_z) <= FUSED_CHANNELS
    for rows in _rows(z, c + c_z, x.dtype, whole=whole):
        x_rows, y = x[:, rows], z[rows]
        if not whole:
            x_rows, y = channel_norm(x_rows, *norm_out, len(z)), norm(y, *norm_in, x.dtype)
        output(x_rows, y, norm_out, norm_in, weight_out, weight_in[4 * c :], out[rows])


def _output_backward(
    d_out: Tensor, x: Tensor, z: Tensor, weights: tuple[Tensor, ...], sums: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Returns the gradients of x and of W_gate y; adds those of norm and weight to `sums`."""
    *norm_in, weight_in, norm_out_weight, norm_out_bias, weight_out = weights
    norm_in, norm_out = tuple(norm_in), (norm_out_weight, norm_out_bias)
    (c_z, c), n = weight_out.shape, len(z)
    whole = max(c, c_z) <= FUSED_CHANNELS
    d_x, d_gate = torch.empty_like(x), x.new_empty(z.shape)
    for rows in _rows(z, 3 * c + 2 * c_z, x.dtype, whole=False):
        x_rows, y = x[:, rows], z[rows]
        if not whole:
            x_rows, y = channel_norm(x_rows, *norm_out, n), norm(y, *norm_in, x.dtype)
        d_product = output_backward(
            x_rows, y, norm_out, norm_in, weight_out, weight_in[4 * c :], d_out[rows], d_gate[rows]
        ).flatten(0, 1)
        d_y = weight_out.t() @ d_product.t()
        y, *gradients = channel_norm_backward(x[:, rows], *norm_out, n, d_y, d_x[:, rows])
        gradients.append(sum_over_pairs(d_product, y.flatten(1).t()))
        _add(sums, gradients)
    return d_x, d_gate


def _multiply_backward(d_x: Tensor, a: Tensor, b: Tensor, outgoing: bool) -> tuple[Tensor, Tensor]:
    """Returns the gradients of a and b; their padding is left as it is."""
    n = a.shape[1]
    d_a, d_b = torch.empty_like(a), torch.empty_like(b)
    a, b, d_x = a[..., :n], b[..., :n], d_x[..., :n]
    if outgoing:
        torch.bmm(d_x, b, out=d_a[..., :n])
        torch.bmm(d_x.mT, a, out=d_b[..., :n])
    else:
        torch.bmm(b, d_x.mT, out=d_a[..., :n])
        torch.bmm(a, d_x, out=d_b[..., :n])
    return d_a, d_b


def _project_backward(
    d_a: Tensor,
    d_b: Tensor,
    d_gate: Tensor,
    z: Tensor,
    mask: Tensor,
    weights: tuple[Tensor, ...],
    sums: list[Tensor],
    d_z: Tensor,
) -> None:
    """Writes the gradient of z; adds those of norm and weight to `sums`."""
    norm_weight, norm_bias, weight_in, *_ = weights
    (n_columns, c_z), n = weight_in.shape, len(z)
    for rows in _rows(z, n_columns + 3 * c_z, d_a.dtype, whole=False):
        whole = c_z <= FUSED_CHANNELS
        y = z[rows] if whole else norm(z[rows], norm_weight, norm_bias, d_a.dtype)
        d_products = d_a.new_empty(len(y), n, n_columns)
        operands_backward(
            *(y, mask[rows], norm_weight, norm_bias, weight_in),
            *(d_a[:, rows], d_b[:, rows], d_products),
        )
        d_products[..., -c_z:] = d_gate[rows]
        _, *gradients, _ = norm_linear_backward(
            z[rows], norm_weight, norm_bias, weight_in, d_products, d_x=d_z[rows]
        )
        _add(sums, gradients)


def _add(sums: list[Tensor], gradients: list[Tensor]) -> None:
    for total, gradient in zip(sums, gradients, strict=True):
        total += gradient


@_forward.register_fake
def _(z: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return _empty(_with_contiguous_channels(z), others[-2])


@_lean_forward.register_fake
def _(z: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(_with_contiguous_channels(z), dtype=others[-2].dtype)


@_backward.register_fake
def _(d_out: Tensor, a: Tensor, b: Tensor, x: Tensor, z: Tensor, mask: Tensor, *others: Any):
    weights = [weight.new_empty(weight.shape) for weight in others[:-1]]
    return torch.empty_like(_with_contiguous_channels(z)), *weights


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.outgoing = inputs
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*output[1:], *tensors)


def _differentiate(ctx: Any, d_out: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    d_z, *d_weights = _backward(d_out, *ctx.saved_tensors, ctx.outgoing)
    return d_z, None, *d_weights, None


_forward.register_autograd(_differentiate, setup_context=_keep)


def example(device: torch.device, dtype: torch.dtype) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Returns small arguments of `triangle_multiplication`: tensors by name, and the rest."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device, dtype)

    n, c_z, c = 37, 64, 48
    mask = torch.ones(1, n, n, dtype=torch.bool, device=device)
    mask[:, -3:] = mask[:, :, -3:] = False
    tensors = {
        "z": draw(1, n, n, c_z),
        "pair_mask": mask,
        "norm_in_weight": 1 + 0.1 * draw(c_z),
        "norm_in_bias": 0.1 * draw(c_z),
        **{f"weight_{x}": draw(c, c_z) / c_z**0.5 for x in ("a", "a_gate", "b", "b_gate")},
        "norm_out_weight": 1 + 0.1 * draw(c),
        "norm_out_bias": 0.1 * draw(c),
        "weight_out": draw(c_z, c) / c**0.5,
        "weight_gate": draw(c_z, c_z) / c_z**0.5,
    }
    return tensors, {"edges": "outgoing"}
