"""Job lists of the web servers: AlphaFold Server, Protenix (which extends it) and SeedFold.

AlphaFold Server: github.com/google-deepmind/alphafold, server/README.md. Protenix:
docs/infer_json_format.md there; also its older names (``left_entity``, ``precomputed_msa_dir``).
SeedFold: lists of ``{entity, copies, sequence}``, bare or as ``entities`` of named jobs.

Deviations: relative paths start at the folder of the input file (in Protenix at the working
directory); ``templatesPath`` (a list of search hits) and constraints are not used. A server glycan
says no linkages, so only a single sugar on Asn, Ser or Thr is taken.
"""

import re
from pathlib import Path
from typing import Any

from seedfold.data_pipeline.chemistry import Kind
from seedfold.data_pipeline.dialects.draft import Copies, Draft
from seedfold.data_pipeline.dialects.place import Place, open_document
from seedfold.data_pipeline.dialects.schema import (
    Schema,
    array,
    check,
    mapping,
    one_key,
    text,
    text_or_list,
)
from seedfold.data_pipeline.query import AtomRef, Document, Query

_ANY: Schema = {"type": "string"}
_INTEGER: Schema = {"type": "integer"}
_COUNT: Schema = {"type": "integer", "minimum": 1, "maximum": 10_000}
_COPIES: dict[str, Schema] = {
    "count": _COUNT,
    "id": text_or_list("List of chain ids, as many as count"),
}
_NUMBER: Schema = {
    "type": ["integer", "string"],
    "pattern": r"^[0-9]{1,10}$",
    "description": "A number",
}
_ATOM: Schema = {"type": ["string", "integer"], "pattern": r"\S", "description": "Atom name"}
_KINDS: dict[str, Kind] = {"proteinChain": "protein", "dnaSequence": "dna", "rnaSequence": "rna"}
_MORE_LETTERS: dict[Kind, dict[str, str]] = {
    "protein": {},
    "dna": {"X": "N", "I": "[DI]", "U": "[DU]"},
    "rna": {"X": "N", "I": "[I]"},
}
"""What the letters stand for that Protenix has and other formats have not."""
_LETTERS = re.compile(r"\[[^\]]*\]|\([^)]*\)|.", re.DOTALL)
_GLYCAN_ATOM = {"N": "ND2", "S": "OG", "T": "OG1"}


def _polymer(kind: str, position: str, **optional: Schema) -> Schema:
    change = mapping({kind: text("CCD code"), position: _INTEGER})
    return mapping(
        {"sequence": text("One-letter codes")},
        {"modifications": array(change), **_COPIES, **optional},
    )


_MSA_PATHS = {"pairedMsaPath": text("Path"), "unpairedMsaPath": text("Path")}
_PROTEIN = _polymer(
    "ptmType",
    "ptmPosition",
    **_MSA_PATHS,
    msa=mapping(
        {},
        {"precomputed_msa_dir": text("Path of a folder"), "pairing_db": _ANY, "search_tool": _ANY},
    ),
    templatesPath=text("Path"),
    glycans=array(mapping({"residues": text("CCD code of a sugar"), "position": _INTEGER})),
    useStructureTemplate={"type": "boolean"},
    maxTemplateDate=_ANY,
)
_NUCLEIC = _polymer("modificationType", "basePosition", **_MSA_PATHS)


def _bond_end(number: int, old: str) -> tuple[dict[str, Schema], dict[str, str]]:
    keys = {"entity": _NUMBER, "copy": _NUMBER, "position": _NUMBER, "atom": _ATOM}
    renamed = {f"{old}_{key}": f"{key}{number}" for key in keys}
    return {f"{key}{number}": schema for key, schema in keys.items()}, renamed


