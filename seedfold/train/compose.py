"""The configuration of a run: its dataclasses, and how the words of a command line become them.

Dataclasses own names, types and defaults; Hydra composes the choices of `configs/` over them, here
and nowhere else; `from_dict` refuses what does not fit.
"""

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seedfold.config import from_dict, to_dict
from seedfold.data_pipeline.errors import InputError
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.train.data import DataConfig
from seedfold.train.module import StageConfig
from seedfold.train.optim import OptimConfig
from seedfold.train.stability import StabilityConfig

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
"""Those of a checkout; they are no part of an installed package."""


def configs_here() -> Path:
    """`CONFIGS`, or, where the package was copied out of its checkout, those of the folder where
    the program runs.
    """
    here = Path("configs").resolve()
    lost = not (CONFIGS / "config.yaml").is_file()
    return here if lost and (here / "config.yaml").is_file() else CONFIGS


@dataclass(frozen=True, kw_only=True)
class NameConfig:
    """`folder` is where everything about the run is; `seed` decides everything random.

    `start`: where the weights come from instead of being drawn: a .safetensors file or a name that
    `--model` takes gives weights alone; the folder of another run gives weights, their average and
    the moments of the optimiser, as of its last checkpoint. The count of steps begins at 0.
    """

    name: str = "run"
    folder: str = "runs/run"
    seed: int = 1
    start: str | None = None


Strategy = Literal["auto", "ddp", "deepspeed_1", "deepspeed_2", "deepspeed_3"]
"""How devices share the work; the number is the stage of ZeRO, what each holds a part of: moments
of the optimiser (1), gradients too (2), weights too (3)."""


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """`steps` of the optimiser; `accumulate`: batches of every device in a step.

    `keep`: newest checkpoints kept. `activation_checkpointing`: blocks are computed again in the
    backward pass instead of keeping their activations. `threads` of a process on a CPU; torch's
    choice where None.
    """

    steps: int = 60_000
    accumulate: int = 1
    checkpoint_every: int = 1000
    keep: int = 3
    validate_every: int = 1000
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: int = 1
    nodes: int = 1
    strategy: Strategy = "auto"
    activation_checkpointing: bool = False
    compile: bool = False
    threads: int | None = None
    logger: Literal["csv", "wandb", "wandb_offline"] = "csv"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on."""

    run: NameConfig = field(default_factory=NameConfig)
    model: SeedFold.Config = field(default_factory=SeedFold.Config)
    data: DataConfig = field(default_factory=DataConfig)
    stage: StageConfig = field(default_factory=StageConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    trainer: TrainerConfig = field(default_factory=TrainerConfig)
    stability: StabilityConfig = field(default_factory=StabilityConfig)


def experiments(config_dir: Path = CONFIGS) -> list[str]:
    """Names of the experiments of a folder of configurations."""
    return sorted(path.stem for path in (config_dir / "experiment").glob("*.yaml"))


def composed(overrides: Sequence[str], config_dir: Path = CONFIGS) -> RunConfig:
    """The configuration that the words of a command line mean.

    Args:
        overrides: `experiment=NAME` and `option=value`, as Hydra reads them.
        config_dir: Folder of the YAML files.

    Raises:
        InputError: if there is no such experiment or option.
        ValueError: if a value has the wrong type or a YAML file an unknown option.
    """
    _check_experiment(overrides, config_dir)
    _register(config_dir)
    try:
        with initialize_config_dir(str(config_dir.resolve()), version_base="1.3"):
            found = compose("config", list(overrides))
        data = OmegaConf.to_container(found, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise _plain(error, known=dict(flat(to_dict(RunConfig())))) from error
    assert isinstance(data, dict)
    return from_dict(RunConfig, {str(key): value for key, value in data.items()}, "config")


def chain(overrides: Sequence[str], config_dir: Path = CONFIGS) -> list[RunConfig]:
    """The run that the words mean, and the stages that go on from its folder, one after another.

    Only the run itself where the words name its stage, or where it has none.
    """
    runs = [composed(overrides, config_dir)]
    names = sorted(path.stem for path in (config_dir / "stage").glob("*.yaml"))
    named = any(word.partition("=")[0] == "stage" for word in overrides)
    first = Path(runs[0].run.folder).name
    if named or first not in names:
        return runs
    for name in names[names.index(first) + 1 :]:
        after = composed([*overrides, f"stage={name}"], config_dir)
        if after.run.start == runs[-1].run.folder:
            runs.append(after)
    return runs


def _plain(error: Exception, known: Iterable[str]) -> InputError:
    """Hydra's message in one line; for an option that is not there, the one that may be meant."""
    ours: BaseException | None = error
    while ours is not None:  # One of a resolver comes wrapped, more than once.
        if isinstance(ours, InputError):
            return ours
        ours = ours.__cause__ or ours.__context__
    unknown = re.match("Could not override '(.*?)'", str(error))
    if unknown is None:
        message, _, _ = " ".join(str(error).split()).partition(" Config search path:")
        return InputError("train", message)
    near = difflib.get_close_matches(unknown[1], known, n=1)
    todo = f"did you mean '{near[0]}'?" if near else "see RunConfig in seedfold/train/compose.py"
    return InputError("train", f"no option '{unknown[1]}'", todo=todo)


def _check_experiment(overrides: Sequence[str], config_dir: Path) -> None:
    known = experiments(config_dir)
    if not known:
        raise InputError(
            "--config-dir",
            f"no experiments in {config_dir}",
            expected="the folder configs/ of a checkout of SeedFold",
            todo="run it in a checkout, or install that with pip install -e",
        )
    names = [o.partition("=")[2] for o in overrides if o.partition("=")[0] == "experiment"]
    if not names:
        raise InputError("train", "no experiment", expected=f"experiment={'|'.join(known)}")
    if names[-1] not in known:
        found = f"unknown experiment '{names[-1]}'"
        raise InputError("train", found, expected=f"one of {', '.join(known)}")


def _register(config_dir: Path) -> None:
    """Makes every option known to Hydra, and every preset of the model a choice."""
    store = ConfigStore.instance()
    # Without the model: presets of other variants have other options than its default.
    store.store(name="schema", node={k: v for k, v in to_dict(RunConfig()).items() if k != "model"})
    for name, preset in PRESETS.items():
        store.store(group="model", name=name, node=to_dict(preset()))
    checkout = str(config_dir.resolve().parent)
    OmegaConf.register_new_resolver("checkout", lambda: checkout, replace=True)
    OmegaConf.register_new_resolver("batches_of", batches_of, replace=True)


def batches_of(global_batch: int, batch_size: int, devices: int, nodes: int) -> int:
    """How many batches every device must see in a step for so many examples in all.

    Raises:
        InputError: if they do not share them equally.
    """
    at_once = batch_size * devices * nodes
    if global_batch % at_once:
        raise InputError(
            "train",
            f"{at_once} examples at a time (data.batch_size {batch_size}, trainer.devices "
            f"{devices}, trainer.nodes {nodes})",
            expected=f"a divisor of the {global_batch} of a step",
            todo="give trainer.accumulate",
        )
    return global_batch // at_once


def flat(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every option of nested mappings, as `section.option`, and its value."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from flat(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value
