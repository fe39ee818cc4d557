"""Speed and memory of the kernels on one CUDA GPU, against their floors and against others.

    python scripts/benchmark_kernels.py --ceilings --json kernels.json --markdown
    python scripts/benchmark_kernels.py --ops softmax_core gated_core --n 384 768 --c-z 128
    python scripts/benchmark_kernels.py --block --json block.json   # training steps of a pair block
    python scripts/benchmark_kernels.py --tables kernels.json       # tables of earlier runs
    python scripts/benchmark_kernels.py --check                     # tries all this without a GPU

Two levels. *Cores* get q, k, v and a bias or gate in the memory layout each contender likes best,
in bf16. *Operations* are the public functions of `seedfold.kernels`, as in training: z and weights
in fp32 under bf16 autocast, gradients of both. 5 % of the tokens are padding.

Contenders: `triton` is this repository's; `eager` its plain PyTorch, `compile` the same under
torch.compile; `cuequivariance` (its public functions, with everything in bf16 where that is its
fast path) and `trifast` take part where they can be imported.

Times are medians of CUDA events. The GPU is held back while the host prepares a launch, so that
they are the GPU's, except with `--block`, where steps run as they come. Inputs that fit the L2
cache are rotated. *Peak* is the largest memory in use above the inputs, in U = one bf16 tensor
over pairs; *tiled* compares it, inputs included, with a tiled kernel's least (4 U and 7 U).
*Error* is the relative distance from fp32 where that fits. The floor of a row is the
slowest of tensor cores, exponentials and memory, at what an H200 reaches (`CEILINGS`).
"""

import argparse
import gc
import importlib.util
import itertools
import json
import math
import os
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seedfold import kernels
from seedfold.kernels.linear_triangle_attention.reference import attend_gated
from seedfold.kernels.triangle_attention.reference import attend
from seedfold.model.pairformer import PairBlock
from seedfold.model.primitives import Transition
from seedfold.model.triangle import TRIANGLE_ATTENTIONS, TriangleAttention, TriangleMultiplication

CONTENDERS = ["triton", "eager", "cuequivariance", "trifast", "compile"]
PASSES = ["forward", "backward", "both"]
CORES = ["softmax_core", "gated_core"]
PACKAGES = {
    "softmax": "triangle_attention",
    "linear_gated": "linear_triangle_attention",
    "linear_additive": "linear_triangle_attention",
    "multiplication": "triangle_multiplication",
    "transition": "transition",
}
"""Operations and their folders in kernels/."""
BLOCKS = ["block_softmax", "block_linear_gated"]

L2_BYTES = 60e6
EXACT_UP_TO = 512
"""Tokens up to which results are compared with fp32, whose scores are n * n * n * heads."""
MIB = 2**20


# The floor: what no implementation can beat on the machine that CEILINGS describes.


class Ceilings(NamedTuple):
    """Operations per second; `--ceilings` measures the first and the last."""

    flop: float
    exp: float
    bytes: float


CEILINGS = Ceilings(flop=790e12, exp=3.71e12, bytes=4.3e12)
"""One H200: an 8192^3 bf16 product, 16 exponentials a clock and multiprocessor, a copy."""


class Work(NamedTuple):
    """What an operation must do in one pass."""

    flop: float
    exp: float
    bytes: float

    def floor_ms(self) -> tuple[float, str]:
        """The least time, and what bounds it."""
        times = {
            name: 1e3 * amount / ceiling
            for name, amount, ceiling in zip(self._fields, self, CEILINGS, strict=True)
        }
        bound = max(times, key=lambda name: times[name])
        return times[bound], bound

    def plus(self, other: "Work") -> "Work":
        """Both."""
        return Work(*(a + b for a, b in zip(self, other, strict=True)))


class Model(NamedTuple):
    """Coefficients of `Work`; pairs are forward and backward.

    `dense`: n^2 c^2 FLOP of projections, twice that backward. `cubic`: n^3 c FLOP; the backward
    counts what the algorithm recomputes to save memory. `exp`: exponentials per score. `pairs`:
    tensors over pairs (U) to and from memory with everything fused; `maps`: likewise of n^2 heads
    numbers of 2 bytes (bias, lse).
    """

    dense: float
    cubic: tuple[float, float]
    exp: tuple[float, float]
    pairs: tuple[float, float]
    maps: tuple[float, float]


