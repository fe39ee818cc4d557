"""One real example, cut to few tokens, and a network that takes a tenth of a second a step."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from seedfold.model.presets import nano
from seedfold.model.seedfold import SeedFold
from seedfold.train.compose import NameConfig, RunConfig, TrainerConfig
from seedfold.train.data import DataConfig, Source, prepare
from seedfold.train.module import StageConfig
from seedfold.train.optim import OptimConfig

STRUCTURE = Path(__file__).resolve().parents[3] / "examples" / "structures" / "6yqw.cif.gz"


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """A data set of one structure, prepared."""
    folder = tmp_path_factory.mktemp("data") / "set"
    made = Source(name="example", folder=str(folder), structures=str(STRUCTURE))
    prepare(made)
    return made


def tiny() -> SeedFold.Config:
    c = nano()
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
