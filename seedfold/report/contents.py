"""What one page shows, gathered from the files of a prediction (docs/outputs.md) as plain JSON."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from seedfold.data_pipeline.errors import InputError
from seedfold.report.molecule import Model, Molecule, read_models, residues_named
from seedfold.report.packing import (
    as_list,
    deflated,
    packed,
    packed_coordinates,
    packed_plddt,
)
from seedfold.report.page_data import PageData, read_page_data

JOB_FILE = "job.json"
_FIRST_MODEL = "_model_0.cif"


def prediction_name(folder: Path) -> str | None:
    """Name of the prediction in `folder`, None if there is none."""
    found = sorted(p.name for p in folder.glob(f"*{_FIRST_MODEL}") if not p.name.startswith("."))
    return found[0].removesuffix(_FIRST_MODEL) if found else None


def page_contents(folder: Path) -> dict[str, Any]:
    """Everything on the page of one finished prediction.

    Raises:
        InputError: if the folder holds no prediction, or a file of it is damaged.
    """
    name = prediction_name(folder)
    if name is None:
        raise InputError(
            str(folder),
            "holds no prediction",
            expected=f"files named *{_FIRST_MODEL}",
            todo="give the folder of one input, or the folder given to `predict -o`",
        )
    paths = _model_files(folder, name)
    molecule, models = read_models(paths)
    data = read_page_data(folder, name, len(models))
    summaries = [
        read_json(folder / f"{name}_summary_confidences_{rank}.json") for rank in range(len(paths))
    ]
    notes = _notes(summaries)
    return {
        "name": name,
        "notes": notes,
        "untrained": untrained(notes),
        "run": _run(folder, summaries, molecule),
        **_topology(molecule),
        "tokens": None if data is None else _tokens(data, molecule, str(folder)),
        "alignments": _alignments(data),
        "models": [
            {
                **_model(model, summary, molecule, folder, name, rank),
                "file": path.name,
                "pae": None if data is None else deflated(data.pae[rank]),
            }
            for rank, (path, model, summary) in enumerate(
                zip(paths, models, summaries, strict=True)
            )
        ],
    }


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of ours.

    Raises:
        InputError: if it is missing or damaged.
    """
    try:
        # NaN, which JSON does not have, is as unknown as null.
        content = json.loads(path.read_text(), parse_constant=lambda _: None)
    except (OSError, ValueError) as error:
        raise InputError(str(path), f"cannot be read ({error})", todo="predict again") from error
    if not isinstance(content, dict):
        raise InputError(str(path), "is no JSON object", todo="predict again")
    return content


def untrained(notes: Iterable[str]) -> bool:
    """Whether remarks say that the weights are random numbers; else a page shows them calmly."""
    return any(note.startswith("UNTRAINED") for note in notes)


def _model_files(folder: Path, name: str) -> list[Path]:
    paths: list[Path] = []
    while (path := folder / f"{name}_model_{len(paths)}.cif").is_file():
        paths.append(path)
    return paths


def _notes(summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(note for s in summaries for note in s.get("notes", ())))


def _run(
    folder: Path, summaries: Sequence[Mapping[str, Any]], molecule: Molecule
) -> list[tuple[str, str]]:
    """Rows of label and text: how the prediction was made. What was not recorded is left out."""
    job = read_json(folder / JOB_FILE) if (folder / JOB_FILE).is_file() else {}
    seeds = dict.fromkeys(s["seed"] for s in summaries if s.get("seed") is not None)
    recycles = dict.fromkeys(
        s["num_recycles"] for s in summaries if s.get("num_recycles") is not None
    )
    rows = [
        ("Command", job.get("command", "")),
        ("Model", summaries[0].get("model", "")),
        ("Seeds", ", ".join(map(str, seeds))),
        ("Structures", str(len(summaries))),
        ("Recycles", ", ".join(map(str, recycles))),
        *((str(key).capitalize(), str(v)) for key, v in job.get("settings", {}).items()),
        ("SeedFold", molecule.version),
        *((str(key), str(v)) for key, v in job.get("versions", {}).items()),
        ("Written", job.get("written", "")),
    ]
    return [(label, text) for label, text in rows if text]


