"""Scores against closed forms and against a loop in double precision written from the SI."""

import json
import math

import numpy as np
import pytest
import torch

from seedfold.data_pipeline.chemistry import KINDS
from seedfold.data_pipeline.features import Features, collate
from seedfold.scores import Scores, ranking_score, score, summary, write_full_confidences

CENTRES = [0.25 + 0.5 * b for b in range(64)]


def system(chains, *, kinds=None, frames=None, atoms_per_token=1) -> Features:
    """Features of chains of the given lengths; what scores do not look at is zero."""
    kinds = kinds or ["protein"] * len(chains)
    n = sum(chains)
    size = {"N_token": n, "N_atom": n * atoms_per_token, "N_msa": 1, "N_templ": 1}
    fields = {
        name: torch.zeros([size[a] if a in size else int(a) for a in axes], dtype=torch.long)
        for name, axes in Features.axes().items()
    }
    for name in fields:
        if "mask" in name or name == "token_bonds":
            fields[name] = fields[name].bool()
    for name in ("deletion_value", "profile", "deletion_mean", "ref_pos", "template_frame",
                 "template_origin", "template_pseudo_beta"):  # fmt: skip
        fields[name] = fields[name].float()
    for name in ("token_mask", "atom_mask", "frame_mask"):
        fields[name] = torch.ones_like(fields[name], dtype=torch.bool)
    fields["has_deletion"] = fields["has_deletion"].bool()
    lengths = torch.tensor(chains)
    fields["asym_id"] = torch.arange(len(chains)).repeat_interleave(lengths)
    kind = torch.tensor([KINDS.index(k) for k in kinds])
    fields["kind"] = kind.repeat_interleave(lengths)
    fields["atom_to_token"] = torch.arange(n).repeat_interleave(atoms_per_token)
    if frames is not None:
        fields["frame_mask"] = torch.tensor(frames)
    return Features(**fields)


def logits_at(bins: torch.Tensor, n_bins: int) -> torch.Tensor:
    """Logits whose whole probability is in the given bins."""
    return torch.nn.functional.one_hot(bins, n_bins).float() * 1000


def random_logits(f: Features, n_sample: int, seed: int = 0) -> dict[str, torch.Tensor]:
    g = torch.Generator().manual_seed(seed)
    n = f.n_token
    return {
        "plddt_logits": torch.randn(n_sample, f.n_atom, 50, generator=g),
        "pae_logits": 2 * torch.randn(n_sample, n, n, 64, generator=g),
        "pde_logits": torch.randn(n_sample, n, n, 64, generator=g),
    }


def far(f: Features, n_sample: int = 1) -> torch.Tensor:
    """Coordinates of which no two are near."""
    x = torch.zeros(n_sample, f.n_atom, 3)
    x[..., 0] = 10.0 * torch.arange(f.n_atom)
    return x


def naive_tm(pae_logits, rows, columns_of, d0_of) -> float:
    """max over rows of the mean over columns of E[1 / (1 + (e / d0)^2)]; NaN without any."""
    probability = pae_logits.double().softmax(-1).tolist()
    best = math.nan
    for i in rows:
        columns = columns_of(i)
        if not columns:
            continue
        total = 0.0
        for j in columns:
            d0 = d0_of(i, j)
            total += sum(
                p / (1 + (c / d0) ** 2) for p, c in zip(probability[i][j], CENTRES, strict=True)
            )
        mean = total / len(columns)
        best = mean if math.isnan(best) else max(best, mean)
    return best


def d0(n: int) -> float:
    return 1.24 * (max(n, 19) - 15) ** (1 / 3) - 1.8


def test_expectations_are_bin_centres():
    f = system([2])
    pae = torch.tensor([[[0, 3], [63, 1]]])
    one = score(
        f,
        far(f),
        plddt_logits=logits_at(torch.tensor([[0, 49]]), 50),
        pae_logits=logits_at(pae, 64),
        pde_logits=logits_at(pae.mT, 64),
    )[0]
    assert one.plddt.tolist() == pytest.approx([1.0, 99.0])
    assert one.pae.flatten().tolist() == pytest.approx([0.25, 1.75, 31.75, 0.75])
    assert one.pde.flatten().tolist() == pytest.approx([0.25, 31.75, 1.75, 0.75])


