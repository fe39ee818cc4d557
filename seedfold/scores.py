"""Scores: what the confidence logits and the coordinates say about one sample.

Source: AF3 SI section 5.9 and, for the values that depend on the size of a pair of chains, AF3's
released code. ``iptm`` and ``ptm`` use the d0 of the whole complex; ``chain_pair_iptm`` and
``chain_ptm`` use the d0 of the chains they speak of. Without a second chain (or without a frame in
any) ipTM is undefined, and pTM takes its place in the ranking score.

Deviations:
- ``has_clash`` is the SI's rule, pairs of clashing atoms between two polymer chains (Protenix does
  the same); AF3's code counts clashing atoms per chain, those of a chain with itself included.
- ``ligand_clash`` is new: AF3 does not look at ligands.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seedfold.data_pipeline.chemistry import KINDS
from seedfold.data_pipeline.features import Features
from seedfold.data_pipeline.whole_file import whole_file

MAX_ERROR = 32.0
"""Angstrom: upper end of the bins of PAE and PDE."""
FEWEST_TOKENS = 19
"""Smaller systems are given the d0 of this many tokens."""
CLASH_DISTANCE = 1.1
"""Angstrom."""
CLASHES_LISTED = 50

_LIGAND = KINDS.index("ligand")
_BLOCK = 128
_ATOM_BLOCK = 1024


@dataclass(frozen=True, kw_only=True)
class Clash:
    """Two atoms of different chains that are closer than `CLASH_DISTANCE`."""

    atoms: tuple[int, int]
    distance: float


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Scores of one sample; padding removed. NaN where a value is undefined.

    Matrices have the aligned frame (token or chain) in the row and what is judged in the column.
    """

    plddt: Float[Tensor, " N_atom"]
    """0-100."""
    pae: Float[Tensor, "N_token N_token"]
    """Expected error of token j when aligned on the frame of token i, Angstrom."""
    pde: Float[Tensor, "N_token N_token"]
    """Expected error of the distance of two tokens, Angstrom."""
    ptm: float
    iptm: float
    chain_ptm: Float[Tensor, " N_chain"]
    chain_iptm: Float[Tensor, " N_chain"]
    """Mean of `chain_pair_iptm` over the other chains."""
    chain_pair_iptm: Float[Tensor, "N_chain N_chain"]
    """Symmetric; pTM of the chain itself on the diagonal."""
    chain_pair_pae_min: Float[Tensor, "N_chain N_chain"]
    """Angstrom; over frames of chain i (row) and tokens of chain j (column)."""
    chain_plddt: Float[Tensor, " N_chain"]
    """Mean over atoms, 0-100."""
    gpde: float
    """PDE averaged with contact probabilities as weights, Angstrom; NaN if they were not given."""
    fraction_disordered: float
    """0-1; NaN if it was not given."""
    has_clash: bool
    """Two polymer chains overlap."""
    ligand_clash: bool
    """An atom of a ligand is inside another chain."""
    n_clashes: int
    """Pairs of atoms of different chains closer than 1.1 Angstrom."""
    clashes: tuple[Clash, ...]
    """The closest of them."""
    ranking_score: float


@torch.no_grad()
def score(
    f: Features,
    x: Float[Tensor, "N_sample N_atom 3"],
    *,
    plddt_logits: Float[Tensor, "N_sample N_atom 50"],
    pae_logits: Float[Tensor, "N_sample N_token N_token 64"],
    pde_logits: Float[Tensor, "N_sample N_token N_token 64"],
    contact_probs: Float[Tensor, "N_token N_token"] | None = None,
    disorder: Sequence[float] | None = None,
) -> list[Scores]:
    """Scores every sample of one example.

    Args:
        f: features without batch axis; padding allowed.
        x: coordinates, Angstrom.
        plddt_logits: 50 bins of equal width over 0-1.
        pae_logits: 64 bins of equal width over 0-32 Angstrom; row = frame, column = token.
        pde_logits: the same bins.
        contact_probs: probability that two tokens are within 8 Angstrom, for `Scores.gpde`.
        disorder: fraction of disordered residues of every sample.
    """
    system = _System.of(f)
    token, atom = f.token_mask, f.atom_mask
    contacts = None if contact_probs is None else _pairs(contact_probs, token)
    return [
        _score_one(
            system,
            x[n, atom],
            plddt_logits[n, atom],
            _pairs(pae_logits[n], token),
            _pairs(pde_logits[n], token),
            contacts,
            math.nan if disorder is None else disorder[n],
        )
        for n in range(x.shape[0])
    ]


