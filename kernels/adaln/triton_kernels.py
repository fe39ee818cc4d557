"""Modulated LayerNorm over rows that share scale and offset, forward and backward.

Source: AF3 SI, Algorithm 26, after its linear maps. Both kernels only move memory: every program
holds a few rows whole, and the backward one visits all samples of its rows, so that the gradients
of what the samples share are sums in registers.
"""

# pyright: reportCallIssue=false
# (Options of a launch, like num_warps, are not among the parameters of a kernel.)

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from seedfold.kernels.tiles import GateCase, standardised


class Tile(NamedTuple):
    """Rows of a program, and its warps."""

    rows: int
    warps: int


def _tile(c: int, device: torch.device, backward: bool = False) -> Tile:
    """About 32 (forward) or 16 numbers of every tile in a thread: all of it stays in registers."""
    if device.type == "cpu":
        return Tile(rows=4, warps=4)
    channels = _padded(c)
    warps = 8 if channels > 1024 else 4
    numbers = (16 if backward else 32) * 32 * warps
    return Tile(rows=max(1, numbers // channels), warps=warps)


def _padded(c: int) -> int:
    """The power of two that holds c."""
    return 1 << (c - 1).bit_length()


def modulate(
    a: Float[Tensor, "O S I c"],
    projected: Float[Tensor, "O I 2*c"],
    bias_scale: Float[Tensor, " c"],
    tile: Tile | None = None,
) -> Float[Tensor, "O S I c"]:
    """Returns sigmoid(scale + bias) * LN(a) + offset in the dtype of `projected` = scale | offset.

    `a` is contiguous: O times S samples of I rows each. The samples share scale and offset.
    """
    n_outer, n_samples, n_inner, c = a.shape
    tile = tile or _tile(c, a.device)
    out = torch.empty(a.shape, dtype=projected.dtype, device=a.device)
    n_rows = n_outer * n_inner
    _modulate[(triton.cdiv(n_rows, tile.rows), n_samples)](
        a, projected, bias_scale, out, n_rows, n_inner, n_samples,
        C=c, ROWS=tile.rows, CHANNELS=_padded(c), num_warps=tile.warps,
    )  # fmt: skip
    return out


def modulate_backward(
    d_out: Float[Tensor, "O S I c"],
    a: Float[Tensor, "O S I c"],
    projected: Float[Tensor, "O I 2*c"],
    bias_scale: Float[Tensor, " c"],
    tile: Tile | None = None,
) -> tuple[Float[Tensor, "O S I c"], Float[Tensor, "O I 2*c"]]:
    """Returns the gradients of `a` and of `projected`, the latter summed over the samples."""
    n_outer, n_samples, n_inner, c = a.shape
    tile = tile or _tile(c, a.device, backward=True)
    d_a, d_projected = torch.empty_like(a), torch.empty_like(projected)
    n_rows = n_outer * n_inner
    _modulate_backward[(triton.cdiv(n_rows, tile.rows),)](
        d_out, a, projected, bias_scale, d_a, d_projected, n_rows, n_inner, n_samples,
        C=c, ROWS=tile.rows, CHANNELS=_padded(c), num_warps=tile.warps,
    )  # fmt: skip
    return d_a, d_projected


@triton.jit
@no_type_check
def _row_of_sample(row, sample, n_inner, n_samples):
    """Where `a` has row O * n_inner + I of a sample."""
    return (row // n_inner * n_samples + sample) * n_inner + row % n_inner


@triton.jit
@no_type_check
def _modulate(
    a, projected, bias_scale, out, n_rows, n_inner, n_samples,
    C: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows of one sample."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (row < n_rows)[:, None] & (channel < C)[None, :]
    at = _row_of_sample(row, tl.program_id(1), n_inner, n_samples)[:, None] * C + channel[None, :]
    shared = projected + row[:, None] * (2 * C) + channel[None, :]
    x = tl.load(a + at, mask=inside, other=0.0).to(tl.float32)
    scale = tl.load(shared, mask=inside, other=0.0).to(tl.float32)
    offset = tl.load(shared + C, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_scale + channel, mask=channel < C, other=0.0).to(tl.float32)
    unit, _ = standardised(x, inside, C)
    y = tl.sigmoid(scale + bias[None, :]) * unit + offset
    tl.store(out + at, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
@no_type_check
def _modulate_backward(
    d_out, a, projected, bias_scale, d_a, d_projected, n_rows, n_inner, n_samples,
    C: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """One program: ROWS rows of all samples, one after the other."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    channel = tl.arange(0, CHANNELS)
    inside = (row < n_rows)[:, None] & (channel < C)[None, :]
    shared = row[:, None] * (2 * C) + channel[None, :]
    scale = tl.load(projected + shared, mask=inside, other=0.0).to(tl.float32)
    bias = tl.load(bias_scale + channel, mask=channel < C, other=0.0).to(tl.float32)
    gate = tl.sigmoid(scale + bias[None, :])
    d_gate = tl.zeros([ROWS, CHANNELS], tl.float32)
    d_offset = tl.zeros([ROWS, CHANNELS], tl.float32)
    for sample in range(n_samples):
        at = _row_of_sample(row, sample, n_inner, n_samples)[:, None] * C + channel[None, :]
        x = tl.load(a + at, mask=inside, other=0.0).to(tl.float32)
        d_y = tl.load(d_out + at, mask=inside, other=0.0).to(tl.float32)
        unit, rstd = standardised(x, inside, C)
        d_gate += d_y * unit
        d_offset += d_y
        d_unit = d_y * gate
        along = tl.sum(d_unit * unit, 1) / C
        d_x = d_unit - (tl.sum(d_unit, 1) / C)[:, None] - unit * along[:, None]
        tl.store(d_a + at, (d_x * rstd[:, None]).to(d_a.dtype.element_ty), mask=inside)
    d_scale = d_gate * gate * (1 - gate)
    to = d_projected + shared
    tl.store(to, d_scale.to(d_projected.dtype.element_ty), mask=inside)
    tl.store(to + C, d_offset.to(d_projected.dtype.element_ty), mask=inside)


def gate_cases() -> list[GateCase]:
    """Token and atom widths; the residual stream is in fp32."""
    counts = dict.fromkeys(("n_rows", "n_inner", "n_samples"), "i32")
    shared = {"projected": "*bf16", "bias_scale": "*fp32", **counts}
    forward = {"a": "*fp32", "out": "*bf16", **shared}
    backward = {
        "d_out": "*bf16", "a": "*fp32", "d_a": "*fp32", "d_projected": "*bf16", **shared,
    }  # fmt: skip
    cases = []
    for c in (128, 768):
        for kernel, signature in ((_modulate, forward), (_modulate_backward, backward)):
            tile = _tile(c, torch.device("cuda"), backward=kernel is _modulate_backward)
            sizes = {"C": c, "ROWS": tile.rows, "CHANNELS": _padded(c)}
            cases.append(GateCase(kernel, signature, sizes, tile.warps, 3, tensor_cores=False))
    return cases
