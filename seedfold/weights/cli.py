"""`seedfold weights list | info | verify | import | fetch | grow`: what `--model` accepts."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from seedfold.data_pipeline.feature_options import FeatureOptions
    from seedfold.weights.catalogue import KnownModel


def _no_network(offline: bool) -> bool:
    if offline:
        os.environ["SEEDFOLD_OFFLINE"] = "1"
    return offline


Offline = Annotated[
    bool,
    typer.Option("--offline", help="Never use the network for weights.", callback=_no_network),
]
"""The option of commands that may fetch a model; SEEDFOLD_OFFLINE=1 does the same."""

app = typer.Typer(help="Weights of published models.", no_args_is_help=True)

_Model = Annotated[
    str, typer.Argument(metavar="FILE_OR_NAME", help="A file, or a model of the store.")
]


@app.command("list")
def list_models() -> None:
    """Published models, what they need and reach, and what is in the store."""
    from seedfold.weights import store
    from seedfold.weights.catalogue import KNOWN

    here = store.installed()
    typer.echo(f"{'name':22}{'installed':11}{'parameters':12}{'size':16}licence")
    for model in KNOWN.values():
        there = "yes" if model.name in here else "no" if model.url else "import only"
        typer.echo(
            f"{model.name:22}{there:11}{model.parameters / 1e6:<7.2f}M    "
            f"{model.size_text:16}{model.licence}"
        )
        typer.echo(f"    {model.accuracy} [{model.source}]")
        typer.echo(f"    {model.url or 'no address known'}")
    for name in here:
        if name not in KNOWN:
            typer.echo(f"{name:22}{'yes':11}{'':12}{'':16}see seedfold weights info {name}")
    typer.echo(f"store: {store.folder()}")


@app.command()
def info(model: _Model) -> None:
    """What a file or a model is: size, licence, origin, accuracy as its authors publish it."""
    from seedfold.weights import store
    from seedfold.weights.catalogue import KNOWN

    with _errors():
        if Path(model).is_file() and Path(model).suffix != ".safetensors":
            _describe_donor_file(Path(model))
        elif model not in KNOWN or model in store.installed():
            _describe_file(store.resolve(model))
        if model in KNOWN:
            _describe_known(KNOWN[model])


@app.command()
def verify(model: _Model) -> None:
    """Check every number of a converted file against its checksum and its configuration."""
    from seedfold.weights import store

    with _errors():
        typer.echo(store.verify(store.resolve(model)))


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="The checkpoint as its authors publish it (.pt).")],
    name: Annotated[str, typer.Option("--as", help="The name it gets, e.g. protenix-v2.")],
    like: Annotated[
        str,
        typer.Option(
            help="For a name of your own: the published model it is built like, or a .json file "
            "with the donor's widths and depths.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Convert a donor's checkpoint and put it into the store; nothing in it is run."""
    from seedfold.weights import store

    with _errors():
        store.import_weights(file, name, like=like, say=typer.echo)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A model of `seedfold weights list`.")],
    offline: Offline = False,
) -> None:
    """Download a published model, convert it and put it into the store."""
    from seedfold.progress import Reporter
    from seedfold.weights import store
    from seedfold.weights.catalogue import known

    with _errors(), Reporter() as reporter:
        known(name)
        store.fetch(
            name, offline=offline, say=reporter.info, progress=store.show_bytes(reporter, name)
        )


@app.command()
def grow(
    model: _Model,
    output: Annotated[Path, typer.Option("-o", "--output", help="The .safetensors file to write.")],
    c_z: Annotated[int | None, typer.Option(help="Channels of pairs.")] = None,
    c_m: Annotated[int | None, typer.Option(help="Channels of the MSA.")] = None,
    pairformer_blocks: Annotated[int | None, typer.Option(help="Blocks of the Pairformer.")] = None,
    diffusion_blocks: Annotated[
        int | None, typer.Option(help="Blocks of the diffusion transformer.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the random numbers of new units.")] = 0,
) -> None:
    """Make a wider or deeper network that computes the same, to train on from there."""
    from dataclasses import replace

    import torch

    from seedfold.checkpoint import load_checkpoint, save_checkpoint
    from seedfold.weights import store
    from seedfold.weights.grow import describe, larger
    from seedfold.weights.grow import grow as grown

    with _errors():
        network, info = load_checkpoint(store.resolve(model))
        target = larger(
            info.config,
            c_z=c_z,
            c_m=c_m,
            pairformer_blocks=pairformer_blocks,
            diffusion_blocks=diffusion_blocks,
        )
        for line in describe(info.config, target):
            typer.echo(line)
        generator = torch.Generator().manual_seed(seed)
        weights = grown(network.state_dict(), info.config, target, generator)
        save_checkpoint(output, weights, replace(info, name=output.stem, config=target))
        typer.echo(f"written: {output}")


def _describe_known(model: "KnownModel") -> None:
    from seedfold.weights.catalogue import DONORS

    donor = DONORS[model.donor]
    typer.echo(f"published as: {model.published_as} ({donor.name}, {donor.homepage})")
    typer.echo(f"licence: {donor.licence}")
    typer.echo(f"parameters: {model.parameters / 1e6:.2f}M, {model.size_text}")
    typer.echo(f"address: {model.url or 'not known; import only'}")
    typer.echo(f"importer: {donor.importer}")
    typer.echo(f"accuracy: {model.accuracy}")
    typer.echo(f"source: {model.source}")


def _describe_file(path: Path) -> None:
    from seedfold.checkpoint import read_info
    from seedfold.weights import store

    header, origin = read_info(path), store.provenance(path)
    config = header.config
    typer.echo(f"file: {path} ({path.stat().st_size / 1e9:.2f} GB)")
    typer.echo(f"name: {header.name}{'' if header.trained else ' (UNTRAINED)'}")
    if header.notice:
        typer.echo(f"notice: {header.notice}")
    typer.echo(f"licence: {header.licence or 'not stated'}")
    typer.echo(
        f"network: c_z {config.c_z}, c_m {config.c_m}, c_s {config.c_s}, "
        f"{config.trunk.pairformer.n_blocks} Pairformer blocks, "
        f"{config.diffusion.transformer.n_blocks} diffusion blocks"
    )
    typer.echo(f"features: {_listed(header.inputs)}")
    typer.echo(f"written by: seedfold {header.version}")
    if origin:
        typer.echo(f"converted from: {origin.file}, sha256 {origin.sha256} {origin.url}".rstrip())


def _listed(inputs: "FeatureOptions") -> str:
    from seedfold.config import to_dict

    return ", ".join(f"{name} {value}" for name, value in to_dict(inputs).items())


def _describe_donor_file(path: Path) -> None:
    from seedfold.weights import store
    from seedfold.weights.catalogue import KNOWN

    source = store.read_donor(path)
    alike = [m.name for m in KNOWN.values() if m.numbers == source.parameters]
    typer.echo(f"file: {path}, a checkpoint of another program")
    typer.echo(f"tensors: {len(source.tensors)}, {source.parameters / 1e6:.2f}M numbers")
    typer.echo(f"of the size of: {' or '.join(alike) or 'no published model'}")


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.secho("interrupted; what was downloaded is kept", fg="red", bold=True, err=True)
        raise typer.Exit(130) from None
    except (ValueError, OSError) as error:
        typer.secho(f"error: {error}", fg="red", bold=True, err=True)
        raise typer.Exit(1) from None
