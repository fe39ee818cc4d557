from pathlib import Path

from typer.testing import CliRunner

from seedfold.cli import app
from seedfold.data_pipeline.examples.training_set import TrainingSet


def run(*arguments: object):
    return CliRunner().invoke(app, [*map(str, arguments)])


def text_of(result) -> str:
    return " ".join((result.stdout + result.stderr).split())


def test_sequences_become_a_data_set_that_training_reads(tmp_path: Path):
    fasta, out = tmp_path / "in.fasta", tmp_path / "set"
    # RNA, since the untrained network breaks the peptide bonds that the filter looks at.
    fasta.write_text(">one\nGGACUUCGGUCC\n>two\nACGUACGUACGU\n>long\n" + "A" * 30 + "U\n")
    few = ("--steps", 2, "--cycles", 1, "--device", "cpu", "--model", "nano-untrained")
    arguments = ("distill", fasta, "-o", out, "--min-plddt", 0, "--max-residues", 20, *few)
    made = run(*arguments)
    assert made.exit_code == 0, text_of(made)
    assert "UNTRAINED" in text_of(made)
    assert "examples 2 (66.7 %)" in text_of(made) and "too long" in text_of(made)
    f = TrainingSet(out).features(0, n_token=8, seed=0)
    assert f.n_token == 8 and f.labels is not None
    # Below 70 a residue is no label: the random network is sure of nothing.
    assert (f.labels.weight == 0).all()
    again = run(*arguments)
    assert again.exit_code == 0 and "1 done before" in text_of(again)


def test_a_missing_model_is_told_before_anything_is_written(tmp_path: Path):
    fasta = tmp_path / "in.fasta"
    fasta.write_text(">one\nMKVLA\n")
    result = run("distill", fasta, "-o", tmp_path / "out", "--model", "no-such")
    assert result.exit_code == 1 and "no-such" in text_of(result)
    assert not (tmp_path / "out").exists()
