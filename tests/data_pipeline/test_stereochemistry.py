"""Checks pass what is right (ideal residues, a real peptide, crystals) and find what is not."""

import functools
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from biotite.structure.io import pdbx
from rdkit import Chem
from rdkit.Chem import AllChem

from seedfold.data_pipeline.components import component, exists
from seedfold.data_pipeline.query import AtomRef, Entity, Query
from seedfold.data_pipeline.stereochemistry import check
from seedfold.data_pipeline.structure import Structure, build_structure

HELDOUT = Path(__file__).resolve().parents[2] / "../shared/data/heldout/structures"


def structure_of(*entities, bonds=()) -> Structure:
    made = tuple(
        Entity(kind=kind, chains=tuple(chains), where="test", **source)
        for kind, chains, source in entities
    )
    return build_structure(Query(name="q", entities=made, where="test", bonds=tuple(bonds)))


def ideal_coordinates(structure: Structure) -> np.ndarray:
    """Every residue at its ideal coordinates, 30 Angstrom from the next."""
    atoms = structure.atoms
    x = np.zeros((atoms.array_length(), 3), dtype=np.float32)
    seen: dict[tuple[str, int], int] = {}
    for i, name in enumerate(atoms.atom_name):
        part = structure.components[atoms.res_name[i]]
        place = seen.setdefault((atoms.chain_id[i], atoms.res_id[i]), len(seen))
        x[i] = part.coord[part.index[name]] + [30.0 * place, 0, 0]
    return x


@functools.cache
def peptide(sequence: str) -> tuple[Structure, np.ndarray]:
    """A real conformation (RDKit, MMFF) of a linear peptide."""
    molecule = Chem.AddHs(Chem.MolFromSequence(sequence))
    AllChem.EmbedMolecule(molecule, randomSeed=7, useRandomCoords=True)
    AllChem.MMFFOptimizeMolecule(molecule)
    position = {}
    for atom in molecule.GetAtoms():
        info = atom.GetPDBResidueInfo()
        if info is not None:
            key = (info.GetResidueNumber(), info.GetName().strip())
            position[key] = molecule.GetConformer().GetPositions()[atom.GetIdx()]
    made = structure_of(("protein", "A", {"sequence": sequence}))
    names = zip(made.atoms.res_id.tolist(), made.atoms.atom_name.tolist(), strict=True)
    return made, np.array([position[key] for key in names], dtype=np.float32)


def at(structure: Structure, residue: int, *names: str) -> list[int]:
    atoms = structure.atoms
    return [
        int(np.flatnonzero((atoms.res_id == residue) & (atoms.atom_name == n))[0]) for n in names
    ]


def turned(x, moving, start, end, degrees) -> np.ndarray:
    """Rotates some atoms about the axis through two others."""
    axis = (x[end] - x[start]) / np.linalg.norm(x[end] - x[start])
    angle, v = np.radians(degrees), x[moving] - x[end]
    rotated = (
        v * np.cos(angle)
        + np.cross(axis, v) * np.sin(angle)
        + np.outer(v @ axis, axis) * (1 - np.cos(angle))
    )
    out = x.copy()
    out[moving] = rotated + x[end]
    return out


def one_residue(outlier) -> bool:
    return len({atom.rsplit("/", 1)[0] for atom in outlier.atoms}) == 1


@pytest.fixture(scope="module")
def residues() -> Structure:
    codes = ("ATP", "NAG", "HEM", "OLA", "RET", "CIT", "FMN", "CLR", "NAD", "PLP", "STU", "SAH")
    return structure_of(
        ("protein", "A", {"sequence": "ACDEFGHIKLMNPQRSTVWY"}),
        (
            "protein",
            "B",
            {"sequence": "AAAA", "modifications": ((1, "DAL"), (2, "SEP"), (3, "MSE"))},
        ),
        ("dna", "D", {"sequence": "ACGT"}),
        ("rna", "R", {"sequence": "ACGU"}),
        *(("ligand", f"{chr(97 + i)}", {"ccd": (code,)}) for i, code in enumerate(codes)),
        ("ligand", "z", {"smiles": "C[C@H](F)/C=C/c1ccccc1"}),
    )


