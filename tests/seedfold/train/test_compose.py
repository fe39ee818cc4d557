from pathlib import Path

import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.train.compose import CONFIGS, RunConfig, composed, experiments
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


def test_the_defaults_are_af3s_and_what_may_change_leaves_the_steps_alone():
    c = RunConfig()
    assert (c.optim.learning_rate, c.optim.beta_2, c.optim.clip_norm) == (1.8e-3, 0.95, 10.0)
    assert not {"data.batch_size", "trainer.devices", "trainer.accumulate"} & set(MAY_CHANGE)
