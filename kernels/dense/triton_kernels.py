"""Linear maps of LN(x), sigmoid(g) * x and sigmoid(g) * LN(x) over pairs, and their gradients.

Source: the transition, triangle and attention layers of the AF3 SI, which are chains of these.

Two kernels carry everything. `_forward_kernel` prepares a tile of pairs, y = sigmoid(g) * LN(x)
with either factor optional, and writes y, W y or both kinds of W y at once. `_backward_kernel` goes
from the gradient of y to those of x, g and the norm, and writes y again for the weight gradient.
Where channels are too many for a tile to stay on chip, y goes through memory to a matrix product:
cuBLAS, or `_linear_kernel` where it has to relu, mask or scatter. Launchers are not differentiable.
"""

# pyright: reportCallIssue=false
# (Options of a launch, like num_warps, are not among the parameters of a kernel.)

from typing import Any, NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.tiles import GateCase, standardised

_MAX_FUSED = 256
"""Channels up to which a tile of pairs stays on chip while the weights stream past it."""
_BLOCKS_EACH = 32
"""Blocks of pairs of a program in the backward pass: it sums their part of the norm's gradient."""


class Tile(NamedTuple):
    """How a launch is cut up: extents of a tile (`inner` are summed over), warps and stages."""

    pairs: int
    warps: int
    stages: int
    columns: int = 16
    inner: int = 64