_ENDS = [_bond_end(1, "left"), _bond_end(2, "right")]
_OLD_NAMES = _ENDS[0][1] | _ENDS[1][1]
_BOND = mapping(
    {k: v for end, _ in _ENDS for k, v in end.items() if not k.startswith("copy")},
    {k: v for end, _ in _ENDS for k, v in end.items() if k.startswith("copy")},
)
_JOB = mapping(
    {
        "sequences": array(
            one_key(
                {
                    "proteinChain": _PROTEIN,
                    "dnaSequence": _NUCLEIC,
                    "rnaSequence": _NUCLEIC,
                    "ligand": mapping(
                        {"ligand": text("CCD_ code, FILE_ path or SMILES")}, dict(_COPIES)
                    ),
                    "ion": mapping({"ion": text("CCD code")}, dict(_COPIES)),
                }
            ),
            minItems=1,
        )
    },
    {
        "name": text("Name of the job"),
        "modelSeeds": array({**_NUMBER, "minimum": 0}, "Model seeds"),
        "covalent_bonds": array(_BOND),
        "constraint": {"type": ["object", "array"]},
        "dialect": {**_ANY, "enum": ["alphafoldserver"]},
        "version": {"type": "integer", "enum": [1]},
        "assembly_id": {"type": ["string", "integer"]},
    },
)
_ENTITY_KINDS = {
    "protein": "protein",
    "dna": "dna",
    "rna": "rna",
    "ligand/ion-ccd": "ccd",
    "ligand-ccd": "ccd",
    "ion-ccd": "ccd",
    "ligand-smiles": "smiles",
}
_ENTITIES = array(
    mapping(
        {"entity": text("Protein, DNA, RNA, Ligand/Ion-CCD or Ligand-Smiles"), "sequence": text()},
        {"copies": _COUNT},
    ),
    minItems=1,
)
_SEEDFOLD_JOB = mapping({"entities": _ENTITIES}, {"job_name": text("Name"), "model": _ANY})


def read_server_job(data: Any, place: Place, name: str) -> Query:
    """Reads one job of AlphaFold Server or Protenix."""
    job = check(_with_new_names(data), _JOB, place)
    draft = Draft(job.get("name", name), place)
    sequences = place.child("sequences")
    for i, entry in enumerate(job["sequences"]):
        for kind, molecule in entry.items():
            _add_molecule(draft, kind, molecule, sequences.child(i).child(kind))
    draft.name_chains()
    for i, entry in enumerate(job["sequences"]):
        for j, glycan in enumerate(entry.get("proteinChain", {}).get("glycans", [])):
            spot = sequences.child(i).child("proteinChain").child("glycans").child(j)
            _add_glycan(draft, i, glycan, spot)
    for i, bond in enumerate(job.get("covalent_bonds", [])):
        _add_bond(draft, bond, len(job["sequences"]), place.child("covalent_bonds").child(i))
    if job.get("constraint"):
        draft.warn(place.child("constraint"), "constraints are not supported; it is not used")
    return draft.query([int(seed) for seed in job.get("modelSeeds", [])])


def read_seedfold_job(data: Any, place: Place, name: str) -> Query:
    """Reads one job of the SeedFold server: a bare list of entities, or a named job."""
    if isinstance(data, list):
        job: dict[str, Any] = {"entities": check(data, _ENTITIES, place)}
        spots = place
    else:
        job, spots = check(data, _SEEDFOLD_JOB, place), place.child("entities")
    draft = Draft(job.get("job_name", name), place)
    for i, molecule in enumerate(job["entities"]):
        spot, copies = spots.child(i), Copies(count=molecule.get("copies", 1))
        kind = _ENTITY_KINDS.get(molecule["entity"].lower())
        if kind is None:
            raise spot.error(
                f"the entity '{molecule['entity']}'",
                expected="Protein, DNA, RNA, Ligand/Ion-CCD or Ligand-Smiles",
            )
        written = molecule["sequence"]
        if kind == "ccd":
            draft.add_ligand(spot, copies, ccd=[written])
        elif kind == "smiles":
            draft.add_ligand(spot, copies, smiles=written)
        else:
            draft.add_polymer(kind, spot, written, copies)
    return draft.query()


def _with_new_names(data: Any) -> Any:
    """Returns the job with the older names of Protenix's bonds replaced."""
    bonds = data.get("covalent_bonds") if isinstance(data, dict) else None
    if not isinstance(bonds, list):
        return data
    renamed = [
        {_OLD_NAMES.get(key, key): value for key, value in bond.items()}
        if isinstance(bond, dict)
        else bond
        for bond in bonds
    ]
    return {**data, "covalent_bonds": renamed}


def _copies(molecule: dict[str, Any], place: Place) -> Copies:
    ids, count = molecule.get("id"), molecule.get("count", 1)
    ids = [ids] if isinstance(ids, str) else ids
    if ids is not None and len(ids) != molecule.get("count", len(ids)):
        raise place.error(f"{len(ids)} ids for a count of {count}", expected="one id for each copy")
    return Copies(ids, count)


