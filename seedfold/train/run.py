"""`seedfold train`: from a configuration to a trained network.

Dataclasses validate, Lightning runs. A run is a folder: `config.json`, `metrics.csv`,
`checkpoints/` to resume from, and `model.safetensors`, the averaged weights as of the newest
checkpoint, for `seedfold predict --model`. The same command goes on where the folder ends.
"""

import dataclasses
import json
import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning import Callback, Trainer
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_only

from seedfold.checkpoint import CheckpointInfo, save_checkpoint
from seedfold.config import from_dict, to_dict
from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.whole_file import whole_file
from seedfold.model.seedfold import SeedFold
from seedfold.train import parallel, wrapping
from seedfold.train.callbacks import FirstExample, SampledStructures, Say
from seedfold.train.checkpoints import Checkpoints, latest, latest_whole
from seedfold.train.compose import RunConfig, flat
from seedfold.train.curves import Clock, Curves, Log, wandb_log
from seedfold.train.data import FoldingData
from seedfold.train.module import FoldingModule, Sampled
from seedfold.train.quarantine import Quarantine
from seedfold.train.sources import ValidationConfig
from seedfold.train.stability import Stability, StabilityConfig
from seedfold.train.start import start
from seedfold.train.validation import Validation

MAY_CHANGE = (
    *("trainer.steps", "trainer.checkpoint_every", "trainer.validate_every", "trainer.accelerator"),
    *("trainer.strategy", "trainer.keep", "trainer.logger", "trainer.threads", "trainer.compile"),
    *("trainer.activation_checkpointing", "data.workers", "data.seconds", "data.max_bad"),
    *(f"data.validation.{field.name}" for field in dataclasses.fields(ValidationConfig)),
    *(f"stability.{field.name}" for field in dataclasses.fields(StabilityConfig)),
)
"""Options that a run may be resumed with other values of: the steps stay the same."""
SHARED = ("trainer.devices", "trainer.nodes", "trainer.accumulate")
"""Options that may change together, as long as a step has as many examples."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a run ended: at which step, and the signal that stopped it before its end, if any.

    `sampled`: structures of the first example; None if it was stopped. `first`: this is the process
    that speaks for all of the run.
    """

    step: int
    weights: Path
    sampled: Sampled | None
    stopped_by: int | None
    first: bool = True


def train(config: RunConfig, say: Say = print, clock: Clock | None = None) -> Outcome:
    """Trains, or goes on with, the run that a configuration describes.

    Args:
        config: Of the run.
        say: Is told what happens, on the first rank.
        clock: Is left with where the time went.

    Raises:
        InputError: if the folder of the run holds another run, or a data set is missing.
    """
    folder = Path(config.run.folder)
    say = rank_zero_only(say)
    _same_run(folder, config)
    resumed = latest_whole(folder / "checkpoints", say)
    _set_threads(config.trainer.threads)
    module = _module(config)
    quarantine = _quarantine(config, folder, say)
    known = quarantine.known if resumed is not None else None
    data = FoldingData(config.data, config.run.seed, config.trainer.accumulate, known)
    weights = folder / "model.safetensors"
    c = config.trainer
    keeper = Checkpoints(
        folder / "checkpoints", c.checkpoint_every, c.keep, partial(export, weights, config=config)
    )
    example = FirstExample(data, config.run.seed)
    say(f"{config.run.name}: {_millions(module.network)} M parameters, {folder}")
    begin: list[Callback] = []
    if resumed is not None:
        say(f"going on with {resumed.name}")
    elif config.run.start is not None:
        begin = start(module, config.run.start, say)
    elif module.head_alone:
        expected = "the weights whose confidence head is to be trained"
        raise InputError("stage.train=confidence", "no run.start", expected=expected)
    # Before the checkpoints, which then hold what it has seen of their step.
    stability = Stability(config.stability, folder, config.run.seed)
    callbacks = [*begin, Recorded(folder, config), quarantine, stability, keeper, example]
    trainer = _trainer(config, folder, callbacks, say, clock or Clock())
    with _quiet():
        trainer.fit(module, data, ckpt_path=resumed, weights_only=True)
    if trainer.global_step >= c.steps and example.found is None:
        # There was nothing left to do.
        export(weights, trainer, module, config=config)
        example.on_train_end(trainer, module)
    return Outcome(
        step=trainer.global_step,
        weights=weights,
        sampled=example.found,
        stopped_by=keeper.received,
        first=trainer.is_global_zero,
    )


