"""What `--guidance` asks the jobs for."""

import pytest
from typer.testing import CliRunner

import seedfold.evaluate.model_run
from seedfold.cli import app
from seedfold.commands.guidance import GuidanceChoice


def test_auto_leaves_it_to_the_model():
    assert [c.guided for c in GuidanceChoice] == [None, True, False]


@pytest.mark.parametrize("choice, guided", [((), None), (("--guidance", "off"), False)])
def test_evaluations_pass_it_on(choice, guided, tmp_path, monkeypatch):
    asked = []

    def predict_set(found, request, reporter, only):
        asked.append(request)
        raise ValueError("asked")

    monkeypatch.setattr(seedfold.evaluate.model_run, "predict_set", predict_set)
    (tmp_path / "targets").mkdir()
    (tmp_path / "structures").mkdir()
    result = CliRunner().invoke(
        app, ["evaluate", "run", str(tmp_path), "-o", str(tmp_path / "o"), *choice]
    )
    assert result.exit_code == 1
    (request,) = asked
    assert request.guided is guided


def test_another_choice_is_refused():
    result = CliRunner().invoke(app, ["predict", "x.fasta", "--guidance", "maybe"])
    assert result.exit_code == 2
    assert "maybe" in result.output
