"""`seedfold train`: from a configuration to a trained network.

Dataclasses validate, Lightning runs. A run is a folder: `config.json`, `metrics.csv`,
`checkpoints/` to resume from, and `model.safetensors`, the averaged weights, for
`seedfold predict --model`. The same command goes on where the folder ends.
"""

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import lightning
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException

from seedfold.checkpoint import CheckpointInfo, save_checkpoint
from seedfold.config import to_dict
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.model.seedfold import SeedFold
from seedfold.train.callbacks import Checkpoints, Curves, SampledStructures, Say, latest
from seedfold.train.compose import RunConfig, flat
from seedfold.train.data import Batch, FoldingData
from seedfold.train.module import FoldingModule

MAY_CHANGE = (
    *("trainer.steps", "trainer.checkpoint_every", "trainer.validate_every", "trainer.accelerator"),
    *("trainer.strategy", "data.workers"),
)
"""Options that a run may be resumed with other values of: the steps stay the same."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended: at which step, and the signal that stopped it before its end, if any.

    `lddt` of structures that were sampled for the first example.
    """

    step: int
    weights: Path
    lddt: tuple[float, ...]
    stopped_by: int | None


def train(config: RunConfig, say: Say = print) -> Outcome:
    """Trains, or goes on with, the run that a configuration describes.

    Raises:
        InputError: if the folder of the run holds another run, or a data set is missing.
    """
    folder = Path(config.run.folder)
    checkpoints = folder / "checkpoints"
    _check_folder(folder, config)
    resumed = latest(checkpoints)
    torch.manual_seed(config.run.seed)
    module = FoldingModule(config.model, config.stage, config.optim)
    data = FoldingData(config.data, config.run.seed, config.trainer.accumulate)
    keeper = Checkpoints(checkpoints, config.trainer.checkpoint_every)
    try:
        with _quiet():
            trainer = _trainer(config, folder, keeper, say)
    except MisconfigurationException as error:
        raise InputError("trainer", " ".join(str(error).split())) from error
    say(f"{config.run.name}: {_millions(module.network)} M parameters, {folder}")
    if resumed is not None:
        say(f"going on with {resumed.name}")
    with _quiet():
        trainer.fit(module, data, ckpt_path=resumed, weights_only=True)
    weights = folder / "model.safetensors"
    if trainer.is_global_zero:
        export(weights, module, config)
    return Outcome(
        step=trainer.global_step,
        weights=weights,
        lddt=() if keeper.received else tuple(_first_example(module, data, config.run.seed)),
        stopped_by=keeper.received,
    )


def export(path: Path, module: FoldingModule, config: RunConfig) -> None:
    """Writes the averaged weights for `seedfold predict --model`."""
    info = CheckpointInfo(name=config.run.name, config=config.model, inputs=config.data.inputs)
    save_checkpoint(path, module.ema.full(module.network), info)


def _trainer(config: RunConfig, folder: Path, keeper: Checkpoints, say: Say) -> lightning.Trainer:
    c = config.trainer
    return lightning.Trainer(
        accelerator=c.accelerator,
        devices=c.devices,
        num_nodes=c.nodes,
        strategy=c.strategy,
        max_steps=c.steps,
        max_epochs=-1,
        accumulate_grad_batches=c.accumulate,
        callbacks=[
            SampledStructures(c.validate_every, config.run.seed),
            Curves(folder / "metrics.csv", say),
            keeper,
        ],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


def _first_example(module: FoldingModule, data: FoldingData, seed: int) -> list[float]:
    batch = Batch.of([data.examples[(0, 0)]])
    f = batch.f.to(next(module.network.parameters()).device)
    return module.sampled_lddt(f, n_samples=5, seed=seed)


def _check_folder(folder: Path, config: RunConfig) -> None:
    """Writes the configuration, or compares it with that of the run that is there."""
    path, new = folder / "config.json", to_dict(config)
    if latest(folder / "checkpoints") is not None:
        old = json.loads(path.read_text())
        were, are = dict(flat(old)), dict(flat(json.loads(json.dumps(new))))
        for key in sorted(were.keys() | are.keys()):
            if were.get(key) != are.get(key) and key not in MAY_CHANGE:
                raise InputError(
                    str(folder),
                    f"holds a run with {key}={were.get(key)}, not {are.get(key)}",
                    todo="give this one another run.name, or remove the folder",
                )
    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(new, indent=1) + "\n")


def _millions(network: SeedFold) -> str:
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice, which is about choices that were made on purpose."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        log.setLevel(level)
