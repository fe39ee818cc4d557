"""Crops: which tokens of a large complex one training step sees.

Source: AF3 SI 2.7; the contiguous crop is AF-Multimer's Algorithm 1.

Deviations: atom tokens stay together. A ligand is inside as a whole or outside, and so is a
modified residue; one that the budget has no more room for is left out, and what is next takes its
place. Only a ligand larger than the whole budget is cut, between its residues, and where a single
residue is larger, among its atoms.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from seedfold.data_pipeline.chemistry import KINDS
from seedfold.data_pipeline.examples.example import Example

Method = Literal["contiguous", "spatial", "interface"]
METHODS: Mapping[Method, float] = {"contiguous": 0.2, "spatial": 0.4, "interface": 0.4}
"""How often each is taken for structures of the PDB (AF3 SI, Table 4)."""
PREDICTED_METHODS: Mapping[Method, float] = {"contiguous": 0.25, "spatial": 0.75, "interface": 0.0}
"""The same for predicted structures of single chains."""
INTERFACE_DISTANCE = 15.0
"""Angstrom between the centre atoms of two chains' tokens at an interface."""
_LIGAND = KINDS.index("ligand")


def crop(
    example: Example,
    n_token: int,
    rng: np.random.Generator,
    *,
    chains: Sequence[int] = (),
    methods: Mapping[Method, float] = METHODS,
) -> Int[np.ndarray, " N_crop"]:
    """Chooses at most `n_token` tokens, in their order; all of a smaller complex.

    Args:
        example: the complex.
        n_token: the budget.
        rng: decides method and place.
        chains: what the example was drawn for: one chain, or two that meet; crops in space are
            made around it. None = anywhere.
        methods: their frequencies. Where no two chains meet, `interface` is `spatial`.
    """
    if example.n_token <= n_token:
        return np.arange(example.n_token)
    names = list(methods)
    weights = np.array([methods[name] for name in names])
    method = names[rng.choice(len(names), p=weights / weights.sum())]
    units = crop_units(example, n_token)
    if method == "contiguous":
        chosen = _contiguous(example, units, n_token, rng)
    else:
        centre = _centre(example, rng, chains, at_interface=method == "interface")
        chosen = _nearest(example, units, n_token, centre)
    return np.flatnonzero(chosen)


def crop_units(example: Example, n_token: int) -> Int[np.ndarray, " N_token"]:
    """Number of the unit of every token: what a crop of that budget keeps together."""
    tokens = example.tokens
    index = np.arange(len(tokens))
    residue = tokens.asym_id * (int(tokens.residue_index.max()) + 1) + tokens.residue_index
    for key, apply in (
        (residue, ~tokens.standard),
        (tokens.asym_id + int(residue.max()) + 1, tokens.kind == _LIGAND),
    ):
        _, first, inverse, counts = np.unique(
            key, return_index=True, return_inverse=True, return_counts=True
        )
        index = np.where(apply & (counts[inverse] <= n_token), first[inverse], index)
    return index


def _contiguous(
    example: Example, units: np.ndarray, n_token: int, rng: np.random.Generator
) -> Bool[np.ndarray, " N_token"]:
    """A stretch of every chain, the chains in random order (AF-Multimer, Algorithm 1).

    Chains that stay together come first, each inside or outside: what they leave is filled.
    """
    lengths = np.bincount(example.tokens.asym_id)
    starts = np.cumsum(lengths) - lengths
    whole = (lengths <= n_token) & (units[starts] == units[starts + lengths - 1])
    order = rng.permutation(len(lengths))
    chosen = np.zeros(example.n_token, bool)
    left, budget = int(lengths[~whole].sum()), n_token
    for chain in np.concatenate([order[whole[order]], order[~whole[order]]]):
        length, start = int(lengths[chain]), int(starts[chain])
        if whole[chain]:
            size = length if length <= budget and (not left or rng.random() < 0.5) else 0
        else:
            left -= length
            least = min(length, max(0, budget - left))
            size = int(rng.integers(least, min(budget, length) + 1))
        at = start + int(rng.integers(0, length - size + 1))
        chosen[at : at + size] = True
        budget -= size
    # A unit that was cut is left out: the budget allows for no more of it.
    cut = np.unique(units[~chosen])
    return chosen & ~np.isin(units, cut)


def _nearest(
    example: Example, units: np.ndarray, n_token: int, centre: int
) -> Bool[np.ndarray, " N_token"]:
    """The units nearest to a token, as many as there is room for."""
    x, resolved = _centres(example)
    distance = np.linalg.norm(x - x[centre], axis=-1)
    distance[~resolved] = np.inf
    _, first, unit, sizes = np.unique(
        units, return_index=True, return_inverse=True, return_counts=True
    )
    nearest = np.full(len(first), np.inf)
    np.minimum.at(nearest, unit, distance)
    taken = np.zeros(len(first), bool)
    room = n_token
    for i in np.argsort(nearest, kind="stable"):
        if sizes[i] <= room and np.isfinite(nearest[i]):
            taken[i] = True
            room -= sizes[i]
        if room == 0:
            break
    return taken[unit]


def _centre(
    example: Example, rng: np.random.Generator, chains: Sequence[int], *, at_interface: bool
) -> int:
    """A resolved token to crop around."""
    x, resolved = _centres(example)
    asym_id = example.tokens.asym_id
    wanted = resolved & np.isin(asym_id, chains) if len(chains) else resolved
    if at_interface:
        partners = resolved & np.isin(asym_id, chains) if len(chains) > 1 else resolved
        meeting = _at_interface(x, asym_id, wanted, partners)
        wanted = meeting if meeting.any() else wanted
    pool = np.flatnonzero(wanted if wanted.any() else resolved)
    return int(rng.choice(pool)) if len(pool) else 0


def _at_interface(
    x: Float[np.ndarray, "N_token 3"],
    asym_id: Int[np.ndarray, " N_token"],
    wanted: Bool[np.ndarray, " N_token"],
    partners: Bool[np.ndarray, " N_token"],
) -> Bool[np.ndarray, " N_token"]:
    """Tokens of `wanted` near one of `partners` in another chain."""
    found = np.zeros(len(x), bool)
    rows, others = np.flatnonzero(wanted), np.flatnonzero(partners)
    for block in np.array_split(rows, len(rows) // 256 + 1):
        near = _squared(x[block], x[others]) < INTERFACE_DISTANCE**2
        near &= asym_id[block][:, None] != asym_id[others][None]
        found[block] = near.any(axis=1)
    return found


def _squared(a: Float[np.ndarray, "N 3"], b: Float[np.ndarray, "M 3"]) -> np.ndarray:
    return ((a[:, None] - b[None]) ** 2).sum(axis=-1)


def _centres(example: Example) -> tuple[np.ndarray, np.ndarray]:
    centre = example.tokens.centre_atom
    return example.x[centre], example.resolved[centre]