def test_equal_probabilities_give_the_middle():
    f = system([3])
    zeros = torch.zeros(1, 3, 3, 64)
    one = score(f, far(f), plddt_logits=torch.zeros(1, 3, 50), pae_logits=zeros, pde_logits=zeros)[
        0
    ]
    torch.testing.assert_close(one.plddt, torch.full((3,), 50.0))
    torch.testing.assert_close(one.pae, torch.full((3, 3), 16.0))


def test_ptm_of_perfect_pae_by_hand():
    """All mass in the first bin (0.25 A): 1 / (1 + (0.25 / d0)^2), d0(23 tokens) = 0.68 A."""
    f = system([23])
    zeros = torch.zeros(1, 23, 23, dtype=torch.long)
    one = score(
        f,
        far(f),
        plddt_logits=torch.zeros(1, 23, 50),
        pae_logits=logits_at(zeros, 64),
        pde_logits=logits_at(zeros, 64),
    )[0]
    assert one.ptm == pytest.approx(1 / (1 + (0.25 / 0.68) ** 2), rel=1e-5)
    assert math.isnan(one.iptm)
    assert one.ranking_score == pytest.approx(one.ptm)


@pytest.mark.parametrize("frames_of_last", [True, False])
def test_tm_scores_match_a_naive_loop(frames_of_last):
    chains = [20, 5, 3]
    n = sum(chains)
    frames = [True] * 25 + [frames_of_last] * 3
    frames[4] = frames[21] = False
    f = system(chains, frames=frames)
    logits = random_logits(f, 1)
    logits["pae_logits"][0, :20, 20:25, :8] += 3  # some order among the rows
    logits["pae_logits"][0, [4, 21], :, :4] += 6  # the best rows have no frame
    one = score(f, far(f), **logits)[0]
    pae = logits["pae_logits"][0]
    chain = f.asym_id.tolist()
    rows = [i for i in range(n) if frames[i]]
    everything = list(range(n))
    assert one.ptm == pytest.approx(
        naive_tm(pae, rows, lambda i: everything, lambda i, j: d0(n)), rel=1e-5
    )
    assert one.iptm == pytest.approx(
        naive_tm(
            pae,
            rows,
            lambda i: [j for j in everything if chain[j] != chain[i]],
            lambda i, j: d0(n),
        ),
        rel=1e-5,
    )
    expected = np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            n_tokens = chains[a] if a == b else chains[a] + chains[b]
            expected[a, b] = naive_tm(
                pae,
                [i for i in rows if chain[i] in (a, b)],
                lambda i, a=a, b=b: [
                    j for j in everything if chain[j] in (a, b) and (a == b or chain[j] != chain[i])
                ],
                lambda i, j, n=n_tokens: d0(n),
            )
    np.testing.assert_allclose(one.chain_pair_iptm.numpy(), expected, rtol=1e-5)
    np.testing.assert_allclose(one.chain_ptm.numpy(), expected.diagonal(), rtol=1e-5)
    off = expected.copy()
    np.fill_diagonal(off, np.nan)
    np.testing.assert_allclose(one.chain_iptm.numpy(), np.nanmean(off, axis=1), rtol=1e-5)
    assert one.ranking_score == pytest.approx(0.8 * one.iptm + 0.2 * one.ptm)


def test_pae_rows_are_frames():
    """A's frames see B well (bin 0), B's frames see A badly (last bin); an ion has no frame."""
    f = system([2, 2, 1], kinds=["protein", "protein", "ligand"], frames=[True] * 4 + [False])
    bins = torch.full((1, 5, 5), 20)
    bins[0, :2, 2:4] = 0
    bins[0, 1, 2] = 5
    bins[0, 2:4, :2] = 63
    one = score(
        f,
        far(f),
        plddt_logits=torch.zeros(1, 5, 50),
        pae_logits=logits_at(bins, 64),
        pde_logits=logits_at(bins, 64),
    )[0]
    least = one.chain_pair_pae_min
    assert least[0, 1].item() == pytest.approx(0.25)
    assert least[1, 0].item() == pytest.approx(31.75)
    assert least[0, 2].item() == pytest.approx(10.25)
    assert torch.isnan(least[2]).all()
    assert math.isnan(one.chain_ptm[2])
    # Symmetric all the same: the better of the two directions.
    assert one.chain_pair_iptm[0, 1] == one.chain_pair_iptm[1, 0] > 0.3
    told = summary(one, ["A", "B", "ZN"], num_recycles=10)
    assert told["chain_pair_pae_min"]["A"]["B"] == 0.25
    assert told["chain_pair_pae_min"]["ZN"] == {"A": None, "B": None, "ZN": None}


