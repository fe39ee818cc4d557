"""The JSON of AlphaFold 3 (dialect ``alphafold3``, versions 1 to 4; docs/input.md there).

Deviations: chain ids may be any text or left out; seeds may be left out; user-defined components
are not read; alignments and templates that AlphaFold 3 would search for are simply not there.
"""

from typing import Any

from seedfold.data_pipeline.chemistry import Kind
from seedfold.data_pipeline.dialects.draft import Copies, Draft
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
from seedfold.data_pipeline.query import AtomRef, Document, Query, TemplateSource

_ANY: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_ID = text_or_list("Chain id, or a list of ids")
_NUCLEIC_CHANGES = array(mapping({"modificationType": text("CCD code"), "basePosition": _INTEGER}))
_PROTEIN_CHANGES = array(mapping({"ptmType": text("CCD code"), "ptmPosition": _INTEGER}))
_TEMPLATE = mapping(
    {
        "queryIndices": array({"type": "integer", "minimum": 0}),
        "templateIndices": array({"type": "integer", "minimum": 0}),
    },
    {"mmcif": text("mmCIF"), "mmcifPath": text("Path of an mmCIF file")},
    oneOf=exactly_one("mmcif", "mmcifPath"),
)
_ATOM: Schema = {
    "type": "array",
    "description": "Chain, residue, atom name",
    "prefixItems": [text("Chain id"), _INTEGER, text("Atom name")],
    "minItems": 3,
    "maxItems": 3,
}


def _not_both(*names: str) -> Schema:
    return {"anyOf": [{"required": [name, f"{name}Path"]} for name in names]}


def _polymer(changes: Schema, *alignments: str, **optional: Schema) -> Schema:
    paths = {f"{name}Path": text("Path of an a3m file") for name in alignments}
    common = {"id": _ID, "modifications": changes, "description": _ANY}
    return mapping(
        {"sequence": text("One-letter codes")},
        {**common, **dict.fromkeys(alignments, _ANY), **paths, **optional},
        **{"not": _not_both(*alignments)},
    )


_QUERY = mapping(
    {
        "sequences": array(
            one_key(
                {
                    "protein": _polymer(
                        _PROTEIN_CHANGES, "unpairedMsa", "pairedMsa", templates=array(_TEMPLATE)
                    ),
                    "rna": _polymer(_NUCLEIC_CHANGES, "unpairedMsa"),
                    "dna": _polymer(_NUCLEIC_CHANGES),
                    "ligand": mapping(
                        {},
                        {
                            "id": _ID,
                            "ccdCodes": text_or_list("CCD codes"),
                            "smiles": text("SMILES"),
                            "description": _ANY,
                        },
                        oneOf=exactly_one("ccdCodes", "smiles"),
                    ),
                }
            ),
            minItems=1,
        )
    },
    {
        "dialect": {**_ANY, "enum": ["alphafold3"]},
        "version": {"type": "integer", "enum": [1, 2, 3, 4]},
        "name": text("Name of the job"),
        "modelSeeds": array({"type": "integer", "minimum": 0}),
        "bondedAtomPairs": array(array(_ATOM, minItems=2, maxItems=2)),
        "userCCD": _ANY,
        "userCCDPath": _ANY,
        "description": _ANY,
    },
)


def read_alphafold3(data: Any, place: Place, name: str) -> Query:
    """Reads one query from its parsed JSON."""
    job = check(data, _QUERY, place)
    draft = Draft(job.get("name", name), place)
    for i, entry in enumerate(job["sequences"]):
        for kind, molecule in entry.items():
            spot = place.child("sequences").child(i).child(kind)
            if kind == "ligand":
                ccd = molecule.get("ccdCodes")
                draft.add_ligand(
                    spot,
                    _copies(molecule),
                    ccd=[ccd] if isinstance(ccd, str) else ccd,
                    smiles=molecule.get("smiles"),
                )
            else:
                _add_polymer(draft, kind, molecule, spot)
    draft.name_chains()
    for i, pair in enumerate(job.get("bondedAtomPairs", [])):
        first, second = (
            AtomRef(chain=chain, position=position, atom=atom) for chain, position, atom in pair
        )
        draft.add_bond(place.child("bondedAtomPairs").child(i), first, second)
    for key in ("userCCD", "userCCDPath"):
        if job.get(key):
            draft.warn(place.child(key), "user-defined components are not read; give SMILES or SDF")
    return draft.query(job.get("modelSeeds", []))


def _copies(molecule: dict[str, Any]) -> Copies:
    ids = molecule.get("id")
    return Copies([ids] if isinstance(ids, str) else ids)


def _add_polymer(draft: Draft, kind: Kind, molecule: dict[str, Any], place: Place) -> None:
    unpaired = _alignment(molecule, "unpairedMsa", place)
    paired = _alignment(molecule, "pairedMsa", place)
    spots = place.child("modifications")
    draft.add_polymer(
        kind,
        place,
        molecule["sequence"],
        _copies(molecule),
        modifications=[
            (
                change.get("ptmPosition") or change.get("basePosition", 0),
                change.get("ptmType") or change["modificationType"],
                spots.child(i),
            )
            for i, change in enumerate(molecule.get("modifications", []))
        ],
        refuse_msa=molecule.get("unpairedMsa") == "" and paired is None,
        keep_unpaired=True,
        msa=unpaired,
        paired_msa=paired,
        templates=tuple(
            _template(template, place.child("templates").child(i))
            for i, template in enumerate(molecule.get("templates", []))
        ),
    )


def _alignment(molecule: dict[str, Any], key: str, place: Place) -> Document | None:
    if path := molecule.get(f"{key}Path"):
        return open_document(place.child(f"{key}Path"), path)
    text_ = molecule.get(key, "")
    return Document(name=str(place.child(key)), text=text_) if text_.strip() else None


def _template(template: dict[str, Any], place: Place) -> TemplateSource:
    query, hit = template["queryIndices"], template["templateIndices"]
    if len(query) != len(hit):
        raise place.error(
            f"{len(query)} queryIndices and {len(hit)} templateIndices",
            expected="two lists of the same length",
        )
    if path := template.get("mmcifPath"):
        document = open_document(place.child("mmcifPath"), path)
    else:
        document = Document(name=str(place.child("mmcif")), text=template["mmcif"])
    pairs = tuple((i + 1, j + 1) for i, j in zip(query, hit, strict=True))
    return TemplateSource(document=document, mapping=pairs)
