"""How weights change: the optimiser, its learning rate, and the moving average of the weights.

Source: AF3 SI 5.4. The learning rate is a function of the step, so that resuming restores nothing.

Deviations: SeedFold trains with AdamW, whose decay is 0 here unless asked for, where it is Adam.
The moving average begins with shorter memory, (1 + n) / (10 + n) after n updates, until that
reaches its decay: a run of some hundred steps would else average its random start.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """Peak learning rate 1.8e-3; 1e-3 and a warm-up of 3000 steps for c_z 512 (SeedFold).

    `cooldown_steps`: the last steps of the run, in which the rate falls to 0 (not AF3's).
    """

    learning_rate: float = 1.8e-3
    warmup_steps: int = 1000
    decay: float = 0.95
    decay_every: int = 50_000
    cooldown_steps: int = 0
    beta_1: float = 0.9
    beta_2: float = 0.95
    eps: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float = 10.0
    ema_decay: float = 0.999


def learning_rate(config: OptimConfig, step: int, steps: int) -> float:
    """Of the step with this number, counted from 0, of a run of `steps`.

    Linear from 0 to the peak, then in stairs, and linear to 0 at the end where there is a cooldown:
    whoever wants to stop a run early resumes it with fewer steps.
    """
    warm = min(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
    cool = min(1.0, (steps - step) / config.cooldown_steps) if config.cooldown_steps else 1.0
    stairs = config.decay ** (step // config.decay_every)
    return config.learning_rate * warm * stairs * max(0.0, cool)


def make_optimizer(config: OptimConfig, weights: Iterable[nn.Parameter]) -> torch.optim.AdamW:
    """AdamW; whoever steps it sets the learning rate before."""
    return torch.optim.AdamW(
        weights,
        lr=config.learning_rate,
        betas=(config.beta_1, config.beta_2),
        eps=config.eps,
        weight_decay=config.weight_decay,
        fused=True,
    )


class Ema:
    """Moving average of the weights of a network, in fp32, on their device.

    Args:
        network: Whose weights; the average begins as they are.
        decay: How much of the average an update keeps.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self.n_updates = 0
        self.weights = {n: p.detach().float().clone() for n, p in network.named_parameters()}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Takes in the weights as they are now."""
        self.n_updates += 1
        decay = min(self.decay, (1 + self.n_updates) / (10 + self.n_updates))
        weights = [weight.float() for weight in network.parameters()]
        for name, weight in zip(self.weights, weights, strict=True):
            self.weights[name] = self.weights[name].to(weight.device)
        torch._foreach_lerp_(list(self.weights.values()), weights, 1 - decay)  # type: ignore

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """The network computes with the average inside the block, with its own weights after."""
        own = {name: weight.data for name, weight in network.named_parameters()}
        try:
            for name, weight in network.named_parameters():
                weight.data = self.weights[name].to(weight)
            yield
        finally:
            for name, weight in network.named_parameters():
                weight.data = own[name]

    def full(self, network: nn.Module) -> dict[str, Tensor]:
        """A state dict of the network with the average in place of the weights."""
        return {**network.state_dict(), **self.weights}

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs."""
        return {"n_updates": self.n_updates, "weights": self.weights}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on where the other left off."""
        assert state["weights"].keys() == self.weights.keys(), "average of another network"
        self.n_updates, self.weights = state["n_updates"], dict(state["weights"])
