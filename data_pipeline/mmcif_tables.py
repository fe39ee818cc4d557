"""The tables of an mmCIF file that describes a structure, as rows of text; `output` writes them.

Source: the PDBx/mmCIF dictionary 5.0 and, for pLDDT, ModelCIF's ``ma_qa_metric`` tables.

Conventions: ``label_asym_id`` and ``auth_asym_id`` are the chain id the user gave; residues count
from 1 in ``auth_seq_id`` everywhere and in ``label_seq_id`` of polymers; occupancy is 1; the
B factor is pLDDT. Entities go by chemistry (residues and the bonds between them), not by the order
of the input. Every bond can be read back: those within a residue from ``chem_comp_bond``, those
between residues from ``struct_conn``, except the ordinary linkage between two standard residues.
"""

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from biotite.structure import AtomArray
from biotite.structure.bonds import BondType
from jaxtyping import Float

from seedfold.data_pipeline.chemistry import ONE_LETTER, UNKNOWN
from seedfold.data_pipeline.components import Component
from seedfold.data_pipeline.ideal_geometry import METALS
from seedfold.data_pipeline.structure import Chain, Structure

Row = dict[str, str | bool | None]
"""Item -> value; None is written ``?`` (unknown) and False ``.`` (does not apply)."""

_POLYMER_TYPE = {
    "protein": "polypeptide(L)",
    "dna": "polydeoxyribonucleotide",
    "rna": "polyribonucleotide",
}
_LINKAGE = {"protein": ("C", "N"), "dna": ("O3'", "P"), "rna": ("O3'", "P")}
_LETTER = {code: letter for table in ONE_LETTER.values() for letter, code in table.items()}
_STANDARD = frozenset(_LETTER) - frozenset(UNKNOWN.values())
_BOND_ORDER: dict[BondType, tuple[str | None, str]] = {
    BondType.ANY: (None, "N"),
    BondType.SINGLE: ("sing", "N"),
    BondType.DOUBLE: ("doub", "N"),
    BondType.TRIPLE: ("trip", "N"),
    BondType.QUADRUPLE: ("quad", "N"),
    BondType.AROMATIC_SINGLE: ("sing", "Y"),
    BondType.AROMATIC_DOUBLE: ("doub", "Y"),
    BondType.AROMATIC_TRIPLE: ("trip", "Y"),
    BondType.AROMATIC: ("arom", "Y"),
    # chem_comp_bond has no word for a dative bond.
    BondType.COORDINATION: ("sing", "N"),
}
_AROMATIC = tuple(bond for bond, (_, flag) in _BOND_ORDER.items() if flag == "Y")


@dataclass(frozen=True, kw_only=True)
class Metadata:
    """What a file says about its making."""

    version: str
    """Of the program."""
    model: str = ""
    """Name of the weights or of the configuration."""
    notes: tuple[str, ...] = ()
    """Remarks for whoever opens the file, e.g. that the weights are untrained."""


@dataclass(frozen=True, kw_only=True)
class _Entity:
    """The chains of one chemistry."""

    number: str
    type: str
    chains: tuple[Chain, ...]


def tables(
    structure: Structure,
    *,
    coord: Float[np.ndarray, "N_atom 3"],
    plddt: Float[np.ndarray, " N_atom"] | None,
    name: str,
    metadata: Metadata,
) -> dict[str, list[Row]]:
    """Every table of the file: category -> rows, in the order of the file."""
    entities = _entities(structure)
    found = {
        **_head(name, metadata),
        **_entity_tables(structure, entities),
        "struct_asym": _struct_asym(structure, entities),
        **_component_tables(structure),
        **_bond_tables(structure, coord),
        **_sequence_schemes(entities),
        **({} if plddt is None else _quality_tables(structure, plddt)),
        "atom_site": _atom_site(structure, entities, coord, plddt),
    }
    return {category: rows for category, rows in found.items() if rows}


def remarks(name: str, metadata: Metadata) -> list[str]:
    """How the structure was made, and the notes; one line each."""
    model = f", model {metadata.model}" if metadata.model else ""
    made = f"{name}: predicted by SeedFold {metadata.version}{model}"
    return [plain(line) for line in (made, *metadata.notes)]


