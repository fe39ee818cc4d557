"""What is written is read back by gemmi, biotite, Biopython and RDKit: same atoms, same bonds."""

import dataclasses
import io
from pathlib import Path

import gemmi
import numpy as np
import pytest
from Bio.PDB.MMCIFParser import MMCIFParser
from biotite.structure import BondType
from biotite.structure.io import pdbx
from rdkit import Chem

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.ideal_geometry import METALS
from seedfold.data_pipeline.mmcif import read_structure
from seedfold.data_pipeline.mmcif_tables import Metadata
from seedfold.data_pipeline.output import mmcif, write_ligand_sdf, write_mmcif, write_pdb
from seedfold.data_pipeline.query import AtomRef, Document, Entity, Query
from seedfold.data_pipeline.structure import Structure, build_structure

HELDOUT = Path(__file__).resolve().parents[2] / "../shared/data/heldout/structures"
META = Metadata(version="1.2.3", model="tiny", notes=("UNTRAINED weights",))
NAME = 'it\'s a "test" of names'


def entity(kind, chains, **source) -> Entity:
    return Entity(kind=kind, chains=tuple(chains), where="test", **source)


def bond(a, i, name, b, j, other) -> tuple[AtomRef, AtomRef]:
    return AtomRef(chain=a, position=i, atom=name), AtomRef(chain=b, position=j, atom=other)


@pytest.fixture(scope="module")
def zoo() -> Structure:
    """Every kind of chain, bond and name that has made a writer fail."""
    query = Query(
        name="zoo",
        where="test",
        entities=(
            entity("protein", "AB", sequence="MACNSGCPH", modifications=((5, "SEP"), (1, "MSE"))),
            entity("protein", "C", sequence="GFPGW", cyclic=True),
            entity("dna", "D", sequence="ACGT"),
            entity("rna", "R", sequence="ACGU"),
            entity("ligand", "E", ccd=("ATP",)),
            entity("ligand", "F", ccd=("ATP",)),
            entity("ligand", "ZYXW", ccd=("ZN",)),
            entity("ligand", "Q", ccd=("CA",)),
            entity("ligand", "H", ccd=("HEM",)),
            entity("ligand", "IJ", smiles="BrC1=CC=C(Cl)C=C1"),
            entity("ligand", "M", smiles="C[N+](C)(C)C[C@H](O)/C=C/C#N"),
            entity("ligand", "G", ccd=("NAG", "NAG", "BMA")),
        ),
        bonds=(
            bond("A", 3, "SG", "A", 7, "SG"),
            bond("A", 4, "ND2", "G", 1, "C1"),
            bond("G", 1, "O4", "G", 2, "C1"),
            bond("G", 2, "O4", "G", 3, "C1"),
            bond("A", 9, "NE2", "Z", 1, "ZN"),
        ),
    )
    return build_structure(query)