def test_ideal_residues_are_right_and_their_mirror_images_wrong(residues):
    x = ideal_coordinates(residues)
    right = check(residues, x, keep=1000)
    assert not [o for o in right.worst if one_residue(o)]
    assert right.checked["chirality"] > 80
    assert right.checked["double_bonds"] >= 6
    mirror = check(residues, x * np.float32([-1, 1, 1]), keep=1000)
    assert mirror.outliers["chirality"] == mirror.checked["chirality"] == right.checked["chirality"]
    wrong = [o for o in mirror.worst if one_residue(o)]
    assert {o.kind for o in wrong} == {"chirality"}
    np.testing.assert_allclose([o.value for o in wrong], -1, atol=1e-3)


def test_a_real_peptide_is_right():
    made, x = peptide("AGFPWK")
    report = check(made, x)
    assert report.ok, report.worst
    assert report.peptides == {"trans": 5, "cis_proline": 0, "cis_other": 0, "twisted": 0}
    assert report.checked["links"] == 5
    assert json.loads(json.dumps(report.to_json()))["worst"] == []


@pytest.mark.parametrize(
    ("residue", "degrees", "expected", "wrong"),
    [(5, 180, "cis_other", 1), (4, 180, "cis_proline", 0), (5, 90, "twisted", 1)],
)
def test_peptide_torsions(residue, degrees, expected, wrong):
    made, x = peptide("AGFPWK")
    (c,) = at(made, residue - 1, "C")
    (n,) = at(made, residue, "N")
    moving = np.flatnonzero(made.atoms.res_id >= residue)
    report = check(made, turned(x, moving, c, n, degrees))
    assert report.peptides[expected] == 1
    assert report.outliers["peptide_bonds"] == wrong
    if wrong:
        (outlier,) = (o for o in report.worst if o.kind == "peptide_bonds")
        assert outlier.atoms == ("A/PRO4/CA", "A/PRO4/C", "A/TRP5/N", "A/TRP5/CA")


def test_what_is_broken_is_named():
    made, x = peptide("AGFPWK")
    after = made.atoms.res_id >= 6
    broken = x + after[:, None] * 2.0 * (x[at(made, 6, "N")] - x[at(made, 5, "C")])
    report = check(made, broken)
    assert report.outliers["links"] == 1
    (link,) = (o for o in report.worst if o.kind == "links")
    assert link.atoms == ("A/TRP5/C", "A/LYS6/N")
    assert link.value == pytest.approx(3 * link.ideal, rel=0.05)

    stretched = x.copy()
    cz, ce = at(made, 3, "CZ", "CE1")
    stretched[cz] += 0.5 * (x[cz] - x[ce]) / np.linalg.norm(x[cz] - x[ce])
    report = check(made, stretched)
    assert ("A/PHE3/CE1", "A/PHE3/CZ") in [
        tuple(sorted(o.atoms)) for o in report.worst if o.kind == "bond_lengths"
    ]
    normal = np.cross(x[cz] - x[ce], x[at(made, 3, "CG")[0]] - x[ce])
    puckered = x.copy()
    puckered[cz] += 0.8 * normal / np.linalg.norm(normal)
    assert check(made, puckered).outliers["aromatic_rings"] == 1

    pyramid = x.copy()
    o, c, ca = at(made, 2, "O", "C", "CA")
    normal = np.cross(x[o] - x[c], x[ca] - x[c])
    pyramid[c] += 0.4 * normal / np.linalg.norm(normal)
    report = check(made, pyramid)
    (outlier,) = (o for o in report.worst if o.kind == "trigonal_atoms")
    assert set(outlier.atoms) == {"A/GLY2/C", "A/GLY2/CA", "A/GLY2/O", "A/PHE3/N"}


def test_a_side_chain_amide_must_be_flat():
    made, x = peptide("ANA")
    x = x.copy()
    cg, cb, od = at(made, 2, "CG", "CB", "OD1")
    normal = np.cross(x[cb] - x[cg], x[od] - x[cg])
    x[cg] += 0.4 * normal / np.linalg.norm(normal)
    (outlier,) = (o for o in check(made, x).worst if o.kind == "trigonal_atoms")
    assert outlier.atoms[0] == "A/ASN2/CG"
    assert outlier.value == pytest.approx(0.4, abs=0.06)


def test_one_wrong_centre_among_right_ones():
    made, x = peptide("ATA")
    x = x.copy()
    og, cg = at(made, 2, "OG1", "CG2")
    x[[og, cg]] = x[[cg, og]]
    report = check(made, x)
    assert report.outliers["chirality"] == 1
    (outlier,) = (o for o in report.worst if o.kind == "chirality")
    assert outlier.atoms == ("A/THR2/CB",) and outlier.value < -0.5


