import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from seedfold import __version__
from seedfold.checkpoint import CheckpointInfo, load_checkpoint, read_info, save_checkpoint
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SeedFold(PRESETS["nano"]())


@pytest.fixture
def path(network, tmp_path):
    info = CheckpointInfo(name="tiny", config=network.config, licence="Apache-2.0", trained=False)
    save_checkpoint(tmp_path / "deep" / "tiny.safetensors", network.state_dict(), info)
    return tmp_path / "deep" / "tiny.safetensors"


def test_everything_comes_back(network, path):
    loaded, info = load_checkpoint(path)
    assert info == CheckpointInfo(
        name="tiny",
        config=network.config,
        licence="Apache-2.0",
        trained=False,
        version=__version__,
    )
    assert read_info(path) == info and not loaded.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    assert load_checkpoint(path, dtype=torch.float64)[0].dtype == torch.float64


def rewrite(path, change, **metadata):
    """The file with its tensors changed, under the same header."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        header = file.metadata()
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={**header, **metadata})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("trunk.linear_s.weight"), "lacks the tensor, 'trunk.linear_s.weight'"),
        (lambda t: t.update(extra=torch.ones(2)), "has a tensor too many, 'extra'"),
        (
            lambda t: t.update({"trunk.linear_s.weight": torch.ones(2, 3)}),
            r"'trunk.linear_s.weight' has shape \(2, 3\); expected \(64, 64\)",
        ),
    ],
)
def test_weights_of_another_network_are_refused(path, change, message):
    rewrite(path, change)
    with pytest.raises(ValueError, match=message) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)


def test_other_files_are_refused(path, tmp_path):
    with pytest.raises(ValueError, match="no such file"):
        load_checkpoint(tmp_path / "absent.safetensors")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"a": torch.ones(1)}, foreign)
    with pytest.raises(ValueError, match="holds tensors but no SeedFold network"):
        load_checkpoint(foreign)
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        load_checkpoint(damaged)
    text = tmp_path / "text.safetensors"
    text.write_text("not a tensor in sight")
    with pytest.raises(ValueError, match="cannot be read as safetensors"):
        read_info(text)


def test_a_header_of_the_future_is_refused(path, network):
    from seedfold.config import to_dict

    config = {**to_dict(network.config), "c_new": 3}
    rewrite(path, lambda t: None, config=json.dumps(config), version="9.9")
    with pytest.raises(ValueError, match=r"model.c_new.*written by version 9.9"):
        load_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(path, network, monkeypatch):
    before = path.read_bytes()

    def full_disk(tensors, file, metadata):
        file.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("seedfold.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, network.state_dict(), read_info(path))
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
