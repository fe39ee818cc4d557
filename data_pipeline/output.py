"""Structures to files: mmCIF, PDB and one SDF per ligand. The only door through which gemmi writes.

`mmcif_tables` decides what stands in the file; quoting, layout and the PDB format are gemmi's.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import gemmi
import numpy as np
from biotite.structure import AtomArray
from jaxtyping import Float

from seedfold.data_pipeline.components import Component
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.mmcif_tables import Metadata, irregular_bonds, plain, remarks, tables
from seedfold.data_pipeline.molecules import write_sdf
from seedfold.data_pipeline.structure import Chain, Structure
from seedfold.data_pipeline.whole_file import whole_file

_PDB_MOST_CHAINS = 62
_PDB_MOST_ATOMS = 99_999
_PDB_MOST_RESIDUES = 9_999
_PDB_MOST_OWN = 99


def mmcif(
    structure: Structure,
    *,
    coord: Float[np.ndarray, "N_atom 3"],
    plddt: Float[np.ndarray, " N_atom"] | None = None,
    name: str,
    metadata: Metadata,
) -> str:
    """The text of an mmCIF file.

    Args:
        structure: chains, atoms, bonds and components; its own coordinates are not looked at.
        coord: Angstrom; atoms with NaN are left out.
        plddt: 0-100, becomes the B factor and the ``ma_qa_metric`` tables; None = B factor 0.
        name: title and name of the data block.
        metadata: program, model and remarks.
    """
    options = gemmi.cif.WriteOptions()
    options.prefer_pairs = True
    options.align_pairs = 33
    return _document(structure, coord, plddt, name, metadata).as_string(options=options)


def write_mmcif(
    structure: Structure,
    path: Path,
    *,
    coord: Float[np.ndarray, "N_atom 3"],
    plddt: Float[np.ndarray, " N_atom"] | None = None,
    name: str,
    metadata: Metadata,
) -> None:
    """Writes what `mmcif` gives; nobody ever reads half a file."""
    text = mmcif(structure, coord=coord, plddt=plddt, name=name, metadata=metadata)
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_pdb(
    structure: Structure,
    path: Path,
    *,
    coord: Float[np.ndarray, "N_atom 3"],
    plddt: Float[np.ndarray, " N_atom"] | None = None,
    name: str,
    metadata: Metadata,
) -> None:
    """Writes the legacy PDB format with LINK, SSBOND and CONECT records.

    Ligands that are not in the CCD are renamed 01, 02, ..., names the PDB has set aside for that;
    a remark tells which is which.

    Raises:
        InputError: if the structure does not fit into the columns of the format.
    """
    own = sorted(code for code, c in structure.components.items() if c.title and len(code) > 3)
    short = {code: f"{i:02d}" for i, code in enumerate(own, start=1)}
    _check_fits_pdb(structure, coord, short, str(path))
    document = _document(structure, coord, plddt, name, metadata)
    model = gemmi.make_structure_from_block(document.sole_block())
    lines = remarks(name, metadata)
    for code, number in short.items():
        model.rename_residues(code, number)
        lines.append(plain(f"residue {number} is {code}, {structure.components[code].title}"))
    model.raw_remarks = [f"REMARK 999 {line}" for line in lines]
    model.assign_serial_numbers(numbered_ter=True)
    _add_conect(model, structure)
    options = gemmi.PdbWriteOptions(
        cryst1_record=False, preserve_serial=True, numbered_ter=True, conect_records=True
    )
    with whole_file(path) as temporary:
        temporary.write_text(model.make_pdb_string(options), encoding="utf-8")


def write_ligand_sdf(
    structure: Structure,
    folder: Path,
    *,
    coord: Float[np.ndarray, "N_atom 3"],
    name: str,
    metadata: Metadata,
) -> list[Path]:
    """Writes ``<name>_<chain>.sdf`` for every chain that is not a polymer; returns the paths."""
    paths: list[Path] = []
    for chain in structure.chains:
        if chain.kind == "ligand":
            path = folder / f"{name}_{chain.id}.sdf"
            with whole_file(path) as temporary:
                molecule, x = _ligand(structure, chain, coord)
                write_sdf(molecule, x, temporary, remarks(name, metadata))
            paths.append(path)
    return paths


def _document(
    structure: Structure,
    coord: np.ndarray,
    plddt: np.ndarray | None,
    name: str,
    metadata: Metadata,
) -> gemmi.cif.Document:
    document = gemmi.cif.Document()
    block = document.add_new_block(re.sub(r"[^\w.-]+", "_", name, flags=re.ASCII) or "model")
    found = tables(structure, coord=coord, plddt=plddt, name=name, metadata=metadata)
    for category, rows in found.items():
        columns = {item: [row[item] for row in rows] for item in rows[0]}
        block.set_mmcif_category(f"_{category}", columns)
    return document


def _check_fits_pdb(
    structure: Structure, coord: np.ndarray, short: Mapping[str, str], where: str
) -> None:
    atoms = structure.atoms
    known = coord[np.isfinite(coord)]
    n_atoms = len(coord) + len(structure.chains)
    ids = [chain.id for chain in structure.chains if len(chain.id) > 1]
    codes = {str(code) for code in atoms.res_name} - set(short)
    long_residues = sorted(code for code in codes if len(code) > 3)
    long_names = sorted({name for name in map(str, atoms.atom_name) if len(name) > 4})
    longest = max(len(chain.residues) for chain in structure.chains)
    checks = (
        (len(short) > _PDB_MOST_OWN, f"{len(short)} ligands without CCD code", "99 of them"),
        (len(structure.chains) > _PDB_MOST_CHAINS, f"{len(structure.chains)} chains", "62 chains"),
        (n_atoms > _PDB_MOST_ATOMS, f"{n_atoms} atoms and chain ends", "99,999 of them"),
        (longest > _PDB_MOST_RESIDUES, f"a chain of {longest} residues", "9,999 residues"),
        (ids, f"chain ids {ids[:5]}", "1 character"),
        (long_residues, f"residue names {long_residues[:5]}", "3 characters"),
        (long_names, f"atom names {long_names[:5]}", "4 characters"),
        (known.size and np.abs(known).max() >= 999.9995, "far coordinates", "+-999.999 Angstrom"),
    )
    for fails, found, limit in checks:
        if fails:
            raise InputError(
                where,
                f"the PDB format cannot hold {found}",
                expected=f"at most {limit}",
                todo="write mmCIF instead",
            )


def _add_conect(model: gemmi.Structure, structure: Structure) -> None:
    """CONECT records of every bond in or to a residue that PDB readers may not know."""
    bonds = structure.atoms.bonds
    assert bonds is not None
    atoms = structure.atoms
    serial: dict[tuple[str, int, str], int] = {}
    hetero: set[tuple[str, int, str]] = set()
    for chain in model[0]:
        for residue in chain:
            for atom in residue:
                key = (chain.name, residue.seqid.num or 0, atom.name)
                serial[key] = atom.serial
                if residue.het_flag == "H":
                    hetero.add(key)
    irregular = {(i, j) for i, j, _ in irregular_bonds(structure).tolist()}
    for i, j, _ in bonds.as_array().tolist():
        a, b = (
            (str(atoms.chain_id[n]), int(atoms.res_id[n]), str(atoms.atom_name[n])) for n in (i, j)
        )
        wanted = a in hetero or b in hetero or (min(i, j), max(i, j)) in irregular
        if wanted and a in serial and b in serial:
            model.add_conect(serial[a], serial[b], 1)


def _ligand(structure: Structure, chain: Chain, coord: np.ndarray) -> tuple[Component, np.ndarray]:
    """The molecule of one chain and its coordinates; atoms that have left are NaN or absent."""
    here = np.flatnonzero(structure.atoms.chain_id == chain.id)
    part = structure.atoms[here]
    assert isinstance(part, AtomArray) and part.bonds is not None
    first = structure.components[chain.residues[0]]
    names = part.atom_name.tolist()
    if len(chain.residues) == 1:
        x = np.full((len(first.atom_names), 3), np.nan, dtype=np.float32)
        x[[first.index[name] for name in names]] = coord[here]
        return first, x
    residues = part.res_id.tolist()
    whole = Component(
        code=chain.id,
        type="NON-POLYMER",
        formula="",
        parent=None,
        one_letter=None,
        atom_names=tuple(f"{n}_{i}" for n, i in zip(names, residues, strict=True)),
        elements=tuple(part.element.tolist()),
        charges=part.charge.astype(np.int64),
        leaving=np.zeros(len(here), dtype=bool),
        coord=np.full((len(here), 3), np.nan, dtype=np.float32),
        bonds=part.bonds.as_array().astype(np.int64),
        title="-".join(chain.residues),
    )
    return whole, coord[here]
