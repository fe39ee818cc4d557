"""`seedfold train`: a network from prepared data."""

from pathlib import Path
from typing import Annotated

import typer


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="experiment=NAME [OPTION=VALUE]...",
            help="A file of configs/experiment, and what differs: trainer.steps=100, "
            "model=seedfold_128, model.trunk.pairformer.n_blocks=2, run.name=mine.",
            show_default=False,
        ),
    ] = None,
    config_dir: Annotated[
        Path | None,
        typer.Option(help="Folder of configurations. Default: configs/ of the checkout."),
    ] = None,
) -> None:
    """Train a network; the same command goes on where it was stopped."""
    try:
        from seedfold.train import compose, run
    except ModuleNotFoundError as error:
        _fail(f"{error}; install what training needs: pip install 'seedfold[train]'")
    try:
        config = compose.composed(overrides or [], config_dir or compose.CONFIGS)
        outcome = run.train(config, typer.echo)
    except ValueError as error:
        _fail(str(error))
    if outcome.stopped_by is not None:
        typer.echo(f"stopped at step {outcome.step}; the same command goes on from there")
        raise typer.Exit(128 + outcome.stopped_by)
    best = max(outcome.lddt)
    typer.echo(
        f"{outcome.step} steps; lDDT of {len(outcome.lddt)} sampled structures of the first "
        f"example: mean {sum(outcome.lddt) / len(outcome.lddt):.3f}, best {best:.3f}"
    )
    typer.echo(f"weights: {outcome.weights}; try seedfold predict --model {outcome.weights}")


def _fail(message: str) -> None:
    typer.secho(f"error: {message}", fg="red", err=True)
    raise typer.Exit(1)
