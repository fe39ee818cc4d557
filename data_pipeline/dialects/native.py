"""The native form, in YAML or JSON: Boltz's YAML (``version: 1``) with a few additions.

Ours are ``name``, ``seeds``, ``bonds``, ``paired_msa``, alignments of RNA, ligands by ``file`` or
by several CCD codes, ``[CCD]`` inside sequences, ids left out, and a list of queries in one file.
`json_schema` is the whole grammar; the reader checks against the same schema.
"""

import copy
from typing import Any

from seedfold.data_pipeline.chemistry import Kind
from seedfold.data_pipeline.dialects.draft import MAX_SEED, Copies, Draft
from seedfold.data_pipeline.dialects.place import Place, open_document
from seedfold.data_pipeline.dialects.schema import (
    Schema,
    array,
    check,
    exactly_one,
    mapping,
    one_key,
    text,
    text_or_list,
)
from seedfold.data_pipeline.query import AtomRef, Query, TemplateSource

_ID = text_or_list("Chain id, or a list of ids for as many copies, e.g. [A, B]")
_POSITION: Schema = {"type": "integer", "minimum": 1, "description": "Residue, counted from 1"}
_SEED: Schema = {"type": "integer", "minimum": 0, "maximum": MAX_SEED}
_DISTANCE: Schema = {"type": "number", "minimum": 0, "description": "Angstrom"}
_FORCE: Schema = {"type": "boolean", "description": "Understood but not used"}
_MSA = text("Path of an unpaired alignment (a3m), or 'empty' to use the sequence alone")
_PAIRED = text("Path of an alignment (a3m) whose rows are paired between chains by species")
_ATOM: Schema = {
    "type": "array",
    "description": "Chain, residue counted from 1, atom name, e.g. [A, 145, SG]",
    "prefixItems": [text("Chain id"), _POSITION, text("Atom name")],
    "items": False,
    "minItems": 3,
    "maxItems": 3,
}
_TOKEN: Schema = {
    "type": "array",
    "description": "Chain, and residue or (in a ligand) atom name, e.g. [A, 145]",
    "prefixItems": [text("Chain id"), {**text("Residue or atom"), "type": ["integer", "string"]}],
    "items": False,
    "minItems": 2,
    "maxItems": 2,
}
_MODIFICATION = mapping(
    {"position": _POSITION, "ccd": text("CCD code, e.g. SEP")},
    description="A residue that is not a standard one",
)


def _polymer(letters: str, **alignments: Schema) -> Schema:
    return mapping(
        {"sequence": text(f"{letters}; [CCD] among them for modified residues")},
        {
            "id": _ID,
            "modifications": array(_MODIFICATION),
            "cyclic": {"type": "boolean", "description": "Ends joined by a bond"},
            **alignments,
        },
    )


_LIGAND = mapping(
    {},
    {"id": _ID},
    "A ligand or ion: exactly one of ccd, smiles and file",
    oneOf=exactly_one("ccd", "smiles", "file"),
)
_LIGAND["properties"] |= {
    "ccd": text_or_list("CCD code, or a list of codes that `bonds` join (a glycan)"),
    "smiles": text("SMILES"),
    "file": text("Path of an SDF or MOL file"),
}
_CONSTRAINT = one_key(
    {
        "bond": mapping({"atom1": _ATOM, "atom2": _ATOM}, description="A covalent bond"),
        "pocket": mapping(
            {"binder": text("Chain id"), "contacts": array(_TOKEN)},
            {"max_distance": _DISTANCE, "force": _FORCE},
            "Understood but not used",
        ),
        "contact": mapping(
            {"token1": _TOKEN, "token2": _TOKEN},
            {"max_distance": _DISTANCE, "force": _FORCE},
            "Understood but not used",
        ),
    }
)
_TEMPLATE = mapping(
    {},
    {
        "chain_id": text_or_list("Chains of the query it is for; left out: all proteins"),
        "template_id": text_or_list("Chains of the file, one for each of chain_id"),
        "force": _FORCE,
        "threshold": _DISTANCE,
    },
    "A structure that resembles a part: exactly one of cif and pdb",
    oneOf=exactly_one("cif", "pdb"),
)
_TEMPLATE["properties"] |= {"cif": text("Path (mmCIF)"), "pdb": text("Path (PDB)")}
QUERY = mapping(
    {
        "sequences": array(
            one_key(
                {
                    "protein": _polymer("One-letter amino acids", msa=_MSA, paired_msa=_PAIRED),
                    "dna": _polymer("Letters of ACGTN, one strand"),
                    "rna": _polymer("Letters of ACGUN", msa=_MSA),
                    "ligand": _LIGAND,
                }
            ),
            "The molecules: protein, dna, rna or ligand",
            minItems=1,
        )
    },
    {
        "version": {"type": "integer", "enum": [1], "description": "Version of this form"},
        "name": text("Name of the query; left out: the name of the file"),
        "seeds": {
            **array(_SEED, "One or more model seeds", **_SEED),
            "type": ["integer", "array"],
        },
        "bonds": array(
            array(_ATOM, "Two atoms, [[A, 145, SG], [L, 1, C4]]", minItems=2, maxItems=2),
            "Covalent bonds, within or between chains",
        ),
        "constraints": array(_CONSTRAINT, "Bonds in the form of Boltz; others are not used"),
        "templates": array(_TEMPLATE, "Structures that resemble parts of the query"),
        "properties": array(
            one_key({"affinity": mapping({"binder": text("Chain id")})}),
            "Understood but not used",
        ),
    },
    "One prediction job",
)


