from typing import Any

import numpy as np
import pytest
from biotite.structure.bonds import BondType

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import AtomRef, Document, Entity, Query
from seedfold.data_pipeline.structure import Structure, build_structure

SDF = """ligand
  test

  2  1  0  0  0  0  0  0  0  0999 V2000
    0.0000    0.0000    0.0000 C   0  0
    1.4000    0.0000    0.5000 O   0  0
  1  2  1  0
M  END
"""


def protein(sequence: str, *chains: str, **more: Any) -> Entity:
    return Entity(kind="protein", chains=chains, where="protein", sequence=sequence, **more)


def ligand(*chains: str, **source: Any) -> Entity:
    return Entity(kind="ligand", chains=chains, where="ligand", **source)


def query(*entities: Entity, bonds: tuple[str, ...] = ()) -> Query:
    """Bonds as in ``A:3:SG-B:1:C1``."""
    pairs = tuple((_atom(b.split("-")[0]), _atom(b.split("-")[1])) for b in bonds)
    return Query(name="q", entities=entities, where="q.yaml", bonds=pairs)


def _atom(text: str) -> AtomRef:
    chain, position, atom = text.split(":")
    return AtomRef(chain=chain, position=int(position), atom=atom)


def names(structure: Structure, chain: str, position: int) -> list[str]:
    atoms = structure.atoms
    here = (atoms.chain_id == chain) & (atoms.res_id == position)
    return atoms.atom_name[here].tolist()


def between(structure: Structure) -> set[frozenset[str]]:
    """Bonds between residues as pairs of ``A:3:SG``."""
    a = structure.atoms
    label = [f"{c}:{r}:{n}" for c, r, n in zip(a.chain_id, a.res_id, a.atom_name, strict=True)]
    assert a.bonds is not None
    return {
        frozenset((label[i], label[j]))
        for i, j, _ in a.bonds.as_array().tolist()
        if label[i].rsplit(":", 1)[0] != label[j].rsplit(":", 1)[0]
    }


def pairs(*bonds: str) -> set[frozenset[str]]:
    return {frozenset(b.split("-")) for b in bonds}


def test_peptide_atoms_bonds_and_unknown_coordinates() -> None:
    built = build_structure(query(protein("GAS", "A")))
    atoms = built.atoms
    assert names(built, "A", 1) == ["N", "CA", "C", "O"]
    assert names(built, "A", 2) == ["N", "CA", "C", "O", "CB"]
    assert names(built, "A", 3) == ["N", "CA", "C", "O", "CB", "OG", "OXT"]
    assert between(built) == pairs("A:1:C-A:2:N", "A:2:C-A:3:N")
    assert np.isnan(atoms.coord).all()
    assert set(atoms.element) == {"N", "C", "O"}
    assert not atoms.hetero.any()
    # 3 + 4 + 6 within the residues, 2 between.
    assert atoms.bonds is not None
    assert len(atoms.bonds.as_array()) == 15


def test_nucleotides_lose_op3_at_every_bond_and_keep_it_at_the_end() -> None:
    rna = Entity(kind="rna", chains=("R",), where="rna", sequence="GU")
    built = build_structure(query(rna))
    assert between(built) == pairs("R:1:O3'-R:2:P")
    assert "OP3" in names(built, "R", 1)
    assert "OP3" not in names(built, "R", 2)
    assert names(built, "R", 2)[:3] == ["P", "OP1", "OP2"]


def test_terminal_atoms_can_be_left_out() -> None:
    rna = Entity(kind="rna", chains=("R",), where="rna", sequence="GU")
    asked = query(protein("GA", "A", "B"), rna, ligand("L", ccd=("GLY",)))
    with_, without = build_structure(asked), build_structure(asked, terminal_atoms=False)
    left = set(zip(with_.atoms.chain_id, with_.atoms.atom_name, strict=True))
    left -= set(zip(without.atoms.chain_id, without.atoms.atom_name, strict=True))
    assert left == {("A", "OXT"), ("B", "OXT"), ("R", "OP3")}


def test_chains_stand_by_entity_then_copy_and_are_counted() -> None:
    built = build_structure(query(protein("GA", "X", "B"), ligand("A", ccd=("ATP",))))
    rows = [(c.id, c.entity_id, c.sym_id, c.kind) for c in built.chains]
    assert rows == [("X", 0, 0, "protein"), ("B", 0, 1, "protein"), ("A", 1, 0, "ligand")]
    assert list(dict.fromkeys(built.atoms.chain_id)) == ["X", "B", "A"]


