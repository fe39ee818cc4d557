"""Where a run's data comes from: its options, and the data sets of `seedfold prepare` behind them.

Source: AF3 SI 2.5 to 2.7; the mixture of SeedFold is 0.50 PDB, 0.08 AFDB, 0.42 MGnify.
"""

import subprocess
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.examples.training_set import INDEX, TrainingSet
from seedfold.data_pipeline.feature_options import FeatureOptions


@dataclass(frozen=True, kw_only=True)
class CropMix:
    """How often each way of cropping is taken; the sum is what you like."""

    contiguous: float
    spatial: float
    interface: float


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set of `seedfold prepare`; made of `structures` (mmCIF) if it is not there yet.

    `weight`: its share of the examples, against those of the others. `crops`: where None those of
    AF3, which are contiguous 0.2, spatial 0.4, interface 0.4 for experimental structures and
    0.25, 0.75, 0 for predicted ones.
    """

    name: str
    folder: str
    weight: float = 1.0
    structures: str | None = None
    crops: CropMix | None = None


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Held-out structures that are predicted every `trainer.validate_every` steps.

    `folder`: a data set of `seedfold prepare`; None = no validation. Of its examples with at most
    `max_tokens` tokens, `n_examples` are taken (0 = all), always the same. `n_cycles`, `n_steps`:
    of the prediction; the network's own where None.
    """

    folder: str | None = None
    n_examples: int = 64
    max_tokens: int = 768
    n_samples: int = 1
    n_cycles: int | None = None
    n_steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """`n_token`: crop; `batch_size`: examples that one device sees at a time.

    `seconds`: an example that takes longer to make is quarantined. `max_bad`: the largest share of
    quarantined examples among the last 1000; with more the run stops.
    """

    sources: tuple[Source, ...] = ()
    n_token: int = 384
    batch_size: int = 1
    workers: int = 1
    seconds: float = 120.0
    max_bad: float = 0.05
    inputs: FeatureOptions = field(default_factory=FeatureOptions)
    validation: ValidationConfig = field(default_factory=ValidationConfig)


def is_there(source: Source) -> bool:
    """Whether the data set of a source is finished."""
    return is_there_in(source.folder)


def is_there_in(folder: str) -> bool:
    """Whether a folder holds a finished data set."""
    return (Path(folder) / INDEX).is_dir()


def prepare(source: Source) -> None:
    """Runs `seedfold prepare pdb`, in a process of its own, since it needs chemistry.

    Raises:
        InputError: if it fails.
    """
    assert source.structures is not None
    where = f"data.sources: {source.name}"
    if not Path(source.structures).exists():
        raise InputError(where, f"no structures {source.structures}", expected="a file or folder")
    words = ["prepare", "pdb", source.structures, "-o", source.folder]
    words += ["--released-before", "any", "--clusters", "exact"]
    command = [sys.executable, "-m", "seedfold", *words]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(where, f"seedfold {' '.join(words)} failed: {done.stderr.strip()}")


def opened(source: Source, inputs: FeatureOptions) -> TrainingSet:
    """The data set of a source.

    Raises:
        InputError: if there is none.
    """
    if not is_there(source):
        raise InputError(
            f"data.sources: {source.name}",
            f"no finished data set in {source.folder}",
            todo="make it with seedfold prepare (docs/data.md)",
        )
    return TrainingSet(
        source.folder,
        options=inputs,
        methods=None if source.crops is None else asdict(source.crops),
    )
