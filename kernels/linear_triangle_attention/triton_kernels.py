"""Gated linear attention with one gate for all rows, and its gradient. README.md has the maths.

One kernel, ((x y^T) * gate) w for every row and head, is the forward pass and, with its operands
exchanged, the gradient of each of them; a second one makes the gradient of the gate. There is no
softmax, hence nothing to save but the operands, and zeros are neutral: ragged ends need no care.
"""

# pyright: reportCallIssue=false
# (Options of a launch, like num_warps, are not among the parameters of a kernel.)

from typing import NamedTuple, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from seedfold.kernels.tiles import (
    INTERPRETED,
    GateCase,
    padded_width,
    parts_of_rows,
    scaled_to_half,
    settled,
)


class Tile(NamedTuple):
    """How a kernel cuts its work: queries, keys and rows at a time, warps and pipeline stages."""

    queries: int
    keys: int
    rows: int
    warps: int
    stages: int


def tiles(kernel: str, d: int) -> Tile:
    """The tile that was fastest on an H200 in bf16, for heads of 32 channels."""
    if INTERPRETED.value:
        return Tile(16, 16, 2, 4, 1)
    if kernel == "gate":
        return Tile(128, 64, 1, 8, 3 if d > 32 else 4)
    return Tile(128, 64, 1 if d > 32 else 2, 8, 3)


