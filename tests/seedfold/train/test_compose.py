from pathlib import Path

import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.train import compose
from seedfold.train.compose import (
    CONFIGS,
    RunConfig,
    batches_of,
    chain,
    composed,
    configs_here,
    experiments,
)
from seedfold.train.run import MAY_CHANGE


def test_options_of_the_command_line():
    words = ["experiment=overfit", "stage.n_copies=7", "run.name=mine", "model.c_z=16"]
    config = composed([*words, "data.sources.0.name=other"])
    assert (config.stage.n_copies, config.model.c_z) == (7, 16)
    assert config.run.folder == "runs/mine"
    (source,) = config.data.sources
    assert source.folder == "runs/mine/data" and source.name == "other"
    assert Path(source.structures or "").is_file()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], r"no experiment; expected experiment=.*overfit"),
        (["experiment=overfitt"], r"unknown experiment 'overfitt'; expected one of .*overfit"),
        (
            ["experiment=overfit", "stage.n_copy=1"],
            r"no option 'stage.n_copy'; did you mean 'stage.n_copies'",
        ),
        (["experiment=overfit", "model=nanoo"], r"nanoo.*nano"),
        (["experiment=overfit", "stage.n_copies=many"], r"stage.n_copies: found 'many'; expected"),
        (["experiment=overfit", "stage.n_copies"], r"stage.n_copies"),
        (["experiment=seedfold_128", "trainer=gpu"], r"'trainer/gpu'.*ddp.*one_gpu$"),
        (
            ["experiment=seedfold_128", "trainer.devices=3"],
            r"3 examples at a time .*; expected a divisor of the 256 of a step; .*accumulate$",
        ),
        (["experiment=overfit", "trainer.strategy=dpp"], r"trainer.strategy: found 'dpp'.*'ddp'"),
    ],
)
def test_mistakes_are_told(words, message):
    with pytest.raises(ValueError, match=message) as caught:
        composed(words)
    assert "\n" not in str(caught.value)


def test_files_are_checked_like_the_command_line(tmp_path):
    folder = tmp_path / "configs" / "experiment"
    folder.mkdir(parents=True)
    (tmp_path / "configs" / "config.yaml").write_text((CONFIGS / "config.yaml").read_text())
    (folder / "mine.yaml").write_text("# @package _global_\noptim:\n  learning_rat: 1.0\n")
    assert experiments(tmp_path / "configs") == ["mine"]
    with pytest.raises(ValueError, match=r"optim.learning_rat: .* mean 'learning_rate'"):
        composed(["experiment=mine"], tmp_path / "configs")
    with pytest.raises(InputError, match="no experiments in"):
        composed(["experiment=mine"], tmp_path)


def test_an_installed_copy_finds_the_configurations_of_the_checkout_it_runs_in(
    tmp_path, monkeypatch
):
    assert configs_here() == CONFIGS
    monkeypatch.setattr(compose, "CONFIGS", tmp_path / "site-packages" / "configs")
    monkeypatch.chdir(tmp_path)
    assert configs_here() == tmp_path / "site-packages" / "configs"
    monkeypatch.chdir(CONFIGS.parent)
    assert configs_here() == CONFIGS


def test_the_defaults_are_af3s_and_what_may_change_leaves_the_steps_alone():
    c = RunConfig()
    assert (c.optim.learning_rate, c.optim.beta_2, c.optim.clip_norm) == (1.8e-3, 0.95, 10.0)
    assert not {"data.batch_size", "trainer.devices", "trainer.accumulate"} & set(MAY_CHANGE)


def test_batches_of_a_step():
    assert [batches_of(256, size, 8, nodes) for size, nodes in ((1, 1), (2, 1), (1, 32))] == [
        32,
        16,
        1,
    ]
    with pytest.raises(InputError, match="expected a divisor"):
        batches_of(256, 1, 8, 64)


def test_a_run_without_stages_is_alone():
    assert [c.run.name for c in chain(["experiment=overfit"])] == ["overfit"]
