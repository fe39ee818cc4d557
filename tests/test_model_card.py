"""scripts/model_card.py and scripts/bundle_weights.py: from weights to a filled card."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from seedfold.checkpoint import CheckpointInfo, read_info, save_checkpoint
from seedfold.data_pipeline.mmcif_tables import Metadata
from seedfold.data_pipeline.output import write_mmcif
from seedfold.evaluate.baselines import structure_of
from seedfold.evaluate.random_walk import random_walk
from seedfold.models import UNTRAINED_NANO, load_model

ROOT = Path(__file__).resolve().parents[1]
FAST = ("--samples", "1", "--cycles", "1", "--steps", "2", "--walks", "2", "--poses", "none")


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # Dataclasses look their module up.
    spec.loader.exec_module(module)
    return module


def run(module, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["script", *map(str, arguments)])
    module.main()


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A stand-in for trained ones; unguided, so that the geometry of its samples is bad."""
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    network = load_model(UNTRAINED_NANO).network
    config = replace(network.config, sampler=replace(network.config.sampler, guided=False))
    save_checkpoint(path, network.state_dict(), CheckpointInfo(name="x", config=config))
    return path


@pytest.fixture
def set_folder(tmp_path):
    """A peptide that can be scored, one that is too long, and one that has no reference."""
    folder = tmp_path / "set"
    (folder / "targets").mkdir(parents=True)
    (folder / "structures").mkdir()
    for name, sequence in (("one", "GSHMKTAYIAKQR"), ("long", "A" * 60)):
        (tmp_path / f"{name}.fasta").write_text(f">A|protein\n{sequence}\n")
        structure = structure_of(tmp_path / f"{name}.fasta")
        write_mmcif(
            structure, folder / f"structures/{name}.cif", coord=random_walk(structure, 99),
            name=name, metadata=Metadata(version="0"),
        )  # fmt: skip
    (folder / "targets/monomer_protein.csv").write_text("pdb_id,chain_id\none,A\nlong,A\nnone,A\n")
    return folder


def test_a_card_from_weights(weights, set_folder, tmp_path, monkeypatch, capsys):
    page, out = tmp_path / "model_card_nano.md", tmp_path / "out"
    page.write_text((ROOT / "docs/model_card_nano.md").read_text())
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(
        "step,total,mse,lddt\n1,4.0,1.0,\n2,3.0,0.5,0.1\n3,2.0,0.4,\n4,1.5,0.3,0.2\n"
    )
    options = ("--model", weights, "--set", set_folder, "-o", out, "--max-tokens", 40, *FAST)
    options += ("--page", page, "--metrics", metrics, "--device", "cpu")
    module = script("model_card")
    run(module, monkeypatch, *options)
    card = json.loads((out / "card.json").read_text())
    assert card["left_out"]["long"] == "60 tokens" and "none" in card["left_out"]
    (lddt,) = [row for row in card["scores"] if row["quantity"] == "lddt"]
    assert list(lddt["means"]) == ["x", "random walk", "untrained"]
    assert all(mean["n"] == 1 for mean in lddt["means"].values())
    assert lddt["means"]["random walk"]["mean"] > lddt["means"]["untrained"]["mean"]
    geometry = {row["quantity"]: row["means"] for row in card["geometry"]}
    assert geometry["bonds"]["random walk"]["mean"] == 100 > geometry["bonds"]["untrained"]["mean"]
    text = page.read_text()
    assert "| protein monomers | 1 | lDDT |" in text
    assert "![MSE, lDDT by step, with running means](nano_curve.svg)" in text
    assert "<svg" in (tmp_path / "nano_curve.svg").read_text()
    stamps = {p: p.stat().st_mtime_ns for p in out.rglob("*_model_*.cif")}
    assert len(stamps) == 4
    run(module, monkeypatch, *options)
    assert {p: p.stat().st_mtime_ns for p in out.rglob("*_model_*.cif")} == stamps


def test_bundled_weights_carry_a_notice(weights, tmp_path, monkeypatch):
    module, path = script("bundle_weights"), tmp_path / "assets" / "nano.safetensors"
    run(module, monkeypatch, weights, "-o", path, "--half")
    info = read_info(path)
    assert (info.name, info.notice, info.licence) == ("nano", module.NOTICE, "Apache-2.0")
    assert path.stat().st_size < 0.6 * weights.stat().st_size
    model = load_model(str(path))
    assert model.label == "nano (demonstration weights)" and "protenix-v2" in model.notes[0]
    whole = load_model(str(weights)).network.state_dict()
    for name, tensor in model.network.state_dict().items():
        np.testing.assert_allclose(tensor.float(), whole[name].float(), rtol=1e-3, atol=1e-6)


def test_what_must_not_be_bundled_is_refused(weights, tmp_path, monkeypatch):
    module = script("bundle_weights")
    monkeypatch.setattr(module, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="at most 30 MB"):
        run(module, monkeypatch, weights, "-o", tmp_path / "w.safetensors")
    network = load_model(UNTRAINED_NANO).network
    info = CheckpointInfo(name="x", config=network.config, trained=False)
    save_checkpoint(tmp_path / "u.safetensors", network.state_dict(), info)
    with pytest.raises(ValueError, match="untrained"):
        run(module, monkeypatch, tmp_path / "u.safetensors", "-o", tmp_path / "w.safetensors")
    assert not (tmp_path / "w.safetensors").exists()
