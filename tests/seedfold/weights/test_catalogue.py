"""The catalogue against our own networks and against what the authors publish."""

import pytest
import torch

from seedfold.data_pipeline.errors import InputError
from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.weights.catalogue import DONORS, KNOWN, KnownModel, check_name, known

PUBLISHED_MILLIONS = {
    "protenix-v2": 464.44,
    "protenix-v1": 368.48,
    "protenix-v1-20250630": 368.48,
    "protenix-v0.5": 368.09,
    "protenix-mini-v0.5": 134.06,
    "protenix-tiny-v0.5": 109.50,
}
"""docs/supported_models.md of bytedance/Protenix."""
CONSTANTS = 2 * 39
"""Edges of distance bins, which their checkpoints hold and ours do not."""


@pytest.mark.parametrize("name", [n for n in KNOWN if KNOWN[n].donor == "protenix"])
def test_sizes_are_those_of_the_network_and_of_the_authors(name):
    model = KNOWN[name]
    with torch.device("meta"):
        network = SeedFold(PRESETS[model.preset]())
    ours = sum(t.numel() for t in network.state_dict().values())
    assert model.parameters == ours + CONSTANTS
    assert model.parameters / 1e6 == pytest.approx(PUBLISHED_MILLIONS[name], abs=0.0101)


@pytest.mark.parametrize("name", KNOWN)
def test_every_model_says_whose_it_is(name):
    model = known(name)
    assert check_name(name) == name == model.name
    assert model.licence == "Apache-2.0" and "Apache License" in DONORS[model.donor].notice
    assert model.accuracy and model.source
    homes = {
        "protenix": "https://protenix.tos-cn-beijing.volces.com/checkpoint",
        "intellifold": "https://huggingface.co/intelligenAI/intellifold/resolve/main",
        "openfold3": "https://openfold.s3.amazonaws.com/openfold3_params",
    }
    assert model.url == f"{homes[model.donor]}/{model.published_as}.pt"


def test_a_published_size_replaces_the_computed_one():
    model = KNOWN["protenix-v1"]
    assert model.size_text == "about 1.47 GB"
    fields = {**model.__dict__, "size": 2_000_000_000}
    assert KnownModel(**fields).size_text == "2.00 GB"


@pytest.mark.parametrize(
    "name", ["", "../up", "a/b", ".hidden", "x" * 65, "a b", "nano", "nano-untrained", "a."]
)
def test_names_that_are_no_file_names_are_refused(name):
    with pytest.raises(InputError, match="--as"):
        check_name(name)


def test_unknown_models_are_refused():
    with pytest.raises(InputError, match=r"'protenix-v9'.*expected one of protenix-v2"):
        known("protenix-v9")