def ranking_score(*, ptm: float, iptm: float, disorder: float, has_clash: bool) -> float:
    """0.8 ipTM + 0.2 pTM + 0.5 disorder - 100 clash (AF3 SI 5.9.3): a clash lowers the score.

    pTM stands in for an undefined ipTM, 0 for an undefined pTM or disorder, so that any two samples
    can be compared.
    """
    ptm, disorder = (0.0 if math.isnan(v) else v for v in (ptm, disorder))
    confidence = ptm if math.isnan(iptm) else 0.8 * iptm + 0.2 * ptm
    return confidence + 0.5 * disorder - 100.0 * has_clash


def bin_centres(n: int, end: float, device: torch.device | None = None) -> Float[Tensor, " n"]:
    """Centres of `n` bins of equal width from 0 to `end`."""
    return (torch.arange(n, device=device, dtype=torch.float32) + 0.5) * (end / n)


def summary(
    scores: Scores, chain_ids: Sequence[str], *, num_recycles: int | None = None
) -> dict[str, Any]:
    """Scores as JSON under AF3's names, matrices keyed by chain; None where undefined.

    Args:
        scores: of one sample.
        chain_ids: in the order of ``asym_id``.
        num_recycles: passes through the trunk after the first.
    """

    def by_chain(values: Tensor) -> dict[str, Any]:
        return dict(zip(chain_ids, map(_number, values.tolist()), strict=True))

    def by_pair(values: Tensor) -> dict[str, Any]:
        return {a: by_chain(row) for a, row in zip(chain_ids, values, strict=True)}

    return {
        "ranking_score": _number(scores.ranking_score),
        "ptm": _number(scores.ptm),
        "iptm": _number(scores.iptm),
        "plddt": _number(float(scores.plddt.mean())),
        "gpde": _number(scores.gpde),
        "fraction_disordered": _number(scores.fraction_disordered),
        "has_clash": scores.has_clash,
        "ligand_clash": scores.ligand_clash,
        "n_clashes": scores.n_clashes,
        "num_recycles": num_recycles,
        "chain_ids": list(chain_ids),
        "chain_plddt": by_chain(scores.chain_plddt),
        "chain_ptm": by_chain(scores.chain_ptm),
        "chain_iptm": by_chain(scores.chain_iptm),
        "chain_pair_iptm": by_pair(scores.chain_pair_iptm),
        "chain_pair_pae_min": by_pair(scores.chain_pair_pae_min),
    }


def write_full_confidences(
    path: Path,
    scores: Scores,
    *,
    token_chain_ids: Sequence[str],
    token_res_ids: Sequence[int],
    atom_chain_ids: Sequence[str],
    atom_res_ids: Sequence[int],
    atom_names: Sequence[str],
    notes: Sequence[str] = (),
) -> None:
    """Writes the arrays of one sample as a compressed npz; nobody ever reads half a file.

    Errors are stored in half precision (steps of at most 0.016 Angstrom). `notes` are remarks for
    whoever opens the file, e.g. that the weights are untrained.
    """
    arrays = {
        "pae": scores.pae.cpu().numpy().astype(np.float16),
        "pde": scores.pde.cpu().numpy().astype(np.float16),
        "atom_plddts": scores.plddt.cpu().numpy().astype(np.float32),
        "token_chain_ids": np.array(token_chain_ids, dtype=np.str_),
        "token_res_ids": np.array(token_res_ids, dtype=np.int32),
        "atom_chain_ids": np.array(atom_chain_ids, dtype=np.str_),
        "atom_res_ids": np.array(atom_res_ids, dtype=np.int32),
        "atom_names": np.array(atom_names, dtype=np.str_),
    }
    for name, array in arrays.items():
        expected = len(scores.plddt if name.startswith("atom") else scores.pae)
        assert len(array) == expected, f"{name}: {len(array)} entries for {expected}"
    arrays["notes"] = np.array(notes, dtype=np.str_)
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def _number(value: float, digits: int = 4) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


def _pairs(values: Tensor, mask: Tensor) -> Tensor:
    """Rows and columns of the real tokens, without a copy where all are real."""
    return values if bool(mask.all()) else values[mask][:, mask]