def test_padding_and_other_samples_change_nothing():
    small, large = system([4, 3], atoms_per_token=3), system([9], atoms_per_token=3)
    logits = random_logits(small, 2)
    x = torch.randn(2, small.n_atom, 3, generator=torch.Generator().manual_seed(1))
    contacts = torch.rand(7, 7)
    plain = score(small, x, **logits, contact_probs=contacts, disorder=[0.1, 0.2])
    padded_features = collate([small, large]).map(lambda t: t[0])

    def pad(t, axes):
        out = torch.full(
            [s if a not in axes else {7: 9, 21: 27}[s] for a, s in enumerate(t.shape)], 7.0
        )
        out[tuple(slice(s) for s in t.shape)] = t
        return out

    padded = score(
        padded_features,
        pad(x, [1]),
        plddt_logits=pad(logits["plddt_logits"], [1]),
        pae_logits=pad(logits["pae_logits"], [1, 2]),
        pde_logits=pad(logits["pde_logits"], [1, 2]),
        contact_probs=pad(contacts, [0, 1]),
        disorder=[0.1, 0.2],
    )
    alone = score(small, x[1:], **{k: v[1:] for k, v in logits.items()}, contact_probs=contacts)
    for a, b in zip(plain, padded, strict=True):
        assert summary(a, ["A", "B"]) == summary(b, ["A", "B"])
        torch.testing.assert_close(a.pae, b.pae)
        torch.testing.assert_close(a.plddt, b.plddt)
    assert plain[1].iptm == alone[0].iptm
    expected = (plain[0].pde * contacts).sum() / contacts.sum()
    assert plain[0].gpde == pytest.approx(expected.item(), rel=1e-5)


def test_chain_plddt_is_the_mean_over_atoms():
    f = system([2, 1], atoms_per_token=2)
    zeros = torch.zeros(1, 3, 3, 64)
    bins = torch.tensor([[0, 0, 1, 49, 20, 21]])
    one = score(f, far(f), plddt_logits=logits_at(bins, 50), pae_logits=zeros, pde_logits=zeros)[0]
    assert one.chain_plddt.tolist() == pytest.approx([(1 + 1 + 3 + 99) / 4, (41 + 43) / 2])


def test_a_clash_lowers_the_ranking_score():
    good = ranking_score(ptm=0.5, iptm=0.5, disorder=0.2, has_clash=False)
    assert good == pytest.approx(0.6)
    assert ranking_score(ptm=0.5, iptm=0.5, disorder=0.2, has_clash=True) == pytest.approx(-99.4)


def test_undefined_values_in_the_ranking_score():
    nan = math.nan
    assert ranking_score(ptm=0.7, iptm=nan, disorder=nan, has_clash=False) == pytest.approx(0.7)
    assert ranking_score(ptm=nan, iptm=nan, disorder=nan, has_clash=False) == 0.0


def clash_case(chains, kinds, close) -> Scores:
    """Chains far apart but for `close`: pairs of atoms put 1.0 Angstrom from each other."""
    f = system(chains, kinds=kinds)
    x = far(f)
    for a, b in close:
        x[0, b] = x[0, a] + torch.tensor([0.0, 1.0, 0.0])
    zeros = torch.zeros(1, f.n_token, f.n_token, 64)
    return score(
        f, x, plddt_logits=torch.zeros(1, f.n_atom, 50), pae_logits=zeros, pde_logits=zeros
    )[0]


