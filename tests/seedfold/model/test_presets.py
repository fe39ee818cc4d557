import pytest
import torch

from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold

# Protenix registers the edges of its distance bins as parameters: 39 lower and 39 upper ones.
BIN_EDGES = 78


def count(name):
    """Parameters and the 2 c_noise constants of the Fourier embedding, without memory for them."""
    with torch.device("meta"):
        network = SeedFold(PRESETS[name]())
    return sum(t.numel() for t in network.state_dict().values())


@pytest.mark.parametrize(
    ("name", "donors"), [("protenix_v1", 368_484_735), ("protenix_v2", 464_442_431)]
)
def test_protenix_to_the_last_parameter(name, donors):
    assert count(name) + BIN_EDGES == donors


@pytest.mark.parametrize(
    ("name", "millions"),
    [("protenix_v0.5", 368.09), ("protenix_mini_v0.5", 134.06), ("protenix_tiny_v0.5", 109.50)],
)
def test_protenix_published_millions(name, millions):
    """docs/supported_models.md of Protenix; it prints 134.06 for 134.067."""
    assert (count(name) + BIN_EDGES) / 1e6 == pytest.approx(millions, abs=0.0075)


@pytest.mark.parametrize(
    ("name", "exact", "paper"),
    [
        ("seedfold_128", 445_137_564, 432),
        ("seedfold_256", 542_029_404, 533),
        ("seedfold_512", 927_287_772, 923),
        ("seedfold_deep_pairformer", 592_538_268, 582),
        ("seedfold_deep_structure", 714_275_484, 706),
    ],
)
def test_seedfold_rows(name, exact, paper):
    """Exact counts, and their distance from the paper's table (arXiv 2512.24354): under 3.5 %."""
    found = count(name)
    assert found == exact
    assert abs(found / 1e6 / paper - 1) < 0.035


def test_linear_attention_costs_one_norm_each():
    """Every softmax attention of a 384-wide SeedFold replaced: one LayerNorm (2 c) more each."""
    from seedfold.model.presets import seedfold

    with torch.device("meta"):
        vanilla = SeedFold(seedfold(384))
    attentions = 2 * (48 + 4 + 4)  # Pairformer, MSA module, confidence head: width 384
    templates = 2 * 2  # width 192
    extra = attentions * 2 * 384 + templates * 2 * 192
    plain = sum(t.numel() for t in vanilla.state_dict().values())
    assert count("seedfold_linear_384") - plain == extra


def test_depth_costs_what_the_paper_implies():
    """docs/model.md: 11.375-11.458M a token block, 3.104-3.146M a Pairformer block."""
    token = (count("seedfold_deep_structure") - count("seedfold_128")) / 24 / 1e6
    pairformer = (count("seedfold_deep_pairformer") - count("seedfold_128")) / 48 / 1e6
    assert token == pytest.approx(11.41, rel=0.025) and pairformer == pytest.approx(3.12, rel=0.025)
