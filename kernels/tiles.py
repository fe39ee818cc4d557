"""What Triton kernels share, and how they are described to the tests that have no GPU."""

import os
from typing import Any, NamedTuple, no_type_check

import triton
import triton.language as tl

INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
"""Whether kernels run in Triton's interpreter, which knows no assembly."""


@triton.jit
@no_type_check
def settled(acc):
    """`acc`, a sum of products carried through a loop, with nothing of it still under way.

    Triton lets the last product of an iteration run on into the next. If another product starts
    there, ptxas finds that it cannot keep the two apart and makes every single matrix instruction
    of the loop wait for the one before (its note C7515), which costs far more. A use of the sum
    inside the loop, here a move that costs nothing, makes Triton wait for it.
    """
    if not INTERPRETED:
        acc = tl.inline_asm_elementwise(
            "mov.b32 $0, $1;", "=f,f", [acc], dtype=tl.float32, is_pure=True, pack=1
        )
    return acc


@triton.jit
@no_type_check
def scaled_to_half(x, factor):
    """`x`, fp32, times `factor` in the precision of `factor`.

    For bfloat16 in pairs, which is what the hardware has; compilers lose sight of the pairs when a
    factor is used more than once. The product with -0 added is the product, on every GPU since
    sm_80.
    """
    if INTERPRETED or factor.dtype != tl.bfloat16:
        product = x.to(factor.dtype) * factor
    else:
        product = tl.inline_asm_elementwise(
            """{
            .reg .b32 x, zero;
            mov.b32 zero, 0x80008000;
            cvt.rn.bf16x2.f32 x, $2, $1;
            fma.rn.bf16x2 $0, x, $3, zero;
            }""",
            "=r,f,f,r",
            [x, factor],
            dtype=tl.bfloat16,
            is_pure=True,
            pack=2,
        )
    return product


EPS = tl.constexpr(1e-5)
"""Of every LayerNorm, as in torch."""


@triton.jit
@no_type_check
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + tl.exp(-x))


@triton.jit
@no_type_check
def standardised(x, inside, C: tl.constexpr):
    """(x - mean) / deviation over the channels, axis 1, 0 where not inside; and 1 / deviation."""
    mean = tl.sum(x, 1) / C
    centred = tl.where(inside, x - mean[:, None], 0.0)
    rstd = tl.rsqrt(tl.sum(centred * centred, 1) / C + EPS)
    return centred * rstd[:, None], rstd


@triton.jit
@no_type_check
def block_of(ptr, row, column, N_ROWS: tl.constexpr, N_COLUMNS: tl.constexpr, EVEN: tl.constexpr):
    """A block of a contiguous matrix; `EVEN`: no block reaches over its edges."""
    at = ptr + row[:, None] * N_COLUMNS + column[None, :]
    if EVEN:
        return tl.load(at)
    return tl.load(at, mask=(row < N_ROWS)[:, None] & (column < N_COLUMNS)[None, :], other=0.0)


class MatrixTile(NamedTuple):
    """Rows, output channels and summed channels of a tile, and how many warps and stages."""

    m: int
    n: int
    k: int
    warps: int
    stages: int


def padded_width(d: int) -> int:
    """The width of a tile for `d` channels: a power of two, for a matrix product at least 16."""
    return max(16, 1 << (d - 1).bit_length())


def parts_of_rows(n_rows: int, n_programs: int) -> int:
    """In how many parts to sum over rows so that a large GPU is kept busy to the end.

    A kernel that gives every tile of its result one program has few of them, and the last to start
    would run alone. Sums of parts are added up afterwards, in a fixed order.
    """
    return max(1, min(1024 // max(1, n_programs), 16, n_rows // 16))


class GateCase(NamedTuple):
    """One compilation of a kernel, and what must hold of the machine code.

    `signature` maps the names of run-time arguments to types ("*bf16", "i32"), `constexprs` the
    rest to values. Pointers, 64-bit integers and strides (names with `stride`, `_row`, `_at` or
    `_head`) are taken as divisible by 16, as those of real launches are. `tensor_cores`: matrix
    instructions must be there. `targets`: the compute capabilities that it is for.
    `max_local`: bytes of spilled registers, where a tile with a few was measured to be faster than
    any without. `may_serialise`: matrix instructions may wait for one another, see `settled`.
    """

    kernel: Any
    signature: dict[str, str]
    constexprs: dict[str, Any]
    num_warps: int
    num_stages: int
    max_registers: int = 255
    tensor_cores: bool = True
    targets: tuple[int, ...] = (80, 90)
    max_local: int = 0
    may_serialise: bool = False
