import torch

from seedfold.kernels import own, residual


def test_sum_is_in_place_only_without_autograd(random):
    x, update = random(3, 4), random(3, 4)
    expected, before = x + update, x.clone()
    assert torch.equal(residual(x, update), expected)
    assert torch.equal(x, before)
    with torch.no_grad():
        mine = own(x)
        assert residual(mine, update) is mine
    assert torch.equal(mine, expected)
    assert torch.equal(x, before)


def test_a_bf16_update_does_not_lower_the_precision(random):
    x, update = random(50).float(), random(50).bfloat16()
    expected = x + update.float()
    with torch.no_grad():
        assert torch.equal(residual(update.clone(), x), expected)
        assert torch.equal(residual(x, update), expected)


def test_gradients_flow_to_both(random):
    x, update = random(3).requires_grad_(), random(3).requires_grad_()
    residual(x, update * 2).sum().backward()
    assert torch.equal(x.grad, torch.ones(3).double())
    assert torch.equal(update.grad, 2 * torch.ones(3).double())
