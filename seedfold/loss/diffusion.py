"""Losses of the denoised structure: aligned MSE, bonds, smooth lDDT, chirality; weight of a noise.

Source: AF3 SI, equations 2 to 6 and Algorithm 27. Every function returns one value for each sample
of each example; an atom that is not known counts for nothing, and where no atom is known the value
is 0 with a gradient of 0.

Deviations:
- The noise weight has the product in its denominator; equation 6 prints a sum (Protenix report,
  table 1).
- Labels have weights, for predicted structures: a mean counts what has a weight, and each part
  enters it times its weight (of a pair the geometric mean), so that labels of weight w throughout
  give w times the loss. With weights of 0 and 1 these are the equations of the SI.
- `chirality_loss` is ours. The smooth lDDT of a mirror image is perfect, and where noise has hidden
  the hands the MSE asks for the middle: nothing makes a small network choose the right one.
- Features know which tokens are bonded, not which atoms: of a residue it is the atom nearest to the
  ligand's in the truth, and within 2.4 A, the SI's limit for a bond in training.

Cost of smooth lDDT: the truth decides which pairs count, so only these are looked at, each once,
and some at a time; their gradients are made in the forward pass, so that nothing of them is kept.
Memory is 6 N_atom^2 bytes while the pairs are sought, then some 45 bytes a pair and 0.1 GB,
whatever N_sample. Measured with 48 samples, gradients included, on one busy CPU core: a ball of
3000 atoms with 1.1 million pairs takes 2.2 s, one of 8400 atoms, 384 nucleotides, with 19 million
38 s; by autograd through the same pairs it was 3.7 and 52 s. One dense fp32 tensor of all pairs and
samples would have 1.7 and 13.5 GB.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from seedfold.data_pipeline.chemistry import KINDS, Kind
from seedfold.data_pipeline.features import Features, Labels
from seedfold.geometry import weighted_rigid_align
from seedfold.model.diffusion import SIGMA_DATA

RADIUS, NUCLEOTIDE_RADIUS = 15.0, 30.0
"""Angstrom: how far the neighbours of an atom reach in the lDDT of the supplement."""
LDDT_THRESHOLDS = (0.5, 1.0, 2.0, 4.0)
"""Angstrom."""
LONGEST_BOND = 2.4
"""Angstrom; a longer one is taken for an error of the data (SI Table 5, token_bonds)."""
LONGEST_TO_CENTRE = 2.0
"""Angstrom: atoms nearer than this are bonded, hydrogens aside."""
FLAT = 0.4
"""Below this, three bonds are as good as in one plane (`_hands`; a tetrahedron has 0.77)."""
_EPS = 1e-8
_CHUNK = 2**20


@dataclass(frozen=True, kw_only=True)
class Truth:
    """The atoms to be predicted; `N_truth` is 1, or N_sample where each sample has its own.

    Samples have truths of their own when equal chains and atoms are assigned to each prediction.
    `weight` is 0 where nothing is known of an atom, 1 in experimental structures.
    """

    x: Float[Tensor, "B N_truth N_atom 3"]
    weight: Float[Tensor, "B N_truth N_atom"]
    resolved: Bool[Tensor, "B N_truth N_atom"]

    @classmethod
    def of(cls, labels: Labels, atom_mask: Bool[Tensor, "B N_atom"]) -> "Truth":
        """The truth of a batch of labels, the same for all samples."""
        resolved = labels.resolved & atom_mask
        weight = labels.weight.masked_fill(~resolved, 0.0)
        x = labels.x.masked_fill(~(weight > 0)[..., None], 0.0)
        return cls(x=x[:, None], weight=weight[:, None], resolved=resolved[:, None])

    @property
    def known(self) -> Bool[Tensor, "B N_truth N_atom"]:
        """The atoms that count."""
        return self.weight > 0


def is_kind(f: Features, *kinds: Kind) -> Bool[Tensor, "B N_token"]:
    """The tokens whose chain is of one of the kinds."""
    found = torch.zeros_like(f.token_mask)
    for kind in kinds:
        found = found | (f.kind == KINDS.index(kind))
    return found


def of_atoms(per_token: Tensor, f: Features) -> Tensor:
    """A property [B N_token] of the tokens, for each atom [B N_atom]."""
    return per_token.gather(1, f.atom_to_token.long())


def noise_weight(t_hat: Float[Tensor, "*B"]) -> Float[Tensor, "*B"]:
    """Weight of MSE and bond loss at a noise level, 1 / Angstrom^2. AF3 SI, equation 6."""
    return (t_hat**2 + SIGMA_DATA**2) / (t_hat * SIGMA_DATA) ** 2


def weighted_mse(
    x: Float[Tensor, "B N_sample N_atom 3"],
    truth: Truth,
    atom_weight: Float[Tensor, "B N_atom"],
) -> Float[Tensor, "B N_sample"]:
    """Squared error in Angstrom^2 after aligning the truth to `x`. AF3 SI, equations 2 and 3."""
    weight = atom_weight[:, None] * truth.weight
    x_gt = weighted_rigid_align(truth.x.expand_as(x), x, weight)
    error = (weight * ((x - x_gt) ** 2).sum(-1)).sum(-1)
    return error / (3 * truth.known.sum(-1).clamp_min(1))


def bond_loss(
    x: Float[Tensor, "B N_sample N_atom 3"], truth: Truth, f: Features
) -> Float[Tensor, "B N_sample"]:
    """Squared error in Angstrom^2 of the bonds of ligands to polymers. AF3 SI, equation 5."""
    b, polymer, ligand, d_gt, known = _bonds(truth, f)
    sample = torch.arange(x.shape[1], device=x.device)
    atoms = x[b[:, None], sample, polymer], x[b[:, None], sample, ligand]
    error = (_distance(*atoms, axis=-1) - d_gt) ** 2 * known
    total = x.new_zeros(x.shape[:2]).index_add(0, b, error)
    count = x.new_zeros(len(x), known.shape[1]).index_add(0, b, known.to(x.dtype))
    return total / count.clamp_min(1)


def _bonds(truth: Truth, f: Features) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Example of every bond [N_bond]; its two atoms, length and whether known [N_bond N_truth]."""
    polymers, ligands = is_kind(f, "protein", "dna", "rna"), is_kind(f, "ligand")
    bonded = f.token_bonds & polymers[:, :, None] & ligands[:, None, :]
    b, i, j = bonded.nonzero(as_tuple=True)
    inside = (f.atom_to_token[b] == i[:, None])[:, None] & truth.known[b]
    ligand = f.centre_atom[b, j].long()[:, None].expand(-1, truth.x.shape[1])
    at = torch.arange(truth.x.shape[1], device=b.device)
    x_gt = truth.x[b]
    d = _distance(x_gt, truth.x[b[:, None], at, ligand][:, :, None], axis=-1)
    d_gt, polymer = d.masked_fill(~inside, torch.inf).min(-1)
    known = (d_gt < LONGEST_BOND) & truth.known[b[:, None], at, ligand]
    return b, polymer, ligand, d_gt.masked_fill(~known, 0.0), known