MODELS = {
    "softmax_core": Model(0, (4, 10), (1, 1), (4, 7), (3, 2)),
    "gated_core": Model(0, (4, 16), (0, 0), (4, 7), (1, 2)),
    "softmax": Model(10, (4, 10), (1, 1), (13, 26), (3, 2)),
    "linear_gated": Model(10, (4, 16), (0, 0), (13, 26), (1, 2)),
    "linear_additive": Model(10, (2, 4), (0, 0), (13, 26), (1, 2)),
    "multiplication": Model(12, (2, 4), (0, 0), (9, 18), (0, 0)),
    "transition": Model(24, (0, 0), (0, 0), (3, 6), (0, 0)),
}


class Case(NamedTuple):
    """What is measured, by all contenders."""

    op: str
    n: int
    c: int
    heads: int

    @property
    def pair_bytes(self) -> int:
        """U, the size of a bf16 tensor over pairs."""
        return 2 * self.n**2 * self.c


def work(case: Case, which: str) -> Work:
    """What one of `PASSES` has to do."""
    if which == "both":
        return work(case, "forward").plus(work(case, "backward"))
    if case.op in BLOCKS:
        attention = case.op.removeprefix("block_")
        parts = [*[attention, "multiplication"] * 2, "transition"]
        total = Work(0, 0, 0)
        for part in parts:
            total = total.plus(work(case._replace(op=part), which))
        return total
    model, i = MODELS[case.op], PASSES.index(which)
    n, c, heads = case.n, case.c, case.heads
    return Work(
        flop=model.dense * (1 + i) * n**2 * c**2 + model.cubic[i] * n**3 * c,
        exp=model.exp[i] * n**3 * heads,
        bytes=model.pairs[i] * case.pair_bytes + model.maps[i] * 2 * n**2 * heads,
    )


# The contenders.


class NotOfferedError(Exception):
    """A contender has no such operation."""


class Place(NamedTuple):
    """Where it runs, the half precision there, and whether blocks are timed without their host.

    A block of few tokens is soon done on a large GPU: Python, which launches its kernels, is then
    what takes the time, unless CUDA graphs or a larger model keep the queue full.
    """

    device: torch.device
    half: torch.dtype
    hide_host: bool = False


class Run(NamedTuple):
    """A contender on one set of inputs.

    `infer` is the forward pass without autograd and `train` that of training, which returns what
    `backward` takes. `canonical` lays out the result of `infer` as every contender's.
    """

    infer: Callable[[], Tensor]
    train: Callable[[], Any]
    backward: Callable[[Any], Any]
    canonical: Callable[[Tensor], Tensor] = lambda x: x


def by_autograd(
    function: Callable[[], Tensor],
    inputs: list[Tensor],
    canonical: Callable[[Tensor], Tensor] = lambda x: x,
) -> Run:
    """A run of a differentiable function of tensors that require gradients."""

    @torch.no_grad()
    def infer() -> Tensor:
        return function()

    direction: list[Tensor] = []

    def backward(out: Tensor) -> Any:
        if not direction:
            direction.append(torch.randn_like(out))
        return torch.autograd.grad(out, inputs, direction)

    return Run(infer, function, backward, canonical)


class CoreInputs(NamedTuple):
    """q, k, v [row, token, head, channel], bias or gate [head, token, token], mask [row, token]."""

    q: Tensor
    k: Tensor
    v: Tensor
    bias: Tensor
    mask: Tensor


def core_inputs(case: Case, place: Place, seed: int) -> CoreInputs:
    """Random operands; q, k and v as views of one tensor, as a projection leaves them."""
    generator = torch.Generator(place.device).manual_seed(seed)
    options: dict[str, Any] = {"device": place.device, "dtype": place.half}
    shape = case.n, case.n, 3, case.heads, case.c // case.heads
    packed = torch.randn(*shape, generator=generator, **options)
    bias = torch.randn(case.heads, case.n, case.n, generator=generator, **options)
    if case.op == "gated_core":
        packed[:, :, :2].relu_()
        bias.sigmoid_()
    mask = pair_mask(case, place)[0]
    if case.op == "gated_core":
        packed[:, :, 2] *= mask[..., None, None]
    q, k, v = packed.unbind(2)
    return CoreInputs(q, k, v, bias, mask)


def pair_mask(case: Case, place: Place) -> Tensor:
    """The last 5 % of the tokens are padding: [1, n, n]."""
    real = torch.arange(case.n, device=place.device) < case.n - case.n // 20
    return (real[:, None] & real[None, :])[None]


def leaves(*tensors: Tensor) -> list[Tensor]:
    """Copies, contiguous, that require gradients."""
    return [x.clone(memory_format=torch.contiguous_format).requires_grad_() for x in tensors]


