"""Softmax attention with one bias for all rows, forward and backward. README.md has the maths.

Every kernel takes `ROWS` rows of the pair representation at a time, so that a tile of the bias is
read, converted and scaled once for all of them. Logits are in base 2: exp2 is the hardware's own.
"""

# pyright: reportCallIssue=false
# (Options of a launch, like num_warps, are not among the parameters of a kernel.)

from typing import Any, NamedTuple, no_type_check

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from jaxtyping import Bool, Float
from torch import Tensor

from seedfold.kernels.tiles import INTERPRETED, GateCase, padded_width, parts_of_rows, settled

LOG2_E = tl.constexpr(1.4426950408889634)
LARGEST_TILE = 128


class Tile(NamedTuple):
    """How a kernel cuts its work: queries, keys and rows at a time, warps and pipeline stages."""

    queries: int
    keys: int
    rows: int
    warps: int
    stages: int
    registers: int | None = None


SMALL = Tile(16, 16, 2, 4, 1)
"""For the interpreter, in which small cases must still have ragged tiles."""


def tiles(kernel: str, d: int) -> Tile:
    """The tile that was fastest on an H200 in bf16, for heads of 32 channels."""
    if INTERPRETED.value:
        return SMALL
    wide = d > 32
    return {
        "forward": Tile(64, 64, 1 if wide else 2, 4, 3),
        "query": Tile(64, 32, 1, 4, 3) if wide else Tile(128, 32, 1, 4, 3),
        "key": Tile(32, 64, 1, 4, 2) if wide else Tile(32, 128, 1, 4, 3),
        "bias": Tile(64, 32, 1, 4, 3),
    }[kernel]


def attend(
    q: Float[Tensor, "R N_q N_head d"],
    k: Float[Tensor, "R N_k N_head d"],
    v: Float[Tensor, "R N_k N_head d"],
    bias: Float[Tensor, "N_head N_q N_k"],
    mask: Bool[Tensor, "R N_k"] | None,
    tile: Tile | None = None,
) -> tuple[Float[Tensor, "R N_q N_head d"], Float[Tensor, "R N_head N_q"]]:
    """Softmax attention of every row, and the base-2 logarithm of its denominators (fp32).

    Operands may be strided views with contiguous channels. A row without keys gives 0.
    """
    (n_rows, n_q, n_heads, d), n_k = q.shape, k.shape[1]
    o = torch.empty((n_rows, n_q, n_heads, d), dtype=q.dtype, device=q.device)
    lse = torch.empty((n_rows, n_heads, n_q), dtype=torch.float32, device=q.device)
    t = tile or tiles("forward", d)
    bias = with_whole_tiles(bias)
    grid = (triton.cdiv(n_q, t.queries), n_heads, triton.cdiv(n_rows, t.rows))
    _attend[grid](
        q, k, v, bias, *mask_pointers(mask, q), o, lse,
        *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *bias.stride()[:2],
        n_rows, n_q, n_k, n_heads, d**-0.5,
        D=d, BLOCK_D=padded_width(d), BLOCK_Q=t.queries, BLOCK_K=t.keys, ROWS=t.rows,
        MASKED=mask is not None, EVEN=n_k % t.keys == 0,
        num_warps=t.warps, num_stages=t.stages,
    )  # fmt: skip
    return o, lse


def with_whole_tiles(bias: Float[Tensor, "N_head N M"]) -> Float[Tensor, "N_head N _"]:
    """The bias with its last axis padded to whole tiles by -inf, and contiguous.

    The logits of keys beyond the end are then -inf by themselves, whatever is read for them.
    """
    missing = -bias.shape[2] % LARGEST_TILE
    return F.pad(bias, (0, missing), value=float("-inf")) if missing else bias.contiguous()


def mask_pointers(mask: Tensor | None, q: Tensor) -> tuple[Tensor, Tensor]:
    """The mask as bytes, and how many leading keys of every row count.

    Tiles of leading keys need no look at the mask: with padding, or none, those are all but one.
    """
    if mask is None:
        return q, q
    mask = mask.contiguous().view(torch.uint8)
    leading = torch.empty(len(mask), dtype=torch.int32, device=mask.device)
    n = mask.shape[1]
    _count_leading[(len(mask),)](mask, leading, n, BLOCK=triton.next_power_of_2(n))
    return mask, leading


