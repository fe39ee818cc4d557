import math

import torch

from seedfold.kernels import transition


def naive(x, **w):
    """Algorithm 11 from its formulas."""
    centred = x - x.mean(-1, keepdim=True)
    y = centred / (centred.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt()
    y = y * w["norm_weight"] + w["norm_bias"]
    a = y @ w["weight_a"].T
    swish = a / (1 + torch.exp(-a * math.log(math.e)))
    return (swish * (y @ w["weight_b"].T)) @ w["weight_out"].T


def test_agrees_with_the_formulas(random, agree):
    weights = {
        "norm_weight": random(6),
        "norm_bias": random(6),
        "weight_a": random(12, 6),
        "weight_b": random(12, 6),
        "weight_out": random(6, 12),
    }
    agree(transition, naive, random(2, 3, 5, 6), **weights)
    agree(transition, naive, random(2, 3, 5, 6).transpose(1, 2), **weights)
