from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from seedfold.cli import app as seedfold
from seedfold.commands.train import train

app = typer.Typer()
app.command()(train)
FEW = ("data.n_token=16", "data.workers=0", "stage.n_copies=2", "trainer.steps=2")
SMALL = ("model.trunk.pairformer.n_blocks=1", "model.sampler.n_steps=2", "model.n_cycles=1")


def run(program: typer.Typer, *words: object):
    return CliRunner().invoke(program, [*map(str, words)])


def text_of(result) -> str:
    return " ".join((result.stdout + result.stderr).split())


def test_overfit_then_predict_with_what_it_wrote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The whole way: a structure is prepared, a network trained, and predict accepts it."""
    monkeypatch.chdir(tmp_path)
    done = run(app, "experiment=overfit", *FEW, *SMALL)
    assert done.exit_code == 0, text_of(done)
    assert "2 steps; lDDT of 5 sampled structures" in text_of(done)
    weights = Path("runs/overfit/model.safetensors")
    assert f"seedfold predict --model {weights}" in text_of(done)
    Path("in.fasta").write_text(">protein|A\nMKVLAWTG\n")
    made = run(
        seedfold, "predict", "in.fasta", "-o", "out", "--model", weights, "--samples", 1,
        "--device", "cpu",
    )  # fmt: skip
    assert made.exit_code == 0, text_of(made)
    assert "UNTRAINED" not in text_of(made) and list(Path("out").rglob("*.cif"))
    more = run(app, "experiment=overfit", *FEW, *SMALL, "trainer.steps=3")
    assert "going on with step_00000002.ckpt" in text_of(more) and "3 steps;" in text_of(more)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "error: train: no experiment; expected experiment="),
        (("experiment=none",), "unknown experiment 'none'"),
        (("experiment=overfit", "--config-dir", "/nowhere"), "no experiments in /nowhere"),
    ],
)
def test_mistakes_are_told(words, message):
    result = run(app, *words)
    assert result.exit_code == 1 and message in text_of(result)


def test_missing_data_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = run(app, "experiment=nano", *SMALL)
    assert result.exit_code == 1
    assert "no finished data set in data/pdb; make it with seedfold prepare" in text_of(result)


def test_a_plan_is_told_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = run(app, "--plan", "experiment=overfit", *SMALL)
    assert result.exit_code == 0 and "parameters, pair width" in text_of(result)
    assert not list(tmp_path.iterdir())
    wrong = run(app, "--plan", "experiment=overfitt")
    assert wrong.exit_code == 1 and "unknown experiment 'overfitt'" in text_of(wrong)
