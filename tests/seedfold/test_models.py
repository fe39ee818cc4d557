"""Models by name, by file, and devices."""

import hashlib
import json

import pytest
import torch

from seedfold import models
from seedfold.checkpoint import CheckpointInfo, save_checkpoint
from seedfold.data_pipeline.dialects import read_queries
from seedfold.data_pipeline.feature_options import FeatureOptions
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.models import BUNDLED_FILE, UNTRAINED_NANO, load_model, pick_device, weights_file
from seedfold.prediction import prepare
from seedfold.weights.catalogue import DONORS

COMPLEX = {
    "version": 1,
    "sequences": [
        {
            "protein": {
                "id": ["A", "B"],
                "sequence": "GSHMKTAYIAKQRQISFVKSHFSRQLEERLGLIEVQ",
                "modifications": [{"position": 2, "ccd": "SEP"}],
            }
        },
        {"dna": {"id": "C", "sequence": "GATTACA"}},
        {"rna": {"id": "D", "sequence": "GGCUAC"}},
        {"ligand": {"id": "E", "ccd": "ATP"}},
        {"ligand": {"id": "F", "ccd": "MG"}},
    ],
}
"""904 atoms in IntelliFold's own featuriser, which knows no terminal atoms; there are four."""


def digest(network: torch.nn.Module) -> str:
    state = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        state.update(name.encode() + tensor.numpy().tobytes())
    return state.hexdigest()


NOTICE = "demonstration weights; rough: for accurate structures use --model protenix-v2"


@pytest.fixture
def no_bundle(monkeypatch, tmp_path):
    """A package without weights."""
    monkeypatch.setattr(models, "BUNDLED_FILE", tmp_path / "absent.safetensors")


@pytest.fixture
def bundle(monkeypatch, tmp_path):
    """A package with weights: a stand-in, in half precision."""
    network = load_model(UNTRAINED_NANO).network
    path = tmp_path / "nano.safetensors"
    weights = {name: tensor.half() for name, tensor in network.state_dict().items()}
    save_checkpoint(
        path, weights, CheckpointInfo(name="nano", config=network.config, notice=NOTICE)
    )
    monkeypatch.setattr(models, "BUNDLED_FILE", path)
    return path


def test_the_untrained_model_is_always_the_same_and_leaves_the_random_state_alone():
    torch.manual_seed(1)
    first = load_model(UNTRAINED_NANO)
    after = torch.rand(1)
    torch.manual_seed(2)
    assert digest(load_model(UNTRAINED_NANO).network) == digest(first.network)
    torch.manual_seed(1)
    assert torch.rand(1) == after
    assert not first.trained and "UNTRAINED" in first.notes[0]
    assert first.label == "nano (UNTRAINED)" and weights_file(UNTRAINED_NANO) is None


def test_without_weights_the_bundled_model_is_the_untrained_one(no_bundle):
    model = load_model()
    assert digest(model.network) == digest(load_model(UNTRAINED_NANO).network)
    assert model.label == "nano (UNTRAINED)" and weights_file("nano") is None


def test_bundled_weights_are_the_default_and_say_what_they_are(bundle):
    model = load_model()
    assert model.trained and model.label == "nano (demonstration weights)"
    assert model.notes == (f"nano: {NOTICE}",) and weights_file("nano") == bundle
    assert {w.dtype for w in model.network.parameters()} == {torch.float32}
    untrained = load_model(UNTRAINED_NANO)
    assert untrained.label == "nano (UNTRAINED)"
    for one, other in zip(model.network.parameters(), untrained.network.parameters(), strict=True):
        assert torch.equal(one, other.half().float())


def test_the_notice_goes_with_the_file_not_with_the_name(bundle, no_bundle):
    model = load_model(str(bundle))
    assert model.notes == (f"nano: {NOTICE}",)


def test_a_file_of_untrained_weights_says_so(tmp_path):
    network = load_model(UNTRAINED_NANO).network
    info = CheckpointInfo(name="mine", config=network.config, trained=False, notice="odd; very")
    save_checkpoint(tmp_path / "mine.safetensors", network.state_dict(), info)
    model = load_model(str(tmp_path / "mine.safetensors"))
    assert model.label == "mine (UNTRAINED)"
    assert model.notes == (models.UNTRAINED, "mine: odd; very")


def test_the_package_is_small_and_what_it_holds_is_marked():
    if not BUNDLED_FILE.is_file():
        pytest.skip("no weights are bundled yet")
    assert BUNDLED_FILE.stat().st_size <= 30e6
    assert load_model().label == "nano (demonstration weights)"


def test_every_weight_of_the_untrained_model_has_a_say():
    network = load_model(UNTRAINED_NANO).network
    assert all(w.any() for n, w in network.named_parameters() if w.dim() > 1)


def test_a_file_is_loaded_with_what_it_says_of_itself(tmp_path):
    bundled = load_model(UNTRAINED_NANO)
    path = tmp_path / "mine.safetensors"
    info = CheckpointInfo(name="mine", config=bundled.network.config, trained=True)
    save_checkpoint(path, bundled.network.state_dict(), info)
    loaded = load_model(str(path))
    assert loaded.name == loaded.label == "mine" and loaded.trained and loaded.notes == ()
    assert digest(loaded.network) == digest(bundled.network)


@pytest.mark.parametrize(("donor", "n_atom"), [("protenix", 908), ("intellifold", 904)])
def test_a_model_is_shown_what_it_was_trained_on(donor, n_atom, tmp_path):
    """From the header of its file to the features of an input."""
    bundled, path = load_model(UNTRAINED_NANO), tmp_path / "mine.safetensors"
    config = PRESETS["pico"]()
    info = CheckpointInfo(name="mine", config=config, inputs=DONORS[donor].inputs)
    save_checkpoint(path, SeedFold(config).state_dict(), info)
    (tmp_path / "job.yaml").write_text(json.dumps(COMPLEX))
    (query,) = read_queries(tmp_path / "job.yaml")
    f = prepare(query, load_model(str(path)).options).features
    gaps = donor == "intellifold"
    assert f.n_atom == n_atom
    assert f.msa[0, -1] == (31 if gaps else 20), "class of an ion in the MSA"
    assert f.template_restype.any() != gaps
    assert bundled.options == FeatureOptions(n_templates=0)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"'resnet'.*expected 'nano'"):
        load_model("resnet")


def test_devices():
    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"--device cuda.*--device auto"):
            pick_device("cuda")
