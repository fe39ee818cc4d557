"""Models by name or file: what `--model` accepts.

Published models are found in the store of weights and fetched on first use (docs/weights.md).
Of a network there are three states, which every output tells apart: untrained, trained with a
notice (the bundled demonstration weights), and trained.
"""

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from seedfold.checkpoint import CheckpointInfo, load_checkpoint
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.memory import Forecast, forecast
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.weights import store
from seedfold.weights.catalogue import KNOWN

if TYPE_CHECKING:
    from seedfold.progress import Reporter

BUNDLED = "nano"
BUNDLED_FILE = Path(__file__).parent / "assets" / "nano.safetensors"
"""Weights that come with the package; where they are absent, `BUNDLED` is `UNTRAINED_NANO`."""
UNTRAINED_NANO = "nano-untrained"
"""A network of random numbers, for tests and as what training is compared with."""
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
    notice: str = ""
    """Of the weights, see `CheckpointInfo`."""

    @property
    def label(self) -> str:
        """The name as outputs have it, marked if it is not to be relied on."""
        mark = self.notice.partition(";")[0] if self.trained else "UNTRAINED"
        return f"{self.name} ({mark})" if mark else self.name

    @property
    def notes(self) -> tuple[str, ...]:
        """What every output file must say about the model."""
        own = (f"{self.name}: {self.notice}",) if self.notice else ()
        return own if self.trained else (UNTRAINED, *own)

    @property
    def n_cycles(self) -> int:
        """The model's own number of trunk passes."""
        return self.network.config.n_cycles

    @property
    def n_steps(self) -> int:
        """The model's own number of diffusion steps."""
        return self.network.config.sampler.n_steps

    @property
    def guided(self) -> bool:
        """Whether its samples are guided unless a user says otherwise."""
        return self.network.config.sampler.guided

    def forecast(self, n_token: int, n_atom: int, n_msa: int, n_samples: int) -> Forecast:
        """Expected peak memory of a prediction of this size."""
        return forecast(self.network, self.device, n_token, n_atom, n_msa, n_samples)


def load_model(
    name: str = BUNDLED,
    *,
    device: torch.device | str = "cpu",
    precision: str = "auto",
    reporter: "Reporter | None" = None,
) -> LoadedModel:
    """Loads a model by its name or from a .safetensors file.

    Args:
        name: ``nano``, ``nano-untrained``, a model of the store or of the catalogue
            (`seedfold weights list`), or a path.
        device: where it will run.
        precision: of the trunk: ``fp32``, ``bf16``, or ``auto`` = bf16 on CUDA, fp32 elsewhere.
        reporter: shows the download of a model that is used for the first time.

    Raises:
        ValueError: if there is no such model, the file holds something else, or the weights are
            not there and cannot be fetched.
    """
    place = torch.device(device)
    network, info = _network(name, reporter)
    options = info.inputs
    if not network.config.trunk.template.n_blocks:
        options = replace(options, n_templates=0)
    if precision == "auto":
        precision = "bf16" if place.type == "cuda" else "fp32"
    assert precision in ("fp32", "bf16")
    return LoadedModel(
        name=info.name,
        network=network.eval().to(place),
        device=place,
        precision=precision,
        trained=info.trained,
        options=options,
        notice=info.notice,
    )


def weights_file(name: str) -> Path | None:
    """The file of a model that is here, without fetching it; None for a network without one."""
    if name == BUNDLED and BUNDLED_FILE.is_file():
        return BUNDLED_FILE
    if name in (BUNDLED, UNTRAINED_NANO):
        return None
    return store.path_of(name) if name in store.installed() else Path(name)


def _network(name: str, reporter: "Reporter | None") -> tuple[SeedFold, CheckpointInfo]:
    if name == BUNDLED and BUNDLED_FILE.is_file():
        # The file may be in half precision, to be small.
        return load_checkpoint(BUNDLED_FILE, dtype=torch.float32)
    if name in (BUNDLED, UNTRAINED_NANO):
        config = PRESETS[BUNDLED]()
        return untrained(config), CheckpointInfo(name=BUNDLED, config=config, trained=False)
    return load_checkpoint(_weights(name, reporter))


def _weights(name: str, reporter: "Reporter | None") -> Path:
    """The file that `--model` means; a published model is fetched if the store lacks it."""
    path = Path(name)
    if path.suffix in (".pt", ".pth", ".ckpt"):
        raise ValueError(
            f"--model: {name!r} is the checkpoint of another program; convert it once: "
            f"seedfold weights import {name} --as NAME"
        )
    if path.suffix == ".safetensors" or path.is_file():
        return path
    if name in store.installed():
        return store.path_of(name)
    if name not in KNOWN:
        names = dict.fromkeys([*store.installed(), *KNOWN])
        raise ValueError(
            f"--model: found {name!r}; expected {BUNDLED!r} (bundled), the path of a "
            f".safetensors file, or one of {', '.join(names)}"
        )
    from seedfold.progress import Reporter

    with contextlib.nullcontext(reporter) if reporter else Reporter() as shown:
        return store.fetch(name, wait=True, say=shown.info, progress=store.show_bytes(shown, name))


def untrained(config: SeedFold.Config) -> SeedFold:
    """A network of the same random numbers everywhere, without a file.

    Weights that training starts from zero are random as well: else no layer would have a say in
    the result, and trying the program out would try out little of it.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(_SEED)
        network = SeedFold(config)
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
