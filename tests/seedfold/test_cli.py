"""The command line: help, schema, dry run, and every kind of bad input."""

import errno
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from seedfold.checkpoint import CheckpointInfo, save_checkpoint
from seedfold.cli import app
from seedfold.models import UNTRAINED_NANO, load_model

FAST = ("--samples", "1", "--cycles", "1", "--steps", "10")
PEPTIDE = "GSHMKTAYIAKQR"


def run(*arguments: object):
    return CliRunner().invoke(app, ["predict", *map(str, arguments)])


def text_of(result) -> str:
    """Everything a user saw, without line breaks."""
    return " ".join((result.stdout + result.stderr).split())


def seedfold(*arguments: object, **options) -> subprocess.CompletedProcess:
    """The real command in a process of its own."""
    command = [sys.executable, "-m", "seedfold", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=environment, **options
    )


def leftovers(folder: Path) -> list[str]:
    """Everything in an output folder that is not the summary."""
    if not folder.exists():
        return []
    return sorted(p.name for p in folder.rglob("*") if p.name != "run_summary.json")


def summary(folder: Path) -> list[dict]:
    return json.loads((folder / "run_summary.json").read_text())["inputs"]


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from seedfold.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'rdkit', 'gemmi', 'biotite', 'Bio'} & set(sys.modules)\n"
        "sys.exit(f'loaded {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout and "doctor" in done.stdout


def test_schema_is_json_and_needs_no_input():
    result = run("--schema")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["$schema"].startswith("https://json-schema.org")


def test_no_input_is_an_error():
    result = run()
    assert result.exit_code == 2
    assert "no input given" in text_of(result)


@pytest.mark.parametrize("seeds", ["x", "-1", "1,1", "", "4294967296"])
def test_bad_seeds(tmp_path, seeds):
    result = run("x.fasta", "-o", tmp_path / "out", f"--seeds={seeds}")
    assert result.exit_code == 2
    assert "--seeds" in text_of(result) and "expected" in text_of(result)
    assert not (tmp_path / "out").exists()


def test_dry_run_prints_sizes_and_writes_nothing(tmp_path, examples):
    result = run(examples / "protein_dna.protenix.json", "--dry-run", "-o", tmp_path / "out")
    assert result.exit_code == 0, text_of(result)
    assert "245 tokens, 2529 atoms, 3 chains" in text_of(result)
    assert "memory forecast" in text_of(result)
    assert not (tmp_path / "out").exists()


def yaml_of(**parts: str) -> str:
    """A protein and a ligand, either of them changed."""
    protein = parts.get("protein", f"{{id: A, sequence: {PEPTIDE}}}")
    ligand = parts.get("ligand", "{id: B, ccd: ATP}")
    text = f"sequences:\n  - protein: {protein}\n  - ligand: {ligand}\n"
    return text + parts.get("more", "")


