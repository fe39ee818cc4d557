"""Clashes against all distances and a breadth-first search over bonds."""

import numpy as np
import pytest

from seedfold.data_pipeline.clashes import CLASH_OVERLAP, clashes, vdw_radii
from seedfold.data_pipeline.query import Entity, Query
from seedfold.data_pipeline.structure import Structure, build_structure


def structure_of(*sources) -> Structure:
    entities = [
        Entity(kind=kind, chains=(chain,), where="test", **source)
        for (kind, source), chain in zip(sources, "ABCDEF", strict=False)
    ]
    return build_structure(Query(name="q", entities=tuple(entities), where="test"))


def graph_distance(structure: Structure) -> np.ndarray:
    n = structure.atoms.array_length()
    d = np.full((n, n), 99)
    np.fill_diagonal(d, 0)
    for i, j, _ in structure.atoms.bonds.as_array().tolist():
        d[i, j] = d[j, i] = 1
    for k in range(n):
        d = np.minimum(d, d[:, k, None] + d[None, k])
    return d


def test_clashes_match_all_distances():
    made = structure_of(
        ("protein", {"sequence": "MWCFHKCE"}),
        ("ligand", {"ccd": ("HEM",)}),
        ("rna", {"sequence": "AG"}),
    )
    n = made.atoms.array_length()
    x = 12 * np.random.default_rng(0).random((n, 3))
    x[5] = np.nan
    radii = {"C": 1.7, "N": 1.55, "O": 1.52, "S": 1.8, "P": 1.8, "FE": 1.4}  # Bondi; metal
    r = np.array([radii[e] for e in made.atoms.element])
    np.testing.assert_allclose(vdw_radii(made.atoms), r)
    bonds = graph_distance(made)
    expected = {
        (i, j)
        for i in range(n)
        for j in range(i + 1, n)
        if np.linalg.norm(x[i] - x[j]) < r[i] + r[j] - CLASH_OVERLAP
        and bonds[i, j] > 3
        and not (made.atoms.atom_name[i] == made.atoms.atom_name[j] == "SG")
    }
    pairs, distance, least = clashes(made.atoms, x)
    assert {tuple(p) for p in pairs.tolist()} == expected
    assert len(expected) > 50
    np.testing.assert_allclose(distance, np.linalg.norm(x[pairs[:, 0]] - x[pairs[:, 1]], axis=-1))
    assert (distance < least).all()


@pytest.mark.parametrize(("distance", "expected"), [(1.89, 1), (1.91, 0)])
def test_two_carbons_clash_below_1_9(distance, expected):
    made = structure_of(("ligand", {"smiles": "C"}), ("ligand", {"smiles": "C"}))
    x = np.array([[0.0, 0, 0], [distance, 0, 0]])
    assert len(clashes(made.atoms, x)[0]) == expected


def test_metals_may_be_near_and_nothing_is_needed():
    made = structure_of(("ligand", {"ccd": ("CA",)}), ("ligand", {"smiles": "O"}))
    assert len(clashes(made.atoms, np.array([[0.0, 0, 0], [2.3, 0, 0]]))[0]) == 0
    assert len(clashes(made.atoms, np.array([[0.0, 0, 0], [1.3, 0, 0]]))[0]) == 1
    assert len(clashes(made.atoms, np.full((2, 3), np.nan))[0]) == 0


def test_atoms_flung_far_away_need_no_more_memory():
    """A cell list over the whole box would take 60 GB."""
    made = structure_of(("protein", {"sequence": "AA"}))
    x = np.full((made.atoms.array_length(), 3), 5000.0) * np.arange(11)[:, None]
    x[-1] = x[0] + [1.0, 0.0, 0.0]
    pairs, distance, _ = clashes(made.atoms, x)
    assert pairs.tolist() == [[0, 10]] and distance == pytest.approx(1.0)