@triton.jit
@no_type_check
def _offsets(pair, n_b, stride_a, stride_b):
    """Where pairs begin, in 64 bits: pair representations have more than 2^31 elements."""
    return (pair // n_b).to(tl.int64) * stride_a + (pair % n_b).to(tl.int64) * stride_b


@triton.jit
@no_type_check
def _store_columns(
    product, out, mask, pair, column, n_pairs, n_b, n_relu, masked_from, masked_to,
    out_a, out_b, mask_a, mask_b, N: tl.constexpr,
):  # fmt: skip
    """Writes columns of W y: relu of the first, zeros in the masked ones."""
    product = tl.where(column[None, :] < n_relu, tl.maximum(product, 0.0), product)
    if mask is not None:
        kept = tl.load(mask + _offsets(pair, n_b, mask_a, mask_b), mask=pair < n_pairs, other=0)
        masked = (column >= masked_from) & (column < masked_to)
        product = tl.where((kept[:, None] == 0) & masked[None, :], 0.0, product)
    rows = out + _offsets(pair, n_b, out_a, out_b)
    inside = (pair < n_pairs)[:, None] & (column < N)[None, :]
    tl.store(rows[:, None] + column[None, :], product.to(out.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _forward_kernel(
    x, g, norm_weight, norm_bias, weight, weight_heads, mask, out, heads,
    x_a, x_b, g_a, g_b, mask_a, mask_b, out_a, out_b, heads_a, heads_b, heads_h,
    n_pairs, n_b, n_heads, n_relu, masked_from, masked_to,
    C: tl.constexpr, N: tl.constexpr, PAIRS: tl.constexpr, CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """One block of pairs: out = y W^T, or y if there is no weight; heads = W_heads y^T."""
    pair = tl.program_id(0) * PAIRS + tl.arange(0, PAIRS)
    channel = tl.arange(0, CHANNELS)
    inside = (pair < n_pairs)[:, None] & (channel < C)[None, :]
    x_rows = x + _offsets(pair, n_b, x_a, x_b)
    y = tl.load(x_rows[:, None] + channel[None, :], mask=inside, other=0.0).to(tl.float32)
    if norm_weight is not None:
        scale = tl.load(norm_weight + channel, mask=channel < C, other=0.0).to(tl.float32)
        shift = tl.load(norm_bias + channel, mask=channel < C, other=0.0).to(tl.float32)
        y, _ = standardised(y, inside, C)
        y = y * scale[None, :] + shift[None, :]
    if g is not None:
        g_rows = g + _offsets(pair, n_b, g_a, g_b)
        gate = tl.load(g_rows[:, None] + channel[None, :], mask=inside, other=0.0)
        y *= tl.sigmoid(gate.to(tl.float32))

    if weight_heads is not None:
        head = tl.arange(0, HEADS)
        wh_at = weight_heads + head[None, :] * C + channel[:, None]
        wh = tl.load(wh_at, mask=(head < n_heads)[None, :] & (channel < C)[:, None], other=0.0)
        by_head = tl.trans(tl.dot(y.to(wh.dtype), wh, input_precision="ieee"))
        at = head[:, None].to(tl.int64) * heads_h + _offsets(pair, n_b, heads_a, heads_b)[None, :]
        heads_inside = (head < n_heads)[:, None] & (pair < n_pairs)[None, :]
        tl.store(heads + at, by_head.to(heads.dtype.element_ty), mask=heads_inside)

    if weight is None:
        out_rows = out + _offsets(pair, n_b, out_a, out_b)
        tl.store(out_rows[:, None] + channel[None, :], y.to(out.dtype.element_ty), mask=inside)
    else:
        y = y.to(weight.dtype.element_ty)
        for start in tl.range(0, N, COLUMNS):
            column = start + tl.arange(0, COLUMNS)
            w_inside = (column < N)[None, :] & (channel < C)[:, None]
            w = tl.load(weight + column[None, :] * C + channel[:, None], mask=w_inside, other=0.0)
            product = tl.dot(y, w, input_precision="ieee")
            _store_columns(
                product, out, mask, pair, column, n_pairs, n_b,
                n_relu, masked_from, masked_to, out_a, out_b, mask_a, mask_b, N,
            )  # fmt: skip


@triton.jit
@no_type_check
def _linear_kernel(
    y, weight, mask, out, mask_a, mask_b, out_a, out_b,
    n_pairs, n_b, n_relu, masked_from, masked_to,
    C: tl.constexpr, N: tl.constexpr, PAIRS: tl.constexpr, COLUMNS: tl.constexpr,
    INNER: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """One tile of out = y W^T. Programs go down `GROUP` blocks of pairs, then to the right, so
    that those that run together share both operands in the cache."""
    n_blocks, n_right = tl.cdiv(n_pairs, PAIRS), tl.cdiv(N, COLUMNS)
    first = tl.program_id(0) // (GROUP * n_right) * GROUP
    height = tl.minimum(n_blocks - first, GROUP)
    within = tl.program_id(0) % (GROUP * n_right)
    start = (first + within % height) * PAIRS
    row, column = tl.arange(0, PAIRS), within // height * COLUMNS + tl.arange(0, COLUMNS)
    # What is beyond the end reads the last row instead, and is not stored.
    y_rows = y + start.to(tl.int64) * C + tl.minimum(row, n_pairs - 1 - start)[:, None] * C
    w_rows = weight + tl.minimum(column, N - 1)[None, :] * C

    product = tl.zeros([PAIRS, COLUMNS], tl.float32)
    for inner in tl.range(0, C, INNER):
        channel = inner + tl.arange(0, INNER)
        if C % INNER == 0:
            y_tile = tl.load(y_rows + channel[None, :])
            w_tile = tl.load(w_rows + channel[:, None])
        else:
            y_tile = tl.load(y_rows + channel[None, :], mask=channel[None, :] < C, other=0.0)
            w_tile = tl.load(w_rows + channel[:, None], mask=channel[:, None] < C, other=0.0)
        product = tl.dot(y_tile, w_tile, product, input_precision="ieee")
    pair = start + row
    _store_columns(
        product, out, mask, pair, column, n_pairs, n_b,
        n_relu, masked_from, masked_to, out_a, out_b, mask_a, mask_b, N,
    )  # fmt: skip


@triton.jit
@no_type_check
def _backward_kernel(
    d_y, x, g, norm_weight, norm_bias, y, d_x, d_g, d_norm_weight, d_norm_bias,
    x_a, x_b, g_a, g_b, d_x_a, d_x_b, d_g_a, d_g_b, n_pairs, n_b,
    C: tl.constexpr, PAIRS: tl.constexpr, CHANNELS: tl.constexpr, STAGES: tl.constexpr,
):  # fmt: skip
    """Every `num_programs`-th block of pairs; d_y and y are contiguous. Sums over pairs stay tiles
    until the end: reducing them in the loop would make the warps wait for each other."""
    channel = tl.arange(0, CHANNELS)
    scale_sum = tl.zeros([PAIRS, CHANNELS], tl.float32)
    shift_sum = tl.zeros([PAIRS, CHANNELS], tl.float32)
    if norm_weight is not None:
        scale = tl.load(norm_weight + channel, mask=channel < C, other=0.0).to(tl.float32)
        shift = tl.load(norm_bias + channel, mask=channel < C, other=0.0).to(tl.float32)
    n_blocks = tl.cdiv(n_pairs, PAIRS)
    for block in tl.range(tl.program_id(0), n_blocks, tl.num_programs(0), num_stages=STAGES):
        pair = block * PAIRS + tl.arange(0, PAIRS)
        inside = (pair < n_pairs)[:, None] & (channel < C)[None, :]
        y_at = pair[:, None].to(tl.int64) * C + channel[None, :]
        x_rows = x + _offsets(pair, n_b, x_a, x_b)
        value = tl.load(x_rows[:, None] + channel[None, :], mask=inside, other=0.0).to(tl.float32)
        d_value = tl.load(d_y + y_at, mask=inside, other=0.0).to(tl.float32)
        unit, rstd, normed = value, 1.0, value
        if norm_weight is not None:
            unit, rstd = standardised(value, inside, C)
            normed = unit * scale[None, :] + shift[None, :]
        if g is not None:
            g_rows = g + _offsets(pair, n_b, g_a, g_b)
            gate = tl.load(g_rows[:, None] + channel[None, :], mask=inside, other=0.0)
            gate = tl.sigmoid(gate.to(tl.float32))
            d_gate = d_value * normed * gate * (1 - gate)
            d_g_rows = d_g + _offsets(pair, n_b, d_g_a, d_g_b)
            d_g_at = d_g_rows[:, None] + channel[None, :]
            tl.store(d_g_at, d_gate.to(d_g.dtype.element_ty), mask=inside)
            d_value *= gate
            normed *= gate
        tl.store(y + y_at, normed.to(y.dtype.element_ty), mask=inside)
        if norm_weight is not None:
            scale_sum += d_value * unit
            shift_sum += d_value
            d_value *= scale[None, :]
            along = tl.sum(d_value * unit, 1) / C
            d_value -= (tl.sum(d_value, 1) / C)[:, None] + unit * along[:, None]
            d_value *= rstd[:, None]
        d_x_rows = d_x + _offsets(pair, n_b, d_x_a, d_x_b)
        d_x_at = d_x_rows[:, None] + channel[None, :]
        tl.store(d_x_at, d_value.to(d_x.dtype.element_ty), mask=inside)

    if norm_weight is not None:
        at = tl.program_id(0) * C + channel
        tl.store(d_norm_weight + at, tl.sum(scale_sum, 0), mask=channel < C)
        tl.store(d_norm_bias + at, tl.sum(shift_sum, 0), mask=channel < C)


def norm(
    x: Float[Tensor, "A B c"],
    weight: Float[Tensor, " c"],
    bias: Float[Tensor, " c"],
    dtype: torch.dtype,
) -> Float[Tensor, "A B c"]:
    """Returns LN(x), contiguous, in `dtype`."""
    y = torch.empty(x.shape, dtype=dtype, device=x.device)
    _forward(x, y, norm_weight=weight, norm_bias=bias)
    return y


def norm_linear(
    x: Float[Tensor, "A B c"],
    norm_weight: Float[Tensor, " c"],
    norm_bias: Float[Tensor, " c"],
    weight: Float[Tensor, "N c"],
    *,
    weight_heads: Float[Tensor, "H c"] | None = None,
    n_relu: int = 0,
    mask: Bool[Tensor, "A B"] | None = None,
    masked: tuple[int, int] = (0, 0),
) -> tuple[Float[Tensor, "A B N"], Float[Tensor, "H A B"] | None]:
    """Returns LN(x) W^T and, head by head, LN(x) W_heads^T, contiguous in the dtype of `weight`.

    Columns before `n_relu` get a relu; columns ``masked[0] <= column < masked[1]`` are 0 at pairs
    with a False `mask`.
    """
    out = torch.empty(*x.shape[:2], len(weight), dtype=weight.dtype, device=x.device)
    heads = None
    prepare: dict[str, Any] = {"norm_weight": norm_weight, "norm_bias": norm_bias}
    if weight_heads is not None:
        heads = out.new_empty(len(weight_heads), *x.shape[:2])
        prepare |= {"weight_heads": weight_heads, "heads": heads.permute(1, 2, 0)}
    finish: dict[str, Any] = {"n_relu": n_relu, "mask": mask, "masked": masked}
    if x.shape[-1] <= _MAX_FUSED:
        _forward(x, out, weight=weight, **prepare, **finish)
    else:
        y = out.new_empty(x.shape)
        _forward(x, y, **prepare)
        _linear(y, weight, out, **finish)
    return out, heads


def norm_linear_backward(
    x: Float[Tensor, "A B c"],
    norm_weight: Float[Tensor, " c"],
    norm_bias: Float[Tensor, " c"],
    weight: Float[Tensor, "N c"],
    d_out: Float[Tensor, "A B N"],
    *,
    weight_heads: Float[Tensor, "H c"] | None = None,
    d_heads: Float[Tensor, "H A B"] | None = None,
    d_x: Float[Tensor, "A B c"] | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Returns the gradients of x, norm_weight, norm_bias, weight and weight_heads.

    `d_out` is the gradient before relu and mask. That of `x` is written to `d_x`, or laid out as
    `x` is.
    """
    d_x = torch.empty_like(x) if d_x is None else d_x
    rows = d_out.reshape(-1, len(weight))
    if weight_heads is None or d_heads is None:
        d_y = rows @ weight
    else:
        d_y = (d_heads.flatten(1).t() @ weight_heads).addmm_(rows, weight)
    y, d_norm_weight, d_norm_bias = _backward(
        d_y, x, d_x, norm_weight=norm_weight, norm_bias=norm_bias
    )
    d_weight_heads = None if d_heads is None else sum_over_pairs(d_heads.flatten(1).t(), y)
    return d_x, d_norm_weight, d_norm_bias, sum_over_pairs(rows, y), d_weight_heads


def gate_linear(
    o: Float[Tensor, "A B c"],
    g: Float[Tensor, "A B c"],
    weight: Float[Tensor, "c_out c"],
    *,
    norm_weight: Float[Tensor, " c"] | None = None,
    norm_bias: Float[Tensor, " c"] | None = None,
    out: Float[Tensor, "A B c_out"] | None = None,
) -> Float[Tensor, "A B c_out"]:
    """Returns (sigmoid(g) * o) W^T, with LN(o) for o if norm weights are given.

    Written to `out`, of any strides with contiguous channels, or to a new contiguous tensor in the
    dtype of `weight`.
    """
    if out is None:
        out = torch.empty(*o.shape[:2], len(weight), dtype=weight.dtype, device=o.device)
    norm: dict[str, Any] = {"norm_weight": norm_weight, "norm_bias": norm_bias}
    if o.shape[-1] <= _MAX_FUSED:
        _forward(o, out, g=g, weight=weight, **norm)
    else:
        # In the order of `out`, so that cuBLAS can write to it.
        o, g, target = _in_memory_order(out, o, g, out)
        u = torch.empty(o.shape, dtype=weight.dtype, device=o.device)
        _forward(o, u, g=g, **norm)
        _linear(u, weight, target)
    return out


def gate_linear_backward(
    d_out: Float[Tensor, "A B c_out"],
    o: Float[Tensor, "A B c"],
    g: Float[Tensor, "A B c"],
    weight: Float[Tensor, "c_out c"],
    d_g: Float[Tensor, "A B c"],
    *,
    norm_weight: Float[Tensor, " c"] | None = None,
    norm_bias: Float[Tensor, " c"] | None = None,
) -> tuple[Float[Tensor, "A B c"], Tensor, Tensor | None, Tensor | None]:
    """Returns the gradients of o, weight, norm_weight and norm_bias; writes that of g to `d_g`.

    That of `o` is contiguous, in the dtype of `g`.
    """
    d_o = torch.empty(o.shape, dtype=g.dtype, device=o.device)
    # In the order of d_out, so that cuBLAS can read it.
    d_out, o, g, d_g, d_x = _in_memory_order(d_out, d_out, o, g, d_g, d_o)
    rows = d_out.reshape(-1, len(weight))
    u, d_norm_weight, d_norm_bias = _backward(
        rows @ weight, o, d_x, g=g, d_g=d_g, norm_weight=norm_weight, norm_bias=norm_bias
    )
    return d_o, sum_over_pairs(rows, u), d_norm_weight, d_norm_bias


def sum_over_pairs(a: Float[Tensor, "P N"], b: Float[Tensor, "P c"]) -> Float[Tensor, "N c"]:
    """a^T b, the gradient of a weight, rounded to the precision of `a` once, at the end.

    With a result in half precision cuBLAS may add up the parts of a long sum in half precision.
    The last pairs go apart: for 8450 of them cuBLAS 13.0 on an H200 is off by 1.6 per cent, about
    what leaving out the last two would do; for 2211 and for 147456 it is right.
    """
    if a.device.type == "cpu" or a.dtype == torch.float32:
        return a.t() @ b
    whole = len(a) - len(a) % 64
    total = a.new_zeros(a.shape[1], b.shape[1], dtype=torch.float32)
    for pairs in (slice(0, whole), slice(whole, len(a))):
        if pairs.start < pairs.stop:
            total += torch.mm(a[pairs].t(), b[pairs], out_dtype=torch.float32)
    return total.to(a.dtype)


def _in_memory_order(leader: Tensor, *tensors: Any) -> list[Any]:
    """Swaps the pair axes of all that are not None if those of `leader` are swapped in memory."""
    if leader.stride(0) < leader.stride(1):
        return [None if x is None else x.transpose(0, 1) for x in tensors]
    return list(tensors)


def _channels(c: int) -> int:
    """The extent of a tile over `c` channels: a power of 2."""
    return max(16, 1 << (c - 1).bit_length())


def _strides(x: Tensor | None, n: int = 2) -> tuple[int, ...]:
    """Of the first `n` axes."""
    return (0,) * n if x is None else x.stride()[:n]


def _forward(
    x: Float[Tensor, "A B c"],
    out: Float[Tensor, "A B N"],
    *,
    g: Float[Tensor, "A B c"] | None = None,
    norm_weight: Float[Tensor, " c"] | None = None,
    norm_bias: Float[Tensor, " c"] | None = None,
    weight: Float[Tensor, "N c"] | None = None,
    weight_heads: Float[Tensor, "H c"] | None = None,
    heads: Float[Tensor, "A B H"] | None = None,
    n_relu: int = 0,
    mask: Bool[Tensor, "A B"] | None = None,
    masked: tuple[int, int] = (0, 0),
    tile: Tile | None = None,
) -> None:
    """Launches `_forward_kernel` on pairs in the order in which `x` has them in memory."""
    x, g, mask, out, heads = _in_memory_order(x, x, g, mask, out, heads)
    n_a, n_b, c = x.shape
    n_heads = 0 if weight_heads is None else len(weight_heads)
    linear, gated = weight is not None, g is not None
    tile = tile or _forward_tile(c, out.dtype, x.device, linear=linear, gated=gated)
    _forward_kernel[(triton.cdiv(n_a * n_b, tile.pairs),)](
        x, g, norm_weight, norm_bias,
        None if weight is None else weight.contiguous(),
        None if weight_heads is None else weight_heads.contiguous(),
        None if mask is None else mask.view(torch.uint8), out, heads,
        *_strides(x), *_strides(g), *_strides(mask), *_strides(out), *_strides(heads, 3),
        n_a * n_b, n_b, n_heads, n_relu, *masked,
        C=c, N=out.shape[-1], PAIRS=tile.pairs, CHANNELS=_channels(c), COLUMNS=tile.columns,
        HEADS=_channels(n_heads), num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def _linear(
    y: Float[Tensor, "A B c"],
    weight: Float[Tensor, "N c"],
    out: Float[Tensor, "A B N"],
    *,
    n_relu: int = 0,
    mask: Bool[Tensor, "A B"] | None = None,
    masked: tuple[int, int] = (0, 0),
    tile: Tile | None = None,
) -> None:
    """Writes y W^T of a contiguous `y`."""
    n_a, n_b, c = y.shape
    if n_relu == 0 and mask is None and out.is_contiguous() and out.dtype == y.dtype:
        torch.mm(y.view(-1, c), weight.t(), out=out.view(-1, len(weight)))
        return
    tile = tile or _linear_tile(y.dtype, y.device)
    n_tiles = triton.cdiv(n_a * n_b, tile.pairs) * triton.cdiv(len(weight), tile.columns)
    _linear_kernel[(n_tiles,)](
        y, weight.contiguous(), None if mask is None else mask.view(torch.uint8), out,
        *_strides(mask), *_strides(out), n_a * n_b, n_b, n_relu, *masked,
        C=c, N=len(weight), PAIRS=tile.pairs, COLUMNS=tile.columns, INNER=tile.inner, GROUP=8,
        num_warps=tile.warps, num_stages=tile.stages,
    )  # fmt: skip


def _backward(
    d_y: Float[Tensor, "P c"],
    x: Float[Tensor, "A B c"],
    d_x: Float[Tensor, "A B c"],
    *,
    g: Float[Tensor, "A B c"] | None = None,
    d_g: Float[Tensor, "A B c"] | None = None,
    norm_weight: Float[Tensor, " c"] | None = None,
    norm_bias: Float[Tensor, " c"] | None = None,
    tile: Tile | None = None,
) -> tuple[Float[Tensor, "P c"], Any, Any]:
    """Launches `_backward_kernel`; returns y and the gradients of the norm, None without one."""
    n_a, n_b, c = x.shape
    tile = tile or _backward_tile(c, x.device)
    n_blocks = int(triton.cdiv(n_a * n_b, tile.pairs))
    n_programs = max(min(n_blocks, 512), n_blocks // _BLOCKS_EACH)
    y, sums = torch.empty_like(d_y), None
    if norm_weight is not None:
        sums = d_y.new_empty(2, n_programs, c, dtype=torch.float32)
    _backward_kernel[(n_programs,)](
        d_y, x, g, norm_weight, norm_bias, y, d_x, d_g,
        *((None, None) if sums is None else sums),
        *_strides(x), *_strides(g), *_strides(d_x), *_strides(d_g), n_a * n_b, n_b,
        C=c, PAIRS=tile.pairs, CHANNELS=_channels(c), STAGES=tile.stages, num_warps=tile.warps,
    )  # fmt: skip
    if norm_weight is None or norm_bias is None or sums is None:
        return y, None, None
    d_norm_weight, d_norm_bias = (total.sum(0) for total in sums)  # Not views of one tensor.
    return y, d_norm_weight.to(norm_weight.dtype), d_norm_bias.to(norm_bias.dtype)


def _roomy(device: torch.device) -> bool:
    """Whether there is the shared memory of data centre GPUs (A100, H100), not of desktop ones."""
    properties = torch.cuda.get_device_properties(device)
    return properties.shared_memory_per_block_optin >= 160 * 1024


def _forward_tile(
    c: int, dtype: torch.dtype, device: torch.device, *, linear: bool, gated: bool
) -> Tile:
    """Chosen for two programs to a multiprocessor, of which one computes while the other loads."""
    if device.type == "cpu":
        return Tile(pairs=16, columns=32, warps=4, stages=1)
    if not linear:
        return Tile(pairs=max(16, 8192 // _channels(c)), warps=8, stages=1)
    if dtype == torch.float32:
        return Tile(pairs=32, columns=32, warps=4, stages=1)
    if c <= 128:
        return Tile(pairs=128, columns=64, warps=8, stages=3)
    if not _roomy(device):
        return Tile(pairs=64, columns=32, warps=8, stages=2)
    # More pairs read the weights less often; those of a gated map are few.
    return Tile(pairs=64 if gated else 128, columns=64, warps=8, stages=2)


def _linear_tile(dtype: torch.dtype, device: torch.device) -> Tile:
    if device.type == "cpu":
        return Tile(pairs=32, columns=32, inner=32, warps=4, stages=1)
    if dtype == torch.float32:
        return Tile(pairs=32, columns=32, inner=32, warps=4, stages=2)
    if not _roomy(device):
        return Tile(pairs=128, columns=128, inner=32, warps=8, stages=3)
    return Tile(pairs=128, columns=256, inner=64, warps=8, stages=3)


def _backward_tile(c: int, device: torch.device) -> Tile:
    """One pair to a warp, or several where they have few channels: no warp waits for another."""
    if device.type == "cpu":
        return Tile(pairs=16, warps=4, stages=1)
    channels = _channels(c)
    return Tile(pairs=4 * max(1, 256 // channels), warps=4 if channels <= 512 else 8, stages=3)


def gate_cases() -> list[GateCase]:
    """What runs on an H200 in bf16, with the single precision of residual streams and sums."""
    bf16, fp32 = "*bf16", "*fp32"
    norm = dict.fromkeys(("norm_weight", "norm_bias"), fp32)
    heads = norm | {"weight_heads": bf16, "heads": bf16}
    last = {"weight": bf16, "out": bf16}
    gate, d_norm = {"g": bf16, "d_g": bf16}, {"d_" + name: kind for name, kind in norm.items()}
    back = norm | d_norm | {"d_y": bf16, "y": bf16}
    narrow = Tile(pairs=128, columns=64, warps=8, stages=3)
    wide = Tile(pairs=128, columns=64, warps=8, stages=2)
    gated = Tile(pairs=64, columns=64, warps=8, stages=2)
    rows = Tile(pairs=16, warps=8, stages=1)
    return [
        _case(_forward_kernel, 128, narrow, {"x": bf16, "mask": "*u8"} | heads | last),
        _case(_forward_kernel, 256, wide, {"x": fp32, "mask": "*u8"} | heads | last),
        _case(_forward_kernel, 128, narrow, {"x": bf16} | gate | last),
        _case(_forward_kernel, 128, narrow, {"x": fp32} | gate | norm | last),
        _case(_forward_kernel, 192, gated, {"x": fp32} | gate | norm | last),
        _case(_forward_kernel, 512, rows, {"x": bf16, "out": bf16} | heads),
        _case(_forward_kernel, 512, rows, {"x": fp32, "out": bf16} | gate | norm),
        _case(
            _linear_kernel, 512, Tile(pairs=128, columns=256, inner=64, warps=8, stages=3),
            {"y": bf16, "mask": "*u8"} | last,
        ),
        _case(_backward_kernel, 128, Tile(8, 4, 3), {"x": fp32, "d_x": fp32} | back),
        _case(_backward_kernel, 512, Tile(4, 4, 3), {"x": fp32, "d_x": bf16} | gate | back),
    ]  # fmt: skip


def _case(kernel: Any, c: int, tile: Tile, pointers: dict[str, str]) -> GateCase:
    """Other pointers are None; strides are multiples of 16, hence "i64"."""
    constants: dict[str, Any] = {
        "C": c, "N": 4 * c, "PAIRS": tile.pairs, "CHANNELS": _channels(c), "COLUMNS": tile.columns,
        "INNER": tile.inner, "STAGES": tile.stages, "HEADS": 16, "GROUP": 8,
    }  # fmt: skip
    counts = {"n_pairs", "n_b", "n_heads", "n_relu", "masked_from", "masked_to"}
    signature = {}
    for name in kernel.arg_names:
        if name in pointers:
            signature[name] = pointers[name]
        elif name in counts:
            signature[name] = "i32"
        elif name.endswith(("_a", "_b", "_h")):
            signature[name] = "i64"
        elif name.islower():
            constants[name] = None
    constants = {name: constants[name] for name in kernel.arg_names if name in constants}
    products = "weight" in pointers
    return GateCase(kernel, signature, constants, tile.warps, tile.stages, tensor_cores=products)
