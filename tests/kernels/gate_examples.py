"""Kernels with one fault each, and one without, to see the compile gate fail and pass."""

import triton
import triton.language as tl

from seedfold.kernels.tiles import GateCase


@triton.jit
def product(x_ptr, y_ptr, out_ptr, n, stride, BLOCK: tl.constexpr, D: tl.constexpr):
    """out = x y^T for [n, D] matrices; one program does all columns of its rows."""
    rows, dims = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK), tl.arange(0, D)
    x = tl.load(x_ptr + rows[:, None] * stride + dims[None, :], mask=rows[:, None] < n, other=0.0)
    for start in range(0, n, BLOCK):
        columns = start + tl.arange(0, BLOCK)
        inside = columns[:, None] < n
        y = tl.load(y_ptr + columns[:, None] * stride + dims[None, :], mask=inside, other=0.0)
        out = tl.dot(x, tl.trans(y), input_precision="ieee").to(out_ptr.dtype.element_ty)
        at = rows[:, None] * stride + columns[None, :]
        tl.store(out_ptr + at, out, mask=(rows[:, None] < n) & (columns[None, :] < n))


@triton.jit
def difference(x_ptr, y_ptr, out_ptr, n, stride, BLOCK: tl.constexpr, D: tl.constexpr):
    """Not a matrix product at all."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x, y = tl.load(x_ptr + at, mask=at < n), tl.load(y_ptr + at, mask=at < n)
    tl.store(out_ptr + at, x - y, mask=at < n)


@triton.jit
def entangled(x_ptr, y_ptr, out_ptr, n, stride, BLOCK: tl.constexpr, D: tl.constexpr):
    """A product of each iteration runs on into the next, where another one starts."""
    at, dims = tl.arange(0, BLOCK), tl.arange(0, D)
    x = tl.load(x_ptr + at[:, None] * stride + dims[None, :])
    sum = tl.zeros([BLOCK, D], tl.float32)
    for start in range(0, n, 64):
        keys = start + tl.arange(0, 64)
        y = tl.load(y_ptr + keys[:, None] * stride + dims[None, :])
        gate = tl.load(y_ptr + at[:, None] * stride + keys[None, :])
        scores = tl.dot(x, tl.trans(y)).to(x.dtype) * gate
        sum = tl.dot(scores, y, sum)
    tl.store(out_ptr + at[:, None] * stride + dims[None, :], sum.to(x.dtype))


@triton.jit
def undefined(x_ptr, y_ptr, out_ptr, n, stride, BLOCK: tl.constexpr, D: tl.constexpr):
    """A matrix product whose operands do not fit."""
    x = tl.zeros([BLOCK, D], tl.bfloat16)
    tl.store(out_ptr + tl.arange(0, BLOCK), tl.sum(tl.dot(x, x), 1))


def case(kernel, block, d, warps, stages=2, **expected):
    pointers = dict.fromkeys(("x_ptr", "y_ptr", "out_ptr"), "*bf16")
    signature = {**pointers, "n": "i32", "stride": "i64"}
    return GateCase(kernel, signature, {"BLOCK": block, "D": d}, warps, stages, **expected)


EXAMPLES = {
    "sound": case(product, 64, 32, 4),
    "spilled": case(product, 128, 16, 1),
    "too many registers": case(product, 64, 32, 4, max_registers=16),
    "too much memory": case(product, 128, 512, 8, 3),
    "too much memory on sm_80": case(product, 128, 128, 8, 5),
    "no tensor cores": case(difference, 1024, 32, 4),
    "no need of tensor cores": case(difference, 1024, 32, 4, tensor_cores=False),
    "entangled": case(entangled, 128, 32, 8, 3),
    "not compiled": case(undefined, 64, 32, 4),
}


def gate_cases():
    return list(EXAMPLES.values())
