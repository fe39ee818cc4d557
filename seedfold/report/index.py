"""The index of a batch: one sortable row for each input, with a link to its page."""

from pathlib import Path
from typing import Any

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.report.contents import prediction_name, read_json, untrained
from seedfold.report.page import PAGE, render, write_page

INDEX = "index.html"
_SUMMARY = "run_summary.json"
_SCORES = ("ranking_score", "ptm", "iptm", "plddt")


def write_reports(folder: str | Path) -> list[Path]:
    """Writes the page of one prediction, or all pages and the index of a folder of predictions.

    Returns:
        What was written; the page or index to open comes last.

    Raises:
        InputError: if there is no prediction, or one is damaged; the other pages are written first.
    """
    folder = Path(folder)
    if prediction_name(folder) is not None:
        return [write_page(folder)]
    written: list[Path] = []
    errors: list[InputError] = []
    for prediction in _predictions(folder):
        try:
            written.append(write_page(prediction))
        except InputError as error:
            errors.append(error)
    if not errors or written:
        written.append(write_index(folder))
    if errors:
        raise errors[0]
    return written


def write_index(folder: str | Path) -> Path:
    """Writes `index.html` for all predictions in `folder`, and for the inputs that failed.

    Raises:
        InputError: if there is neither a prediction nor a `run_summary.json`.
    """
    folder = Path(folder)
    summary_file = folder / _SUMMARY
    summary = read_json(summary_file) if summary_file.is_file() else {}
    rows = {p.name: _row_of_folder(p) for p in _predictions(folder)}
    for outcome in summary.get("inputs", ()):
        name = Path(outcome["folder"]).name if outcome.get("folder") else outcome["name"]
        if outcome.get("folder") or name not in rows:
            rows[name] = {**rows.get(name, {}), **_row_of_outcome(outcome)}
    if not rows:
        raise InputError(
            str(folder),
            "holds no predictions",
            expected=f"{_SUMMARY} or folders of predictions",
            todo="give the folder given to `predict -o`",
        )
    notes = summary.get("notes") or _all_notes(folder)
    data = {
        "title": folder.resolve().name,
        "model": summary.get("model", ""),
        "version": summary.get("seedfold", ""),
        "notes": notes,
        "untrained": untrained(notes),
        "rows": list(rows.values()),
    }
    text = render(
        "index.html",
        title=f"{data['title']} - SeedFold",
        scripts=("common.js", "index.js"),
        data=data,
    )
    path = folder / INDEX
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return path


def _predictions(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(str(folder), "is no folder", todo="give the folder given to `predict -o`")
    inside = sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    return [p for p in inside if prediction_name(p) is not None]


def _first_summary(folder: Path) -> dict[str, Any]:
    path = folder / f"{prediction_name(folder)}_summary_confidences_0.json"
    return read_json(path) if path.is_file() else {}


def _row_of_folder(folder: Path) -> dict[str, Any]:
    summary = _first_summary(folder)
    clashes = [summary.get(key) for key in ("has_clash", "ligand_clash")]
    return {
        "name": folder.name,
        "status": "ok",
        **{key: summary.get(key) for key in _SCORES},
        "clash": None if clashes == [None, None] else any(clashes),
        "n_chain": len(summary.get("chain_ids", ())) or None,
        "page": f"{folder.name}/{PAGE}" if (folder / PAGE).is_file() else None,
    }


def _row_of_outcome(outcome: dict[str, Any]) -> dict[str, Any]:
    keys = ("name", "status", "reason", "n_token", "seconds")
    return {key: outcome.get(key) for key in keys}


def _all_notes(folder: Path) -> list[str]:
    notes = [n for p in _predictions(folder) for n in _first_summary(p).get("notes", ())]
    return list(dict.fromkeys(notes))