BAD = {
    "unknown letter": ("a.fasta", ">A\nMKT7A\n", ["a.fasta", "7"]),
    "empty file": ("a.fasta", "", ["a.fasta", "empty"]),
    "truncated json": ("a.json", '{"name": "x", "sequences": [', ["a.json", "column 29"]),
    "truncated yaml": ("a.yaml", "sequences:\n  - protein: {id: A", ["a.yaml"]),
    "binary junk": ("a.fasta", b"\x00\x01\x02\xff\xfe" * 40, ["a.fasta"]),
    "zero length chain": ("a.fasta", ">A\n\n>B\nMKTAYIAKQR\n", ["a.fasta"]),
    "duplicate chain ids": (
        "a.yaml",
        yaml_of(ligand="{id: A, ccd: ATP}"),
        ["a.yaml", "'A'"],
    ),
    "no such ccd code": ("a.yaml", yaml_of(ligand="{id: B, ccd: QQQQQ}"), ["a.yaml", "QQQQQ"]),
    "no such modification": (
        "a.yaml",
        yaml_of(
            protein=f"{{id: A, sequence: {PEPTIDE}, modifications: [{{position: 2, ccd: XQ7Z9}}]}}"
        ),
        ["a.yaml", "XQ7Z9"],
    ),
    "modification beyond the end": (
        "a.yaml",
        yaml_of(
            protein=f"{{id: A, sequence: {PEPTIDE}, modifications: [{{position: 99, ccd: SEP}}]}}"
        ),
        ["a.yaml", "99", "13"],
    ),
    "smiles syntax": ("a.yaml", yaml_of(ligand="{id: B, smiles: 'C1CC('}"), ["a.yaml", "C1CC("]),
    "smiles valence": (
        "a.yaml",
        yaml_of(ligand="{id: B, smiles: 'C(C)(C)(C)(C)C'}"),
        ["a.yaml", "valence"],
    ),
    "smiles salt": (
        "a.yaml",
        yaml_of(ligand="{id: B, smiles: 'CC(=O)[O-].[Na+]'}"),
        ["a.yaml", "own"],
    ),
    "bond to a missing atom": (
        "a.yaml",
        yaml_of(more="bonds:\n  - [[A, 5, NZ], [B, 1, QQ]]\n"),
        ["a.yaml", "QQ"],
    ),
    "bond to a missing chain": (
        "a.yaml",
        yaml_of(more="bonds:\n  - [[Z, 5, NZ], [B, 1, PG]]\n"),
        ["a.yaml", "'Z'"],
    ),
    "bond beyond the end": (
        "a.yaml",
        yaml_of(more="bonds:\n  - [[A, 77, NZ], [B, 1, PG]]\n"),
        ["a.yaml", "77"],
    ),
    "msa of another sequence": (
        "a.yaml",
        yaml_of(protein=f"{{id: A, sequence: {PEPTIDE}, msa: other.a3m}}"),
        ["other.a3m"],
    ),
    "msa missing": (
        "a.yaml",
        yaml_of(protein=f"{{id: A, sequence: {PEPTIDE}, msa: nowhere.a3m}}"),
        ["nowhere.a3m"],
    ),
    "unknown key": ("a.yaml", yaml_of(more="sequencs: []\n"), ["a.yaml", "sequencs"]),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input(tmp_path, kind):
    name, content, words = BAD[kind]
    (tmp_path / "other.a3m").write_text(">q\nWWWWWWWWWWWWW\n>x\nWWWWWWWWWWWWA\n")
    source = tmp_path / name
    source.write_bytes(content if isinstance(content, bytes) else content.encode())
    result = run(source, "-o", tmp_path / "out", *FAST)
    assert result.exit_code == 1, text_of(result)
    for word in words:
        assert word in text_of(result), text_of(result)
    assert "Traceback" not in text_of(result) and "internal error" not in text_of(result)
    assert leftovers(tmp_path / "out") == []
    (row,) = summary(tmp_path / "out")
    assert row["status"] == "failed" and words[0] in row["reason"]


@pytest.mark.parametrize("path", ["absent.fasta", "folder"])
def test_unreadable_path(tmp_path, path):
    (tmp_path / "folder").mkdir()
    result = run(tmp_path / path, "-o", tmp_path / "out", *FAST)
    assert result.exit_code == 1
    assert path in text_of(result)


def test_output_folder_that_cannot_be(tmp_path, examples):
    (tmp_path / "file").write_text("")
    result = run(examples / "cyclic_peptide.yaml", "-o", tmp_path / "file" / "out", *FAST)
    assert result.exit_code == 1
    assert "cannot write" in text_of(result)


def test_metals_in_smiles_do_not_abort_the_process(tmp_path):
    """RDKit's C++ aborts cannot be caught, so this must survive in a process of its own."""
    for i, smiles in enumerate(["[Fe]", "[Cu+2]([NH3])([NH3])[NH3]", "c1ccccc1[Pt](C)(C)C"]):
        source = tmp_path / f"m{i}.yaml"
        source.write_text(yaml_of(ligand=f"{{id: B, smiles: '{smiles}'}}"))
    done = seedfold("predict", tmp_path, "--dry-run")
    assert done.returncode in (0, 1), done.stderr
    assert "Traceback" not in done.stderr and "internal error" not in done.stderr


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("absent.safetensors", None),
        ("junk.safetensors", b"not a safetensors file at all"),
        ("other.safetensors", "another network"),
        ("resnet", None),
    ],
)
def test_weights_of_another_model(tmp_path, examples, name, content):
    import torch
    from safetensors.torch import save_file

    path = tmp_path / name
    if content == "another network":
        save_file({"conv1.weight": torch.zeros(3, 3)}, path)
    elif content is not None:
        path.write_bytes(content)
    model = path if "." in name else name
    result = run(examples / "cyclic_peptide.yaml", "-o", tmp_path / "out", "--model", model, *FAST)
    assert result.exit_code == 1
    assert name in text_of(result) and "safetensors" in text_of(result)
    assert "Traceback" not in text_of(result)
    assert not (tmp_path / "out").exists()