def triton_core(case: Case, x: CoreInputs) -> Run:
    """The launchers of kernels/: not by autograd, so that nothing but the kernels is timed."""
    adapter = softmax_launchers if case.op == "softmax_core" else gated_launchers
    return adapter(x, torch.randn_like(x.q, memory_format=torch.contiguous_format))


def gradient_views(x: CoreInputs) -> tuple[Tensor, Tensor, Tensor]:
    """Memory for the gradients of q, k and v, laid out as they are."""
    n_rows, n, n_heads, d = x.q.shape
    d_q, d_k, d_v = x.q.new_empty(n_rows, n, 3, n_heads, d).unbind(2)
    return d_q, d_k, d_v


def softmax_launchers(x: CoreInputs, d_o: Tensor) -> Run:
    """kernels/triangle_attention."""
    from seedfold.kernels.triangle_attention import triton_kernels as launch

    def train() -> tuple[Tensor, Tensor]:
        return launch.attend(*x)

    def backward(saved: tuple[Tensor, Tensor]) -> Any:
        return launch.attend_backward(d_o, *x, *saved, *gradient_views(x))

    return Run(lambda: train()[0], train, backward)


def gated_launchers(x: CoreInputs, d_o: Tensor) -> Run:
    """kernels/linear_triangle_attention: one kernel four times, and that of the gate's gradient."""
    from seedfold.kernels.linear_triangle_attention import triton_kernels as launch

    q, k, v, gate, _ = x

    def forward() -> Tensor:
        return launch.gated(q, k, v, gate)

    def backward(_: Tensor) -> Any:
        d_q, d_k, d_v = gradient_views(x)
        turned = gate.mT.contiguous()
        launch.gated(d_o, v, k, gate, sign=q, out=d_q)
        launch.gated(v, d_o, q, turned, sign=k, out=d_k)
        launch.gated(k, q, d_o, turned, out=d_v)
        return launch.gate_gradient(d_o, q, k, v)

    return Run(forward, forward, backward)


def reference_core(case: Case, x: CoreInputs, compiled: bool) -> Run:
    """The definition in PyTorch, [row, head, token, channel]."""
    q, k, v, bias = tensors = leaves(*(y.transpose(1, 2) for y in x[:3]), x.bias)
    softmax = case.op == "softmax_core"
    function: Any = attend if softmax else attend_gated
    function = torch.compile(function, dynamic=False) if compiled else function
    rest = (x.mask,) if softmax else ()
    return by_autograd(lambda: function(q, k, v, bias, *rest), tensors, lambda o: o.transpose(1, 2))


def cuequivariance_core(case: Case, x: CoreInputs) -> Run:
    """q, k, v [1, row, head, token, channel]; a bias in fp32, to which it would be cast."""
    if case.op != "softmax_core":
        raise NotOfferedError("not offered")
    from cuequivariance_torch import triangle_attention  # type: ignore[import-not-found]

    q, k, v = (y.transpose(1, 2)[None] for y in x[:3])
    tensors = leaves(q, k, v, x.bias[None, None].float())
    mask = x.mask[None, :, None, None, :]
    return by_autograd(
        lambda: triangle_attention(*tensors, mask=mask), tensors, lambda o: o[0].transpose(1, 2)
    )


def trifast_core(case: Case, x: CoreInputs) -> Run:
    """q, k, v [1, head, row, token, channel]; its mask is True where keys are left out."""
    if case.op != "softmax_core":
        raise NotOfferedError("not offered")
    from trifast import triangle_attention  # type: ignore[import-not-found]

    q, k, v = (y.permute(2, 0, 1, 3)[None] for y in x[:3])
    tensors, left_out = leaves(q, k, v, x.bias[None]), ~x.mask[None]
    return by_autograd(
        lambda: triangle_attention(*tensors, left_out), tensors, lambda o: o[0].permute(1, 2, 0, 3)
    )


def core_run(case: Case, contender: str, place: Place, seed: int) -> Run:
    """A contender on random operands."""
    x = core_inputs(case, place, seed)
    if contender == "triton":
        return triton_core(case, x)
    if contender == "cuequivariance":
        return cuequivariance_core(case, x)
    if contender == "trifast":
        return trifast_core(case, x)
    return reference_core(case, x, contender == "compile")