def test_trans_oleic_acid_is_wrong():
    made = structure_of(("ligand", "A", {"ccd": ("OLA",)}))
    x = ideal_coordinates(made)
    c9, c10 = at(made, 1, "C9", "C10")
    chain = [f"C{i}" for i in range(11, 19)]
    report = check(made, turned(x, at(made, 1, *chain), c9, c10, 180))
    assert report.outliers["double_bonds"] == 1
    assert next(o for o in report.worst if o.kind == "double_bonds").ideal == 0.0


@pytest.mark.parametrize(("mirrored", "wrong"), [(False, 0), (True, 1)])
def test_anomers_are_told_by_what_they_are_bonded_to(mirrored, wrong):
    """O1 of the sugar has left; the nitrogen of asparagine stands for it."""
    bond = AtomRef(chain="A", position=1, atom="ND2"), AtomRef(chain="B", position=1, atom="C1")
    made = structure_of(
        ("protein", "A", {"sequence": "N"}), ("ligand", "B", {"ccd": ("NAG",)}), bonds=[bond]
    )
    x = ideal_coordinates(made)
    sugar = component("NAG")
    o1, c1, c2, o5 = (sugar.coord[sugar.index[n]] for n in ("O1", "C1", "C2", "O5"))
    assert "O1" not in made.atoms.atom_name[made.atoms.chain_id == "B"]
    place = o1
    if mirrored:
        normal = np.cross(c2 - c1, o5 - c1)
        normal /= np.linalg.norm(normal)
        place = o1 - 2 * ((o1 - c1) @ normal) * normal
    b = made.atoms.chain_id == "B"
    shift = x[b][0] - sugar.coord[sugar.index[made.atoms.atom_name[b][0]]]
    nd2 = int(np.flatnonzero((made.atoms.chain_id == "A") & (made.atoms.atom_name == "ND2"))[0])
    x[made.atoms.chain_id == "A"] += place + shift - x[nd2]
    report = check(made, x)
    assert report.outliers["chirality"] == wrong
    assert report.outliers["links"] == 0
    assert report.checked["chirality"] == 6


def test_clashes_and_unknown_atoms():
    made = structure_of(("ligand", "AB", {"smiles": "CCO"}))
    x = np.concatenate([made.components["LIG_1"].coord] * 2).astype(np.float32)
    x[3:] += x[2] - x[3] + np.float32([0, 0, 1.0])
    report = check(made, x)
    assert report.outliers["clashes"] >= 1
    clash = next(o for o in report.worst if o.kind == "clashes")
    assert {a[0] for a in clash.atoms} == {"A", "B"}
    x[3:] = np.nan
    lone = check(made, x)
    assert lone.ok and lone.checked["clashes"] == 3 and lone.checked["bond_lengths"] == 2


@pytest.mark.skipif(not HELDOUT.exists(), reason="needs ../shared/data/heldout")
@pytest.mark.parametrize(
    "entry", ["pb_7r59", "pb_7rws", "pb_6zpb", "rna_14_solution_4", "pdna_1f4k"]
)
def test_crystal_structures_pass(entry):
    """Read by biotite, so that neither our reader nor our builder stands between."""
    text = gzip.decompress((HELDOUT / f"{entry}.cif.gz").read_bytes()).decode()
    atoms = pdbx.get_structure(
        pdbx.CIFFile.read(io.StringIO(text)), model=1, include_bonds=True, extra_fields=["charge"]
    )
    atoms = atoms[(atoms.element != "H") & (atoms.res_name != "HOH")]
    codes = {str(c) for c in atoms.res_name if exists(str(c))}
    crystal = Structure(
        id=entry, atoms=atoms, chains=(), components={c: component(c) for c in codes}
    )
    report = check(crystal, atoms.coord)
    n_terms = sum(report.checked.values())
    assert n_terms > 3 * atoms.array_length()
    assert sum(report.outliers.values()) <= 2, report.worst
    assert report.outliers["chirality"] == 0
    shaken = atoms.coord + np.random.default_rng(0).normal(0, 0.5, atoms.coord.shape)
    assert sum(check(crystal, shaken).outliers.values()) > 0.2 * n_terms