def gated(
    x: Float[Tensor, "R N N_head d"],
    y: Float[Tensor, "R M N_head d"],
    w: Float[Tensor, "R M N_head d"],
    gate: Float[Tensor, "N_head N M"],
    *,
    sign: Float[Tensor, "R N N_head d"] | None = None,
    out: Float[Tensor, "R N N_head d"] | None = None,
    tile: Tile | None = None,
) -> Float[Tensor, "R N N_head d"]:
    """((x y^T) * gate) w for every row and head, with zeros where `sign` is not positive.

    Operands and `out` may be strided views with contiguous channels.
    """
    n_rows, n, n_heads, d = x.shape
    out = torch.empty_like(x, memory_format=torch.contiguous_format) if out is None else out
    sign_of = x if sign is None else sign
    t = tile or tiles("product", d)
    gate = gate if gate.stride(2) == 1 else gate.contiguous()
    grid = (triton.cdiv(n, t.queries), n_heads, triton.cdiv(n_rows, t.rows))
    _gated[grid](
        x, y, w, gate, sign_of, out,
        *x.stride()[:3], *y.stride()[:3], *w.stride()[:3], *gate.stride()[:2],
        *sign_of.stride()[:3], *out.stride()[:3],
        n_rows, n, y.shape[1],
        D=d, BLOCK_D=padded_width(d), BLOCK_Q=t.queries, BLOCK_K=t.keys, ROWS=t.rows,
        SIGNED=sign is not None, EVEN=y.shape[1] % t.keys == 0,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return out


def gate_gradient(
    d_o: Float[Tensor, "R N N_head d"],
    q: Float[Tensor, "R N N_head d"],
    k: Float[Tensor, "R M N_head d"],
    v: Float[Tensor, "R M N_head d"],
    tile: Tile | None = None,
) -> Float[Tensor, "N_head N M"]:
    """Sum over rows of (q k^T) * (d_o v^T), in fp32 and in a fixed order."""
    (n_rows, n, n_heads, d), m = q.shape, k.shape[1]
    t = tile or tiles("gate", d)
    grid_q, grid_k = triton.cdiv(n, t.queries), triton.cdiv(m, t.keys)
    n_splits = parts_of_rows(n_rows, grid_q * grid_k * n_heads)
    d_gate = torch.empty((n_splits, n_heads, n, m), dtype=torch.float32, device=q.device)
    _gate_gradient[(grid_q * grid_k, n_heads, n_splits)](
        d_o, q, k, v, d_gate,
        *d_o.stride()[:3], *q.stride()[:3], *k.stride()[:3], *v.stride()[:3],
        n_rows, n, m, n_heads, triton.cdiv(n_rows, n_splits),
        D=d, BLOCK_D=padded_width(d), BLOCK_Q=t.queries, BLOCK_K=t.keys,
        EVEN=n % t.queries == 0 and m % t.keys == 0,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return d_gate[0] if n_splits == 1 else d_gate.sum(0)


@triton.jit
@no_type_check
def _load_tile(
    base, stride, first, n, dims, D: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr
):
    """Positions first ... first + BLOCK of one row and head, 0 outside: [BLOCK, BLOCK_D]."""
    at = first + tl.arange(0, BLOCK)
    pointers = base + at.to(tl.int64)[:, None] * stride + dims[None, :]
    if EVEN and dims.shape[0] == D:
        return tl.load(pointers)
    return tl.load(pointers, mask=(at[:, None] < n) & (dims[None, :] < D), other=0.0)


@triton.jit
@no_type_check
def _step(
    x, y_base, w_base, stride_y, stride_w, first, n, dims, gate, acc,
    D: tl.constexpr, BLOCK_K: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """One tile of keys for one row."""
    y = _load_tile(y_base, stride_y, first, n, dims, D, BLOCK_K, EVEN)
    w = _load_tile(w_base, stride_w, first, n, dims, D, BLOCK_K, EVEN)
    s = tl.dot(x, tl.trans(y), input_precision="ieee")
    return settled(tl.dot(scaled_to_half(s, gate), w, acc, input_precision="ieee"))


@triton.jit
@no_type_check
def _end(
    out_base, sign_base, stride_out, stride_sign, first, n, dims, acc,
    D: tl.constexpr, BLOCK_Q: tl.constexpr, SIGNED: tl.constexpr,
):  # fmt: skip
    """Writes one row."""
    if SIGNED:
        sign = _load_tile(sign_base, stride_sign, first, n, dims, D, BLOCK_Q, False)
        acc = tl.where(sign > 0, acc, 0.0)
    at = first + tl.arange(0, BLOCK_Q)
    pointers = out_base + at.to(tl.int64)[:, None] * stride_out + dims[None, :]
    acc = acc.to(out_base.dtype.element_ty)
    tl.store(pointers, acc, mask=(at[:, None] < n) & (dims[None, :] < D))


@triton.jit
@no_type_check
def _gated(
    x_ptr, y_ptr, w_ptr, gate_ptr, sign_ptr, out_ptr,
    x_row, x_at, x_head, y_row, y_at, y_head, w_row, w_at, w_head, gate_head, gate_at,
    sign_row, sign_at, sign_head, out_row, out_at, out_head,
    n_rows, n, m,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    ROWS: tl.constexpr, SIGNED: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """One program: a tile of queries of one head in ROWS (1, 2 or 4) rows.

    A tile of the gate is read once for all of them. Rows beyond the end are the last one once
    more: the same is computed and written again.
    """
    first, head = tl.program_id(0) * BLOCK_Q, tl.program_id(1).to(tl.int64)
    row0 = tl.program_id(2).to(tl.int64) * ROWS
    row1 = tl.minimum(row0 + 1, n_rows - 1)
    row2 = tl.minimum(row0 + 2, n_rows - 1)
    row3 = tl.minimum(row0 + 3, n_rows - 1)
    dims, queries = tl.arange(0, BLOCK_D), first + tl.arange(0, BLOCK_Q)
    x_ptr += head * x_head
    y_ptr += head * y_head
    w_ptr += head * w_head
    gate_rows = tl.minimum(queries, n - 1).to(tl.int64)[:, None] * gate_at
    gate_ptr += head * gate_head
    x0 = _load_tile(x_ptr + row0 * x_row, x_at, first, n, dims, D, BLOCK_Q, False)
    acc0 = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    if ROWS >= 2:
        x1 = _load_tile(x_ptr + row1 * x_row, x_at, first, n, dims, D, BLOCK_Q, False)
        acc1 = acc0
    if ROWS >= 4:
        x2 = _load_tile(x_ptr + row2 * x_row, x_at, first, n, dims, D, BLOCK_Q, False)
        x3 = _load_tile(x_ptr + row3 * x_row, x_at, first, n, dims, D, BLOCK_Q, False)
        acc2, acc3 = acc0, acc0
    for start in range(0, m, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        if EVEN:
            gate = tl.load(gate_ptr + gate_rows + keys[None, :])
        else:
            gate = tl.load(gate_ptr + gate_rows + keys[None, :], mask=keys[None, :] < m, other=0.0)
        acc0 = _step(
            x0, y_ptr + row0 * y_row, w_ptr + row0 * w_row, y_at, w_at, start, m, dims, gate, acc0,
            D, BLOCK_K, EVEN,
        )  # fmt: skip
        if ROWS >= 2:
            acc1 = _step(
                x1, y_ptr + row1 * y_row, w_ptr + row1 * w_row, y_at, w_at, start, m, dims, gate,
                acc1, D, BLOCK_K, EVEN,
            )  # fmt: skip
        if ROWS >= 4:
            acc2 = _step(
                x2, y_ptr + row2 * y_row, w_ptr + row2 * w_row, y_at, w_at, start, m, dims, gate,
                acc2, D, BLOCK_K, EVEN,
            )  # fmt: skip
            acc3 = _step(
                x3, y_ptr + row3 * y_row, w_ptr + row3 * w_row, y_at, w_at, start, m, dims, gate,
                acc3, D, BLOCK_K, EVEN,
            )  # fmt: skip
    out_ptr += head * out_head
    sign_ptr += head * sign_head
    _end(
        out_ptr + row0 * out_row, sign_ptr + row0 * sign_row, out_at, sign_at, first, n, dims, acc0,
        D, BLOCK_Q, SIGNED,
    )  # fmt: skip
    if ROWS >= 2:
        _end(
            out_ptr + row1 * out_row, sign_ptr + row1 * sign_row, out_at, sign_at, first, n, dims,
            acc1, D, BLOCK_Q, SIGNED,
        )  # fmt: skip
    if ROWS >= 4:
        _end(
            out_ptr + row2 * out_row, sign_ptr + row2 * sign_row, out_at, sign_at, first, n, dims,
            acc2, D, BLOCK_Q, SIGNED,
        )  # fmt: skip
        _end(
            out_ptr + row3 * out_row, sign_ptr + row3 * sign_row, out_at, sign_at, first, n, dims,
            acc3, D, BLOCK_Q, SIGNED,
        )  # fmt: skip


@triton.jit
@no_type_check
def _gate_gradient(
    do_ptr, q_ptr, k_ptr, v_ptr, out_ptr,
    do_row, do_at, do_head, q_row, q_at, q_head, k_row, k_at, k_head, v_row, v_at, v_head,
    n_rows, n, m, n_heads, rows_each,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    EVEN: tl.constexpr,
):  # fmt: skip
    """One tile of the gate's gradient, summed over one part of the rows."""
    n_tiles = tl.cdiv(m, BLOCK_K)
    first_q = (tl.program_id(0) // n_tiles) * BLOCK_Q
    first_k = (tl.program_id(0) % n_tiles) * BLOCK_K
    head, split = tl.program_id(1).to(tl.int64), tl.program_id(2)
    dims = tl.arange(0, BLOCK_D)
    q_ptr += head * q_head
    k_ptr += head * k_head
    v_ptr += head * v_head
    do_ptr += head * do_head
    acc = tl.zeros([BLOCK_Q, BLOCK_K], tl.float32)
    row = (split * rows_each).to(tl.int64)
    for _ in range(tl.minimum(rows_each, n_rows - split * rows_each)):
        q = _load_tile(q_ptr + row * q_row, q_at, first_q, n, dims, D, BLOCK_Q, EVEN)
        k = _load_tile(k_ptr + row * k_row, k_at, first_k, m, dims, D, BLOCK_K, EVEN)
        do = _load_tile(do_ptr + row * do_row, do_at, first_q, n, dims, D, BLOCK_Q, EVEN)
        v = _load_tile(v_ptr + row * v_row, v_at, first_k, m, dims, D, BLOCK_K, EVEN)
        s = tl.dot(q, tl.trans(k), input_precision="ieee")
        acc += s * tl.dot(do, tl.trans(v), input_precision="ieee")
        row += 1
    queries, keys = first_q + tl.arange(0, BLOCK_Q), first_k + tl.arange(0, BLOCK_K)
    at = (split * n_heads + head) * n + queries
    pointers = out_ptr + at.to(tl.int64)[:, None] * m + keys[None, :]
    tl.store(pointers, acc, mask=(queries[:, None] < n) & (keys[None, :] < m))


def gate_cases() -> list[GateCase]:
    """What is compiled where there is no GPU: bf16, heads of 32 and of 64 channels."""
    cases = []
    for name, kernel in {"product": _gated, "gate": _gate_gradient}.items():
        for d, even in ((32, True), (32, False), (64, False)):
            t = tiles(name, d)
            constexprs = {
                "D": d,
                "BLOCK_D": padded_width(d),
                "BLOCK_Q": t.queries,
                "BLOCK_K": t.keys,
            }
            constexprs |= {"ROWS": t.rows, "SIGNED": True} if name == "product" else {}
            constexprs |= {"EVEN": even}
            signature = {
                x: "*bf16" if x.endswith("_ptr") else "i32"
                for x in kernel.arg_names
                if x not in constexprs
            }
            if name == "gate":
                signature["out_ptr"] = "*fp32"
            cases.append(GateCase(kernel, signature, constexprs, t.warps, t.stages))
    return cases
