import dataclasses
import math

import biotite.structure as struc
import numpy as np
import pytest
import torch

from seedfold.data_pipeline.errors import InputError
from seedfold.loss import FoldingLoss, Truth
from seedfold.train.data import Batch, DataConfig, Examples
from seedfold.train.module import (
    HIGH_NOISE,
    FoldingModule,
    StageConfig,
    mean_lddt,
    mirrored,
    noise_levels,
    noised_copies,
)
from seedfold.train.optim import OptimConfig


@pytest.fixture(scope="module")
def examples(source):
    return Examples(DataConfig(sources=(source,), n_token=20), 11)


@pytest.fixture
def make_module(make_config):
    def make(**stage) -> FoldingModule:
        torch.manual_seed(0)
        config = make_config(stage={"rollout_steps": 0, **stage})
        return FoldingModule(config.model, config.stage, config.optim)

    return make


def of(examples, *places) -> Batch:
    return Batch.of([examples[place] for place in places])


@pytest.mark.parametrize("share", [-0.1, 1.5, math.nan])
def test_high_noise_is_a_share(make_module, share):
    with pytest.raises(InputError, match=r"high_noise: .* a share of the copies, 0 to 1"):
        make_module(high_noise=share)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_weights_of_the_loss_are_numbers_that_a_sum_can_have(make_module, value):
    loss = FoldingLoss.Config(alpha_bond=value)
    with pytest.raises(InputError, match=r"stage.loss.alpha_bond: .* finite number, 0 or more"):
        make_module(loss=loss)


def test_high_noise_is_even_in_its_logarithm():
    own = noise_levels(StageConfig(n_copies=40_000), (0,))
    mixed = noise_levels(StageConfig(n_copies=40_000, high_noise=0.25), (0,))
    drawn = mixed != own
    assert drawn.double().mean() == pytest.approx(0.25, abs=0.01)
    low, high = HIGH_NOISE
    place = torch.log(mixed[drawn].double() / low) / math.log(high / low)
    assert place.min() >= 0 and place.max() <= 1
    # Kolmogorov and Smirnov: one time in 10,000 even numbers are further off.
    rank = torch.arange(len(place), dtype=torch.float64) / len(place)
    assert (place.sort().values - rank).abs().max() < 2.3 / len(place) ** 0.5


def test_noise_levels_are_log_normal():
    """AF3 SI 3.7.1: 16 exp(-1.2 + 1.5 N(0, 1)) Angstrom."""
    log = torch.log(noise_levels(StageConfig(n_copies=40_000), (0,)).double() / 16)
    assert float(log.mean()) == pytest.approx(-1.2, abs=0.03)
    assert float(log.std()) == pytest.approx(1.5, abs=0.03)


def test_copies_are_turned_moved_and_noised(examples):
    """Noise of t adds 6 t^2 to the mean square distance of two atoms, and removes nothing."""
    batch = of(examples, (0, 0))
    labels = batch.f.labels
    labels = dataclasses.replace(labels, x=labels.x + 200)
    t_hat = noise_levels(StageConfig(n_copies=64), batch.seeds)
    x = noised_copies(batch.f, labels, batch.seeds, t_hat)
    known = labels.resolved[0]
    copies, truth, t = x[0][:, known].double(), labels.x[0][known].double(), t_hat[0].double()

    def square(points):
        return torch.cdist(points, points).square().mean((-1, -2))

    n = len(truth)
    found = (square(copies) - square(truth)) / (6 * (n - 1) / n)
    large = t > 5
    assert large.sum() > 10
    ratio = found[large] / t[large] ** 2
    assert 0.9 < float(ratio.median()) < 1.1 and 0.7 < float(ratio.min()) < float(ratio.max()) < 1.4
    # The centre is near the origin, and copies with little noise lie in different directions.
    quiet = t < 1
    assert float(copies[quiet].mean(1).abs().max()) < 5
    first = copies[quiet][:, 0] / copies[quiet][:, 0].norm(dim=-1, keepdim=True)
    assert float(first.mean(0).norm()) < 0.6


def test_copies_do_not_depend_on_company_or_on_the_unknown(examples):
    alone, both = of(examples, (1, 0)), of(examples, (0, 0), (1, 0))
    assert alone.f.n_atom != both.f.n_atom or len(set(both.f.atom_mask.sum(1).tolist())) > 1
    stage = StageConfig(n_copies=3)
    t_hat, t_both = (noise_levels(stage, batch.seeds) for batch in (alone, both))
    x = noised_copies(alone.f, alone.f.labels, alone.seeds, t_hat)
    x_both = noised_copies(both.f, both.f.labels, both.seeds, t_both)
    n = alone.f.n_atom
    torch.testing.assert_close(x_both[1, :, :n], x[0], atol=1e-4, rtol=1e-5)
    assert torch.equal(t_both[1], t_hat[0]) and not x_both[1, :, n:].any()
    labels = alone.f.labels
    resolved = labels.resolved.clone()
    resolved[:, :5] = False
    hidden = dataclasses.replace(labels, resolved=resolved)
    moved = dataclasses.replace(hidden, x=torch.where(resolved[..., None], labels.x, 1e3))
    torch.testing.assert_close(
        noised_copies(alone.f, hidden, alone.seeds, t_hat),
        noised_copies(alone.f, moved, alone.seeds, t_hat),
    )


def test_ten_steps_lower_the_loss(make_module, examples):
    module, batch = make_module(n_copies=8), of(examples, (0, 0))
    module.train()
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=6e-3)
    before = float(module.training_step(batch, 0).detach())
    for i in range(10):
        optimizer.zero_grad()
        module.training_step(dataclasses.replace(batch, seeds=(i,)), i).backward()
        optimizer.step()
    # The same noise as before.
    assert float(module.training_step(batch, 0).detach()) < 0.9 * before


