"""assign: the truth in the names that the prediction chose among equal chains and equal atoms.

Source: AF3 SI 4.2; AF-Multimer 7.3.1. First every unit of the crop (a chain with the ligands bound
to it, see `data_pipeline.examples.symmetries`) takes a copy of the truth, each copy at most once,
so that the RMSD of the representative atoms after one superposition of all is lowest. Then every
residue takes one of its permutations.

Deviations:
- Up to `MOST_ASSIGNMENTS` ways to assign the copies all are tried, and the lowest RMSD is exact.
  Beyond that the assignment is AF-Multimer's: units are placed greedily after an anchor was
  superposed; every copy of every anchor is tried, and the best are superposed as wholes and
  assigned again until nothing improves. The names as they were are one of the starts.
- Atoms that permutations exchange are compared at the middle of their orbit, so that the choice of
  copies cannot depend on the names of atoms.
- Tokens that a copy lacks count with the mean of its others, lest the least resolved copy win. One
  with less than half of the tokens of the best resolved is taken only if nothing else is left.
- Permutations and superposition are chosen in turns, from several starts, until nothing improves.

Everything that a superposition needs to know of two sets of points is their 17 moments, which add
up: no coordinates are moved. The search runs on the CPU, in float64, without gradient.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seedfold.data_pipeline.examples.symmetries import Symmetries
from seedfold.data_pipeline.features import Labels

MOST_ASSIGNMENTS = 5040
"""Assignments of copies that are all tried: 7 copies of one chain; more are assigned greedily."""
MOST_STARTS = 64
"""Superpositions of anchors that a greedy assignment grows from, unless one has more copies."""
MOST_REFINED = 8
"""The best of them, which are improved."""
MOST_ROUNDS = 10
"""Turns of superposing and choosing again; each lowers the RMSD or is the last."""
ANCHOR_TOKENS = 3
"""Resolved tokens without which no superposition is possible."""
_POOR = 1e8
"""Square Angstrom: a copy that is hardly resolved."""
_EQUAL = 1e-6
"""Square Angstrom: smaller gains change no name."""
_FLAT = 0.25
"""Square Angstrom: points that spread less than this across a line fix no superposition."""


@torch.no_grad()
def assign(x: Float[Tensor, "N_atom 3"], labels: Labels, symmetries: Symmetries) -> Labels:
    """Gives the labels the names that fit a prediction best; as they are where it is not finite.

    Args:
        x: One prediction, of a mini-rollout; Angstrom, in any place.
        labels: Of one example, without batch axis; padding at the end is allowed, and kept.
        symmetries: Of the same crop.
    """
    if symmetries.trivial:
        return labels
    n = symmetries.n_atom
    predicted = x[:n].to("cpu", torch.float64)
    if not bool(predicted.isfinite().all()):
        return labels
    predicted = predicted - predicted.mean(0)
    source = symmetries.source
    if len(source) > 1:
        source = source[assign_copies(predicted, symmetries)[symmetries.unit], torch.arange(n)]
    else:
        source = source[0]
    if len(symmetries.row_residue):
        source = source[permute_atoms(predicted, source, symmetries)]
    return _renamed(labels, symmetries.pool, source)


def _renamed(labels: Labels, pool: Labels, source: Int[Tensor, " N"]) -> Labels:
    there, n = source >= 0, len(source)
    taken = {
        "x": pool.x[source] * there[:, None],
        "resolved": pool.resolved[source] & there,
        "weight": pool.weight[source] * there,
    }
    changes = {}
    for name, values in taken.items():
        old = getattr(labels, name)
        changes[name] = torch.cat([values.to(old), old[n:]])
    return replace(labels, **changes)


def assign_copies(x: Float[Tensor, "N_atom 3"], symmetries: Symmetries) -> Int[Tensor, " N_unit"]:
    """The copy of the truth that each unit takes; those that they are themselves if none is better.

    Args:
        x: The prediction, in float64.
        symmetries: Of the crop.
    """
    moments, poor = copy_moments(x, symmetries)
    own = symmetries.own[None]
    if _n_assignments(symmetries) <= MOST_ASSIGNMENTS:
        tried = torch.cat([own, _all_assignments(symmetries)])
    else:
        tried = _grown(moments, poor, symmetries)
    cost = _rated(moments, poor, tried)
    return tried[_first_best(cost)]


def copy_moments(
    x: Float[Tensor, "N_atom 3"], symmetries: Symmetries
) -> tuple[Float[Tensor, "N_unit N_copy 17"], Float[Tensor, "N_unit N_copy"]]:
    """Moments of each unit with each copy, and the penalty of copies that lack too much.

    Every copy weighs as much as the unit has tokens.
    """
    at = symmetries.representative_atom
    y, resolved = _truth(symmetries.source, symmetries.pool)
    x, y, resolved = _middles(x, y, resolved, symmetries.orbit)
    unit, n_unit = symmetries.unit[at], len(symmetries.own)
    of_tokens = moments(x[at], y[:, at], resolved[:, at].double())
    total = of_tokens.new_zeros(len(y), n_unit, 17).index_add_(1, unit, of_tokens).transpose(0, 1)
    known = total[..., :1]
    size = unit.bincount(minlength=n_unit).double()[:, None]
    poor = (known[..., 0] < known[..., 0].amax(1, keepdim=True) / 2) * (_POOR * size)
    return total * (size[..., None] / known.clamp_min(1)), poor


def _truth(
    source: Int[Tensor, "*K N_atom"], pool: Labels
) -> tuple[Float[Tensor, "*K N_atom 3"], Bool[Tensor, "*K N_atom"]]:
    """Coordinates of the sources in float64, near the origin, and whether they are resolved."""
    known = pool.x.double()
    known = known - known[pool.resolved].mean(0).nan_to_num()
    return known[source], pool.resolved[source] & (source >= 0)


def _middles(
    x: Float[Tensor, "N_atom 3"],
    y: Float[Tensor, "*K N_atom 3"],
    resolved: Bool[Tensor, "*K N_atom"],
    orbit: Int[Tensor, " N_atom"],
) -> tuple[Float[Tensor, "N_atom 3"], Float[Tensor, "*K N_atom 3"], Bool[Tensor, "*K N_atom"]]:
    """Every atom at the middle of its orbit, of those that are resolved."""

    def mean(values: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        n = int(orbit.max()) + 1
        total = values.new_zeros(*values.shape[:-2], n, 3)
        total = total.index_add_(-2, orbit, values * weight[..., None])
        size = weight.new_zeros(*weight.shape[:-1], n).index_add_(-1, orbit, weight)
        return (total / size.clamp_min(1)[..., None])[..., orbit, :], size[..., orbit]

    middle, _ = mean(x, torch.ones_like(x[:, 0]))
    middle_gt, known = mean(y, resolved.double())
    return middle, middle_gt, known > 0


def moments(
    x: Float[Tensor, "*#K N 3"], y: Float[Tensor, "*#K N 3"], weight: Float[Tensor, "*#K N"]
) -> Float[Tensor, "*K N 17"]:
    """Per point: 1, x, y, the products x_i y_j, and |x|^2 + |y|^2, all times the weight."""
    x, y = torch.broadcast_tensors(x, y)
    products = (x[..., :, None] * y[..., None, :]).flatten(-2)
    square = (x * x + y * y).sum(-1, keepdim=True)
    one = torch.ones_like(square)
    return torch.cat([one, x, y, products, square], -1) * weight[..., None]


def superpose(
    total: Float[Tensor, "*B 17"],
) -> tuple[Float[Tensor, "*B 17"], Float[Tensor, " *B"]]:
    """Best superposition of points with these moments: what maps moments to squared distance.

    The product of the first result with the moments of any points is their sum of squared distances
    after the superposition; the second is the least sum for `total` itself.
    """
    weight = total[..., :1].clamp_min(1e-12)
    x, y = total[..., 1:4] / weight, total[..., 4:7] / weight
    products = total[..., 7:16].unflatten(-1, (3, 3))
    h = products - total[..., :1, None] * x[..., :, None] * y[..., None, :]
    u, s, vh = torch.linalg.svd(h)
    sign = torch.where(torch.linalg.det(u @ vh) < 0, -1.0, 1.0).to(s)
    u = torch.cat([u[..., :2], u[..., 2:] * sign[..., None, None]], -1)
    rotation = u @ vh
    t = x - (rotation @ y[..., None])[..., 0]
    back = (rotation.mT @ t[..., None])[..., 0]
    one = torch.ones_like(weight)
    to_square = torch.cat(
        [(t * t).sum(-1, keepdim=True), -2 * t, 2 * back, -2 * rotation.flatten(-2), one], -1
    )
    spread = total[..., 16] - total[..., 0] * ((x * x).sum(-1) + (y * y).sum(-1))
    least = spread - 2 * (s[..., 0] + s[..., 1] + sign * s[..., 2])
    return to_square, least.clamp_min(0)


def _rated(
    moments: Float[Tensor, "N_unit N_copy 17"],
    poor: Float[Tensor, "N_unit N_copy"],
    tried: Int[Tensor, "N_try N_unit"],
) -> Float[Tensor, " N_try"]:
    """Mean squared distance of assignments after the best superposition, with penalties."""
    total, penalty = _total(moments, tried), _total(poor[..., None], tried)[:, 0]
    return (superpose(total)[1] + penalty) / total[:, 0].clamp_min(1)


def _total(
    values: Float[Tensor, "N_unit N_copy c"], tried: Int[Tensor, "N_try N_unit"]
) -> Float[Tensor, "N_try c"]:
    # One unit at a time: all at once would be much memory where thousands are tried.
    total = values.new_zeros(len(tried), values.shape[-1])
    for of_unit, copy in zip(values, tried.T, strict=True):
        total += of_unit[copy]
    return total


def _first_best(cost: Float[Tensor, " N_try"]) -> int:
    """The first that is as good as the best."""
    return int((cost <= cost.min() + _EQUAL).nonzero()[0])


def _groups(symmetries: Symmetries) -> Iterator[tuple[list[int], int]]:
    """Units of every group, and how many copies they have."""
    for number in symmetries.group.unique():
        units = (symmetries.group == number).nonzero()[:, 0].tolist()
        yield units, int(symmetries.n_copies[units[0]])


def _n_assignments(symmetries: Symmetries) -> int:
    return math.prod(math.perm(n, len(units)) for units, n in _groups(symmetries))


def _all_assignments(symmetries: Symmetries) -> Int[Tensor, "N_try N_unit"]:
    """Every way to give every unit a copy of its own."""
    tried = torch.zeros(1, len(symmetries.own), dtype=torch.long)
    for units, n in _groups(symmetries):
        ways = torch.tensor(list(itertools.permutations(range(n), len(units))))
        tried = tried.repeat_interleave(len(ways), 0)
        tried[:, units] = ways.repeat(len(tried) // len(ways), 1)
    return tried


def _grown(
    moments: Float[Tensor, "N_unit N_copy 17"],
    poor: Float[Tensor, "N_unit N_copy"],
    symmetries: Symmetries,
) -> Int[Tensor, "N_try N_unit"]:
    """Assignments worth trying where all are too many; the own names first."""
    own = symmetries.own[None]
    anchors, copies = _anchors(moments, poor, symmetries)
    starts = torch.cat([_total(moments, own), moments[anchors, copies]])
    tried = _greedy(superpose(starts)[0], moments, poor, symmetries)
    best = _rated(moments, poor, tried).argsort(stable=True)[:MOST_REFINED]
    tried = torch.cat([own, tried[best]])
    cost = _rated(moments, poor, tried)
    for _ in range(MOST_ROUNDS):
        again = _greedy(superpose(_total(moments, tried))[0], moments, poor, symmetries)
        cost_again = _rated(moments, poor, again)
        better = cost_again < cost - _EQUAL
        if not better.any():
            break
        # The own names stay the first, so that they are kept where nothing is better.
        kept = torch.cat([better.new_zeros(1), better[1:]])
        extra = again[:1] if better[0] else again[:0]
        tried = torch.cat([torch.where(kept[:, None], again, tried), extra])
        cost = _rated(moments, poor, tried)
    return tried


def _anchors(
    moments: Float[Tensor, "N_unit N_copy 17"],
    poor: Float[Tensor, "N_unit N_copy"],
    symmetries: Symmetries,
) -> tuple[Int[Tensor, " N_start"], Int[Tensor, " N_start"]]:
    """Units of few copies first, of those the largest, each with all copies it may take."""
    fit = (moments[..., 0] >= ANCHOR_TOKENS) & (poor == 0)
    size, n_copies = moments[..., 0].amax(1).tolist(), symmetries.n_copies.tolist()
    anchors, copies = [], []
    for unit in sorted(range(len(size)), key=lambda u: (n_copies[u], -size[u])):
        found = fit[unit].nonzero()[:, 0].tolist()
        if anchors and len(anchors) + len(found) > MOST_STARTS:
            break
        anchors += [unit] * len(found)
        copies += found
    return torch.tensor(anchors, dtype=torch.long), torch.tensor(copies, dtype=torch.long)


def _greedy(
    to_square: Float[Tensor, "N_start 17"],
    moments: Float[Tensor, "N_unit N_copy 17"],
    poor: Float[Tensor, "N_unit N_copy"],
    symmetries: Symmetries,
) -> Int[Tensor, "N_start N_unit"]:
    """After each superposition the nearest pair of unit and copy, then the nearest of the rest."""
    group, n_copy = symmetries.group, moments.shape[1]
    size = moments[..., 0].amax(1).clamp_min(1)[:, None]
    cost = torch.einsum("hm,ukm->huk", to_square, moments) / size + poor
    cost[:, torch.arange(n_copy) >= symmetries.n_copies[:, None]] = math.inf
    start = torch.arange(len(cost))
    chosen = symmetries.own.repeat(len(cost), 1)
    for _ in range(len(group)):
        nearest = cost.flatten(1).argmin(1)
        unit, copy = nearest // n_copy, nearest % n_copy
        chosen[start, unit] = copy
        cost[start, unit] = math.inf
        column = cost[start, :, copy]
        cost[start, :, copy] = column.masked_fill(group == group[unit][:, None], math.inf)
    return chosen


def permute_atoms(
    x: Float[Tensor, "N_atom 3"], source: Int[Tensor, " N_atom"], symmetries: Symmetries
) -> Int[Tensor, " N_atom"]:
    """For every atom the atom whose truth it takes; itself where nothing is better.

    Args:
        x: The prediction, in float64.
        source: Place of every atom's truth in the pool.
        symmetries: Of the crop.
    """
    y, resolved = _truth(source, symmetries.pool)
    fixed = moments(x, y, resolved.double()).sum(0)
    rows = _row_moments(x, y, resolved, symmetries)
    first = torch.cat([torch.ones(1, dtype=torch.bool), symmetries.row_residue.diff() > 0])
    identity = first.nonzero()[:, 0]
    fixed = fixed - rows[identity].sum(0)
    tried = [_settled(identity, fixed, rows, symmetries.row_residue)]
    for start in _starts(x, y, resolved, symmetries, fixed, rows, identity):
        chosen = _nearest_rows(start, rows, symmetries.row_residue)
        tried.append(_settled(chosen, fixed, rows, symmetries.row_residue))
    totals = torch.stack([fixed + rows[chosen].sum(0) for chosen in tried])
    cost = superpose(totals)[1] / totals[:, 0].clamp_min(1)
    return _taken(tried[_first_best(cost)], symmetries)


def _row_moments(
    x: Float[Tensor, "N_atom 3"],
    y: Float[Tensor, "N_atom 3"],
    resolved: Bool[Tensor, " N_atom"],
    symmetries: Symmetries,
) -> Float[Tensor, "N_row 17"]:
    """Moments of the atoms that a residue's permutations move, in every permutation."""
    atom, other = symmetries.entry_atom, symmetries.entry_from
    of_entries = moments(x[atom], y[other], resolved[other].double())
    zero = of_entries.new_zeros(len(symmetries.row_residue), 17)
    return zero.index_add_(0, symmetries.entry_row, of_entries)


