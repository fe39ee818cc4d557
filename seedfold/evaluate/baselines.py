"""What a model is compared with: random walks as the predictions of a set, in SeedFold's layout.

A structure is a folder ``NAME/`` with ``NAME_model_K.cif``, K counting the seeds, the summary that
ranks them all alike, and the report on the geometry; complete or absent, and so resumable.
"""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from seedfold import __version__
from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.mmcif_tables import Metadata
from seedfold.data_pipeline.output import write_mmcif
from seedfold.data_pipeline.stereochemistry import check
from seedfold.data_pipeline.structure import Structure, build_structure
from seedfold.data_pipeline.tokens import tokenize
from seedfold.evaluate.random_walk import random_walk

NAME = "random walk"
NOTE = "random walk: drawn with ideal geometry, not predicted"


def structure_of(path: Path) -> Structure:
    """The molecule of an input file.

    Raises:
        InputError: if it cannot be read or built, or holds several inputs.
    """
    queries = read_queries(path)
    if len(queries) != 1:
        raise InputError(str(path), f"holds {len(queries)} inputs", expected="one")
    return build_structure(queries[0])


def n_tokens(structure: Structure) -> int:
    """How large it is for a network."""
    return len(tokenize(structure))


def write_random_walks(structure: Structure, name: str, folder: Path, seeds: Sequence[int]) -> None:
    """Writes the random walks of one structure, unless they are there; all or none."""
    if all(_model(folder, name, k).is_file() for k in range(len(seeds))):
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for k, seed in enumerate(seeds):
            _write(structure, name, partial, k, seed)
        shutil.rmtree(folder, ignore_errors=True)
        partial.chmod(0o755)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def random_walk_set(
    structures: dict[str, Callable[[], Structure]], output: Path, seeds: Sequence[int]
) -> dict[str, str]:
    """Writes the random walks of many structures.

    Returns:
        Name -> why there are none, of those where something went wrong.
    """
    failed: dict[str, str] = {}
    for name, structure in structures.items():
        try:
            write_random_walks(structure(), name, output / name, seeds)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {error}"
    return failed


def _model(folder: Path, name: str, k: int) -> Path:
    return folder / f"{name}_model_{k}.cif"


def _write(structure: Structure, name: str, folder: Path, k: int, seed: int) -> None:
    coord = random_walk(structure, seed)
    assert np.isfinite(coord).all()
    metadata = Metadata(version=__version__, model=NAME, notes=(NOTE,))
    path = _model(folder, name, k)
    write_mmcif(structure, path, coord=coord, name=path.stem, metadata=metadata)
    common = {"model": NAME, "notes": [NOTE]}
    summary = {**common, "seed": seed, "sample": 0, "ranking_score": 0.0}
    report = {**common, **check(structure, coord).to_json()}
    for content, what in ((summary, "summary_confidences"), (report, "stereochemistry")):
        (folder / f"{name}_{what}_{k}.json").write_text(json.dumps(content, indent=2) + "\n")
