import pytest
import torch

from seedfold.model.atom_mixer import AtomContext, LocalWindow


def test_an_atom_sees_its_window_only():
    """32 queries around 128 keys (Algorithm 7): atom 100 sees atoms 48 to 175, no others."""
    torch.manual_seed(0)
    mixer = LocalWindow(LocalWindow.Config(), 8, 4, None, 1).double()
    for p in mixer.parameters():
        torch.nn.init.normal_(p, std=0.5)
    n = 300
    atoms = AtomContext(
        c=torch.randn(1, n, 8).double(),
        z=None,
        ref_pos=torch.randn(1, n, 3).double(),
        ref_space_uid=torch.zeros(1, n, dtype=torch.long),
        atom_to_token=torch.zeros(1, n, dtype=torch.long),
        atom_mask=torch.ones(1, n, dtype=torch.bool),
    )
    q = torch.randn(1, n, 8).double().requires_grad_()
    mixer(q, mixer.prepare(atoms))[0, 100].sum().backward()
    seen = q.grad[0].abs().sum(-1).nonzero()[:, 0]
    assert seen.tolist() == list(range(48, 176))


@pytest.mark.parametrize("pair_norm", ["shared", "per_block"])
@pytest.mark.parametrize("key_adaln", ["separate", "chained", "shared"])
def test_flags_own_their_parameters(key_adaln, pair_norm):
    """AdaLN (3 c^2 + 2 c) per block for keys unless shared; a norm of p per stack or per block."""
    n_blocks, c, c_pair = 2, 8, 4

    def count(config):
        return sum(p.numel() for p in LocalWindow(config, c, c_pair, None, n_blocks).parameters())

    base = count(LocalWindow.Config(key_adaln="shared", pair_norm="shared"))
    found = count(LocalWindow.Config(key_adaln=key_adaln, pair_norm=pair_norm))
    adaln = 0 if key_adaln == "shared" else n_blocks * (2 * c * c + 2 * c)
    norms = 0 if pair_norm == "shared" else (n_blocks - 1) * c_pair
    assert found - base == adaln + norms


def test_chained_keys_pass_both_adalns():
    """With the queries' AdaLN shut to zero output, chained keys are constant, separate are not."""
    torch.manual_seed(1)
    results = {}
    for kind in ("chained", "separate"):
        mixer = LocalWindow(LocalWindow.Config(key_adaln=kind), 8, 4, None, 1).double()
        attention = mixer.blocks[0].attention
        torch.nn.init.normal_(attention.adaln_key.linear_offset.weight)
        attention.adaln_query.linear_scale.bias.data.fill_(-100.0)
        seen = []
        attention.linear_k.register_forward_hook(lambda m, a, o, seen=seen: seen.append(a[0]))
        q = torch.randn(1, 2, 40, 8).double()
        c = torch.randn(1, 40, 8).double()
        atoms = AtomContext(
            c=c,
            z=None,
            ref_pos=torch.randn(1, 40, 3).double(),
            ref_space_uid=torch.zeros(1, 40, dtype=torch.long),
            atom_to_token=torch.zeros(1, 40, dtype=torch.long),
            atom_mask=torch.ones(1, 40, dtype=torch.bool),
        )
        mixer(q, mixer.prepare(atoms))
        results[kind] = bool((seen[0][:, 0] - seen[0][:, 1]).abs().max() > 1e-6)
    assert results == {"chained": False, "separate": True}


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="c_atom 10 is no multiple of 4 heads"):
        LocalWindow(LocalWindow.Config(), 10, 4, None, 1)
