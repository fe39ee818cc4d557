"""What a model is worth, for its card: scores and geometry by kind of target, beside baselines.

A method is the model or what it is compared with. Of the model the top-ranked sample of a target
counts, of a baseline without ranking the mean over its samples. Intervals are those of `intervals`;
a difference is that of the same targets.

Deviations from `tables`: only targets that no fault of the reference excludes, and a score that is
missing counts as 0 wherever it has a worst value.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from seedfold.checkpoint import CheckpointInfo
from seedfold.data_pipeline.errors import InputError
from seedfold.evaluate.intervals import Mean, bootstrap_mean
from seedfold.evaluate.rows import HEADLINE, NO_WORST
from seedfold.evaluate.table_files import markdown, number, with_interval
from seedfold.evaluate.tables import Scored, by_task
from seedfold.evaluate.targets import TargetKind

QUANTITIES: Mapping[TargetKind, tuple[str, ...]] = {
    "monomer": ("lddt", "lddt_backbone", "tm_score"),
    "interface": ("dockq", "success", "lddt_interface", "lddt", "lddt_backbone", "tm_score"),
    "ligand": ("lddt_pli", "ligand_rmsd", "success", "pose_valid", "lddt", "lddt_backbone"),
}
NAMES = {
    "lddt": "lDDT", "lddt_backbone": "lDDT of the backbone", "tm_score": "TM-score",
    "dockq": "DockQ", "success": "success rate", "lddt_interface": "lDDT of the interface",
    "lddt_pli": "lDDT-PLI", "ligand_rmsd": "ligand RMSD, A", "pose_valid": "valid poses",
}  # fmt: skip
TITLES = {
    "monomer_protein": "protein monomers",
    "monomer_rna": "RNA monomers",
    "interface_protein_protein": "protein-protein",
    "interface_antibody_antigen": "antibody-antigen",
    "interface_protein_ligand": "protein-ligand",
    "interface_protein_rna": "protein-RNA",
    "interface_protein_dna": "protein-DNA",
}
GEOMETRY: Mapping[str, tuple[str, ...]] = {
    "bonds": ("bond_lengths", "links"),
    "angles": ("bond_angles",),
    "chirality": ("chirality",),
    "planes": ("aromatic_rings", "trigonal_atoms", "double_bonds", "peptide_bonds"),
}
"""Checks that are told together, as per cent within the limits."""
CLASHES = "clashes per 1000 atoms"


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method and all that it gave."""

    name: str
    targets: Sequence[Scored]
    predictions: Path
    ranked: bool = True
    """Whether its ranking means something."""

    def value(self, scored: Scored, quantity: str) -> float | None:
        """The score of a target."""
        if self.ranked or not scored.samples:
            return scored.value(quantity, "rank", "counted")
        worst = None if quantity in NO_WORST else 0.0
        values = [worst if (v := s.value(quantity)) is None else v for s in scored.samples]
        known = [v for v in values if v is not None]
        return sum(known) / len(known) if known else None

    def reports(self, pdb_id: str) -> list[dict[str, Any]]:
        """Checks of the geometry of each sample that counts."""
        places = sorted((self.predictions / pdb_id).glob("*_stereochemistry_*.json"))
        return [json.loads(p.read_text())["checks"] for p in places][: 1 if self.ranked else None]


@dataclass(frozen=True, kw_only=True)
class Row:
    """One quantity of one kind of target, by method."""

    task: str
    quantity: str
    means: Mapping[str, Mean]
    differences: Mapping[str, Mean]
    """Of the first method and each of the others."""


_Values = Mapping[str, Mapping[tuple[str, ...], float | None]]


def score_rows(methods: Sequence[Method], *, n_bootstrap: int) -> list[Row]:
    """Scores of every task."""
    rows = []
    tables = [by_task(method.targets) for method in methods]
    for task, members in tables[0].items():
        kind = members[0].target.kind
        for quantity in QUANTITIES[kind]:
            values = {
                method.name: {
                    (s.target.pdb_id, *s.target.chains): method.value(s, quantity)
                    for s in table[task]
                    if not s.unscorable
                }
                for method, table in zip(methods, tables, strict=True)
            }
            rows.append(_row(task, quantity, values, n_bootstrap))
    return rows


def geometry_rows(methods: Sequence[Method], *, n_bootstrap: int) -> list[Row]:
    """Geometry of every task, a structure counted once."""
    rows = []
    for task, members in by_task(methods[0].targets).items():
        names = dict.fromkeys(scored.target.pdb_id for scored in members)
        found = {
            m.name: {(name,): _mean_geometry(m.reports(name)) for name in names} for m in methods
        }
        for quantity in (*GEOMETRY, CLASHES):
            values = {
                method: {key: share.get(quantity) for key, share in of_method.items()}
                for method, of_method in found.items()
            }
            rows.append(_row(task, quantity, values, n_bootstrap))
    return rows


def _mean_geometry(reports: Sequence[Mapping[str, Mapping[str, int]]]) -> dict[str, float]:
    shares = [geometry(report) for report in reports]
    keys = dict.fromkeys(key for share in shares for key in share)
    return {key: float(np.mean([s[key] for s in shares if key in s])) for key in keys}