def test_a_batch_is_the_mean_of_its_examples(make_module, examples):
    """So gradient accumulation is exact; without dropout, which is drawn per batch."""
    module = make_module(n_cycles=1)
    module.eval()

    def gradients(*places):
        module.zero_grad()
        module.training_step(of(examples, *places), 0).backward()
        return [p.grad.clone() for p in module.network.parameters() if p.grad is not None]

    both, one, other = (gradients(*p) for p in (((0, 0), (1, 0)), ((0, 0),), ((1, 0),)))
    scale = max(float(g.abs().max()) for g in both)
    for g, a, b in zip(both, one, other, strict=True):
        torch.testing.assert_close(g / scale, (a + b) / 2 / scale, atol=1e-5, rtol=1e-4)


def test_the_same_batch_gives_the_same_loss(make_module, examples):
    """Dropout and recycles included, whatever torch has drawn in between."""
    module, batch = make_module(rollout_steps=2), of(examples, (0, 0))
    module.train()
    one = module.training_step(batch, 0)
    torch.rand(5)
    assert torch.equal(one, module.training_step(batch, 1))
    other = dataclasses.replace(batch, seed=1)
    assert not torch.equal(one, module.training_step(other, 2))
    assert {"plddt", "pde", "resolved", "pae", "distogram", "mse"} <= module.terms.keys()


def test_labels_take_the_names_that_fit_the_rollout(make_module, examples):
    module = make_module(rollout_steps=2)
    module.eval()
    renamed = 0
    for step in range(6):
        batch = of(examples, (step, 0))
        outputs, labels = module.outputs(batch)
        own = batch.f.labels
        known = own.resolved[0]
        x = outputs.x_rollout[0, 0][known].double().numpy()
        rmsd = [superposed_rmsd(t.x[0][known].double().numpy(), x) for t in (labels, own)]
        assert rmsd[0] <= rmsd[1] + 1e-6
        renamed += not torch.equal(labels.x, own.x)
    assert renamed


def superposed_rmsd(a, b):
    """Kabsch in numpy."""
    a, b = a - a.mean(0), b - b.mean(0)
    u, _, vt = np.linalg.svd(a.T @ b)
    u[:, -1] *= np.linalg.det(u @ vt)
    return np.sqrt(((a @ u @ vt - b) ** 2).sum(-1).mean())


def test_mirror_images_are_seen(examples):
    """Turned, moved and shaken, which lDDT does not see either."""
    batch = of(examples, (0, 0))
    truth = Truth.of(batch.f.labels, batch.f.atom_mask)
    generator = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(2, 3, 3, generator=generator)).Q
    axes = axes * torch.tensor([1.0, -1.0])[:, None, None] * torch.linalg.det(axes)[:, None, None]
    x = truth.x[:, 0, None] @ axes + 7 + torch.randn(truth.x.shape, generator=generator)
    assert mirrored(x, truth).tolist() == [[False, True]]


def test_lddt_is_biotites(examples):
    batch = of(examples, (0, 0))
    labels = batch.f.labels
    known = labels.resolved[0]
    generator = torch.Generator().manual_seed(0)
    x = labels.x + torch.randn(labels.x.shape, generator=generator) * 1.5
    found = mean_lddt(x[:, None], Truth.of(labels, batch.f.atom_mask))
    reference, subject = (points[0][known].numpy() for points in (labels.x, x))
    arrays = []
    for points in (reference, subject):
        array = struc.AtomArray(len(points))
        array.coord = points
        array.res_id = np.arange(len(points))
        arrays.append(array)
    expected = struc.lddt(*arrays, aggregation="atom").mean()
    assert float(found) == pytest.approx(float(expected), abs=1e-4)
    assert 0.1 < float(found) < 0.9


def test_gradients_are_clipped_or_dropped(make_module):
    module = make_module()
    module.optim = OptimConfig(clip_norm=2.0)
    optimizer = torch.optim.SGD(module.network.parameters(), lr=1.0)
    weights = list(module.network.parameters())
    for weight in weights:
        weight.grad = torch.zeros_like(weight)
    weights[0].grad.view(-1)[0], weights[1].grad.view(-1)[0] = 3.0, 4.0
    module.configure_gradient_clipping(optimizer)
    assert module.terms["gradient_norm"] == pytest.approx(5.0)
    assert float(weights[1].grad.view(-1)[0]) == pytest.approx(1.6, rel=1e-5)
    weights[0].grad.view(-1)[0] = float("nan")
    module.configure_gradient_clipping(optimizer)
    assert module.n_skipped == 1 and all(w.grad is None for w in weights)


def test_sampled_structures_are_those_of_the_average(make_module, examples):
    module, f = make_module(), of(examples, (0, 0)).f
    module.train()
    one = module.sampled(f, n_samples=2, seed=1)
    with torch.no_grad():
        for weight in module.network.parameters():
            weight.add_(0.1)
    assert module.sampled(f, n_samples=2, seed=1) == one
    assert module.network.training and len(one.lddt) == len(one.mirrored) == 2
    assert all(0 <= v <= 1 for v in one.lddt)


def test_stage_one_is_seedfolds():
    """64 copies of an example; AF3 SI: up to 4 passes, 20 steps of mini-rollout."""
    c = StageConfig()
    assert (c.n_copies, c.n_cycles, c.rollout_steps) == (64, 4, 20)