def test_one_bad_input_does_not_stop_the_others(tmp_path, examples):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a_bad.fasta").write_text(">A\nMK7\n")
    (folder / "b_good.yaml").write_text((examples / "cyclic_peptide.yaml").read_text())
    (folder / "c_bad.yaml").write_text(yaml_of(ligand="{id: B, ccd: QQQQQ}"))
    result = run(folder, "-o", tmp_path / "out", *FAST)
    assert result.exit_code == 1
    rows = {row["name"]: row for row in summary(tmp_path / "out")}
    assert [r["status"] for r in rows.values()] == ["failed", "ok", "failed"]
    assert (tmp_path / "out" / "b_good" / "b_good_model_0.cif").exists()
    names = {p.name for p in (tmp_path / "out").iterdir()}
    assert names == {"b_good", "run_summary.json", "index.html"}


def test_full_disk(tmp_path, examples):
    """Writing more than 6 kB a file fails, as on a full disk; nothing half-written stays."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6_000, 6_000))

    done = seedfold(
        "predict",
        examples / "cyclic_peptide.yaml",
        "-o",
        tmp_path / "out",
        *FAST,
        preexec_fn=limit,
    )
    assert done.returncode == 1
    assert os.strerror(errno.EFBIG) in done.stderr and "--resume" in done.stderr
    assert leftovers(tmp_path / "out") == []
    assert summary(tmp_path / "out")[0]["status"] == "failed"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_leaves_no_partial_folder(tmp_path, examples, number):
    command = [
        sys.executable, "-m", "seedfold", "predict",
        str(examples / "cyclic_peptide.yaml"), "-o", str(tmp_path / "out"),
        "--steps", "100000", "--samples", "1",
    ]  # fmt: skip
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if line.startswith("diffusion"):
                break
        time.sleep(0.2)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "interrupted" in errors and "Traceback" not in errors
    assert leftovers(tmp_path / "out") == []
    assert summary(tmp_path / "out")[0]["status"] == "interrupted"


def test_resume_skips_what_is_complete_and_redoes_what_changed(tmp_path):
    source = tmp_path / "a.fasta"
    source.write_text(f">A|protein\n{PEPTIDE}\n")
    out = tmp_path / "out"
    assert run(source, "-o", out, *FAST).exit_code == 0
    model = out / "a" / "a_model_0.cif"
    before = model.stat().st_mtime_ns
    assert run(source, "-o", out, "--resume", *FAST).exit_code == 0
    assert summary(out)[0]["status"] == "skipped"
    assert model.stat().st_mtime_ns == before
    source.write_text(f">A|protein\n{PEPTIDE}G\n")
    assert run(source, "-o", out, "--resume", *FAST).exit_code == 0
    assert summary(out)[0]["status"] == "ok"
    assert model.stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("state", "mark"),
    [("untrained", "UNTRAINED"), ("demonstration", "demonstration weights"), ("trained", None)],
)
def test_every_output_says_what_the_weights_are(state, mark, tmp_path, examples):
    """A mark that is absent is absent everywhere; a notice is repeated word for word."""
    notice = f"{mark}; rough, use --model protenix-v2" if state == "demonstration" else ""
    network = load_model(UNTRAINED_NANO).network
    info = CheckpointInfo(
        name="nano", config=network.config, trained=state != "untrained", notice=notice
    )
    save_checkpoint(tmp_path / "w.safetensors", network.state_dict(), info)
    out = tmp_path / "out"
    source = examples / "protein_ligand_ion.yaml"
    model = ("--model", tmp_path / "w.safetensors")
    result = run(source, "-o", out, *model, *FAST, "--pdb", "--sdf", "--full")
    assert result.exit_code == 0, text_of(result)
    files = [path for path in out.rglob("*") if path.is_file()]
    kinds = {".cif", ".pdb", ".sdf", ".npz", ".json", ".csv", ".html"}
    assert {path.suffix for path in files} == kinds
    found = [text_of(result), *(marks_of(p) for p in files if not p.name.endswith("_data.npz"))]
    others = {"UNTRAINED", "demonstration weights"} - {mark}
    assert not [text for text in found for other in others if other in text]
    if mark:
        assert all(mark in text for text in found)
    if notice:
        assert f"nano: {notice}" in text_of(result)
        for name in ("run_summary.json", "*/*_summary_confidences_0.json", "*/*_model_0.cif"):
            (path,) = out.glob(name)
            assert f"nano: {notice}" in " ".join(path.read_text().split()), path
    assert mark_of_page(out) == mark


def marks_of(path) -> str:
    """What a file says; of arrays the remarks."""
    if path.suffix != ".npz":
        return path.read_text()
    with np.load(path) as arrays:
        return str(arrays["notes"])


def mark_of_page(out) -> str | None:
    """The mark beside the model's name on the page."""
    (page,) = out.rglob("report.html")
    found = re.search(r'"Model","nano(?: \(([^)]*)\))?"', page.read_text())
    assert found
    return found[1]


