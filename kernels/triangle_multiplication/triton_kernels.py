"""Triton kernels around the triangle product, and their launchers. AF3 SI, Algorithms 12 and 13.

The product itself is one matrix product per channel, by cuBLAS. Its operands a, b and its result x
are channel-major, [c, N, N + padding]: each row of tokens begins at a multiple of 16, so that it is
read and written in whole vectors whatever N is. Kernels count pairs in that padded order; padding
of a, b, x and the gradient of x is 0. Launchers take one example.
"""

# Launches take more than the arguments of a kernel.
# pyright: reportCallIssue=false

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.tiles import EPS, GateCase, MatrixTile, block_of, sigmoid

FUSED_CHANNELS = 256
"""Up to here a tile of normalised pairs stays on chip; beyond, the caller normalises."""
ALIGNMENT = 16


@triton.jit
@no_type_check
def _standardise(x, inside, C: tl.constexpr, axis: tl.constexpr):
    """Returns (x - mean) / deviation along the axis of channels, 0 outside, and 1 / deviation."""
    mean = tl.expand_dims(tl.sum(x, axis) / C, axis)
    centred = tl.where(inside, x - mean, 0.0)
    rstd = tl.expand_dims(tl.rsqrt(tl.sum(centred * centred, axis) / C + EPS), axis)
    return centred * rstd, rstd


@triton.jit
@no_type_check
def _vector(ptr, channel, C: tl.constexpr):
    return tl.load(ptr + channel, mask=channel < C, other=0.0).to(tl.float32)


@triton.jit
@no_type_check
def _normalised(
    z_ptr, offset, norm_weight_ptr, norm_bias_ptr, C: tl.constexpr, BLOCK_C: tl.constexpr
):
    """LN(z) of a tile [pairs, channels]."""
    channel = tl.arange(0, BLOCK_C)
    z = _columns(z_ptr, offset, channel, C, C == BLOCK_C)
    y, _ = _standardise(z.to(tl.float32), (channel < C)[None, :], C, 1)
    weight, bias = _vector(norm_weight_ptr, channel, C), _vector(norm_bias_ptr, channel, C)
    return y * weight[None, :] + bias[None, :]


