"""Every file of configs/ composes, and its network can be built."""

import functools
import math

import pytest
import torch

from seedfold.config import to_dict
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.train.compose import CONFIGS, RunConfig, chain, composed, experiments, flat
from seedfold.train.optim import learning_rate
from seedfold.train.run import MAY_CHANGE

ROWS = {
    "seedfold_128": (445_137_052, 432, 1.8e-3, 1000),
    "seedfold_256": (542_028_892, 533, 1.8e-3, 1000),
    "seedfold_512": (927_287_260, 923, 1.0e-3, 3000),
    "seedfold_deep_pairformer": (592_537_756, 582, 1.8e-3, 1000),
    "seedfold_deep_structure": (714_274_972, 706, 1.8e-3, 1000),
}
"""Parameters, the paper's millions of them, learning rate, warm-up (docs/model.md)."""
GROUPS = ("data", "optim", "stage", "trainer")


def choices(group: str) -> list[str]:
    return sorted(path.stem for path in (CONFIGS / group).glob("*.yaml"))


@functools.cache
def n_parameters(config: SeedFold.Config) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in SeedFold(config).parameters())


@pytest.mark.parametrize("name", experiments())
def test_experiments_compose_and_build(name):
    config = composed([f"experiment={name}"])
    assert config.run.name == name and config.run.folder.split("/")[:2] == ["runs", name]
    assert config.data.sources and all(s.weight > 0 for s in config.data.sources)
    steps = config.trainer.steps
    rates = [learning_rate(config.optim, s, steps) for s in range(0, steps, max(1, steps // 1000))]
    assert all(map(math.isfinite, rates)) and max(rates) <= config.optim.learning_rate
    assert n_parameters(config.model) > 1e6


@pytest.mark.parametrize("name", ROWS)
def test_rows_are_the_papers(name):
    exact, paper, rate, warmup = ROWS[name]
    config = composed([f"experiment={name}"])
    assert n_parameters(config.model) == exact
    assert abs(exact / 1e6 / paper - 1) < 0.035
    assert (config.optim.learning_rate, config.optim.warmup_steps) == (rate, warmup)
    assert {s.name: s.weight for s in config.data.sources} == {
        "pdb": 0.5,
        "afdb": 0.08,
        "mgnify": 0.42,
    }


def test_stages_go_on_from_each_other():
    runs = chain(["experiment=seedfold_512"])
    found = [(r.data.n_token, r.stage.n_copies, r.trainer.steps) for r in runs[:2]]
    assert found == [(384, 64, 60_000), (640, 32, 40_000)]
    folders = [r.run.folder for r in runs]
    assert folders == [f"runs/seedfold_512/{name}" for name in choices("stage")]
    assert [r.run.start for r in runs] == [None, *folders[:-1]]
    assert [r.stage.train for r in runs] == ["all", "all", "confidence"]
    assert [r.stage.loss.alpha_bond for r in runs] == [0, 1, 1]
    assert len(chain(["experiment=seedfold_512", "stage=stage2_crop640"])) == 1
    assert len(chain(["experiment=nano"])) == len(chain(["experiment=finetune"])) == 1


@pytest.mark.parametrize("trainer", choices("trainer"))
def test_a_step_has_256_examples_on_any_trainer(trainer):
    c = composed(["experiment=seedfold_128", f"trainer={trainer}"])
    t = c.trainer
    assert t.devices * t.nodes * t.accumulate * c.data.batch_size == 256
    assert t.strategy.startswith("deepspeed") == trainer.startswith("deepspeed")
    if t.strategy.startswith("deepspeed"):
        assert t.strategy[-1] == trainer.removeprefix("deepspeed_zero")[0]


def test_the_ablation_takes_the_rest_of_the_steps():
    ablation, row = (
        composed([f"experiment={n}"]) for n in ("ablation_no_distillation", "seedfold_256")
    )
    assert ablation.trainer.steps + 47_612 == row.trainer.steps
    assert ablation.run.start == row.run.folder and ablation.model == row.model
    assert [s.name for s in ablation.data.sources] == ["pdb"]


def test_no_file_is_left_out():
    found = {path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.yaml")}
    known = {f"{group}/{name}.yaml" for group in GROUPS for name in choices(group)}
    assert found == {"config.yaml", *known, *(f"experiment/{n}.yaml" for n in experiments())}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_is_a_choice(name):
    assert composed(["experiment=nano", f"model={name}"]).model == PRESETS[name]()


def test_what_may_change_exists():
    assert set(MAY_CHANGE) <= {key for key, _ in flat(to_dict(RunConfig()))}