class ForeignAttention(nn.Module):
    """Our softmax triangle attention, weights and all, around another program's core."""

    def __init__(self, ours: nn.Module, core: Callable[..., Tensor]):
        super().__init__()
        self.ours, self.core = ours, core

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """Returns the update of `z`."""
        ours: Any = self.ours
        y = ours.layer_norm(z)
        linears = ours.linear_q, ours.linear_k, ours.linear_v, ours.linear_gate
        qkvg = F.linear(y, torch.cat([linear.weight for linear in linears]))
        q, k, v, g = qkvg.unflatten(-1, (4, ours.n_heads, -1)).unbind(-3)
        bias = ours.linear_bias(y).permute(0, 3, 1, 2)  # [B N_head j k]
        o = self.core(q, k, v, bias, mask)
        return ours.linear_out((o * torch.sigmoid(g)).flatten(-2))


class ForeignMultiplication(nn.Module):
    """Our triangle multiplication's weights in cuEquivariance's function.

    All in half precision: with weights in fp32 it does not take its fastest kernels.
    """

    def __init__(self, ours: TriangleMultiplication, dtype: torch.dtype):
        super().__init__()
        self.ours, self.dtype = ours, dtype

    def forward(self, z: Tensor, mask: Tensor) -> Tensor:
        """Returns the update of `z`."""
        from cuequivariance_torch import (  # type: ignore[import-not-found]
            triangle_multiplicative_update,
        )

        w = self.ours
        operands = torch.cat([w.linear_a.weight, w.linear_b.weight])
        gates = torch.cat([w.linear_a_gate.weight, w.linear_b_gate.weight])
        weights = {
            "norm_in_weight": w.layer_norm_in.weight,
            "norm_in_bias": w.layer_norm_in.bias,
            "p_in_weight": operands,
            "g_in_weight": gates,
            "norm_out_weight": w.layer_norm_out.weight,
            "norm_out_bias": w.layer_norm_out.bias,
            "p_out_weight": w.linear_out.weight,
            "g_out_weight": w.linear_gate.weight,
        }
        weights = {name: x.to(self.dtype) for name, x in weights.items()}
        x, mask = z.to(self.dtype), mask.to(self.dtype)
        return triangle_multiplicative_update(x, direction=w.edges, mask=mask, **weights)


