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
import shlex
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal

import torch

from seedfold import __version__
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.query import Document, Entity, Query
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.inputs import collect
from seedfold.memory import Forecast, MemoryExceededError, PeakMemory, ladder, release
from seedfold.models import LoadedModel, load_model, pick_device, weights_file
from seedfold.prediction import Prediction, Prepared, Settings, fold, prepare, write_predictions
from seedfold.progress import Reporter
from seedfold.report import PAGE, write_index, write_page
from seedfold.searching import MsaMode, Searcher, SearchOptions, TemplateMode

JOB_FILE = "job.json"
"""Stands in every finished folder and says what it answers."""
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
    guided: bool | None = None
    device: str = "auto"
    precision: str = "auto"
    each: bool = False
    pdb: bool = False
    sdf: bool = False
    full: bool = False
    resume: bool = False
    dry_run: bool = False
    msa: MsaMode = "none"
    templates: TemplateMode = "none"
    db: str | Path | None = None
    msa_host: str | None = None
    templates_before: date | None = None

    @property
    def search(self) -> SearchOptions:
        """What is to be searched, and how."""
        return SearchOptions(
            msa=self.msa,
            templates=self.templates,
            db=None if self.db is None else Path(self.db),
            host=self.msa_host,
            templates_before=self.templates_before,
            cache_only=self.dry_run,
        )


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
        ValueError: if the model, the device or the databases are not there; bad inputs raise
            nothing, they are outcomes with the status ``failed`` and a reason.
    """
    paths = [inputs] if isinstance(inputs, str | Path) else inputs
    request = Request(inputs=tuple(Path(p) for p in paths), output=Path(output), **options)
    with Reporter(quiet=quiet) as reporter:
        return run(request, reporter)


def run(request: Request, reporter: Reporter) -> list[Outcome]:
    """Works through every input and keeps `run_summary.json` up to date.

    Raises:
        ValueError: if the model, the device or the databases are not there.
        OSError: if the output folder cannot be written.
    """
    jobs = list(_collect(request))
    searcher = Searcher(request.search, reporter)
    device = pick_device(request.device)
    model = load_model(request.model, device=device, precision=request.precision, reporter=reporter)
    if not request.dry_run:
        _make_folder(request.output)
    for note in model.notes:
        reporter.warn(note)
    found = _with_searches(jobs, searcher)
    outcomes: list[Outcome] = []
    try:
        for i, (outcome, query) in enumerate(found):
            reporter.prefix = f"[{i + 1}/{len(jobs)}] {outcome.name}: " if len(jobs) > 1 else ""
            outcomes.append(outcome)
            with _recorded(outcome, request, reporter):
                if isinstance(query, Exception):
                    raise query
                if query is not None:
                    _work(query, outcome, request, model, reporter)
            _save_summary(request, model, outcomes, reporter)
    except KeyboardInterrupt:
        _save_summary(request, model, outcomes, reporter)
        raise
    if len(outcomes) > 1 and not request.dry_run:
        write_index(request.output)
    _closing_words(outcomes, request, reporter)
    return outcomes


def _collect(request: Request) -> Iterator[tuple[Outcome, Query | None]]:
    """Every query of every input, named apart; unreadable ones as failed outcomes."""
    for item in collect(request.inputs, each=request.each):
        outcome = Outcome(input=item.file, name=item.name)
        if isinstance(item.content, Query):
            yield outcome, item.content
        else:
            outcome.reason = _reason(item.content)
            yield outcome, None


def _with_searches(
    jobs: Sequence[tuple[Outcome, Query | None]], searcher: Searcher
) -> list[tuple[Outcome, Query | Exception | None]]:
    """The queries with the alignments and templates that were asked for, all searched at once."""
    answers = iter(searcher.complete([query for _, query in jobs if query is not None]))
    return [(outcome, None if query is None else next(answers)) for outcome, query in jobs]


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
        guided=model.guided if request.guided is None else request.guided,
    )
    forecast = model.forecast(prepared.n_token, prepared.n_atom, prepared.n_msa, settings.n_samples)
    for line in (*prepared.lines, forecast.line):
        reporter.info(f"{outcome.name}: {line}")
    if request.dry_run:
        outcome.status = "checked"
        return
    with PeakMemory(model.device) as peak:
        predictions = _fold_within_memory(model, prepared, seeds, settings, forecast, reporter)
        _write_atomically(
            predictions, prepared, folder, fingerprint, request, settings, model, reporter
        )
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
    settings: Settings,
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
            settings=settings,
            pdb=request.pdb,
            sdf=request.sdf,
            full=request.full,
        )
        job = {"fingerprint": fingerprint, "model": model.label, **_circumstances(settings, model)}
        (partial / JOB_FILE).write_text(json.dumps(job, indent=2) + "\n")
        try:
            write_page(partial)
        except InputError as error:
            reporter.warn(f"{folder.name}: no page was made ({error})")
        partial.chmod(0o755)
        _replace(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    reporter.stage("writing", 1, 1)


def _circumstances(settings: Settings, model: LoadedModel) -> dict[str, Any]:
    """What it takes to do it again, for the page."""
    return {
        "command": shlex.join(["seedfold", *sys.argv[1:]]),
        "versions": {"seedfold": __version__, "torch": torch.__version__},
        "settings": {
            "samples": settings.n_samples,
            "cycles": settings.n_cycles,
            "steps": settings.n_steps,
            "guidance": "on" if settings.guided else "off",
            "device": str(model.device),
            "precision": model.precision,
        },
        "written": time.strftime("%Y-%m-%d %H:%M"),
    }


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
    settings = (
        seeds,
        request.n_samples,
        request.n_cycles,
        request.n_steps,
        request.guided,
        request.precision,
    )
    outputs = (request.pdb, request.sdf, request.full)
    weights = weights_file(request.model)
    stamp = weights.stat().st_mtime_ns if weights is not None and weights.is_file() else None
    model = (request.model, stamp)
    entities = [_identity(entity) for entity in query.entities]
    text = repr((__version__, entities, query.bonds, model, settings, outputs))
    return hashlib.sha256(text.encode()).hexdigest()


def _identity(entity: Entity) -> tuple[object, ...]:
    """What an entity is, its documents by their content: where a file lies does not matter."""
    bare = dataclasses.replace(entity, where="", msa=None, paired_msa=None, file=None, templates=())
    documents = [_digest(d) for d in (entity.msa, entity.paired_msa, entity.file)]
    templates = [(_digest(t.document), t.chain, t.mapping) for t in entity.templates]
    return bare, documents, templates


def _digest(document: Document | None) -> str | None:
    if document is None:
        return None
    if document.path is None:
        data = (document.text or "").encode()
    else:
        data = document.path.read_bytes() if document.path.exists() else b""
    return hashlib.sha256(data).hexdigest()


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
        "model": model.label,
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
            reporter.info(f"{outcome.name}: to look at: {outcome.folder}/{PAGE}")
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
