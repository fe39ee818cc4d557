import math

import pytest
import torch

from seedfold.kernels import pair_bias_attention


@pytest.mark.parametrize("samples", [(), (3,)])
@pytest.mark.parametrize("batch", [1, 2])
def test_agrees_with_the_formula(samples, batch, random, agree):
    def naive(q, k, v, bias):
        if samples:
            bias = bias[:, None]
        logits = torch.einsum("...hqc,...hkc->...hqk", q, k) / math.sqrt(q.shape[-1]) + bias
        weights = logits.exp() / logits.exp().sum(-1, keepdim=True)
        return torch.einsum("...hqk,...hkc->...hqc", weights, v)

    q = random(batch, *samples, 2, 5, 3)
    k, v = random(batch, *samples, 2, 7, 3), random(batch, *samples, 2, 7, 3)
    agree(pair_bias_attention, naive, q, k, v, random(batch, 2, 5, 7))