def foreign_core(contender: str) -> Callable[..., Tensor]:
    """Attention on [B, row, token, head, channel], bias [B, head, j, k], mask [B, row, token]."""
    if contender == "cuequivariance":
        from cuequivariance_torch import triangle_attention  # type: ignore[import-not-found]

        def core(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
            q, k, v = (x.transpose(2, 3) for x in (q, k, v))
            o = triangle_attention(q, k, v, bias[:, None], mask=mask[:, :, None, None, :])
            return o.transpose(2, 3)
    else:
        from trifast import triangle_attention  # type: ignore[import-not-found]

        def core(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
            q, k, v = (x.permute(0, 3, 1, 2, 4) for x in (q, k, v))
            return triangle_attention(q, k, v, bias, ~mask).permute(0, 2, 3, 1, 4)

    return core


def build(case: Case) -> nn.Module:
    """The module around an operation, or a pair block."""
    c_head = case.c // case.heads
    if case.op == "multiplication":
        return TriangleMultiplication(case.c, "outgoing")
    if case.op == "transition":
        return Transition(case.c, 4)
    kind = case.op.removeprefix("block_")
    attention = TRIANGLE_ATTENTIONS[kind].Config(c_head=c_head)  # type: ignore[attr-defined]
    if case.op in BLOCKS:
        return PairBlock(PairBlock.Config(triangle_attention=attention), case.c)
    return TRIANGLE_ATTENTIONS.build(attention, case.c)


def foreign(module: nn.Module, contender: str, half: torch.dtype) -> nn.Module:
    """The module with its triangle operations replaced by another program's.

    Raises:
        NotOfferedError: if the other program has none of them.
    """
    if isinstance(module, TriangleAttention):
        return ForeignAttention(module, foreign_core(contender))
    if isinstance(module, TriangleMultiplication) and contender == "cuequivariance":
        importlib.import_module("cuequivariance_torch")
        return ForeignMultiplication(module, half)
    replaced = 0
    for name, child in list(module.named_children()) if isinstance(module, PairBlock) else []:
        with suppress(NotOfferedError):
            module.add_module(name, foreign(child, contender, half))
            replaced += 1
    if not replaced:
        raise NotOfferedError("not offered")
    return module


def missing_kernels(case: Case) -> list[str]:
    """Folders in kernels/ without Triton kernels, of those that the case needs."""
    ops = [case.op.removeprefix("block_")]
    ops += ["multiplication", "transition"] if case.op in BLOCKS else []
    packages = [PACKAGES[op] for op in ops]
    found = importlib.util.find_spec
    return [p for p in packages if found(f"seedfold.kernels.{p}.fused") is None]


def weighted(case: Case, contender: str, place: Place) -> nn.Module:
    """A contender's module with random weights: as they start, many would be zero."""
    if contender == "triton" and (missing := missing_kernels(case)):
        raise NotOfferedError(f"no kernels: no `fused` in {', '.join(missing)}")
    torch.manual_seed(0)
    module = build(case)
    with torch.no_grad():
        for weight in module.parameters():
            if weight.dim() == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
    module = module.to(place.device).train()
    if contender in ("cuequivariance", "trifast"):
        return foreign(module, contender, place.half)
    return module


def operation_runs(case: Case, contender: str, place: Place, n_sets: int) -> list[Run]:
    """A contender on random z, with the same weights in all sets."""
    module = weighted(case, contender, place)
    function: Any = torch.compile(module, dynamic=False) if contender == "compile" else module
    implementation = "triton" if contender == "triton" else "reference"
    mask = () if case.op == "transition" else (pair_mask(case, place),)

    def call(z: Tensor) -> Tensor:
        mixed = torch.autocast(place.device.type, place.half, enabled=place.half.itemsize == 2)
        with kernels.use(implementation), mixed:
            return function(z, *mask)

    def run(seed: int) -> Run:
        generator = torch.Generator(place.device).manual_seed(seed)
        z = torch.randn(1, case.n, case.n, case.c, generator=generator, device=place.device)
        z.requires_grad_()
        return by_autograd(lambda: call(z), [z, *module.parameters()])

    return [run(seed) for seed in range(n_sets)]


def prepare(case: Case, contender: str, place: Place, n_sets: int) -> list[Run]:
    """A contender on several sets of inputs."""
    if case.op in CORES:
        return [core_run(case, contender, place, seed) for seed in range(n_sets)]
    return operation_runs(case, contender, place, n_sets)


def exact(case: Case, place: Place) -> Tensor | None:
    """The result for the first set of inputs in fp32; None where that may not fit."""
    if case.n > EXACT_UP_TO or case.op in BLOCKS:
        return None
    if case.op in CORES:
        q, k, v, bias, mask = core_inputs(case, place, 0)
        single = CoreInputs(q.float(), k.float(), v.float(), bias.float(), mask)
        run = reference_core(case, single, compiled=False)
    else:
        (run,) = operation_runs(case, "eager", place._replace(half=torch.float32), 1)
    return real_pairs(case, run)


def real_pairs(case: Case, run: Run) -> Tensor:
    """The part of the result that is not padding."""
    n = case.n - case.n // 20
    out = run.canonical(run.infer())
    return (out if case.op in CORES else out[0])[:n, :n].float()


# Measuring.


@dataclass
class Row:
    """One contender in one pass of one case; `reason` says why there are no numbers."""

    op: str
    c_z: int
    n: int
    heads: int
    direction: str
    contender: str
    floor_ms: float
    bound: str
    ms: float | None = None
    ps_per_score: float | None = None
    tflops: float | None = None
    percent_of_floor: float | None = None
    peak_mib: float | None = None
    peak_u: float | None = None
    tiled: float | None = None
    error: float | None = None
    reason: str = ""


def measure(
    case: Case, contender: str, passes: list[str], place: Place, truth: Tensor | None
) -> list[Row]:
    """All passes of a contender; whatever it raises becomes the reason in the rows that lack."""
    rows = {which: empty_row(case, contender, which) for which in passes}
    reason = ""
    try:
        runs = prepare(case, contender, place, n_input_sets(case))
        if truth is not None:
            error = (real_pairs(case, runs[0]) - truth).norm() / truth.norm()
            for row in rows.values():
                row.error = error.item()
        for which, row in rows.items():
            fill(row, case, which, runs, place)
    except NotOfferedError as refusal:
        reason = str(refusal)
    except ImportError as missing:
        reason = f"not importable: {missing}"
    except torch.OutOfMemoryError:
        reason = "out of memory"
    except Exception as failure:
        reason = f"{type(failure).__name__}: {(str(failure).splitlines() or [''])[0][:200]}"
    for row in rows.values():
        row.reason = reason if row.ms is None else ""
    return list(rows.values())


def n_input_sets(case: Case) -> int:
    """As many as make the L2 cache useless, where one set would fit it."""
    size = 3 * case.pair_bytes
    return 1 if size > L2_BYTES else min(16, max(3, math.ceil(2 * L2_BYTES / size)))


def empty_row(case: Case, contender: str, which: str) -> Row:
    """A row without numbers but the floor."""
    floor, bound = work(case, which).floor_ms()
    return Row(case.op, case.c, case.n, case.heads, which, contender, floor, bound)


def fill(row: Row, case: Case, which: str, runs: list[Run], place: Place) -> None:
    """Measures one pass."""
    row.ms = median_ms(runs, which, place, hide_host=place.hide_host or case.op not in BLOCKS)
    row.tflops = work(case, which).flop / row.ms / 1e9
    row.percent_of_floor = 100 * row.floor_ms / row.ms
    if MODELS.get(case.op, MODELS["transition"]).cubic[0]:
        row.ps_per_score = 1e9 * row.ms / (case.n**3 * case.heads)
    if place.device.type != "cuda":
        return
    peak = peak_bytes(runs[0], which)
    row.peak_mib, row.peak_u = peak / MIB, peak / case.pair_bytes
    if case.op in CORES:
        # Inputs of the forward pass are q, k and v; of the backward pass also d_o.
        inputs, tiled = (3, 4) if which == "forward" else (4, 7)
        row.tiled = (row.peak_u + inputs) / tiled


def steps(run: Run, which: str) -> tuple[Callable[[], Any], Callable[[Any], Any]]:
    """What comes before the clock starts, and what is timed."""
    if which == "forward":
        return lambda: None, lambda _: run.infer()
    if which == "backward":
        return run.train, run.backward
    return lambda: None, lambda _: run.backward(run.train())


def median_ms(runs: list[Run], which: str, place: Place, hide_host: bool) -> float:
    """Median time of a pass, the runs in turn; on a CPU the time of one."""
    if place.device.type != "cuda":
        before, timed = steps(runs[0], which)
        state, start = before(), time.perf_counter()
        timed(state)
        return 1e3 * (time.perf_counter() - start)
    turns = itertools.cycle(runs)
    warm_up = [cuda_ms(*steps(next(turns), which)) for _ in range(3)]
    before, timed = steps(runs[0], which)
    state, start = before(), time.perf_counter()
    timed(state)
    host = time.perf_counter() - start if hide_host else 0.0
    del state
    n_repeats = min(60, max(5, int(250 / min(warm_up))))
    return statistics.median(cuda_ms(*steps(next(turns), which), host) for _ in range(n_repeats))


def cuda_ms(
    before: Callable[[], Any], timed: Callable[[Any], Any], host_seconds: float = 0.0
) -> float:
    """Milliseconds between two events, behind a sleep that is longer than launching takes."""
    state = before()
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    if host_seconds:
        torch.cuda._sleep(int(2e9 * min(0.1, 1.5 * host_seconds)))  # Clocks, below 2 GHz.
    start.record()
    timed(state)
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def peak_bytes(run: Run, which: str) -> int:
    """The largest memory during a pass above that of the inputs; what forward saved counts."""
    before, timed = steps(run, which)
    torch.cuda.synchronize()
    resting = torch.cuda.memory_allocated()
    state = before()
    torch.cuda.reset_peak_memory_stats()
    timed(state)
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - resting


def measured_ceilings() -> dict[str, float]:
    """A large matrix product and a large copy, in operations and bytes per second."""
    x, y = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.empty(4 * 10**9, device="cuda", dtype=torch.uint8).random_()
    target = torch.empty_like(source)
    place = Place(torch.device("cuda"), torch.bfloat16)

    def ms(function: Callable[[], Any]) -> float:
        return median_ms([Run(function, function, lambda _: None)], "forward", place, True)

    product, copy = ms(lambda: x @ y), ms(lambda: target.copy_(source))
    return {"flop": 2e3 * 8192**3 / product, "bytes": 2e3 * source.numel() / copy}


# Telling.


def text(x: float | None, digits: int = 3) -> str:
    """A number with so many significant digits; `-` for none."""
    if x is None or not math.isfinite(x):
        return "-"
    if x == 0:
        return "0"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(x))))
    return f"{x:.{decimals}f}" if decimals < 6 else f"{x:.1e}"


