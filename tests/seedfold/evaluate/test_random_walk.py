"""Random walks against the ideal geometry, which is checked by the stereochemistry report."""

import json

import numpy as np
import pytest

from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.stereochemistry import check
from seedfold.data_pipeline.structure import build_structure
from seedfold.evaluate.random_walk import CONTACT, random_walk

SEQUENCE = "GSHMKTAYIPAKQRQWFVKDSENCLP"
COMPLEX = {
    "version": 1,
    "sequences": [
        {
            "protein": {
                "id": ["A", "B"],
                "sequence": SEQUENCE,
                "modifications": [{"position": 2, "ccd": "SEP"}],
            }
        },
        {"dna": {"id": "C", "sequence": "GATTACA"}},
        {"rna": {"id": "D", "sequence": "GGCUACG"}},
        {"ligand": {"id": "E", "ccd": "ATP"}},
        {"ligand": {"id": "F", "ccd": "MG"}},
        {"ligand": {"id": "G", "ccd": ["NAG", "NAG"]}},
    ],
    "bonds": [[["A", 23, "ND2"], ["G", 1, "C1"]], [["G", 1, "O4"], ["G", 2, "C1"]]],
}


def built(tmp_path, content):
    path = tmp_path / "job.json"
    path.write_text(json.dumps(content))
    return build_structure(read_queries(path)[0])


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    return built(tmp_path_factory.mktemp("mixed"), COMPLEX)


@pytest.fixture(scope="module")
def x(mixed):
    return random_walk(mixed, 1)


def test_the_geometry_is_ideal(mixed, x):
    report = check(mixed, x)
    assert {kind for kind, n in report.outliers.items() if n} <= {"chirality"}
    assert {o.atoms for o in report.worst} <= {("G/NAG1/C1",), ("G/NAG2/C1",)}
    assert report.peptides["trans"] == 2 * (len(SEQUENCE) - 1)
    assert report.checked["links"] == 2 * 25 + 6 + 6 + 2


def test_lengths_and_angles_of_the_polymers_are_those_of_the_components(mixed, x):
    atoms = mixed.atoms
    polymers = np.isin(atoms.chain_id, list("ABCD"))
    for i, j, _ in atoms.bonds.as_array().tolist():
        residue = [(atoms.chain_id[k], atoms.res_id[k]) for k in (i, j)]
        if polymers[i] and polymers[j] and residue[0] == residue[1]:
            part = mixed.components[str(atoms.res_name[i])]
            ends = part.coord[[part.index[str(atoms.atom_name[k])] for k in (i, j)]]
            assert np.linalg.norm(x[i] - x[j]) == pytest.approx(
                np.linalg.norm(ends[0] - ends[1]), abs=2e-4
            )


def test_the_peptide_bond_against_its_definition(mixed, x):
    """Straight from the coordinates: C-N and the angles on either side."""
    place = {
        (str(a.chain_id), int(a.res_id), str(a.atom_name)): x[i] for i, a in enumerate(mixed.atoms)
    }

    def degrees(a, b, c):
        u, v = a - b, c - b
        return np.degrees(np.arccos(u @ v / np.linalg.norm(u) / np.linalg.norm(v)))

    for i in range(1, len(SEQUENCE)):
        ca, c, n, ca_next = (
            place["A", k, name] for k, name in ((i, "CA"), (i, "C"), (i + 1, "N"), (i + 1, "CA"))
        )
        assert np.linalg.norm(c - n) == pytest.approx(1.33, abs=1e-4)
        assert degrees(ca, c, n) == pytest.approx(117.2, abs=0.02)
        assert degrees(c, n, ca_next) == pytest.approx(121.7, abs=0.02)


def test_it_keeps_out_of_its_own_way(mixed, x):
    """Residues that are not neighbours, all atoms against all."""
    atoms = mixed.atoms
    own = np.flatnonzero(np.isin(atoms.chain_id, ["A", "D"]))
    gap = np.linalg.norm(x[own][:, None] - x[own], axis=-1)
    apart = np.abs(atoms.res_id[own][:, None] - atoms.res_id[own]) > 1
    same = atoms.chain_id[own][:, None] == atoms.chain_id[own]
    assert gap[apart & same].min() > CONTACT - 1e-3


def test_chains_touch(mixed, x):
    chains = mixed.atoms.chain_id
    for n, chain in enumerate("BCDEF", 1):
        there = np.isin(chains, list("ABCDEF"[:n]))
        gap = np.linalg.norm(x[chains == chain][:, None] - x[there], axis=-1).min()
        assert gap == pytest.approx(CONTACT, abs=1e-3), chain


def test_the_seed_decides(mixed, x):
    np.testing.assert_array_equal(random_walk(mixed, 1), x)
    other = random_walk(mixed, 2)
    gaps = [np.linalg.norm(y[:1] - y, axis=-1) for y in (x, other)]
    assert np.abs(gaps[0] - gaps[1]).max() > 5
    assert x.shape == (len(mixed.atoms), 3) and np.isfinite(x).all() and x.dtype == np.float32


def test_what_has_no_backbone_hangs_by_its_bond(tmp_path):
    """A cap in the chain, and atoms of which the dictionary knows nothing."""
    capped = built(
        tmp_path,
        {
            "version": 1,
            "sequences": [
                {
                    "protein": {
                        "id": "A",
                        "sequence": "GAAG",
                        "modifications": [
                            {"position": 1, "ccd": "ACE"},
                            {"position": 4, "ccd": "NH2"},
                        ],
                    }
                }
            ],
        },
    )
    x = random_walk(capped, 3)
    report = check(capped, x)
    assert np.isfinite(x).all()
    assert report.outliers["links"] == 0 and report.outliers["chirality"] == 0
