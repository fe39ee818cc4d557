import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from seedfold.cli import app as seedfold
from seedfold.commands.train import train

app = typer.Typer()
app.command()(train)
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
BROMODOMAIN = EXAMPLES / "structures" / "6yqw.cif.gz"
FIBRONECTIN = EXAMPLES.parents[1] / "shared" / "data" / "train" / "ddg_1ten.cif.gz"
"""A domain of tenascin, 90 residues of two sheets."""
TENASCIN = """>protein|A
RLDAPSQIEVKDVTDTTALITWFKPLAEIDGIELTYGIKDVPGDRTTIDLTEDENQY
SIGNLKPDTEYEVSLISRRGDMSSNPAKETFTT
"""
LONG = os.environ.get("SEEDFOLD_LONG") == "1"
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


@pytest.mark.skipif(not LONG, reason="a quarter of an hour each; set SEEDFOLD_LONG=1 to run it")
@pytest.mark.parametrize(
    ("structure", "text"),
    [(BROMODOMAIN, (EXAMPLES / "bromodomain.yaml").read_text()), (FIBRONECTIN, TENASCIN)],
    ids=["protein and ligand", "protein"],
)
def test_a_structure_is_learnt_by_heart(
    structure: Path, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """lDDT above 0.95, told by the run and by the evaluation of what `predict` then writes.

    Without stereochecks: bonds are off by some hundredths of an Angstrom, more than these allow.
    """
    if not structure.is_file():
        pytest.skip(f"no {structure}")
    monkeypatch.chdir(tmp_path)
    done = run(app, "experiment=overfit", f"data.sources.0.structures={structure}")
    assert done.exit_code == 0, text_of(done)
    told = re.search(r"mean (0\.\d+), .* mirror images: (\w+)", text_of(done))
    assert told and float(told[1]) > 0.95 and told[2] == "none", text_of(done)
    query = Path("query.fasta" if text.startswith(">") else "query.yaml")
    query.write_text(text)
    weights = "runs/overfit/model.safetensors"
    made = run(seedfold, "predict", query, "-o", "out", "--model", weights, "--device", "cpu")
    assert made.exit_code == 0, text_of(made)
    (model,) = Path("out").rglob("*_model_0.cif")
    scored = run(seedfold, "evaluate", "pair", model, structure, "--poses", "none", "--json")
    assert scored.exit_code == 0, text_of(scored)
    assert json.loads(scored.stdout)["scores"]["lddt_unchecked"] > 0.95, text_of(scored)


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
    nowhere = run(app, "experiment=overfit", *FEW, *SMALL, "run.start=nowhere")
    assert nowhere.exit_code == 1 and "error: run.start: found 'nowhere'" in text_of(nowhere)
    assert not list(tmp_path.rglob("config.json"))


def test_a_signal_to_all_processes_saves_and_stops(tmp_path: Path):
    """As schedulers send it, and terminals: to those that load data too."""
    few = (*FEW, "data.workers=1", "trainer.steps=2000", "trainer.validate_every=100000")
    program = [sys.executable, "-m", "seedfold", "train", "experiment=overfit", *few, *SMALL]
    process = subprocess.Popen(
        program,
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if line.startswith("step "):
            os.killpg(process.pid, signal.SIGTERM)
    assert process.wait() == 128 + signal.SIGTERM, "".join(said)
    assert said[-1].startswith("stopped at step ") and "Traceback" not in "".join(said)
    assert list(tmp_path.rglob("step_*.ckpt"))


def test_a_plan_is_told_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    result = run(app, "--plan", "experiment=overfit", *SMALL)
    assert result.exit_code == 0 and "parameters, pair width" in text_of(result)
    assert not list(tmp_path.iterdir())
    wrong = run(app, "--plan", "experiment=overfitt")
    assert wrong.exit_code == 1 and "unknown experiment 'overfitt'" in text_of(wrong)
