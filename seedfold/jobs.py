"""Many inputs, one run: what to fold, in what order, what became of each.

Every input is its own folder, written under a temporary name and renamed when complete, so a
folder that exists is a finished prediction: `--resume` is a look at the folders. One bad input
becomes a row of `run_summary.json` and never stops or replaces the others.
"""

import contextlib
import dataclasses
import errno
import hashlib
import json
import shutil
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from seedfold import __version__
from seedfold.data_pipeline.dialects import read_jobs
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import Query
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.memory import Forecast, MemoryExceededError, PeakMemory, ladder, release
from seedfold.models import LoadedModel, load_model, pick_device, weights_file
from seedfold.prediction import Prediction, Prepared, Settings, fold, prepare, write_predictions
from seedfold.progress import Reporter

JOB_FILE = "job.json"
"""Stands in every finished folder and says what it answers."""
INPUT_SUFFIXES = (".fasta", ".fa", ".faa", ".fna", ".fas", ".yaml", ".yml", ".json")
Status = Literal["ok", "failed", "skipped", "checked", "interrupted"]


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a user asked of one run; the fields are the options of `seedfold predict`."""

    inputs: tuple[Path, ...]
    output: Path = Path("predictions")
    model: str = "nano"
    seeds: tuple[int, ...] | None = None
    n_samples: int = 5
    n_cycles: int | None = None
    n_steps: int | None = None
    device: str = "auto"
    precision: str = "auto"
    each: bool = False
    pdb: bool = False
    sdf: bool = False
    full: bool = False
    resume: bool = False
    dry_run: bool = False


@dataclass(kw_only=True)
class Outcome:
    """One row of `run_summary.json`."""

    input: str
    name: str
    status: Status = "failed"
    reason: str | None = None
    seconds: float | None = None
    peak_memory_gib: float | None = None
    n_token: int | None = None
    n_atom: int | None = None
    seeds: list[int] = field(default_factory=list)
    ranking_score: float | None = None
    folder: str | None = None
    best_model: str | None = None
    stereochemistry: dict[str, int] = field(default_factory=dict)
    """Outliers of the best model by check; empty if all is well."""
    warnings: list[str] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        """Whether the run as a whole has failed because of this input."""
        return self.status in ("failed", "interrupted")


def predict(
    inputs: str | Path | Sequence[str | Path],
    output: str | Path = "predictions",
    *,
    quiet: bool = False,
    **options: Any,
) -> list[Outcome]:
    """Folds files or folders of files, as `seedfold predict` does.

    Args:
        inputs: one path or several.
        output: folder for the results.
        quiet: show no progress.
        **options: further fields of `Request`, e.g. ``model``, ``n_samples``, ``seeds``.

    Returns:
        What became of each input, in order; results are in ``Outcome.folder``.

    Raises:
        ValueError: if the model or the device is not there; bad inputs raise nothing, they are
            outcomes with the status ``failed`` and a reason.
    """
    paths = [inputs] if isinstance(inputs, str | Path) else inputs
    request = Request(inputs=tuple(Path(p) for p in paths), output=Path(output), **options)
    with Reporter(quiet=quiet) as reporter:
        return run(request, reporter)


def run(request: Request, reporter: Reporter) -> list[Outcome]:
    """Works through every input and keeps `run_summary.json` up to date.

    Raises:
        ValueError: if the model or device is not there.
        OSError: if the output folder cannot be written.
    """
    if not request.dry_run:
        _make_folder(request.output)
    jobs = list(_collect(request))
    device = pick_device(request.device)
    model = load_model(request.model, device=device, precision=request.precision, reporter=reporter)
    for note in model.notes:
        reporter.warn(note)
    outcomes: list[Outcome] = []
    try:
        for i, (outcome, query) in enumerate(jobs):
            reporter.prefix = f"[{i + 1}/{len(jobs)}] {outcome.name}: " if len(jobs) > 1 else ""
            outcomes.append(outcome)
            with _recorded(outcome, request, reporter):
                if query is not None:
                    _work(query, outcome, request, model, reporter)
            _save_summary(request, model, outcomes, reporter)
    except KeyboardInterrupt:
        _save_summary(request, model, outcomes, reporter)
        raise
    _closing_words(outcomes, request, reporter)
    return outcomes


def _collect(request: Request) -> Iterator[tuple[Outcome, Query | None]]:
    """Every query of every input, named apart; unreadable ones as failed outcomes."""
    taken: set[str] = set()
    for path in request.inputs:
        for file in _files(path):
            try:
                if file is None:
                    raise InputError(
                        str(path),
                        "no input in this folder",
                        expected=f"files ending in {', '.join(INPUT_SUFFIXES)}",
                    )
                queries = read_jobs(file, each=request.each)
            except (InputError, OSError) as error:
                reason = _reason(error)
                yield Outcome(input=str(file or path), name=path.name, reason=reason), None
                continue
            for query in queries:
                if isinstance(query, InputError):
                    yield Outcome(input=str(file), name=file.stem, reason=str(query)), None
                    continue
                name, n = query.name, 1
                while name.casefold() in taken:
                    n += 1
                    name = f"{query.name}_{n}"
                taken.add(name.casefold())
                query = dataclasses.replace(query, name=name)
                yield Outcome(input=str(file), name=name), query


def _files(path: Path) -> list[Path] | list[None]:
    if not path.is_dir():
        return [path]
    found = sorted(p for p in path.iterdir() if p.suffix.lower() in INPUT_SUFFIXES)
    return found or [None]


@contextlib.contextmanager
def _recorded(outcome: Outcome, request: Request, reporter: Reporter) -> Iterator[None]:
    """Turns whatever happens to one input into its outcome."""
    start = time.monotonic()
    try:
        yield
    except KeyboardInterrupt:
        outcome.status, outcome.reason = "interrupted", "interrupted by the user"
        raise
    except (InputError, MemoryExceededError, OSError) as error:
        outcome.reason = _reason(error)
    except Exception as error:
        # A bug of ours: the other inputs go on, the trace is kept for the report.
        outcome.reason = f"internal error: {type(error).__name__}: {error}"
        if not request.dry_run:
            trace = request.output / f"{outcome.name}.traceback.txt"
            with contextlib.suppress(OSError):
                trace.write_text(traceback.format_exc())
                outcome.reason += f"; please report it with {trace}"
    finally:
        outcome.seconds = round(time.monotonic() - start, 2)
    for warning in outcome.warnings:
        reporter.warn(f"{outcome.name}: {warning}")
    if outcome.status == "failed":
        reason = outcome.reason or "failed"
        reporter.error(reason if outcome.input in reason else f"{outcome.input}: {reason}")


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        where = error.filename or "output folder"
        return f"{where}: {error.strerror}; free some space, then go on with --resume"
    return str(error)


def _work(
    query: Query, outcome: Outcome, request: Request, model: LoadedModel, reporter: Reporter
) -> None:
    """Prepares and folds one query, or checks it in a dry run."""
    seeds = request.seeds or query.seeds or (1,)
    outcome.seeds = list(seeds)
    fingerprint = _fingerprint(query, request, seeds)
    folder = request.output / query.name
    if request.resume and _is_complete(folder, fingerprint):
        outcome.status, outcome.folder = "skipped", str(folder)
        reporter.info(f"{outcome.name}: already predicted in {folder}")
        return
    if folder.exists() and not (folder / JOB_FILE).is_file():
        raise InputError(
            str(folder),
            "is there already and holds no prediction",
            todo="give another output folder with -o, or move it away",
        )
    reporter.stage("reading input", 0, 1)
    prepared = prepare(query, model.options)
    outcome.warnings.extend(prepared.warnings)
    outcome.n_token, outcome.n_atom = prepared.n_token, prepared.n_atom
    settings = Settings(
        n_samples=request.n_samples,
        n_cycles=request.n_cycles or model.n_cycles,
        n_steps=request.n_steps or model.n_steps,
    )
    forecast = model.forecast(prepared.n_token, prepared.n_atom, prepared.n_msa, settings.n_samples)
    for line in (*prepared.lines, forecast.line):
        reporter.info(f"{outcome.name}: {line}")
    if request.dry_run:
        outcome.status = "checked"
        return
    with PeakMemory(model.device) as peak:
        predictions = _fold_within_memory(model, prepared, seeds, settings, forecast, reporter)
        _write_atomically(predictions, prepared, folder, fingerprint, request, model, reporter)
    best = predictions[0]
    outcome.status, outcome.folder = "ok", str(folder)
    outcome.peak_memory_gib = round(peak.gib, 2)
    outcome.ranking_score = round(best.scores.ranking_score, 4)
    outcome.stereochemistry = {kind: n for kind, n in best.stereo.outliers.items() if n}
    outcome.best_model = str(folder / f"{query.name}_model_0.cif")


def _fold_within_memory(
    model: LoadedModel,
    prepared: Prepared,
    seeds: Sequence[int],
    settings: Settings,
    forecast: Forecast,
    reporter: Reporter,
) -> list[Prediction]:
    """Folds every seed; each time memory runs out, one rung lower, until there is none."""
    reason = ""
    for rung in ladder(forecast, settings.n_samples):
        now = dataclasses.replace(settings, max_parallel_samples=rung.parallel_samples)
        try:
            with rung.applied():
                found = [p for s in seeds for p in fold(model, prepared, s, now, reporter.stage)]
            return sorted(found, key=lambda p: -p.scores.ranking_score)
        except MemoryExceededError as error:
            # Not the error itself: its trace would keep every tensor of the attempt alive.
            reason = str(error)
        reporter.warn(f"out of memory {rung.description}; trying one rung lower")
        release(model.device)
    raise MemoryExceededError(
        f"{prepared.query.name}: not enough memory for {prepared.n_token} tokens even with "
        f"the smallest chunks ({reason}); use a machine with more memory or a smaller input"
    )


def _write_atomically(
    predictions: Sequence[Prediction],
    prepared: Prepared,
    folder: Path,
    fingerprint: str,
    request: Request,
    model: LoadedModel,
    reporter: Reporter,
) -> None:
    """Writes everything under a temporary name beside `folder`, then renames."""
    reporter.stage("writing", 0, 1)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        write_predictions(
            predictions,
            prepared,
            partial,
            model,
            n_cycles=request.n_cycles or model.n_cycles,
            pdb=request.pdb,
            sdf=request.sdf,
            full=request.full,
        )
        (partial / JOB_FILE).write_text(
            json.dumps({"fingerprint": fingerprint, "model": model.name}, indent=2) + "\n"
        )
        partial.chmod(0o755)
        _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    reporter.stage("writing", 1, 1)


def _replace(new: Path, folder: Path) -> None:
    if not folder.exists():
        new.rename(folder)
        return
    old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
    folder.rename(old / folder.name)
    new.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _fingerprint(query: Query, request: Request, seeds: Sequence[int]) -> str:
    """What decides whether a finished folder answers this query."""
    digest = hashlib.sha256(__version__.encode())
    settings = (seeds, request.n_samples, request.n_cycles, request.n_steps, request.precision)
    outputs = (request.pdb, request.sdf, request.full)
    entities = [dataclasses.replace(entity, where="") for entity in query.entities]
    weights = weights_file(request.model)
    stamp = weights.stat().st_mtime_ns if weights is not None and weights.is_file() else None
    model = (request.model, stamp)
    digest.update(repr((entities, query.bonds, model, settings, outputs)).encode())
    for entity in query.entities:
        documents = [entity.msa, entity.paired_msa, entity.file]
        documents += [t.document for t in entity.templates]
        for document in documents:
            if document is not None and document.path is not None and document.path.exists():
                digest.update(document.path.read_bytes())
    return digest.hexdigest()


def _is_complete(folder: Path, fingerprint: str) -> bool:
    try:
        return json.loads((folder / JOB_FILE).read_text())["fingerprint"] == fingerprint
    except (OSError, ValueError, KeyError):
        return False


def _make_folder(folder: Path) -> None:
    """Creates the output folder and proves that it can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".write-test."):
            pass
    except OSError as error:
        raise OSError(
            f"{folder}: cannot write there ({error.strerror}); give another folder with -o"
        ) from error


