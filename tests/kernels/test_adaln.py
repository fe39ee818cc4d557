import pytest
import torch

from seedfold.kernels import adaln


def naive(a, s, **w):
    """Algorithm 26 from its formulas."""

    def standardise(x):
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()

    s = standardise(s) * w["norm_s_weight"]
    scale = 1 / (1 + torch.exp(-(s @ w["weight_scale"].T + w["bias_scale"])))
    return scale * standardise(a) + s @ w["weight_offset"].T


@pytest.mark.parametrize("s_shape", [(2, 3, 5), (2, 1, 5), (3, 5), (5,)])
def test_agrees_with_the_formulas(s_shape, random, agree):
    weights = {
        "norm_s_weight": random(5),
        "weight_scale": random(6, 5),
        "bias_scale": random(6),
        "weight_offset": random(6, 5),
    }
    agree(adaln, naive, random(2, 3, 6), random(*s_shape), **weights)
    agree(adaln, naive, random(3, 2, 6).transpose(0, 1), random(*s_shape), **weights)
