"""ZeRO: what the optimiser needs is divided among the devices, by DeepSpeed.

Source: Rajbhandari et al., "ZeRO: memory optimizations toward training trillion parameter models"
(SC 2020). Stage 1 divides the moments, stage 2 the gradients too.

Weights and moments are fp32; low precision is autocast of the trunk, as without ZeRO. DeepSpeed
clips the gradient and drops one that is not finite, by the same rule as `FoldingModule`.

Deviations: there is no stage 3. It divides the weights and collects those of a layer when that is
run, which all ranks must do in the same order; ours differ in which examples have templates, and
would wait for each other for ever. A weight without gradient on all ranks has a gradient of 0 here,
so that its moments fade, where AdamW alone leaves it out.

DeepSpeed's own checkpoints are not written. They are folders of pickles that only as many devices
can read; ours are gathered to the one form of `checkpoints`, and divided again when read, so that a
run may go on with another strategy or number of devices.
"""

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from lightning import LightningModule, Trainer
from lightning.pytorch.plugins import Precision
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor, nn

from seedfold.train.parallel import end_children

MOMENTS = ("exp_avg", "exp_avg_sq")


def engine_config(stage: int, clip_norm: float) -> dict[str, Any]:
    """What DeepSpeed is told; accumulation is decided by the trainer, not by its engine."""
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": clip_norm,
        "zero_optimization": {"stage": stage},
        "zero_allow_untested_optimizer": True,
        "steps_per_print": 2**62,
    }


class ZeRO(DDPStrategy):
    """DeepSpeed's engine in the place of DDP.

    Args:
        stage: 1 or 2.
        clip_norm: Of the gradient.
        timeout: How long ranks wait for each other.
    """

    def __init__(self, stage: int, clip_norm: float, timeout: timedelta):
        assert stage in (1, 2), stage
        super().__init__(precision_plugin=_EnginePrecision(), timeout=timeout)
        self.stage, self.clip_norm = stage, clip_norm
        self.weights: list[nn.Parameter] = []

    @property
    def engine(self) -> Any:
        """DeepSpeed's, around the module."""
        return self.model

    def setup(self, trainer: Trainer) -> None:
        """Puts the module into the engine, where DDP would be put around it."""
        import deepspeed

        assert self.accelerator is not None and isinstance(self.model, LightningModule)
        self.accelerator.setup(trainer)
        self.model_to_device()
        # The engine asks the environment, which srun and a first process have not filled.
        ranks = {"RANK": self.global_rank, "WORLD_SIZE": self.world_size}
        os.environ.update({k: str(v) for k, v in (ranks | {"LOCAL_RANK": self.local_rank}).items()})
        optimizer: Any = self.model.configure_optimizers()
        self.weights = [w for group in optimizer.param_groups for w in group["params"]]
        self.model, divided, *_ = deepspeed.initialize(
            model=self.model,
            optimizer=optimizer,
            config=engine_config(self.stage, self.clip_norm),
            dist_init_required=False,
        )
        divided.check_grad_overflow = True
        self.optimizers = [divided]

    def on_exception(self, exception: BaseException) -> None:
        """As in `parallel.DataParallel`."""
        super().on_exception(exception)
        end_children(self)

    @contextmanager
    def block_backward_sync(self) -> Iterator[None]:
        """Gradients of all but the last batch of a step are kept."""
        self.engine.set_gradient_accumulation_boundary(False)
        try:
            yield
        finally:
            self.engine.set_gradient_accumulation_boundary(True)

    def gradient_norm(self) -> float:
        """Of the step that was just done, before clipping; infinite if it was dropped."""
        zero: Any = self.optimizers[0]
        return float("inf") if zero.overflow else float(self.engine.get_global_grad_norm())

    def optimizer_state(self, optimizer: Any) -> dict[str, Any]:
        """What AdamW itself would say; all ranks have to ask."""
        from deepspeed.utils import safe_get_full_optimizer_state

        flat = _inner(optimizer).state
        step = next((s["step"] for s in flat.values() if "step" in s), None)
        state = {}
        if step is not None:
            for i, weight in enumerate(self.weights):
                if weight.requires_grad:
                    whole = (safe_get_full_optimizer_state(weight, name) for name in MOMENTS)
                    moments = dict(zip(MOMENTS, (m.cpu() for m in whole), strict=True))
                    state[i] = {"step": torch.as_tensor(float(step)), **moments}
        group = {**optimizer.param_groups[0], "params": list(range(len(self.weights)))}
        return {"state": state, "param_groups": [group]}

    def load_optimizer_state_dict(self, checkpoint: Mapping[str, Any]) -> None:
        """The inverse; options stay those of this run."""
        from deepspeed.utils import safe_set_full_optimizer_state

        state = checkpoint["optimizer_states"][0]["state"]
        if not state:
            return
        zero: Any = self.optimizers[0]
        step = max(float(s["step"]) for s in state.values())
        for flat in zero.single_partition_of_fp32_groups:
            moments = {name: torch.zeros_like(flat) for name in MOMENTS}
            _inner(zero).state[flat] = {"step": torch.tensor(step), **moments}
        zero._lazy_init_hp_params_optimizer_state()
        for i, weight in enumerate(self.weights):
            for name in MOMENTS:
                if i in state:
                    value: Tensor = state[i][name].to(self.root_device)
                    safe_set_full_optimizer_state(weight, value, name)


class _EnginePrecision(Precision):
    """Backward pass and step by the engine."""

    def backward(self, tensor: Tensor, model: Any, optimizer: Any, *_: Any, **__: Any) -> None:
        model.trainer.strategy.engine.backward(tensor)

    def optimizer_step(self, optimizer: Any, model: Any, closure: Any, **_: Any) -> Any:
        loss, strategy = closure(), model.trainer.strategy
        self._after_closure(model, optimizer)
        strategy.engine.step()
        norm = strategy.gradient_norm()
        model.terms["gradient_norm"] = norm
        model.n_skipped += not math.isfinite(norm)
        return loss

    def _clip_gradients(self, *_: Any, **__: Any) -> None:
        """Nothing: the engine does it, at its step."""


def _inner(zero: Any) -> torch.optim.Optimizer:
    """AdamW inside DeepSpeed's optimiser, inside Lightning's."""
    return getattr(zero, "_optimizer", zero).optimizer
