"""FASTA: plain, with Boltz's headers (``>A|protein|a.a3m``) or Chai-1's (``>protein|name=x``).

Told apart record by record. In a plain header the type may be stated: ``>A dna`` (nothing else on
the line), ``type=dna``, ``mol:protein`` (as the PDB writes); else it is guessed by the letters
(`sequence.guess_kind`), with a warning where that is unsure. Chain ids of plain records: ``Chain
A`` or ``Chains A, B`` between bars (as the PDB writes), else a first word of one to four capitals
or digits, else A, B, C in order. ``SEQ1:SEQ2`` in one record are two chains (as in ColabFold).
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path

from Bio.SeqIO.FastaIO import SimpleFastaParser

from seedfold.data_pipeline.chemistry import Kind
from seedfold.data_pipeline.dialects.draft import Copies, Draft
from seedfold.data_pipeline.dialects.glycan import Link, parse_glycan
from seedfold.data_pipeline.dialects.place import Place, open_document
from seedfold.data_pipeline.dialects.schema import suggest
from seedfold.data_pipeline.dialects.sequence import guess_kind
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import Query

_POLYMERS: dict[str, Kind] = {"protein": "protein", "dna": "dna", "rna": "rna"}
_BOLTZ_TYPES = {*_POLYMERS, "smiles", "ccd"}
_CHAI_TYPES = {*_POLYMERS, "ligand", "glycan"}
_STATED = re.compile(r"(?:^|[\s|])(?:type=|mol:)(\w+)", re.IGNORECASE)
_CHAINS = re.compile(r"\|\s*Chains? ([^|]+?)\s*(?:\||$)", re.IGNORECASE)
_CHAIN_ID = re.compile(r"[A-Z0-9]{1,4}")


@dataclass(frozen=True)
class _Record:
    place: Place
    header: str
    content: str
    type: str | None
    """protein, dna, rna, smiles, ccd or glycan; None where the header does not say."""
    ids: list[str] | None
    msa: str | None
    name: str
    chains: tuple[str, ...] = ()
    """The plain sequences of one record, cut at colons."""


def read_fasta(text: str, file: Path, *, each: bool = False) -> list[Query | InputError]:
    """Reads one complex, or with `each` one query a record; then a bad record is its error."""
    parts = _split(text, file)
    if each:
        return [_alone(part, file) for part in parts]
    return [_query(file.stem, Place(file), [_record(*part) for part in parts], each=False)]


def _alone(part: tuple[Place, int, str, str], file: Path) -> Query | InputError:
    try:
        record = _record(*part)
        return _query(record.name, Place(file), [record], each=True)
    except InputError as error:
        return error


def _split(text: str, file: Path) -> list[tuple[Place, int, str, str]]:
    """Place, number, header and sequence of every record."""
    lines = text.lstrip().split("\n")
    skipped = text[: len(text) - len(text.lstrip())].count("\n")
    starts = [i + skipped + 1 for i, line in enumerate(lines) if line.startswith(">")]
    parsed = SimpleFastaParser(iter(f"{line}\n" for line in lines))
    return [
        (Place(file, line=line), number, header.strip(), content)
        for number, (line, (header, content)) in enumerate(zip(starts, parsed, strict=True), 1)
    ]


def _record(place: Place, number: int, header: str, content: str) -> _Record:
    fields = [field.strip() for field in header.split("|")]
    word = header.split()[0] if header else str(number)
    place = replace(place, label=f"record {word[:40]}")
    kinds = [field.lower() for field in fields[:2]]
    record = _Record(place, header, content, None, None, None, word)
    if not content.strip(" *"):
        raise place.error(
            "a record without a sequence", todo="is the file truncated, or a line missing?"
        )
    if len(kinds) == 2 and kinds[1] in _BOLTZ_TYPES and fields[0]:
        return _boltz_record(replace(record, type=kinds[1]), fields)
    if kinds and kinds[0] in _CHAI_TYPES:
        return _chai_record(replace(record, type=kinds[0]), fields)
    return _plain_record(record)


def _boltz_record(record: _Record, fields: list[str]) -> _Record:
    chain, msa = fields[0], fields[2] if len(fields) > 2 else ""
    place = replace(record.place, label=f"chain {chain}")
    if len(fields) > 3 or (msa and record.type != "protein"):
        raise place.error(
            f"too many fields in the header '>{record.header}'",
            expected=">CHAIN|TYPE, and for a protein >CHAIN|protein|alignment.a3m",
        )
    return replace(record, place=place, ids=[chain], msa=msa or None, name=chain)


def _chai_record(record: _Record, fields: list[str]) -> _Record:
    pairs = [field.partition("=") for field in fields[1:] if "=" in field]
    options = {key.strip(): value.strip() for key, _, value in pairs}
    for option in options:
        if option != "name":
            raise record.place.error(
                f"unknown option '{option}' in the header",
                expected=f">{record.type}|name=anything",
                todo=suggest(option, ["name"]),
            )
    name = options.get("name") or next((field for field in fields[1:] if field), record.name)
    return replace(record, type={"ligand": "smiles"}.get(record.type or "", record.type), name=name)


def _plain_record(record: _Record) -> _Record:
    words = record.header.split()
    stated = _STATED.search(record.header)
    kind = stated[1] if stated else words[1] if len(words) == 2 else ""
    known = (*_POLYMERS, "na")
    if stated and kind.lower() not in known and (near := suggest(kind, _POLYMERS)):
        raise record.place.error(
            f"the type '{kind}' in the header", expected="protein, dna or rna", todo=near
        )
    chains = tuple(record.content.split(":"))
    ids = None
    if listed := _CHAINS.search(record.header):
        ids = [part.split("[")[0].strip() for part in listed[1].split(",")]
    elif words and _CHAIN_ID.fullmatch(words[0]) and len(chains) == 1:
        ids = [words[0]]
    if ids and len(chains) == 1:
        record = replace(record, place=replace(record.place, label=f"chain {ids[0]}"))
    return replace(record, type=_POLYMERS.get(kind.lower()), ids=ids, chains=chains)


def _query(name: str, place: Place, records: list[_Record], *, each: bool) -> Query:
    draft = Draft(name, place)
    untyped = [part for record in records if not record.type for part in record.chains]
    rna_around = any(guess_kind(part)[0] == "rna" for part in untyped) or any(
        record.type == "rna" for record in records
    )
    glycans: list[tuple[int, list[Link], Place]] = []
    for record in records:
        copies = Copies() if each else Copies(record.ids)
        if record.type == "smiles":
            draft.add_ligand(record.place, copies, smiles=record.content)
        elif record.type == "ccd":
            draft.add_ligand(record.place, copies, ccd=record.content.split("_"))
        elif record.type == "glycan":
            codes, links = parse_glycan(record.content, record.place)
            number = draft.add_ligand(record.place, copies, ccd=codes)
            glycans.append((number, links, record.place))
        else:
            _add_polymer(draft, record, copies, rna_around)
    draft.name_chains()
    for number, links, spot in glycans:
        draft.add_links(spot, number, links)
    return draft.query()


def _add_polymer(draft: Draft, record: _Record, copies: Copies, rna_around: bool) -> None:
    msa = None
    if record.msa not in (None, "empty"):
        msa = open_document(record.place, record.msa)
    for part in record.chains or (record.content,):
        kind, doubt = _POLYMERS.get(record.type or ""), ""
        if kind is None:
            kind, doubt = guess_kind(part, rna_around=rna_around)
        if doubt:
            draft.warn(
                record.place,
                f"{doubt} is read as {kind.upper()}; "
                "if it is something else, add type=protein, type=dna or type=rna to the header",
            )
        draft.add_polymer(
            kind, record.place, part, copies, msa=msa, refuse_msa=record.msa == "empty"
        )