def _starts(
    x: Float[Tensor, "N_atom 3"],
    y: Float[Tensor, "N_atom 3"],
    resolved: Bool[Tensor, " N_atom"],
    symmetries: Symmetries,
    fixed: Float[Tensor, "17"],
    rows: Float[Tensor, "N_row 17"],
    identity: Int[Tensor, " N_residue"],
) -> Iterator[Float[Tensor, "17"]]:
    """Superpositions that do not depend on names; where there is none, that of the best row."""
    middle, middle_gt, known = _middles(x, y, resolved, symmetries.orbit)
    yield superpose(moments(middle, middle_gt, known.double()).sum(0))[0]
    if _in_a_line(middle_gt[known]):
        same = fixed + rows[identity].sum(0)
        one_changed = same + rows - rows[identity][symmetries.row_residue]
        to_square, least = superpose(one_changed)
        yield to_square[least.argmin()]


def _in_a_line(points: Float[Tensor, "N 3"]) -> bool:
    if len(points) < 3:
        return True
    across = torch.linalg.svdvals(points - points.mean(0))[1]
    return bool(across**2 < _FLAT * len(points))


def _settled(
    chosen: Int[Tensor, " N_residue"],
    fixed: Float[Tensor, "17"],
    rows: Float[Tensor, "N_row 17"],
    residue: Int[Tensor, " N_row"],
) -> Int[Tensor, " N_residue"]:
    """Superposes and chooses in turns until no residue changes."""
    for _ in range(MOST_ROUNDS):
        again = _nearest_rows(superpose(fixed + rows[chosen].sum(0))[0], rows, residue)
        if torch.equal(again, chosen):
            break
        chosen = again
    return chosen


def _nearest_rows(
    to_square: Float[Tensor, "17"],
    rows: Float[Tensor, "N_row 17"],
    residue: Int[Tensor, " N_row"],
) -> Int[Tensor, " N_residue"]:
    """The first row of every residue that is as near as the nearest, after a superposition."""
    square, n_residue = rows @ to_square, int(residue[-1]) + 1
    least = square.new_full((n_residue,), math.inf).scatter_reduce_(0, residue, square, "amin")
    number = torch.where(square <= least[residue] + _EQUAL, torch.arange(len(rows)), len(rows))
    return number.new_full((n_residue,), len(rows)).scatter_reduce_(0, residue, number, "amin")


def _taken(chosen: Int[Tensor, " N_residue"], symmetries: Symmetries) -> Int[Tensor, " N_atom"]:
    entries = torch.isin(symmetries.entry_row, chosen)
    taken = torch.arange(symmetries.n_atom)
    taken[symmetries.entry_atom[entries]] = symmetries.entry_from[entries]
    return taken