def geometry(checks: Mapping[str, Mapping[str, int]]) -> dict[str, float]:
    """Per cent of the terms within the limits, by group; clashes per 1000 atoms."""
    found = {}
    for group, kinds in GEOMETRY.items():
        checked, outliers = (
            sum(checks[kind][column] for kind in kinds) for column in ("checked", "outliers")
        )
        if checked:
            found[group] = 100.0 * (1 - outliers / checked)
    clashes = checks["clashes"]
    if clashes["checked"]:
        found[CLASHES] = 1000.0 * clashes["outliers"] / clashes["checked"]
    return found


def _row(task: str, quantity: str, values: _Values, n_bootstrap: int) -> Row:
    first, *others = values
    return Row(
        task=task,
        quantity=quantity,
        means={name: _mean(of_method, n_bootstrap) for name, of_method in values.items()},
        differences={
            name: _difference(values[first], values[name], n_bootstrap) for name in others
        },
    )


def _mean(values: Mapping[tuple[str, ...], float | None], n_bootstrap: int) -> Mean:
    known = {key: value for key, value in values.items() if value is not None}
    groups = [key[0] for key in known]
    return bootstrap_mean(list(known.values()), groups, n_bootstrap=n_bootstrap)


def _difference(
    one: Mapping[tuple[str, ...], float | None],
    other: Mapping[tuple[str, ...], float | None],
    n_bootstrap: int,
) -> Mean:
    gaps: dict[tuple[str, ...], float | None] = {}
    for key, a in one.items():
        b = other.get(key)
        gaps[key] = None if a is None or b is None else a - b
    return _mean(gaps, n_bootstrap)


def table_text(rows: Sequence[Row]) -> str:
    """Means with intervals in Markdown, a column a method."""
    methods = list(rows[0].means)
    lines = []
    for row in rows:
        n = max(mean.n for mean in row.means.values())
        cells = [_cell(row.quantity, row.means[name]) for name in methods]
        lines.append([TITLES.get(row.task, row.task), str(n), _name(row.quantity), *cells])
    return markdown(("targets", "n", "score", *methods), lines)


def difference_text(rows: Sequence[Row], kinds: Mapping[str, TargetKind]) -> str:
    """By how much the first method is ahead of each other: in the headline score of each task, and
    in the lDDT of backbones, which asks for the fold and not for stereochemistry.
    """
    chosen = [row for row in rows if row.quantity in (HEADLINE[kinds[row.task]], "lddt_backbone")]
    others = list(chosen[0].differences)
    first = next(iter(chosen[0].means))
    lines = [
        [
            TITLES.get(row.task, row.task),
            _name(row.quantity),
            *(_cell(row.quantity, row.differences[name]) for name in others),
        ]
        for row in chosen
    ]
    return markdown(("targets", "score", *(f"{first} minus {name}" for name in others)), lines)


def _name(quantity: str) -> str:
    return f"{quantity}, % within limits" if quantity in GEOMETRY else NAMES.get(quantity, quantity)


def _cell(quantity: str, mean: Mean) -> str:
    if quantity not in (*GEOMETRY, CLASHES):
        return with_interval(mean.mean, mean.low, mean.high)
    if mean.low is None or mean.high is None:
        return number(mean.mean, 1)
    return f"{mean.mean:.1f} ({mean.low:.1f} to {mean.high:.1f})"


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The rows as plain values."""
    return [asdict(row) for row in rows]


def architecture_text(info: CheckpointInfo, n_parameters: int) -> str:
    """The network in a table, from the header of its file."""
    c = info.config
    attention = type(c.trunk.pairformer.pair.triangle_attention).__qualname__.split(".")[0]
    rows = (
        ("parameters", f"{n_parameters / 1e6:.2f}M"),
        ("pair, single, MSA channels", f"{c.c_z}, {c.c_s}, {c.c_m}"),
        ("Pairformer blocks", str(c.trunk.pairformer.n_blocks)),
        ("triangle attention", attention),
        ("MSA blocks", str(c.trunk.msa.n_blocks)),
        ("template blocks", str(c.trunk.template.n_blocks)),
        ("diffusion transformer blocks", f"{c.diffusion.transformer.n_blocks}, width {c.c_token}"),
        ("confidence blocks", str(c.confidence.pairformer.n_blocks)),
        ("trunk passes, diffusion steps", f"{c.n_cycles}, {c.sampler.n_steps}"),
        ("guidance", "on" if c.sampler.guided else "off"),
        ("licence", info.licence or "not stated"),
        ("notice", info.notice or "none"),
        ("written by", f"seedfold {info.version}"),
    )
    return markdown(("", ""), [list(row) for row in rows])


def filled(page: str, parts: Mapping[str, str], where: str) -> str:
    """A page with what stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` replaced.

    Raises:
        InputError: if the page lacks a pair of marks.
    """
    for name, text in parts.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        pattern = re.compile(re.escape(begin) + ".*?" + re.escape(end), re.DOTALL)
        if len(pattern.findall(page)) != 1:
            raise InputError(where, f"lacks the marks of '{name}'", expected=f"{begin} and {end}")
        content = f"{begin}\n{text.strip()}\n{end}"
        page = pattern.sub(lambda _, content=content: content, page)
    return page
