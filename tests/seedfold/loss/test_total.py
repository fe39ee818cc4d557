import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from seedfold.data_pipeline.features import collate
from seedfold.loss import FoldingLoss, FoldingOutputs, Truth
from seedfold.loss.confidence import (
    distogram_loss,
    pae_loss,
    pde_loss,
    plddt_loss,
    resolved_loss,
)
from seedfold.loss.diffusion import (
    bond_loss,
    chirality_loss,
    noise_weight,
    smooth_lddt_loss,
    weighted_mse,
)
from seedfold.model.confidence import Confidence

F64 = torch.float64
ALL_ON = FoldingLoss.Config(alpha_pae=1.0, alpha_bond=1.0)
TERMS = ("mse", "bond", "smooth_lddt", "plddt", "pde", "resolved", "pae", "distogram")


@pytest.fixture
def make_outputs(prediction):
    """Outputs of a network for one example; `batch` puts several together."""

    def make(f, seed):
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape):
            return torch.randn(*shape, generator=generator, dtype=F64)

        n, m = f.n_token, f.n_atom
        one = collate([f])
        return {
            "distogram": draw(n, n, 64),
            "x_denoised": prediction(one, 3, seed=seed)[0],
            "x_rollout": prediction(one, 1, seed=seed + 1, noise=2.0)[0],
            "plddt": draw(1, m, 50),
            "pae": draw(1, n, n, 64),
            "pde": draw(1, n, n, 64),
            "resolved": draw(1, m, 2),
            "t_hat": torch.tensor([0.5, 8.0, 60.0], dtype=F64) * (1 + seed),
        }

    return make


def batch(outputs, rubbish=0.0):
    """Stacks the outputs of examples, with `rubbish` in the padding."""
    stacked = {}
    for name in outputs[0]:
        shape = np.max([example[name].shape for example in outputs], axis=0).tolist()
        out = torch.full((len(outputs), *shape), rubbish, dtype=F64)
        for row, example in zip(out, outputs, strict=True):
            row[tuple(slice(n) for n in example[name].shape)] = example[name]
        stacked[name] = out.requires_grad_(name != "t_hat")
    logits = {name: stacked.pop(name) for name in ("plddt", "pae", "pde", "resolved")}
    return FoldingOutputs(**stacked, confidence=Confidence(**logits))


def tensors(outputs):
    found = {n: getattr(outputs, n) for n in ("distogram", "x_denoised")}
    return found | {n: getattr(outputs.confidence, n) for n in ("plddt", "pae", "pde", "resolved")}


@pytest.fixture
def f(make_example):
    return collate([make_example(0), make_example(1)])


@pytest.fixture
def outputs(f, make_outputs, make_example):
    return batch([make_outputs(make_example(i), i) for i in range(2)])


def test_the_weights_are_af3s():
    """AF3 SI, equations 4 and 15; PAE and bonds come with later stages."""
    c = FoldingLoss.Config()
    assert (c.alpha_confidence, c.alpha_diffusion, c.alpha_distogram) == (1e-4, 4.0, 3e-2)
    assert (c.alpha_pae, c.alpha_bond, c.alpha_smooth_lddt) == (0.0, 0.0, 1.0)
    assert (c.alpha_dna, c.alpha_rna, c.alpha_ligand) == (5.0, 5.0, 10.0)


def test_total_is_equation_15(f, outputs):
    """With every term taken from its own function, and the weights of the SI as numbers."""
    truth = Truth.of(f.labels, f.atom_mask)
    atom_kind = f.kind.gather(1, f.atom_to_token)
    weight = torch.tensor([1.0, 6.0, 6.0, 11.0], dtype=F64)[atom_kind]
    x, noise = outputs.x_denoised, noise_weight(outputs.t_hat)
    lddt = smooth_lddt_loss(x, truth, (atom_kind == 1) | (atom_kind == 2))
    structure = noise * (weighted_mse(x, truth, weight) + bond_loss(x, truth, f)) + lddt
    logits, sample = outputs.confidence, outputs.x_rollout
    judged = [
        plddt_loss(logits.plddt, sample, truth, f),
        pde_loss(logits.pde, sample, truth, f),
        resolved_loss(logits.resolved, truth, f.atom_mask),
        pae_loss(logits.pae, sample, truth, f),
    ]
    expected = (
        1e-4 * sum(loss.mean() for loss in judged)
        + 4 * structure.mean()
        + 0.03 * distogram_loss(outputs.distogram, truth, f).mean()
    )
    found = FoldingLoss(ALL_ON)(outputs, f)
    torch.testing.assert_close(found["total"], expected)
    for tensor in tensors(outputs).values():
        gradients = [
            torch.autograd.grad(t, tensor, retain_graph=True) for t in (found["total"], expected)
        ]
        torch.testing.assert_close(*gradients)
    assert set(found) == {*TERMS, "diffusion", "confidence", "total"}