def export(path: Path, trainer: Trainer, module: FoldingModule, *, config: RunConfig) -> None:
    """Writes the averaged weights for `seedfold predict --model`; all ranks bring their parts."""
    weights = module.ema.full(module.network)
    if trainer.is_global_zero:
        info = CheckpointInfo(name=config.run.name, config=config.model, inputs=config.data.inputs)
        save_checkpoint(path, weights, info)


def _module(config: RunConfig) -> FoldingModule:
    torch.manual_seed(config.run.seed)
    module = FoldingModule(config.model, config.stage, config.optim)
    if config.trainer.compile:
        wrapping.compile_blocks(module.network)
    if config.trainer.activation_checkpointing:
        wrapping.checkpoint_activations(module.network)
    return module


def _trainer(
    config: RunConfig, folder: Path, callbacks: list[Callback], say: Say, clock: Clock
) -> Trainer:
    c = config.trainer
    every = max(10, c.steps // 1000)
    curves = Curves(folder / "metrics.csv", clock, say, every, open_log=_log(config, folder))
    with _quiet(), _told():
        return lightning.Trainer(
            accelerator=c.accelerator,
            devices=c.devices,
            num_nodes=c.nodes,
            strategy=parallel.make_strategy(config),
            plugins=parallel.environment(),
            max_steps=c.steps,
            max_epochs=-1,
            accumulate_grad_batches=c.accumulate,
            callbacks=[_measured(config, folder, say), curves, *callbacks],
            profiler=clock,
            default_root_dir=folder,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )


def _log(config: RunConfig, folder: Path) -> Callable[[], Log] | None:
    """What opens the other logger, when the run begins and on the first rank only."""
    kind = config.trainer.logger
    if kind == "csv":
        return None
    offline = kind == "wandb_offline"
    return lambda: wandb_log(folder, config.run.name, to_dict(config), offline=offline)


def _quarantine(config: RunConfig, folder: Path, say: Say) -> Quarantine:
    return Quarantine(folder / "quarantine.csv", config.data.max_bad, _global_batch(config), say)


def _global_batch(config: RunConfig) -> int:
    c = config.trainer
    return config.data.batch_size * c.accumulate * c.devices * c.nodes


def _measured(config: RunConfig, folder: Path, say: Say) -> Callback:
    """Measures the network on held-out structures; where there are none, on those of the step."""
    c, every = config.data, config.trainer.validate_every
    if c.validation.folder is None:
        return SampledStructures(every, config.run.seed)
    return Validation(c.validation, c.inputs, every, folder, say)


class Recorded(Callback):
    """Writes `config.json` when the run begins: one that is refused leaves no folder."""

    def __init__(self, folder: Path, config: RunConfig):
        self.path, self.config = folder / "config.json", config

    @rank_zero_only
    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Writes it."""
        with whole_file(self.path) as temporary:
            temporary.write_text(json.dumps(to_dict(self.config), indent=1) + "\n")


def _same_run(folder: Path, config: RunConfig) -> None:
    """Compares the configuration with that of the run that is there."""
    if latest(folder / "checkpoints") is None:
        return
    path = folder / "config.json"
    # Read as a configuration, an old one has the options that are new.
    old = from_dict(RunConfig, json.loads(path.read_text()), str(path))
    were, are = _options(old), _options(config)
    for key in sorted(were.keys() | are.keys()):
        if were.get(key) != are.get(key) and key not in MAY_CHANGE:
            raise InputError(
                str(folder),
                f"holds a run with {key}={were.get(key)}, not {are.get(key)}",
                todo="give this one another run.name, or remove the folder",
            )


def _options(config: RunConfig) -> dict[str, Any]:
    """Every option by its name, those that may change together as their product."""
    options = dict(flat(json.loads(json.dumps(to_dict(config)))))
    factors = [options.pop(name) for name in SHARED]
    return options | {" x ".join(SHARED): torch.Size(factors).numel()}


def _set_threads(n: int | None) -> None:
    """Of this process, and of those that it will start."""
    if n is not None:
        os.environ["OMP_NUM_THREADS"] = str(n)
        torch.set_num_threads(n)


def _millions(network: SeedFold) -> str:
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}"


@contextmanager
def _told() -> Iterator[None]:
    """Lightning's refusal as one line about an option."""
    try:
        yield
    except (MisconfigurationException, RuntimeError) as error:
        raise InputError("trainer", " ".join(str(error).split())) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without Lightning's advice, which is about choices that were made on purpose."""
    logs = [logging.getLogger(f"lightning.{name}") for name in ("pytorch", "fabric")]
    levels = [log.level for log in logs]
    for log in logs:
        log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning")
            yield
    finally:
        for log, level in zip(logs, levels, strict=True):
            log.setLevel(level)
