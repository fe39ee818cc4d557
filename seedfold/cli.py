"""The command line: `seedfold predict | msa | weights | doctor`.

Commands import what they need when they run.
"""

import signal
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from seedfold.commands.distill import distill
from seedfold.commands.evaluate import app as evaluate_app
from seedfold.commands.guidance import Guidance, GuidanceChoice
from seedfold.commands.msa import Db
from seedfold.commands.msa import app as msa_app
from seedfold.commands.prepare import app as prepare_app
from seedfold.commands.train import train
from seedfold.weights.cli import Offline
from seedfold.weights.cli import app as weights_app

app = typer.Typer(
    help="Structure prediction of biomolecular complexes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(msa_app, name="msa")
app.add_typer(weights_app, name="weights")
app.add_typer(evaluate_app, name="evaluate")
app.add_typer(prepare_app, name="prepare")
app.command()(distill)
app.command()(train)


class Device(StrEnum):
    """Where the network runs."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    """Arithmetic of the trunk; the structure module always runs in fp32."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Msa(StrEnum):
    """Where alignments come from that the input does not bring."""

    none = "none"
    local = "local"
    server = "server"


class Templates(StrEnum):
    """Where templates come from that the input does not bring."""

    none = "none"
    local = "local"


@app.callback(invoke_without_command=True)
def _root(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from seedfold import __version__

        typer.echo(f"seedfold {__version__}")
        raise typer.Exit


@app.command()
def predict(
    inputs: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="INPUT",
            help="FASTA, YAML or JSON files (our own form, Boltz, AlphaFold 3, Chai, Protenix), "
            "or folders of them.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the results.")] = Path(
        "predictions"
    ),
    model: Annotated[str, typer.Option(help="Name of a model or a .safetensors file.")] = "nano",
    seeds: Annotated[
        str | None,
        typer.Option(help="Model seeds, e.g. 1,2,3. Default: those of the input, else 1."),
    ] = None,
    samples: Annotated[int, typer.Option(min=1, help="Structures per seed.")] = 5,
    cycles: Annotated[
        int | None, typer.Option(min=1, help="Trunk passes. Default: the model's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="Diffusion steps. Default: the model's.")
    ] = None,
    guidance: Guidance = GuidanceChoice.auto,
    device: Annotated[Device, typer.Option(help="Where to run.")] = Device.auto,
    precision: Annotated[
        Precision, typer.Option(help="Of the trunk; auto = bf16 on CUDA, fp32 elsewhere.")
    ] = Precision.auto,
    msa: Annotated[
        Msa,
        typer.Option(
            help="Search alignments for proteins and RNA that bring none: in the databases of "
            "this machine, or by a ColabFold server, which gets the protein sequences."
        ),
    ] = Msa.none,
    templates: Annotated[
        Templates, typer.Option(help="Search templates for proteins that bring none.")
    ] = Templates.none,
    db: Db = None,
    msa_host: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The server of --msa server. Default: https://api.colabfold.com",
            show_default=False,
        ),
    ] = None,
    templates_before: Annotated[
        datetime | None,
        typer.Option(
            formats=["%Y-%m-%d"],
            metavar="YYYY-MM-DD",
            help="Only templates released before that day.",
            show_default=False,
        ),
    ] = None,
    each: Annotated[
        bool, typer.Option("--each", help="Every record of a plain FASTA is its own prediction.")
    ] = False,
    pdb: Annotated[bool, typer.Option("--pdb", help="Also write PDB files.")] = False,
    sdf: Annotated[bool, typer.Option("--sdf", help="Also write each ligand as SDF.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also write the full PAE, PDE and pLDDT arrays (npz).")
    ] = False,
    offline: Offline = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip inputs that are already predicted in the folder.")
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check the inputs; print tokens, atoms, alignments and memory. Searches nothing.",
        ),
    ] = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON Schema of our input form and exit.")
    ] = False,
) -> None:
    """Predict the structure of every input: one folder each, models ranked best first."""
    if schema:
        import json

        from seedfold.data_pipeline.dialects import json_schema

        typer.echo(json.dumps(json_schema(), indent=2))
        return
    # A scheduler's SIGTERM ends a run as Ctrl-C does: nothing half-written, a summary.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if not inputs:
        _fail("no input given; name at least one FASTA, YAML or JSON file, or see --help", 2)

    if msa_host is not None and msa is not Msa.server:
        _fail("--msa-host is for --msa server", 2)
    if templates_before is not None and templates is Templates.none:
        _fail("--templates-before is for --templates local", 2)
    if db is not None and msa is not Msa.local and templates is Templates.none:
        _fail("--db is for --msa local or --templates local", 2)

    from seedfold.jobs import Request, run
    from seedfold.progress import Reporter

    request = Request(
        inputs=tuple(inputs),
        output=output,
        model=model,
        seeds=_parse_seeds(seeds),
        n_samples=samples,
        n_cycles=cycles,
        n_steps=steps,
        guided=guidance.guided,
        device=device.value,
        precision=precision.value,
        each=each,
        pdb=pdb,
        sdf=sdf,
        full=full,
        resume=resume,
        dry_run=dry_run,
        msa=msa.value,
        templates=templates.value,
        db=db,
        msa_host=msa_host,
        templates_before=templates_before and templates_before.date(),
    )
    try:
        with Reporter() as reporter:
            outcomes = run(request, reporter)
    except KeyboardInterrupt:
        _fail("interrupted; finished predictions are kept, use --resume to go on", 130)
    except (ValueError, OSError) as error:
        _fail(str(error), 1)
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(1)


@app.command()
def report(
    folder: Annotated[
        Path, typer.Argument(help="Folder of a prediction, or of many: the output of predict.")
    ],
) -> None:
    """Write the HTML pages of finished predictions anew."""
    from seedfold.report import write_reports

    try:
        for path in write_reports(folder):
            typer.echo(path)
    except (ValueError, OSError) as error:
        _fail(str(error), 1)


@app.command()
def doctor() -> None:
    """Print versions, devices, kernels and the weights found: what to send with a bug report."""
    from seedfold.doctor import report

    typer.echo(report())


def _parse_seeds(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        seeds = tuple(int(part) for part in text.replace(",", " ").split())
    except ValueError:
        seeds = ()
    if not seeds or min(seeds) < 0 or max(seeds) >= 2**32 or len(set(seeds)) < len(seeds):
        _fail(
            f"--seeds: found {text!r}; expected distinct whole numbers from 0 to 2^32 - 1, "
            "e.g. --seeds 1,2,3",
            2,
        )
    return seeds


def _fail(message: str, code: int) -> NoReturn:
    typer.secho(f"error: {message}", fg="red", bold=True, err=True)
    raise typer.Exit(code)


def main() -> None:
    """Entry point of the `seedfold` command."""
    # A reader that went away (| head) is no error of ours.
    try:
        app()
    except BrokenPipeError:
        sys.exit(0)
