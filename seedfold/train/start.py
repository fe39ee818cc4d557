"""How a run begins with weights that are there already, instead of random ones.

From a file or a published model come the weights, and their average starts there. From the folder
of another run come weights, average and moments of the optimiser, as of its last checkpoint: so
stages are chained. Either way the count of steps begins at 0, and a run that is resumed does not
look at any of this again.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer
from torch import Tensor

from seedfold.config import to_dict
from seedfold.data_pipeline.errors import InputError
from seedfold.model.seedfold import SeedFold
from seedfold.train.callbacks import Say
from seedfold.train.checkpoints import latest_whole, read
from seedfold.train.compose import flat
from seedfold.train.module import FoldingModule
from seedfold.train.optim import Ema

WHERE = "run.start"
NETWORK = "network."
"""What the names of the network's weights begin with in a checkpoint of a run."""


def start(module: FoldingModule, name: str, say: Say) -> list[Callback]:
    """Fills the network of a module that has done no step.

    Args:
        module: Of the new run.
        name: A .safetensors file, a name that `--model` takes, or the folder of another run.
        say: Is told what was read.

    Returns:
        What has to happen when the trainer begins.

    Raises:
        InputError: if nothing is there, or it is of another network.
    """
    if Path(name).is_dir():
        return _from_run(module, Path(name), say)
    from seedfold.models import load_model

    try:
        network = load_model(name).network
    except ValueError as error:
        raise InputError(WHERE, str(error).removeprefix("--model: ")) from error
    _fill(module, name, network.state_dict(), network.config)
    module.ema = Ema(module.network, module.optim.ema_decay)
    say(f"weights of {name}")
    return []


def _from_run(module: FoldingModule, folder: Path, say: Say) -> list[Callback]:
    path = latest_whole(folder / "checkpoints", say)
    if path is None:
        todo = "give the folder of a run, a .safetensors file, or the name of a model"
        raise InputError(WHERE, f"no checkpoint in {folder / 'checkpoints'}", todo=todo)
    checkpoint = read(path)
    model = json.loads((folder / "config.json").read_text())["model"]
    weights = {
        key.removeprefix(NETWORK): weight
        for key, weight in checkpoint["state_dict"].items()
        if key.startswith(NETWORK)
    }
    _fill(module, str(folder), weights, model)
    module.ema.load_state_dict(checkpoint["seedfold"]["ema"])
    say(f"weights, average and moments of {path}")
    return [Moments(checkpoint["optimizer_states"][0]["state"])]


class Moments(Callback):
    """Gives the optimiser the moments that another had; its options stay those of this run.

    Args:
        state: Of AdamW, by the number of the weight in the network.
    """

    def __init__(self, state: Mapping[int, dict[str, Tensor]]):
        self.state = state

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Replaces the moments, which are all 0 as yet."""
        own = trainer.strategy.optimizer_state(trainer.optimizers[0])
        weights = pl_module.network.parameters()
        trained = [i for i, weight in enumerate(weights) if weight.requires_grad]
        state = {i: self.state[i] for i in trained if i in self.state}
        moved = {"state": state, "param_groups": own["param_groups"]}
        trainer.strategy.load_optimizer_state_dict({"optimizer_states": [moved]})
        self.state = {}


def _fill(
    module: FoldingModule,
    name: str,
    weights: Mapping[str, Tensor],
    config: SeedFold.Config | Mapping[str, Any],
) -> None:
    own = module.network.state_dict()
    shapes, found = ({k: t.shape for k, t in ts.items()} for ts in (own, weights))
    if shapes != found:
        there, here = (
            dict(flat(c if isinstance(c, Mapping) else to_dict(c)))
            for c in (config, module.network.config)
        )
        differ = [
            f"model.{key}={there.get(key)} there and {here.get(key)} here"
            for key in here | there
            if there.get(key) != here.get(key)
        ]
        found = f"{name} is of another network: {', '.join(differ[:3])}"
        found += f" and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise InputError(WHERE, found, todo="give this run the same model, or other weights")
    module.network.load_state_dict(dict(weights))
