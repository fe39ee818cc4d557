"""Models by name or file: what `--model` accepts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from seedfold.checkpoint import load_checkpoint
from seedfold.data_pipeline.featurize import FeatureOptions
from seedfold.memory import Forecast, forecast
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold

BUNDLED = "nano"
UNTRAINED = (
    "UNTRAINED: the weights of this model are random numbers; "
    "its structures and confidences mean nothing"
)
_SEED = 20251231


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A network ready to predict."""

    name: str
    network: SeedFold
    device: torch.device
    precision: Literal["fp32", "bf16"]
    trained: bool
    options: FeatureOptions

    @property
    def notes(self) -> tuple[str, ...]:
        """What every output file must say about the model."""
        return () if self.trained else (UNTRAINED,)

    @property
    def n_cycles(self) -> int:
        """The model's own number of trunk passes."""
        return self.network.config.n_cycles

    @property
    def n_steps(self) -> int:
        """The model's own number of diffusion steps."""
        return self.network.config.sampler.n_steps

    def forecast(self, n_token: int, n_atom: int, n_msa: int, n_samples: int) -> Forecast:
        """Expected peak memory of a prediction of this size."""
        return forecast(self.network, self.device, n_token, n_atom, n_msa, n_samples)


def load_model(
    name: str = BUNDLED,
    *,
    device: torch.device | str = "cpu",
    precision: str = "auto",
) -> LoadedModel:
    """Loads a model by its name or from a .safetensors file.

    Args:
        name: ``nano`` or a path.
        device: where it will run.
        precision: of the trunk: ``fp32``, ``bf16``, or ``auto`` = bf16 on CUDA, fp32 elsewhere.

    Raises:
        ValueError: if there is no such model, or the file holds something else.
    """
    place = torch.device(device)
    if name == BUNDLED:
        network = _bundled()
        label, trained = f"{BUNDLED} (UNTRAINED)", False
    elif Path(name).suffix == ".safetensors" or Path(name).exists():
        network, info = load_checkpoint(Path(name))
        label, trained = info.name, info.trained
    else:
        raise ValueError(
            f"--model: found {name!r}; expected {BUNDLED!r} (bundled, untrained) or the path of a "
            ".safetensors file"
        )
    if precision == "auto":
        precision = "bf16" if place.type == "cuda" else "fp32"
    assert precision in ("fp32", "bf16")
    return LoadedModel(
        name=label,
        network=network.eval().to(place),
        device=place,
        precision=precision,
        trained=trained,
        options=FeatureOptions(),
    )


def _bundled() -> SeedFold:
    """The bundled network: the same random numbers everywhere, without a file.

    Weights that training starts from zero are random as well: else no layer would have a say in
    the result, and trying the program out would try out little of it.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(_SEED)
        network = SeedFold(PRESETS[BUNDLED]())
        for weight in network.parameters():
            if weight.dim() > 1 and not weight.any():
                weight.normal_(std=weight.shape[-1] ** -0.5)
    return network


def pick_device(name: str) -> torch.device:
    """The device of that name; ``auto`` = CUDA if there is one, else the CPU.

    Raises:
        ValueError: if the machine has no such device.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.mps.is_available()}
    if name == "auto":
        return torch.device("cuda" if there["cuda"] else "cpu")
    if not there[name]:
        raise ValueError(
            f"--device {name}: this machine or this build of torch has none; "
            f"found {', '.join(d for d, is_there in there.items() if is_there)}; "
            "use --device auto, or see seedfold doctor"
        )
    return torch.device(name)
