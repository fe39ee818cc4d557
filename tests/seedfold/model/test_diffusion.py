import torch

from seedfold.data_pipeline.features import collate
from seedfold.model.diffusion import SIGMA_DATA


def prepared(network, f, n_cycles=1):
    with torch.no_grad():
        state = network.embed(f, n_cycles)
        return network.diffusion_module.prepare(f, state.s_inputs, state.s, state.z)


def test_preconditioning_at_the_ends(small_network, small_example):
    """EDM: without noise the input comes back; at high noise the skip connection vanishes."""
    network, f = small_network(), collate([small_example])
    module, state = network.diffusion_module, prepared(network, f)
    x = torch.randn(1, 1, f.n_atom, 3).double()
    with torch.no_grad():
        low = module(x, torch.tensor([[1e-7]]).double(), state)
        module.atom_attention_decoder.linear_r_update.weight.zero_()
        high = module(x, torch.tensor([[1e6]]).double(), state)
        middle = module(x, torch.tensor([[SIGMA_DATA]]).double(), state)
    torch.testing.assert_close(low, x, atol=1e-5, rtol=0)
    torch.testing.assert_close(high, torch.zeros_like(x), atol=1e-7, rtol=0)
    torch.testing.assert_close(middle, x / 2)


def test_one_noise_level_for_all_samples_or_one_each(small_network, small_example):
    network, f = small_network(), collate([small_example])
    module, state = network.diffusion_module, prepared(network, f)
    x = torch.randn(1, 3, f.n_atom, 3).double() * 10
    with torch.no_grad():
        shared = module(x, torch.full((1, 1), 7.0).double(), state)
        each = module(x, torch.full((1, 3), 7.0).double(), state)
    torch.testing.assert_close(shared, each)


def test_padding_changes_nothing(small_network, small_example, padded_example):
    network = small_network()
    f = collate([small_example])
    n = f.n_atom
    x = torch.full((1, 2, padded_example.n_atom, 3), 50.0).double()
    x[:, :, :n] = torch.randn(1, 2, n, 3, generator=torch.Generator().manual_seed(0)) * 20
    t_hat = torch.tensor([[5.0, 80.0]]).double()
    with torch.no_grad():
        expected = network.diffusion_module(x[:, :, :n], t_hat, prepared(network, f))
        found = network.diffusion_module(x, t_hat, prepared(network, padded_example))
    torch.testing.assert_close(found[:, :, :n], expected, rtol=1e-8, atol=1e-8)
