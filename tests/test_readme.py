"""What the README promises: its commands, its example input, its links."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from seedfold.cli import app
from seedfold.data_pipeline.dialects import read_queries

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


def commands_of(block: str) -> list[str]:
    lines = [line.split("#")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line.startswith("seedfold")]


def commands() -> list[str]:
    return [command for block in blocks("bash") for command in commands_of(block)]


def test_there_are_commands():
    assert len(commands()) >= 3


def needs_public_weights(command: str) -> bool:
    return "protenix" in command


@pytest.mark.parametrize("block", [b for b in blocks("bash") if commands_of(b)])
def test_commands_run(block, tmp_path, monkeypatch):
    """Those of one block in one folder, for the later ones use what the earlier ones made."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for command in commands_of(block):
        arguments = shlex.split(command)[1:]
        if needs_public_weights(command):
            continue
        if "predict" in arguments and "--help" not in arguments:
            arguments += ["--samples", "1", "--cycles", "1", "--steps", "8"]
        if "train" in arguments and "--plan" not in arguments:
            arguments += ["trainer.steps=2", "stage.n_copies=2", "model.sampler.n_steps=4"]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{command}: {result.stderr}"


def test_the_page_on_data_leads_to_features(tmp_path, monkeypatch):
    """Its first commands, and then its Python, in one folder."""
    page = (ROOT / "docs" / "data.md").read_text()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = commands_of(blocks("bash", page)[0])
    assert len(done) == 4
    for command in done:
        result = CliRunner().invoke(app, shlex.split(command)[1:])
        assert result.exit_code == 0, f"{command}: {result.stderr}"
    names: dict = {}
    exec(blocks("python", page)[0], names)
    assert names["features"].n_token > 50 and names["features"].labels is not None


@pytest.mark.parametrize("command", [c for c in commands() if needs_public_weights(c)])
def test_without_public_weights_commands_say_what_is_missing(command, tmp_path, monkeypatch):
    """With them they run: tests/seedfold/weights/test_cli.py, on files of the same layout."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEEDFOLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEEDFOLD_OFFLINE", "1")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    result = CliRunner().invoke(app, shlex.split(command)[1:])
    assert result.exit_code == 1
    assert "protenix-v2.pt" in result.stderr


def test_the_python_example_runs(tmp_path):
    (code,) = blocks("python")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[0] == "ok"
    assert (tmp_path / done.stdout.split()[1]).exists()


def test_the_input_of_the_readme_is_read_as_it_says(tmp_path):
    (text,) = blocks("yaml")
    for name in re.findall(r"[\w/]+\.(?:a3m|sdf|cif)", text):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("placeholder")
    (tmp_path / "input.yaml").write_text(text)
    (query,) = read_queries(tmp_path / "input.yaml")
    assert [e.chains for e in query.entities] == [("A", "B"), *(tuple(c) for c in "CDEFG")]
    assert query.seeds == (1, 2) and len(query.bonds) == 2
    assert query.entities[0].msa.path == tmp_path / "alignments/kinase.a3m"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target