def plain(text: str) -> str:
    """One line of ASCII, which every reader of these formats understands."""
    return " ".join(text.split()).encode("ascii", "replace").decode()


def irregular_bonds(structure: Structure) -> np.ndarray:
    """Bonds between residues that a reader would not draw by itself; rows of (atom, atom, type).

    Readers join consecutive residues of known linking type. A residue that is not a standard one
    may be unknown to them, so its linkages count as irregular (the PDB does the same).
    """
    atoms = structure.atoms
    assert atoms.bonds is not None
    kinds = {chain.id: chain.kind for chain in structure.chains}
    bonds = atoms.bonds.as_array().astype(np.int64)
    bonds[:, :2].sort(axis=1)
    i, j, _ = bonds.T
    same_chain = atoms.chain_id[i] == atoms.chain_id[j]
    bonds = bonds[~same_chain | (atoms.res_id[i] != atoms.res_id[j])]
    return bonds[[not _is_regular(atoms, kinds, i, j) for i, j, _ in bonds.tolist()]]


def _is_regular(atoms: AtomArray, kinds: dict[str, str], i: int, j: int) -> bool:
    return bool(
        atoms.chain_id[i] == atoms.chain_id[j]
        and atoms.res_id[j] == atoms.res_id[i] + 1
        and (atoms.atom_name[i], atoms.atom_name[j]) == _LINKAGE.get(kinds[atoms.chain_id[i]])
        and atoms.res_name[i] in _STANDARD
        and atoms.res_name[j] in _STANDARD
    )


def _head(name: str, metadata: Metadata) -> dict[str, list[Row]]:
    title = plain(name)
    lines = enumerate(remarks(name, metadata), start=1)
    return {
        "entry": [{"id": title}],
        "struct": [
            {
                "entry_id": title,
                "title": title,
                "pdbx_model_details": plain("; ".join(metadata.notes)) or None,
            }
        ],
        "software": [
            {
                "pdbx_ordinal": "1",
                "name": "SeedFold",
                "version": metadata.version,
                "classification": "other",
                "description": plain(metadata.model) or None,
            }
        ],
        "pdbx_database_remark": [{"id": str(i), "text": line} for i, line in lines],
    }


def _entities(structure: Structure) -> list[_Entity]:
    """Groups chains by what they are: residues, and for ligands the bonds between them."""
    atoms = structure.atoms
    inner: dict[str, set[tuple[Any, ...]]] = {}
    for i, j, _ in irregular_bonds(structure).tolist():
        if atoms.chain_id[i] == atoms.chain_id[j]:
            ends = (atoms.res_id[i], atoms.atom_name[i], atoms.res_id[j], atoms.atom_name[j])
            inner.setdefault(atoms.chain_id[i], set()).add(ends)
    groups: dict[Any, list[Chain]] = {}
    for chain in structure.chains:
        # Cross-links such as disulphides do not make a polymer another entity.
        joined = frozenset(inner.get(chain.id, ())) if chain.kind == "ligand" else chain.cyclic
        groups.setdefault((chain.kind, chain.residues, joined), []).append(chain)
    return [
        _Entity(number=str(i), type=_entity_type(structure, group[0]), chains=tuple(group))
        for i, group in enumerate(groups.values(), start=1)
    ]


def _entity_type(structure: Structure, chain: Chain) -> str:
    if chain.kind != "ligand":
        return "polymer"
    types = [structure.components[code].type.upper() for code in chain.residues]
    sugars = len(types) > 1 and all("SACCHARIDE" in t for t in types)
    return "branched" if sugars else "non-polymer"


