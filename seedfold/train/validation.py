"""Validation: held-out structures are predicted and compared, now and then in a run.

Source: AF3 SI 5. The network predicts whole examples with its averaged weights, by the same loop
as `seedfold predict`; their lDDT by kind (`accuracy`) is the mean over the samples of an example,
then over the examples that have the kind. Which examples, and with which random numbers, is always
the same. Ranks share the examples.

`validation.csv` has a row for every step and kind, `validation_examples.csv` one for every example.
A resumed run goes on behind its checkpoint. An example that fails is told and left out.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lightning import Trainer

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.training_set import Part, TrainingSet
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.data_pipeline.features import collate
from seedfold.loss.symmetry import assign
from seedfold.train.accuracy import COMPLEX, lddt_by_kind
from seedfold.train.callbacks import AfterStep, Say
from seedfold.train.data import Batch
from seedfold.train.examples import reason
from seedfold.train.module import FoldingModule
from seedfold.train.ranks import gathered
from seedfold.train.sources import ValidationConfig, is_there_in
from seedfold.train.tables import Table

SEED = 1
"""Of the choice of examples and of their predictions."""
SILENCE = 5.0
"""Seconds after which a line tells how far validation is."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One kind of one example: a row of `validation_examples.csv`."""

    step: int
    example: str
    n_token: int
    kind: str
    lddt: float


@dataclass(frozen=True, kw_only=True)
class Mean:
    """One kind of all examples that have it: a row of `validation.csv`."""

    step: int
    kind: str
    mean: float
    n: int


class HeldOut:
    """The examples of a validation, ready to be predicted.

    Args:
        config: Which.
        inputs: Conventions of the features.

    Raises:
        InputError: if there is no data set, or none of its examples fits.
    """

    def __init__(self, config: ValidationConfig, inputs: FeatureOptions):
        assert config.folder is not None, "no validation"
        if not is_there_in(config.folder):
            raise InputError(
                "data.validation.folder",
                f"no finished data set in {config.folder}",
                todo="make it with seedfold prepare (docs/data.md)",
            )
        self.config = config
        self.data = TrainingSet(config.folder, options=inputs)
        self.units = _chosen(self.data, config)

    def __len__(self) -> int:
        return len(self.units)

    def part(self, number: int) -> Part:
        """A whole example."""
        unit = self.units[number]
        return self.data.part(unit, n_token=self.config.max_tokens, seed=SEED)

    def name(self, number: int) -> str:
        """Its id."""
        return self.data.name(self.data.index[self.units[number]])


def _chosen(data: TrainingSet, config: ValidationConfig) -> list[int]:
    """A unit of every example that is taken, the largest first so that ranks are done together."""
    units = data.index.first_units()
    sizes = np.array([data.index[int(unit)].n_token for unit in units], np.int64)
    fitting = np.flatnonzero(sizes <= config.max_tokens)
    if not len(fitting):
        raise InputError(
            "data.validation",
            f"no example of {config.folder} has at most {config.max_tokens} tokens",
            expected=f"max_tokens of {int(sizes.min())} or more",
        )
    taken = np.random.default_rng(SEED).permutation(fitting)[: config.n_examples or None]
    return units[taken[np.argsort(-sizes[taken], kind="stable")]].tolist()


def predicted_lddt(module: FoldingModule, part: Part, config: ValidationConfig) -> dict[str, float]:
    """lDDT by kind of the network's predictions of an example, the mean over the samples.

    The network predicts with the weights that it has; see `averaged`.
    """
    f = collate([part.f]).to(next(module.network.parameters()).device)
    samples = module.network.predict(
        f,
        seed=SEED,
        n_samples=config.n_samples,
        n_cycles=config.n_cycles,
        n_steps=config.n_steps,
        max_parallel_samples=1,
        precision=module.stage.precision,
    )
    labels, symmetries = part.f.labels, part.symmetries()
    assert labels is not None, "validation needs labels"
    own = f.map(lambda tensor: tensor[0])
    found = []
    for sample in samples:
        x = sample.x[0, 0]
        found.append(lddt_by_kind(x, assign(x, labels, symmetries).to(x.device), own))
    return {kind: sum(lddt[kind] for lddt in found) / len(found) for kind in found[0]}


@contextmanager
def averaged(module: FoldingModule) -> Iterator[None]:
    """The network computes with its averaged weights and without dropout inside the block."""
    was_training = module.network.training
    module.network.eval()
    try:
        with module.ema.applied(module.network):
            yield
    finally:
        module.network.train(was_training)


