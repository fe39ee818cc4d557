"""From one query to ranked predictions: prepare, fold, score, write."""

import csv
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from seedfold import __version__
from seedfold.data_pipeline import output
from seedfold.data_pipeline.alignments import read_msa
from seedfold.data_pipeline.disorder import fraction_disordered
from seedfold.data_pipeline.features import Features, collate
from seedfold.data_pipeline.featurize import FeatureOptions, featurize
from seedfold.data_pipeline.mmcif_tables import Metadata
from seedfold.data_pipeline.msa import ChainMsa, msa_depth
from seedfold.data_pipeline.query import Entity, Query
from seedfold.data_pipeline.restraints import restraints
from seedfold.data_pipeline.stereochemistry import StereoReport, check
from seedfold.data_pipeline.structure import Structure, build_structure
from seedfold.data_pipeline.templates import Template, TemplateError, read_template
from seedfold.data_pipeline.tokens import tokenize
from seedfold.inputs import one_letter_sequence
from seedfold.memory import out_of_memory_as_such
from seedfold.model.guidance import Guidance, Limits
from seedfold.models import LoadedModel
from seedfold.report import PageData, chain_alignments, write_page_data
from seedfold.scores import Scores, score, summary, write_full_confidences

OnProgress = Callable[[str, int, int], None]
GUIDED = (
    "guided: bonds, angles, planes, hands and distances of atoms were kept within limits while "
    "sampling; that they are right says nothing about the fold"
)
"""Stands in structures and reports of their chemistry."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How hard to work on one prediction."""

    n_samples: int
    n_cycles: int
    n_steps: int
    guided: bool = False
    """Keep samples to chemistry while they are made, see `seedfold.model.guidance`."""
    max_parallel_samples: int | None = None


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A query with everything read that does not depend on a seed."""

    query: Query
    structure: Structure
    msas: dict[int, ChainMsa]
    templates: dict[int, tuple[Template, ...]]
    features: Features
    """With the conformers of seed 0; for its sizes."""
    warnings: tuple[str, ...]
    lines: tuple[str, ...]
    """What was read, for the user."""

    @property
    def n_token(self) -> int:
        """Number of tokens."""
        return self.features.n_token

    @property
    def n_atom(self) -> int:
        """Number of atoms without hydrogens."""
        return self.features.n_atom

    @property
    def n_msa(self) -> int:
        """Rows of the joint alignment."""
        return self.features.msa.shape[-2]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """One predicted structure with its scores."""

    seed: int
    sample: int
    coord: Float[np.ndarray, "N_atom 3"]
    scores: Scores
    stereo: StereoReport


def prepare(query: Query, options: FeatureOptions) -> Prepared:
    """Builds the molecule and reads alignments and templates.

    Raises:
        InputError: for whatever is wrong with the input. A template that cannot be used is only
            a warning.
    """
    structure = build_structure(query, terminal_atoms=options.terminal_atoms)
    warnings = [*query.warnings, *structure.warnings]
    msas: dict[int, ChainMsa] = {}
    templates: dict[int, tuple[Template, ...]] = {}
    lines: list[str] = []
    for entity_id, entity in enumerate(query.entities):
        if entity.kind == "ligand":
            continue
        sequence = one_letter_sequence(structure, entity_id)
        msa = _read_msas(entity, sequence)
        if msa is not None:
            msas[entity_id] = msa
            warnings += [w for m in (msa.paired, msa.unpaired) if m is not None for w in m.warnings]
        found = tuple(_read_templates(entity, sequence, warnings, lines))
        templates[entity_id] = found[: options.n_templates]
        if len(found) > options.n_templates:
            used = f"only the first {options.n_templates} templates are used"
            used = used if options.n_templates else "the model cannot use templates"
            warnings.append(f"{entity.where}: {used}")
    features = featurize(structure, msas=msas, templates=templates, seed=0, options=options)
    size = f"{features.n_token} tokens, {features.n_atom} atoms, {len(structure.chains)} chains"
    return Prepared(
        query=query,
        structure=structure,
        msas=msas,
        templates=templates,
        features=features,
        warnings=tuple(dict.fromkeys(warnings)),
        lines=(size, *_depth_lines(structure, msas), *lines),
    )


def _depth_lines(structure: Structure, msas: Mapping[int, ChainMsa]) -> list[str]:
    given = {c.id for c in structure.chains if c.entity_id in msas}
    lines = [
        f"chain {d.chain}: alignment of {d.rows} rows, {d.paired} paired, {d.species} species"
        for d in msa_depth(tokenize(structure), structure, msas)
        if d.chain in given
    ]
    without = [c.id for c in structure.chains if c.kind != "ligand" and c.id not in given]
    if without:
        lines.append(f"no alignment for chain {', '.join(without)}: single sequence")
    return lines


def _read_msas(entity: Entity, sequence: str) -> ChainMsa | None:
    paired, unpaired = (
        None if document is None else read_msa(document, sequence, entity.kind)
        for document in (entity.paired_msa, entity.msa)
    )
    return (
        None if paired is None and unpaired is None else ChainMsa(paired=paired, unpaired=unpaired)
    )


def _read_templates(
    entity: Entity, sequence: str, warnings: list[str], lines: list[str]
) -> Iterator[Template]:
    for source in entity.templates:
        try:
            template = read_template(source, sequence, entity.where)
        except TemplateError as error:
            warnings.append(f"template not used: {error}")
            continue
        lines.append(
            f"chain {entity.chains[0]}: template {template.name} chain {template.chain}, "
            f"coverage {template.coverage:.0%}, identity {template.identity:.0%}"
        )
        yield template


def fold(
    model: LoadedModel,
    prepared: Prepared,
    seed: int,
    settings: Settings,
    on_progress: OnProgress,
) -> list[Prediction]:
    """Predicts and scores all samples of one seed, in the order of the samples.

    Raises:
        MemoryExceededError: if memory runs out.
    """
    with torch.no_grad(), out_of_memory_as_such():
        features = featurize(
            prepared.structure,
            msas=prepared.msas,
            templates=prepared.templates,
            seed=seed,
            options=model.options,
        )
        batch = collate([features]).to(model.device)
        guide = _guidance(prepared.structure, model) if settings.guided else None
        samples = model.network.predict(
            batch,
            seed=seed,
            n_samples=settings.n_samples,
            n_cycles=settings.n_cycles,
            n_steps=settings.n_steps,
            max_parallel_samples=settings.max_parallel_samples,
            precision=model.precision,
            on_progress=on_progress,
            guide=guide,
        )
        unbatched = batch.map(lambda t: t[0])
        found = []
        for sample in samples:
            coord = sample.x[0, 0].float().cpu().numpy()
            _refuse_nan(coord, prepared, seed, sample.index)
            (scores,) = score(
                unbatched,
                sample.x[0],
                plddt_logits=sample.confidence.plddt[0],
                pae_logits=sample.confidence.pae[0],
                pde_logits=sample.confidence.pde[0],
                contact_probs=sample.contact_probs[0],
                disorder=[fraction_disordered(prepared.structure, coord)],
            )
            found.append(
                Prediction(
                    seed=seed,
                    sample=sample.index,
                    coord=coord,
                    scores=scores,
                    stereo=check(prepared.structure, coord),
                )
            )
    return found


def _guidance(structure: Structure, model: LoadedModel) -> Guidance:
    fields = dataclasses.asdict(restraints(structure))
    limits = Limits(**{name: torch.from_numpy(value) for name, value in fields.items()})
    return Guidance(limits=limits.to(model.device, model.network.dtype))


def _refuse_nan(coord: np.ndarray, prepared: Prepared, seed: int, sample: int) -> None:
    if not np.isfinite(coord).all():
        raise FloatingPointError(
            f"{prepared.query.name}: the network gave coordinates that are not numbers "
            f"(seed {seed}, sample {sample}); try --precision fp32"
        )


def write_predictions(
    predictions: Sequence[Prediction],
    prepared: Prepared,
    folder: Path,
    model: LoadedModel,
    *,
    settings: Settings,
    pdb: bool = False,
    sdf: bool = False,
    full: bool = False,
) -> None:
    """Writes every prediction into `folder`, the first as model 0; docs/outputs.md names the files.

    Args:
        predictions: best first.
        prepared: what was folded.
        folder: must exist.
        model: for the metadata.
        settings: those of the predictions, for the summary.
        pdb: also as PDB.
        sdf: also every ligand as SDF.
        full: also the full PAE, PDE and pLDDT arrays.

    Raises:
        InputError: if the structure does not fit into the PDB format.
    """
    structure, name = prepared.structure, prepared.query.name
    notes = (*model.notes, *((GUIDED,) if settings.guided else ()))
    metadata = Metadata(version=__version__, model=model.label, notes=notes)
    for rank, prediction in enumerate(predictions):
        stem = f"{name}_model_{rank}"
        coord, scores = prediction.coord, prediction.scores
        plddt = scores.plddt.float().cpu().numpy()
        parts = {"coord": coord, "plddt": plddt, "name": stem, "metadata": metadata}
        output.write_mmcif(structure, folder / f"{stem}.cif", **parts)
        if pdb:
            output.write_pdb(structure, folder / f"{stem}.pdb", **parts)
        if sdf:
            output.write_ligand_sdf(structure, folder, coord=coord, name=stem, metadata=metadata)
        if full:
            path = folder / f"{name}_confidences_{rank}.npz"
            _write_full(path, prediction, prepared, metadata)
        words = {
            "model": model.label,
            "notes": list(model.notes),
            "seed": prediction.seed,
            "sample": prediction.sample,
            "guided": settings.guided,
        }
        numbers = summary(
            scores, [c.id for c in structure.chains], num_recycles=settings.n_cycles - 1
        )
        _write_json(folder / f"{name}_summary_confidences_{rank}.json", {**words, **numbers})
        content = {"notes": list(notes), **prediction.stereo.to_json()}
        _write_json(folder / f"{name}_stereochemistry_{rank}.json", content)
    write_page_data(folder, name, _page_data(predictions, prepared))
    with (folder / "ranking_scores.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["rank", "seed", "sample", "ranking_score", "ptm", "iptm", "file", "model"])
        for rank, p in enumerate(predictions):
            numbers = (p.scores.ranking_score, p.scores.ptm, p.scores.iptm)
            row = ["" if np.isnan(v) else f"{v:.4f}" for v in numbers]
            file_name = f"{name}_model_{rank}.cif"
            table.writerow([rank, p.seed, p.sample, *row, file_name, model.label])


def _page_data(predictions: Sequence[Prediction], prepared: Prepared) -> PageData:
    """What the page shows beyond the other files."""
    structure, chains = prepared.structure, prepared.structure.chains
    depths = msa_depth(tokenize(structure), structure, prepared.msas)
    return PageData.of(
        tuple(p.scores.pae.float().cpu().numpy() for p in predictions),
        token_chain_ids=[chains[i].id for i in prepared.features.asym_id.tolist()],
        token_res_ids=prepared.features.residue_index.tolist(),
        alignments=chain_alignments(chains, prepared.msas, depths),
    )


def _write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def _write_full(path: Path, prediction: Prediction, prepared: Prepared, notes: Metadata) -> None:
    f, atoms = prepared.features, prepared.structure.atoms
    chain_ids = [c.id for c in prepared.structure.chains]
    write_full_confidences(
        path,
        prediction.scores,
        token_chain_ids=[chain_ids[i] for i in f.asym_id.tolist()],
        token_res_ids=f.residue_index.tolist(),
        atom_chain_ids=atoms.chain_id.tolist(),
        atom_res_ids=atoms.res_id.tolist(),
        atom_names=atoms.atom_name.tolist(),
        notes=notes.notes,
    )