def _entity_tables(structure: Structure, entities: Sequence[_Entity]) -> dict[str, list[Row]]:
    names = {
        "entity": [_entity(structure, e) for e in entities],
        "entity_poly": [_entity_poly(structure, e) for e in entities if e.type == "polymer"],
        "entity_poly_seq": _residue_rows(entities, "polymer", "mon_id"),
        "pdbx_entity_branch": [
            {"entity_id": e.number, "type": "oligosaccharide"}
            for e in entities
            if e.type == "branched"
        ],
        "pdbx_entity_branch_list": _residue_rows(entities, "branched", "comp_id"),
        "pdbx_entity_nonpoly": [
            {"entity_id": e.number, "name": _name(structure, code), "comp_id": code}
            for e in entities
            if e.type == "non-polymer"
            for code in dict.fromkeys(e.chains[0].residues)
        ],
    }
    return names


def _name(structure: Structure, code: str) -> str | None:
    return plain(structure.components[code].name) or None


def _residue_rows(entities: Sequence[_Entity], kind: str, item: str) -> list[Row]:
    return [
        {"entity_id": e.number, "num": str(i), item: code, "hetero": "n"}
        for e in entities
        if e.type == kind
        for i, code in enumerate(e.chains[0].residues, start=1)
    ]


def _entity(structure: Structure, entity: _Entity) -> Row:
    chain = entity.chains[0]
    if entity.type == "polymer":
        description = f"{chain.kind} of {len(chain.residues)} residues"
    else:
        description = "-".join(_name(structure, code) or code for code in chain.residues)
    return {
        "id": entity.number,
        "type": entity.type,
        "src_method": "syn",
        "pdbx_description": description,
        "pdbx_number_of_molecules": str(len(entity.chains)),
    }


def _entity_poly(structure: Structure, entity: _Entity) -> Row:
    chain = entity.chains[0]
    codes = chain.residues
    kind = _POLYMER_TYPE[chain.kind]
    mirrored = sum(structure.components[c].type.upper().startswith("D-PEPTIDE") for c in codes)
    if 2 * mirrored > len(codes):
        kind = "polypeptide(D)"
    lettered = _STANDARD if chain.kind != "dna" else frozenset()
    full = [_LETTER[c] if c in lettered else f"({c})" for c in codes]
    canonical = [_canonical_letter(structure.components[c], chain) for c in codes]
    return {
        "entity_id": entity.number,
        "type": kind,
        "nstd_linkage": "yes" if chain.cyclic else "no",
        "nstd_monomer": "no" if _STANDARD.issuperset(codes) else "yes",
        "pdbx_seq_one_letter_code": _folded("".join(full)),
        "pdbx_seq_one_letter_code_can": _folded("".join(canonical)),
        "pdbx_strand_id": ",".join(c.id for c in entity.chains),
    }


def _canonical_letter(component: Component, chain: Chain) -> str:
    for code in (component.code, component.parent):
        if code in _STANDARD:
            return _LETTER[code]
    return component.one_letter or ("X" if chain.kind == "protein" else "N")


def _folded(sequence: str, width: int = 80) -> str:
    return "\n".join(sequence[i : i + width] for i in range(0, len(sequence), width))


def _struct_asym(structure: Structure, entities: Sequence[_Entity]) -> list[Row]:
    number = _entity_of_chain(entities)
    return [{"id": c.id, "entity_id": number[c.id], "details": None} for c in structure.chains]


def _entity_of_chain(entities: Sequence[_Entity]) -> dict[str, str]:
    return {chain.id: entity.number for entity in entities for chain in entity.chains}


def _component_tables(structure: Structure) -> dict[str, list[Row]]:
    used = {code for chain in structure.chains for code in chain.residues}
    components = [structure.components[code] for code in sorted(used)]
    return {
        "chem_comp": [
            {
                "id": c.code,
                "type": _component_type(c.type),
                "mon_nstd_flag": "y" if c.code in _STANDARD else "n",
                "name": plain(c.name) or None,
                "formula": c.formula or None,
            }
            for c in components
        ],
        "chem_comp_atom": [row for c in components for row in _component_atoms(c)],
        "chem_comp_bond": [row for c in components for row in _component_bonds(c)],
        "pdbx_chem_comp_descriptor": [
            {"comp_id": c.code, "type": "SMILES", "program": None, "descriptor": c.smiles}
            for c in components
            if c.smiles is not None
        ],
    }