def _add_molecule(draft: Draft, key: str, molecule: dict[str, Any], place: Place) -> None:
    copies = _copies(molecule, place)
    if key == "ion":
        draft.add_ligand(place, copies, ccd=[molecule["ion"]])
    elif key == "ligand":
        _add_ligand(draft, molecule["ligand"], copies, place)
    else:
        paired, unpaired = _alignments(molecule, place)
        spots = place.child("modifications")
        kind = _KINDS[key]
        draft.add_polymer(
            kind,
            place,
            _LETTERS.sub(lambda m: _MORE_LETTERS[kind].get(m[0], m[0]), molecule["sequence"]),
            copies,
            modifications=[
                (
                    change["ptmPosition" if key == "proteinChain" else "basePosition"],
                    change["ptmType" if key == "proteinChain" else "modificationType"],
                    spots.child(i),
                )
                for i, change in enumerate(molecule.get("modifications", []))
            ],
            keep_unpaired=True,
            msa=unpaired,
            paired_msa=paired,
        )
        if molecule.get("templatesPath"):
            spot = place.child("templatesPath")
            draft.warn(spot, "lists of template hits are not read; templates are not used")
        if molecule.get("useStructureTemplate") or "maxTemplateDate" in molecule:
            draft.warn(place, "templates are not searched for; none is used")


def _add_ligand(draft: Draft, written: str, copies: Copies, place: Place) -> None:
    if written.startswith("CCD_"):
        draft.add_ligand(place, copies, ccd=written.removeprefix("CCD_").split("_"))
    elif written.startswith("FILE_"):
        path = written.removeprefix("FILE_")
        if Path(path).suffix.lower() not in (".sdf", ".mol"):
            raise place.error(
                f"the ligand file '{path}'", expected="an SDF or MOL file", todo="convert it"
            )
        draft.add_ligand(place, copies, file=open_document(place, path))
    else:
        draft.add_ligand(place, copies, smiles=written)


def _alignments(molecule: dict[str, Any], place: Place) -> tuple[Document | None, Document | None]:
    """Returns the paired and the unpaired alignment; a folder may hold either, gzipped or not."""
    found: list[Document | None] = []
    folder = molecule.get("msa", {}).get("precomputed_msa_dir")
    for key, name in [("pairedMsaPath", "pairing"), ("unpairedMsaPath", "non_pairing")]:
        written = molecule.get(key)
        if not written and folder:
            candidates = [f"{folder}/{name}.a3m", f"{folder}/{name}.a3m.gz"]
            files = [path for path in candidates if (place.file.parent / path).is_file()]
            written = next(iter(files), None)
        found.append(open_document(place.child(key), written) if written else None)
    if folder and found == [None, None]:
        raise place.child("msa").error(
            f"no alignment in the folder '{folder}' (looked for {place.file.parent / folder})",
            expected="pairing.a3m or non_pairing.a3m in it",
            todo="give the path relative to the input file, or an absolute one",
        )
    return found[0], found[1]


def _add_glycan(draft: Draft, number: int, glycan: dict[str, Any], place: Place) -> None:
    code, position = glycan["residues"], glycan["position"]
    sequence = draft.entity(number).sequence or ""
    letter = sequence[position - 1 : position] if position > 0 else ""
    if "(" in code or letter not in _GLYCAN_ATOM:
        raise place.error(
            f"the glycan '{code}' on residue {position} ({letter or 'outside the sequence'})",
            expected="a single sugar on N, S or T, since this format says no linkages",
            todo="write the glycan as a ligand of several CCD codes with bonds",
        )
    for chain in draft.chains_of(number):
        ligand = draft.add_ligand(place, Copies(), ccd=[code])
        draft.name_chains()
        draft.add_bond(
            place,
            AtomRef(chain=chain, position=position, atom=_GLYCAN_ATOM[letter]),
            AtomRef(chain=draft.chains_of(ligand)[0], position=1, atom="C1"),
        )


def _add_bond(draft: Draft, bond: dict[str, Any], n_entities: int, place: Place) -> None:
    ends: list[list[AtomRef]] = []
    for side in ("1", "2"):
        entity, copy = int(bond[f"entity{side}"]), bond.get(f"copy{side}")
        if not 1 <= entity <= n_entities:
            raise place.error(
                f"a bond of entity {entity}", expected=f"an entity from 1 to {n_entities}"
            )
        chains = draft.chains_of(entity - 1)
        if copy is not None:
            if not 1 <= int(copy) <= len(chains):
                raise place.error(
                    f"a bond of copy {copy} of entity {entity}",
                    expected=f"a copy from 1 to {len(chains)}",
                )
            chains = [chains[int(copy) - 1]]
        position, atom = int(bond[f"position{side}"]), str(bond[f"atom{side}"])
        ends.append([AtomRef(chain=chain, position=position, atom=atom) for chain in chains])
    if len(ends[0]) != len(ends[1]):
        raise place.error(
            f"a bond between {len(ends[0])} copies and {len(ends[1])} copies",
            expected="equal numbers of copies, or copy1 and copy2 given",
        )
    for first, second in zip(*ends, strict=True):
        draft.add_bond(place, first, second)
