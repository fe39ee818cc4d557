import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from seedfold import geometry
from seedfold.data_pipeline.features import collate
from seedfold.loss import diffusion
from seedfold.loss.diffusion import (
    Truth,
    bond_loss,
    is_kind,
    noise_weight,
    of_atoms,
    smooth_lddt_loss,
    weighted_mse,
)

F64 = torch.float64
PERFECT_LDDT_LOSS = 1 - np.mean([1 / (1 + math.exp(-t)) for t in (0.5, 1.0, 2.0, 4.0)])


@pytest.fixture
def f(make_example):
    return collate([make_example(0), make_example(1)])


@pytest.fixture
def truth(f):
    return Truth.of(f.labels, f.atom_mask)


@pytest.fixture
def atom_weight(f):
    table = torch.tensor([1.0, 6.0, 6.0, 11.0], dtype=F64)
    return of_atoms(table[f.kind], f)


def nucleotides(f):
    return of_atoms(is_kind(f, "dna", "rna"), f)


def all_losses(x, truth, f, atom_weight):
    return {
        "mse": weighted_mse(x, truth, atom_weight),
        "bond": bond_loss(x, truth, f),
        "smooth_lddt": smooth_lddt_loss(x, truth, nucleotides(f)),
    }


def least_squares(x, y, w):
    """Least weighted sum of squares over rigid motions: Horn's quaternions, an eigenvalue."""
    x, y = (p - (w[:, None] * p).sum(0) / w.sum() for p in (x, y))
    s = (w[:, None] * x).T @ y
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = s
    n = np.array(
        [
            [xx + yy + zz, yz - zy, zx - xz, xy - yx],
            [yz - zy, xx - yy - zz, xy + yx, zx + xz],
            [zx - xz, xy + yx, yy - xx - zz, yz + zy],
            [xy - yx, zx + xz, yz + zy, zz - xx - yy],
        ]
    )
    both = (w * (x**2).sum(1)).sum() + (w * (y**2).sum(1)).sum()
    return both - 2 * np.linalg.eigvalsh(n).max()


def test_noise_weight_makes_every_level_count_alike():
    """It is 1 / c_out^2 of the preconditioning, which predicts in units of c_out (EDM, table 1)."""
    t_hat = torch.tensor([[0.1, 16.0, 2000.0]], dtype=F64)
    c_out = 16 * t_hat / torch.sqrt(t_hat**2 + 16**2)
    torch.testing.assert_close(noise_weight(t_hat), c_out**-2)
    assert noise_weight(t_hat)[0, 1].item() == pytest.approx(1 / 128)


def test_mse_is_the_least_over_all_motions(f, truth, atom_weight, prediction):
    x = prediction(f, 3, noise=4.0)
    found = weighted_mse(x, truth, atom_weight)
    for b, k in itertools.product(range(2), range(3)):
        known = f.labels.resolved[b].numpy()
        parts = (x[b, k].numpy(), f.labels.x[b].numpy(), atom_weight[b].numpy())
        expected = least_squares(*(p[known] for p in parts)) / (3 * known.sum())
        assert found[b, k].item() == pytest.approx(expected, rel=1e-9)


def kabsch(x, y, w):
    """`y` moved onto `x` by the singular vectors of their covariance (Kabsch 1976)."""
    centre_x, centre_y = ((w[:, None] * p).sum(0) / w.sum() for p in (x, y))
    u, _, vh = np.linalg.svd((w[:, None] * (x - centre_x)).T @ (y - centre_y))
    u[:, 2] *= np.linalg.det(u @ vh)
    return (y - centre_y) @ (u @ vh).T + centre_x


