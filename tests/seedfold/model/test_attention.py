import pytest
import torch

from seedfold.model.attention import AttentionPairBias, pair_biases
from seedfold.model.primitives import LayerNorm, Linear


def test_biases_of_a_stack_are_those_of_its_blocks():
    """One normalisation and one product for all blocks, against block by block."""
    torch.manual_seed(0)
    z = torch.randn(2, 5, 6, 8).double()
    norms = [LayerNorm(8, offset=False).double() for _ in range(3)]
    linears = [Linear(8, 4).double() for _ in range(3)]
    for norm in norms:
        torch.nn.init.normal_(norm.weight)
    found = pair_biases(z, norms, linears)
    for i in range(3):
        torch.testing.assert_close(found[:, i], linears[i](norms[i](z)).permute(0, 3, 1, 2))


def test_masked_keys_get_no_attention():
    torch.manual_seed(1)
    layer = AttentionPairBias(8, 4, 2).double()
    torch.nn.init.normal_(layer.linear_out.weight)
    a, z = torch.randn(1, 6, 8).double(), torch.randn(1, 6, 6, 4).double()
    mask = torch.tensor([[True, True, True, True, False, False]])
    found = layer(a, layer.pair_bias(z, mask))[:, :4]
    short = layer(a[:, :4], layer.pair_bias(z[:, :4, :4], mask[:, :4]))
    torch.testing.assert_close(found, short)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="width 10 is no multiple of 4 heads"):
        AttentionPairBias(10, 4, 4)