def chirality_loss(
    x: Float[Tensor, "B N_sample N_atom 3"], truth: Truth
) -> Float[Tensor, "B N_sample"]:
    """How far atoms with three bonds that are not in one plane are from their hand.

    0 = all as in the truth, 1/2 = all flat, 1 = all mirrored. What counts is the triple product of
    the bonds' directions, where it falls short of the truth's. Centres are found in the truth, and
    include those that are not chiral but for the names of their atoms, as the CB of valine.
    """
    rows = []
    for x_b, x_gt, weight in zip(x, truth.x, truth.weight, strict=True):
        centre, bonded = _centres(x_gt[0], (weight > 0).all(0))
        hand = _hands(x_gt, centre, bonded)
        counted = weight[:, centre] * (hand.abs() > FLAT)
        lost = (1 - _hands(x_b, centre, bonded) / hand.masked_fill(counted == 0, 1.0)).relu() / 2
        rows.append((counted * lost).sum(1) / (counted > 0).sum(1).clamp_min(1))
    return torch.stack(rows)


@torch.no_grad()
def _centres(
    x_gt: Float[Tensor, "N_atom 3"], known: Bool[Tensor, " N_atom"]
) -> tuple[Int[Tensor, " N_centre"], Int[Tensor, "N_centre 3"]]:
    """The atoms that have three neighbours at the distance of a bond, and these."""
    atoms = known.nonzero()[:, 0]
    points = x_gt[atoms]
    d = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
    near = d < LONGEST_TO_CENTRE
    near.fill_diagonal_(False)
    centre = (near.sum(1) == 3).nonzero()[:, 0]
    return atoms[centre], atoms[near[centre].nonzero()[:, 1].view(-1, 3)]


def _hands(
    x: Float[Tensor, "N_sample N_atom 3"],
    centre: Int[Tensor, " N_centre"],
    bonded: Int[Tensor, "N_centre 3"],
) -> Float[Tensor, "N_sample N_centre"]:
    """The triple product of the directions of three bonds, -1 to 1."""
    bonds = x[:, bonded] - x[:, centre, None]
    a, b, c = (bonds / torch.sqrt((bonds**2).sum(-1, keepdim=True) + 1e-2)).unbind(2)
    return (a * torch.linalg.cross(b, c)).sum(-1)


