"""`seedfold evaluate pair | set | run | compare`: how good are predictions, anybody's."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from seedfold.commands.guidance import Guidance, GuidanceChoice
from seedfold.commands.prepare import command_line, errors, fail

if TYPE_CHECKING:
    from seedfold.evaluate.run import SetRequest

app = typer.Typer(
    help="Compare predictions with references: lDDT, TM-score, DockQ, ligand RMSD, lDDT-PLI.",
    no_args_is_help=True,
)

Stereochecks = Annotated[
    bool,
    typer.Option(
        "--stereochecks/--no-stereochecks",
        help="lDDT leaves out atoms of impossible geometry, as OpenStructure does.",
    ),
]
Poses = Annotated[
    str,
    typer.Option(help="PoseBusters' checks of ligands: full, fast (without energies) or none."),
]
Output = Annotated[Path, typer.Option("-o", "--output", help="Folder for results.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes. Default: as many as there are CPUs.")
]
Ray = Annotated[
    str | None,
    typer.Option(
        help="Address of a Ray cluster ('auto'), or 'local': its CPUs instead of --workers.",
        show_default=False,
    ),
]
Seconds = Annotated[float, typer.Option(min=1, help="Time limit of one comparison.")]
RankBy = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Rank samples by this number of their files of confidences, highest first; '-NAME' "
        "lowest first. Default: the program's own ranking score.",
        show_default=False,
    ),
]
Bootstrap = Annotated[int, typer.Option("--bootstrap", min=100, help="Resamplings of intervals.")]


@app.command()
def pair(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Prediction, mmCIF or PDB.")],
    reference: Annotated[Path, typer.Argument(metavar="REFERENCE", help="What is right.")],
    json_: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
    stereochecks: Stereochecks = True,
    poses: Poses = "full",
    assembly: Annotated[
        str | None,
        typer.Option(help="Make this biological assembly of the reference.", show_default=False),
    ] = None,
) -> None:
    """Compare one structure with its reference."""
    import json

    from seedfold.evaluate.pair import Options, evaluate_pair
    from seedfold.evaluate.pair_text import pair_text

    with errors():
        options = Options(stereochecks=stereochecks, poses=_poses(poses), assembly=assembly)
        result = evaluate_pair(model, reference, options=options)
    content = result.to_json()
    typer.echo(json.dumps(content, indent=2) if json_ else pair_text(content), nl=json_)


@app.command(name="set")
def set_(
    targets: Annotated[
        Path,
        typer.Argument(metavar="TARGETS", help="Folder of target lists (FoldBench's), or one CSV."),
    ],
    references: Annotated[Path, typer.Option(help="Folder of reference structures.")],
    predictions: Annotated[
        Path,
        typer.Option(
            help="Output folder of SeedFold, AlphaFold 3, Boltz, Chai-1 or Protenix, files "
            "NAME.cif, or FoldBench's prediction_reference.csv."
        ),
    ],
    output: Output,
    rank_by: RankBy = None,
    stereochecks: Stereochecks = True,
    poses: Poses = "full",
    workers: Workers = None,
    ray: Ray = None,
    seconds: Seconds = 600.0,
    bootstrap: Bootstrap = 10_000,
) -> None:
    """Compare all predictions of a target list; again, it goes on where it was."""
    from seedfold.evaluate.run import SetRequest

    with errors():
        request = SetRequest(
            targets=targets,
            references=references,
            predictions=predictions,
            output=output,
            rank_by=rank_by,
            stereochecks=stereochecks,
            poses=_poses(poses),
            workers=workers or os.cpu_count() or 1,
            ray=ray,
            seconds=seconds,
            n_bootstrap=bootstrap,
        )
        _evaluate(request)


@app.command()
def run(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="SET", help="Folder with targets/, structures/ and, if wanted, inputs/."
        ),
    ],
    output: Output,
    model: Annotated[str, typer.Option(help="Name of a model or a .safetensors file.")] = "nano",
    only: Annotated[
        str | None,
        typer.Option(help="Only these structures, e.g. 5sbj,7fwf.", show_default=False),
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="Model seeds, e.g. 1,2,3.", show_default=False)
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Structures per seed.")] = 5,
    cycles: Annotated[
        int | None, typer.Option(min=1, help="Trunk passes. Default: the model's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Diffusion steps. Default: the model's.")
    ] = None,
    guidance: Guidance = GuidanceChoice.auto,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    rank_by: RankBy = None,
    stereochecks: Stereochecks = True,
    poses: Poses = "full",
    workers: Workers = None,
    ray: Ray = None,
    seconds: Seconds = 600.0,
    bootstrap: Bootstrap = 10_000,
) -> None:
    """Predict a whole set and evaluate it; again, it goes on where it was."""
    from seedfold.evaluate.model_run import find_set, predict_set
    from seedfold.evaluate.run import SetRequest
    from seedfold.jobs import Request
    from seedfold.progress import Reporter

    with errors():
        found = find_set(folder)
        chosen = None if only is None else tuple(only.split(","))
        prediction = Request(
            inputs=(),
            output=output / "predictions",
            model=model,
            seeds=_seeds(seeds),
            n_samples=samples,
            n_cycles=cycles,
            n_steps=steps,
            guided=guidance.guided,
            device=device,
        )
        request = SetRequest(
            targets=found.targets,
            references=found.references,
            predictions=prediction.output,
            output=output,
            only=chosen,
            rank_by=rank_by,
            stereochecks=stereochecks,
            poses=_poses(poses),
            workers=workers or os.cpu_count() or 1,
            ray=ray,
            seconds=seconds,
            n_bootstrap=bootstrap,
        )
        with Reporter() as reporter:
            predict_set(found, prediction, reporter, only=chosen)
        _evaluate(request)


@app.command()
def compare(
    one: Annotated[Path, typer.Argument(metavar="FIRST", help="Results of seedfold evaluate.")],
    other: Annotated[Path, typer.Argument(metavar="SECOND", help="Those of another model.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Also write it as NAME.csv.", show_default=False),
    ] = None,
    bootstrap: Bootstrap = 10_000,
) -> None:
    """Compare two models on the targets that both were given."""
    from seedfold.evaluate.comparison import COLUMNS, compare_tables
    from seedfold.evaluate.summary import comparison_text
    from seedfold.evaluate.table_files import read_table, write_table

    with errors():
        tables = [read_table(folder / "targets.csv", COLUMNS) for folder in (one, other)]
        rows = compare_tables(*tables, n_bootstrap=bootstrap)
        typer.echo(comparison_text(rows), nl=False)
        if output is not None:
            write_table(output.with_suffix(""), rows)


def _evaluate(request: "SetRequest") -> None:
    """Evaluates, writes everything and tells of it; fails if nothing has a score."""
    from seedfold.evaluate.run import evaluate_set
    from seedfold.evaluate.summary import task_text, write_evaluation
    from seedfold.progress import Reporter

    with Reporter() as reporter:
        result = evaluate_set(request, progress=reporter.stage)
        tasks = write_evaluation(request, result, command=command_line())
        for reason, n in result.reasons.items():
            reporter.warn(f"{n} x {reason}")
        if result.unused:
            reporter.warn(f"{len(result.unused)} structure files belong to no target")
        lost = sum(not scored.samples and not scored.unscorable for scored in result.targets)
        if lost:
            reporter.warn(f"{lost} of {len(result.targets)} targets have no prediction")
        unscorable = sum(scored.unscorable for scored in result.targets)
        if unscorable:
            reporter.warn(f"{unscorable} of {len(result.targets)} targets lack a usable reference")
    typer.echo(task_text([row for row in tasks if _is_main(row)]), nl=False)
    typer.echo(
        f"{result.n_computed} pairs compared, {result.n_kept} kept, {result.n_failed} failed; "
        f"see {request.output / 'evaluation.html'}"
    )
    if not any(row["n_scored"] for row in tasks):
        fail("no target has a score")


def _is_main(row: dict[str, Any]) -> bool:
    """Rows for the terminal: success, or of monomers lDDT."""
    monomers = row["task"].startswith("monomer") and row["quantity"] == "lddt"
    return monomers or row["quantity"] in ("success", "dockq", "lddt_pli")


def _poses(text: str) -> Any:
    if text not in ("full", "fast", "none"):
        fail(f"--poses: found {text!r}; expected full, fast or none", 2)
    return text


def _seeds(text: str | None) -> tuple[int, ...] | None:
    try:
        return None if text is None else tuple(int(part) for part in text.split(","))
    except ValueError:
        fail(f"--seeds: found {text!r}; expected whole numbers, e.g. 1,2,3", 2)
        raise AssertionError from None
