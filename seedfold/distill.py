"""Distillation: sequences -> predicted structures -> filtered training shards.

The loop that makes millions of structures: each work unit is a shard of predictions with their
pLDDT, filtered as any other predicted set is (`data_pipeline.prepare`), so that what it writes is
trained on as it stands. Source: SeedFold's distillation data (arXiv 2512.24354, section 4); its
teacher is AlphaFold 2, ours is any installed model.
"""

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from seedfold.data_pipeline.dialects import read_jobs
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.prepare.entry import Entry, entry_of, example_id
from seedfold.data_pipeline.prepare.isolation import StageError
from seedfold.data_pipeline.prepare.predicted import Predicted, PredictedFilters
from seedfold.data_pipeline.query import Document, Entity, Query
from seedfold.data_pipeline.search.cache import AlignmentCache
from seedfold.data_pipeline.tokens import residue_starts
from seedfold.memory import MemoryExceededError
from seedfold.models import LoadedModel, load_model, pick_device
from seedfold.prediction import Prediction, Prepared, Settings, fold, prepare

SEPARATOR = "|"
"""In an item, between name, kind and sequence."""


@dataclass(frozen=True, kw_only=True)
class DistillRecipe:
    """Folds one sequence and keeps the best of its samples if it is sure enough."""

    name: str
    model: str
    n_samples: int = 1
    n_cycles: int | None = None
    n_steps: int | None = None
    seed: int = 1
    device: str = "auto"
    alignments: bool = True
    """Use the alignment that the cache of searches has for a sequence."""
    filters: PredictedFilters = field(default_factory=PredictedFilters)

    def check(self) -> tuple[str, ...]:
        """Loads the model, which fetches it if it is not here yet; its notes.

        Raises:
            ValueError: if there is no such model or device.
        """
        pick_device(self.device)
        return load_model(self.model).notes

    def __call__(self, item: str) -> Entry:
        """The example of a sequence.

        Raises:
            StageError: if there is none, because of the sequence, of memory or of the filters.
        """
        model = _loaded(self.model, self.device)
        try:
            prepared = prepare(_query(item, self.alignments), model.options)
            best = self._fold(model, prepared)
        except InputError as error:
            raise StageError("predict", str(error)) from error
        except MemoryExceededError as error:
            raise StageError("memory", str(error)) from error
        predicted = _as_predicted(prepared, best, model)
        reason = self.filters.why_not(predicted)
        if reason is not None:
            raise StageError("filter", reason)
        structure = replace(predicted.structure, id=example_id(item.rsplit(SEPARATOR, 2)[0]))
        return entry_of(structure, self.name, predicted.plddt)

    def _fold(self, model: LoadedModel, prepared: Prepared) -> Prediction:
        settings = Settings(
            n_samples=self.n_samples,
            n_cycles=self.n_cycles or model.n_cycles,
            n_steps=self.n_steps or model.n_steps,
            guided=model.guided,
        )
        found = fold(model, prepared, self.seed, settings, lambda stage, done, total: None)
        return max(found, key=lambda p: (p.scores.ranking_score, -p.sample))


@dataclass(frozen=True)
class SequenceItems:
    """Items of all records of sequence files; iterating reads the files anew."""

    paths: tuple[Path, ...]

    def __iter__(self) -> Iterator[str]:
        """One item a record.

        Raises:
            InputError: for a file or a record that cannot be read, or a name that comes twice.
        """
        names: set[str] = set()
        for path in self.paths:
            for query in read_jobs(path, each=True):
                if isinstance(query, InputError):
                    raise query
                where = f"{path}: {query.name}"
                if query.name in names:
                    raise InputError(where, "the name comes twice", todo="rename one of them")
                names.add(query.name)
                yield _item(query, where)


def _item(query: Query, where: str) -> str:
    entity = query.entities[0]
    if len(query.entities) != 1 or entity.sequence is None or entity.modifications:
        raise InputError(
            where,
            "not one plain polymer",
            expected="one protein, RNA or DNA sequence a record, without modifications",
        )
    return SEPARATOR.join((query.name, entity.kind, entity.sequence))


@functools.lru_cache(maxsize=1)
def _loaded(name: str, device: str) -> LoadedModel:
    """The model, once a process."""
    return load_model(name, device=pick_device(device))


def _query(item: str, alignments: bool) -> Query:
    name, kind, sequence = item.rsplit(SEPARATOR, 2)
    assert kind in ("protein", "dna", "rna")
    entity = Entity(kind=kind, chains=("A",), where=name, sequence=sequence)
    if alignments:
        entity = _with_alignment(entity, sequence)
    return Query(name=name, entities=(entity,), where=name)


def _with_alignment(entity: Entity, sequence: str) -> Entity:
    """The deepest alignment that any search has left in the cache."""
    entries = AlignmentCache().entries(entity.kind, sequence)
    best = max(entries, key=lambda entry: entry.info.depth, default=None)
    if best is None or best.unpaired is None:
        return entity
    return replace(entity, msa=Document(name=str(best.unpaired), path=best.unpaired))


def _as_predicted(prepared: Prepared, best: Prediction, model: LoadedModel) -> Predicted:
    atoms = prepared.structure.atoms.copy()
    atoms.coord = best.coord.astype(np.float32)
    plddt = best.scores.plddt.float().cpu().numpy()
    starts = residue_starts(prepared.structure)
    residue = np.repeat(np.arange(len(starts) - 1), np.diff(starts))
    return Predicted(
        structure=replace(prepared.structure, atoms=atoms, method=f"PREDICTED BY {model.label}"),
        plddt=np.bincount(residue, plddt) / np.bincount(residue),
        mean_plddt=float(plddt.mean()),
        model=model.label,
        accession=None,
    )
