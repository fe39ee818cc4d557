"""How the devices of a run share its work: DDP, or stages 1 and 2 of DeepSpeed's ZeRO (`zero`).

Whatever the strategy, a step has the same examples, since these are drawn by slots of the global
batch; gradients are the mean over the examples; and a checkpoint is the same file.

Processes are started by the run itself (on one machine), by torchrun or by srun; Lightning sees
which from the environment.
"""

import importlib.util
import signal
from datetime import timedelta
from typing import Any

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch.strategies import DDPStrategy, Strategy

from seedfold.data_pipeline.errors import InputError
from seedfold.train.compose import RunConfig

PATIENCE = timedelta(minutes=30)
"""How long ranks wait for each other: one may have to make a data set, or to validate."""


def make_strategy(config: RunConfig) -> Strategy | str:
    """What Lightning is to distribute a run by.

    Raises:
        InputError: if it cannot work, or what it needs is not installed.
    """
    c = config.trainer
    if c.strategy == "deepspeed_3":
        raise InputError(
            "trainer.strategy=deepspeed_3",
            "stage 3 needs the same layers in the same order on all ranks, of which some have "
            "examples with templates and some without",
            todo="take deepspeed_2 and trainer.activation_checkpointing=true",
        )
    if c.strategy.startswith("deepspeed"):
        if importlib.util.find_spec("deepspeed") is None:
            raise InputError(
                f"trainer.strategy={c.strategy}",
                "deepspeed is not installed",
                todo="pip install deepspeed, or trainer.strategy=ddp",
            )
        from seedfold.train.zero import ZeRO

        return ZeRO(int(c.strategy[-1]), config.optim.clip_norm, timeout=PATIENCE)
    if c.strategy == "auto" and c.devices * c.nodes == 1:
        return "auto"
    return DataParallel(timeout=PATIENCE)


def environment() -> list[Any]:
    """Under SLURM its environment; it leaves signals and requeueing to the job's script."""
    return [SLURMEnvironment(auto_requeue=False)] if SLURMEnvironment.detect() else []


class DataParallel(DDPStrategy):
    """DDP for a network of which an example need not use every part, such as templates."""

    def __init__(self, **options: Any):
        super().__init__(find_unused_parameters=True, **options)

    def on_exception(self, exception: BaseException) -> None:
        """An error here ends the processes started from here, which would wait for this one."""
        super().on_exception(exception)
        end_children(self)


def end_children(strategy: DDPStrategy) -> None:
    """Ends the processes that the run started itself, if it did."""
    launcher: Any = strategy.launcher
    if launcher is not None:
        launcher.kill(signal.SIGKILL)