@pytest.mark.parametrize("name", ["distogram", "x_denoised", "plddt", "pae", "pde", "resolved"])
def test_gradients_of_the_total_are_finite_differences(make_example, make_outputs, name):
    """Along random directions in all entries, with other weights of the terms than AF3's."""
    examples = [make_example(i, size=20.0) for i in range(2)]
    f, outputs = collate(examples), batch([make_outputs(e, i) for i, e in enumerate(examples)])
    config = FoldingLoss.Config(alpha_confidence=1.3, alpha_distogram=0.7, alpha_pae=2.0)
    loss = FoldingLoss(dataclasses.replace(config, alpha_bond=0.9, alpha_smooth_lddt=1.7))

    def total(values):
        whole = outputs
        if name in ("distogram", "x_denoised"):
            whole = dataclasses.replace(whole, **{name: values})
        else:
            logits = dataclasses.replace(whole.confidence, **{name: values})
            whole = dataclasses.replace(whole, confidence=logits)
        return loss(whole, f)["total"]

    values = tensors(outputs)[name].detach().clone().requires_grad_()
    assert gradcheck(total, values, fast_mode=True, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(
    ("alpha", "term", "factor"),
    [
        ("alpha_pae", "pae", 1e-4),
        ("alpha_bond", "bond", 4.0),
        ("alpha_smooth_lddt", "smooth_lddt", 4.0),
        ("alpha_distogram", "distogram", 1.0),
    ],
)
def test_terms_are_named_as_they_enter(f, outputs, alpha, term, factor):
    with_it = FoldingLoss(dataclasses.replace(ALL_ON, **{alpha: 1.0}))(outputs, f)
    without = FoldingLoss(dataclasses.replace(ALL_ON, **{alpha: 0.0}))(outputs, f)
    torch.testing.assert_close(with_it["total"] - without["total"], factor * with_it[term])
    torch.testing.assert_close(without[term], with_it[term])
    assert with_it[term] > 0


def test_chirality_is_computed_where_it_counts(f, outputs):
    corner = torch.tensor([[0, 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1]], dtype=F64) * 0.9
    n_atom = f.atom_mask.shape[1]
    places = torch.arange(n_atom, dtype=F64)
    x = corner[torch.arange(n_atom) % 4] + 20 * (places // 4)[:, None]
    known = f.atom_mask[:, None]
    truth = Truth(x=x.expand(2, 1, -1, -1), weight=known.to(F64), resolved=known)
    config = dataclasses.replace(ALL_ON, alpha_chirality=0.7)
    found = FoldingLoss(config)(outputs, f, truth, Truth.of(f.labels, f.atom_mask))
    without = FoldingLoss(ALL_ON)(outputs, f, truth, Truth.of(f.labels, f.atom_mask))
    assert "chirality" not in without and "chirality" not in FoldingLoss(ALL_ON)(outputs, f)
    term = chirality_loss(outputs.x_denoised, truth).mean()
    assert term > 0.1
    torch.testing.assert_close(found["chirality"], term)
    torch.testing.assert_close(found["total"] - without["total"], 4 * 0.7 * term)


def test_what_counts_for_nothing_still_has_a_gradient_of_zero(f, outputs):
    """Processes that train together must all have a gradient for every parameter."""
    loss = FoldingLoss(FoldingLoss.Config(alpha_smooth_lddt=0.0))(outputs, f)["total"]
    gradient = torch.autograd.grad(loss, outputs.confidence.pae)[0]
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_a_batch_is_the_mean_of_its_examples(make_example, make_outputs):
    """One of the examples is smaller; rubbish stands in the padding of outputs and features."""
    examples = [make_example(0), make_example(1, n_token=6)]
    examples[0].labels.weight[:9] = 0.5
    made = [make_outputs(e, i) for i, e in enumerate(examples)]
    f = collate(examples)
    padded = ~f.atom_mask
    f.labels.x[padded] = 77.0
    f.labels.resolved[padded] = True
    f.labels.weight[padded] = 1.0
    loss = FoldingLoss(ALL_ON)
    found = loss(batch(made, rubbish=5.0), f)
    alone = []
    for one, output in zip(examples, made, strict=True):
        g = collate([one])
        alone.append(loss(batch([output]), g))
    for name, value in found.items():
        torch.testing.assert_close(value, (alone[0][name] + alone[1][name]) / 2)
    assert alone[1]["bond"] == 0


def test_padding_has_no_gradient(make_example, make_outputs):
    examples = [make_example(0), make_example(1, n_token=6)]
    f = collate(examples)
    outputs = batch([make_outputs(e, i) for i, e in enumerate(examples)], rubbish=5.0)
    FoldingLoss(ALL_ON)(outputs, f)["total"].backward()
    n_token, n_atom = examples[1].n_token, examples[1].n_atom
    gradients = {name: t.grad[1] for name, t in tensors(outputs).items()}
    per_atom = [gradients[n][:, n_atom:] for n in ("x_denoised", "plddt", "resolved")]
    rows = [gradients["distogram"][n_token:], gradients["distogram"][:, n_token:]]
    pairs = [gradients[n][:, n_token:] for n in ("pae", "pde")]
    pairs += [gradients[n][:, :, n_token:] for n in ("pae", "pde")]
    for gradient in (*per_atom, *rows, *pairs):
        assert gradient.numel() and gradient.abs().max() == 0
    for gradient in gradients.values():
        assert gradient.isfinite().all() and gradient.abs().max() > 0


@pytest.mark.parametrize(
    ("resolution", "learnt"), [(0.0, 0), (0.05, 0), (0.1, 1), (4.0, 1), (4.1, 0)]
)
def test_confidence_is_learnt_from_good_experiments_only(f, outputs, resolution, learnt):
    """The first example has a resolution of 2 A; the second none (0), or one out of the range."""
    given = torch.tensor([2.0, resolution], dtype=F64)
    f = dataclasses.replace(f, labels=dataclasses.replace(f.labels, resolution=given))
    everywhere = FoldingLoss(dataclasses.replace(ALL_ON, min_resolution=-1.0, max_resolution=9.0))
    terms, all_terms = (loss.terms(outputs, f) for loss in (FoldingLoss(ALL_ON), everywhere))
    for name in ("plddt", "pde", "resolved", "pae", "confidence"):
        torch.testing.assert_close(terms[name][0], all_terms[name][0])
        assert all_terms[name][1] > 0
        assert terms[name][1] == all_terms[name][1] * learnt
    for name in ("mse", "bond", "smooth_lddt", "distogram", "diffusion"):
        torch.testing.assert_close(terms[name], all_terms[name])


def test_examples_without_anything_are_worth_nothing(f, outputs):
    labels = dataclasses.replace(
        f.labels,
        resolved=torch.zeros_like(f.labels.resolved),
        resolution=torch.zeros(2, dtype=F64),
    )
    found = FoldingLoss(ALL_ON)(outputs, dataclasses.replace(f, labels=labels))
    assert all(value == 0 for value in found.values())
    found["total"].backward()
    for tensor in tensors(outputs).values():
        assert torch.equal(tensor.grad, torch.zeros_like(tensor))


def test_only_what_was_computed_is_in_the_sum(f, outputs):
    loss = FoldingLoss(ALL_ON)
    whole = loss(outputs, f)
    structure = loss(FoldingOutputs(x_denoised=outputs.x_denoised, t_hat=outputs.t_hat), f)
    assert set(structure) == {"mse", "bond", "smooth_lddt", "diffusion", "total"}
    torch.testing.assert_close(structure["total"], 4 * whole["diffusion"])
    judged = loss(FoldingOutputs(x_rollout=outputs.x_rollout, confidence=outputs.confidence), f)
    assert set(judged) == {"plddt", "pde", "resolved", "pae", "confidence", "total"}
    torch.testing.assert_close(judged["total"], 1e-4 * whole["confidence"])


def test_the_rollout_may_have_a_truth_of_its_own(f, outputs):
    """An untrue truth of the rollout changes the confidence and nothing else."""
    other = Truth.of(dataclasses.replace(f.labels, x=f.labels.x.flip(1)), f.atom_mask)
    loss = FoldingLoss(ALL_ON)
    found, usual = loss(outputs, f, rollout_truth=other), loss(outputs, f)
    for name in ("plddt", "pae", "pde"):
        assert found[name] != usual[name]
    for name in ("mse", "bond", "smooth_lddt", "distogram", "resolved"):
        assert found[name] == usual[name]
    with pytest.raises(AssertionError, match="3 truths for 1 samples"):
        three = {n: getattr(other, n).repeat_interleave(3, 1) for n in ("x", "weight", "resolved")}
        loss(outputs, f, truth=Truth(**three))


def test_half_precision_around_it_changes_nothing(f, outputs):
    """Inside an autocast region (of the trunk) the sums are as precise as outside."""
    single = FoldingOutputs(
        x_denoised=outputs.x_denoised.detach().float(), t_hat=outputs.t_hat.float()
    )
    f = f.to(torch.float32)
    expected = FoldingLoss(ALL_ON)(single, f)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = FoldingLoss(ALL_ON)(single, f)
    assert found == expected
    exact = FoldingLoss(ALL_ON)(
        FoldingOutputs(x_denoised=single.x_denoised.double(), t_hat=single.t_hat.double()),
        f.to(torch.float64),
    )
    assert math.isclose(found["total"], exact["total"], rel_tol=1e-4)
