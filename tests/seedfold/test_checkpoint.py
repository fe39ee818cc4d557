import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from seedfold import __version__
from seedfold.checkpoint import CheckpointInfo, load_checkpoint, read_info, save_checkpoint
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SeedFold(PRESETS["pico"]())


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


def metadata(path):
    """The texts in the header."""
    with safe_open(path, "pt") as file:
        return file.metadata()


def rewrite(path, change, **changes):
    """The file with its tensors changed, under the same header but for `changes`."""
    header = metadata(path)
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={**header, **changes})


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


def test_how_features_are_made_comes_back(path, network):
    inputs = FeatureOptions(n_msa_rows=7, terminal_atoms=False, conformers="together")
    info = CheckpointInfo(name="tiny", config=network.config, inputs=inputs)
    save_checkpoint(path, network.state_dict(), info)
    assert read_info(path) == load_checkpoint(path)[1] == info
    assert json.loads(metadata(path)["inputs"])["n_msa_rows"] == 7


def test_files_from_before_the_entry_have_the_defaults(path):
    header = metadata(path)
    del header["inputs"]
    save_file(load_file(path), path, metadata=header)
    assert read_info(path).inputs == FeatureOptions()


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ('{"new": true}', r"inputs.new: FeatureOptions has no such option"),
        ('{"terminal_atoms": 1}', r"inputs.terminal_atoms: found 1; expected bool"),
        ("{", "cannot be read"),
    ],
)
def test_conventions_that_are_not_known_are_refused(path, inputs, message):
    """Else a network would be shown what it was not trained on."""
    rewrite(path, lambda t: None, inputs=inputs)
    with pytest.raises(ValueError, match=message) as error:
        read_info(path)
    assert str(path) in str(error.value)


def test_a_notice_belongs_to_the_weights(path, network):
    info = CheckpointInfo(name="tiny", config=network.config, notice="demonstration weights; rough")
    save_checkpoint(path, network.state_dict(), info)
    assert read_info(path) == info and metadata(path)["notice"] == info.notice
    rewrite(path, lambda t: None, notice=" two\nlines ")
    assert read_info(path).notice == "two lines"
    header = metadata(path)
    del header["notice"]
    save_file(load_file(path), path, metadata=header)
    assert read_info(path).notice == "", "of files from before the entry"


def test_a_failed_write_leaves_the_old_file(path, network, monkeypatch):
    before = path.read_bytes()

    def full_disk(tensors, file, metadata):
        file.write_bytes(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("seedfold.checkpoint.save_file", full_disk)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(path, network.state_dict(), read_info(path))
    assert path.read_bytes() == before and len(list(path.parent.iterdir())) == 1
