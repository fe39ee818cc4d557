"""The input stored beside golden features, read as Protenix reads it.

Where Protenix and we differ on purpose (see `golden_features`), what is read here is what makes all
else comparable: equal entries stay entities of their own, a lone residue is a polymer, and leaving
atoms are those that the reference chose.
"""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from seedfold.data_pipeline import components
from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.msa import ChainMsa, read_msa
from seedfold.data_pipeline.query import Document, Entity, Query
from seedfold.data_pipeline.structure import Structure, StructureBuilder


@contextmanager
def golden_query(folder: Path) -> Iterator[Query]:
    """The stored input, whose files can be read as long as the context lasts."""
    job = _job(folder)
    alone = [{"name": "one", "sequences": [entry]} for entry in job["sequences"]]
    with tempfile.TemporaryDirectory() as directory:
        for child in folder.iterdir():
            (Path(directory) / child.name).symlink_to(child.resolve())
        path = Path(directory) / "job-input.json"
        path.write_text(json.dumps([job, *alone]))
        query, *entries = read_queries(path)
        yield _unmerged(query, [entry.entities[0] for entry in entries])


def read_alignments(query: Query) -> dict[int, ChainMsa]:
    """The alignments of a query by entity; without one, the letters that the user wrote."""
    found = {}
    for i, entity in enumerate(query.entities):
        if entity.sequence is None:
            continue
        if not (entity.msa or entity.paired_msa):
            alone = Document(name="query alone", text=f">query\n{entity.sequence}\n")
            entity = replace(entity, msa=alone)
        paired, unpaired = (
            None if document is None else read_msa(document, entity.sequence, entity.kind)
            for document in (entity.paired_msa, entity.msa)
        )
        found[i] = ChainMsa(paired=paired, unpaired=unpaired)
    return found


def misaligned(query: Query, folder: Path) -> list[int]:
    """Entities whose alignment in the reference is another one's, or that have none."""
    is_ion = ["ion" in entry for entry in _job(folder)["sequences"]]
    first = is_ion.index(True) if any(is_ion) else len(is_ion)
    lone = (i for i, e in enumerate(query.entities) if e.ccd and e.kind != "ligand")
    return [*lone, *range(first, len(is_ion))]


def golden_structure(query: Query, golden: dict[str, np.ndarray]) -> Structure:
    """Our structure of `query`, but for leaving atoms with those that the reference kept."""
    uid = golden["ref_space_uid"]
    starts = [*np.flatnonzero(np.diff(uid, prepend=-1)).tolist(), len(uid)]
    chars = (golden["ref_atom_name_chars"].clip(0, 63) + 32).astype(np.uint8)
    names = [row.tobytes().decode() for row in chars]
    kept = [{name.strip() for name in names[a:b]} for a, b in pairwise(starts)]
    return _ReferenceBuilder(query, kept).build()


class _ReferenceBuilder(StructureBuilder):
    """Keeps the atoms that the reference kept where the choice is arbitrary, or its own."""

    def __init__(self, query: Query, kept: list[set[str]]):
        super().__init__(query)
        self.kept = kept

    def check_bonds(self) -> None:
        """Checks our own choice, then takes the reference's."""
        super().check_bonds()
        residues = [residue for chain in self.residues for residue in chain]
        if len(residues) != len(self.kept):
            return
        for residue, after, kept in zip(residues, [*residues[1:], None], self.kept, strict=True):
            part = residue.component
            theirs = np.isin(part.atom_names, list(kept))
            extra = np.flatnonzero(theirs & ~residue.keep).tolist()
            crowded = list(residue.condensed)
            if after is not None and after.component.code == "NME":
                crowded += [i for i, name in enumerate(part.atom_names) if name == "OXT"]
            choice = any(len(groups) > 1 for groups in part.leaving_groups.values())
            choice &= len(kept) == residue.keep.sum()
            if theirs.sum() == len(kept) and extra and (choice or {*extra} <= {*crowded}):
                residue.keep = theirs


def _job(folder: Path) -> dict:
    return json.loads((folder / "config.json").read_text())["input_json"]


def _unmerged(query: Query, entries: list[Entity]) -> Query:
    """Like Protenix counts every entry of the input as an entity, equal ones too."""
    left = {_content(entity): list(entity.chains) for entity in query.entities}
    entities = []
    for entry in entries:
        chains = left[_content(entry)]
        n = len(entry.chains)
        entities.append(_as_protenix_sees(replace(entry, chains=tuple(chains[:n]))))
        del chains[:n]
    return replace(query, entities=tuple(entities))


def _content(entity: Entity) -> Entity:
    """What equal entries share."""
    unnamed = {
        key: document and replace(document, name="")
        for key, document in (("msa", entity.msa), ("paired_msa", entity.paired_msa))
    }
    return replace(entity, chains=(), where="", **unnamed)


def _as_protenix_sees(entity: Entity) -> Entity:
    """A lone residue given as a ligand becomes a polymer."""
    if entity.ccd is None or len(entity.ccd) > 1 or not components.exists(entity.ccd[0]):
        return entity
    return replace(entity, kind=components.component(entity.ccd[0]).kind)
