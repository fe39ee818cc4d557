"""Input dialects: `read_queries` turns a file of any of them into `Query` objects.

The dialect is told by the content, not by the suffix:

- a first line that starts with ``>``: FASTA (`fasta`);
- JSON or YAML with ``sequences`` of protein, dna, rna, ligand: the native form, which is Boltz's
  with additions (`native`); with a key of AlphaFold 3's, its JSON (`alphafold3`);
- ``sequences`` of proteinChain, dnaSequence, ..: AlphaFold Server and Protenix (`servers`);
- lists of ``entity``, or jobs with ``entities``: the SeedFold server (`servers`).

A file may hold a list of jobs. Checks that need chemistry are left to `structure`.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from seedfold.data_pipeline.dialects.alphafold3 import read_alphafold3
from seedfold.data_pipeline.dialects.fasta import read_fasta
from seedfold.data_pipeline.dialects.native import json_schema, read_native
from seedfold.data_pipeline.dialects.place import (
    Place,
    describe,
    load_json,
    load_yaml,
    read_text,
)
from seedfold.data_pipeline.dialects.schema import suggest
from seedfold.data_pipeline.dialects.servers import read_seedfold_job, read_server_job
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import Query

__all__ = ["json_schema", "read_jobs", "read_queries"]

_Reader = Callable[[Any, Place, str], Query]

_ALPHAFOLD3_KEYS = {"modelSeeds", "bondedAtomPairs", "userCCD", "userCCDPath"}
_ALPHAFOLD3_MOLECULE_KEYS = {"ccdCodes", "unpairedMsa", "unpairedMsaPath", "pairedMsa"}
_SERVER_MOLECULES = {"proteinChain", "dnaSequence", "rnaSequence", "ion"}
_DIALECTS: dict[str, _Reader] = {
    "alphafold3": read_alphafold3,
    "alphafoldserver": read_server_job,
}
_FASTA_SUFFIXES = (".fasta", ".fa", ".faa", ".fna", ".fas")
_STRUCTURE_FILE = re.compile(r"data_|HEADER |ATOM  |CRYST1|REMARK |loop_")


def read_queries(path: Path, *, each: bool = False) -> list[Query]:
    """Reads all queries of one input file.

    Args:
        path: FASTA, YAML or JSON file.
        each: Take every record of a FASTA file as a query of its own, not as a chain of one.

    Raises:
        InputError: With the place, what was found, what was expected and what to do.
    """
    jobs = read_jobs(path, each=each)
    for job in jobs:
        if isinstance(job, InputError):
            raise job
    return [job for job in jobs if isinstance(job, Query)]


def read_jobs(path: Path, *, each: bool = False) -> list[Query | InputError]:
    """Reads all queries of one input file; in a list of jobs a bad one is its error.

    Raises:
        InputError: if the file as a whole cannot be read.
    """
    text = read_text(path)
    start = text.lstrip()
    if start.startswith(">"):
        queries = read_fasta(text, path, each=each)
    else:
        _refuse_other_formats(start, Place(path))
        yaml_named = path.suffix.lower() in (".yaml", ".yml")
        load = load_json if start[0] in "{[" and not yaml_named else load_yaml
        data, place = load(text, path)
        queries = _read_jobs(data, place)
    return _with_unique_names(queries)


def _refuse_other_formats(start: str, place: Place) -> None:
    suffix = place.file.suffix.lower()
    if _STRUCTURE_FILE.match(start):
        raise place.error(
            "this looks like a structure file (mmCIF or PDB)", expected="FASTA, YAML or JSON"
        )
    if start[0] in "{[":
        return
    if suffix in _FASTA_SUFFIXES or re.fullmatch(r"[A-Za-z*\s]+", start):
        raise place.error(
            f"the first line is not a FASTA header but {describe(start.splitlines()[0])}",
            expected="a line that starts with '>'",
            todo="put a line such as '>A' before the sequence",
        )
    if suffix == ".json":
        raise place.error(f"JSON does not start with '{start[0]}'", expected="{ or [")


def _read_jobs(data: Any, place: Place) -> list[Query | InputError]:
    stem = place.file.stem
    if not isinstance(data, list):
        return [_reader(data, place)(data, place, stem)]
    if not data:
        raise place.error("an empty list", expected="at least one job")
    if isinstance(data[0], dict) and "entity" in data[0]:
        return [read_seedfold_job(data, place, stem)]
    names = [stem if len(data) == 1 else f"{stem}_{i}" for i in range(1, len(data) + 1)]
    spots = [place.child(i) for i in range(len(data))]
    return [_read_job(*job) for job in zip(data, spots, names, strict=True)]


def _read_job(job: Any, place: Place, name: str) -> Query | InputError:
    try:
        return _reader(job, place)(job, place, name)
    except InputError as error:
        return error


def _reader(job: Any, place: Place) -> _Reader:
    """Tells the dialect of one job."""
    if not isinstance(job, dict):
        raise place.error(describe(job), expected="a mapping with the key 'sequences'")
    if "entities" in job:
        return read_seedfold_job
    if "dialect" in job:
        dialect = job["dialect"]
        if not isinstance(dialect, str) or dialect not in _DIALECTS:
            raise place.child("dialect").error(
                describe(dialect), expected=" or ".join(_DIALECTS), todo=suggest(dialect, _DIALECTS)
            )
        return _DIALECTS[dialect]
    entries = job.get("sequences")
    entries = entries if isinstance(entries, list) else []
    molecules = [entry for entry in entries if isinstance(entry, dict)]
    kinds = {key for molecule in molecules for key in molecule}
    details = [value for molecule in molecules for value in molecule.values()]
    keys = {key for value in details if isinstance(value, dict) for key in value}
    if kinds & _SERVER_MOLECULES or "ligand" in keys:
        return read_server_job
    if _ALPHAFOLD3_KEYS & set(job) or _ALPHAFOLD3_MOLECULE_KEYS & keys:
        return read_alphafold3
    return read_native


def _with_unique_names(queries: list[Query | InputError]) -> list[Query | InputError]:
    """Makes names fit for folders, and different from each other even without regard to case."""
    taken: set[str] = set()
    named: list[Query | InputError] = []
    for query in queries:
        if isinstance(query, InputError):
            named.append(query)
            continue
        safe = re.sub(r"[^\w.+=@-]+", "_", query.name).strip("._")[:100] or "query"
        name, number = safe, 1
        while name.casefold() in taken:
            number += 1
            name = f"{safe}_{number}"
        taken.add(name.casefold())
        named.append(replace(query, name=name))
    return named
