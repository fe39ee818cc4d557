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


def test_scaled_updates_and_their_gradients(random):
    x, update = random(2, 3, 4).float().requires_grad_(), random(2, 3, 4).bfloat16()
    update, scale = update.requires_grad_(), random(2, 1, 4).bfloat16()
    found = residual(x, update, scale)
    expected = x.double() + update.double() * scale.double()
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)
    direction = random(2, 3, 4).float()
    d_x, d_update = torch.autograd.grad(found, [x, update], direction)
    assert torch.equal(d_x, direction)
    assert d_update.dtype == torch.bfloat16
    exact = direction.double() * scale.double()
    torch.testing.assert_close(d_update.double(), exact, rtol=2**-7, atol=0)
