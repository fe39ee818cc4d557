"""`seedfold train`: a network from prepared data."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="experiment=NAME [OPTION=VALUE]...",
            help="A file of configs/experiment, and what differs: files of other folders of "
            "configs (stage=stage2_crop640, trainer=ddp, model=seedfold_128) and single options "
            "(trainer.steps=100, run.name=mine).",
            show_default=False,
        ),
    ] = None,
    config_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of configurations. Default: configs/ of the checkout."),
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan",
            help="Only tell what every stage will need: memory, time, GPU-hours. "
            "Needs no data and no GPU.",
        ),
    ] = False,
) -> None:
    """Train a network; the same command goes on where it was stopped."""
    if plan:
        return _plan(overrides or [], config_dir)
    try:
        from seedfold.train import compose, run
    except ModuleNotFoundError as error:
        _fail(f"{error}; install what training needs: pip install 'seedfold[train]'")
    try:
        config = compose.composed(overrides or [], config_dir or compose.configs_here())
        outcome = run.train(config, typer.echo)
    except ValueError as error:
        _fail(str(error))
    if not outcome.first:
        raise typer.Exit(0 if outcome.stopped_by is None else 128 + outcome.stopped_by)
    if outcome.stopped_by is not None:
        typer.echo(f"stopped at step {outcome.step}; the same command goes on from there")
        raise typer.Exit(128 + outcome.stopped_by)
    assert outcome.sampled is not None
    lddt, mirrored = outcome.sampled.lddt, sum(outcome.sampled.mirrored)
    typer.echo(
        f"{outcome.step} steps; lDDT of {len(lddt)} sampled structures of the first "
        f"example: mean {sum(lddt) / len(lddt):.3f}, best {max(lddt):.3f}; "
        f"mirror images: {mirrored or 'none'}"
    )
    typer.echo(f"weights: {outcome.weights}; try seedfold predict --model {outcome.weights}")


def _plan(overrides: list[str], config_dir: Path | None) -> None:
    try:
        from seedfold.train import compose, plan
    except ModuleNotFoundError as error:
        _fail(f"{error}; install what training needs: pip install 'seedfold[train]'")
    try:
        runs = compose.chain(overrides, config_dir or compose.configs_here())
        plans = [plan.plan(run) for run in runs]
    except ValueError as error:
        _fail(str(error))
    for line in plan.describe(plans):
        typer.echo(line)


def _fail(message: str) -> None:
    typer.secho(f"error: {message}", fg="red", err=True)
    raise typer.Exit(1)
