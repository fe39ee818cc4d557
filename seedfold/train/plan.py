"""`seedfold train --plan`: what a run will need, before there is data or a GPU.

Parameters, tokens and FLOPs are exact. Memory is that of the tensors which a step keeps
(`activations`), and what one block takes while its gradients are made. Time is FLOPs divided by
what was measured on one H200 (docs/kernels.md): what is beyond those measurements is extrapolated,
and what was not measured at all is left out, which the text says.
"""

import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from seedfold.model.seedfold import SeedFold
from seedfold.train.activations import Activations, activations
from seedfold.train.compose import RunConfig
from seedfold.train.flops import Sizes, StepFlops, forward_flops, on_meta, step_flops

GIB, MIB = 2**30, 2**20
ATOMS_PER_TOKEN = 8
"""Heavy atoms of an amino acid, on average; a nucleotide has 21, an atom of a ligand is a token."""

MEASURED = {(128, 384): 7.43e-3, (128, 768): 31.8e-3, (512, 384): 33.8e-3, (512, 768): 158e-3}
"""(c_z, N_token) -> seconds of a training step of one pair block on an H200, in bf16 with the
Triton kernels, 2026-11-20: docs/kernels.md."""
LAUNCH = 14e-3
"""Seconds that Python needs to launch the same, for which a faster GPU waits: the same table."""
FP32_FLOPS = 67e12
"""Of an H100 or H200 without tensor cores, in which the structure module runs: NVIDIA's data sheet.
No measurement of ours, so that times are lower bounds."""
TRANSIENT, TRANSIENT_PAIRS = 570 * MIB, 10.2
"""What the backward pass of a pair block takes besides what it was left: bytes, and bf16 pair
tensors. Least squares of the peaks of the same table; within 9 % of each."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One stage: bytes of a device, FLOPs of an example, seconds of a step (None: not measured)."""

    config: RunConfig
    n_parameters: int
    state: float
    transient: float
    activations: Activations
    flops: StepFlops
    seconds: float | None

    @property
    def devices(self) -> int:
        """All of them."""
        return self.config.trainer.devices * self.config.trainer.nodes

    @property
    def examples(self) -> int:
        """Of a step, on all devices."""
        return self.config.data.batch_size * self.config.trainer.accumulate * self.devices

    @property
    def tokens(self) -> int:
        """Of all crops, if they are full."""
        return self.config.trainer.steps * self.examples * self.config.data.n_token

    def memory(self, checkpointed: bool) -> float:
        """Peak of a device."""
        kept, size = self.activations, self.config.data.batch_size
        bytes_kept = kept.checkpointed + kept.largest if checkpointed else kept.all
        return self.state + size * (bytes_kept + self.transient)


def plan(config: RunConfig) -> Plan:
    """What one stage will need."""
    network, sizes = on_meta(config.model), crop_sizes(config)
    on_gpu = config.trainer.accelerator != "cpu"
    each = config.data.batch_size * config.trainer.accumulate
    known = on_gpu and config.stage.precision == "bf16"
    return Plan(
        config=config,
        n_parameters=sum(p.numel() for p in network.parameters()),
        state=state_bytes(network, config),
        transient=TRANSIENT + TRANSIENT_PAIRS * 2 * config.data.n_token**2 * config.model.c_z,
        activations=activations(network, config.stage, sizes, on_gpu),
        flops=step_flops(network, config.stage, sizes),
        seconds=each * seconds(network, config) if known else None,
    )


def crop_sizes(config: RunConfig) -> Sizes:
    """A full crop of a protein with a deep alignment and templates."""
    n = config.data.n_token
    return Sizes(
        n_token=n,
        n_atom=ATOMS_PER_TOKEN * n,
        n_msa=min(config.data.inputs.n_msa_rows, config.model.trunk.msa.n_msa),
        n_templates=config.data.inputs.n_templates,
    )


def state_bytes(network: SeedFold, config: RunConfig) -> float:
    """Weights, gradients, two moments and the average, fp32; ZeRO cuts some by the devices.

    Source: ZeRO, arXiv 1910.02054, figure 1.
    """
    c = config.trainer
    weights = 4.0 * sum(p.numel() for p in network.parameters())
    trained = weights
    if config.stage.train == "confidence":
        trained = 4.0 * sum(p.numel() for p in network.confidence_head.parameters())
    zero = int(c.strategy[-1]) if c.strategy.startswith("deepspeed") else 0
    shares = [c.devices * c.nodes if zero >= stage else 1 for stage in (1, 2, 3)]
    return 2 * trained / shares[0] + trained / shares[1] + weights / shares[2] + weights


def block_rate(c_z: int, n_token: int) -> float:
    """FLOP/s of a pair block's training step, interpolated in the logarithms of width and crop."""

    def between(x: int, low: int, high: int) -> float:
        return min(1.0, max(0.0, math.log(x / low) / math.log(high / low)))

    u, v = between(c_z, 128, 512), between(n_token, 384, 768)
    weights = {128: 1 - u, 512: u}, {384: 1 - v, 768: v}
    return sum(
        weights[0][c] * weights[1][n] * 3 * (68 * n**2 * c**2 + 12 * n**3 * c) / time
        for (c, n), time in MEASURED.items()
    )