TITLE = (
    f"{'operation':18} {'c_z':>4} {'n':>5} {'pass':8} {'contender':14} {'ms':>8} {'ps/score':>8} "
    f"{'TFLOP/s':>8} {'% floor':>8} {'bound':>6} {'MiB':>8} {'U':>6} {'tiled':>6} {'error':>8}"
)


def line(row: Row) -> str:
    """A row as a line under `TITLE`."""
    direction = "-" if row.reason else row.direction
    start = f"{row.op:18} {row.c_z:4} {row.n:5} {direction:8} {row.contender:14}"
    if row.reason:
        return f"{start} {row.reason}"
    return (
        f"{start} {text(row.ms):>8} {text(row.ps_per_score):>8} {text(row.tflops):>8} "
        f"{text(row.percent_of_floor):>8} {row.bound:>6} {text(row.peak_mib):>8} "
        f"{text(row.peak_u):>6} {text(row.tiled):>6} {text(row.error, 2):>8}"
    )


def short(reason: str) -> str:
    """A reason for a cell of a table; the list below the table has it in full."""
    return reason.split(":")[0] or "-"


def tables(rows: list[Row]) -> str:
    """Markdown: times, then memory, one line a case and pass, one column a contender."""
    names = [name for name in CONTENDERS if any(row.contender == name for row in rows)]
    cases: dict[tuple[str, str, int, int], dict[str, Row]] = {}
    for row in rows:
        cases.setdefault((row.op, row.direction, row.c_z, row.n), {})[row.contender] = row
    times = markdown(
        ["operation", "pass", "c_z", "n", "floor", *names, "of floor", "ps/score", "TFLOP/s"],
        [[*key, *time_cells(found, names)] for key, found in cases.items()],
    )
    memory = markdown(
        ["operation", "pass", "c_z", "n", *names, "U", "tiled"],
        [[*key, *memory_cells(found, names)] for key, found in cases.items()],
    )
    reasons = sorted({f"- {r.contender}, {r.op}: {r.reason}" for r in rows if r.reason})
    notes = "\n\nWithout numbers:\n\n" + "\n".join(reasons) if reasons else ""
    return f"Milliseconds:\n\n{times}\n\nPeak memory above the inputs, MiB:\n\n{memory}{notes}"


