"""One query: determinism, alignments and templates, and what is refused."""

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.featurize import FeatureOptions
from seedfold.models import load_model
from seedfold.prediction import Settings, fold, prepare

SETTINGS = Settings(n_samples=2, n_cycles=1, n_steps=8)
TEMPLATE = Path(__file__).resolve().parents[1] / "data/7w06_part.cif"


def prepared_from(folder: Path, text: str, options: FeatureOptions | None = None):
    path = folder / "q.yaml"
    path.write_text(text)
    return prepare(read_queries(path)[0], options or FeatureOptions())


def quiet(*_: object) -> None:
    pass


def test_the_same_seed_gives_the_same_structure(tmp_path):
    prepared = prepared_from(tmp_path, "sequences:\n  - protein: {id: A, sequence: GSHMKTAY}\n")
    model = load_model()
    first, again = (fold(model, prepared, 7, SETTINGS, quiet) for _ in range(2))
    (other, _) = fold(model, prepared, 8, SETTINGS, quiet)
    np.testing.assert_array_equal(first[1].coord, again[1].coord)
    assert np.abs(first[0].coord - other.coord).max() > 0.1
    assert np.abs(first[0].coord - first[1].coord).max() > 0.1


def test_one_sample_is_the_first_of_many(tmp_path):
    prepared = prepared_from(tmp_path, "sequences:\n  - rna: {id: A, sequence: GGCUAC}\n")
    model = load_model()
    two = fold(model, prepared, 7, SETTINGS, quiet)
    alone = fold(model, prepared, 7, Settings(n_samples=1, n_cycles=1, n_steps=8), quiet)
    np.testing.assert_allclose(two[0].coord, alone[0].coord, atol=1e-3)


def test_guided_samples_keep_to_chemistry(tmp_path):
    text = (
        "sequences:\n  - protein: {id: A, sequence: GSHMKTAYW}\n  - rna: {id: B, sequence: GGCU}\n"
        "  - ligand: {id: C, smiles: 'C[C@H](N)/C=C/c1ccccc1'}\n  - ligand: {id: D, ccd: ZN}\n"
    )
    prepared = prepared_from(tmp_path, text)
    settings = replace(SETTINGS, n_steps=20)
    free = fold(load_model(), prepared, 7, settings, quiet)
    guided = fold(load_model(), prepared, 7, replace(settings, guided=True), quiet)
    assert min(sum(p.stereo.outliers.values()) for p in free) > 50
    for prediction in guided:
        wrong = {kind: n for kind, n in prediction.stereo.outliers.items() if n}
        assert sum(wrong.values()) <= 4, prediction.stereo.worst
        assert prediction.stereo.checked["chirality"] > 20


def test_bf16_is_near_fp32_and_not_the_same(tmp_path):
    prepared = prepared_from(tmp_path, "sequences:\n  - protein: {id: A, sequence: GSHMKTAY}\n")
    full, half = (
        fold(load_model(precision=p), prepared, 7, SETTINGS, quiet)[0].scores.pae
        for p in ("fp32", "bf16")
    )
    assert 0 < (full - half).abs().max() < 0.5


def test_the_alignment_reaches_the_network(tmp_path):
    (tmp_path / "a.a3m").write_text(">q\nGSHMKTAY\n>x/1-8\nGSHWWTAY\n>y/1-8\nG--WWTAY\n")
    head = "sequences:\n  - protein: {id: A, sequence: GSHMKTAY"
    without = prepared_from(tmp_path, head + "}\n")
    given = prepared_from(tmp_path, head + ", msa: a.a3m}\n")
    assert any("3 rows" in line for line in given.lines)
    assert any("single sequence" in line for line in without.lines)
    # Column 4 is M once and W twice.
    profile = given.features.profile[3]
    assert sorted(profile[profile > 0].tolist()) == pytest.approx([1 / 3, 2 / 3])


def template_sequence() -> str:
    import gemmi

    (polymer,) = [e for e in gemmi.read_structure(str(TEMPLATE)).entities if e.full_sequence]
    return gemmi.one_letter_code(polymer.full_sequence).upper().replace("X", "M")


def test_a_template_is_used_and_reported(tmp_path):
    sequence = template_sequence()
    text = (
        f"sequences:\n  - protein: {{id: A, sequence: {sequence}}}\n"
        f"templates:\n  - cif: {TEMPLATE}\n"
    )
    prepared = prepared_from(tmp_path, text)
    assert prepared.features.template_backbone_mask.any()
    (line,) = [line for line in prepared.lines if "template" in line]
    assert "identity 100%" in line or "identity 9" in line


def test_a_model_without_template_blocks_says_that_it_uses_none(tmp_path):
    model = load_model("nano-untrained")
    assert model.network.config.trunk.template.n_blocks == 0
    text = (
        f"sequences:\n  - protein: {{id: A, sequence: {template_sequence()}}}\n"
        f"templates:\n  - cif: {TEMPLATE}\n"
    )
    prepared = prepared_from(tmp_path, text, model.options)
    assert any("the model cannot use templates" in w for w in prepared.warnings)
    assert np.isfinite(fold(model, prepared, 1, SETTINGS, quiet)[0].coord).all()


def test_a_useless_template_is_a_warning(tmp_path):
    text = (
        "sequences:\n  - protein: {id: A, sequence: WWWWPPPPWWWW}\n"
        f"templates:\n  - cif: {TEMPLATE}\n"
    )
    prepared = prepared_from(tmp_path, text)
    assert not prepared.features.template_backbone_mask.any()
    assert any("template not used" in w for w in prepared.warnings)


def test_a_template_that_is_no_structure_is_an_error(tmp_path):
    (tmp_path / "t.cif.gz").write_bytes(gzip.compress(b"nothing"))
    text = (
        "sequences:\n  - protein: {id: A, sequence: WWWWPPPPWWWW}\ntemplates:\n  - cif: t.cif.gz\n"
    )
    with pytest.raises(InputError, match=r"t\.cif\.gz"):
        prepared_from(tmp_path, text)


def test_coordinates_that_are_not_numbers_are_never_written(tmp_path):
    prepared = prepared_from(tmp_path, "sequences:\n  - protein: {id: A, sequence: GSHM}\n")
    model = load_model()
    with torch.no_grad():
        model.network.diffusion_module.linear_s.weight.fill_(torch.nan)
    with pytest.raises(FloatingPointError, match="not numbers"):
        fold(model, prepared, 1, SETTINGS, quiet)