def seconds(network: SeedFold, config: RunConfig) -> float:
    """Lower bound of the time of one example."""
    stage, c_z, n = config.stage, config.model.c_z, config.data.n_token
    parts = forward_flops(network, crop_sizes(config))
    again = int(config.trainer.activation_checkpointing)
    trained = stage.train == "all"
    passes = (stage.n_cycles + 1) / 2 - 1 + (3 + again if trained else 1)
    learnt = 3 + again
    in_half = passes * parts.trunk_pass + learnt * parts.confidence * bool(stage.rollout_steps)
    rollout = stage.rollout_steps * (parts.call + parts.copy)
    in_single = rollout + parts.prepare * bool(stage.rollout_steps)
    if trained:
        copies = parts.call + stage.n_copies * parts.copy
        in_single += learnt * copies + 3 * (parts.prepare + parts.inputs + parts.distogram)
    trunk = max(in_half / block_rate(c_z, n), LAUNCH / 3 * passes * _n_pair_blocks(config))
    return trunk + in_single / FP32_FLOPS


def _n_pair_blocks(config: RunConfig) -> int:
    trunk = config.model.trunk
    templates = trunk.template.n_blocks * config.data.inputs.n_templates
    return trunk.pairformer.n_blocks + trunk.msa.n_blocks + templates


def describe(plans: Sequence[Plan]) -> Iterator[str]:
    """The lines of `--plan`, stage by stage from left to right."""
    first = plans[0].config
    yield f"{first.run.name}: {plans[0].n_parameters:,} parameters, pair width {first.model.c_z}"
    yield ""
    rows = [*_what(plans), *_memory(plans), *_time(plans)]
    label = max(len(name) for name, _ in rows)
    columns = [max(map(len, column)) for column in zip(*(cells for _, cells in rows), strict=True)]
    for name, cells in rows:
        line = "  ".join(map(str.rjust, cells, columns))
        yield f"{name.ljust(label)}  {line}".rstrip()
    for note in _notes(plans):
        yield from ["", *textwrap.wrap(note, 99)]


Row = tuple[str, list[str]]


def _what(plans: Sequence[Plan]) -> Iterator[Row]:
    configs = [p.config for p in plans]
    yield "folder", [Path(c.run.folder).name for c in configs]
    yield "starts from", [Path(c.run.start or "random weights").name for c in configs]
    yield "steps", [f"{c.trainer.steps:,}" for c in configs]
    yield "tokens of a crop", [f"{c.data.n_token}" for c in configs]
    alone = [c.stage.train == "confidence" for c in configs]
    copies = [str(c.stage.n_copies) for c in configs]
    yield "noised copies of a crop", ["-" if a else n for a, n in zip(alone, copies, strict=True)]
    yield "examples of a step", [f"{p.examples:,}" for p in plans]
    yield "devices", [f"{p.devices} {p.config.trainer.strategy}" for p in plans]
    yield "million tokens, if crops are full", [_number(p.tokens / 1e6) for p in plans]


def _memory(plans: Sequence[Plan]) -> Iterator[Row]:
    checkpointed = [p.config.trainer.activation_checkpointing for p in plans]
    yield "activation checkpointing", ["on" if c else "off" for c in checkpointed]
    yield "GiB of weights, moments, average", [f"{p.state / GIB:.1f}" for p in plans]
    yield "GiB in all, checkpointing off", [f"{p.memory(False) / GIB:.1f}" for p in plans]
    yield "GiB in all, checkpointing on", [f"{p.memory(True) / GIB:.1f}" for p in plans]


def _time(plans: Sequence[Plan]) -> Iterator[Row]:
    yield "TFLOP of an example", [_number(p.flops.model / 1e12) for p in plans]
    if any(p.seconds is None for p in plans):
        return
    hours = [(p.seconds or 0) * p.config.trainer.steps / 3600 for p in plans]
    yield "seconds of a step, at least", [_number(p.seconds or 0) for p in plans]
    yield "days, at least", [_number(h / 24) for h in hours]
    gpu_hours = zip(hours, plans, strict=True)
    yield "GPU-hours, at least", [_number(h * p.devices) for h, p in gpu_hours]


def _number(x: float) -> str:
    return f"{x:,.0f}" if x >= 100 else f"{x:.3g}"


def _notes(plans: Sequence[Plan]) -> Iterator[str]:
    yield (
        "Memory: of one device. Counted are the tensors that a step keeps for its gradients "
        f"({ATOMS_PER_TOKEN} atoms a token), and the peak of one block while gradients are made, "
        "as measured. Not counted: CUDA itself (about 1 GiB), fragmentation, communication."
    )
    if any(p.seconds is None for p in plans):
        yield "Time: of a CPU, or of a trunk in fp32, nothing was measured."
        return
    measured = ", ".join(
        f"{block_rate(c, n) / 1e12:.0f} TFLOP/s at width {c} and {n} tokens" for c, n in MEASURED
    )
    yield (
        f"Time: the trunk at the rate of a pair block on one NVIDIA H200 ({measured}; bf16, "
        "measured 2026-11-20, docs/kernels.md), but not faster than Python launches it "
        f"({LAUNCH * 1e3:.0f} ms a block, the same). Other widths and crops are interpolated, and "
        "beyond these as at the nearest; other GPUs differ. The structure module is fp32, of which "
        f"nothing was measured: the {FP32_FLOPS / 1e12:.0f} TFLOP/s of the H200's data sheet. Left "
        "out: waiting for data, communication, the optimiser, validation."
    )
