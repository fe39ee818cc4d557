"""A prepared data set as training reads it: what was drawn becomes features.

Source: AF3 SI 2.5 to 2.8. Reads the index, the shards and the MSA store of one folder or object
store; needs no chemistry and no table library.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from seedfold.data_pipeline.chain import Chain
from seedfold.data_pipeline.chemistry import ONE_LETTER, RESTYPE_INDEX, UNKNOWN
from seedfold.data_pipeline.examples.crop import METHODS, PREDICTED_METHODS, Method, crop
from seedfold.data_pipeline.examples.example import (
    Example,
    ReferenceComponent,
    unpack_components,
    unpack_example,
)
from seedfold.data_pipeline.examples.index import Index, Record
from seedfold.data_pipeline.examples.msa_store import MsaStore
from seedfold.data_pipeline.examples.shards import Shard, ShardReader
from seedfold.data_pipeline.examples.symmetries import Symmetries, symmetries
from seedfold.data_pipeline.examples.template_store import TemplateStore, choose
from seedfold.data_pipeline.examples.training_features import training_features
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.data_pipeline.features import Features
from seedfold.data_pipeline.msa import ChainMsa
from seedfold.data_pipeline.template_features import Template

INDEX, MSAS, TEMPLATES = "index", "msas", "templates"
SHARDS_IN_MEMORY = 256
"""Whose components are kept; those of distillation sets are the same twenty amino acids."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A crop of an example."""

    example: Example
    tokens: Int[np.ndarray, " N_crop"]
    components: Mapping[str, ReferenceComponent]
    f: Features

    def symmetries(self) -> Symmetries:
        """Which atoms of the truth may stand for which atoms of the crop."""
        return symmetries(self.example, self.components, self.tokens)


class TrainingSet:
    """One data set that `seedfold prepare` has finished.

    Args:
        folder: Where it is.
        options: Limits and conventions of the features.
        methods: How often each way of cropping is taken; AF3's for experimental or predicted
            structures where None.
    """

    def __init__(
        self,
        folder: Path | str,
        *,
        options: FeatureOptions | None = None,
        methods: Mapping[Method, float] | None = None,
    ):
        self.folder = Path(folder)
        self.index = Index.open(self.folder / INDEX)
        self.options = options or FeatureOptions()
        self.methods = methods
        self.msas = MsaStore(self.folder / MSAS) if (self.folder / MSAS).is_dir() else None
        templates = self.folder / TEMPLATES
        self.templates = TemplateStore(templates) if templates.is_dir() else None
        self._reader = ShardReader(str(self.folder))

    def __reduce__(self) -> tuple:
        return _opened, (self.folder, self.options, self.methods)

    def features(self, unit: int, *, n_token: int, seed: int) -> Features:
        """The features of one sampling unit, see `part`."""
        return self.part(unit, n_token=n_token, seed=seed).f

    def part(self, unit: int, *, n_token: int, seed: int) -> Part:
        """One sampling unit: a crop around its chains.

        Args:
            unit: Its number in the index.
            n_token: The most tokens.
            seed: Of the crop and of the random motions; same seed, same features.

        Raises:
            ValueError: if the shard is damaged; the message names it.
        """
        record = self.index[unit]
        example = self.example(record)
        rng = np.random.default_rng(seed)
        methods = self.methods or (METHODS if example.plddt is None else PREDICTED_METHODS)
        chosen = crop(example, n_token, rng, chains=record.chains, methods=methods)
        components = self.components(record.shard)
        f = training_features(
            example,
            components,
            tokens=chosen,
            msas=self._alignments(example),
            templates=self._templates(example, rng),
            seed=int(rng.integers(2**31)),
            options=self.options,
        )
        return Part(example=example, tokens=chosen, components=components, f=f)

    def example(self, record: Record) -> Example:
        """The whole example of a record."""
        data = self._reader.get(record.shard.name, record.offset, record.size, record.crc32)
        return unpack_example(data)

    def name(self, record: Record) -> str:
        """The id of the example of a record, without reading it; where it lies if even that fails.

        For messages about what cannot be read.
        """
        try:
            return self._reader.key(record.shard.name, record.offset)
        except (ValueError, OSError):
            return f"{record.shard.name} at {record.offset}"

    def components(self, shard: Shard) -> Mapping[str, ReferenceComponent]:
        """The components that the examples of a shard are made of."""
        return _components(self._reader, shard)

    def _alignments(self, example: Example) -> dict[int, ChainMsa]:
        if self.msas is None:
            return {}
        found = {}
        for chain in _entities(example):
            if chain.kind != "ligand":
                msa = self.msas.get(chain.kind, letters(example, chain))
                if msa is not None:
                    found[chain.entity_id] = ChainMsa(unpaired=msa)
        return found

    def _templates(
        self, example: Example, rng: np.random.Generator
    ) -> dict[int, tuple[Template, ...]]:
        if self.templates is None:
            return {}
        return {
            chain.entity_id: choose(
                self.templates.get(letters(example, chain)), example.release_date, rng
            )
            for chain in _entities(example)
            if chain.kind == "protein"
        }


def _entities(example: Example) -> Iterable[Chain]:
    """One chain of each entity."""
    return {chain.entity_id: chain for chain in example.chains}.values()


def letters(example: Example, chain: Chain) -> str:
    """One-letter codes of a polymer, those of parents for modified residues."""
    of_class = {RESTYPE_INDEX[name]: letter for letter, name in ONE_LETTER[chain.kind].items()}
    asym = example.chains.index(chain)
    at = example.tokens.asym_id == asym
    classes = np.full(len(chain.residues), RESTYPE_INDEX[UNKNOWN[chain.kind]])
    classes[example.tokens.residue_index[at] - 1] = example.tokens.restype[at]
    unknown = next(k for k, v in ONE_LETTER[chain.kind].items() if v == UNKNOWN[chain.kind])
    return "".join(of_class.get(c, unknown) for c in classes.tolist())


@functools.lru_cache(maxsize=SHARDS_IN_MEMORY)
def _components(reader: ShardReader, shard: Shard) -> Mapping[str, ReferenceComponent]:
    member = shard.components
    if member is None:
        raise ValueError(f"{shard.name}: has no components; it was not written by seedfold prepare")
    return unpack_components(reader.get(shard.name, member.offset, member.size, member.crc32))


def _opened(
    folder: Path, options: FeatureOptions, methods: Mapping[Method, float] | None
) -> TrainingSet:
    return TrainingSet(folder, options=options, methods=methods)