class Validation(AfterStep):
    """Predicts held-out examples every some steps, and at the end.

    Args:
        config: Which examples, and how they are predicted.
        inputs: Conventions of the features.
        every: Steps.
        folder: Of the tables.
        say: Is told the means, and how far a long validation is.
    """

    def __init__(
        self, config: ValidationConfig, inputs: FeatureOptions, every: int, folder: Path, say: Say
    ):
        self.held_out = HeldOut(config, inputs)
        self.config, self.every, self.say = config, every, say
        self.means = Table(folder / "validation.csv", Mean)
        self.rows = Table(folder / "validation_examples.csv", Row)

    def on_train_start(self, trainer: Trainer, pl_module: FoldingModule) -> None:
        """Keeps the rows up to the step that the trainer has done."""
        if trainer.is_global_zero:
            step = trainer.global_step
            self.means.write([mean for mean in self.means.read() if mean.step <= step])
            self.rows.write([row for row in self.rows.read() if row.step <= step])

    def after_step(self, trainer: Trainer, module: FoldingModule, batch: Batch) -> None:
        """Validates where it is time to."""
        step = trainer.global_step
        if step % self.every == 0 or step == trainer.max_steps:
            self.validate(module, step, trainer.global_rank, trainer.world_size)

    def validate(
        self, module: FoldingModule, step: int, rank: int = 0, world_size: int = 1
    ) -> list[Mean]:
        """Predicts this rank's share of the examples; the means of all, which rank 0 writes."""
        began = time.monotonic()
        rows, failed = self._predicted(module, step, rank, world_size)
        rows, failed = gathered(rows), gathered(failed)
        means = means_of(rows)
        if rank == 0:
            self.rows.append(rows)
            self.means.append(means)
            for text in failed:
                self.say(f"validation: {text}")
            self.say(self._line(means, step, len(failed), time.monotonic() - began))
        return means

    def _predicted(
        self, module: FoldingModule, step: int, rank: int, world_size: int
    ) -> tuple[list[Row], list[str]]:
        rows: list[Row] = []
        failed: list[str] = []
        told = began = time.monotonic()
        share = range(rank, len(self.held_out), world_size)
        with averaged(module):
            for done, number in enumerate(share):
                now = time.monotonic()
                if rank == 0 and now - told > SILENCE:
                    told = now
                    self.say(f"validation: {done} of {len(share)} examples, {now - began:.0f} s")
                try:
                    rows += self._rows(module, step, number)
                except Exception as error:  # One example must not end a run, whatever it is.
                    failed.append(f"{self.held_out.name(number)} failed: {reason(error)}")
        return rows, failed

    def _rows(self, module: FoldingModule, step: int, number: int) -> list[Row]:
        part = self.held_out.part(number)
        found = predicted_lddt(module, part, self.config)
        name, n_token = part.example.id, part.f.n_token
        return [
            Row(step=step, example=name, n_token=n_token, kind=kind, lddt=lddt)
            for kind, lddt in found.items()
        ]

    def _line(self, means: Sequence[Mean], step: int, n_failed: int, seconds: float) -> str:
        if not means:
            return f"validation at step {step}: none of {n_failed} examples could be predicted"
        of_kind = {mean.kind: mean for mean in means}
        top = best(self.means.read())
        parts = [f"{kind} {mean.mean:.3f}" for kind, mean in of_kind.items() if kind != COMPLEX]
        whole = of_kind[COMPLEX]
        mark = "the best so far" if top.step == step else f"best {top.mean:.3f} at {top.step}"
        return (
            f"validation at step {step}: lDDT {whole.mean:.3f} ({mark}) of {whole.n} examples; "
            f"{', '.join(parts)}; {seconds:.0f} s"
        )


def means_of(rows: Iterable[Row]) -> list[Mean]:
    """Means over the examples, by kind in the order of their first row."""
    found: dict[tuple[int, str], list[float]] = {}
    for row in rows:
        found.setdefault((row.step, row.kind), []).append(row.lddt)
    return [
        Mean(step=step, kind=kind, mean=sum(values) / len(values), n=len(values))
        for (step, kind), values in found.items()
    ]


def best(means: Iterable[Mean]) -> Mean:
    """That of whole complexes with the highest lDDT, the first of several."""
    return max((mean for mean in means if mean.kind == COMPLEX), key=lambda mean: mean.mean)