@pytest.mark.parametrize(
    ("n_close", "chains", "expected"),
    [(5, [20, 10], False), (6, [20, 10], True), (100, [210, 205], False), (101, [210, 205], True)],
)
def test_polymers_clash_by_fraction_of_the_smaller_or_by_number(n_close, chains, expected):
    one = clash_case(chains, None, [(i, chains[0] + i) for i in range(n_close)])
    assert one.has_clash is expected
    assert one.n_clashes == n_close
    assert one.ligand_clash is False
    assert (one.ranking_score < -90) is expected


def test_ligands_clash_by_one_atom_and_not_as_polymers():
    one = clash_case([5, 5], ["protein", "ligand"], [(i, 5 + i) for i in range(5)])
    assert one.has_clash is False
    assert one.ligand_clash is True
    assert clash_case([5, 5], ["protein", "ligand"], []).ligand_clash is False


def test_clashing_atoms_are_named_nearest_first():
    f = system([3, 2], atoms_per_token=1)
    x = far(f)
    x[0, 3] = x[0, 1] + torch.tensor([0.9, 0.0, 0.0])
    x[0, 4] = x[0, 0] + torch.tensor([0.0, 0.4, 0.0])
    x[0, 2] = x[0, 1] + torch.tensor([-0.5, 0.0, 0.0])  # the same chain: no clash
    zeros = torch.zeros(1, 5, 5, 64)
    one = score(f, x, plddt_logits=torch.zeros(1, 5, 50), pae_logits=zeros, pde_logits=zeros)[0]
    assert [c.atoms for c in one.clashes] == [(0, 4), (1, 3)]
    assert [c.distance for c in one.clashes] == pytest.approx([0.4, 0.9])


def test_clashes_across_blocks_match_all_distances():
    f = system([700, 800])
    x = 12 * torch.rand(1, 1500, 3, generator=torch.Generator().manual_seed(3))
    zeros = torch.zeros(1, 1500, 1500, 1).expand(-1, -1, -1, 64)
    one = score(f, x, plddt_logits=torch.zeros(1, 1500, 50), pae_logits=zeros, pde_logits=zeros)[0]
    p = x[0].double().numpy()
    d = np.linalg.norm(p[:700, None] - p[None, 700:], axis=-1)
    assert one.n_clashes == (d < 1.1).sum() > 100
    assert len(one.clashes) == 50
    np.testing.assert_allclose(
        [c.distance for c in one.clashes], np.sort(d.ravel())[:50], rtol=1e-4
    )


def test_summary_is_json_with_af3_names():
    f = system([3, 2])
    one = score(f, far(f), **random_logits(f, 1))[0]
    told = json.loads(json.dumps(summary(one, ["A", "B"], num_recycles=3), allow_nan=False))
    af3 = {"chain_iptm", "chain_pair_iptm", "chain_pair_pae_min", "chain_ptm", "chain_ids",
           "fraction_disordered", "has_clash", "iptm", "ptm", "ranking_score"}  # fmt: skip
    assert af3 <= set(told)
    assert told["fraction_disordered"] is None
    assert told["chain_pair_iptm"]["A"]["B"] == told["chain_pair_iptm"]["B"]["A"]
    assert told["chain_pair_iptm"]["A"]["B"] == pytest.approx(
        one.chain_pair_iptm[0, 1].item(), abs=1e-4
    )
    assert told["num_recycles"] == 3


def test_full_confidences_round_trip(tmp_path):
    f = system([3, 2])
    one = score(f, far(f), **random_logits(f, 1))[0]
    path = tmp_path / "new" / "confidences.npz"
    write_full_confidences(
        path,
        one,
        token_chain_ids=["A"] * 3 + ["B"] * 2,
        token_res_ids=[1, 2, 3, 1, 2],
        atom_chain_ids=["A"] * 3 + ["B"] * 2,
        atom_res_ids=[1, 2, 3, 1, 2],
        atom_names=["CA"] * 5,
        notes=["UNTRAINED"],
    )
    with np.load(path) as data:
        np.testing.assert_allclose(data["pae"], one.pae.numpy(), atol=0.016)
        np.testing.assert_allclose(data["atom_plddts"], one.plddt.numpy())
        assert data["notes"].tolist() == ["UNTRAINED"]
        assert data["token_chain_ids"].tolist() == ["A", "A", "A", "B", "B"]
    assert [p.name for p in path.parent.iterdir()] == ["confidences.npz"]
