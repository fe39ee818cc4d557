"""Atoms, chains and superposition read back from our own mmCIF files."""

import re

import numpy as np
import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.report.molecule import read_models, residues_named

SEQUENCE = "GSHMKTAYIAKQRQISFVKS"
ROW = re.compile(r"^((?:ATOM|HETATM) .* \? )(-?[\d.]+) (-?[\d.]+) (-?[\d.]+)( .*)$", re.M)


def paths(folder):
    return sorted(folder.glob("q_model_*.cif"))


def moved(text: str, rotation: np.ndarray, shift: np.ndarray) -> str:
    def row(match: re.Match[str]) -> str:
        x = rotation @ [float(match[i]) for i in (2, 3, 4)] + shift
        return match[1] + " ".join(f"{v:.3f}" for v in x) + match[5]

    return ROW.sub(row, text)


def test_chains_and_sequence_are_those_of_the_input(finished):
    molecule, models = read_models(paths(finished.folder))
    assert [(c.id, c.kind, c.n_residue) for c in molecule.chains] == [
        ("A", "protein", 20),
        ("L", "ligand", 1),
        ("Z", "ion", 1),
    ]
    assert molecule.letters == SEQUENCE + "??"
    assert molecule.residue_names[-2:] == ("SAH", "ZN")
    assert molecule.chains[1].description == "S-ADENOSYL-L-HOMOCYSTEINE"
    assert len(models) == 3


def test_bonds_are_those_of_the_chemistry(finished):
    molecule, _ = read_models(paths(finished.folder))
    pairs, orders = molecule.bonds
    names, chain = molecule.atoms.atom_name, molecule.atoms.chain_id
    order = {
        frozenset(names[p]): int(o)
        for p, o in zip(pairs, orders, strict=True)
        if (chain[p] == "L").all()
    }
    # 26 atoms in one molecule with three rings: 25 + 3 bonds.
    assert len(order) == 28
    assert order[frozenset(("C", "O"))] == 2 and order[frozenset(("C", "OXT"))] == 1
    between = [p for p in pairs if molecule.residue_of_atom[p[0]] != molecule.residue_of_atom[p[1]]]
    assert len(between) == 19 and all(set(names[p]) == {"C", "N"} for p in between)


def test_a_moved_copy_is_laid_back(folder):
    first, second, third = paths(folder)
    angle = 0.7
    rotation = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    text = first.read_text()
    second.write_text(moved(text, rotation, np.array([30.0, -20.0, 5.0])))
    third.write_text(moved(text, np.diag([1.0, 1.0, -1.0]), np.zeros(3)))
    _, (original, same, mirrored) = read_models([first, second, third])
    assert same.rmsd == pytest.approx(0, abs=0.002)
    np.testing.assert_allclose(same.x, original.x, atol=0.005)
    # A mirror image cannot be laid on its original.
    assert mirrored.rmsd > 1


def test_a_helix_is_found(folder):
    turn, rise = np.deg2rad(100.0), 1.5
    text = paths(folder)[0].read_text()
    numbers = iter(range(21))

    def place(match: re.Match[str]) -> str:
        if " CA . " not in match[1]:
            return match[0]
        i = next(numbers)
        x = (2.3 * np.cos(i * turn), 2.3 * np.sin(i * turn), rise * i)
        return match[1] + " ".join(f"{v:.3f}" for v in x) + match[5]

    paths(folder)[0].write_text(ROW.sub(place, text))
    _, (helix, *_) = read_models(paths(folder))
    assert helix.secondary[4:16] == "h" * 12
    assert helix.secondary[20:] == "cc"


def test_atoms_scattered_all_over_have_no_secondary_structure(folder):
    # P-SEA's cell list would ask for more memory than any machine has.
    rows = iter(range(10_000))

    def place(match: re.Match[str]) -> str:
        i = next(rows)
        return match[1] + f"{9000 * (i % 9)} {11000 * (i % 7)} {13000 * (i % 5)}" + match[5]

    path = paths(folder)[0]
    path.write_text(ROW.sub(place, path.read_text()))
    _, (scattered, *_) = read_models(paths(folder))
    assert set(scattered.secondary) == {"c"}


def test_faults_are_found_by_name(finished):
    molecule, _ = read_models(paths(finished.folder))
    assert residues_named(["A/MET4/CA", "A/LYS5/N"], molecule) == [3, 4]
    assert residues_named(["L/SAH1/C4'"], molecule) == [20]
    assert residues_named(["A/GLY4/CA", "nonsense", "B/MET4/CA"], molecule) == []


def test_bad_files_are_named(folder):
    first, second, third = paths(folder)
    whole = second.read_text()
    for text in (
        whole[: len(whole) // 3],
        "",
        "data_x\n",
        ROW.sub(lambda m: f"{m[1]}nan nan nan{m[5]}", whole, count=1),
        ROW.sub("", whole, count=1),
    ):
        second.write_text(text)
        with pytest.raises(InputError, match=r"q_model_1\.cif"):
            read_models([first, second, third])