def test_mse_and_its_gradient_are_those_after_kabsch(f, truth, atom_weight, prediction):
    """To the last digits: 2 w (x - x_gt) / 3 N, as if the truth did not turn with `x`."""
    x = prediction(f, noise=3.0).requires_grad_()
    loss = weighted_mse(x, truth, atom_weight)
    gradient = torch.autograd.grad(loss.sum(), x)[0].numpy()
    for b, k in itertools.product(range(2), range(2)):
        known = truth.known[b, 0].numpy()
        points, w = x[b, k].detach().numpy()[known], atom_weight[b].numpy()[known]
        moved = kabsch(points, truth.x[b, 0].numpy()[known], w)
        error = (w * ((points - moved) ** 2).sum(1)).sum() / (3 * known.sum())
        assert loss[b, k].item() == pytest.approx(error, rel=1e-10)
        expected = np.zeros_like(gradient[b, k])
        expected[known] = 2 * w[:, None] * (points - moved) / (3 * known.sum())
        np.testing.assert_allclose(gradient[b, k], expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("factor", [0.5, 1.1, 3.0])
def test_a_swollen_structure_in_closed_form(f, truth, factor):
    """Scaling is undone by no motion: (factor - 1)^2 Rg^2 / 3; lDDT of two atoms by distance."""
    ones = torch.ones(f.atom_mask.shape, dtype=F64)
    found = weighted_mse(factor * truth.x, truth, ones)[:, 0]
    for b in range(2):
        points = truth.x[b, 0][truth.known[b, 0]]
        square = ((points - points.mean(0)) ** 2).sum(-1).mean()
        torch.testing.assert_close(found[b], (factor - 1) ** 2 * square / 3)
    two = dataclasses.replace(truth, weight=torch.zeros_like(truth.weight))
    two.weight[:, :, :2] = 1.0
    d = (truth.x[:, 0, 0] - truth.x[:, 0, 1]).norm(dim=-1)
    assert float(d.max()) < 30
    far = torch.ones_like(f.atom_mask)
    error = abs(factor - 1) * d
    kept = sum(1 / (1 + torch.exp(error - t)) for t in (0.5, 1.0, 2.0, 4.0)) / 4
    found = smooth_lddt_loss(factor * truth.x, two, far)[:, 0]
    torch.testing.assert_close(found, 1 - kept, atol=1e-7, rtol=0)


def test_label_weights_scale_the_mse(f, atom_weight, prediction):
    """By hand: half the weight everywhere is half the loss, and the same alignment."""
    x = prediction(f)
    whole, half = (
        Truth.of(dataclasses.replace(f.labels, weight=w * f.labels.weight), f.atom_mask)
        for w in (1.0, 0.5)
    )
    for name, loss in all_losses(x, whole, f, atom_weight).items():
        if name != "bond":
            torch.testing.assert_close(all_losses(x, half, f, atom_weight)[name], loss / 2)


def test_weights_differ_by_label(f, atom_weight, prediction):
    """Weighted labels against Horn's eigenvalue with the product of both weights."""
    weight = torch.linspace(0.0, 1.0, f.n_atom, dtype=F64).expand(2, -1)
    truth = Truth.of(dataclasses.replace(f.labels, weight=weight), f.atom_mask)
    x = prediction(f, 1)
    known = (f.labels.resolved & (weight > 0))[0].numpy()
    parts = (x[0, 0], f.labels.x[0], (atom_weight * weight)[0])
    expected = least_squares(*(p.numpy()[known] for p in parts)) / (3 * known.sum())
    assert weighted_mse(x, truth, atom_weight)[0, 0].item() == pytest.approx(expected, rel=1e-9)


def test_the_truth_is_moved_and_not_the_prediction(f, truth, atom_weight, prediction):
    """The gradient is that of a fixed target: 2 w (x - aligned) / 3n, which sums to zero force."""
    x = prediction(f, 1, noise=3.0).requires_grad_()
    weighted_mse(x, truth, atom_weight).sum().backward()
    gradient = x.grad[0, 0]
    torch.testing.assert_close(gradient.sum(0), torch.zeros(3, dtype=F64), atol=1e-9, rtol=0)
    w = (atom_weight * truth.weight[:, 0])[0, :, None]
    aligned = x.detach()[0, 0] - gradient * 3 * truth.known[0].sum() / (2 * w)
    known = truth.known[0, 0]
    expected = torch.cdist(f.labels.x[0][known], f.labels.x[0][known])
    found = torch.cdist(aligned[known], aligned[known])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_bond_loss_by_hand(f, truth, prediction):
    """Equation 5 over the two bonds that the example was made with; others do not count."""
    known = f.labels.resolved.clone()
    bonds = [(2, 3, -4), (8, 1, -2)]
    first = [f.centre_atom[0, i].item() - (1 if i not in (5, 6) else 0) for i in range(12)]
    known[0] = True
    known[1, first[2] + 3] = False
    truth = Truth.of(dataclasses.replace(f.labels, resolved=known), f.atom_mask)
    x = prediction(f, 3)
    found = bond_loss(x, truth, f)
    for b, k in itertools.product(range(2), range(3)):
        errors = []
        for residue, atom, ligand in bonds:
            if b == 1 and residue == 2:
                continue
            pair = [first[residue] + atom, f.n_atom + ligand]
            if known[b, pair].all():
                d, d_gt = (math.dist(*p[pair].tolist()) for p in (x[b, k], f.labels.x[b]))
                errors.append((d - d_gt) ** 2)
        assert found[b, k].item() == pytest.approx(np.mean(errors), rel=1e-6)


def test_what_is_too_long_for_a_bond_is_none(f, prediction):
    x_gt = f.labels.x.clone()
    x_gt[:, -4] += 3.0
    x_gt[:, -2] += 3.0
    truth = Truth.of(dataclasses.replace(f.labels, x=x_gt), f.atom_mask)
    assert bond_loss(prediction(f), truth, f).abs().max() == 0


@pytest.mark.parametrize("end", [-4, 13])
def test_a_bond_with_an_unknown_end_is_none(f, prediction, end):
    """Unknown atoms stand at the origin, here within a bond of the other end."""
    x_gt = f.labels.x - f.labels.x[:, -4:-3] + 1.0
    resolved = torch.ones_like(f.labels.resolved)
    resolved[:, [end, -2]] = False
    truth = Truth.of(dataclasses.replace(f.labels, x=x_gt, resolved=resolved), f.atom_mask)
    assert bond_loss(prediction(f), truth, f).abs().max() == 0


def brute_lddt_loss(x, x_gt, weight, nucleotide):
    """Algorithm 27 as it is printed; pairs weigh by the geometric mean of their labels."""
    above, below = 0.0, 0.0
    for l, m in itertools.permutations(np.flatnonzero(weight > 0), 2):  # noqa: E741
        d, d_gt = math.dist(x[l], x[m]), math.dist(x_gt[l], x_gt[m])
        kept = np.mean([1 / (1 + math.exp(abs(d - d_gt) - t)) for t in (0.5, 1.0, 2.0, 4.0)])
        c = d_gt < (30 if nucleotide[l] else 15)
        above += c * (1 - kept) * math.sqrt(weight[l] * weight[m])
        below += c
    return above / below


@pytest.mark.parametrize("chunk", [2**20, 7])
def test_smooth_lddt_is_algorithm_27(f, prediction, chunk, monkeypatch):
    monkeypatch.setattr(diffusion, "_CHUNK", chunk)
    weight = torch.rand(2, f.n_atom, generator=torch.Generator().manual_seed(1), dtype=F64)
    truth = Truth.of(dataclasses.replace(f.labels, weight=weight), f.atom_mask)
    x = prediction(f, 2)
    found = smooth_lddt_loss(x, truth, nucleotides(f))
    for b, k in itertools.product(range(2), range(2)):
        arrays = (x[b, k], f.labels.x[b], truth.weight[b, 0], nucleotides(f)[b])
        expected = brute_lddt_loss(*(a.numpy() for a in arrays))
        assert found[b, k].item() == pytest.approx(expected, rel=1e-7)


def test_smooth_lddt_has_the_gradient_of_the_dense_form(f, truth, prediction, monkeypatch):
    """Against autograd through the dense `geometry.smooth_lddt`, for one radius."""
    monkeypatch.setattr(diffusion, "_CHUNK", 30)
    x = prediction(f, 3).requires_grad_()
    none = torch.zeros_like(f.atom_mask)
    factors = torch.tensor([1.0, -2.0, 3.0], dtype=F64)
    lean = smooth_lddt_loss(x, truth, none)
    pairs = truth.known[..., :, None] & truth.known[..., None, :]
    dense = 1 - geometry.smooth_lddt(x, truth.x, pairs)
    torch.testing.assert_close(lean, dense)
    gradients = [torch.autograd.grad((loss * factors).sum(), x)[0] for loss in (lean, dense)]
    torch.testing.assert_close(*gradients)


def test_perfect_structures_have_the_least_loss(f, truth, atom_weight, prediction):
    x = prediction(f, 1, noise=0.0).requires_grad_()
    losses = all_losses(x, truth, f, atom_weight)
    least = {"mse": 0.0, "bond": 0.0, "smooth_lddt": PERFECT_LDDT_LOSS}
    for name, loss in losses.items():
        torch.testing.assert_close(loss, torch.full_like(loss, least[name]), atol=1e-9, rtol=0)
    # The lDDT has a kink there: the distance error is an absolute value.
    smooth = losses["mse"].sum() + losses["bond"].sum()
    assert torch.autograd.grad(smooth, x)[0].abs().max() < 1e-6


def test_motions_change_nothing(f, truth, atom_weight, prediction):
    x = prediction(f)
    rotation = geometry.random_rotation(generator=torch.Generator().manual_seed(3), dtype=F64)
    moved = dataclasses.replace(f.labels, x=f.labels.x @ rotation + 7)
    losses = all_losses(x, truth, f, atom_weight)
    for x_moved, labels in ((x @ rotation - 5, f.labels), (x, moved)):
        again = all_losses(x_moved, Truth.of(labels, f.atom_mask), f, atom_weight)
        torch.testing.assert_close(again, losses)


def test_a_mirror_image_is_not_the_same(f, truth, atom_weight):
    x = truth.x * torch.tensor([1.0, 1.0, -1.0], dtype=F64)
    assert weighted_mse(x, truth, atom_weight).min() > 1


def test_unknown_atoms_change_nothing(f, truth, atom_weight, prediction):
    x = prediction(f)
    unknown = ~f.labels.resolved
    assert unknown.sum() > 4
    rubbish = f.labels.x.masked_fill(unknown[..., None], torch.nan)
    other = Truth.of(dataclasses.replace(f.labels, x=rubbish), f.atom_mask)
    x_other = x.masked_fill(unknown[:, None, :, None], 123.0).requires_grad_()
    losses = all_losses(x_other, other, f, atom_weight)
    torch.testing.assert_close(losses, all_losses(x, truth, f, atom_weight))
    gradient = torch.autograd.grad(sum(loss.sum() for loss in losses.values()), x_other)[0]
    assert gradient.movedim(1, 2)[unknown].abs().max() == 0
    assert gradient.movedim(1, 2)[~unknown].abs().min() > 0


def test_the_order_of_atoms_changes_nothing(f, truth, atom_weight, prediction, reorder):
    x = prediction(f)
    order = torch.randperm(f.n_atom, generator=torch.Generator().manual_seed(2))
    g = reorder(f, order)
    again = all_losses(x[:, :, order], Truth.of(g.labels, g.atom_mask), g, atom_weight[:, order])
    torch.testing.assert_close(again, all_losses(x, truth, f, atom_weight))


def test_samples_may_have_truths_of_their_own(f, truth, atom_weight, prediction):
    """The second sample's truth has two atoms swapped: only that sample notices."""
    x = prediction(f, 2)
    swap = torch.arange(f.n_atom)
    swap[[1, 8]] = swap[[8, 1]]
    fields = ("x", "weight", "resolved")
    swapped = Truth(**{n: getattr(truth, n)[:, :, swap] for n in fields})
    own = Truth(**{n: torch.cat([getattr(t, n) for t in (truth, swapped)], 1) for n in fields})
    losses = all_losses(x, own, f, atom_weight)
    for k, one in enumerate((truth, swapped)):
        expected = all_losses(x[:, k : k + 1], one, f, atom_weight)
        for name, loss in losses.items():
            torch.testing.assert_close(loss[:, k], expected[name][:, 0])
    assert (losses["mse"] - all_losses(x, truth, f, atom_weight)["mse"])[:, 1].min() > 0.01


def test_nothing_known_is_no_loss_and_no_gradient(f, atom_weight, prediction):
    labels = dataclasses.replace(f.labels, resolved=torch.zeros_like(f.labels.resolved))
    x = prediction(f).requires_grad_()
    losses = all_losses(x, Truth.of(labels, f.atom_mask), f, atom_weight)
    for loss in losses.values():
        assert torch.equal(loss, torch.zeros_like(loss))
        assert torch.equal(torch.autograd.grad(loss.sum(), x)[0], torch.zeros_like(x))


@pytest.mark.parametrize("name", ["mse", "bond", "smooth_lddt"])
def test_gradients_are_finite_differences(make_example, prediction, name):
    f = collate([make_example(4, size=20.0)])
    known = torch.zeros_like(f.labels.resolved)
    known[:, [0, 3, 10, 11, 12, 13, 27, 36, 40, -4, -2]] = True
    truth = Truth.of(dataclasses.replace(f.labels, resolved=known), f.atom_mask)
    weight = torch.linspace(1, 11, f.n_atom, dtype=F64)[None]
    full = prediction(f, 2, noise=0.7)

    def loss(x):
        return all_losses(full.index_copy(2, at, x), truth, f, weight)[name]

    at = known[0].nonzero()[:, 0]
    assert gradcheck(loss, full[:, :, at].clone().requires_grad_())


def test_without_gradients_the_value_is_the_same(f, truth, prediction):
    x = prediction(f).requires_grad_()
    with torch.no_grad():
        value = smooth_lddt_loss(x, truth, nucleotides(f))
    torch.testing.assert_close(value, smooth_lddt_loss(x, truth, nucleotides(f)).detach())
    assert not value.requires_grad