def json_schema() -> Schema:
    """Returns the JSON Schema (draft 2020-12) of an input file in the native form."""
    query = {"$ref": "#/$defs/query"}
    return copy.deepcopy(
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": "SeedFold input",
            "description": "One query or a list of queries. Paths start at the file's folder.",
            "anyOf": [query, {"type": "array", "items": query, "minItems": 1}],
            "$defs": {"query": QUERY},
        }
    )


def read_native(data: Any, place: Place, name: str) -> Query:
    """Reads one query from its parsed YAML or JSON."""
    job = check(data, QUERY, place)
    draft = Draft(job.get("name", name), place)
    sequences = place.child("sequences")
    for i, entry in enumerate(job["sequences"]):
        for kind, molecule in entry.items():
            _add_molecule(draft, kind, molecule, sequences.child(i).child(kind))
    draft.name_chains()
    _add_bonds(draft, job, place)
    for i, template in enumerate(job.get("templates", [])):
        _add_template(draft, template, place.child("templates").child(i))
    if "properties" in job:
        draft.warn(place.child("properties"), "affinity is not predicted; the request is not used")
    seeds = job.get("seeds", [])
    return draft.query(seeds if isinstance(seeds, list) else [seeds])


def _add_molecule(draft: Draft, kind: Kind, molecule: dict[str, Any], place: Place) -> None:
    ids = molecule.get("id")
    copies = Copies([ids] if isinstance(ids, str) else ids)
    if kind == "ligand":
        ccd, file = molecule.get("ccd"), molecule.get("file")
        draft.add_ligand(
            place,
            copies,
            ccd=[ccd] if isinstance(ccd, str) else ccd,
            smiles=molecule.get("smiles"),
            file=open_document(place.child("file"), file) if file else None,
        )
        return
    msa, paired = molecule.get("msa"), molecule.get("paired_msa")
    spots = place.child("modifications")
    draft.add_polymer(
        kind,
        place,
        molecule["sequence"],
        copies,
        modifications=[
            (change["position"], change["ccd"], spots.child(i))
            for i, change in enumerate(molecule.get("modifications", []))
        ],
        cyclic=molecule.get("cyclic", False),
        refuse_msa=msa == "empty",
        msa=open_document(place.child("msa"), msa) if msa and msa != "empty" else None,
        paired_msa=open_document(place.child("paired_msa"), paired) if paired else None,
    )


def _add_bonds(draft: Draft, job: dict[str, Any], place: Place) -> None:
    for i, (first, second) in enumerate(job.get("bonds", [])):
        draft.add_bond(place.child("bonds").child(i), _atom(first), _atom(second))
    for i, constraint in enumerate(job.get("constraints", [])):
        for kind, details in constraint.items():
            spot = place.child("constraints").child(i).child(kind)
            if kind == "bond":
                draft.add_bond(spot, _atom(details["atom1"]), _atom(details["atom2"]))
            else:
                draft.warn(spot, f"{kind} constraints are not supported; it is not used")


def _atom(written: list[Any]) -> AtomRef:
    chain, position, atom = written
    return AtomRef(chain=chain, position=position, atom=atom.strip())


def _add_template(draft: Draft, template: dict[str, Any], place: Place) -> None:
    kind = "cif" if "cif" in template else "pdb"
    document = open_document(place.child(kind), template[kind])
    if template.get("force"):
        draft.warn(place, "'force' is not supported; the template is used as any other")
    chains, sources = (
        [value] if isinstance(value, str) else value
        for value in (template.get("chain_id"), template.get("template_id"))
    )
    if sources is not None and len(sources) != len(chains or []):
        raise place.error(
            f"{len(sources)} template_id for {len(chains or [])} chain_id",
            expected="one template_id for each chain_id",
        )
    if chains is None:
        targets = [(number, None) for number in draft.proteins()]
    else:
        named = sources or [None] * len(chains)
        targets = [
            (draft.molecule_of(chain, place), source)
            for chain, source in zip(chains, named, strict=True)
        ]
    for number, source in dict.fromkeys(targets):
        if number not in draft.proteins():
            raise place.error("a template for a chain that is not a protein", todo="remove it")
        draft.add_template(TemplateSource(document=document, chain=source), number)
