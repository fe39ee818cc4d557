"""Linear attention from softmax weights."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from seedfold.model.presets import PRESETS
from seedfold.model.seedfold import SeedFold
from seedfold.model.triangle import TriangleAttention
from seedfold.weights import linearise
from seedfold.weights.linearise import CLASSES

N, C_Z = 9, 16


def layers(kind, c_z=C_Z, n_heads=2, c_head=8):
    """A softmax layer with random weights, and a linear one that starts from it, in float64."""
    torch.manual_seed(0)
    softmax = TriangleAttention(TriangleAttention.Config(n_heads=n_heads, c_head=c_head), c_z)
    for parameter in softmax.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    linear = CLASSES[kind](CLASSES[kind].Config(n_heads=n_heads, c_head=c_head), c_z)
    linearise.initialise(linear, softmax)
    return softmax.double(), linear.double()


def batch(seed, size=4, c_z=C_Z):
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(size, N, N, c_z, generator=generator, dtype=torch.float64)
    mask = torch.ones(size, N, N, dtype=torch.bool)
    mask[:, -2:] = mask[:, :, -2:] = False
    return z, mask


def features(linear, kind, z, mask):
    """sigmoid(g) * LN(o) of real pairs, by the sums of the paper."""
    y = linear.layer_norm(z)
    heads = [x(y).unflatten(-1, (linear.n_heads, -1)) for x in (linear.linear_q, linear.linear_k)]
    q, k = (x.relu() for x in heads)
    v = linear.linear_v(y).unflatten(-1, (linear.n_heads, -1)) * mask[..., None, None]
    bias = linear.linear_bias(y)
    scores = torch.einsum("bijhd,bikhd->bijkh", q, k)
    shared = (torch.sigmoid(bias) if kind == "linear_gated" else bias.relu())[:, None]
    scores = scores * shared if kind == "linear_gated" else scores + shared
    o = torch.einsum("bijkh,bikhd->bijhd", scores, v).flatten(-2)
    o = F.layer_norm(o, o.shape[-1:])
    return (torch.sigmoid(linear.linear_gate(y)) * o)[mask]


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("heads", [(2, 8), (1, 8), (3, 8)])
def test_the_output_projection_is_the_least_squares_one(kind, heads):
    softmax, linear = layers(kind, n_heads=heads[0], c_head=heads[1])
    z, mask = batch(1)
    linearise.fit_output(linear, softmax, z, mask, ridge=0.0)
    with torch.no_grad():
        x, target = features(linear, kind, z, mask), softmax(z, mask)[mask]
        expected = torch.linalg.lstsq(x, target).solution.T
        torch.testing.assert_close(linear.linear_out.weight, expected, rtol=1e-5, atol=1e-7)
        found = linearise.relative_error(linear(z, mask), softmax(z, mask), mask)
        residual = (x @ expected.T - target).square().sum() / target.square().sum()
        torch.testing.assert_close(found, residual, rtol=1e-6, atol=1e-9)


def test_padding_has_no_part_in_it():
    softmax, linear = layers("linear_gated")
    z, mask = batch(1)
    linearise.fit_output(linear, softmax, z, mask)
    expected = linear.linear_out.weight.clone()
    garbage = z.masked_fill(~mask[..., None], 1e3)
    linearise.fit_output(linear, softmax, garbage, mask)
    torch.testing.assert_close(linear.linear_out.weight, expected)
    with torch.no_grad():
        a = linearise.relative_error(linear(z, mask), softmax(z, mask), mask)
        b = linearise.relative_error(linear(garbage, mask), softmax(garbage, mask), mask)
    torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", CLASSES)
def test_fitting_helps_on_other_examples(kind):
    """Copied, then fitted in closed form, then by gradient descent: better each time."""
    softmax, linear = layers(kind)
    z, mask = batch(99)

    def error():
        with torch.no_grad():
            return linearise.relative_error(linear(z, mask), softmax(z, mask), mask).item()

    copied = error()
    linearise.fit_output(linear, softmax, *batch(1, size=16))
    fitted = error()
    losses = linearise.distil(linear, softmax, [batch(s) for s in range(2, 80)], 3e-3)
    assert error() < 0.95 * fitted < 0.95 * 0.95 * copied
    assert sum(losses[-10:]) < sum(losses[:10])


def softmax_pico():
    config = PRESETS["pico"]()
    blocks = config.trunk.pairformer
    pair = dataclasses.replace(blocks.pair, triangle_attention=TriangleAttention.Config(c_head=16))
    blocks = dataclasses.replace(blocks, pair=pair)
    return dataclasses.replace(config, trunk=dataclasses.replace(config.trunk, pairformer=blocks))


@pytest.mark.parametrize("kind", CLASSES)
def test_a_network_keeps_all_its_weights(kind):
    network = SeedFold(softmax_pico())
    found = linearise.linearised(network, kind)
    before, after = network.state_dict(), found.state_dict()
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    new = [name for name in after if name not in before]
    n_blocks = len(network.trunk.pairformer.blocks)
    assert len(new) == 4 * n_blocks
    assert all("trunk.pairformer" in name and ".layer_norm_out." in name for name in new)
    assert found.config.trunk.pairformer.pair.triangle_attention.kind == kind
    assert found.config.trunk.msa == network.config.trunk.msa


def test_linear_attention_is_not_linearised_again():
    config = linearise.linear_config(softmax_pico(), "linear_gated")
    with pytest.raises(ValueError, match="found 'linear_gated' attention; expected 'softmax'"):
        linearise.linear_config(config, "linear_additive")
    assert dataclasses.is_dataclass(config)
