import gzip
import io
from pathlib import Path

import biotite.structure.io.pdb as pdb
import biotite.structure.io.pdbx as pdbx
import numpy as np
import pytest

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.mmcif import read_structure
from seedfold.data_pipeline.query import Document
from seedfold.data_pipeline.structure import Structure

DATA = Path(__file__).resolve().parents[1] / "data"
SHARED = Path(__file__).resolve().parents[2] / "../shared/data/train"
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="no shared structures")

PART = DATA / "7w06_part.cif"
"""PDB 7W06, residues 150-200: 155-172 and 186-196 are resolved, 191 in two conformers."""
METADATA = ("_entity.", "_entity_poly.", "_entity_poly_seq.")


def read(text: str) -> Structure:
    return read_structure(Document(name="x.cif", text=text))


def without_metadata(text: str) -> str:
    return "loop_\n".join(b for b in text.split("loop_\n") if not b.startswith(METADATA))


def atom(serial: int, name: str, residue: str, number: int, x: float, **more) -> str:
    given = {"alt": " ", "chain": "A", "occ": 1.0, "element": name[0], "record": "ATOM"} | more
    return (
        f"{given['record']:6}{serial:5}  {name:<3}{given['alt']}{residue:>3} {given['chain']}"
        f"{number:4}    {x:8.3f}{0:8.3f}{0:8.3f}{given['occ']:6.2f}{10:6.2f}"
        f"          {given['element']:>2}\n"
    )


def by_name(chain, res_id, name, coord) -> dict:
    keys = zip(chain.tolist(), res_id.tolist(), name.tolist(), strict=True)
    return dict(zip(keys, coord.tolist(), strict=True))


def as_biotite_reads(text: str) -> dict:
    """Heavy atoms of biotite's own reader: first model, highest occupancy, label ids."""
    array = pdbx.get_structure(
        pdbx.CIFFile.read(io.StringIO(text)),
        model=1,
        altloc="occupancy",
        use_author_fields=False,
    )
    array = array[~np.isin(array.element, ["H", "D"]) & ~np.isin(array.res_name, ["HOH", "DOD"])]
    return by_name(array.chain_id, array.res_id, array.atom_name, array.coord)


def test_a_deposited_file():
    structure = read(PART.read_text())
    polymer, ligand = structure.chains
    assert (polymer.id, polymer.author_id, polymer.kind) == ("A", "A", "protein")
    assert (ligand.id, ligand.kind, ligand.residues) == ("B", "ligand", ("ITN",))
    assert (polymer.entity_id, ligand.entity_id) == (0, 1)
    assert len(polymer.residues) == 51
    assert polymer.residues[4:7] == ("SER", "GLU", "ARG")
    assert polymer.residues[11] == "MSE"
    atoms = structure.atoms[structure.atoms.chain_id == "A"]
    assert sorted(set(atoms.res_id.tolist())) == [*range(6, 24), *range(37, 48)]
    assert (atoms.res_name[atoms.res_id == 12] == "MSE").all()
    assert structure.atoms.element[structure.atoms.atom_name == "SE"].tolist() == ["SE"] * 4
    assert structure.components["ITN"].atom_names
    assert (structure.resolution, structure.release_date) == (1.5, "2022-10-26")
    assert structure.method == "X-RAY DIFFRACTION"


def test_coordinates_are_those_another_reader_finds():
    text = PART.read_text()
    atoms = read(text).atoms
    ours = by_name(atoms.chain_id, atoms.res_id, atoms.atom_name, atoms.coord)
    theirs = {k if k[0] == "A" else ("B", 1, k[2]): x for k, x in as_biotite_reads(text).items()}
    assert ours.keys() == theirs.keys()
    for key, position in theirs.items():
        np.testing.assert_allclose(ours[key], position, atol=1e-3)


@needs_shared
@pytest.mark.parametrize("name", ["pb_7x9k", "pb_6yqv", "pdna_1vrr", "rna_4_solution_1"])
def test_polymers_of_real_files_are_those_another_reader_finds(name):
    text = gzip.decompress((SHARED / f"{name}.cif.gz").read_bytes()).decode()
    structure = read(text)
    polymers = {c.id for c in structure.chains if c.kind != "ligand"}
    atoms = structure.atoms[np.isin(structure.atoms.chain_id, list(polymers))]
    ours = by_name(atoms.chain_id, atoms.res_id, atoms.atom_name, atoms.coord)
    theirs = {k: x for k, x in as_biotite_reads(text).items() if k[0] in polymers}
    assert len(ours) > 300
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose(list(ours.values()), [theirs[k] for k in ours], atol=1e-3)