def test_modified_residues_are_bonded_like_others() -> None:
    built = build_structure(query(protein("GSA", "A", modifications=((2, "SEP"),))))
    assert built.chains[0].residues == ("GLY", "SEP", "ALA")
    assert between(built) == pairs("A:1:C-A:2:N", "A:2:C-A:3:N")
    assert "OXT" not in names(built, "A", 2)
    assert built.atoms.hetero[built.atoms.res_name == "SEP"].all()


@pytest.mark.parametrize(("first", "last"), [("ACE", "NH2"), ("FOR", "NME")])
def test_caps_are_bonded(first: str, last: str) -> None:
    built = build_structure(query(protein("XGAX", "A", modifications=((1, first), (4, last)))))
    assert between(built) == pairs("A:1:C-A:2:N", "A:2:C-A:3:N", "A:3:C-A:4:N")
    assert names(built, "A", 3) == ["N", "CA", "C", "O", "CB"]
    assert built.warnings == ()


def test_residues_with_other_backbone_names_are_bonded() -> None:
    fluorescent = build_structure(query(protein("GXA", "A", modifications=((2, "CRO"),))))
    assert between(fluorescent) == pairs("A:1:C-A:2:N1", "A:2:C3-A:3:N")


def test_a_gap_in_the_backbone_is_warned_of_and_not_closed() -> None:
    built = build_structure(query(protein("GXA", "A", modifications=((2, "BNZ"),))))
    assert between(built) == set()
    assert len(built.warnings) == 2
    assert "no polymer bond can be made between GLY 1 and BNZ 2" in built.warnings[0]
    assert names(built, "A", 1) == ["N", "CA", "C", "O"]


def test_a_cyclic_peptide_has_no_ends() -> None:
    built = build_structure(query(protein("GAGAG", "A", cyclic=True)))
    assert pairs("A:5:C-A:1:N") <= between(built)
    assert "OXT" not in built.atoms.atom_name
    assert built.chains[0].cyclic
    dna = Entity(kind="dna", chains=("D",), where="dna", sequence="ACGT", cyclic=True)
    ring = build_structure(query(dna))
    assert pairs("D:4:O3'-D:1:P") <= between(ring)
    assert "OP3" not in ring.atoms.atom_name
    with pytest.raises(InputError, match="cannot be closed"):
        build_structure(query(protein("G", "A", cyclic=True)))


def test_the_closing_bond_of_a_ring_may_be_given_as_well() -> None:
    peptide = protein("GAGAG", "A", cyclic=True)
    twice = build_structure(query(peptide, bonds=("A:1:N-A:5:C",)))
    once = build_structure(query(peptide))
    assert between(twice) == between(once)
    assert len(twice.atoms) == len(once.atoms)


def test_disulphides_within_and_between_chains() -> None:
    built = build_structure(
        query(protein("CGGC", "A", "B"), bonds=("A:1:SG-A:4:SG", "B:1:SG-B:4:SG"))
    )
    assert pairs("A:1:SG-A:4:SG", "B:1:SG-B:4:SG") <= between(built)
    with pytest.raises(InputError, match=r"SG of CYS 1 in chain A would have 7 bonds"):
        _many_bonds_to_one_sulphur()


def _many_bonds_to_one_sulphur() -> None:
    bonds = tuple(f"A:1:SG-A:{i}:SG" for i in range(2, 8))
    build_structure(query(protein("C" * 7, "A"), bonds=bonds))


def test_a_glycan_on_asparagine_loses_its_oxygens() -> None:
    glycan = ligand("G", ccd=("NAG", "NAG", "BMA"))
    bonds = ("A:2:ND2-G:1:C1", "G:1:O4-G:2:C1", "G:2:O4-G:3:C1")
    built = build_structure(query(protein("GNG", "A"), glycan, bonds=bonds))
    assert pairs(*bonds) <= between(built)
    for position in (1, 2, 3):
        assert "O1" not in names(built, "G", position)
    assert "O4" in names(built, "G", 1)
    assert not built.warnings
    loose = build_structure(query(ligand("G", ccd=("NAG", "BMA"))))
    assert "O1" in names(loose, "G", 1)
    assert loose.warnings == ("ligand: the 2 residues are not bonded to each other",)


def test_a_covalent_ligand_by_smiles_and_its_map_number() -> None:
    warhead = ligand("L", smiles="C=CC(=O)N[CH2:7]c1ccccc1")
    built = build_structure(query(protein("GCG", "A"), warhead, bonds=("A:2:SG-L:1:C1",)))
    assert pairs("A:2:SG-L:1:C1") <= between(built)
    mapped = build_structure(query(protein("GCG", "A"), warhead, bonds=("A:2:SG-L:1:7",)))
    assert pairs("A:2:SG-L:1:C4") <= between(mapped)


