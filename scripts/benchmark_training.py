"""Where the time of a training step goes: data, forward, backward, optimiser, what is around it.

    python scripts/benchmark_training.py                     # nano, crop 64, 20 steps on a CPU
    python scripts/benchmark_training.py experiment=nano data.n_token=128 trainer.steps=50

Words are those of `seedfold train`. A run of its own is made in a temporary folder and removed.
Data are the one structure of the overfit experiment unless the words say otherwise. On a GPU the
times of forward and backward are those of starting their kernels; the optimiser waits for them.
"""

import sys
import tempfile
from pathlib import Path

from seedfold.train.compose import composed
from seedfold.train.curves import NEXT_BATCH, Clock, read_table
from seedfold.train.run import train

SMALL = ("experiment=overfit", "data.n_token=64", "trainer.steps=20", "trainer.threads=1")


def main() -> None:
    words = sys.argv[1:] or list(SMALL)
    if not any(word.startswith("experiment=") for word in words):
        words = [*SMALL, *words]
    with tempfile.TemporaryDirectory() as folder:
        # One batch a step: else the optimiser's time cannot be told from that of the others.
        words += [f"run.folder={Path(folder) / 'run'}", "trainer.accumulate=1"]
        words += ["trainer.checkpoint_every=1000000", "trainer.validate_every=1000000"]
        config, clock = composed(words), Clock()
        train(config, print, clock)
        # The first batches are waited for while the workers start.
        first = float(read_table(Path(config.run.folder) / "metrics.csv")[0]["waited"])
        clock.seconds[NEXT_BATCH] -= first
        clock.seconds["run_training_epoch"] -= first
    print_shares(clock, config.trainer.steps)


def print_shares(clock: Clock, steps: int) -> None:
    """A line a part, and the share of all that is neither forward nor backward."""
    parts = shares(clock)
    total = sum(parts.values())
    print(f"\n{steps} steps, {1000 * total / steps:.1f} ms each")
    for name, seconds in parts.items():
        print(f"{name:32}{1000 * seconds / steps:10.2f} ms{100 * seconds / total:8.2f} %")
    outside = 1 - (parts["forward"] + parts["backward"]) / total
    print(f"outside forward and backward: {100 * outside:.2f} %")


def shares(clock: Clock) -> dict[str, float]:
    """Seconds of the parts of all steps; the last checkpoint is left out."""
    found = clock.seconds

    def ends_with(ending: str) -> float:
        return sum(seconds for name, seconds in found.items() if name.endswith(ending))

    callbacks = {n: s for n, s in found.items() if n.startswith("[Callback]")}
    checkpoint = sum(s for n, s in callbacks.items() if "Checkpoints" in n)
    during = sum(s for n, s in callbacks.items() if "on_train_batch" in n or "optimizer" in n)
    forward, backward = ends_with(".training_step"), ends_with(".backward")
    optimizer = ends_with(".optimizer_step") - forward - backward
    parts = {
        "waiting for data": found[NEXT_BATCH],
        "forward": forward,
        "backward": backward,
        "clip, optimiser and average": optimizer,
        "tables and other callbacks": during - checkpoint,
    }
    total = found["run_training_epoch"] - checkpoint
    return parts | {"the loop itself": total - sum(parts.values())}


if __name__ == "__main__":
    main()