@dataclass(frozen=True, kw_only=True)
class _System:
    """The real tokens and atoms of an example; chains counted from 0 in the order of asym_id."""

    chain: Int[Tensor, " N_token"]
    frame_mask: Bool[Tensor, " N_token"]
    atom_chain: Int[Tensor, " N_atom"]
    is_ligand: Bool[Tensor, " N_chain"]

    @classmethod
    def of(cls, f: Features) -> "_System":
        token = f.token_mask
        _, chain = f.asym_id[token].unique(return_inverse=True)
        position = token.long().cumsum(0) - 1
        ligand = torch.zeros(int(chain.max()) + 1, dtype=torch.bool, device=chain.device)
        ligand[chain[f.kind[token] == _LIGAND]] = True
        return cls(
            chain=chain,
            frame_mask=f.frame_mask[token],
            atom_chain=chain[position[f.atom_to_token[f.atom_mask].long()]],
            is_ligand=ligand,
        )

    @property
    def n_chains(self) -> int:
        return len(self.is_ligand)

    @property
    def same_chain(self) -> Bool[Tensor, "N_token N_token"]:
        return self.chain[:, None] == self.chain[None, :]


def _score_one(
    system: _System,
    x: Tensor,
    plddt_logits: Tensor,
    pae_logits: Tensor,
    pde_logits: Tensor,
    contact_probs: Tensor | None,
    disorder: float,
) -> Scores:
    plddt = _expectation(plddt_logits, bin_centres(50, 100.0, plddt_logits.device))
    pde = _expected_errors(pde_logits)
    pae, tm, tm_of_pair = _aligned_errors(system, pae_logits)
    pair_iptm = _chain_pair_iptm(system, tm_of_pair)
    ptm = _tm_score(tm, system.frame_mask, torch.ones_like(tm, dtype=torch.bool))
    iptm = _tm_score(tm, system.frame_mask, ~system.same_chain)
    overlap, clashes = _clashes(system, x)
    has_clash, ligand_clash = _clash_flags(system, overlap)
    gpde = math.nan
    if contact_probs is not None:
        gpde = float((pde * contact_probs).sum() / contact_probs.sum())
    return Scores(
        plddt=plddt,
        pae=pae,
        pde=pde,
        ptm=ptm,
        iptm=iptm,
        chain_ptm=pair_iptm.diagonal().clone(),
        chain_iptm=_mean_of_others(pair_iptm),
        chain_pair_iptm=pair_iptm,
        chain_pair_pae_min=_chain_pair_pae_min(system, pae),
        chain_plddt=_mean_by_chain(plddt, system),
        gpde=gpde,
        fraction_disordered=disorder,
        has_clash=has_clash,
        ligand_clash=ligand_clash,
        n_clashes=int(overlap.sum()) // 2,
        clashes=clashes,
        ranking_score=ranking_score(ptm=ptm, iptm=iptm, disorder=disorder, has_clash=has_clash),
    )


def _expectation(logits: Tensor, values: Tensor) -> Tensor:
    return logits.float().softmax(-1) @ values


def _expected_errors(logits: Tensor) -> Tensor:
    """Expectation of [N_token N_token 64] logits, some rows at a time to spare memory."""
    centres = bin_centres(logits.shape[-1], MAX_ERROR, logits.device)
    return torch.cat([_expectation(rows, centres) for rows in logits.split(_BLOCK)])


