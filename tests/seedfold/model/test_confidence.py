import dataclasses

import pytest
import torch
from safetensors.torch import load_file

from seedfold.data_pipeline.features import collate
from seedfold.model.confidence import atom_slots, contact_probs


@pytest.mark.parametrize("name", ["protenix_a", "protenix_b"])
def test_slots_are_protenixs(name, check_golden, golden_folders):
    """`atom_to_tokatom_idx` of Protenix's featuriser, for proteins, DNA, RNA and ligands."""
    folder = next((f for f in golden_folders if f.name == name), None)
    if folder is None:
        pytest.skip(f"no golden folder {name}")
    stored = load_file(folder / "features.safetensors")
    slots = atom_slots(check_golden.golden_features(stored))[0]
    assert torch.equal(slots, stored["atom_to_tokatom_idx"].long())


def test_slots_of_a_nucleotide_without_phosphate(small_example):
    """The list of a nucleotide is OP3, P, OP1, OP2, O5', ...: without phosphate it starts at 4."""
    chars = small_example.ref_atom_name_chars.clone()
    for name, start in (("OP3 ", 0), ("P   ", 1), ("O5' ", 4), ("C1' ", 0)):
        chars[28] = torch.tensor([ord(c) - 32 for c in name])
        f = dataclasses.replace(small_example, ref_atom_name_chars=chars)
        assert atom_slots(collate([f]))[0, 28:31].tolist() == [start, start + 1, start + 2]


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
