"""What every triangle attention of the table owes its users."""

import pytest
import torch

from seedfold.kernels import memory_budget
from seedfold.model.triangle import TRIANGLE_ATTENTIONS

KINDS = list(TRIANGLE_ATTENTIONS)
C_Z = 64


@pytest.fixture(params=KINDS)
def attention(request, randomised):
    cls = TRIANGLE_ATTENTIONS[request.param]
    config = cls.Config()
    assert config.kind == request.param
    return randomised(TRIANGLE_ATTENTIONS.build(config, C_Z))


def test_starts_as_the_identity():
    """AF3 SI 5.1: what is added to the residual stream is zero at first."""
    for kind in KINDS:
        module = TRIANGLE_ATTENTIONS.build(TRIANGLE_ATTENTIONS[kind].Config(), C_Z)
        assert torch.count_nonzero(module.linear_out.weight) == 0


def test_padding_changes_nothing(attention, z, full):
    expected = attention(z, full)
    padded = torch.full((1, 9, 9, C_Z), 7.0, dtype=z.dtype)
    padded[:, :6, :6] = z
    mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    mask[:, :6, :6] = True
    for grad in (True, False):
        with torch.set_grad_enabled(grad):
            found = attention(padded, mask)
        torch.testing.assert_close(found[:, :6, :6], expected, rtol=1e-10, atol=1e-10)
        assert found.isfinite().all()


def test_the_third_edge_biases_its_query(attention, z, full):
    """z[2, 4] is the bias of query 2 and key 4: in other rows it moves what happens at 2 only."""
    moved = z.clone()
    moved[0, 2, 4] = -moved[0, 2, 4]
    with torch.no_grad():
        change = (attention(moved, full) - attention(z, full))[0].abs().amax(-1) > 1e-12
    expected = torch.zeros(6, 6, dtype=torch.bool)
    expected[:, 2] = True
    expected[2] = True
    others = torch.arange(6) != 2
    assert not change[others][:, others].any()
    assert change[:, 2].all()


def test_a_row_sees_its_own_keys_only(attention, z, full):
    """z[2, 4] as a key and value: all of row 2 moves, whatever the position."""
    moved = z.clone()
    moved[0, 2, 4] = -moved[0, 2, 4]
    with torch.no_grad():
        change = (attention(moved, full) - attention(z, full))[0].abs().amax(-1)
    assert (change[2] > 1e-6).all()


def test_examples_are_independent(attention, z, full):
    both = torch.cat([z, z.flip(1)])
    with torch.no_grad():
        found = attention(both, full.expand(2, -1, -1))
        torch.testing.assert_close(found[:1], attention(z, full), rtol=0, atol=0)


def test_gradients_are_finite_and_reach_everything(attention, z, full):
    mask = full.clone()
    mask[0, 5], mask[0, :, 5] = False, False  # A padded token leaves a row without keys.
    z.requires_grad_()
    attention(z, mask)[0, :5, :5].square().sum().backward()
    for parameter in attention.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().max() > 0
    assert z.grad.isfinite().all()
    assert torch.count_nonzero(z.grad[0, 5]) == torch.count_nonzero(z.grad[0, :, 5]) == 0


def test_bf16_is_as_good_as_its_digits(attention, z, full):
    expected = attention(z, full)
    with torch.no_grad():
        found = attention.bfloat16()(z.bfloat16(), full).double()
    assert (found - expected).norm() / expected.norm() < 3e-2


def test_pieces_make_the_whole(attention, z, full):
    expected = attention(z, full)
    with torch.no_grad(), memory_budget(1):
        torch.testing.assert_close(attention(z, full), expected, rtol=1e-10, atol=1e-10)