def _component_type(kind: str) -> str:
    """The dictionary's own spelling: ``L-PEPTIDE LINKING`` -> ``L-peptide linking``."""
    return re.sub(r"\b(rna|dna|[dl](?=-)|nh3|cooh)", lambda m: m[0].upper(), kind.lower())


def _component_atoms(component: Component) -> Iterator[Row]:
    bonds = component.bonds
    aromatic = set(bonds[np.isin(bonds[:, 2], _AROMATIC), :2].ravel().tolist())
    stereo = component.stereo or ("N",) * len(component.atom_names)
    for i, name in enumerate(component.atom_names):
        yield {
            "comp_id": component.code,
            "atom_id": name,
            "type_symbol": component.elements[i],
            "charge": str(int(component.charges[i])),
            "pdbx_aromatic_flag": "Y" if i in aromatic else "N",
            "pdbx_leaving_atom_flag": "Y" if component.leaving[i] else "N",
            "pdbx_stereo_config": stereo[i],
            "pdbx_ordinal": str(i + 1),
        }


def _component_bonds(component: Component) -> Iterator[Row]:
    for i, (a, b, bond) in enumerate(component.bonds.tolist(), start=1):
        order, aromatic = _BOND_ORDER[BondType(bond)]
        yield {
            "comp_id": component.code,
            "atom_id_1": component.atom_names[a],
            "atom_id_2": component.atom_names[b],
            "value_order": order,
            "pdbx_aromatic_flag": aromatic,
            "pdbx_ordinal": str(i),
        }


def _bond_tables(structure: Structure, coord: np.ndarray) -> dict[str, list[Row]]:
    polymers = _polymer_ids(structure)
    counts: dict[str, int] = {}
    rows: list[Row] = []
    for i, j, bond in irregular_bonds(structure).tolist():
        kind = _connection_type(structure.atoms, i, j, bond)
        counts[kind] = counts.get(kind, 0) + 1
        distance = float(np.linalg.norm(coord[i] - coord[j]))
        rows.append(
            {
                "id": f"{kind}{counts[kind]}",
                "conn_type_id": kind,
                **_partner(structure.atoms, i, 1, polymers),
                **_partner(structure.atoms, j, 2, polymers),
                "pdbx_dist_value": f"{distance:.3f}" if np.isfinite(distance) else None,
                "pdbx_value_order": False if kind == "metalc" else _BOND_ORDER[BondType(bond)][0],
            }
        )
    return {"struct_conn_type": [{"id": kind} for kind in counts], "struct_conn": rows}


def _polymer_ids(structure: Structure) -> frozenset[str]:
    return frozenset(chain.id for chain in structure.chains if chain.kind != "ligand")


def _connection_type(atoms: AtomArray, i: int, j: int, bond: int) -> str:
    if bond == BondType.COORDINATION or {atoms.element[i], atoms.element[j]} & METALS:
        return "metalc"
    return "disulf" if atoms.atom_name[i] == atoms.atom_name[j] == "SG" else "covale"


def _partner(atoms: AtomArray, i: int, n: int, polymers: frozenset[str]) -> Row:
    chain, residue, position = str(atoms.chain_id[i]), str(atoms.res_name[i]), str(atoms.res_id[i])
    return {
        f"ptnr{n}_label_asym_id": chain,
        f"ptnr{n}_label_comp_id": residue,
        f"ptnr{n}_label_seq_id": position if chain in polymers else False,
        f"ptnr{n}_label_atom_id": str(atoms.atom_name[i]),
        f"ptnr{n}_auth_asym_id": chain,
        f"ptnr{n}_auth_comp_id": residue,
        f"ptnr{n}_auth_seq_id": position,
        f"ptnr{n}_symmetry": "1_555",
    }


