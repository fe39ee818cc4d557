import dataclasses
import sys
from functools import partial

import numpy as np
import pytest

from seedfold.data_pipeline.examples.crop import METHODS, crop, crop_units
from seedfold.data_pipeline.examples.example import Example
from seedfold.data_pipeline.query import Entity, Query
from seedfold.data_pipeline.structure import build_structure
from seedfold.data_pipeline.tokens import tokenize

GLYCAN, ATP = 30, 31


@pytest.fixture(scope="module")
def example() -> Example:
    """Two chains along the x axis, 4 A a residue, a modified residue, ATP and two sugars."""
    entities = (
        Entity(
            kind="protein", chains=("A",), where="", sequence="G" * 60, modifications=((30, "SEP"),)
        ),
        Entity(kind="protein", chains=("B",), where="", sequence="A" * 50),
        Entity(kind="ligand", chains=("C",), where="", ccd=("ATP",)),
        Entity(kind="ligand", chains=("D",), where="", ccd=("NAG", "NAG")),
    )
    structure = build_structure(Query(name="q", entities=entities, where="q"))
    tokens = tokenize(structure)
    origin = np.array([[0, 0, 0], [100, 10, 0], [120, 20, 0], [0, 300, 0]], np.float32)
    along = tokens.residue_index * np.where(tokens.kind == 3, 0.0, 4.0)
    x = origin[tokens.asym_id] + along[:, None] * np.array([1.0, 0, 0])
    jitter = np.random.default_rng(1).normal(0, 0.1, (len(structure.atoms), 3))
    return Example(
        id="q",
        chains=structure.chains,
        tokens=tokens,
        atom_in_component=np.zeros(len(structure.atoms), np.int64),
        x=(x[tokens.atom_to_token] + jitter).astype(np.float32),
        resolved=np.ones(len(structure.atoms), bool),
        bonds=np.zeros((0, 2), np.int64),
    )


def units_whole(example: Example, chosen: np.ndarray, n_token: int) -> bool:
    """By brute force: no ligand and no modified residue is partly inside."""
    tokens = example.tokens
    for asym in range(len(example.chains)):
        of_chain = np.flatnonzero(tokens.asym_id == asym)
        inside = np.isin(of_chain, chosen)
        if example.chains[asym].kind == "ligand":
            if len(of_chain) <= n_token and 0 < inside.sum() < len(of_chain):
                return False
        else:
            for residue in np.unique(tokens.residue_index[of_chain]):
                of_residue = tokens.residue_index[of_chain] == residue
                if 0 < inside[of_residue].sum() < of_residue.sum():
                    return False
    return True


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("n_token", [20, 40, 64, 100])
def test_crops_keep_ligands_whole_and_the_budget(example, method, n_token):
    sizes = []
    for seed in range(40):
        chosen = crop(example, n_token, np.random.default_rng(seed), methods={method: 1.0})
        assert 0 < len(chosen) <= n_token
        assert (np.diff(chosen) > 0).all()
        assert units_whole(example, chosen, n_token)
        sizes.append(len(chosen))
    assert max(sizes) == n_token or method == "contiguous"
    # What ligands leave of the budget goes to the polymers: nothing but a cut residue is missing.
    assert min(sizes) > n_token - 16 or n_token == 20


def test_a_small_complex_is_not_cropped(example):
    n = example.n_token
    np.testing.assert_array_equal(crop(example, n, np.random.default_rng(0)), np.arange(n))
    assert len(crop(example, n - 1, np.random.default_rng(0))) < n


def test_a_crop_in_space_is_the_nearest_residues(example):
    protein = dataclasses.replace(example)
    chosen = crop(protein, 9, np.random.default_rng(3), chains=(0,), methods={"spatial": 1.0})
    tokens = example.tokens
    places = tokens.residue_index[chosen]
    if (tokens.asym_id[chosen] == 0).all() and 30 not in places:
        assert (np.diff(places) == 1).all()
    x = example.x[tokens.centre_atom]
    # Some token of chain A has no left-out, fitting neighbour nearer than what is inside.
    standard = np.flatnonzero(tokens.standard)
    radius = [
        np.linalg.norm(x[chosen] - x[c], axis=1).max()
        <= np.linalg.norm(x[np.setdiff1d(standard, chosen)] - x[c], axis=1).min() + 1e-4
        for c in chosen
        if tokens.asym_id[c] == 0
    ]
    assert any(radius)


def test_interface_crops_are_where_the_drawn_chains_meet(example):
    # Chain B begins 100 A along chain A and 10 A beside it: residues 25 and later of A are near.
    for seed in range(30):
        rng = np.random.default_rng(seed)
        chosen = crop(example, 30, rng, chains=(0, 1), methods={"interface": 1.0})
        present = {example.chains[a].id for a in np.unique(example.tokens.asym_id[chosen])}
        assert {"A", "B"} <= present
        # The drawn pair decides: the glycan 300 A away is never there.
        assert "D" not in present


def test_spatial_crops_follow_the_drawn_chain(example):
    for seed in range(10):
        rng = np.random.default_rng(seed)
        chosen = crop(example, 35, rng, chains=(3,), methods={"spatial": 1.0})
        assert (example.tokens.asym_id[chosen] == 3).sum() == GLYCAN


def test_what_is_not_resolved_is_no_part_of_a_crop_in_space(example):
    resolved = example.resolved.copy()
    resolved[np.isin(example.tokens.atom_to_token, np.arange(10))] = False
    partly = dataclasses.replace(example, resolved=resolved)
    for seed in range(20):
        rng = np.random.default_rng(seed)
        chosen = crop(partly, 60, rng, chains=(0,), methods={"spatial": 1.0})
        assert not np.isin(np.arange(10), chosen).any()
    nothing = dataclasses.replace(example, resolved=np.zeros_like(resolved))
    assert len(crop(nothing, 60, np.random.default_rng(0), methods={"contiguous": 1.0})) > 0


def test_contiguous_crops_are_stretches_of_uniform_place(example):
    hits = np.zeros(example.n_token)
    for seed in range(400):
        chosen = crop(example, 60, np.random.default_rng(seed), methods={"contiguous": 1.0})
        hits[chosen] += 1
        for asym in (0, 1):
            places = example.tokens.residue_index[chosen[example.tokens.asym_id[chosen] == asym]]
            assert (np.diff(np.unique(places)) <= 1).all()
    b = hits[example.tokens.asym_id == 1]
    # A window that starts anywhere covers both ends alike and the middle more often.
    assert 0 < b[:8].sum() < 1.3 * b[-8:].sum() < 1.7 * b[:8].sum()
    assert b[25] > 2 * max(b[0], b[-1])


def test_a_ligand_larger_than_the_budget_is_cut_between_its_residues(example):
    units = crop_units(example, 20)
    glycan = units[example.tokens.asym_id == 3]
    assert len(np.unique(glycan)) == 2
    atp = units[example.tokens.asym_id == 2]
    assert len(np.unique(atp)) == ATP
    assert len(np.unique(crop_units(example, 31)[example.tokens.asym_id == 2])) == 1


def test_methods_come_as_often_as_asked(example, monkeypatch):
    called = []
    module = sys.modules[crop.__module__]
    everything = np.ones(example.n_token, bool)
    for name in ("_contiguous", "_nearest"):
        replacement = partial(lambda name, *_: called.append(name) or everything, name)
        monkeypatch.setattr(module, name, replacement)
    for seed in range(600):
        crop(example, 50, np.random.default_rng(seed))
    assert called.count("_contiguous") == pytest.approx(120, abs=30)
