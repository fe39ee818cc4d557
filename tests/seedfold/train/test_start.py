import dataclasses
import json
from pathlib import Path

import pytest
import torch

from seedfold.checkpoint import CheckpointInfo, save_checkpoint
from seedfold.data_pipeline.errors import InputError
from seedfold.train.module import FoldingModule
from seedfold.train.run import train
from seedfold.train.start import start


def quiet(_line: str) -> None:
    pass


def from_other(config, name: str):
    """The same run in a folder of its own, begun with what `name` gives."""
    folder = str(Path(config.run.folder).with_name("second"))
    run = dataclasses.replace(config.run, start=name, folder=folder)
    return dataclasses.replace(config, run=run)


def checkpoint_of(config, step: int):
    path = Path(config.run.folder, "checkpoints", f"step_{step:08d}.ckpt")
    return torch.load(path, weights_only=True)


def test_another_run_gives_weights_average_and_moments(make_config):
    """At a learning rate of 0 a step moves nothing but the moments, and the average: by its 4th
    update, at a decay of 5 / 14.
    """
    first = make_config(trainer={"steps": 3})
    train(first, quiet)
    second = from_other(first, first.run.folder)
    second = dataclasses.replace(
        second,
        trainer=dataclasses.replace(second.trainer, steps=1),
        optim=dataclasses.replace(second.optim, learning_rate=0.0),
    )
    said = []
    assert train(second, said.append).step == 1
    assert any("step_00000003.ckpt" in line and "moments" in line for line in said)
    old, new = checkpoint_of(first, 3), checkpoint_of(second, 1)
    for name, weight in old["state_dict"].items():
        assert torch.equal(weight, new["state_dict"][name]), name
    ema = {name: c["seedfold"]["ema"]["weights"] for name, c in (("old", old), ("new", new))}
    for name, weight in ema["old"].items():
        expected = torch.lerp(weight, old["state_dict"][f"network.{name}"], 1 - 5 / 14)
        torch.testing.assert_close(ema["new"][name], expected, rtol=1e-6, atol=1e-7)
    moments, after = (c["optimizer_states"][0]["state"] for c in (old, new))
    assert moments.keys() == after.keys() and len(moments) > 100
    for i, state in moments.items():
        assert after[i]["step"] == state["step"] + 1
        # A second moment never falls faster than by beta_2.
        assert (after[i]["exp_avg_sq"] >= 0.95 * (1 - 1e-5) * state["exp_avg_sq"]).all()
    assert new["optimizer_states"][0]["param_groups"][0]["lr"] == 0.0


def test_a_resumed_run_does_not_look_back(make_config):
    first = make_config(trainer={"steps": 1})
    train(first, quiet)
    second = from_other(first, first.run.folder)
    second = dataclasses.replace(second, trainer=dataclasses.replace(second.trainer, steps=1))
    train(second, quiet)
    for path in (Path(first.run.folder) / "checkpoints").iterdir():
        path.unlink()
    more = dataclasses.replace(second, trainer=dataclasses.replace(second.trainer, steps=2))
    assert train(more, quiet).step == 2


@pytest.fixture
def module(make_config):
    config = make_config()
    torch.manual_seed(1)
    return FoldingModule(config.model, config.stage, config.optim)


def saved(module: FoldingModule, path: Path) -> str:
    """A file with other weights for the same network."""
    weights = {name: torch.rand_like(w) for name, w in module.network.state_dict().items()}
    save_checkpoint(path, weights, CheckpointInfo(name="x", config=module.network.config))
    return str(path)


def test_a_file_gives_weights_and_the_average_starts_there(module, tmp_path):
    name = saved(module, tmp_path / "x.safetensors")
    before = {n: w.clone() for n, w in module.network.named_parameters()}
    assert start(module, name, quiet) == []
    for n, weight in module.network.named_parameters():
        assert torch.equal(module.ema.weights[n], weight) and not torch.equal(before[n], weight)
    assert module.ema.n_updates == 0


def test_another_network_is_refused_with_what_differs(module, tmp_path, make_config):
    name = saved(module, tmp_path / "x.safetensors")
    config = make_config()
    c_z = config.model.c_z
    wide = dataclasses.replace(config.model, c_z=2 * c_z)
    other = FoldingModule(wide, config.stage, config.optim)
    with pytest.raises(InputError) as error:
        start(other, name, quiet)
    message = str(error.value)
    assert message.startswith(f"run.start: {name} is of another network")
    assert f"model.c_z={c_z} there and {2 * c_z} here" in message


@pytest.mark.parametrize("name", ["no/such.safetensors", "no-such-model", "{folder}"])
def test_what_is_not_there_is_told(module, tmp_path, name):
    with pytest.raises(InputError, match=r"^run\.start: ") as error:
        start(module, name.format(folder=tmp_path), quiet)
    assert "\n" not in str(error.value)


def test_a_run_of_another_network_is_refused(module, make_config):
    config = make_config(trainer={"steps": 1})
    train(config, quiet)
    path = Path(config.run.folder, "config.json")
    stored = json.loads(path.read_text())
    stored["model"]["c_m"] *= 2
    path.write_text(json.dumps(stored))
    wide = FoldingModule(
        dataclasses.replace(config.model, c_m=config.model.c_m * 2), config.stage, config.optim
    )
    with pytest.raises(InputError, match="is of another network"):
        start(wide, config.run.folder, quiet)
