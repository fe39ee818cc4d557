"""Examples a second of one loader process, and how long a training step would wait for them.

python scripts/benchmark_loader.py DATA_SET [--tokens 384] [--seconds 20] [--rows 4096]

DATA_SET is a folder of `seedfold prepare`. With `--rows` every protein gets a made-up alignment of
so many rows, in a copy beside the data set: rows 20 to 90 % identical, with gaps. Numbers are of
this machine; run it on an idle one.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from seedfold.data_pipeline.alignments import Msa
from seedfold.data_pipeline.chemistry import GAP, RESTYPE_INDEX
from seedfold.data_pipeline.examples.keyed_store import write_store
from seedfold.data_pipeline.examples.msa_store import msa_key, pack_msa
from seedfold.data_pipeline.examples.training_set import MSAS, TrainingSet, letters
from seedfold.train.data import Batches, Places
from seedfold.train.examples import Examples
from seedfold.train.sources import DataConfig, Source


def with_alignments(folder: Path, n_row: int, scratch: Path) -> Path:
    """The data set with an alignment for every protein sequence."""
    for item in folder.iterdir():
        if item.name != MSAS:
            (scratch / item.name).symlink_to(item.resolve())
    data = TrainingSet(folder)
    found: dict[str, np.ndarray] = {}
    for unit in data.index.first_units():
        example = data.example(data.index[int(unit)])
        for number, chain in enumerate(example.chains):
            if chain.kind == "protein":
                tokens = example.tokens
                at = tokens.asym_id == number
                query = np.full(len(chain.residues), RESTYPE_INDEX["UNK"])
                query[tokens.residue_index[at] - 1] = tokens.restype[at]
                found[msa_key("protein", letters(example, chain))] = query
    write_store(scratch / MSAS, [(k, pack_msa(alignment(q, n_row))) for k, q in found.items()])
    return scratch


def alignment(query: np.ndarray, n_row: int) -> Msa:
    """Rows that differ from the query in more and more places."""
    rng = np.random.default_rng(0)
    rows = np.tile(query, (n_row, 1))
    chance = rng.random(rows.shape)
    identity = np.linspace(0.9, 0.2, n_row)[:, None]
    other = rng.integers(0, 20, rows.shape)
    gaps = rng.random(rows.shape) < 0.1
    rows = np.where(chance < identity, rows, np.where(gaps, RESTYPE_INDEX[GAP], other))
    rows[0] = query
    return Msa(
        rows=rows.astype(np.int8),
        deletions=np.zeros(rows.shape, np.int16),
        pairing_keys=("",) * n_row,
        descriptions=("",) * n_row,
    )


def row(name: str, n: int, seconds: float, more: str = "") -> None:
    print(f"{name:44}{n:>7}{seconds:>9.1f}{n / seconds:>10.1f}  {more}", flush=True)


def alone(examples: Examples, seconds: float) -> tuple[int, float, float]:
    """Examples made in this process, and the seconds that they took, on the clock and of CPU."""
    torch.set_num_threads(1)
    examples[(0, 0)]
    start, cpu, n = time.monotonic(), time.process_time(), 0
    while time.monotonic() - start < seconds:
        n += 1
        examples[(n, 0)]
    return n, time.monotonic() - start, time.process_time() - cpu


def waited(batches: Iterator, step: float, n_step: int) -> float:
    """Seconds that steps of this length wait for their batches, the first one left out."""
    next(batches)
    total = 0.0
    for _ in range(n_step):
        time.sleep(step)
        start = time.monotonic()
        next(batches)
        total += time.monotonic() - start
    return total


def measure(name: str, folder: Path, n_token: int, seconds: float) -> None:
    source = Source(name="set", folder=str(folder))
    examples = Examples(DataConfig(sources=(source,), n_token=n_token), seed=1)
    n, took, cpu = alone(examples, seconds)
    row(f"crops of {n_token} tokens, {name}", n, took, f"{n / cpu:.1f} a CPU second")
    step = 2 * took / n
    n_step = max(1, int(seconds / step))
    lost = waited(iter(Batches(examples, Places(0, 1, 1, 0, 1), workers=1)), step, n_step)
    share = lost / (lost + n_step * step)
    row(f"  one worker, steps of {step:.3f} s", n_step, n_step * step, f"{share:.1%} of it waiting")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_set", type=Path)
    parser.add_argument("--tokens", type=int, default=384)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each measurement")
    parser.add_argument("--rows", type=int, default=4096, help="of the made-up alignments; 0: none")
    options = parser.parse_args()
    print(f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} at the start")
    print(f"{'':44}{'items':>7}{'seconds':>9}{'a second':>10}")
    measure("no alignments", options.data_set, options.tokens, options.seconds)
    if options.rows:
        with tempfile.TemporaryDirectory(prefix="seedfold-benchmark-") as scratch:
            folder = with_alignments(options.data_set, options.rows, Path(scratch))
            measure(f"{options.rows} rows", folder, options.tokens, options.seconds)


if __name__ == "__main__":
    main()