def test_guidance_is_told_and_asked_for_anew(tmp_path):
    (tmp_path / "q.fasta").write_text(">A|protein\nGSHMKT\n")
    out, told = tmp_path / "out", "guided: bonds, angles"
    for choice, guided in (("on", True), ("off", False)):
        result = run(tmp_path / "q.fasta", "-o", out, *FAST, "--resume", "--guidance", choice)
        assert result.exit_code == 0, text_of(result)
        (summary,) = out.glob("*/*_summary_confidences_0.json")
        assert json.loads(summary.read_text())["guided"] is guided
        (job,) = out.glob("*/job.json")
        assert json.loads(job.read_text())["settings"]["guidance"] == choice
        for name in ("*_model_0.cif", "*_stereochemistry_0.json"):
            (path,) = out.glob(f"*/{name}")
            assert (told in " ".join(path.read_text().split())) is guided


def test_one_bad_record_or_job_does_not_stop_the_others(tmp_path):
    (tmp_path / "a.fasta").write_text(f">good\n{PEPTIDE}\n>bad\nMK7\n>better\n{PEPTIDE}G\n")
    result = run(tmp_path / "a.fasta", "--each", "--dry-run")
    assert result.exit_code == 1
    assert "good: 13 tokens" in text_of(result) and "better: 14 tokens" in text_of(result)
    assert "record bad" in text_of(result)
    job = {"name": "good", "sequences": [{"proteinChain": {"sequence": PEPTIDE, "count": 1}}]}
    bad = {"name": "bad", "sequences": [{"proteinChain": {"sequence": "MK7", "count": 1}}]}
    (tmp_path / "a.json").write_text(json.dumps([bad, job]))
    result = run(tmp_path / "a.json", "--dry-run")
    assert result.exit_code == 1
    assert "good: 13 tokens" in text_of(result) and "a.json" in text_of(result)


HOMEOBOX = "MALPTPSDSTLPAEATGRGQRRRLVWTPRQREALRACLERNQYPGIATREELAQAIGIPEPRVQIWFQNERSRQLRQHRRES"
IN_7W06 = "GFAGSERFHLRMLSEEPMMIVMAENHPAASYEEISLSAFRDETFLLFPREI"


