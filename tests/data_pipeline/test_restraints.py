"""Limits against real structures, which keep them, and against chemistry that breaks them."""

from pathlib import Path

import numpy as np
import pytest

from seedfold.data_pipeline.ideal_geometry import dihedral, signed_volume
from seedfold.data_pipeline.mmcif import read_structure
from seedfold.data_pipeline.query import AtomRef, Document, Entity, Query
from seedfold.data_pipeline.restraints import TWIST, restraints
from seedfold.data_pipeline.structure import Structure, build_structure

HELDOUT = Path(__file__).resolve().parents[2] / "../shared/data/heldout/structures"
PART = Path(__file__).resolve().parents[1] / "data/7w06_part.cif"


def structure_of(*entities, bonds=()) -> Structure:
    made = tuple(
        Entity(kind=kind, chains=tuple(chains), where="test", **source)
        for kind, chains, source in entities
    )
    return build_structure(Query(name="q", entities=made, where="test", bonds=tuple(bonds)))


def place(structure: Structure, residue: int, name: str, chain: str = "A") -> int:
    atoms = structure.atoms
    here = (atoms.chain_id == chain) & (atoms.res_id == residue) & (atoms.atom_name == name)
    return int(np.flatnonzero(here)[0])


def limits_of(structure: Structure, *ends: tuple[int, str]) -> tuple[float, float]:
    r = restraints(structure)
    pair = sorted(place(structure, *end) for end in ends)
    (row,) = np.flatnonzero((r.pairs == pair).all(-1))
    return float(r.least[row]), float(r.most[row])


def twisted(structure: Structure) -> np.ndarray:
    """By how many degrees torsions of known atoms are from where they belong."""
    r, x = restraints(structure), structure.atoms.coord.astype(np.float64)
    size = np.abs(dihedral(x[r.torsions]))
    off = np.where(r.side < 0, 180 - size, np.where(r.side > 0, size, np.minimum(size, 180 - size)))
    return off[np.isfinite(off)]


def violations(structure: Structure) -> tuple[np.ndarray, np.ndarray, int]:
    """By how much distances and volumes are outside, of known atoms; number of overlaps."""
    r, x = restraints(structure), structure.atoms.coord.astype(np.float64)
    distance = np.linalg.norm(x[r.pairs[:, 0]] - x[r.pairs[:, 1]], axis=-1)
    off = np.maximum(r.least - distance, distance - r.most)
    volume = signed_volume(x[r.quads])
    volume_off = np.maximum(r.least_volume - volume, volume - r.most_volume)
    known = np.flatnonzero(np.isfinite(x).all(-1))
    overlaps = 0
    for start in range(0, len(known), 512):
        i = known[start : start + 512]
        close = np.linalg.norm(x[i, None] - x[known], axis=-1) < r.radii[i, None] + r.radii[known]
        a, b = i[np.nonzero(close)[0]], known[np.nonzero(close)[1]]
        overlaps += int((~np.isin(a * len(x) + b, r.near) & (a < b)).sum())
    return off[np.isfinite(off)], volume_off[np.isfinite(volume_off)], overlaps


def test_a_crystal_structure_keeps_its_limits():
    structure = read_structure(Document(name="7w06", path=PART))
    off, volume_off, overlaps = violations(structure)
    assert len(off) > 100 and len(volume_off) > 50
    assert (off > 0.1).mean() < 0.005
    assert (volume_off > 0.5).mean() < 0.005
    assert overlaps == 0


@pytest.mark.skipif(not HELDOUT.is_dir(), reason="../shared/data/heldout is not here")
def test_real_complexes_keep_their_limits():
    # Proteins, RNA, DNA and ligands of many laboratories; what is off is off in the file.
    names = ("pb_7n4w", "pb_5sd5", "prd_1m5o", "pdna_3cro", "rna_6_solution_0", "db5_2ido")
    read = [read_structure(Document(name=n, path=HELDOUT / f"{n}.cif.gz")) for n in names]
    found = [violations(structure) for structure in read]
    off, volume_off = (np.concatenate([f[k] for f in found]) for k in (0, 1))
    assert len(off) > 20_000
    assert (off > 0.1).mean() < 0.003
    assert (volume_off > 0.5).mean() < 0.003
    assert sum(f[2] for f in found) < 1e-3 * len(off)
    torsions = np.concatenate([twisted(structure) for structure in read])
    assert len(torsions) > 800
    assert (torsions > TWIST).mean() < 0.02