def _topology(molecule: Molecule) -> dict[str, Any]:
    pairs, orders = molecule.bonds
    atoms = molecule.atoms
    return {
        "chains": [
            {
                "id": c.id,
                "kind": c.kind,
                "description": c.description,
                "n_residue": c.n_residue,
                "n_atom": c.n_atom,
            }
            for c in molecule.chains
        ],
        "residues": {
            "names": list(molecule.residue_names),
            "ids": list(molecule.residue_ids),
            "letters": molecule.letters,
            "chain": as_list(_chain_of_residue(molecule)),
        },
        "atoms": {
            "names": atoms.atom_name.tolist(),
            "elements": [e.capitalize() for e in atoms.element.tolist()],
            "residue": packed(molecule.residue_of_atom, "u4"),
            "bonds": packed(pairs, "u4"),
            "orders": packed(orders, "u1"),
        },
    }


def _chain_of_residue(molecule: Molecule) -> Int[np.ndarray, " N_residue"]:
    number = {c.id: i for i, c in enumerate(molecule.chains)}
    return np.array([number[c] for c in molecule.atoms.chain_id[molecule.first_atoms].tolist()])


def _tokens(data: PageData, molecule: Molecule, where: str) -> dict[str, Any]:
    """Residue of every token, and its atom where a residue has one token an atom (else -1)."""
    known = molecule.residue_index()
    keys = list(zip(data.token_chain_ids, data.token_res_ids, strict=True))
    unknown = [key for key in keys if key not in known]
    if unknown:
        chain, number = unknown[0]
        raise InputError(
            where,
            f"the PAE has a token of residue {number} of chain {chain}, the structure has not",
            todo="predict again",
        )
    residues = np.array([known[key] for key in keys])
    n_residue = len(molecule.residue_names)
    n_tokens = np.bincount(residues, minlength=n_residue)
    place = np.arange(len(residues)) - np.searchsorted(residues, residues)
    n_atoms = np.bincount(molecule.residue_of_atom, minlength=n_residue)
    by_atom = (n_tokens == n_atoms) & (n_atoms > 1)
    atoms = np.where(by_atom[residues], molecule.first_atoms[residues] + place, -1)
    return {"step": data.step, "residue": packed(residues, "u4"), "atom": packed(atoms, "i4")}


def _alignments(data: PageData | None) -> list[dict[str, Any]] | None:
    if data is None or data.alignments is None:
        return None
    return [
        {
            "chain": a.chain,
            "rows": a.rows,
            "paired": a.paired,
            "species": a.species,
            "coverage": as_list(a.coverage),
        }
        for a in data.alignments
    ]


def _model(
    model: Model,
    summary: Mapping[str, Any],
    molecule: Molecule,
    folder: Path,
    name: str,
    rank: int,
) -> dict[str, Any]:
    chemistry = folder / f"{name}_stereochemistry_{rank}.json"
    return {
        "rank": rank,
        "rmsd": round(model.rmsd, 2),
        "secondary": model.secondary,
        "x": packed_coordinates(model.x),
        "plddt": packed_plddt(model.plddt),
        "summary": {key: value for key, value in summary.items() if key != "notes"},
        "stereochemistry": _findings(read_json(chemistry), molecule)
        if chemistry.is_file()
        else None,
    }


def _findings(report: Mapping[str, Any], molecule: Molecule) -> dict[str, Any]:
    worst = [
        {**fault, "residues": residues_named(fault.get("atoms", ()), molecule)}
        for fault in report.get("worst", ())
    ]
    return {
        "checks": report.get("checks", {}),
        "peptide_bonds": report.get("peptide_bonds", {}),
        "worst": worst,
    }
