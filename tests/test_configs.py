"""Every file of configs/ composes, and its network can be built."""

import math

import pytest
import torch

from seedfold.config import to_dict
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.train.compose import CONFIGS, RunConfig, composed, experiments, flat
from seedfold.train.optim import learning_rate
from seedfold.train.run import MAY_CHANGE


@pytest.mark.parametrize("name", experiments())
def test_experiments_compose_and_build(name):
    config = composed([f"experiment={name}"])
    assert config.run.name == name and config.run.folder == f"runs/{name}"
    assert config.data.sources and all(s.weight > 0 for s in config.data.sources)
    rates = [learning_rate(config.optim, s) for s in range(0, config.trainer.steps, 10)]
    assert all(map(math.isfinite, rates)) and max(rates) == config.optim.learning_rate
    with torch.device("meta"):
        network = SeedFold(config.model)
    assert sum(p.numel() for p in network.parameters()) > 1e6


def test_no_file_is_left_out():
    found = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")}
    assert found == {"config.yaml", *(f"experiment/{name}.yaml" for name in experiments())}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_choice(name):
    assert composed(["experiment=nano", f"model={name}"]).model == PRESETS[name]()


def test_what_may_change_exists():
    assert set(MAY_CHANGE) <= {key for key, _ in flat(to_dict(RunConfig()))}