def test_atoms_stand_in_the_order_of_the_chains_and_of_the_components():
    lines = PART.read_text().split("\n")
    at = [i for i, line in enumerate(lines) if line.startswith(("ATOM", "HETATM"))]
    shuffled = lines.copy()
    for i, j in zip(at[:8], reversed(at[:8]), strict=True):
        shuffled[i] = lines[j]
    assert shuffled != lines
    one, other = read("\n".join(lines)), read("\n".join(shuffled))
    assert one.atoms.atom_name.tolist() == other.atoms.atom_name.tolist()
    assert one.atoms.atom_name[:5].tolist() == ["N", "CA", "C", "O", "CB"]


@pytest.mark.parametrize("occupancies, chosen", [((0.3, 0.7), "B"), ((0.7, 0.3), "A")])
def test_of_two_conformers_the_more_occupied_is_kept_whole(occupancies, chosen):
    text = "".join(
        atom(i, name, "SER", 1, x, alt=alt, occ=occ)
        for i, (name, alt, x, occ) in enumerate(
            [
                ("N", " ", 0, 1.0),
                ("CA", "A", 1, occupancies[0]),
                ("CA", "B", 2, occupancies[1]),
                ("CB", "A", 3, occupancies[0]),
                ("CB", "B", 4, occupancies[1]),
            ],
            start=1,
        )
    )
    x = {"A": [0, 1, 3], "B": [0, 2, 4]}
    assert read(text).atoms.coord[:, 0].tolist() == x[chosen]


def test_of_two_residues_in_one_place_the_more_occupied_is_kept():
    first = atom(1, "CA", "SER", 7, 1, alt="A", occ=0.4)
    second = atom(2, "CA", "THR", 7, 2, alt="B", occ=0.6)
    structure = read(first + second + atom(3, "CA", "GLY", 8, 5))
    assert structure.atoms.res_name.tolist() == ["THR", "GLY"]
    assert structure.chains[0].residues == ("THR", "GLY")


def test_waters_hydrogens_and_later_models_are_left_out():
    heavy = atom(1, "N", "ALA", 1, 1) + atom(2, "CA", "ALA", 1, 2)
    hydrogens = atom(3, "HA", "ALA", 1, 3) + atom(4, "DA", "ALA", 1, 3)
    water = atom(5, "O", "HOH", 9, 4, record="HETATM")
    text = f"MODEL        1\n{heavy}{hydrogens}{water}ENDMDL\nMODEL        2\n{heavy}ENDMDL\n"
    structure = read(text)
    assert structure.atoms.atom_name.tolist() == ["N", "CA"]
    assert len(structure.chains) == 1


def test_without_entity_metadata_the_residues_present_are_the_sequence():
    stripped = without_metadata(PART.read_text())
    assert not any(name in stripped for name in METADATA)
    structure, whole = read(stripped), read(PART.read_text())
    chain = structure.chains[0]
    assert chain.kind == "protein"
    assert chain.residues == whole.chains[0].residues[5:23] + whole.chains[0].residues[36:47]
    assert structure.atoms.res_id[structure.atoms.chain_id == "A"].max() == 29
    np.testing.assert_array_equal(structure.atoms.coord, whole.atoms.coord)


@pytest.mark.parametrize("change", [str, without_metadata])
def test_residues_are_bonded_but_not_across_what_is_missing(change):
    atoms = read(change(PART.read_text())).atoms
    pairs = {
        (int(atoms.res_id[i]), int(atoms.res_id[j]))
        for i, j, _ in atoms.bonds.as_array()
        if atoms.chain_id[i] == "A" and atoms.res_id[i] != atoms.res_id[j]
    }
    first = 6 if change is str else 1
    resolved = [*range(first, first + 17)] + [*range(37, 47)] * (change is str)
    resolved += [*range(19, 29)] * (change is not str)
    assert {(min(p), max(p)) for p in pairs} == {(i, i + 1) for i in resolved}