def place(structure: Structure, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Random coordinates and pLDDT."""
    rng = np.random.default_rng(seed)
    n = structure.atoms.array_length()
    x = (30 * rng.normal(size=(n, 3))).astype(np.float32)
    return x, rng.uniform(1, 99, n).astype(np.float32)


def written(structure: Structure, x, plddt=None) -> str:
    return mmcif(structure, coord=x, plddt=plddt, name=NAME, metadata=META)


def bond_set(bonds, metals: np.ndarray) -> set[tuple[int, int, int]]:
    """Bonds as sorted triples; what struct_conn calls metalc has no order of its own."""
    rows = bonds.as_array().tolist()
    return {
        (min(i, j), max(i, j), BondType.COORDINATION if metals[i] != metals[j] else order)
        for i, j, order in rows
    }


def test_biotite_reads_the_same_atoms_and_bonds(zoo):
    x, plddt = place(zoo)
    file = pdbx.CIFFile.read(io.StringIO(written(zoo, x, plddt)))
    read = pdbx.get_structure(
        file, model=1, include_bonds=True, extra_fields=["charge", "b_factor", "occupancy"]
    )
    ours = zoo.atoms
    for name in ("chain_id", "res_id", "res_name", "atom_name", "element", "charge"):
        np.testing.assert_array_equal(getattr(read, name), getattr(ours, name), err_msg=name)
    np.testing.assert_allclose(read.coord, x, atol=6e-4)
    np.testing.assert_allclose(read.b_factor, plddt, atol=6e-3)
    assert (read.occupancy == 1).all()
    zinc = np.isin(ours.element, ["ZN"])
    assert bond_set(read.bonds, zinc) == bond_set(ours.bonds, zinc)


def test_gemmi_reads_chains_entities_elements_and_connections(zoo):
    x, plddt = place(zoo)
    block = gemmi.cif.read_string(written(zoo, x, plddt)).sole_block()
    read = gemmi.make_structure_from_block(block)
    assert block.find_value("_struct.title") == gemmi.cif.quote(NAME)
    assert "UNTRAINED" in block.find_values("_pdbx_database_remark.text").str(1)
    assert [chain.name for chain in read[0]] == [chain.id for chain in zoo.chains]
    types = {e.name: e.entity_type for e in read.entities}
    assert types[read[0]["G"][0].entity_id] == gemmi.EntityType.Branched
    assert types[read[0]["A"][0].entity_id] == gemmi.EntityType.Polymer
    assert read[0]["E"][0].entity_id == read[0]["F"][0].entity_id
    assert read[0]["I"][0].entity_id == read[0]["J"][0].entity_id != read[0]["M"][0].entity_id
    sequences = {e.name: e.full_sequence for e in read.entities}
    assert sequences[read[0]["A"][0].entity_id][:5] == ["MSE", "ALA", "CYS", "ASN", "SEP"]
    elements = [atom.element.name.upper() for chain in read[0] for r in chain for atom in r]
    assert elements == zoo.atoms.element.tolist()
    assert read[0]["Q"][0][0].element == gemmi.Element("Ca")
    assert read[0]["A"][1]["CA"][0].element == gemmi.Element("C")
    kinds = [c.type for c in read.connections]
    assert kinds.count(gemmi.ConnectionType.Disulf) == 1
    assert kinds.count(gemmi.ConnectionType.MetalC) == 1
    for connection in read.connections:
        ends = [read[0].find_cra(p).atom for p in (connection.partner1, connection.partner2)]
        d = ends[0].pos.dist(ends[1].pos)
        assert d == pytest.approx(connection.reported_distance, abs=2e-3)
    ring = [c for c in read.connections if c.partner1.chain_name == "C"]
    assert {(ring[0].partner1.atom_name, ring[0].partner2.atom_name)} == {("N", "C")}


def test_gemmi_reads_components_as_chemistry(zoo):
    """Bond orders, charges and aromaticity of every component, through gemmi's ChemComp."""
    x, _ = place(zoo)
    block = gemmi.cif.read_string(written(zoo, x)).sole_block()
    rows = block.find("_chem_comp_bond.", ["comp_id", "atom_id_1", "atom_id_2", "value_order"])
    orders = {tuple(gemmi.cif.as_string(v) for v in row) for row in rows}
    assert ("LIG_2", "C8", "N2", "trip") in orders or ("LIG_2", "N2", "C8", "trip") in orders
    atoms = block.find("_chem_comp_atom.", ["comp_id", "atom_id", "type_symbol", "charge"])
    charges = {(a.str(0), a.str(1)): int(a.str(3)) for a in atoms}
    assert charges["LIG_2", "N1"] == 1 and charges["ZN", "ZN"] == 2
    symbols = {(a.str(0), a.str(1)): a.str(2) for a in atoms}
    assert symbols["LIG_1", "BR1"] == "BR" and symbols["LIG_1", "CL1"] == "CL"
    assert symbols["HEM", "FE"] == "FE" and symbols["CA", "CA"] == "CA"


def test_biopython_reads_it(zoo, tmp_path):
    x, plddt = place(zoo)
    path = tmp_path / "zoo.cif"
    write_mmcif(zoo, path, coord=x, plddt=plddt, name=NAME, metadata=META)
    read = MMCIFParser(QUIET=True).get_structure("zoo", str(path))
    atoms = list(read.get_atoms())
    assert [a.name for a in atoms] == zoo.atoms.atom_name.tolist()
    assert [a.element for a in atoms] == zoo.atoms.element.tolist()
    np.testing.assert_allclose([a.coord for a in atoms], x, atol=6e-4)


def test_long_names_primes_and_unknown_atoms():
    plain = build_structure(
        Query(name="q", where="test", entities=(entity("ligand", "A", smiles="CC(=O)O"),))
    )
    names = ("CARBON1'", 'C"2', "O", "OXYGEN_2")
    part = dataclasses.replace(plain.components["LIG_1"], atom_names=names)
    plain.atoms.atom_name = np.array(names)
    odd = dataclasses.replace(plain, components={"LIG_1": part})
    x, _ = place(odd)
    x[1] = np.nan
    file = pdbx.CIFFile.read(io.StringIO(written(odd, x)))
    read = pdbx.get_structure(file, model=1, include_bonds=True)
    assert read.atom_name.tolist() == ["CARBON1'", "O", "OXYGEN_2"]
    np.testing.assert_allclose(read.coord, x[[0, 2, 3]], atol=6e-4)
    block = gemmi.cif.read_string(written(odd, x)).sole_block()
    assert block.find_values("_chem_comp_atom.atom_id").str(1) == 'C"2'


def test_sdf_has_the_graph_and_the_coordinates(zoo, tmp_path):
    x, _ = place(zoo)
    paths = write_ligand_sdf(zoo, tmp_path, coord=x, name="zoo", metadata=META)
    ligands = [chain.id for chain in zoo.chains if chain.kind == "ligand"]
    assert [p.name for p in paths] == [f"zoo_{c}.sdf" for c in ligands]
    for path, chain in zip(paths, ligands, strict=True):
        read = next(iter(Chem.SDMolSupplier(str(path), sanitize=False, removeHs=False)))
        here = zoo.atoms.chain_id == chain
        symbols = [a.GetSymbol().upper() for a in read.GetAtoms()]
        assert symbols == zoo.atoms.element[here].tolist(), chain
        np.testing.assert_allclose(read.GetConformer().GetPositions(), x[here], atol=1e-4)
        ours = {tuple(sorted(b[:2])) for b in zoo.atoms[here].bonds.as_array().tolist()}
        theirs = {tuple(sorted((b.GetBeginAtomIdx(), b.GetEndAtomIdx()))) for b in read.GetBonds()}
        assert theirs == ours, chain


def test_sdf_of_a_good_geometry_gives_the_smiles_back(tmp_path):
    smiles = "C[N+](C)(C)C[C@H](O)/C=C/C#N"
    made = build_structure(
        Query(name="q", where="test", entities=(entity("ligand", "A", smiles=smiles),))
    )
    x = made.components["LIG_1"].coord
    (path,) = write_ligand_sdf(made, tmp_path, coord=x, name="q", metadata=META)
    read = next(iter(Chem.SDMolSupplier(str(path))))
    assert Chem.MolToSmiles(read) == Chem.CanonSmiles(smiles)
    (mirror,) = write_ligand_sdf(made, tmp_path, coord=x * [-1, 1, 1], name="mirror", metadata=META)
    read = next(iter(Chem.SDMolSupplier(str(mirror))))
    assert Chem.MolToSmiles(read) == Chem.CanonSmiles(smiles.replace("@", "@@"))


def test_pdb_is_read_back(zoo, tmp_path):
    x, plddt = place(zoo)
    path = tmp_path / "zoo.pdb"
    write_pdb(zoo, path, coord=x, plddt=plddt, name=NAME, metadata=META)
    text = path.read_text()
    assert "REMARK 999 UNTRAINED weights" in text
    assert "REMARK 999 residue 01 is LIG_1, BrC1=CC=C(Cl)C=C1" in text
    assert text.count("\nLINK ") == 11 and text.count("\nSSBOND") == 1
    read = gemmi.read_pdb_string(text)
    atoms = [a for chain in read[0] for residue in chain for a in residue]
    assert [a.name for a in atoms] == zoo.atoms.atom_name.tolist()
    assert [a.element.name.upper() for a in atoms] == zoo.atoms.element.tolist()
    np.testing.assert_allclose([a.pos.tolist() for a in atoms], x, atol=6e-4)
    np.testing.assert_allclose([a.b_iso for a in atoms], plddt, atol=6e-3)
    serial = {a.serial: i for i, a in enumerate(atoms)}
    drawn = set()
    for line in text.splitlines():
        if line.startswith("CONECT"):
            first, *others = (serial[int(v)] for v in line.split()[1:])
            drawn |= {tuple(sorted((first, other))) for other in others}
    ours = {tuple(sorted(b[:2])) for b in zoo.atoms.bonds.as_array().tolist()}
    ligand = np.isin(zoo.atoms.chain_id, ["E", "F", "G", "H", "I", "J", "M"])
    assert drawn <= ours
    assert {b for b in ours if ligand[list(b)].any()} <= drawn


@pytest.mark.parametrize(
    ("entities", "words"),
    [
        ([entity("ligand", [f"{i}" for i in range(63)], ccd=("ZN",))], "63 chains"),
        ([entity("ligand", ["A1"], ccd=("ZN",))], r"chain ids \['A1'\]"),
        ([entity("ligand", "A", ccd=("A1LU6",))], r"residue names \['A1LU6'\]"),
    ],
)
def test_pdb_refuses_what_it_cannot_hold(entities, words, tmp_path):
    made = build_structure(Query(name="q", where="test", entities=tuple(entities)))
    x, _ = place(made)
    path = tmp_path / "q.pdb"
    with pytest.raises(InputError, match=words + ".*write mmCIF instead"):
        write_pdb(made, path, coord=x, name="q", metadata=META)
    assert not path.exists()


def test_pdb_refuses_coordinates_too_far(tmp_path):
    made = build_structure(
        Query(name="q", where="test", entities=(entity("ligand", "A", ccd=("ZN",)),))
    )
    with pytest.raises(InputError, match="far coordinates"):
        write_pdb(made, tmp_path / "q.pdb", coord=np.full((1, 3), 2e4), name="q", metadata=META)


@pytest.mark.skipif(not HELDOUT.exists(), reason="needs ../shared/data/heldout")
@pytest.mark.parametrize("entry", ["pb_7omx", "pb_6zpb", "pdna_3cro", "rna_23_solution_0"])
def test_experimental_structures_survive(entry):
    """Real entries with ligands, ions and nucleic acids: what we read, biotite reads from us."""
    path = HELDOUT / f"{entry}.cif.gz"
    ours = read_structure(Document(name=entry, path=path))
    file = pdbx.CIFFile.read(io.StringIO(written(ours, ours.atoms.coord)))
    read = pdbx.get_structure(file, model=1, include_bonds=True, extra_fields=["charge"])
    for name in ("chain_id", "res_id", "res_name", "atom_name", "element", "charge"):
        np.testing.assert_array_equal(getattr(read, name), getattr(ours.atoms, name))
    metals = np.isin(ours.atoms.element, list(METALS))
    assert bond_set(read.bonds, metals) == bond_set(ours.atoms.bonds, metals)