@triton.jit
@no_type_check
def _existing(pair, n, n_rows, row_stride, stride_i, stride_j):
    """Where pairs begin; padding takes other pairs, so that loads need no mask and are faster."""
    i, j = tl.minimum(pair // row_stride, n_rows - 1), tl.minimum(pair % row_stride, n - 1)
    return i.to(tl.int64) * stride_i + j.to(tl.int64) * stride_j


@triton.jit
@no_type_check
def _columns(ptr, offset, column, N_COLUMNS: tl.constexpr, EVEN: tl.constexpr):
    """Columns of the rows that begin at `offset`."""
    at = ptr + offset[:, None] + column[None, :]
    if EVEN:
        return tl.load(at)
    return tl.load(at, mask=(column < N_COLUMNS)[None, :], other=0.0)


@triton.jit
@no_type_check
def _gated_products(
    y_ptr, weight_ptr, offset, channel, C: tl.constexpr, C_Z: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, GATE: tl.constexpr,
    EVEN: tl.constexpr,
):  # fmt: skip
    """A tile [channels, pairs] of W y and of W_gate y, `GATE` elements behind; y from memory."""
    p = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    g = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
    for start in tl.range(0, C_Z, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        y = _columns(y_ptr, offset, k, C_Z, EVEN)
        weight = block_of(weight_ptr, channel, k, C, C_Z, EVEN)
        weight_gate = block_of(weight_ptr + GATE, channel, k, C, C_Z, EVEN)
        p = tl.dot(weight, tl.trans(y), p, input_precision="ieee")
        g = tl.dot(weight_gate, tl.trans(y), g, input_precision="ieee")
    return p, g


@triton.jit
@no_type_check
def _finish_operand(
    p, g, operand_ptr, operand_stride, d_products_ptr, d_offset, pair, n_pairs, kept, valid,
    channel, C: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Writes a tile [channels, pairs] of an operand; `BACKWARD`: reads its gradient instead."""
    gate = sigmoid(g)
    at = operand_ptr + channel.to(tl.int64)[:, None] * operand_stride + pair[None, :]
    inside = (channel < C)[:, None] & (pair < n_pairs)[None, :]
    if BACKWARD:
        # Not masked by `kept`, which would break up the vectors.
        d = tl.load(at, mask=inside, other=0.0).to(tl.float32)
        d = tl.where(kept[None, :], d, 0.0) * gate
        d_gate = d * p * (1.0 - gate)
        at = d_products_ptr + d_offset[None, :] + channel[:, None]
        inside = (channel < C)[:, None] & valid[None, :]
        tl.store(at, d.to(d_products_ptr.dtype.element_ty), mask=inside)
        tl.store(at + 2 * C, d_gate.to(d_products_ptr.dtype.element_ty), mask=inside)
    else:
        value = tl.where(kept[None, :], p * gate, 0.0)
        tl.store(at, value.to(operand_ptr.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _operands(
    z_ptr,
    mask_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    weight_ptr,
    a_ptr,
    b_ptr,
    d_products_ptr,
    n,
    n_rows,
    row_stride,
    z_stride_i,
    z_stride_j,
    mask_stride_i,
    mask_stride_j,
    operand_stride,
    C: tl.constexpr,
    C_Z: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    FUSED: tl.constexpr,
    BACKWARD: tl.constexpr,
):
    """Operands mask * sigmoid(W_gate y) * (W y) of y = LN(z), or the gradients of the products.

    `weight` holds the rows of W for a and b, then those of W_gate. `FUSED`: a program has a tile of
    pairs and all channels; otherwise a tile of both, and `z` is already normalised.
    """
    dtype = weight_ptr.dtype.element_ty
    TILES: tl.constexpr = (C + BLOCK_N - 1) // BLOCK_N  # Of one operand.
    EVEN: tl.constexpr = C % BLOCK_N == 0 and C_Z % BLOCK_K == 0
    GATE: tl.constexpr = 2 * C * C_Z
    tile = tl.program_id(0) if FUSED else tl.program_id(0) // (2 * TILES)
    n_pairs = n_rows * row_stride
    pair = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    i, j = (pair // row_stride).to(tl.int64), (pair % row_stride).to(tl.int64)
    valid = (pair < n_pairs) & (j < n)
    kept = tl.load(mask_ptr + i * mask_stride_i + j * mask_stride_j, mask=valid, other=0) != 0
    offset = _existing(pair, n, n_rows, row_stride, z_stride_i, z_stride_j)
    d_offset = (i * n + j) * (4 * C + C_Z)
    if FUSED:
        y = _normalised(z_ptr, offset, norm_weight_ptr, norm_bias_ptr, C_Z, BLOCK_K)
        y = tl.trans(y.to(dtype))
        k = tl.arange(0, BLOCK_K)
        for t in tl.range(0, 2 * TILES):
            is_b = t // TILES
            channel = t % TILES * BLOCK_N + tl.arange(0, BLOCK_N)
            block_ptr = weight_ptr + is_b * C * C_Z
            weight = block_of(block_ptr, channel, k, C, C_Z, EVEN)
            weight_gate = block_of(block_ptr + GATE, channel, k, C, C_Z, EVEN)
            p = tl.dot(weight, y, input_precision="ieee")
            g = tl.dot(weight_gate, y, input_precision="ieee")
            operand_ptr = tl.where(is_b == 0, a_ptr, b_ptr)
            _finish_operand(
                p, g, operand_ptr, operand_stride, d_products_ptr + is_b * C, d_offset, pair,
                n_pairs, kept, valid, channel, C, BACKWARD,
            )  # fmt: skip
    else:
        t = tl.program_id(0) % (2 * TILES)
        is_b = t // TILES
        channel = t % TILES * BLOCK_N + tl.arange(0, BLOCK_N)
        p, g = _gated_products(
            z_ptr, weight_ptr + is_b * C * C_Z, offset, channel, C, C_Z,
            BLOCK_M, BLOCK_N, BLOCK_K, GATE, EVEN,
        )  # fmt: skip
        operand_ptr = tl.where(is_b == 0, a_ptr, b_ptr)
        _finish_operand(
            p, g, operand_ptr, operand_stride, d_products_ptr + is_b * C, d_offset, pair,
            n_pairs, kept, valid, channel, C, BACKWARD,
        )  # fmt: skip


@triton.jit
@no_type_check
def _finish_output(
    p, g, out_ptr, out_offset, d_product_ptr, d_gate_ptr, d_gate_offset, pair, n_pairs, valid,
    channel, C_Z: tl.constexpr, BACKWARD: tl.constexpr,
):  # fmt: skip
    """Writes a tile [channels, pairs] of the output; `BACKWARD`: reads its gradient instead."""
    gate = sigmoid(g)
    at = out_ptr + out_offset[None, :] + channel[:, None]
    real = (channel < C_Z)[:, None] & valid[None, :]
    if BACKWARD:
        d = tl.load(at, mask=real, other=0.0).to(tl.float32) * gate
        d_gate = d * p * (1.0 - gate)
        at = d_gate_ptr + d_gate_offset[None, :] + channel[:, None]
        tl.store(at, d_gate.to(d_gate_ptr.dtype.element_ty), mask=real)
        at = d_product_ptr + pair.to(tl.int64)[None, :] * C_Z + channel[:, None]
        inside = (channel < C_Z)[:, None] & (pair < n_pairs)[None, :]
        tl.store(at, d.to(d_product_ptr.dtype.element_ty), mask=inside)
    else:
        tl.store(at, (p * gate).to(out_ptr.dtype.element_ty), mask=real)


@triton.jit
@no_type_check
def _output(
    x_ptr,
    z_ptr,
    norm_out_weight_ptr,
    norm_out_bias_ptr,
    norm_in_weight_ptr,
    norm_in_bias_ptr,
    weight_out_ptr,
    weight_gate_ptr,
    out_ptr,
    d_product_ptr,
    d_gate_ptr,
    n,
    n_rows,
    row_stride,
    x_stride,
    z_stride_i,
    z_stride_j,
    out_stride_i,
    out_stride_j,
    C: tl.constexpr,
    C_Z: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_K: tl.constexpr,
    FUSED: tl.constexpr,
    BACKWARD: tl.constexpr,
):
    """sigmoid(W_gate y) * W_out LN(x) of y = LN(z), or the gradients of both matrix products.

    `BACKWARD`: `out` holds the gradient of the output. `FUSED`: a program has a tile of pairs and
    all channels; otherwise a tile of both, and `x` and `z` are already normalised.
    """
    dtype = weight_out_ptr.dtype.element_ty
    TILES: tl.constexpr = (C_Z + BLOCK_N - 1) // BLOCK_N
    EVEN: tl.constexpr = C_Z % BLOCK_N == 0 and C % BLOCK_C == 0 and C_Z % BLOCK_K == 0
    tile = tl.program_id(0) if FUSED else tl.program_id(0) // TILES
    n_pairs = n_rows * row_stride
    pair = tile * BLOCK_M + tl.arange(0, BLOCK_M)
    i, j = (pair // row_stride).to(tl.int64), (pair % row_stride).to(tl.int64)
    valid = (pair < n_pairs) & (j < n)
    offset = _existing(pair, n, n_rows, row_stride, z_stride_i, z_stride_j)
    out_offset = i * out_stride_i + j * out_stride_j
    d_gate_offset = (i * n + j) * C_Z
    if FUSED:
        c, k = tl.arange(0, BLOCK_C), tl.arange(0, BLOCK_K)
        inside = (c < C)[:, None] & (pair < n_pairs)[None, :]
        at = x_ptr + c.to(tl.int64)[:, None] * x_stride + pair[None, :]
        x, _ = _standardise(tl.load(at, mask=inside, other=0.0).to(tl.float32), inside, C, 0)
        weight = _vector(norm_out_weight_ptr, c, C)
        x = (x * weight[:, None] + _vector(norm_out_bias_ptr, c, C)[:, None]).to(dtype)
        y = _normalised(z_ptr, offset, norm_in_weight_ptr, norm_in_bias_ptr, C_Z, BLOCK_K)
        y = tl.trans(y.to(dtype))
        for t in tl.range(0, TILES):
            channel = t * BLOCK_N + tl.arange(0, BLOCK_N)
            weight_out = block_of(weight_out_ptr, channel, c, C_Z, C, EVEN)
            weight_gate = block_of(weight_gate_ptr, channel, k, C_Z, C_Z, EVEN)
            p = tl.dot(weight_out, x, input_precision="ieee")
            g = tl.dot(weight_gate, y, input_precision="ieee")
            _finish_output(
                p, g, out_ptr, out_offset, d_product_ptr, d_gate_ptr, d_gate_offset, pair,
                n_pairs, valid, channel, C_Z, BACKWARD,
            )  # fmt: skip
    else:
        channel = tl.program_id(0) % TILES * BLOCK_N + tl.arange(0, BLOCK_N)
        p = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        for start in tl.range(0, C, BLOCK_C):
            c = start + tl.arange(0, BLOCK_C)
            inside = (c < C)[:, None] & (pair < n_pairs)[None, :]
            at = x_ptr + c.to(tl.int64)[:, None] * x_stride + pair[None, :]
            x = tl.load(at, mask=inside, other=0.0)
            weight_out = block_of(weight_out_ptr, channel, c, C_Z, C, EVEN)
            p = tl.dot(weight_out, x, p, input_precision="ieee")
        g = tl.zeros([BLOCK_N, BLOCK_M], tl.float32)
        for start in tl.range(0, C_Z, BLOCK_K):
            k = start + tl.arange(0, BLOCK_K)
            y = _columns(z_ptr, offset, k, C_Z, EVEN)
            weight_gate = block_of(weight_gate_ptr, channel, k, C_Z, C_Z, EVEN)
            g = tl.dot(weight_gate, tl.trans(y), g, input_precision="ieee")
        _finish_output(
            p, g, out_ptr, out_offset, d_product_ptr, d_gate_ptr, d_gate_offset, pair,
            n_pairs, valid, channel, C_Z, BACKWARD,
        )  # fmt: skip


@triton.jit
@no_type_check
def _channel_norm(
    x_ptr,
    weight_ptr,
    bias_ptr,
    y_ptr,
    d_y_ptr,
    d_x_ptr,
    partial_ptr,
    n,
    n_rows,
    row_stride,
    x_stride,
    d_x_stride,
    C: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BACKWARD: tl.constexpr,
):
    """y = LN(x) over the channels of channel-major `x`; `BACKWARD`: and d_x, of d_y.

    All have 0 as padding. `partial`: per program the gradients of weight and bias.
    """
    n_pairs = n_rows * row_stride
    pair = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    channel = tl.arange(0, BLOCK_C)
    inside = (channel < C)[:, None] & (pair < n_pairs)[None, :]
    real = (channel < C)[:, None] & ((pair < n_pairs) & (pair % row_stride < n))[None, :]
    row, column = channel.to(tl.int64)[:, None], pair[None, :]
    # Not masked by `real`, which would break up the vectors.
    x = tl.load(x_ptr + row * x_stride + column, mask=inside, other=0.0).to(tl.float32)
    x, rstd = _standardise(tl.where(real, x, 0.0), real, C, 0)
    weight = _vector(weight_ptr, channel, C)[:, None]
    y = tl.where(real, x * weight + _vector(bias_ptr, channel, C)[:, None], 0.0)
    at = row * n_pairs + column
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)
    if BACKWARD:
        d_y = tl.load(d_y_ptr + at, mask=inside, other=0.0).to(tl.float32)
        partial_at = partial_ptr + tl.program_id(0).to(tl.int64) * (2 * C) + channel
        tl.store(partial_at, tl.sum(d_y * x, 1), mask=channel < C)
        tl.store(partial_at + C, tl.sum(d_y, 1), mask=channel < C)
        d = d_y * weight
        d = d - tl.sum(d, 0)[None, :] / C - x * (tl.sum(d * x, 0)[None, :] / C)
        d = tl.where(real, d * rstd, 0.0).to(d_x_ptr.dtype.element_ty)
        tl.store(d_x_ptr + row * d_x_stride + column, d, mask=inside)


# The fastest on an H200 in bf16 (scripts/benchmark_kernels.py), of up to 128 channels and of more
# than fit on chip.
OPERANDS_TILE = MatrixTile(128, 64, 0, 8, 2)
OUTPUT_TILE = MatrixTile(128, 64, 0, 8, 2)
WIDE_TILE = MatrixTile(256, 64, 64, 8, 3)
WIDE_BACKWARD_TILE = MatrixTile(256, 64, 64, 8, 3)


def operands_tile(
    c_z: int, dtype: torch.dtype, device: torch.device, *, backward: bool
) -> MatrixTile:
    """The tile of `operands` and `operands_backward`; `k` is 0 where all of c_z is on chip."""
    if c_z > FUSED_CHANNELS:
        return _tile_from_memory(dtype, device, backward=backward)
    if device.type == "cpu" or dtype == torch.float32:
        return MatrixTile(32, 32, 0, 4, 1)
    return OPERANDS_TILE if c_z <= 128 else MatrixTile(64, 64, 0, 8, 2)


def output_tile(
    c: int, c_z: int, dtype: torch.dtype, device: torch.device, *, backward: bool
) -> MatrixTile:
    """The tile of `output` and `output_backward`; `k` is 0 where all channels are on chip."""
    if max(c, c_z) > FUSED_CHANNELS:
        return _tile_from_memory(dtype, device, backward=backward)
    if device.type == "cpu" or dtype == torch.float32:
        return MatrixTile(32, 32, 0, 4, 1)
    return OUTPUT_TILE if max(c, c_z) <= 128 else MatrixTile(64, 64, 0, 8, 2)


def _tile_from_memory(dtype: torch.dtype, device: torch.device, *, backward: bool) -> MatrixTile:
    if device.type == "cpu" or dtype == torch.float32:
        return MatrixTile(64, 64, 32, 4, 1)
    if torch.cuda.get_device_capability(device) != (9, 0):
        return MatrixTile(128, 64, 64, 8, 4)
    # Hopper keeps its operands in shared memory, so that two large accumulators fit.
    return WIDE_BACKWARD_TILE if backward else WIDE_TILE


def norm_tile(c: int, device: torch.device, *, backward: bool) -> MatrixTile:
    """The tile of `channel_norm` and `channel_norm_backward`: the channels are all in it."""
    if device.type == "cpu":
        return MatrixTile(max(16, 1024 // _channels(c)), 0, 0, 8, 1)
    if not backward:
        return MatrixTile(max(16, 16384 // _channels(c)), 0, 0, 8, 1)
    # At least 32 pairs, 64 bytes in a row of memory.
    return MatrixTile(max(32, 8192 // _channels(c)), 0, 0, 8 if c <= 256 else 16, 1)


def padded(n):  # Not always an int: a symbol while torch.compile traces.
    """The padded length of a row of `n` tokens."""
    return (n + ALIGNMENT - 1) // ALIGNMENT * ALIGNMENT


def operands(
    z: Float[Tensor, "R N c_z"],
    mask: Bool[Tensor, "R N"],
    norm_weight: Float[Tensor, " c_z"],
    norm_bias: Float[Tensor, " c_z"],
    weight: Float[Tensor, "_ c_z"],
    a: Float[Tensor, "c R _"],
    b: Float[Tensor, "c R _"],
    tile: MatrixTile | None = None,
) -> None:
    """Writes the operands of rows of pairs to `a` and `b`, views with padded rows.

    `weight`, contiguous, begins with the rows for a, b, the gate of a and that of b. More than
    `FUSED_CHANNELS` channels must be normalised already.
    """
    _launch_operands(z, mask, norm_weight, norm_bias, weight, a, b, None, tile)


def operands_backward(
    z: Float[Tensor, "R N c_z"],
    mask: Bool[Tensor, "R N"],
    norm_weight: Float[Tensor, " c_z"],
    norm_bias: Float[Tensor, " c_z"],
    weight: Float[Tensor, "_ c_z"],
    d_a: Float[Tensor, "c R _"],
    d_b: Float[Tensor, "c R _"],
    d_products: Float[Tensor, "R N _"],
    tile: MatrixTile | None = None,
) -> None:
    """Writes the gradients of the four matrix products, in the order of `weight`.

    `d_products` is contiguous, with 4c + c_z channels, the last of which are left alone.
    """
    _launch_operands(z, mask, norm_weight, norm_bias, weight, d_a, d_b, d_products, tile)


def _launch_operands(
    z: Tensor,
    mask: Tensor,
    norm_weight: Tensor,
    norm_bias: Tensor,
    weight: Tensor,
    a: Tensor,
    b: Tensor,
    d_products: Tensor | None,
    tile: MatrixTile | None,
) -> None:
    (n_rows, n, c_z), (c, _, n_padded) = z.shape, a.shape
    backward = d_products is not None
    tile = tile or operands_tile(c_z, a.dtype, z.device, backward=backward)
    fused = not tile.k
    n_tiles = triton.cdiv(n_rows * n_padded, tile.m) * (1 if fused else 2 * triton.cdiv(c, tile.n))
    _operands[(n_tiles,)](
        z,
        mask,
        norm_weight,
        norm_bias,
        weight,
        a,
        b,
        d_products if backward else a,  # Unused.
        n,
        n_rows,
        n_padded,
        *z.stride()[:2],
        *mask.stride(),
        a.stride(0),
        C=c,
        C_Z=c_z,
        BLOCK_M=tile.m,
        BLOCK_N=tile.n,
        BLOCK_K=tile.k or _channels(c_z),
        FUSED=fused,
        BACKWARD=backward,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def output(
    x: Float[Tensor, "c R _"],
    z: Float[Tensor, "R N c_z"],
    norm_out: tuple[Float[Tensor, " c"], Float[Tensor, " c"]],
    norm_in: tuple[Float[Tensor, " c_z"], Float[Tensor, " c_z"]],
    weight_out: Float[Tensor, "c_z c"],
    weight_gate: Float[Tensor, "c_z c_z"],
    out: Float[Tensor, "R N c_z"],
    tile: MatrixTile | None = None,
) -> None:
    """Writes sigmoid(W_gate LN(z)) * W_out LN(x) to `out`, of any strides between pairs.

    Norms are given as weight and bias; where channels are more than `FUSED_CHANNELS`, `x` and `z`
    must be normalised already.
    """
    _launch_output(x, z, norm_out, norm_in, weight_out, weight_gate, out, None, None, tile)


def output_backward(
    x: Float[Tensor, "c R _"],
    z: Float[Tensor, "R N c_z"],
    norm_out: tuple[Float[Tensor, " c"], Float[Tensor, " c"]],
    norm_in: tuple[Float[Tensor, " c_z"], Float[Tensor, " c_z"]],
    weight_out: Float[Tensor, "c_z c"],
    weight_gate: Float[Tensor, "c_z c_z"],
    d_out: Float[Tensor, "R N c_z"],
    d_gate: Float[Tensor, "R N c_z"],
    tile: MatrixTile | None = None,
) -> Float[Tensor, "R _ c_z"]:
    """Returns the gradient of W_out LN(x), rows padded with 0; writes that of W_gate LN(z).

    `d_gate` is contiguous.
    """
    d_product = d_gate.new_empty(*x.shape[1:], len(weight_out))
    _launch_output(x, z, norm_out, norm_in, weight_out, weight_gate, d_out, d_product, d_gate, tile)
    return d_product


def _launch_output(
    x: Tensor,
    z: Tensor,
    norm_out: tuple[Tensor, Tensor],
    norm_in: tuple[Tensor, Tensor],
    weight_out: Tensor,
    weight_gate: Tensor,
    out: Tensor,
    d_product: Tensor | None,
    d_gate: Tensor | None,
    tile: MatrixTile | None,
) -> None:
    (c, n_rows, n_padded), (_, n, c_z) = x.shape, z.shape
    backward = d_gate is not None
    tile = tile or output_tile(c, c_z, x.dtype, z.device, backward=backward)
    fused = not tile.k
    n_tiles = triton.cdiv(n_rows * n_padded, tile.m) * (1 if fused else triton.cdiv(c_z, tile.n))
    _output[(n_tiles,)](
        x,
        z,
        *norm_out,
        *norm_in,
        weight_out,
        weight_gate,
        out,
        d_product if backward else out,  # Unused, as the next.
        d_gate if backward else out,
        n,
        n_rows,
        n_padded,
        x.stride(0),
        *z.stride()[:2],
        *out.stride()[:2],
        C=c,
        C_Z=c_z,
        BLOCK_M=tile.m,
        BLOCK_N=tile.n,
        BLOCK_C=tile.k or _channels(c),
        BLOCK_K=tile.k or _channels(c_z),
        FUSED=fused,
        BACKWARD=backward,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def channel_norm(
    x: Float[Tensor, "c R N_padded"],
    weight: Float[Tensor, " c"],
    bias: Float[Tensor, " c"],
    n: int,
    tile: MatrixTile | None = None,
) -> Float[Tensor, "c R N_padded"]:
    """Returns LN(x) over the channels, contiguous; the padding, from token `n` on, is 0."""
    return _launch_norm(x, weight, bias, n, None, None, tile)[0]


def channel_norm_backward(
    x: Float[Tensor, "c R N_padded"],
    weight: Float[Tensor, " c"],
    bias: Float[Tensor, " c"],
    n: int,
    d_y: Float[Tensor, "c R*N_padded"],
    d_x: Float[Tensor, "c R N_padded"],
    tile: MatrixTile | None = None,
) -> tuple[Float[Tensor, "c R N_padded"], Float[Tensor, " c"], Float[Tensor, " c"]]:
    """Returns what `channel_norm` returns and the gradients of weight and bias; writes `d_x`."""
    y, partial = _launch_norm(x, weight, bias, n, d_y, d_x, tile)
    d_weight, d_bias = partial.sum(0).chunk(2)
    return y, d_weight, d_bias


def _launch_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    n: int,
    d_y: Tensor | None,
    d_x: Tensor | None,
    tile: MatrixTile | None,
) -> tuple[Tensor, Tensor]:
    (c, n_rows, n_padded), backward = x.shape, d_x is not None
    tile = tile or norm_tile(c, x.device, backward=backward)
    n_tiles = triton.cdiv(n_rows * n_padded, tile.m)
    y = x.new_empty(x.shape)
    partial = torch.empty((int(n_tiles) if backward else 0, 2 * c), device=x.device)
    _channel_norm[(n_tiles,)](
        x,
        weight,
        bias,
        y,
        d_y if backward else y,  # Unused, as the next.
        d_x if backward else y,
        partial,
        n,
        n_rows,
        n_padded,
        x.stride(0),
        d_x.stride(0) if d_x is not None else 0,
        C=c,
        BLOCK_C=_channels(c),
        BLOCK_M=tile.m,
        BACKWARD=backward,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    return y, partial


def _channels(c: int) -> int:
    """The channels of a tile that holds all `c` of them."""
    return max(16, 1 << (c - 1).bit_length())


def gate_cases() -> list[GateCase]:
    """Compilations of the common widths in bfloat16, forward and backward."""
    common = [
        case
        for c in (64, 128, 256, 512)
        for backward in (False, True)
        for case in _gate_cases(c, backward)
    ]
    hopper = [*_gate_cases(512, False, WIDE_TILE)[:2], *_gate_cases(512, True, WIDE_BACKWARD_TILE)]
    return common + [case._replace(targets=(90,), max_local=16) for case in hopper]


def _gate_cases(c: int, backward: bool, wide: MatrixTile | None = None) -> list[GateCase]:
    device, dtype = torch.device("cuda"), torch.bfloat16
    if c > FUSED_CHANNELS:
        first = last = wide or MatrixTile(128, 64, 64, 8, 4)
    else:
        first = operands_tile(c, dtype, device, backward=backward)
        last = output_tile(c, c, dtype, device, backward=backward)
    norm, flags = norm_tile(c, device, backward=backward), {"C": c, "BACKWARD": backward}
    gemm = {**flags, "C_Z": c, "FUSED": not first.k}
    blocks = {"BLOCK_M": first.m, "BLOCK_N": first.n, "BLOCK_K": first.k or c}
    output_blocks = {"BLOCK_M": last.m, "BLOCK_N": last.n, "BLOCK_K": last.k or c}
    output_blocks["BLOCK_C"] = last.k or c
    norm_blocks = {"BLOCK_M": norm.m, "BLOCK_C": c}
    return [
        GateCase(_operands, _types(_operands), gemm | blocks, first.warps, first.stages),
        GateCase(_output, _types(_output), gemm | output_blocks, last.warps, last.stages),
        GateCase(
            _channel_norm,
            _types(_channel_norm),
            flags | norm_blocks,
            norm.warps,
            norm.stages,
            tensor_cores=False,
        ),
    ]


def _types(kernel: Any) -> dict[str, str]:
    """The types of run-time arguments, which are those in lower case."""
    single = "norm", "partial", "bias"

    def kind(name: str) -> str:
        if not name.endswith("_ptr"):
            return "i32"
        if name == "mask_ptr":
            return "*i1"
        return "*fp32" if any(word in name for word in single) else "*bf16"

    return {name: kind(name) for name in kernel.arg_names if name.islower()}
