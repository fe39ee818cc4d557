import pytest
import torch

from seedfold.data_pipeline.features import collate
from seedfold.model.confidence import contact_probs


def test_padding_changes_nothing(small_network, small_example, padded_example):
    network, f = small_network(), collate([small_example])
    n_atom, n_token = f.n_atom, f.n_token
    x = torch.full((1, 2, padded_example.n_atom, 3), 30.0).double()
    generator = torch.Generator().manual_seed(0)
    x[:, :, :n_atom] = torch.randn(1, 2, n_atom, 3, generator=generator) * 9
    with torch.no_grad():
        expected = network.confidence_head(f, network.embed(f, 1), x[:, :, :n_atom])
        state = network.embed(padded_example, 1)
        found = network.confidence_head(padded_example, state, x)
    for name in ("pae", "pde"):
        part = getattr(found, name)[:, :, :n_token, :n_token]
        torch.testing.assert_close(part, getattr(expected, name), rtol=1e-7, atol=1e-7)
    for name in ("plddt", "resolved"):
        part = getattr(found, name)[:, :, :n_atom]
        torch.testing.assert_close(part, getattr(expected, name), rtol=1e-7, atol=1e-7)


def test_no_gradient_reaches_the_trunk(small_network, small_example):
    network, f = small_network(), collate([small_example])
    state = network.embed(f, 1)
    x = torch.randn(1, 1, f.n_atom, 3).double().requires_grad_()
    network.confidence_head(f, state, x).pae.sum().backward()
    assert x.grad is None and network.trunk.linear_s_init.weight.grad is None
    assert network.confidence_head.linear_s_inputs_i.weight.grad is not None


def test_pde_is_symmetric_and_pae_is_not(small_network, small_example):
    network, f = small_network(), collate([small_example])
    x = torch.randn(1, 1, f.n_atom, 3).double() * 5
    with torch.no_grad():
        found = network.confidence_head(f, network.embed(f, 1), x)
    torch.testing.assert_close(found.pde, found.pde.transpose(2, 3))
    assert not torch.allclose(found.pae, found.pae.transpose(2, 3))


def test_contacts_are_the_bins_up_to_eight_angstrom():
    """Edges 2.3125 + 0.3125 k: bins 0 to 18 end at or below 8 A (2.3125 + 18 * 0.3125 = 7.9375)."""
    logits = torch.full((1, 1, 1, 64), -torch.inf)
    for k in (0, 18, 19, 63):
        one = logits.clone()
        one[..., k] = 0.0
        assert contact_probs(one).item() == float(k <= 18)
    assert contact_probs(torch.zeros(1, 1, 1, 64)).item() == pytest.approx(19 / 64)
