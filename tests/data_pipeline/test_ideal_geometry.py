"""Ideal geometry against RDKit's own measures and against textbook facts."""

import numpy as np
import pytest
from rdkit import Chem
from rdkit.Chem import rdMolTransforms

from seedfold.data_pipeline.components import component
from seedfold.data_pipeline.ideal_geometry import (
    angle,
    covalent_length,
    dihedral,
    height,
    ideal_geometry,
    signed_volume,
    warp,
)
from seedfold.data_pipeline.molecules import component_from_smiles, mol


def names(code, rows):
    part = component(code) if isinstance(code, str) else code
    return [tuple(part.atom_names[i] for i in row) for row in rows]


def test_lengths_angles_and_torsions_match_rdkit():
    part = component("TRP")
    conformer = mol(part, part.coord).GetConformer()
    ideal = ideal_geometry(part)
    for (i, j), length in zip(ideal.bonds.tolist(), ideal.lengths, strict=True):
        assert length == pytest.approx(rdMolTransforms.GetBondLength(conformer, i, j), abs=1e-5)
    assert len(ideal.bonds) == 16
    for (i, j, k), degrees in zip(ideal.angles.tolist(), ideal.degrees, strict=True):
        assert degrees == pytest.approx(rdMolTransforms.GetAngleDeg(conformer, i, j, k), abs=1e-3)
    quad = [0, 1, 4, 5]
    expected = rdMolTransforms.GetDihedralDeg(conformer, *quad)
    assert dihedral(part.coord[[quad]].astype(float)).item() == pytest.approx(expected, abs=1e-3)


def test_right_handed_volume_and_heights():
    x = np.array([[[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]]])
    assert signed_volume(x).item() == 1.0
    assert signed_volume(x * [1, 1, -1]).item() == -1.0
    assert height(x).item() == pytest.approx(1 / np.sqrt(3))
    assert angle(x[:, [1, 0, 2]]).item() == pytest.approx(90)
    square = np.array([[[1.0, 1, 0.1], [-1, 1, -0.1], [-1, -1, 0.1], [1, -1, -0.1]]])
    assert warp(square).item() == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("code", "centres"),
    [
        ("GLY", set()),
        ("ALA", {"CA"}),
        ("THR", {"CA", "CB"}),
        ("DA", {"C1'", "C3'", "C4'"}),
        ("NAG", {"C1", "C2", "C3", "C4", "C5"}),
        ("CIT", set()),
        # PA and PB carry R/S in the CCD, but two oxygens differ by a proton only.
        ("ATP", {"C1'", "C2'", "C3'", "C4'"}),
    ],
)
def test_stereocentres(code, centres):
    part = component(code)
    ideal = ideal_geometry(part)
    assert {part.atom_names[i] for i in ideal.centres} == centres
    assert (np.abs(ideal.volumes) > 2).all()


def test_d_alanine_is_the_mirror_of_l_alanine():
    (left,), (right,) = (
        signed_volume(part.coord[None, [part.index[n] for n in ("CA", "N", "C", "CB")]])
        for part in (component("ALA"), component("DAL"))
    )
    assert left > 2 and right < -2


def test_e_and_z():
    oleic = ideal_geometry(component("OLA"))
    assert names("OLA", oleic.double) == [("C8", "C9", "C10", "C11")]
    assert oleic.cis.tolist() == [1.0]
    for smiles, cis in (("F/C=C/Cl", -1.0), ("F/C=C\\Cl", 1.0), ("CC/C(C)=C(F)\\Cl", None)):
        ideal = ideal_geometry(component_from_smiles(smiles, "LIG_1"))
        assert len(ideal.double) == 1
        assert cis is None or ideal.cis.tolist() == [cis]
    # Not said, no isomers, in a ring, carbonyl.
    for smiles in ("FC=CCl", "C/C=C/C=C(C)C", "C1CCCC=C1", "CC(=O)N"):
        part = component_from_smiles(smiles, "LIG_1")
        bonds = names(part, ideal_geometry(part).double)
        assert len(bonds) == (1 if smiles == "C/C=C/C=C(C)C" else 0), smiles


def test_flat_rings_and_trigonal_atoms():
    tryptophan = ideal_geometry(component("TRP"))
    assert sorted(map(len, tryptophan.rings)) == [5, 6]
    assert ideal_geometry(component("PRO")).rings == ()
    asparagine = ideal_geometry(component("ASN"))
    assert {n[0] for n in names("ASN", asparagine.trigonal)} == {"C", "CG"}


def test_metals_have_no_ideal_bonds():
    heme = ideal_geometry(component("HEM"))
    assert not [n for n in names("HEM", heme.bonds) if "FE" in n]
    assert heme.bonds.shape[0] == len(component("HEM").bonds) - 4


def test_covalent_lengths_are_near_textbook_ones():
    pairs = [
        ("C", "C", 1.54),
        ("C", "N", 1.47),
        ("C", "O", 1.43),
        ("S", "S", 2.05),
        ("ZN", "N", 2.0),
    ]
    first, second, known = zip(*pairs, strict=True)
    np.testing.assert_allclose(covalent_length(first, second), known, atol=0.1)


def test_a_component_without_coordinates_has_no_terms():
    part = component_from_smiles("CCO", "LIG_1")
    part.coord[:] = np.nan
    ideal = ideal_geometry(part)
    assert len(ideal.bonds) == len(ideal.angles) == len(ideal.chiral) == 0


def test_colours_separate_what_the_graph_separates():
    """2-butene's methyls make isomers, isobutene's do not; RDKit agrees."""
    for smiles in ("C/C=C/C", "CC(C)=C/C=C/C"):
        part = component_from_smiles(smiles, "LIG_1")
        said = sum(
            b.GetStereo() != Chem.BondStereo.STEREONONE
            for b in Chem.MolFromSmiles(smiles).GetBonds()
        )
        assert len(ideal_geometry(part).double) == said
