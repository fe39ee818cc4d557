"""Solvent accessibility: a stretched chain is all exposed, a folded one is not."""

import gzip
import io
from pathlib import Path

import biotite.structure as struc
import numpy as np
import pytest
from biotite.structure.io import pdbx
from rdkit import Chem
from rdkit.Chem import AllChem

from seedfold.data_pipeline.disorder import THRESHOLD, fraction_disordered, windowed_accessibility
from seedfold.data_pipeline.query import Entity, Query
from seedfold.data_pipeline.structure import build_structure

HELDOUT = Path(__file__).resolve().parents[2] / "../shared/data/heldout/structures"


def stretched(n: int) -> tuple[struc.AtomArray, np.ndarray]:
    """Poly-alanine; the residues of a real tripeptide's middle, far from one another."""
    peptide = Chem.AddHs(Chem.MolFromSequence("AAA"))
    AllChem.EmbedMolecule(peptide, randomSeed=1)
    x = peptide.GetConformer().GetPositions()
    middle = {
        a.GetPDBResidueInfo().GetName().strip(): x[a.GetIdx()]
        for a in peptide.GetAtoms()
        if a.GetPDBResidueInfo() and a.GetPDBResidueInfo().GetResidueNumber() == 2
    }
    entity = Entity(kind="protein", chains=("A",), where="test", sequence="A" * n)
    atoms = build_structure(Query(name="q", entities=(entity,), where="test")).atoms
    coord = np.array([middle.get(name, middle["O"]) for name in atoms.atom_name.tolist()])
    coord[:, 0] += 10.0 * atoms.res_id
    return atoms, coord.astype(np.float32)


def test_apart_residues_are_wholly_exposed():
    atoms, coord = stretched(30)
    np.testing.assert_allclose(windowed_accessibility(atoms, coord), 1.0)


def test_fraction_counts_protein_residues_of_all_chains():
    atoms, coord = stretched(30)
    entities = (
        Entity(kind="protein", chains=("A", "B"), where="test", sequence="A" * 30),
        Entity(kind="ligand", chains=("C",), where="test", ccd=("ZN",)),
    )
    made = build_structure(Query(name="q", entities=entities, where="test"))
    buried = coord.copy()
    buried[:, 0] = buried[:, 0] - 10.0 * atoms.res_id + 0.1 * atoms.res_id  # all in one place
    zinc = np.zeros((1, 3), dtype=np.float32)
    assert fraction_disordered(made, np.concatenate([coord, buried, zinc])) == pytest.approx(0.5)
    only = build_structure(Query(name="q", entities=entities[1:], where="test"))
    assert fraction_disordered(only, zinc) == 0.0


@pytest.mark.skipif(not HELDOUT.exists(), reason="needs ../shared/data/heldout")
def test_a_folded_protein_is_not_disordered():
    """pb_7r59: one compact chain; relative accessibility of folded proteins averages 0.2-0.3."""
    text = gzip.decompress((HELDOUT / "pb_7r59.cif.gz").read_bytes()).decode()
    atoms = pdbx.get_structure(pdbx.CIFFile.read(io.StringIO(text)), model=1)
    atoms = atoms[struc.filter_amino_acids(atoms) & (atoms.element != "H")]
    values = windowed_accessibility(atoms, atoms.coord)
    assert 0.2 < values.mean() < 0.35
    assert values.max() < THRESHOLD


def test_scattered_atoms_have_no_surface():
    made = build_structure(
        Query(
            name="q",
            where="test",
            entities=(Entity(kind="protein", chains=("A",), where="test", sequence="AA"),),
        )
    )
    x = np.linspace(0, 1e5, made.atoms.array_length())[:, None].repeat(3, axis=1)
    assert np.isnan(fraction_disordered(made, x))