def _aligned_errors(system: _System, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Expected PAE, and expected TM term with the d0 of all tokens and of each pair of chains."""
    centres = bin_centres(logits.shape[-1], MAX_ERROR, logits.device)
    size = system.chain.bincount()[system.chain]
    together = torch.where(system.same_chain, size[:, None], size[:, None] + size[None, :])
    whole = (1 / (1 + (centres / _d0(torch.tensor(len(size)))) ** 2)).to(logits.device)
    pae, tm, tm_of_pair = [], [], []
    for rows, n in zip(logits.split(_BLOCK), together.split(_BLOCK), strict=True):
        probability = rows.float().softmax(-1)
        pae.append(probability @ centres)
        tm.append(probability @ whole)
        term = 1 / (1 + (centres / _d0(n)[..., None]) ** 2)
        tm_of_pair.append((probability * term).sum(-1))
    return torch.cat(pae), torch.cat(tm), torch.cat(tm_of_pair)


def _d0(n_tokens: Tensor) -> Tensor:
    """Scale of the TM score, Angstrom (Yang and Skolnick 2004, eq. 5)."""
    return 1.24 * (n_tokens.clamp_min(FEWEST_TOKENS) - 15.0) ** (1 / 3) - 1.8


def _tm_score(tm: Tensor, frame_mask: Tensor, pairs: Tensor) -> float:
    """Best, over frames, of the mean term over the tokens that count; NaN if there is none."""
    usable = frame_mask & pairs.any(-1)
    if not usable.any():
        return math.nan
    return float(((tm * pairs).sum(-1) / pairs.sum(-1).clamp_min(1))[usable].max())


def _chain_pair_iptm(system: _System, tm_of_pair: Tensor) -> Tensor:
    one_hot = torch.nn.functional.one_hot(system.chain, system.n_chains).to(tm_of_pair)
    to_chain = tm_of_pair @ (one_hot / one_hot.sum(0))  # [N_token, N_chain]
    frames = system.frame_mask
    best = to_chain.new_full((system.n_chains, system.n_chains), -math.inf)
    rows = system.chain[frames][:, None].expand(-1, system.n_chains)
    best.scatter_reduce_(0, rows, to_chain[frames], "amax")
    best = torch.maximum(best, best.T)
    return best.masked_fill(best.isinf(), math.nan)


def _chain_pair_pae_min(system: _System, pae: Tensor) -> Tensor:
    n, chain, frames = system.n_chains, system.chain, system.frame_mask
    columns = chain.expand(len(chain), -1)
    to_chain = pae.new_full((len(pae), n), math.inf).scatter_reduce_(1, columns, pae, "amin")
    least = pae.new_full((n, n), math.inf)
    rows = chain[frames][:, None].expand(-1, n)
    least.scatter_reduce_(0, rows, to_chain[frames], "amin")
    return least.masked_fill(least.isinf(), math.nan)


def _mean_of_others(pairs: Tensor) -> Tensor:
    """Mean of every row without its diagonal and without NaN."""
    diagonal = torch.eye(len(pairs), dtype=torch.bool, device=pairs.device)
    return pairs.masked_fill(diagonal, math.nan).nanmean(-1)


def _mean_by_chain(values: Tensor, system: _System) -> Tensor:
    total = values.new_zeros(system.n_chains).index_add_(0, system.atom_chain, values)
    return total / system.atom_chain.bincount(minlength=system.n_chains)


def _clashes(system: _System, x: Tensor) -> tuple[Tensor, tuple[Clash, ...]]:
    """Numbers of clashing pairs of atoms [N_chain, N_chain], and the closest pairs."""
    x, chain, n = x.float(), system.atom_chain, system.n_chains
    counts = torch.zeros(n * n, dtype=torch.long, device=x.device)
    found: list[Clash] = []
    for start in range(0, len(x), _ATOM_BLOCK):
        rows = x[start : start + _ATOM_BLOCK]
        d = torch.cdist(rows, x[start:], compute_mode="donot_use_mm_for_euclid_dist")
        i, j = ((d < CLASH_DISTANCE).triu(1)).nonzero(as_tuple=True)
        between = chain[i + start] != chain[j + start]
        i, j = i[between], j[between]
        counts += (chain[i + start] * n + chain[j + start]).bincount(minlength=n * n)
        distance, order = d[i, j].sort(stable=True)
        nearest = torch.stack([i, j], -1)[order[:CLASHES_LISTED]] + start
        found += [
            Clash(atoms=(a, b), distance=v)
            for (a, b), v in zip(nearest.tolist(), distance.tolist(), strict=False)
        ]
    counts = counts.view(n, n)
    found.sort(key=lambda clash: clash.distance)
    return counts + counts.T, tuple(found[:CLASHES_LISTED])


def _clash_flags(system: _System, overlap: Tensor) -> tuple[bool, bool]:
    """AF3's rule for two polymers; for a ligand a single atom inside another chain is enough."""
    size = system.atom_chain.bincount(minlength=system.n_chains)
    fraction = overlap / torch.minimum(size[:, None], size[None, :])
    polymer = ~system.is_ligand
    clashing = ((overlap > 100) | (fraction > 0.5)) & polymer[:, None] & polymer[None, :]
    with_ligand = system.is_ligand[:, None] | system.is_ligand[None, :]
    return bool(clashing.any()), bool((overlap[with_ligand] > 0).any())