def attend_backward(
    d_o: Float[Tensor, "R N_q N_head d"],
    q: Float[Tensor, "R N_q N_head d"],
    k: Float[Tensor, "R N_k N_head d"],
    v: Float[Tensor, "R N_k N_head d"],
    bias: Float[Tensor, "N_head N_q N_k"],
    mask: Bool[Tensor, "R N_k"] | None,
    o: Float[Tensor, "R N_q N_head d"],
    lse: Float[Tensor, "R N_head N_q"],
    d_q: Float[Tensor, "R N_q N_head d"],
    d_k: Float[Tensor, "R N_k N_head d"],
    d_v: Float[Tensor, "R N_k N_head d"],
) -> Float[Tensor, "N_head N_q N_k"]:
    """Writes the gradients of q, k and v to the given views; returns that of the bias (fp32).

    Three kernels, each of which recomputes the weights: one sums over keys, one over queries, one
    over rows. All sums have a fixed order.
    """
    delta = torch.empty_like(lse)
    case = Case(q, k, v, with_whole_tiles(bias), *mask_pointers(mask, q), lse, delta, d_o)
    query_gradient(case, o, d_q)
    key_gradients(case._replace(bias=with_whole_tiles(bias.mT)), d_k, d_v)
    return bias_gradient(case)