def _save_summary(
    request: Request, model: LoadedModel, outcomes: Sequence[Outcome], reporter: Reporter
) -> None:
    if request.dry_run:
        return
    summary = {
        "seedfold": __version__,
        "model": model.name,
        "notes": list(model.notes),
        "device": str(model.device),
        "inputs": [dataclasses.asdict(outcome) for outcome in outcomes],
    }
    target = request.output / "run_summary.json"
    try:
        with whole_file(target) as temporary:
            temporary.write_text(json.dumps(summary, indent=2) + "\n")
    except OSError as error:
        reporter.error(f"{target}: not written: {_reason(error)}")


def _closing_words(outcomes: Sequence[Outcome], request: Request, reporter: Reporter) -> None:
    for outcome in outcomes:
        if outcome.status == "ok":
            reporter.info(
                f"{outcome.name}: {outcome.best_model} (ranking score {outcome.ranking_score}, "
                f"{outcome.seconds:.0f} s, {outcome.peak_memory_gib} GiB)"
            )
            if outcome.stereochemistry:
                wrong = ", ".join(
                    f"{n} {kind.replace('_', ' ')}" for kind, n in outcome.stereochemistry.items()
                )
                reporter.warn(f"{outcome.name}: geometry outside the limits: {wrong}")
    if len(outcomes) > 1 or any(o.failed for o in outcomes):
        count = {s: sum(o.status == s for o in outcomes) for s in ("ok", "skipped", "checked")}
        failed = sum(o.failed for o in outcomes)
        parts = [f"{n} {status}" for status, n in count.items() if n] + (
            [f"{failed} failed"] if failed else []
        )
        where = "" if request.dry_run else f"; see {request.output / 'run_summary.json'}"
        reporter.info(", ".join(parts) + where)