def test_lengths_and_angles_are_those_of_the_tables():
    made = structure_of(("protein", "A", {"sequence": "AGP"}))
    # Engh and Huber: C-N 1.326 before glycine, CA-C-N 116.2 degrees there.
    assert limits_of(made, (1, "C"), (2, "N")) == pytest.approx((1.306, 1.346))
    least, most = limits_of(made, (1, "CA"), (2, "N"))
    c_ca = np.mean(limits_of(made, (1, "CA"), (1, "C")))
    for limit, degrees in ((least, 111.2), (most, 121.2)):
        square = c_ca**2 + 1.326**2 - 2 * c_ca * 1.326 * np.cos(np.radians(degrees))
        assert limit == pytest.approx(square**0.5)


def test_peptides_are_trans_and_prolines_free():
    made = structure_of(("protein", "A", {"sequence": "AGP"}))
    r = restraints(made)
    assert {
        tuple(t): side for t, side in zip(r.torsions.tolist(), r.side.tolist(), strict=True)
    } == {
        tuple(
            place(made, n, a) for n, a in ((k, "CA"), (k, "C"), (k + 1, "N"), (k + 1, "CA"))
        ): side
        for k, side in ((1, -1), (2, 0))
    }


@pytest.mark.parametrize("smiles, side", [("C/C=C/C", -1), ("C/C=C\\C", 1)])
def test_double_bonds_keep_their_sides(smiles, side):
    r = restraints(structure_of(("ligand", "A", {"smiles": smiles})))
    assert r.torsions.tolist() in ([[0, 1, 2, 3]], [[3, 2, 1, 0]])
    assert r.side.tolist() == [side]


def test_the_mirror_image_breaks_what_is_chiral_and_nothing_else():
    structure = read_structure(Document(name="7w06", path=PART))
    right = violations(structure)
    structure.atoms.coord[:, 0] *= -1
    off, volume_off, overlaps = violations(structure)
    np.testing.assert_allclose(off, right[0], atol=1e-4)
    assert overlaps == right[2]
    chiral = np.isin(structure.atoms.atom_name, ["CA"]) & (structure.atoms.res_name != "GLY")
    assert (volume_off > 1).sum() >= chiral.sum()


def test_links_of_all_kinds():
    bond = AtomRef(chain="A", position=2, atom="SG"), AtomRef(chain="B", position=2, atom="SG")
    two = structure_of(
        ("protein", "A", {"sequence": "GCG"}), ("protein", "B", {"sequence": "ACA"}), bonds=[bond]
    )
    assert limits_of(two, (2, "SG", "A"), (2, "SG", "B")) == pytest.approx((2.013, 2.053))
    # A histidine on zinc: a sum of radii, wide; and nothing else about the metal.
    bond = AtomRef(chain="A", position=1, atom="ND1"), AtomRef(chain="Z", position=1, atom="ZN")
    zinc = structure_of(
        ("protein", "A", {"sequence": "HG"}), ("ligand", "Z", {"ccd": ("ZN",)}), bonds=[bond]
    )
    least, most = limits_of(zinc, (1, "ND1", "A"), (1, "ZN", "Z"))
    assert least < 2.0 < 2.3 < most
    r = restraints(zinc)
    assert np.isin(r.pairs, place(zinc, 1, "ZN", "Z")).any(-1).sum() == 1


def test_a_lone_ion_has_a_radius_and_no_limits():
    r = restraints(structure_of(("ligand", "Z", {"ccd": ("ZN",)})))
    assert len(r.radii) == 1 and len(r.pairs) == len(r.quads) == 0