@pytest.fixture
def databases(tmp_path, monkeypatch) -> Path:
    """Relatives of two proteins and the structure of one, in a SEEDFOLD_HOME of its own."""
    pytest.importorskip("pyhmmer")
    home = tmp_path / "home"
    (home / "mmcif").mkdir(parents=True)
    monkeypatch.setenv("SEEDFOLD_HOME", str(home))
    relatives = {"h1": HOMEOBOX, "h2": HOMEOBOX[:60], "s1": IN_7W06, "s2": IN_7W06[5:]}
    (home / "p.fasta").write_text("".join(f">{n} OX=9606\n{s}\n" for n, s in relatives.items()))
    (home / "seqres.txt").write_text(f">7w06_A mol:protein length:51  X\n{IN_7W06}\n")
    part = Path(__file__).parents[1] / "data/7w06_part.cif"
    (home / "mmcif/7w06.cif").write_text(part.read_text())
    (home / "databases.yaml").write_text(
        "protein: [{name: p, path: p.fasta}]\n"
        "templates: {seqres: seqres.txt, mmcif_folder: mmcif}\n"
    )
    return home


def test_alignments_and_templates_are_found_and_used(tmp_path, databases):
    source, out = tmp_path / "two.fasta", tmp_path / "out"
    source.write_text(f">A|protein\n{HOMEOBOX}\n>B|protein\n{IN_7W06[:20]}A{IN_7W06[21:]}\n")
    options = ("--msa", "local", "--templates", "local", *FAST)
    checked = run(source, "-o", out, *options, "--dry-run")
    assert "chain A: no alignment in the cache" in text_of(checked) and not out.exists()
    done = run(source, "-o", out, *options)
    text = text_of(done)
    assert done.exit_code == 0, text
    assert "alignments: 2 searched (jackhmmer" in text
    assert "two: chain A: alignment of 2 rows, 2 paired, 1 species" in text
    assert "two: chain B: template 7w06.cif chain A, coverage 57%, identity 98%" in text
    assert "chain A: no template found" in " ".join(summary(out)[0]["warnings"])
    assert Path(summary(out)[0]["best_model"]).is_file()
    again = run(source, "-o", out, *options, "--resume")
    assert "2 from the cache" in text_of(again) and summary(out)[0]["status"] == "skipped"


def test_a_failed_search_never_becomes_a_single_sequence(tmp_path, databases):
    good, bad, out = tmp_path / "good.fasta", tmp_path / "bad.fasta", tmp_path / "out"
    good.write_text(f">A|protein\n{HOMEOBOX}\n")
    bad.write_text(f">A|protein\n{HOMEOBOX}\n>B|rna\nGGCUAGCUUACGGAUCCGAUU\n")
    done = run(bad, good, "-o", out, "--msa", "local", *FAST)
    assert done.exit_code == 1
    failed, fine = summary(out)
    assert failed["status"] == "failed" and failed["folder"] is None
    assert "no rna databases" in failed["reason"] and "msa: empty" in failed["reason"]
    assert failed["reason"] in done.stderr.replace("\n", " ") and fine["status"] == "ok"
    checked = run(bad, "-o", out, "--msa", "local", "--dry-run")
    assert checked.exit_code == 1 and "no rna databases" in text_of(checked)


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (("--msa", "local"), 1, "no databases are configured; write there, for example protein:"),
        (("--msa", "server", "--offline"), 1, "the network is switched off"),
        (("--msa", "colab"), 2, "colab"),
        (("--msa-host", "http://x"), 2, "--msa-host is for --msa server"),
        (("--db", "x.yaml"), 2, "--db is for --msa local or --templates local"),
        (("--templates-before", "2022-01-01"), 2, "is for --templates local"),
        (("--templates", "local", "--templates-before", "soon"), 2, "soon"),
    ],
)
def test_options_of_searches(tmp_path, monkeypatch, options, code, words):
    monkeypatch.setenv("SEEDFOLD_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SEEDFOLD_OFFLINE", "")
    source = tmp_path / "p.fasta"
    source.write_text(f">A|protein\n{PEPTIDE}\n")
    done = run(source, "-o", tmp_path / "out", *options)
    assert done.exit_code == code and words in text_of(done)
