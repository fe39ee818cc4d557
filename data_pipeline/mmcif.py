"""Structure files: mmCIF and PDB -> Structure. The only door through which gemmi reads.

First model only; of alternative locations the one with the highest occupancy; no waters and no
hydrogens. What is here is the file as deposited: assemblies and the cleaning of AF3 SI 2.5.4 are
not this module's business.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import gemmi
import numpy as np
from biotite.structure import AtomArray
from biotite.structure.bonds import BondList, BondType, connect_via_residue_names

from seedfold.data_pipeline.chemistry import DNA_BASES, Kind
from seedfold.data_pipeline.components import component, exists
from seedfold.data_pipeline.documents import read_text
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import Document
from seedfold.data_pipeline.structure import Chain, Structure

_KINDS: dict[gemmi.PolymerType, Kind] = {
    gemmi.PolymerType.PeptideL: "protein",
    gemmi.PolymerType.PeptideD: "protein",
    gemmi.PolymerType.Dna: "dna",
    gemmi.PolymerType.Rna: "rna",
}
_LONGEST_BOND = 2.4
"""Residues further apart than this (Angstrom) are not bonded: what lies between is missing."""
_COVALENT = (gemmi.ConnectionType.Covale, gemmi.ConnectionType.Disulf)


def read_structure(document: Document) -> Structure:
    """Reads a structure file, compressed or not.

    A polymer's `residues` are its full sequence where the file gives one, so that ``res_id``
    leaves out what was not resolved; elsewhere they are the residues present.

    Raises:
        InputError: if the file is empty, damaged, no structure, or holds no atoms.
    """
    where = document.name
    source, release_date = _parse(read_text(document), where)
    source.setup_entities()
    source.assign_label_seq_id()
    parts = list(_chain_parts(source))
    if not parts:
        raise InputError(
            where, "has no atoms but hydrogens and water", expected="a structure with coordinates"
        )
    atoms, index = _atom_array(parts)
    atoms.bonds = _bonds(atoms, _links(source, index))
    codes = {code for part in parts for code in part.residues}
    return Structure(
        id=source.name or where,
        atoms=atoms,
        chains=_chains(parts),
        components={code: component(code) for code in sorted(codes) if exists(code)},
        resolution=source.resolution or None,
        release_date=release_date,
        method=dict(source.info).get("_exptl.method"),
    )


@dataclass(frozen=True, kw_only=True)
class _ChainPart:
    """One label chain: its sequence and the residues that are there."""

    id: str
    author_id: str
    kind: Kind
    residues: tuple[str, ...]
    present: tuple[tuple[int, gemmi.Residue], ...]
    """(1-based position, residue)."""


def _parse(text: str, where: str) -> tuple[gemmi.Structure, str | None]:
    """The structure of an mmCIF or PDB text, and its date of release if it tells."""
    if not text.strip():
        raise InputError(where, "the file is empty", expected="mmCIF or PDB")
    starts = {line[:6] for line in text.split("\n")}
    try:
        if any(start.startswith("data_") for start in starts):
            return _parse_mmcif(text, where)
        if {"ATOM  ", "HETATM"} & starts:
            return gemmi.read_pdb_string(text), None
    except InputError:
        raise
    except (ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise InputError(
            where, f"damaged or cut off ({reason})", expected="a whole mmCIF or PDB file"
        ) from error
    raise InputError(where, "not a structure file", expected="mmCIF or PDB")


def _parse_mmcif(text: str, where: str) -> tuple[gemmi.Structure, str | None]:
    blocks = gemmi.cif.read_string(text)
    block = next((b for b in blocks if b.find_loop("_atom_site.Cartn_x")), None)
    if block is None:
        raise InputError(where, "has no atoms", expected="mmCIF with an _atom_site table")
    _complete(block.find_loop("_atom_site.Cartn_x").get_loop(), where)
    dates = block.find_values("_pdbx_audit_revision_history.revision_date")
    return gemmi.make_structure_from_block(block), min(dates, default=None)


def _complete(atom_site: gemmi.cif.Loop, where: str) -> None:
    """Adds the columns that gemmi needs and that have an obvious value."""
    for name, value in {"label_alt_id": ".", "occupancy": "1", "B_iso_or_equiv": "0"}.items():
        if f"_atom_site.{name}" not in atom_site.tags:
            atom_site.add_columns([f"_atom_site.{name}"], value)
    needed = ("id", "type_symbol", "label_asym_id", "auth_seq_id", "Cartn_y", "Cartn_z")
    missing = [name for name in needed if f"_atom_site.{name}" not in atom_site.tags]
    if missing:
        raise InputError(where, f"the _atom_site table has no {', '.join(missing)}")


def _chain_parts(source: gemmi.Structure) -> Iterator[_ChainPart]:
    for chain in source[0] if len(source) else ():
        for span in chain.subchains():
            residues = [r for r in span if not r.is_water() and any(_heavy(r))]
            if residues:
                yield _chain_part(chain.name, span, _one_per_place(residues), source)


def _chain_part(
    author_id: str,
    span: gemmi.ResidueSpan,
    residues: Sequence[gemmi.Residue],
    source: gemmi.Structure,
) -> _ChainPart:
    entity = source.get_entity_of(span)
    full = [gemmi.Entity.first_mon(item) for item in entity.full_sequence] if entity else []
    present = [(r.label_seq or 0, r) for r in residues]
    if not all(0 < at <= len(full) for at, _ in present):
        present = list(enumerate(residues, 1))
        full = [r.name for r in residues]
    for at, residue in present:
        full[at - 1] = residue.name
    return _ChainPart(
        id=span.subchain_id(),
        author_id=author_id,
        kind=_kind(entity, full),
        residues=tuple(full),
        present=tuple(present),
    )


def _kind(entity: gemmi.Entity | None, residues: Sequence[str]) -> Kind:
    if entity is None or entity.entity_type != gemmi.EntityType.Polymer:
        return "ligand"
    if entity.polymer_type == gemmi.PolymerType.DnaRnaHybrid:
        n_dna = sum(name in DNA_BASES.values() for name in residues)
        return "dna" if 2 * n_dna > len(residues) else "rna"
    return _KINDS.get(entity.polymer_type, "ligand")


def _one_per_place(residues: Iterable[gemmi.Residue]) -> list[gemmi.Residue]:
    """Of residues with the same number (one place, two sequences) the most occupied."""
    places: dict[str, gemmi.Residue] = {}
    for residue in residues:
        rival = places.get(str(residue.seqid))
        if rival is None or _occupancy(residue) > _occupancy(rival):
            places[str(residue.seqid)] = residue
    return list(places.values())


def _occupancy(residue: gemmi.Residue) -> float:
    return sum(atom.occ for atom in residue) / len(residue)


def _heavy(residue: gemmi.Residue) -> Iterator[gemmi.Atom]:
    return (atom for atom in residue if not atom.is_hydrogen())


def _atoms(residue: gemmi.Residue) -> list[gemmi.Atom]:
    """Heavy atoms of the most occupied conformer, in the order of the component."""
    atoms = list(_heavy(residue))
    occupancy: dict[str, float] = {}
    for atom in atoms:
        if atom.has_altloc():
            occupancy[atom.altloc] = occupancy.get(atom.altloc, 0.0) + atom.occ
    chosen = max(sorted(occupancy), key=lambda label: occupancy[label], default="")
    kept = {atom.name: atom for atom in atoms if not atom.has_altloc() or atom.altloc == chosen}
    order = component(residue.name).index if exists(residue.name) else {}
    return sorted(kept.values(), key=lambda atom: order.get(atom.name, len(order)))


_AtomKey = tuple[str, str, str, str]


def _atom_array(parts: Sequence[_ChainPart]) -> tuple[AtomArray, dict[_AtomKey, int]]:
    """All atoms, and where each stands by author chain, number, residue and atom name."""
    found = [
        (part, position, residue, atom)
        for part in parts
        for position, residue in part.present
        for atom in _atoms(residue)
    ]
    array = AtomArray(len(found))
    array.coord = np.array([a.pos.tolist() for *_, a in found], np.float32)
    array.chain_id = np.array([part.id for part, *_ in found])
    array.res_id = np.array([position for _, position, *_ in found])
    array.res_name = np.array([residue.name for *_, residue, _ in found])
    array.hetero = np.array([residue.het_flag == "H" for *_, residue, _ in found])
    array.atom_name = np.array([a.name for *_, a in found])
    array.element = np.array([a.element.name.upper() for *_, a in found])
    array.set_annotation("charge", np.array([a.charge for *_, a in found]))
    array.set_annotation("occupancy", np.array([a.occ for *_, a in found]))
    array.set_annotation("b_factor", np.array([a.b_iso for *_, a in found]))
    index = {
        (part.author_id, str(residue.seqid), residue.name, atom.name): i
        for i, (part, _, residue, atom) in enumerate(found)
    }
    return array, index


def _bonds(atoms: AtomArray, links: Iterable[tuple[int, int]]) -> BondList:
    """Bonds within residues and along chains, as the CCD has them, and those declared."""
    known = connect_via_residue_names(atoms).as_array()
    one, other = known[:, 0], known[:, 1]
    coord = np.asarray(atoms.coord)
    apart = np.linalg.norm(coord[one] - coord[other], axis=1) > _LONGEST_BOND
    res_id = np.asarray(atoms.res_id)
    broken = apart & (res_id[one] != res_id[other])
    declared = [(i, j, BondType.SINGLE) for i, j in links]
    bonds = np.concatenate([known[~broken], np.array(declared, int).reshape(-1, 3)])
    return BondList(len(atoms), bonds)


def _links(source: gemmi.Structure, index: dict[_AtomKey, int]) -> Iterator[tuple[int, int]]:
    """Covalent bonds that the file declares within the asymmetric unit."""
    for link in source.connections:
        if link.type in _COVALENT and link.asu != gemmi.Asu.Different:
            ends = [
                index.get((p.chain_name, str(p.res_id.seqid), p.res_id.name, p.atom_name))
                for p in (link.partner1, link.partner2)
            ]
            if ends[0] is not None and ends[1] is not None:
                yield ends[0], ends[1]


def _chains(parts: Sequence[_ChainPart]) -> tuple[Chain, ...]:
    """Numbers entities and copies: chains of one kind and sequence are copies of one entity."""
    entities: dict[tuple[Kind, tuple[str, ...]], int] = {}
    copies: Counter[int] = Counter()
    chains = []
    for part in parts:
        entity_id = entities.setdefault((part.kind, part.residues), len(entities))
        chains.append(
            Chain(
                id=part.id,
                entity_id=entity_id,
                sym_id=copies[entity_id],
                kind=part.kind,
                residues=part.residues,
                author_id=part.author_id,
            )
        )
        copies[entity_id] += 1
    return tuple(chains)
