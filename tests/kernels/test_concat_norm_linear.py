"""Against the formula written out, with and without blocks."""

import torch
import torch.nn.functional as F

from seedfold.kernels import OneHot, concat_norm_linear, memory_budget


def case() -> tuple:
    generator = torch.Generator().manual_seed(0)

    def randn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    z, flag = randn(2, 5, 7, 6), randn(2, 5, 7, 1)
    index = torch.randint(4, (2, 5, 7), generator=generator)
    return [z, OneHot(index, 4), flag], randn(11), randn(3, 11)


def expected(parts, norm_weight, weight) -> torch.Tensor:
    z, (index, n), flag = parts
    x = torch.cat([z, F.one_hot(index, n).double(), flag], -1)
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    return torch.einsum("bijc,c,oc->bijo", x, norm_weight, weight)


def test_is_the_formula_in_whole_and_in_blocks():
    parts, norm_weight, weight = case()
    truth = expected(parts, norm_weight, weight)
    torch.testing.assert_close(
        concat_norm_linear(parts, norm_weight=norm_weight, weight=weight), truth
    )
    with torch.no_grad(), memory_budget(1):
        torch.testing.assert_close(
            concat_norm_linear(parts, norm_weight=norm_weight, weight=weight), truth
        )


def test_gradients_reach_every_operand():
    parts, norm_weight, weight = case()
    z = parts[0].requires_grad_()
    operands = (z, norm_weight.requires_grad_(), weight.requires_grad_())
    assert torch.autograd.gradcheck(
        lambda z, n, w: concat_norm_linear([z, *parts[1:]], norm_weight=n, weight=w), operands
    )
