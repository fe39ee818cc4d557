"""assign against brute force over assignments and permutations, superposed by SVD in numpy."""

import dataclasses
import itertools

import numpy as np
import pytest
import torch

from seedfold.data_pipeline.examples.example import Example, ReferenceComponent
from seedfold.data_pipeline.examples.symmetries import Symmetries, symmetries
from seedfold.data_pipeline.features import Labels
from seedfold.data_pipeline.prepare.build import components_of, example_of
from seedfold.data_pipeline.query import AtomRef, Entity, Query
from seedfold.data_pipeline.structure import build_structure
from seedfold.loss import symmetry
from seedfold.loss.symmetry import assign, assign_copies, moments, superpose

Stored = tuple[Example, dict[str, ReferenceComponent]]


def rotation(rng: np.random.Generator) -> np.ndarray:
    q, r = np.linalg.qr(rng.normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q * np.linalg.det(q)


def folded(made, *, spread: float, seed: int) -> Stored:
    """A structure with coordinates: copies of an entity have one shape, each elsewhere.

    Residues are conformers, each turned at random, 5 A apart along a walk.
    """
    example, components = example_of(made), components_of(made)
    tokens = example.tokens
    chain = tokens.asym_id[tokens.atom_to_token]
    residue = tokens.residue_index[tokens.atom_to_token]
    x = np.zeros((example.n_atom, 3))
    rng = np.random.default_rng(seed)
    for number, of_chain in enumerate(example.chains):
        shape = np.random.default_rng(of_chain.entity_id)
        walk = np.cumsum(shape.normal(0, 3, (len(of_chain.residues), 3)), axis=0)
        for r, code in enumerate(of_chain.residues):
            at = np.flatnonzero((chain == number) & (residue == r + 1))
            conformer = components[code].conformer[example.atom_in_component[at]]
            x[at] = conformer @ rotation(shape).T + walk[r]
        at = np.flatnonzero(chain == number)
        x[at] = x[at] @ rotation(rng).T + rng.normal(0, spread, 3)
    x += rng.normal(0, 0.05, x.shape)
    resolved = np.ones(example.n_atom, bool)
    return dataclasses.replace(example, x=x.astype(np.float32), resolved=resolved), components


def built(*entities: Entity, bonds: tuple = (), spread: float = 25.0, seed: int = 0) -> Stored:
    made = build_structure(Query(name="q", entities=entities, bonds=bonds, where="q"))
    return folded(made, spread=spread, seed=seed)


def protein(chains: str, sequence: str) -> Entity:
    return Entity(kind="protein", chains=tuple(chains), where="", sequence=sequence)


def ligand(chains: str, code: str) -> Entity:
    return Entity(kind="ligand", chains=tuple(chains), where="", ccd=(code,))


@pytest.fixture(scope="module")
def stored() -> Stored:
    """A homodimer, a homotrimer and two copies of a ligand."""
    return built(
        protein("AB", "GDRYFKESLE"),
        protein("CDE", "AWHDTQ"),
        ligand("FG", "BNZ"),
    )


def chain_of(example: Example) -> np.ndarray:
    return example.tokens.asym_id[example.tokens.atom_to_token]


def labels_of(found: Symmetries) -> Labels:
    source = found.source[found.own[found.unit], torch.arange(found.n_atom)]
    pool = found.pool
    return dataclasses.replace(
        pool, x=pool.x[source], resolved=pool.resolved[source], weight=pool.weight[source]
    )


def squared(x: np.ndarray, y: np.ndarray) -> float:
    """Least sum of squared distances over rigid motions (Kabsch 1976)."""
    if not len(x):
        return 0.0
    x, y = x - x.mean(0), y - y.mean(0)
    u, s, vh = np.linalg.svd(x.T @ y)
    s[2] *= np.sign(np.linalg.det(u @ vh))
    return float((x * x).sum() + (y * y).sum() - 2 * s.sum())


def near(x: np.ndarray, noise: float, seed: int) -> torch.Tensor:
    """Every atom moved by at most `noise`, then everything turned and moved."""
    rng = np.random.default_rng(seed)
    step = rng.normal(size=x.shape)
    step *= noise * rng.random((len(x), 1)) / np.linalg.norm(step, axis=-1, keepdims=True)
    return torch.from_numpy((x + step) @ rotation(rng).T + rng.normal(0, 50, 3))


def planted(example: Example, found: Symmetries, order: list[int], seed: int) -> np.ndarray:
    """The truth of all atoms with its chains in another order and every residue permuted."""
    chain, rng = chain_of(example), np.random.default_rng(seed)
    atoms = np.concatenate([np.flatnonzero(chain == c) for c in order])
    taken = np.arange(len(atoms))
    for residue in found.row_residue.unique():
        rows = (found.row_residue == residue).nonzero()[:, 0].numpy()
        entries = found.entry_row == int(rng.choice(rows))
        taken[found.entry_atom[entries]] = found.entry_from[entries].numpy()
    return example.x[atoms][taken]


def test_moments_superpose_like_kabsch():
    rng = np.random.default_rng(1)
    for n in (1, 2, 3, 4, 50):
        x, y = rng.normal(0, 9, (2, n, 3))
        weight = rng.integers(0, 2, n).astype(float)
        weight[0] = 1
        of_points = moments(*map(torch.from_numpy, (x, y, weight)))
        to_square, least = superpose(of_points.sum(0))
        assert float(least) == pytest.approx(squared(x[weight > 0], y[weight > 0]), abs=1e-8)
        assert float(of_points.sum(0) @ to_square) == pytest.approx(float(least), abs=1e-8)
        assert (of_points @ to_square >= -1e-8).all()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("inside", ["ABCDEFG", "ACDF", "BEG", "CDG"])
def test_copies_are_those_of_brute_force(stored, seed, inside):
    """Of all assignments the one of lowest RMSD; the prediction is far from any."""
    example, components = stored
    names = [chain.id for chain in example.chains]
    wanted = [names.index(c) for c in inside]
    chosen = np.flatnonzero(np.isin(example.tokens.asym_id, wanted))
    rng = np.random.default_rng(seed)
    resolved = rng.random(example.n_atom) < (0.9 if seed % 2 else 1.0)
    # One carbon of a benzene would have no orbit to be at the middle of.
    resolved |= chain_of(example) >= names.index("F")
    example = dataclasses.replace(example, resolved=resolved)
    found = symmetries(example, components, chosen)
    x = labels_of(found).x.numpy().astype(float)
    x = x + rng.normal(0, 12, x.shape)

    tokens, chain = example.tokens, chain_of(example)
    atoms = np.flatnonzero(np.isin(tokens.atom_to_token, chosen))
    place = {int(a): i for i, a in enumerate(atoms)}
    offset = {c: np.flatnonzero(chain == c)[0] for c in range(len(names))}
    groups = [[0, 1], [2, 3, 4], [5, 6]]
    ways = []
    for group in groups:
        units = [c for c in group if c in wanted]
        copies = itertools.permutations(group, len(units))
        ways.append([dict(zip(units, way, strict=True)) for way in copies])
    best, answer = np.inf, {}
    for parts in itertools.product(*ways):
        way = {k: v for part in parts for k, v in part.items()}
        pairs, weights = [], []
        for c in wanted:
            of_chain = []
            at = np.flatnonzero(tokens.asym_id == c)
            ring = names[c] in "FG"
            for atom in tokens.representative_atom[at]:
                twin = atom - offset[c] + offset[way[c]]
                if ring:
                    rows = np.flatnonzero(chain == c)
                    mine = x[[place[int(a)] for a in rows]].mean(0)
                    truth = example.x[chain == way[c]].astype(float).mean(0)
                    of_chain.append((mine, truth))
                elif resolved[twin]:
                    of_chain.append((x[place[int(atom)]], example.x[twin].astype(float)))
            pairs += of_chain
            weights += [len(at) / len(of_chain)] * len(of_chain)
        cost = weighted(np.array(pairs), np.array(weights))
        if cost < best:
            best, answer = cost, way
    centred = torch.from_numpy(x - x.mean(0))
    copy = assign_copies(centred, found)
    cost = symmetry._rated(*symmetry.copy_moments(centred, found), copy[None])
    assert float(cost) == pytest.approx(best, rel=1e-9)
    leaders = [g for c in wanted for g in groups if c in g]
    assert [g[k] for g, k in zip(leaders, copy.tolist(), strict=True)] == [
        answer[c] for c in wanted
    ]


def weighted(pairs: np.ndarray, weights: np.ndarray) -> float:
    """Least weighted mean of squared distances: by SVD, measured after moving."""
    share = weights / weights.sum()
    x, y = pairs[:, 0] - share @ pairs[:, 0], pairs[:, 1] - share @ pairs[:, 1]
    u, _, vh = np.linalg.svd((x * share[:, None]).T @ y)
    u[:, 2] *= np.sign(np.linalg.det(u @ vh))
    return float(share @ ((x - y @ (u @ vh).T) ** 2).sum(1))


ORDERS = ([0, 1, 2, 3, 4, 5, 6], [1, 0, 4, 2, 3, 6, 5], [0, 1, 3, 2, 4, 6, 5])


@pytest.mark.parametrize("most", [symmetry.MOST_ASSIGNMENTS, 0])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("noise", [0.0, 0.3, 1.0])
def test_planted_names_are_found(stored, monkeypatch, order, noise, most):
    example, components = stored
    monkeypatch.setattr(symmetry, "MOST_ASSIGNMENTS", most)
    found = symmetries(example, components)
    truth = planted(example, found, order, seed=5)
    labels = labels_of(found)
    got = assign(near(truth, noise, seed=7), labels, found)
    ring = torch.from_numpy(chain_of(example) >= 5)
    assert torch.equal(got.x[~ring], torch.from_numpy(truth)[~ring])
    # Neighbours in a ring are only 1.4 A apart: with noise of 1 A other turns may be as good.
    if noise < 1:
        assert torch.equal(got.x, torch.from_numpy(truth))
    assert got.resolved.all()


def test_prediction_of_the_names_as_they_are_changes_nothing(stored):
    found = symmetries(*stored)
    labels = labels_of(found)
    x = near(labels.x.numpy(), 0.5, seed=1).requires_grad_()
    got = assign(x, labels, found)
    for name in ("x", "resolved", "weight", "resolution"):
        assert torch.equal(getattr(got, name), getattr(labels, name)), name
        assert getattr(got, name).dtype == getattr(labels, name).dtype
    assert not got.x.requires_grad


def test_equal_chains_of_the_prediction_permute_the_answer(stored):
    example, components = stored
    found = symmetries(example, components)
    labels = labels_of(found)
    chain = chain_of(example)
    order = [1, 0, 3, 4, 2, 6, 5]
    atoms = np.concatenate([np.flatnonzero(chain == c) for c in order])
    for noise in (1.0, 30.0):
        x = near(labels.x.numpy(), noise, seed=2)
        one, other = assign(x, labels, found), assign(x[atoms], labels, found)
        assert torch.equal(one.x[atoms], other.x)


def test_a_motion_of_the_prediction_changes_nothing(stored):
    found = symmetries(*stored)
    labels = labels_of(found)
    rng = np.random.default_rng(4)
    for seed in range(4):
        x = near(labels.x.numpy(), 20.0, seed)
        moved = x @ torch.from_numpy(rotation(rng)).T + torch.tensor([90.0, -10, 40])
        assert torch.equal(assign(x, labels, found).x, assign(moved, labels, found).x)


def test_what_has_no_symmetry_is_returned():
    stored = built(protein("A", "GASKRW"), ligand("L", "GOL"), seed=1)
    example, components = stored
    found = symmetries(example, components, np.flatnonzero(example.tokens.asym_id == 0))
    labels = labels_of(found)
    assert assign(torch.randn(found.n_atom, 3), labels, found) is labels


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_prediction_leaves_the_names(stored, value):
    found = symmetries(*stored)
    labels = labels_of(found)
    assert assign(torch.full((found.n_atom, 3), value), labels, found) is labels


def test_a_collapsed_prediction_leaves_the_names(stored):
    found = symmetries(*stored)
    labels = labels_of(found)
    got = assign(torch.zeros(found.n_atom, 3), labels, found)
    assert torch.equal(got.x, labels.x)


def test_nothing_resolved_changes_nothing(stored):
    example, components = stored
    nothing = np.zeros(example.n_atom, bool)
    example = dataclasses.replace(example, resolved=nothing, x=np.zeros_like(example.x))
    found = symmetries(example, components, np.flatnonzero(example.tokens.asym_id == 1))
    labels = labels_of(found)
    x = torch.randn(found.n_atom, 3, dtype=torch.float64)
    got = assign(x, labels, found)
    assert torch.equal(got.x, labels.x) and not got.resolved.any()
    assert assign_copies(x, found).tolist() == found.own.tolist() == [1]


def test_padding_is_kept(stored):
    found = symmetries(*stored)
    labels, n = labels_of(found), found.n_atom
    x = near(planted(stored[0], found, ORDERS[1], 0), 0.2, 0)
    longer = dataclasses.replace(
        labels,
        **{
            name: torch.cat([getattr(labels, name), getattr(labels, name)[:5]])
            for name in ("x", "resolved", "weight")
        },
    )
    got = assign(torch.cat([x, x[:5] * torch.nan]), longer, found)
    assert torch.equal(got.x[:n], assign(x, labels, found).x)
    assert torch.equal(got.x[n:], labels.x[:5])


def test_a_copy_that_is_hardly_resolved_is_not_taken():
    """Few atoms always fit: the RMSD of a third of a chain is lower, and says nothing."""
    example, components = built(protein("AB", "GDRYFKESLEAT"), seed=3)
    residue = example.tokens.residue_index[example.tokens.atom_to_token]
    resolved = (chain_of(example) == 0) | (residue < 4)
    example = dataclasses.replace(example, resolved=resolved)
    found = symmetries(example, components, np.flatnonzero(example.tokens.asym_id == 0))
    labels = labels_of(found)
    rng = np.random.default_rng(0)
    x = labels.x.numpy() + rng.normal(0, 8, labels.x.shape)
    x[: int((residue[: found.n_atom] < 4).sum())] = example.x[
        (chain_of(example) == 1) & (residue < 4)
    ]
    assert assign(torch.from_numpy(x), labels, found).resolved.all()
    assert assign_copies(torch.from_numpy(x), found).tolist() == [0]
    # The other way round the better copy may come.
    found = symmetries(example, components, np.flatnonzero(example.tokens.asym_id == 1))
    x = near(example.x[chain_of(example) == 0], 0.5, seed=1)
    assert assign(x, labels_of(found), found).resolved.all()


def test_sugars_go_with_the_chain_that_carries_them():
    bonds = tuple(
        (AtomRef(chain=p, position=3, atom="ND2"), AtomRef(chain=s, position=1, atom="C1"))
        for p, s in (("A", "H"), ("B", "G"))
    )
    sequence = "GDN" + "FRAKLTEWSV" * 4
    example, components = built(protein("AB", sequence), ligand("GH", "NAG"), bonds=bonds, seed=6)
    chain, x = chain_of(example), example.x.copy()
    x[chain == 3] += x[chain == 2].mean(0) - x[chain == 3].mean(0) + [8, 0, 0]
    example = dataclasses.replace(example, x=x)
    found = symmetries(example, components)
    atoms = np.concatenate([np.flatnonzero(chain == c) for c in (1, 0, 2, 3)])
    # The proteins have changed places, and the sugars have not.
    got = assign(near(example.x[atoms], 0.5, seed=3), labels_of(found), found)
    taken = [_chains_of(example, got, chain == c) for c in range(4)]
    assert taken == [{1}, {0}, {3}, {2}]
    # Free sugars stay.
    free = dataclasses.replace(example, bonds=example.bonds[:0])
    found = symmetries(free, components)
    got = assign(near(example.x[atoms], 0.5, seed=3), labels_of(found), found)
    assert [_chains_of(free, got, chain == c) for c in range(4)] == [{1}, {0}, {2}, {3}]


def test_a_sugar_that_the_copy_lacks_has_no_truth():
    bond = (AtomRef(chain="A", position=3, atom="ND2"), AtomRef(chain="G", position=1, atom="C1"))
    example, components = built(
        protein("AB", "GDN" + "FRAKLTEWSV" * 4), ligand("G", "NAG"), bonds=(bond,), seed=8
    )
    asym, chain = example.tokens.asym_id, chain_of(example)
    # Another shape, so that the first chain itself cannot fit.
    rng = np.random.default_rng(0)
    x = example.x + (chain == 1)[:, None] * rng.normal(0, 2, example.x.shape).astype(np.float32)
    example = dataclasses.replace(example, x=x)
    found = symmetries(example, components, np.flatnonzero(asym != 1))
    labels = labels_of(found)
    there = torch.from_numpy(chain[chain != 1] == 0)
    predicted = labels.x.double()
    predicted[there] = torch.from_numpy(example.x[chain == 1]).double()
    got = assign(predicted, labels, found)
    assert torch.equal(got.x[there], torch.from_numpy(example.x[chain == 1]))
    assert got.resolved[there].all() and not got.resolved[~there].any()
    assert not got.x[~there].any() and not got.weight[~there].any()
    of_units, _ = symmetry.copy_moments(predicted - predicted.mean(0), found)
    assert float(superpose(of_units[0, 1])[1]) == pytest.approx(0, abs=1e-6)


def _chains_of(example: Example, got: Labels, rows: np.ndarray) -> set[int]:
    known = {tuple(v): int(c) for v, c in zip(example.x.tolist(), chain_of(example), strict=True)}
    return {known[tuple(v)] for v in got.x[torch.from_numpy(rows)].tolist()}


@pytest.mark.parametrize("code", ["BNZ", "SO4", "ATP"])
@pytest.mark.parametrize("noise", [0.2, 1.5])
def test_a_lone_ligand_has_the_permutation_of_brute_force(code, noise):
    example, components = built(ligand("A", code))
    found = symmetries(example, components)
    every = components[code].symmetries[:, example.atom_in_component]
    truth = example.x.astype(float)
    for seed in range(5):
        x = near(truth[every[seed % len(every)]], noise, seed)
        got = assign(x, labels_of(found), found)
        best = min(squared(x.numpy(), truth[p]) for p in every)
        assert squared(x.numpy(), got.x.numpy().astype(float)) == pytest.approx(best, abs=1e-4)


@pytest.mark.parametrize("noise", [0.3, 1.0])
def test_side_chains_have_the_permutations_of_brute_force(noise):
    """Of all flips of all residues at once the ones of lowest RMSD: 16 ways, each superposed."""
    example, components = built(protein("A", "GDRYFE"))
    found = symmetries(example, components)
    rows = [(found.row_residue == r).nonzero()[:, 0].tolist() for r in found.row_residue.unique()]
    assert [len(of_residue) for of_residue in rows] == [2] * 4
    ways = []
    for chosen in itertools.product(*rows):
        taken = np.arange(example.n_atom)
        for row in chosen:
            entries = found.entry_row == row
            taken[found.entry_atom[entries]] = found.entry_from[entries].numpy()
        ways.append(taken)
    truth = example.x.astype(float)
    for seed in range(4):
        x = near(truth[ways[(11 * seed) % len(ways)]], noise, seed)
        best = min(squared(x.numpy(), truth[way]) for way in ways)
        got = assign(x, labels_of(found), found).x.numpy().astype(float)
        assert squared(x.numpy(), got) == pytest.approx(best, abs=1e-4)


def capsid(n: int, residues: int = 12) -> Stored:
    """Copies of one chain on a sphere, each 30 A and more from the others."""
    letters = [a + b for a in "ABCDEFGH" for b in "ABCDEFGH"][:n]
    chains = Entity(
        kind="protein", chains=tuple(letters), where="", sequence="GDRYFKESLEAT"[:residues]
    )
    example, components = built(chains, spread=0.0)
    golden = np.pi * (3 - 5**0.5)
    z = 1 - (2 * np.arange(n) + 1) / n
    r = np.sqrt(1 - z * z)
    centre = 110 * np.stack(
        [r * np.cos(golden * np.arange(n)), r * np.sin(golden * np.arange(n)), z], 1
    )
    x = (example.x + centre[chain_of(example)]).astype(np.float32)
    return dataclasses.replace(example, x=x), components


@pytest.mark.parametrize("part", ["whole", "crop"])
def test_sixty_copies_are_found(part):
    example, components = capsid(60)
    rng = np.random.default_rng(2)
    inside = np.arange(60) if part == "whole" else np.sort(rng.choice(60, 25, replace=False))
    chosen = np.flatnonzero(np.isin(example.tokens.asym_id, inside))
    found = symmetries(example, components, chosen)
    chain = chain_of(example)
    order = rng.choice(60, len(inside), replace=False)
    truth = np.concatenate([example.x[chain == c] for c in order])
    got = assign(near(truth, 1.0, seed=1), labels_of(found), found)
    assert torch.equal(got.x, torch.from_numpy(truth))


def test_greedy_is_never_worse_than_the_names_as_they_are(stored, monkeypatch):
    """And close to the exact answer: of random predictions most get it."""
    found = symmetries(*stored)
    labels, exact = labels_of(found), 0
    for seed, noise in itertools.product(range(10), (30.0, 200.0)):
        x = near(labels.x.numpy(), noise, seed)
        x = x - x.mean(0)
        of_units, poor = symmetry.copy_moments(x, found)
        best = assign_copies(x, found)
        with monkeypatch.context() as patch:
            patch.setattr(symmetry, "MOST_ASSIGNMENTS", 0)
            greedy = assign_copies(x, found)
        cost = symmetry._rated(of_units, poor, torch.stack([found.own, best, greedy])).tolist()
        assert cost[1] <= cost[2] + 1e-6 and cost[2] <= cost[0] + 1e-6
        assert all(len(set(greedy[u].tolist())) == len(u) for u in ([0, 1], [2, 3, 4], [5, 6]))
        exact += cost[2] <= cost[1] + 1e-6
    assert exact >= 12


def test_whole_superpositions_mend_what_an_anchor_misplaces(monkeypatch):
    """Three residues fix the far side of a sphere badly."""
    example, components = capsid(60, residues=3)
    found = symmetries(example, components)
    order = np.random.default_rng(2).permutation(60)
    truth = np.concatenate([example.x[chain_of(example) == c] for c in order])
    x = near(truth, 2.5, seed=1)
    assert assign_copies(x - x.mean(0), found).tolist() == order.tolist()
    monkeypatch.setattr(symmetry, "MOST_ROUNDS", 0)
    assert assign_copies(x - x.mean(0), found).tolist() != order.tolist()
