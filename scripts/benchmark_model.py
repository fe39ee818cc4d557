"""Speed and peak memory of the model on this machine's CPU.

    python scripts/benchmark_model.py                         # the table of docs
    python scripts/benchmark_model.py --c-z 128 --n 384 --repeats 5

One Pairformer block (fp32, no gradients) is compared with the matrix products that it cannot do
without, run alone at the same shapes in blocks as small as its own. Both are timed in turn and the
fastest of several runs counts, so that other work on the machine disturbs both or neither. Peak
memory is the growth of the process's resident size during one run, in pair tensors (n * n * c_z
numbers); Linux only.

    python scripts/benchmark_model.py --predict nano seedfold_128 --inputs examples/monomer.fasta

Whole predictions, features to scores, of networks with random weights: seconds, the peak resident
size of the process, and the forecast of it that `seedfold predict` would have shown.
"""

import argparse
import ctypes
import gc
import time
from collections.abc import Callable
from pathlib import Path

import torch

from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.featurize import FeatureOptions
from seedfold.memory import GIB, PeakMemory
from seedfold.model.pairformer import PairBlock, PairformerStack
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.model.triangle import TRIANGLE_ATTENTIONS
from seedfold.models import LoadedModel
from seedfold.prediction import Settings, fold, prepare

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
C_S = 384
ROWS = 8
"""Rows of the pair representation that the matrix products take at a time."""


def main() -> None:
    """Prints one table after another."""
    parser = argparse.ArgumentParser(description="Speed and peak memory of the model")
    parser.add_argument("--c-z", type=int, nargs="*", default=[128, 256, 512])
    parser.add_argument("--n", type=int, nargs="*", default=[128, 256, 384, 512])
    parser.add_argument("--kind", choices=list(TRIANGLE_ATTENTIONS), default="softmax")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--predict", nargs="*", metavar="PRESET", choices=list(PRESETS))
    parser.add_argument("--inputs", nargs="*", type=Path, default=[EXAMPLES / "monomer.fasta"])
    parser.add_argument("--samples", type=int, default=1)
    parser.add_argument("--cycles", type=int, default=1)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    if arguments.predict:
        settings = Settings(
            n_samples=arguments.samples, n_cycles=arguments.cycles, n_steps=arguments.steps
        )
        prediction_table(arguments.predict, arguments.inputs, settings)
        return
    with torch.inference_mode():
        pairformer_table(arguments.c_z, arguments.n, arguments.kind, arguments.repeats)


def pairformer_table(widths: list[int], lengths: list[int], kind: str, repeats: int) -> None:
    """One Pairformer block against its matrix products."""
    threads = torch.get_num_threads()
    print(f"One Pairformer block, {kind} triangle attention, fp32, {threads} threads\n")
    print("| c_z | n | block s | its products s | ratio | peak MiB | pair tensors |")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for c_z in widths:
        for n in lengths:
            block, products = pairformer_case(n, c_z, kind)
            seconds, alone = fastest([block, products], repeats)
            peak = peak_growth(block)
            pair = 4 * n * n * c_z
            print(
                f"| {c_z} | {n} | {seconds:.3f} | {alone:.3f} | {seconds / alone:.2f} "
                f"| {peak / 2**20:.0f} | {peak / pair:.2f} |",
                flush=True,
            )