@pytest.mark.parametrize(
    ("entities", "bond", "gone"),
    [
        ((protein("KGD", "A"),), "A:1:NZ-A:3:CG", "A:3:OD2"),
        ((protein("KGN", "A"),), "A:1:NZ-A:3:CG", "A:3:ND2"),
        ((protein("KGE", "A"), ligand("L", smiles="CC(=O)O")), "A:1:NZ-L:1:C2", "L:1:O2"),
        ((protein("S", "A"), ligand("L", smiles="CS(=O)(=O)F")), "A:1:OG-L:1:S1", "L:1:F1"),
        ((protein("T", "A"), ligand("L", ccd=("BO2",))), "A:1:OG1-L:1:B26", None),
    ],
)
def test_what_has_no_room_beside_a_bond_leaves(
    entities: tuple[Entity, ...], bond: str, gone: str | None
) -> None:
    free, bound = (
        build_structure(query(*entities)),
        build_structure(query(*entities, bonds=(bond,))),
    )
    assert pairs(bond) <= between(bound)
    left = [
        {f"{c}:{r}:{n}" for c, r, n in zip(a.chain_id, a.res_id, a.atom_name, strict=True)}
        for a in (free.atoms, bound.atoms)
    ]
    assert left[0] - left[1] == ({gone} if gone else set())
    assert len(bound.warnings) == (gone is not None)


def test_a_bond_to_a_metal_is_a_coordination_and_has_no_limit() -> None:
    bonds = tuple(f"A:{i}:NE2-Z:1:ZN" for i in (1, 2, 3, 4))
    built = build_structure(query(protein("HHHH", "A"), ligand("Z", ccd=("ZN",)), bonds=bonds))
    assert pairs(*bonds) <= between(built)
    assert built.atoms.bonds is not None
    assert (built.atoms.bonds.as_array()[:, 2] == BondType.COORDINATION).sum() == 4


@pytest.mark.parametrize(
    ("bond", "message"),
    [
        ("A:2:C-L:1:C4", "C of GLY 2 in chain A would have 5 bonds"),
        ("A:1:OD1-L:1:C4", "OD1 of ASP 1 in chain A would have 3 bonds"),
        ("A:1:OD2-L:1:C1", "C1 of LIG_1 1 in chain L would have 5 bonds"),
        ("A:2:OXT-L:1:C4", "has no atom 'OXT'|leaves when its residue is bonded"),
        ("A:1:XX-L:1:C4", "ASP has no atom 'XX'; expected one of N, CA, C, O, CB, CG, OD1"),
        ("A:9:C-L:1:C4", "no such residue; expected a position from 1 to 3"),
        ("Z:1:C-L:1:C4", "no such chain; expected one of A, L"),
    ],
)
def test_impossible_bonds_name_the_atom(bond: str, message: str) -> None:
    acyl = ligand("L", smiles="C(C)(C)(C)CO")
    with pytest.raises(InputError, match=message) as caught:
        build_structure(query(protein("DGG", "A"), acyl, bonds=(bond,)))
    assert caught.value.where.startswith("q.yaml: bond")


def test_new_molecules_get_names_that_the_ccd_cannot_have() -> None:
    file = Document(name="x.sdf", text=SDF)
    entities = [ligand(f"L{i}", smiles="C" * i + "Cl") for i in range(1, 12)]
    again = Entity(kind="ligand", chains=("M",), where="again", smiles="CCl")
    built = build_structure(query(*entities, again, ligand("F", "G", file=file)))
    codes = [c.residues[0] for c in built.chains]
    assert codes[:2] == ["LIG_1", "LIG_2"]
    assert codes[10] == "LIG_11"
    assert built.atoms.res_name[built.atoms.chain_id == "L11"][0] == "LIG_11"
    assert codes[11] == "LIG_1"
    assert codes[12] == codes[13] == "LIG_12"
    assert set(codes) == set(built.components)
    assert built.atoms.element[built.atoms.chain_id == "L1"].tolist() == ["C", "CL"]


@pytest.mark.parametrize(
    ("entity", "message"),
    [
        (ligand("L", ccd=("ATPX",)), "'ATPX' is not in the chemical component dictionary; did you"),
        (ligand("L", ccd=("atp",)), "did you mean ATP"),
        (protein("GAG", "A", modifications=((2, "QQQQQ"),)), "protein: 'QQQQQ' is not in"),
        (protein("GAG", "A", modifications=((4, "SEP"),)), "expected a position from 1 to 3"),
        (protein("GZ", "A"), "'Z' at position 2 is not a protein residue"),
        (ligand("L", ccd=("UNL",)), "component 'UNL' has no atoms"),
        (ligand("L", smiles="CC.CC"), "ligand: 2 separate molecules"),
        (protein("GG", "A", "A"), "the chain id 'A' is already taken"),
    ],
)
def test_what_chemistry_does_not_know_is_refused(entity: Entity, message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_structure(query(entity))
