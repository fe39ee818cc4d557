"""A model on a whole set: what it is asked, its predictions, ready to be evaluated.

A set is a folder with target lists in ``targets/`` (or beside everything else), references in
``structures/``, ``references/`` or ``ground_truths/`` and, if wanted, inputs in ``inputs/``, one
file ``NAME.json``, ``.yaml`` or ``.fasta`` a structure. Inputs that are not there are made of the
references' sequences and ligands. What has been predicted is not predicted again.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from seedfold.data_pipeline.errors import InputError
from seedfold.evaluate.queries import INPUT_ENDINGS, write_query
from seedfold.evaluate.targets import find_reference, read_targets
from seedfold.jobs import Outcome, Request, run
from seedfold.progress import Reporter

REFERENCE_FOLDERS = ("structures", "references", "ground_truths")


@dataclass(frozen=True, kw_only=True)
class SetFolder:
    """Where the parts of a set are."""

    targets: Path
    references: Path
    inputs: Path | None = None


def find_set(folder: Path) -> SetFolder:
    """Looks into the folder of a set.

    Raises:
        InputError: if it has no references.
    """
    references = [folder / name for name in REFERENCE_FOLDERS if (folder / name).is_dir()]
    if not references:
        expected = f"a folder {', '.join(REFERENCE_FOLDERS[:-1])} or {REFERENCE_FOLDERS[-1]} in it"
        raise InputError(str(folder), "has no reference structures", expected=expected)
    targets, inputs = folder / "targets", folder / "inputs"
    return SetFolder(
        targets=targets if targets.is_dir() else folder,
        references=references[0],
        inputs=inputs if inputs.is_dir() else None,
    )


def predict_set(
    found: SetFolder, request: Request, reporter: Reporter, *, only: Iterable[str] | None = None
) -> list[Outcome]:
    """Predicts every structure of the target lists into ``request.output``.

    Args:
        found: the set.
        request: how; its inputs are those of the set.
        reporter: hears what was left out.
        only: ids, all if None.

    Raises:
        InputError: if a list cannot be read, or there is nothing to predict.
    """
    names = list(dict.fromkeys(target.pdb_id for target in read_targets(found.targets)))
    if only is not None:
        chosen = set(only)
        unknown = sorted(chosen - set(names))
        if unknown:
            raise InputError(str(found.targets), f"has no target {unknown[0]}")
        names = [name for name in names if name in chosen]
    inputs = [path for name in names if (path := input_of(found, name, request.output, reporter))]
    if not inputs:
        raise InputError(str(found.references), "has none of the structures in the target lists")
    return run(replace(request, inputs=tuple(inputs), resume=True), reporter)


def input_of(found: SetFolder, name: str, output: Path, reporter: Reporter) -> Path | None:
    """The input of a structure, given or made of its reference; None, and a word, without one."""
    if found.inputs is not None:
        candidates = (found.inputs / (name + ending) for ending in INPUT_ENDINGS)
        given = next((path for path in candidates if path.is_file()), None)
        if given is not None:
            return given
    reference = find_reference(found.references, name)
    if reference is None:
        reporter.warn(f"{name}: no reference in {found.references}; nothing is predicted")
        return None
    try:
        path, notes = write_query(reference, name, output.parent / "inputs")
    except InputError as error:
        reporter.warn(f"{name}: nothing is predicted: {error}")
        return None
    for note in notes:
        reporter.warn(f"{note}; it is not predicted")
    return path
