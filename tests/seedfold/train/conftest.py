"""One real example, cut to few tokens, and a network that takes a tenth of a second a step."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from seedfold.config import to_dict
from seedfold.data_pipeline.examples.example import Example, pack_components, pack_example
from seedfold.data_pipeline.examples.index import ExampleColumns, build_index
from seedfold.data_pipeline.examples.shards import Shard, ShardWriter
from seedfold.data_pipeline.examples.training_set import INDEX, TrainingSet
from seedfold.data_pipeline.examples.weights import SamplingUnits
from seedfold.model.presets import pico
from seedfold.model.seedfold import SeedFold
from seedfold.train.compose import NameConfig, RunConfig, TrainerConfig
from seedfold.train.module import StageConfig
from seedfold.train.optim import OptimConfig
from seedfold.train.sources import DataConfig, Source, prepare

STRUCTURE = Path(__file__).resolve().parents[3] / "examples" / "structures" / "6yqw.cif.gz"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A data set of one structure, prepared."""
    folder = tmp_path_factory.mktemp("data") / "set"
    made = Source(name="example", folder=str(folder), structures=str(STRUCTURE))
    prepare(made)
    return made


@pytest.fixture(scope="session")
def example(source: Source) -> Example:
    """That of the structure: 6yqw, a protein with its ligand."""
    data = TrainingSet(source.folder)
    return data.example(data.index[0])


@pytest.fixture
def make_set(source: Source, tmp_path: Path) -> Callable[[Sequence[Example]], Source]:
    """Writes a data set of examples with the components of the structure; each is one unit."""
    data = TrainingSet(source.folder)
    components = pack_components(data.components(data.index[0].shard).values())

    def make(examples: Sequence[Example]) -> Source:
        folder = tmp_path / "set"
        with ShardWriter(folder / "unit-00000.tar") as writer:
            members = [writer.add(e.id, pack_example(e)) for e in examples]
            last = writer.add("components", components)
        shard = Shard(name=writer.path.name, checksum=writer.checksum, components=last)
        n = np.zeros(len(examples), np.int64)
        columns = ExampleColumns(
            shards=(shard,),
            shard=n,
            offset=np.array([m.offset for m in members]),
            size=np.array([m.size for m in members]),
            crc32=np.array([m.crc32 for m in members]),
            n_token=np.array([e.n_token for e in examples]),
        )
        units = SamplingUnits(
            example=np.arange(len(n), dtype=np.uint32),
            n_chains=np.ones(len(n), np.uint8),
            chain_1=n.astype(np.uint16),
            chain_2=n.astype(np.uint16),
            weight=np.ones(len(n)),
        )
        build_index(folder / INDEX, columns, units, manifest_hash="")
        return Source(name="set", folder=str(folder))

    return make


@pytest.fixture(scope="session")
def damage() -> Callable[[Source, int], None]:
    """Flips a bit in the middle of an example of a data set."""

    def flip(source: Source, unit: int) -> None:
        record = TrainingSet(source.folder).index[unit]
        path = Path(source.folder) / record.shard.name
        data = bytearray(path.read_bytes())
        data[record.offset + record.size // 2] ^= 1
        path.write_bytes(data)

    return flip


def tiny() -> SeedFold.Config:
    c = pico()
    trunk = dataclasses.replace(
        c.trunk, pairformer=dataclasses.replace(c.trunk.pairformer, n_blocks=1)
    )
    transformer = dataclasses.replace(c.diffusion.transformer, n_blocks=1)
    diffusion = dataclasses.replace(c.diffusion, transformer=transformer)
    sampler = dataclasses.replace(c.sampler, n_steps=2)
    return dataclasses.replace(c, trunk=trunk, diffusion=diffusion, sampler=sampler, n_cycles=1)


@pytest.fixture
def make_config(source: Source, tmp_path: Path) -> Callable[..., RunConfig]:
    """A run of few and quick steps; arguments replace options of its sections."""

    def make(folder: str = "run", **changes: dict) -> RunConfig:
        sections = {
            "data": DataConfig(sources=(source,), n_token=16, workers=0),
            "stage": StageConfig(n_cycles=2, n_copies=4, rollout_steps=2),
            "optim": OptimConfig(warmup_steps=2, learning_rate=3e-3),
            "trainer": TrainerConfig(
                steps=4, checkpoint_every=2, validate_every=100, accelerator="cpu"
            ),
        }
        for name, options in changes.items():
            sections[name] = dataclasses.replace(sections[name], **options)
        run = NameConfig(name="test", folder=str(tmp_path / folder), seed=3)
        return RunConfig(run=run, model=tiny(), **sections)

    return make


PROGRAM = """
import json, sys
from pathlib import Path
from seedfold.config import from_dict
from seedfold.train.compose import RunConfig
from seedfold.train.run import train
outcome = train(from_dict(RunConfig, json.loads(Path(sys.argv[1]).read_text()), "config"))
print(f"{outcome.step} {outcome.stopped_by}")
"""


@pytest.fixture
def launch(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """Runs a configuration in processes of their own, after code that changes things there."""

    def run(
        config: RunConfig, *before: str, changes: str = "", seconds: float = 600
    ) -> subprocess.CompletedProcess:
        program, options = tmp_path / "program.py", tmp_path / "config.json"
        program.write_text(changes + PROGRAM)
        options.write_text(json.dumps(to_dict(config)))
        root = Path(__file__).resolve().parents[3]
        return subprocess.run(
            [sys.executable, *before, str(program), str(options)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
            capture_output=True,
            text=True,
            timeout=seconds,
        )

    return run
