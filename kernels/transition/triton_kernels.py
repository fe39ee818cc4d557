"""Triton kernels of the transition, and their launchers. Source: AF3 SI, Algorithm 11.

The hidden activations silu(W_a y) * W_b y of y = LN(x) come from two matrix products over the same
rows, which share a tile of y and keep one accumulator each.
"""

# Launches take more than the arguments of a kernel.
# pyright: reportCallIssue=false

from typing import no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from seedfold.kernels.tiles import EPS, GateCase, MatrixTile, block_of, sigmoid

FUSED_CHANNELS = 128
"""Up to here `fused_transition` is used. With 256 a tile of normalised rows and one of the output
still fit together on chip, but leave no room for tiles that keep the tensor cores busy."""


@triton.jit
@no_type_check
def _norm(x, channel, weight_ptr, bias_ptr, C: tl.constexpr):
    """LayerNorm of a tile [rows, channels], zero in channels from `C` on."""
    inside = channel < C
    mean = tl.sum(x, axis=1) / C
    centred = tl.where(inside[None, :], x - mean[:, None], 0.0)
    scale = tl.rsqrt(tl.sum(centred * centred, axis=1) / C + EPS)
    weight = tl.load(weight_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    return centred * scale[:, None] * weight[None, :] + bias[None, :]


@triton.jit
@no_type_check
def _transition(
    x_ptr,
    norm_weight_ptr,
    norm_bias_ptr,
    weight_a_ptr,
    weight_b_ptr,
    weight_out_ptr,
    out_ptr,
    n_rows,
    n_inner,
    x_stride_a,
    x_stride_b,
    out_stride_a,
    out_stride_b,
    C: tl.constexpr,
    N: tl.constexpr,
    BLOCK_C: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
):
    """W_out (silu(W_a y) * W_b y) of y = LN(x), for a tile of rows; the hidden stay on chip."""
    dtype = weight_a_ptr.dtype.element_ty
    EVEN: tl.constexpr = C == BLOCK_C and N % BLOCK_N == 0
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    a, b = (row // n_inner).to(tl.int64), (row % n_inner).to(tl.int64)
    channel = tl.arange(0, BLOCK_C)
    valid = (row < n_rows)[:, None] & (channel < C)[None, :]
    x_offset = (a * x_stride_a + b * x_stride_b)[:, None] + channel[None, :]
    x = tl.load(x_ptr + x_offset, mask=valid, other=0.0).to(tl.float32)
    y = _norm(x, channel, norm_weight_ptr, norm_bias_ptr, C).to(dtype)
    out = tl.zeros([BLOCK_M, BLOCK_C], tl.float32)
    for start in tl.range(0, N, BLOCK_N):
        hidden = start + tl.arange(0, BLOCK_N)
        weight_a = block_of(weight_a_ptr, hidden, channel, N, C, EVEN)
        weight_b = block_of(weight_b_ptr, hidden, channel, N, C, EVEN)
        p = tl.dot(y, tl.trans(weight_a), input_precision="ieee")
        q = tl.dot(y, tl.trans(weight_b), input_precision="ieee")
        h = (p * sigmoid(p) * q).to(dtype)
        weight_out = block_of(weight_out_ptr, channel, hidden, C, N, EVEN)
        out = tl.dot(h, tl.trans(weight_out), out, input_precision="ieee")
    out_offset = (a * out_stride_a + b * out_stride_b)[:, None] + channel[None, :]
    tl.store(out_ptr + out_offset, out.to(dtype), mask=valid)


@triton.jit
@no_type_check
def _swiglu(
    y_ptr,
    weight_a_ptr,
    weight_b_ptr,
    d_hidden_ptr,
    hidden_ptr,
    d_products_ptr,
    n_rows,
    C: tl.constexpr,
    N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
    BACKWARD: tl.constexpr,
):
    """A tile of h = silu(p) * q, p = W_a y and q = W_b y; `BACKWARD` also the gradients of p, q."""
    dtype = weight_a_ptr.dtype.element_ty
    EVEN: tl.constexpr = C % BLOCK_K == 0 and N % BLOCK_N == 0
    N_TILES: tl.constexpr = (N + BLOCK_N - 1) // BLOCK_N
    row = tl.program_id(0) // N_TILES * BLOCK_M + tl.arange(0, BLOCK_M)
    hidden = tl.program_id(0) % N_TILES * BLOCK_N + tl.arange(0, BLOCK_N)
    row_offset = row.to(tl.int64)[:, None]
    y_offset = tl.minimum(row, n_rows - 1).to(tl.int64)[:, None] * C  # No mask, so faster.
    p = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    q = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in tl.range(0, C, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        if EVEN:
            y = tl.load(y_ptr + y_offset + k[None, :])
        else:
            y = tl.load(y_ptr + y_offset + k[None, :], mask=(k < C)[None, :], other=0.0)
        weight_a = block_of(weight_a_ptr, hidden, k, N, C, EVEN)
        weight_b = block_of(weight_b_ptr, hidden, k, N, C, EVEN)
        p = tl.dot(y, tl.trans(weight_a), p, input_precision="ieee")
        q = tl.dot(y, tl.trans(weight_b), q, input_precision="ieee")
    inside = (row < n_rows)[:, None] & (hidden < N)[None, :]
    offset = row_offset * N + hidden[None, :]
    gate = sigmoid(p)
    tl.store(hidden_ptr + offset, (p * gate * q).to(dtype), mask=inside)
    if BACKWARD:
        d = tl.load(d_hidden_ptr + offset, mask=inside, other=0.0).to(tl.float32)
        d_p = d * q * gate * (1.0 + p * (1.0 - gate))
        offset = row_offset * (2 * N) + hidden[None, :]
        tl.store(d_products_ptr + offset, d_p.to(dtype), mask=inside)
        tl.store(d_products_ptr + offset + N, (d * p * gate).to(dtype), mask=inside)


# The fastest on an H200 in bf16 (scripts/benchmark_kernels.py).
FUSED_TILE = MatrixTile(64, 64, 0, 4, 2)
NARROW_TILE = MatrixTile(128, 64, 128, 8, 2)
WIDE_TILE = MatrixTile(128, 128, 64, 8, 3)
WIDE_BACKWARD_TILE = MatrixTile(128, 128, 64, 8, 3)


def fused_tile(c: int, dtype: torch.dtype, device: torch.device) -> MatrixTile:
    """The tile of `fused_transition`."""
    if device.type == "cpu" or dtype == torch.float32:
        return MatrixTile(32, 32, 0, 4, 1)
    if c <= 64:
        return MatrixTile(128, 64, 0, 8, 3)
    return FUSED_TILE if c <= 128 else MatrixTile(64, 64, 0, 8, 2)


def swiglu_tile(
    rows: int, c: int, dtype: torch.dtype, device: torch.device, *, backward: bool
) -> MatrixTile:
    """The tile of `swiglu` and `swiglu_backward`."""
    if device.type == "cpu" or dtype == torch.float32:
        return MatrixTile(32, 32, 32, 4, 1)
    if rows <= 4096:  # Enough programs for all multiprocessors.
        return MatrixTile(64, 64, 64, 4, 4)
    if torch.cuda.get_device_capability(device) != (9, 0):
        return MatrixTile(128, 64, 64, 8, 4)
    # Hopper keeps its operands in shared memory, so that two large accumulators fit.
    if c <= 128:
        return NARROW_TILE
    return WIDE_BACKWARD_TILE if backward else WIDE_TILE


def fused_transition(
    x: Float[Tensor, "A B c"],
    norm_weight: Float[Tensor, " c"],
    norm_bias: Float[Tensor, " c"],
    weight_a: Float[Tensor, "c_hidden c"],
    weight_b: Float[Tensor, "c_hidden c"],
    weight_out: Float[Tensor, "c c_hidden"],
    out: Float[Tensor, "A B c"],
    tile: MatrixTile | None = None,
) -> None:
    """Writes the whole transition of `x`, of at most `FUSED_CHANNELS` channels, to `out`.

    Weights are contiguous, the channels of `x` and `out` too; their rows may be anywhere.
    """
    (c_hidden, c), (n_rows, n_inner) = weight_a.shape, (x[..., 0].numel(), x.shape[1])
    tile = tile or fused_tile(c, out.dtype, x.device)
    _transition[(triton.cdiv(n_rows, tile.m),)](
        x,
        norm_weight,
        norm_bias,
        weight_a,
        weight_b,
        weight_out,
        out,
        n_rows,
        n_inner,
        *x.stride()[:2],
        *out.stride()[:2],
        C=c,
        N=c_hidden,
        BLOCK_C=max(16, 1 << (c - 1).bit_length()),
        BLOCK_M=tile.m,
        BLOCK_N=tile.n,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def swiglu(
    y: Float[Tensor, "M c"],
    weight_a: Float[Tensor, "c_hidden c"],
    weight_b: Float[Tensor, "c_hidden c"],
    tile: MatrixTile | None = None,
) -> Float[Tensor, "M c_hidden"]:
    """Returns silu(W_a y) * W_b y; all tensors are contiguous."""
    hidden = y.new_empty(len(y), len(weight_a))
    _launch_swiglu(y, weight_a, weight_b, None, hidden, None, tile)
    return hidden


def swiglu_backward(
    y: Float[Tensor, "M c"],
    weight_a: Float[Tensor, "c_hidden c"],
    weight_b: Float[Tensor, "c_hidden c"],
    d_hidden: Float[Tensor, "M c_hidden"],
    tile: MatrixTile | None = None,
) -> tuple[Float[Tensor, "M c_hidden"], Float[Tensor, "M 2*c_hidden"]]:
    """Returns what `swiglu` returns, and the gradients of W_a y and W_b y side by side."""
    hidden = torch.empty_like(d_hidden)
    d_products = y.new_empty(len(y), 2 * len(weight_a))
    _launch_swiglu(y, weight_a, weight_b, d_hidden, hidden, d_products, tile)
    return hidden, d_products


def _launch_swiglu(
    y: Tensor,
    weight_a: Tensor,
    weight_b: Tensor,
    d_hidden: Tensor | None,
    hidden: Tensor,
    d_products: Tensor | None,
    tile: MatrixTile | None,
) -> None:
    (n_rows, c), c_hidden, backward = y.shape, len(weight_a), d_hidden is not None
    tile = tile or swiglu_tile(n_rows, c, y.dtype, y.device, backward=backward)
    _swiglu[(triton.cdiv(n_rows, tile.m) * triton.cdiv(c_hidden, tile.n),)](
        y,
        weight_a,
        weight_b,
        d_hidden,
        hidden,
        d_products,
        n_rows,
        C=c,
        N=c_hidden,
        BLOCK_M=tile.m,
        BLOCK_N=tile.n,
        BLOCK_K=tile.k,
        BACKWARD=backward,
        num_warps=tile.warps,
        num_stages=tile.stages,
    )


def gate_cases() -> list[GateCase]:
    """Compilations of the common widths in bfloat16."""
    rows = {"n_rows": "i32", "n_inner": "i32"}
    weights = dict.fromkeys(["norm_weight_ptr", "norm_bias_ptr"], "*fp32")
    matrices = dict.fromkeys(["weight_a_ptr", "weight_b_ptr", "weight_out_ptr"], "*bf16")
    strides = dict.fromkeys(["x_stride_a", "x_stride_b", "out_stride_a", "out_stride_b"], "i32")
    fused = {"x_ptr": "*bf16", **weights, **matrices, "out_ptr": "*bf16", **rows, **strides}
    cases = []
    for c in (64, 128):
        tile = fused_tile(c, torch.bfloat16, torch.device("cuda"))
        sizes = {"C": c, "N": 4 * c, "BLOCK_C": c, "BLOCK_M": tile.m, "BLOCK_N": tile.n}
        spilled = {"max_local": 24 if c == 128 else 0}
        cases.append(GateCase(_transition, fused, sizes, tile.warps, tile.stages, **spilled))
    pointers = ["y_ptr", "weight_a_ptr", "weight_b_ptr", "d_hidden_ptr", "hidden_ptr"]
    tiled = {**dict.fromkeys([*pointers, "d_products_ptr"], "*bf16"), "n_rows": "i32"}
    for tile in (MatrixTile(64, 64, 64, 4, 4), MatrixTile(128, 64, 64, 8, 4)):
        for backward in (False, True):
            sizes = {"BLOCK_M": tile.m, "BLOCK_N": tile.n, "BLOCK_K": tile.k}
            sizes |= {"C": 512, "N": 2048, "BACKWARD": backward}
            cases.append(GateCase(_swiglu, tiled, sizes, tile.warps, tile.stages))
    hopper = ((NARROW_TILE, 128, True), (WIDE_TILE, 512, False), (WIDE_BACKWARD_TILE, 512, True))
    for tile, c, backward in hopper:
        sizes = {"BLOCK_M": tile.m, "BLOCK_N": tile.n, "BLOCK_K": tile.k}
        sizes |= {"C": c, "N": 4 * c, "BACKWARD": backward}
        cases.append(GateCase(_swiglu, tiled, sizes, tile.warps, tile.stages, targets=(90,)))
    return cases