def _sequence_schemes(entities: Sequence[_Entity]) -> dict[str, list[Row]]:
    """Which author residue each position of each chain is; here the numbers agree."""
    names = {
        "polymer": ("pdbx_poly_seq_scheme", "seq_id", "pdb_strand_id"),
        "branched": ("pdbx_branch_scheme", "num", "pdb_asym_id"),
        "non-polymer": ("pdbx_nonpoly_scheme", "ndb_seq_num", "pdb_strand_id"),
    }
    schemes: dict[str, list[Row]] = {}
    for entity in entities:
        table, position, strand = names[entity.type]
        schemes.setdefault(table, []).extend(
            {
                "asym_id": chain.id,
                "entity_id": entity.number,
                "mon_id": code,
                position: str(i),
                "pdb_seq_num": str(i),
                "auth_seq_num": str(i),
                "pdb_mon_id": code,
                "auth_mon_id": code,
                strand: chain.id,
            }
            for chain in entity.chains
            for i, code in enumerate(chain.residues, start=1)
        )
    return schemes


def _quality_tables(structure: Structure, plddt: np.ndarray) -> dict[str, list[Row]]:
    """pLDDT of the whole and of every residue: means over atoms."""
    metric: Row = {"name": "pLDDT", "type": "pLDDT", "software_group_id": None}
    polymers = _polymer_ids(structure)
    starts = _residue_starts(structure.atoms)
    local: list[Row] = []
    for n, (start, stop) in enumerate(itertools.pairwise(starts), start=1):
        place = _partner(structure.atoms, start, 1, polymers)
        local.append(
            {
                "ordinal_id": str(n),
                "model_id": "1",
                "label_asym_id": place["ptnr1_label_asym_id"],
                "label_seq_id": place["ptnr1_label_seq_id"],
                "label_comp_id": place["ptnr1_label_comp_id"],
                "metric_id": "2",
                "metric_value": f"{plddt[start:stop].mean():.2f}",
            }
        )
    mean = f"{plddt.mean():.2f}"
    return {
        "ma_qa_metric": [
            {"id": "1", "mode": "global"} | metric,
            {"id": "2", "mode": "local"} | metric,
        ],
        "ma_qa_metric_global": [
            {"ordinal_id": "1", "model_id": "1", "metric_id": "1", "metric_value": mean}
        ],
        "ma_qa_metric_local": local,
    }


def _residue_starts(atoms: AtomArray) -> list[int]:
    """Index of the first atom of every residue, then one past the end."""
    change = (atoms.res_id[1:] != atoms.res_id[:-1]) | (atoms.chain_id[1:] != atoms.chain_id[:-1])
    return [0, *(np.flatnonzero(change) + 1).tolist(), atoms.array_length()]


def _atom_site(
    structure: Structure,
    entities: Sequence[_Entity],
    coord: np.ndarray,
    plddt: np.ndarray | None,
) -> list[Row]:
    """One row an atom; atoms whose coordinates are unknown are left out."""
    atoms = structure.atoms
    number, polymers = _entity_of_chain(entities), _polymer_ids(structure)
    b_factor = np.zeros(len(coord)) if plddt is None else plddt
    rows: list[Row] = []
    for i in np.flatnonzero(np.isfinite(coord).all(axis=-1)).tolist():
        chain, residue = str(atoms.chain_id[i]), str(atoms.res_name[i])
        name, position = str(atoms.atom_name[i]), str(atoms.res_id[i])
        rows.append(
            {
                "group_PDB": "ATOM" if residue in _STANDARD else "HETATM",
                "id": str(len(rows) + 1),
                "type_symbol": str(atoms.element[i]).upper(),
                "label_atom_id": name,
                "label_alt_id": False,
                "label_comp_id": residue,
                "label_asym_id": chain,
                "label_entity_id": number[chain],
                "label_seq_id": position if chain in polymers else False,
                "pdbx_PDB_ins_code": None,
                "Cartn_x": f"{coord[i, 0]:.3f}",
                "Cartn_y": f"{coord[i, 1]:.3f}",
                "Cartn_z": f"{coord[i, 2]:.3f}",
                "occupancy": "1.00",
                "B_iso_or_equiv": f"{b_factor[i]:.2f}",
                "pdbx_formal_charge": str(int(atoms.charge[i])) if atoms.charge[i] else None,
                "auth_seq_id": position,
                "auth_comp_id": residue,
                "auth_asym_id": chain,
                "auth_atom_id": name,
                "pdbx_PDB_model_num": "1",
            }
        )
    return rows