class Case(NamedTuple):
    """What all backward kernels read. `delta` = o . d_o is written by the first of them."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor
    mask: Tensor
    leading: Tensor
    lse: Tensor
    delta: Tensor
    d_o: Tensor

    def numbers(self) -> tuple[int | float, ...]:
        """Strides, sizes and scale as kernel arguments."""
        (n_rows, n_q, n_heads, d), n_k = self.q.shape, self.k.shape[1]
        strides = [s for x in (self.q, self.k, self.v, self.d_o) for s in x.stride()[:3]]
        return *strides, *self.bias.stride()[:2], n_rows, n_q, n_k, n_heads, d**-0.5

    def settings(self, t: Tile, even: bool) -> dict[str, Any]:
        """Compile-time arguments and launch settings; `even`: no ragged tile in the loop."""
        d = self.q.shape[3]
        cut = {"D": d, "BLOCK_D": padded_width(d), "BLOCK_Q": t.queries, "BLOCK_K": t.keys}
        masked = self.mask is not self.q
        launch = {"num_warps": t.warps, "num_stages": t.stages, "maxnreg": t.registers}
        return {**cut, "MASKED": masked, "EVEN": even, **launch}


def query_gradient(case: Case, o: Tensor, d_q: Tensor, tile: Tile | None = None) -> Tensor:
    """Writes d_q and ``case.delta``."""
    (n_rows, n_q, n_heads, d), n_k = case.q.shape, case.k.shape[1]
    t = tile or tiles("query", d)
    _query_gradient[(triton.cdiv(n_q, t.queries), n_heads, n_rows)](
        *case, o, d_q, *o.stride()[:3], *d_q.stride()[:3], *case.numbers(),
        **case.settings(t, even=n_k % t.keys == 0),
    )  # fmt: skip
    return d_q


def key_gradients(case: Case, d_k: Tensor, d_v: Tensor, tile: Tile | None = None) -> Tensor:
    """Writes d_k and d_v; ``case.bias`` is transposed here, [N_head N_k N_q]."""
    (n_rows, n_k, n_heads, d), n_q = case.k.shape, case.q.shape[1]
    t = tile or tiles("key", d)
    _key_gradients[(triton.cdiv(n_k, t.keys), n_heads, n_rows)](
        *case, d_k, d_v, *d_k.stride()[:3], *d_v.stride()[:3], *case.numbers(),
        **case.settings(t, even=n_q % t.queries == 0),
    )  # fmt: skip
    return d_k


def bias_gradient(case: Case, tile: Tile | None = None) -> Tensor:
    """Sums over rows; parts of them in parallel where there are few tiles."""
    (n_rows, n_q, n_heads, d), n_k = case.q.shape, case.k.shape[1]
    t = tile or tiles("bias", d)
    n_tiles = triton.cdiv(n_q, t.queries) * triton.cdiv(n_k, t.keys)
    n_splits = parts_of_rows(n_rows, n_tiles * n_heads)
    d_bias = torch.empty((n_splits, n_heads, n_q, n_k), dtype=torch.float32, device=case.q.device)
    even = n_q % t.queries == 0 and n_k % t.keys == 0
    _bias_gradient[(n_tiles, n_heads, n_splits)](
        *case, d_bias, triton.cdiv(n_rows, n_splits), *case.numbers(), **case.settings(t, even)
    )
    return d_bias[0] if n_splits == 1 else d_bias.sum(0)


@triton.jit
@no_type_check
def _count_leading(mask_ptr, leading_ptr, n, BLOCK: tl.constexpr):
    row, keys = tl.program_id(0).to(tl.int64), tl.arange(0, BLOCK)
    counts = tl.load(mask_ptr + row * n + keys, mask=keys < n, other=0)
    tl.store(leading_ptr + row, tl.min(tl.where(counts != 0, n, tl.minimum(keys, n)), 0))


@triton.jit
@no_type_check
def _load_tile(
    base, stride, first, n, dims, D: tl.constexpr, BLOCK: tl.constexpr, EVEN: tl.constexpr
):
    """Positions first ... first + BLOCK of one row and head, [BLOCK, BLOCK_D]; beyond the end the
    last one again, which has no weight."""
    at = first + tl.arange(0, BLOCK)
    if not EVEN:
        at = tl.minimum(at, n - 1)
    pointers = base + at.to(tl.int64)[:, None] * stride + dims[None, :]
    if dims.shape[0] == D:
        return tl.load(pointers)
    return tl.load(pointers, mask=dims[None, :] < D, other=0.0)


@triton.jit
@no_type_check
def _store_tile(base, stride, first, n, dims, x, D: tl.constexpr, BLOCK: tl.constexpr):
    at = first + tl.arange(0, BLOCK)
    pointers = base + at.to(tl.int64)[:, None] * stride + dims[None, :]
    x = x.to(base.dtype.element_ty)
    tl.store(pointers, x, mask=(at[:, None] < n) & (dims[None, :] < D))


@triton.jit
@no_type_check
def _bias_tile(base, stride, rows, columns, n):
    """A tile of the padded bias; rows beyond the end are the last one."""
    at = tl.minimum(rows, n - 1).to(tl.int64)[:, None] * stride + columns[None, :]
    return tl.load(base + at).to(tl.float32)


@triton.jit
@no_type_check
def _statistics(lse_base, delta_base, queries, n_q):
    """Of one row and head; queries beyond the end have weights of 0."""
    lse = tl.load(lse_base + queries, mask=queries < n_q, other=float("inf"))
    return lse, tl.load(delta_base + queries, mask=queries < n_q, other=0.0)


@triton.jit
@no_type_check
def _is_out(mask_row, keys, n_k):
    return tl.load(mask_row + keys, mask=keys < n_k, other=0) == 0


@triton.jit
@no_type_check
def _forward_step(
    q, k_base, v_base, k_at, v_at, mask_row, first, n_k, dims, bias, scale, largest, total, acc,
    D: tl.constexpr, BLOCK_K: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """One tile of keys for one row: `largest` is the largest logit, `total` the denominator."""
    k = _load_tile(k_base, k_at, first, n_k, dims, D, BLOCK_K, EVEN)
    v = _load_tile(v_base, v_at, first, n_k, dims, D, BLOCK_K, EVEN)
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale + bias
    if MASKED:
        out = _is_out(mask_row, first + tl.arange(0, BLOCK_K), n_k)
        s = tl.where(out[None, :], float("-inf"), s)
    new = tl.maximum(largest, tl.max(s, 1))
    shift = tl.where(new == float("-inf"), 0.0, new * LOG2_E)
    p = tl.exp2(s * LOG2_E - shift[:, None])
    alpha = tl.exp2(largest * LOG2_E - shift)
    total = total * alpha + tl.sum(p, 1)
    acc = tl.dot(p.to(v.dtype), v, acc * alpha[:, None], input_precision="ieee")
    return new, total, acc


@triton.jit
@no_type_check
def _forward_end(
    o_base,
    o_at,
    lse_base,
    first,
    n_q,
    dims,
    largest,
    total,
    acc,
    D: tl.constexpr,
    BLOCK_Q: tl.constexpr,
):
    """Divides and writes one row; a row without keys gets o = 0 and an infinite lse."""
    at = first + tl.arange(0, BLOCK_Q)
    some = tl.where(total > 0, total, 1.0)
    _store_tile(o_base, o_at, first, n_q, dims, acc / some[:, None], D, BLOCK_Q)
    lse = tl.where(total > 0, largest * LOG2_E + tl.log2(some), float("inf"))
    tl.store(lse_base + at, lse, mask=at < n_q)


@triton.jit
@no_type_check
def _attend(
    q_ptr, k_ptr, v_ptr, bias_ptr, mask_ptr, leading_ptr, o_ptr, lse_ptr,
    q_row, q_at, q_head, k_row, k_at, k_head, v_row, v_at, v_head, bias_head, bias_at,
    n_rows, n_q, n_k, n_heads, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    ROWS: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """One program: a tile of queries of one head in ROWS (1 or 2) rows."""
    first, head = tl.program_id(0) * BLOCK_Q, tl.program_id(1).to(tl.int64)
    row0 = tl.program_id(2).to(tl.int64) * ROWS
    row1 = tl.minimum(row0 + 1, n_rows - 1)
    dims, queries = tl.arange(0, BLOCK_D), first + tl.arange(0, BLOCK_Q)
    q_ptr += head * q_head
    k_ptr += head * k_head
    v_ptr += head * v_head
    bias_ptr += head * bias_head
    m0 = tl.full([BLOCK_Q], float("-inf"), tl.float32)
    l0 = tl.zeros([BLOCK_Q], tl.float32)
    acc0 = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    q0 = _load_tile(q_ptr + row0 * q_row, q_at, first, n_q, dims, D, BLOCK_Q, False)
    k0, v0 = k_ptr + row0 * k_row, v_ptr + row0 * v_row
    mask0, mask1 = mask_ptr + row0 * n_k, mask_ptr + row1 * n_k
    if ROWS == 2:
        m1, l1, acc1 = m0, l0, acc0
        q1 = _load_tile(q_ptr + row1 * q_row, q_at, first, n_q, dims, D, BLOCK_Q, False)
        k1, v1 = k_ptr + row1 * k_row, v_ptr + row1 * v_row
    plain = n_k
    if MASKED:
        plain = tl.minimum(tl.load(leading_ptr + row0), tl.load(leading_ptr + row1))
        plain = tl.where(plain < n_k, plain // BLOCK_K * BLOCK_K, n_k)
    for start in range(0, plain, BLOCK_K):
        keys = start + tl.arange(0, BLOCK_K)
        bias = _bias_tile(bias_ptr, bias_at, queries, keys, n_q)
        m0, l0, acc0 = _forward_step(
            q0, k0, v0, k_at, v_at, mask0, start, n_k, dims, bias, scale, m0, l0, acc0,
            D, BLOCK_K, False, EVEN,
        )  # fmt: skip
        if ROWS == 2:
            m1, l1, acc1 = _forward_step(
                q1, k1, v1, k_at, v_at, mask1, start, n_k, dims, bias, scale, m1, l1, acc1,
                D, BLOCK_K, False, EVEN,
            )  # fmt: skip
    if MASKED:
        for start in range(plain, n_k, BLOCK_K):
            keys = start + tl.arange(0, BLOCK_K)
            bias = _bias_tile(bias_ptr, bias_at, queries, keys, n_q)
            m0, l0, acc0 = _forward_step(
                q0, k0, v0, k_at, v_at, mask0, start, n_k, dims, bias, scale, m0, l0, acc0,
                D, BLOCK_K, True, EVEN,
            )  # fmt: skip
            if ROWS == 2:
                m1, l1, acc1 = _forward_step(
                    q1, k1, v1, k_at, v_at, mask1, start, n_k, dims, bias, scale, m1, l1, acc1,
                    D, BLOCK_K, True, EVEN,
                )  # fmt: skip
    o_at, o_ptr, lse_ptr = n_heads * D, o_ptr + head * D, lse_ptr + head * n_q
    _forward_end(
        o_ptr + row0 * n_q * o_at, o_at, lse_ptr + row0 * n_heads * n_q,
        first, n_q, dims, m0, l0, acc0, D, BLOCK_Q,
    )  # fmt: skip
    if ROWS == 2:  # A last row without a partner has computed itself twice: the same is written.
        _forward_end(
            o_ptr + row1 * n_q * o_at, o_at, lse_ptr + row1 * n_heads * n_q,
            first, n_q, dims, m1, l1, acc1, D, BLOCK_Q,
        )  # fmt: skip


@triton.jit
@no_type_check
def _query_gradient(
    q_ptr, k_ptr, v_ptr, bias_ptr, mask_ptr, leading_ptr, lse_ptr, delta_ptr, do_ptr, o_ptr, dq_ptr,
    o_row, o_at, o_head, dq_row, dq_at, dq_head,
    q_row, q_at, q_head, k_row, k_at, k_head, v_row, v_at, v_head, do_row, do_at, do_head,
    bias_head, bias_at, n_rows, n_q, n_k, n_heads, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    MASKED: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of queries: sum over keys. Writes delta = o . d_o for the others."""
    first, head = tl.program_id(0) * BLOCK_Q, tl.program_id(1).to(tl.int64)
    row = tl.program_id(2).to(tl.int64)
    dims, queries = tl.arange(0, BLOCK_D), first + tl.arange(0, BLOCK_Q)
    q = _load_tile(q_ptr + row * q_row + head * q_head, q_at, first, n_q, dims, D, BLOCK_Q, False)
    o = _load_tile(o_ptr + row * o_row + head * o_head, o_at, first, n_q, dims, D, BLOCK_Q, False)
    do_ptr += row * do_row + head * do_head
    do = _load_tile(do_ptr, do_at, first, n_q, dims, D, BLOCK_Q, False)
    delta = tl.sum(o.to(tl.float32) * do.to(tl.float32), 1)
    stats = (row * n_heads + head) * n_q + queries
    lse = tl.load(lse_ptr + stats, mask=queries < n_q, other=float("inf"))
    tl.store(delta_ptr + stats, delta, mask=queries < n_q)
    bias_ptr += head * bias_head
    k_ptr += row * k_row + head * k_head
    v_ptr += row * v_row + head * v_head
    mask_ptr += row * n_k
    acc = tl.zeros([BLOCK_Q, BLOCK_D], tl.float32)
    plain = n_k
    if MASKED:
        plain = tl.load(leading_ptr + row)
        plain = tl.where(plain < n_k, plain // BLOCK_K * BLOCK_K, n_k)
    for start in range(0, plain, BLOCK_K):
        acc = _query_step(
            q, do, k_ptr, v_ptr, k_at, v_at, bias_ptr, bias_at, mask_ptr, queries, start, n_q, n_k,
            dims, scale, lse, delta, acc, D, BLOCK_K, False, EVEN,
        )  # fmt: skip
    if MASKED:
        for start in range(plain, n_k, BLOCK_K):
            acc = _query_step(
                q, do, k_ptr, v_ptr, k_at, v_at, bias_ptr, bias_at, mask_ptr, queries, start, n_q,
                n_k, dims, scale, lse, delta, acc, D, BLOCK_K, True, EVEN,
            )  # fmt: skip
    dq_ptr += row * dq_row + head * dq_head
    _store_tile(dq_ptr, dq_at, first, n_q, dims, acc * scale, D, BLOCK_Q)


@triton.jit
@no_type_check
def _query_step(
    q, do, k_base, v_base, k_at, v_at, bias_base, bias_at, mask_row, queries, first, n_q, n_k,
    dims, scale, lse, delta, acc,
    D: tl.constexpr, BLOCK_K: tl.constexpr, MASKED: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """One tile of keys."""
    keys = first + tl.arange(0, BLOCK_K)
    k = _load_tile(k_base, k_at, first, n_k, dims, D, BLOCK_K, EVEN)
    v = _load_tile(v_base, v_at, first, n_k, dims, D, BLOCK_K, EVEN)
    bias = _bias_tile(bias_base, bias_at, queries, keys, n_q)
    s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale + bias
    p = tl.exp2(s * LOG2_E - lse[:, None])
    if MASKED:
        p = tl.where(_is_out(mask_row, keys, n_k)[None, :], 0.0, p)
    dp = tl.dot(do, tl.trans(v), input_precision="ieee")
    ds = (p * (dp - delta[:, None])).to(k.dtype)
    return tl.dot(ds, k, acc, input_precision="ieee")


@triton.jit
@no_type_check
def _key_gradients(
    q_ptr, k_ptr, v_ptr, bias_ptr, mask_ptr, leading_ptr, lse_ptr, delta_ptr, do_ptr,
    dk_ptr, dv_ptr, dk_row, dk_at, dk_head, dv_row, dv_at, dv_head,
    q_row, q_at, q_head, k_row, k_at, k_head, v_row, v_at, v_head, do_row, do_at, do_head,
    bias_head, bias_at, n_rows, n_q, n_k, n_heads, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    MASKED: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """Gradients of a tile of keys and values: sum over queries, with [keys, queries] tiles.

    The mask needs no look at all: gradients of keys that are left out are not written but zeroed.
    """
    first, head = tl.program_id(0) * BLOCK_K, tl.program_id(1).to(tl.int64)
    row = tl.program_id(2).to(tl.int64)
    dims, keys = tl.arange(0, BLOCK_D), first + tl.arange(0, BLOCK_K)
    k = _load_tile(k_ptr + row * k_row + head * k_head, k_at, first, n_k, dims, D, BLOCK_K, False)
    v = _load_tile(v_ptr + row * v_row + head * v_head, v_at, first, n_k, dims, D, BLOCK_K, False)
    d_k = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    d_v = tl.zeros([BLOCK_K, BLOCK_D], tl.float32)
    bias_ptr += head * bias_head
    q_ptr += row * q_row + head * q_head
    do_ptr += row * do_row + head * do_head
    lse_ptr += (row * n_heads + head) * n_q
    delta_ptr += (row * n_heads + head) * n_q
    for start in range(0, n_q, BLOCK_Q):
        queries = start + tl.arange(0, BLOCK_Q)
        lse, delta = _statistics(lse_ptr, delta_ptr, queries, n_q)
        q = _load_tile(q_ptr, q_at, start, n_q, dims, D, BLOCK_Q, EVEN)
        do = _load_tile(do_ptr, do_at, start, n_q, dims, D, BLOCK_Q, EVEN)
        bias = _bias_tile(bias_ptr, bias_at, keys, queries, n_k)
        s = tl.dot(k, tl.trans(q), input_precision="ieee") * scale + bias
        p = tl.exp2(s * LOG2_E - lse[None, :])
        d_v = settled(tl.dot(p.to(do.dtype), do, d_v, input_precision="ieee"))
        dp = tl.dot(v, tl.trans(do), input_precision="ieee")
        ds = (p * (dp - delta[None, :])).to(q.dtype)
        d_k = settled(tl.dot(ds, q, d_k, input_precision="ieee"))
    d_k *= scale
    if MASKED:
        out = _is_out(mask_ptr + row * n_k, keys, n_k)[:, None]
        d_k = tl.where(out, 0.0, d_k)
        d_v = tl.where(out, 0.0, d_v)
    dk_ptr += row * dk_row + head * dk_head
    dv_ptr += row * dv_row + head * dv_head
    _store_tile(dk_ptr, dk_at, first, n_k, dims, d_k, D, BLOCK_K)
    _store_tile(dv_ptr, dv_at, first, n_k, dims, d_v, D, BLOCK_K)


@triton.jit
@no_type_check
def _bias_gradient(
    q_ptr, k_ptr, v_ptr, bias_ptr, mask_ptr, leading_ptr, lse_ptr, delta_ptr, do_ptr,
    dbias_ptr, rows_each,
    q_row, q_at, q_head, k_row, k_at, k_head, v_row, v_at, v_head, do_row, do_at, do_head,
    bias_head, bias_at, n_rows, n_q, n_k, n_heads, scale,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_Q: tl.constexpr, BLOCK_K: tl.constexpr,
    MASKED: tl.constexpr, EVEN: tl.constexpr,
):  # fmt: skip
    """Gradient of a tile of the bias: sum over the rows of one part of them."""
    n_tiles = tl.cdiv(n_k, BLOCK_K)
    first_q = (tl.program_id(0) // n_tiles) * BLOCK_Q
    first_k = (tl.program_id(0) % n_tiles) * BLOCK_K
    head, split = tl.program_id(1).to(tl.int64), tl.program_id(2)
    dims = tl.arange(0, BLOCK_D)
    queries, keys = first_q + tl.arange(0, BLOCK_Q), first_k + tl.arange(0, BLOCK_K)
    bias = _bias_tile(bias_ptr + head * bias_head, bias_at, queries, keys, n_q) * LOG2_E
    scale = scale * LOG2_E
    acc = tl.zeros([BLOCK_Q, BLOCK_K], tl.float32)
    row = (split * rows_each).to(tl.int64)
    q_ptr += head * q_head
    k_ptr += head * k_head
    v_ptr += head * v_head
    do_ptr += head * do_head
    end = tl.minimum((split + 1) * rows_each, n_rows)
    stats = (row * n_heads + head) * n_q
    lse, delta = _statistics(lse_ptr + stats, delta_ptr + stats, queries, n_q)
    if MASKED:
        out = _is_out(mask_ptr + row * n_k, keys, n_k)
    for _ in range(end - split * rows_each):
        # For the next iteration: Triton prefetches tiles, but not what is smaller.
        next_row = tl.minimum(row + 1, n_rows - 1)
        stats = (next_row * n_heads + head) * n_q
        next_lse, next_delta = _statistics(lse_ptr + stats, delta_ptr + stats, queries, n_q)
        if MASKED:
            next_out = _is_out(mask_ptr + next_row * n_k, keys, n_k)
        q = _load_tile(q_ptr + row * q_row, q_at, first_q, n_q, dims, D, BLOCK_Q, EVEN)
        k = _load_tile(k_ptr + row * k_row, k_at, first_k, n_k, dims, D, BLOCK_K, EVEN)
        v = _load_tile(v_ptr + row * v_row, v_at, first_k, n_k, dims, D, BLOCK_K, EVEN)
        do = _load_tile(do_ptr + row * do_row, do_at, first_q, n_q, dims, D, BLOCK_Q, EVEN)
        s = tl.dot(q, tl.trans(k), input_precision="ieee") * scale + bias
        p = tl.exp2(s - lse[:, None])
        if MASKED:
            p = tl.where(out[None, :], 0.0, p)
            out = next_out
        dp = tl.dot(do, tl.trans(v), input_precision="ieee")
        acc += p * (dp - delta[:, None])
        lse, delta = next_lse, next_delta
        row += 1
    at = (split * n_heads + head) * n_q + queries
    pointers = dbias_ptr + at.to(tl.int64)[:, None] * n_k + keys[None, :]
    tl.store(pointers, acc, mask=(queries[:, None] < n_q) & (keys[None, :] < n_k))


def gate_cases() -> list[GateCase]:
    """What is compiled where there is no GPU: bf16, heads of 32 and, padded, of 48 channels."""
    kernels = {
        "forward": _attend,
        "query": _query_gradient,
        "key": _key_gradients,
        "bias": _bias_gradient,
    }
    cases = []
    for name, kernel in kernels.items():
        for d, even in ((32, True), (32, False), (48, False)):
            t = tiles(name, d)
            constexprs = {
                "D": d,
                "BLOCK_D": padded_width(d),
                "BLOCK_Q": t.queries,
                "BLOCK_K": t.keys,
            }
            constexprs |= {"MASKED": True, "EVEN": even}
            constexprs |= {"ROWS": t.rows} if name == "forward" else {}
            signature = {x: _argument_type(x) for x in kernel.arg_names if x not in constexprs}
            # The exponentials of the forward pass hide it: as fast on an H200 with it as without.
            case = GateCase(kernel, signature, constexprs, t.warps, t.stages)
            cases.append(case._replace(may_serialise=name == "forward"))
    return cases


def _argument_type(name: str) -> str:
    """The type of a kernel's argument in bf16."""
    special = {
        "mask_ptr": "*u8", "leading_ptr": "*i32", "lse_ptr": "*fp32", "delta_ptr": "*fp32",
        "dbias_ptr": "*fp32", "scale": "fp32",
    }  # fmt: skip
    return special.get(name, "*bf16" if name.endswith("_ptr") else "i32")
