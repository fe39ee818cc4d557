"""The tables of a model card, from scores made up by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from seedfold.checkpoint import CheckpointInfo
from seedfold.data_pipeline.errors import InputError
from seedfold.evaluate.model_card import (
    CLASHES,
    Method,
    architecture_text,
    difference_text,
    filled,
    geometry,
    geometry_rows,
    score_rows,
    table_text,
)
from seedfold.evaluate.prediction_folders import Prediction
from seedfold.evaluate.rows import METRICS, Values
from seedfold.evaluate.tables import Sample, Scored
from seedfold.evaluate.targets import Target
from seedfold.model.presets import PRESETS

NAMES = ("a", "b", "c", "d")


def scored(name, values, ranks=None):
    """A monomer and the lDDT of its samples; None is a sample without a score."""
    target = Target(task="monomer_protein", kind="monomer", pdb_id=name, chains=("A",))
    samples = tuple(
        Sample(
            prediction=Prediction(
                pdb_id=name,
                seed=1,
                sample=k,
                path=Path("x.cif"),
                ranking_score=(ranks or values)[k],
            ),
            values=Values(metrics={**dict.fromkeys(METRICS), "lddt": value, "rmsd": value}),
        )
        for k, value in enumerate(values)
    )
    missing = None if samples else Values.missing("model: no prediction")
    return Scored(target=target, samples=samples, missing=missing)


def method(tmp_path, name, targets, *, ranked=True):
    return Method(name=name, targets=targets, predictions=tmp_path / name, ranked=ranked)


def lddt(rows):
    return next(row for row in rows if row.quantity == "lddt")


@pytest.fixture
def methods(tmp_path):
    model = [scored(n, [v, 0.9], [1.0, 0.0]) for n, v in zip(NAMES, (0.5, 0.6, 0.7), strict=False)]
    model.append(scored("d", []))
    walk = [scored(n, [0.1, 0.3], [0.0, 0.0]) for n in NAMES]
    return method(tmp_path, "m", model), method(tmp_path, "walk", walk, ranked=False)


def test_the_top_ranked_counts_and_of_a_baseline_the_mean(methods):
    row = lddt(score_rows(methods, n_bootstrap=200))
    assert row.means["m"].mean == pytest.approx((0.5 + 0.6 + 0.7 + 0.0) / 4)
    assert row.means["m"].n == 4 and row.means["walk"].mean == pytest.approx(0.2)
    assert row.means["walk"].low == row.means["walk"].high == pytest.approx(0.2)


def test_differences_are_of_the_same_targets(methods):
    row = lddt(score_rows(methods, n_bootstrap=4000))
    gap = row.differences["walk"]
    gaps = np.array([0.3, 0.4, 0.5, -0.2])
    assert gap.mean == pytest.approx(gaps.mean())
    # The exact bootstrap of four: all 4^4 draws.
    draws = np.array(np.meshgrid(*[gaps] * 4)).reshape(4, -1).mean(axis=0)
    assert gap.low == pytest.approx(np.quantile(draws, 0.025), abs=0.03)
    assert gap.high == pytest.approx(np.quantile(draws, 0.975), abs=0.03)


def test_a_missing_sample_of_a_baseline_counts_as_nothing_good(tmp_path):
    target = [scored("a", [None, 0.4], [0.0, 0.0])]
    walk = method(tmp_path, "walk", target, ranked=False)
    assert walk.value(target[0], "lddt") == pytest.approx(0.2)
    assert walk.value(target[0], "rmsd") == pytest.approx(0.4)


def test_geometry_in_per_cent():
    checks = {
        kind: {"checked": 0, "outliers": 0}
        for kind in ("bond_angles", "chirality", "aromatic_rings", "trigonal_atoms")
    }
    checks |= {kind: {"checked": 0, "outliers": 0} for kind in ("double_bonds", "peptide_bonds")}
    checks["bond_lengths"] = {"checked": 30, "outliers": 9}
    checks["links"] = {"checked": 10, "outliers": 1}
    checks["clashes"] = {"checked": 500, "outliers": 3}
    assert geometry(checks) == pytest.approx({"bonds": 75.0, CLASHES: 6.0})


def test_geometry_of_each_structure_once(methods, tmp_path):
    for name, outliers in (("m", (5, 0)), ("walk", (0, 10))):
        for pdb_id in NAMES[:2]:
            folder = tmp_path / name / pdb_id
            folder.mkdir(parents=True)
            for k, n in enumerate(outliers):
                checks = {"bond_lengths": {"checked": 10, "outliers": n}}
                path = folder / f"{pdb_id}_stereochemistry_{k}.json"
                path.write_text(json.dumps({"checks": {**EMPTY, **checks}}))
    bonds, *_ = geometry_rows(methods, n_bootstrap=200)
    assert bonds.quantity == "bonds" and bonds.means["m"].n == 2
    assert bonds.means["m"].mean == 50.0, "the top-ranked sample"
    assert bonds.means["walk"].mean == 50.0, "the mean of both"
    assert "| protein monomers | 2 | bonds, % within limits | 50.0 (50.0 to 50.0)" in table_text(
        [bonds]
    )


EMPTY = {
    kind: {"checked": 0, "outliers": 0}
    for kind in (
        *("bond_lengths", "links", "bond_angles", "chirality", "aromatic_rings"),
        *("trigonal_atoms", "double_bonds", "peptide_bonds", "clashes"),
    )
}


def test_tables_for_people(methods):
    rows = score_rows(methods, n_bootstrap=200)
    text = table_text(rows)
    assert text.startswith("| targets | n | score | m | walk |\n")
    assert "| protein monomers | 4 | lDDT | 0.450 (" in text
    gaps = difference_text(rows, {"monomer_protein": "monomer"})
    assert gaps.splitlines()[0] == "| targets | score | m minus walk |"
    assert gaps.splitlines()[2].startswith("| protein monomers | lDDT | 0.250 (")
    assert gaps.splitlines()[3].startswith("| protein monomers | lDDT of the backbone | ")


def test_the_architecture_is_that_of_the_header():
    config = PRESETS["seedfold_linear_384"]()
    info = CheckpointInfo(name="n", config=config, notice="demonstration weights; x")
    text = architecture_text(info, 1_234_567)
    for words in ("1.23M", "384, 384, 192", "GatedTriangleAttention", "demonstration weights; x"):
        assert words in text


def test_only_what_is_between_the_marks_changes():
    page = "a\n<!-- x -->\nold \\1\n<!-- end of x -->\nb\n"
    once = filled(page, {"x": "new \\2\n"}, "page")
    assert once == "a\n<!-- x -->\nnew \\2\n<!-- end of x -->\nb\n"
    assert filled(once, {"x": "new \\2"}, "page") == once
    with pytest.raises(InputError, match="lacks the marks of 'y'"):
        filled(page, {"y": ""}, "page")