def test_bonds_within_a_residue_are_those_of_its_component():
    structure = read(PART.read_text())
    atoms, itn = structure.atoms, structure.components["ITN"]
    names = {
        frozenset((atoms.atom_name[i], atoms.atom_name[j]))
        for i, j, _ in atoms.bonds.as_array()
        if atoms.res_name[i] == "ITN"
    }
    assert names == {frozenset(itn.atom_names[k] for k in (i, j)) for i, j, _ in itn.bonds.tolist()}


@needs_shared
def test_declared_bonds_between_residues_and_chains():
    structure = read_structure(Document(name="7x9k", path=SHARED / "pb_7x9k.cif.gz"))
    atoms = structure.atoms
    sugar = next(c for c in structure.chains if c.residues == ("GLC", "FRU"))
    at = np.flatnonzero(atoms.chain_id == sugar.id)
    between = {
        (str(atoms.atom_name[i]), str(atoms.atom_name[j]))
        for i, j, _ in atoms.bonds.as_array()
        if i in at and atoms.res_id[i] != atoms.res_id[j]
    }
    assert between == {("C1", "O2")}


def test_copies_of_a_chain_share_an_entity():
    chains = "".join(
        atom(i, "CA", residue, 1 + i % 2, 4.0 * i, chain=chain)
        for i, (residue, chain) in enumerate(
            [("ALA", "A"), ("GLY", "A"), ("ALA", "B"), ("GLY", "B"), ("GLY", "C"), ("GLY", "C")]
        )
    )
    found = [(c.author_id, c.entity_id, c.sym_id) for c in read(chains).chains]
    assert found == [("A", 0, 0), ("B", 0, 1), ("C", 1, 0)]


def test_a_pdb_file_gives_what_the_mmcif_file_gives():
    structure = read(PART.read_text())
    polymer = structure.atoms[structure.atoms.chain_id == "A"]
    file = pdb.PDBFile()
    file.set_structure(polymer)
    text = "".join(f"{line}\n" for line in file.lines)
    sequence = structure.chains[0].residues
    seqres = "".join(
        f"SEQRES{n + 1:4} A{len(sequence):5}  {' '.join(sequence[13 * n : 13 * n + 13])}\n"
        for n in range(4)
    )
    same = read(seqres + text)
    assert same.chains[0].residues == sequence
    assert same.atoms.res_id.tolist() == polymer.res_id.tolist()
    np.testing.assert_allclose(same.atoms.coord, polymer.coord, atol=1e-3)
    bare = read(text)
    assert len(bare.chains[0].residues) == 29


def test_compressed_files_are_read(tmp_path):
    path = tmp_path / "x.cif.gz"
    path.write_bytes(gzip.compress(PART.read_bytes()))
    assert len(read_structure(Document(name="x", path=path)).atoms) == 249


def test_columns_without_content_may_be_missing():
    lines = PART.read_text().split("\n")
    dropped = {4, 15, 16}
    lines = [
        " ".join(v for i, v in enumerate(line.split()) if i not in dropped)
        if line.startswith(("ATOM", "HETATM")) and line.split()[4] in ".A"
        else line
        for line in lines
        if not line.startswith(("ATOM", "HETATM")) or line.split()[4] in ".A"
    ]
    names = ("label_alt_id", "occupancy", "B_iso_or_equiv")
    lines = [line for line in lines if line.strip() not in {f"_atom_site.{n}" for n in names}]
    np.testing.assert_array_equal(
        read("\n".join(lines)).atoms.coord, read(PART.read_text()).atoms.coord
    )


@pytest.mark.parametrize(
    "text, message",
    [
        (PART.read_text().replace("auth_seq_id", "seq"), "_atom_site table has no auth_seq_id"),
        ("", "^x.cif: the file is empty"),
        ("data_x\n_entry.id x\n", "has no atoms; expected mmCIF with an _atom_site table"),
        ("data_x\n", "has no atoms"),
        (PART.read_text()[:9000], "damaged or cut off .*; expected a whole mmCIF or PDB file"),
        ("ATOM      1  CA  ALA A   1\n", "damaged or cut off"),
        ("HETATM    1  O   HOH A   1       1.0     1.0     1.0   1.00 10.00\n", "has no atoms but"),
        (">A\nMKT\n", "not a structure file; expected mmCIF or PDB"),
        ("{}", "not a structure file"),
    ],
)
def test_errors_say_what_is_wrong(text, message):
    with pytest.raises(InputError, match=message):
        read(text)