def prediction_table(presets: list[str], inputs: list[Path], settings: Settings) -> None:
    """Whole predictions, one process for all: peaks include what a process needs anyway."""
    print(f"Whole predictions, fp32, {torch.get_num_threads()} threads, {settings}\n")
    print("| preset | tokens | atoms | MSA rows | seconds | peak GiB | forecast GiB |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    cpu, options = torch.device("cpu"), FeatureOptions()
    for name in presets:
        network = SeedFold(PRESETS[name]()).eval()
        model = LoadedModel(
            name=name, network=network, device=cpu, precision="fp32", trained=False, options=options
        )
        for path in inputs:
            prepared = prepare(read_queries(path)[0], options)
            sizes = prepared.n_token, prepared.n_atom, prepared.n_msa
            expected = model.forecast(*sizes, settings.n_samples)
            ctypes.CDLL("libc.so.6").malloc_trim(0)
            start = time.perf_counter()
            with PeakMemory(cpu) as peak:
                fold(model, prepared, 1, settings, lambda *_: None)
            seconds = time.perf_counter() - start
            forecast = expected.peak(expected.chunks[0], settings.n_samples) / GIB
            row = f"| {name} | {sizes[0]} | {sizes[1]} | {sizes[2]} | {seconds:.1f} "
            print(row + f"| {peak.gib:.2f} | {forecast:.2f} |", flush=True)


def pairformer_case(n: int, c_z: int, kind: str) -> tuple[Callable[[], object], Callable[[], None]]:
    """A Pairformer block on random input, and its matrix products."""
    attention = TRIANGLE_ATTENTIONS[kind].Config()  # type: ignore[attr-defined]
    config = PairformerStack.Config(n_blocks=1, pair=PairBlock.Config(triangle_attention=attention))
    block = PairformerStack(config, C_S, c_z).eval()
    s, z = torch.randn(1, n, C_S), torch.randn(1, n, n, c_z)
    mask = torch.ones(1, n, dtype=torch.bool)
    return lambda: block(s, z, mask), matrix_products(n, c_z, kind)


def matrix_products(n: int, c_z: int, kind: str) -> Callable[[], None]:
    """The products of the block's triangle operations and transition, the single track left out."""
    n_heads, blocks = c_z // 32, range(0, n, ROWS)
    operands: dict[tuple[int, ...], tuple[torch.Tensor, ...]] = {}

    def product(*shape: int) -> None:
        """A batch of products of a [*, k] and a transposed [*, k] matrix, in memory made before."""
        *batch, rows, k, columns = shape
        if shape not in operands:
            x, y = torch.randn(*batch, rows, k), torch.randn(*batch, columns, k)
            operands[shape] = x, y.mT, x.new_empty(*batch, rows, columns)
        x, y, out = operands[shape]
        torch.matmul(x, y, out=out)

    def per_row() -> None:
        positions = ROWS * n
        for _ in range(2):
            for _ in range(6):  # Multiplication: two operands, their gates, gate, output.
                product(positions, c_z, c_z)
            product(positions, c_z, 4 * c_z)  # Attention: q, k, v, gate.
            product(positions, c_z, n_heads)
            attention()
            product(positions, c_z, c_z)
        product(positions, c_z, 4 * c_z)
        product(positions, c_z, 4 * c_z)
        product(positions, 4 * c_z, c_z)

    def attention() -> None:
        heads = ROWS * n_heads
        if kind == "linear_additive":
            product(heads, 32, n, 32)
            product(heads, n, 32, 32)
            product(n_heads, n, n, ROWS * 32)
        else:
            product(heads, n, 32, n)
            product(heads, n, n, 32)

    def run() -> None:
        for _ in blocks:
            per_row()
        for _ in range(2):
            product(c_z, n, n, n)

    return run


def fastest(functions: list[Callable[[], object]], repeats: int) -> list[float]:
    """Seconds of the fastest run of each, all of them in turn."""
    best = [float("inf")] * len(functions)
    for _ in range(repeats):
        for i, function in enumerate(functions):
            start = time.perf_counter()
            function()
            best[i] = min(best[i], time.perf_counter() - start)
    return best


def peak_growth(function: Callable[[], object]) -> int:
    """Bytes by which the resident size grows during one run that is not the first."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # Memory kept from earlier runs would hide growth.
    Path("/proc/self/clear_refs").write_text("5")  # Sets the high-water mark back.
    before = resident("VmRSS")
    function()
    return resident("VmHWM") - before


def resident(name: str) -> int:
    """A size from /proc/self/status in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"no {name} in /proc/self/status; this needs Linux")


if __name__ == "__main__":
    main()