def time_cells(found: dict[str, Row], names: list[str]) -> list[str]:
    """Floor, milliseconds of all, and how good ours are."""
    any_row, ours = next(iter(found.values())), found.get("triton")
    cells = [text(any_row.floor_ms)]
    cells += [
        (text(r.ms) if r.ms else short(r.reason)) if (r := found.get(n)) else "" for n in names
    ]
    if ours is None or ours.ms is None:
        return [*cells, "", "", ""]
    percent = f"{text(ours.percent_of_floor, 2)} % {ours.bound}"
    return [*cells, percent, text(ours.ps_per_score), text(ours.tflops)]


def memory_cells(found: dict[str, Row], names: list[str]) -> list[str]:
    """MiB of all, and ours in the two units."""
    rows = [found.get(name) for name in names]
    ours = found.get("triton")
    last = [text(ours.peak_u), text(ours.tiled)] if ours else ["", ""]
    return [text(row.peak_mib) if row else "" for row in rows] + last


def markdown(head: list[str], body: list[list[Any]]) -> str:
    """A table; numbers are set to the right."""
    lines = [head, ["---" if name in ("operation", "pass") else "--:" for name in head], *body]
    return "\n".join("| " + " | ".join(str(cell) for cell in cells) + " |" for cells in lines)


def caption(about: dict[str, Any]) -> str:
    """A line above tables."""
    versions = ", ".join(f"{name} {about[name]}" for name in ("torch", "triton", "cuda"))
    return f"{about['device']}; {versions}; {about['date']}: `{about['command']}`"


def header(place: Place) -> dict[str, Any]:
    """What the numbers depend on."""
    cuda = place.device.type == "cuda"
    try:
        import triton

        version = triton.__version__
    except ImportError:
        version = "none"
    return {
        "device": torch.cuda.get_device_name() if cuda else "CPU: the times mean nothing",
        "torch": torch.__version__,
        "triton": version,
        "cuda": torch.version.cuda or "none",
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "command": shlex.join(["python", *sys.argv]),
    }


# The run.


