import torch

from seedfold.kernels import residual


def test_sum_takes_the_update_s_memory_only_without_autograd(random):
    x, update = random(3, 4), random(3, 4)
    expected, before = x + update, x.clone()
    found = residual(x, update)
    assert torch.equal(found, expected)
    assert found.data_ptr() != update.data_ptr()
    with torch.no_grad():
        found = residual(x, update)
    assert torch.equal(found, expected)
    assert found.data_ptr() == update.data_ptr()
    assert torch.equal(x, before)


def test_a_bf16_update_does_not_lower_the_precision(random):
    x = random(50).float()
    update = random(50).bfloat16()
    with torch.no_grad():
        assert torch.equal(residual(x, update), x + update.float())


def test_gradients_flow_to_both(random):
    x, update = random(3).requires_grad_(), random(3).requires_grad_()
    residual(x, update * 2).sum().backward()
    assert torch.equal(x.grad, torch.ones(3).double())
    assert torch.equal(update.grad, 2 * torch.ones(3).double())