def smooth_lddt_loss(
    x: Float[Tensor, "B N_sample N_atom 3"],
    truth: Truth,
    is_nucleotide: Bool[Tensor, "B N_atom"],
) -> Float[Tensor, "B N_sample"]:
    """1 minus the differentiable lDDT, 0 to 1. AF3 SI, Algorithm 27; gradients of first order."""
    x = x if torch.is_grad_enabled() else x.detach()
    rows = []
    for b, nucleotide in enumerate(is_nucleotide):
        truths = zip(truth.x[b], truth.weight[b], strict=True)
        pairs = (_Pairs.near(x_gt, weight, nucleotide) for x_gt, weight in truths)
        groups = x[b].split(1 if truth.x.shape[1] > 1 else x.shape[1])
        parts = [_lddt_loss(part, p) for part, p in zip(groups, pairs, strict=True)]
        rows.append(torch.cat(parts))
    return torch.stack(rows)


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Pairs of atoms that are near in the truth, each once; `count` is the sum of c_lm."""

    first: Int[Tensor, " N_pair"]
    second: Int[Tensor, " N_pair"]
    d_gt: Float[Tensor, " N_pair"]
    weight: Float[Tensor, " N_pair"]
    count: Float[Tensor, ""]

    @classmethod
    @torch.no_grad()
    def near(cls, x_gt: Tensor, weight: Tensor, nucleotide: Tensor) -> "_Pairs":
        """The pairs of Algorithm 27, lines 5 and 6: c_lm + c_ml is 0, 1 or 2 for l < m."""
        atoms = (weight > 0).nonzero()[:, 0]
        points, radius = x_gt[atoms], torch.where(nucleotide[atoms], NUCLEOTIDE_RADIUS, RADIUS)
        d = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist")
        c = (d < radius[:, None]).to(torch.uint8) + (d < radius)
        i, j = c.triu_(1).nonzero(as_tuple=True)
        both = c[i, j].to(x_gt.dtype)
        root = weight[atoms].sqrt()
        return cls(
            first=atoms[i],
            second=atoms[j],
            d_gt=torch.sqrt(d[i, j] ** 2 + _EPS),
            weight=both * root[i] * root[j],
            count=both.sum(),
        )


def _lddt_loss(x: Float[Tensor, "N_sample N_atom 3"], pairs: _Pairs) -> Float[Tensor, " N_sample"]:
    # The samples last: a pair then takes two contiguous rows.
    points = x.permute(1, 2, 0).contiguous()
    total = _SumOfPairs.apply(points, pairs.first, pairs.second, pairs.d_gt, pairs.weight)
    return total / pairs.count.clamp_min(1)


class _SumOfPairs(torch.autograd.Function):
    """What every pair loses, summed; see "Cost" above for why the gradient is made at once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *pairs: Tensor) -> Tensor:
        total, gradient = x.new_zeros(x.shape[-1]), torch.zeros_like(x)
        size = max(_CHUNK // x.shape[-1], 1)
        for first, second, d_gt, weight in zip(*(p.split(size) for p in pairs), strict=True):
            apart = x.index_select(0, first) - x.index_select(0, second)
            d = torch.sqrt((apart**2).sum(1) + _EPS)
            lost, slope = _lost(d - d_gt[:, None])
            total += weight @ lost
            if ctx.needs_input_grad[0]:
                apart *= (weight[:, None] * slope / d)[:, None]
                gradient.index_add_(0, first, apart).index_add_(0, second, apart, alpha=-1)
        ctx.save_for_backward(gradient)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_total: Tensor) -> tuple[Tensor | None, ...]:
        return ctx.saved_tensors[0] * grad_total, None, None, None, None


def _lost(error: Tensor) -> tuple[Tensor, Tensor]:
    """What a distance that is off by `error` loses, 0 to 1, and the derivative of that."""
    size, kept, steepness = error.abs(), torch.zeros_like(error), torch.zeros_like(error)
    for threshold in LDDT_THRESHOLDS:
        share = torch.sigmoid(threshold - size)
        kept += share
        steepness += share * (1 - share)
    n = len(LDDT_THRESHOLDS)
    return 1 - kept / n, error.sign() * steepness / n


def _distance(a: Tensor, b: Tensor, axis: int) -> Tensor:
    # Never 0, where the square root has no gradient.
    return torch.sqrt(((a - b) ** 2).sum(axis) + _EPS)