def arguments_of(argv: list[str] | None) -> argparse.Namespace:
    """The command line with its defaults filled in."""
    parser = argparse.ArgumentParser(description="Speed and memory of the kernels")
    parser.add_argument("--ops", nargs="+", choices=[*CORES, *PACKAGES])
    parser.add_argument("--block", action="store_true", help="training steps of pair blocks")
    parser.add_argument("--n", type=int, nargs="+")
    parser.add_argument("--c-z", type=int, nargs="+")
    parser.add_argument("--c-head", type=int, default=32)
    parser.add_argument("--passes", nargs="+", choices=PASSES)
    parser.add_argument("--against", nargs="*", choices=CONTENDERS[1:], default=CONTENDERS[1:])
    parser.add_argument(
        "--hide-host", action="store_true", help="time blocks, too, with their launches queued up"
    )
    parser.add_argument("--ceilings", action="store_true", help="first measure the machine")
    parser.add_argument("--budget-seconds", type=float, default=math.inf)
    parser.add_argument("--json", type=Path, metavar="PATH", help="write the rows")
    parser.add_argument("--markdown", action="store_true", help="print tables at the end")
    parser.add_argument("--tables", type=Path, nargs="+", metavar="PATH", help="measure nothing")
    parser.add_argument("--check", action="store_true", help="tiny sizes on the CPU")
    chosen = parser.parse_args(argv)
    ops, sizes, widths, passes = defaults(chosen.check, chosen.block)
    chosen.ops = chosen.ops or ops
    chosen.n, chosen.c_z = chosen.n or sizes, chosen.c_z or widths
    chosen.passes = chosen.passes or passes
    return chosen


def defaults(check: bool, block: bool) -> tuple[list[str], list[int], list[int], list[str]]:
    """Operations, tokens, widths and passes."""
    ops = BLOCKS if block else [*CORES, *PACKAGES]
    passes = ["both"] if block else PASSES
    if check:
        return ops, [16], [32], passes
    if block:
        return ops, [384, 768], [128, 512], passes
    return ops, [256, 384, 512, 768, 1024, 2048], [128, 256, 384, 512], passes


def main(argv: list[str] | None = None) -> None:
    """Measures and prints."""
    chosen = arguments_of(argv)
    if chosen.tables:
        saved = [json.loads(path.read_text()) for path in chosen.tables]
        print(*(caption(record["about"]) for record in saved), "", sep="\n")
        print(tables([Row(**row) for record in saved for row in record["rows"]]))
        return
    if chosen.check:
        os.environ["TRITON_INTERPRET"] = "1"  # Read when the kernels are imported.
        # Triton's interpreter computes bf16 wrongly.
        place = Place(torch.device("cpu"), torch.float16)
    elif torch.cuda.is_available():
        place = Place(torch.device("cuda"), torch.bfloat16, chosen.hide_host)
    else:
        sys.exit("no CUDA device; `--check` tries the script on the CPU")
    about = header(place)
    if chosen.ceilings and place.device.type == "cuda":
        about["ceilings"] = measured_ceilings()
    print(caption(about))
    for name, value in about.get("ceilings", {}).items():
        print(f"ceiling: {value:.4g} {name}/s, taken as {getattr(CEILINGS, name):.4g}")
    rows = run(chosen, place, about)
    if chosen.markdown:
        print(f"\n{tables(rows)}")


def run(chosen: argparse.Namespace, place: Place, about: dict[str, Any]) -> list[Row]:
    """All cases, each printed, and written if asked, as soon as it is there."""
    rows: list[Row] = []
    left_out: list[str] = []
    deadline = time.monotonic() + chosen.budget_seconds
    print(f"\n{TITLE}")
    for op, c, n in itertools.product(chosen.ops, chosen.c_z, chosen.n):
        case = Case(op, n, c, max(1, c // chosen.c_head))
        if time.monotonic() > deadline:
            left_out.append(f"{op} c_z={c} n={n}")
            continue
        for new in rows_of(case, chosen, place, deadline, left_out):
            rows += new
            print("\n".join(dict.fromkeys(line(row) for row in new)), flush=True)
        if chosen.json:
            record = {"about": about, "left_out": left_out, "rows": [asdict(r) for r in rows]}
            chosen.json.write_text(json.dumps(record, indent=1))
    if left_out:
        print("\nLeft out, the time was up:", *left_out, sep="\n")
    return rows


def rows_of(
    case: Case, chosen: argparse.Namespace, place: Place, deadline: float, left_out: list[str]
) -> Iterator[list[Row]]:
    """The rows of each contender that is still in time; the others go to `left_out`."""
    truth = None
    for contender in ("triton", *chosen.against):
        if time.monotonic() > deadline:
            left_out.append(f"{case.op} c_z={case.c} n={case.n} {contender}")
            continue
        if contender == "triton":
            with suppress(torch.OutOfMemoryError):
                truth = exact(case, place)
        yield measure(case, contender, chosen.passes, place, truth)
        clean_up(contender)


def clean_up(contender: str) -> None:
    """Gives back memory, and compiled functions, which are counted and limited."""
    if contender == "compile":
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
