import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from seedfold.geometry import random_rotation
from seedfold.model.atom_mixer import AtomContext, LocalVectors
from seedfold.model.atom_mixer.local_vectors import VectorAttention

N_ATOM, N_VECTORS, C_ATOM = 70, 8, 24
CONFIG = LocalVectors.Config(n_vectors=N_VECTORS)


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).double()


def drawn(module: nn.Module) -> nn.Module:
    """The module in double precision, with no weight at 0."""
    torch.manual_seed(3)
    for weight in module.parameters():
        nn.init.normal_(weight, std=0.3)
    return module.double()


@pytest.fixture
def mixer():
    return drawn(LocalVectors(CONFIG, C_ATOM, 4, None, 2))


@pytest.fixture
def run(mixer):
    """The mixer's update of fixed channels, of atoms at `r`."""
    index = torch.arange(N_ATOM)[None]
    atoms = AtomContext(
        c=draw(1, N_ATOM, C_ATOM, seed=0),
        z=None,
        ref_pos=draw(1, N_ATOM, 3, seed=1),
        ref_space_uid=index // 5,
        atom_to_token=index // 5,
        atom_slot=index % 5,
        n_token=N_ATOM // 5,
        atom_mask=torch.ones(1, N_ATOM, dtype=torch.bool),
    )
    q = draw(1, 2, N_ATOM, C_ATOM, seed=2)

    def update(r: torch.Tensor) -> torch.Tensor:
        dtype = mixer.linear_vectors.weight.dtype
        cast = replace(atoms, c=atoms.c.to(dtype), ref_pos=atoms.ref_pos.to(dtype))
        return mixer(q.to(dtype), mixer.prepare(cast), r.to(dtype)) - q.to(dtype)

    return update


def places() -> torch.Tensor:
    return draw(1, 2, N_ATOM, 3, seed=4) / 8


@torch.no_grad()
def test_where_the_molecule_is_does_not_matter(mixer, run):
    r = places()
    torch.testing.assert_close(run(r + 3), run(r))
    mixer.float()
    far = run(r + 4)  # 64 Angstrom from the origin
    torch.testing.assert_close(far, run(r), atol=5e-3, rtol=5e-3)


@torch.no_grad()
def test_vectors_turn_with_the_molecule_and_channels_do_not(mixer, run):
    rotation = random_rotation(1, generator=torch.Generator().manual_seed(5))[0].double()
    r = places()
    turned = r @ rotation.T
    mixer.linear_vectors.weight.data = torch.eye(C_ATOM).double()
    seen, of_turned = run(r), run(turned)
    mixer.linear_vectors.weight.data.zero_()
    torch.testing.assert_close(run(turned), run(r), atol=1e-6, rtol=1e-6)
    vectors, of_turned = ((x - run(r)).unflatten(-1, (3, N_VECTORS)) for x in (seen, of_turned))
    assert vectors.norm(dim=-2).median() > 1e-3
    torch.testing.assert_close(
        of_turned, torch.einsum("xy,...yn->...xn", rotation, vectors), atol=1e-6, rtol=1e-6
    )


@torch.no_grad()
@pytest.mark.parametrize("axial", [True, False])
def test_a_mirror_image_is_told_apart_by_axial_vectors_alone(mixer, run, axial):
    mixer.linear_vectors.weight.data.zero_()
    for block in mixer.blocks:
        if not axial:
            block.linear_scale.weight.data[N_VECTORS:] = 0
            block.linear_scale.bias.data[N_VECTORS:] = 0
            for linear in (block.attention.linear_left, block.attention.linear_right):
                linear.weight.data[:, N_VECTORS:] = 0
    r = places()
    mirrored = r * torch.tensor([1, 1, -1])
    difference = (run(mirrored) - run(r)).abs().max()
    assert difference > 1e-2 if axial else difference < 1e-9


@torch.no_grad()
def test_heads_see_what_is_near():
    """Against every pair of one window, written down: softmax of q k - w d^2 + bias."""
    n, n_heads = 12, CONFIG.n_heads
    attention = drawn(VectorAttention(CONFIG, C_ATOM, 4))
    attention.log_falloff.data = torch.linspace(math.log(0.3), math.log(0.01), n_heads).double()
    queries, keys = draw(1, 1, n, C_ATOM, seed=1), draw(1, 1, n, C_ATOM, seed=2)
    v, x = draw(1, 1, n, 3, N_VECTORS, seed=3), 3 * draw(1, 1, n, 3, seed=4)
    bias = draw(1, n_heads, 1, n, n, seed=5)
    o, seen = attention._attend(queries, keys, v, x, bias, torch.arange(n)[None])
    linears = (attention.linear_q, attention.linear_k, attention.linear_v)
    q, k, values = (
        linear(t)[0, 0].unflatten(-1, (n_heads, -1))
        for linear, t in zip(linears, (queries, keys, keys), strict=True)
    )
    away = x[0, 0][None] - x[0, 0][:, None]  # from l to m
    for h in range(n_heads):
        logits = q[:, h] @ k[:, h].T / math.sqrt(C_ATOM // n_heads)
        logits = logits - attention.log_falloff[h].exp() * (away**2).sum(-1) + bias[0, h, 0]
        weights = logits.softmax(-1)
        torch.testing.assert_close(o[0, 0, h], weights @ values[:, h])
        torch.testing.assert_close(seen[0, 0, :, :, h], torch.einsum("lm,lmx->lx", weights, away))
        of_others = seen[0, 0, :, :, n_heads:].unflatten(-1, (N_VECTORS, n_heads))[..., h]
        expected = torch.einsum("lm,mxn->lxn", weights, v[0, 0])
        torch.testing.assert_close(of_others, expected)


def test_one_vector_makes_no_cross_product():
    with pytest.raises(ValueError, match="n_vectors 1; expected 2 or more"):
        LocalVectors(LocalVectors.Config(n_vectors=1), C_ATOM, 4, None, 1)
