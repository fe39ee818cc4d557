"""How accurate a prediction is, by kind of molecule: all-atom lDDT on tensors, without chemistry.

Source: Mariani et al. 2013 (doi:10.1093/bioinformatics/btt473), as `seedfold.evaluate.lddt`
computes it: distances of the truth up to 15 Angstrom between atoms of different residues count,
each alike, and are kept as far as they are within 0.5, 1, 2 and 4 Angstrom. The kinds are those of
the validation of AF3: chains of each kind in themselves, and interfaces.

Deviations: within ligands the distances inside a residue count too, since many have one residue.
Equal chains and equal atoms are named as `loss.symmetry.assign` does, by superposition, where
OpenStructure names atoms of side chains to the advantage of lDDT itself.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from seedfold.data_pipeline.chemistry import KINDS
from seedfold.data_pipeline.features import Features, Labels

RADIUS = 15.0
"""Angstrom in the truth."""
THRESHOLDS = (0.5, 1.0, 2.0, 4.0)
"""Angstrom."""
COMPLEX = "complex"
"""The kind that all distances are of."""
_NUCLEIC = ("dna", "rna")
_BLOCK = 512


def lddt_by_kind(x: Float[Tensor, "N_atom 3"], labels: Labels, f: Features) -> dict[str, float]:
    """lDDT, 0 to 1, of every kind that the truth has distances of.

    The kinds are `complex`; `protein`, `dna`, `rna` and `ligand`, within chains; and
    `protein_protein`, `protein_ligand` and `protein_na`, between them.

    Args:
        x: The prediction; Angstrom.
        labels: The truth, in the names that fit it.
        f: Features of the example, without batch axis.
    """
    kind_of_chain = _kind_of_chain(f)
    expected, kept = pair_counts(x, labels, f)
    found = {}
    for kind, pairs in _pairs_of_kinds(kind_of_chain).items():
        n = float(expected[pairs].sum())
        if n:
            found[kind] = float(kept[pairs].sum()) / n
    return found


def pair_counts(
    x: Float[Tensor, "N_atom 3"], labels: Labels, f: Features
) -> tuple[Float[Tensor, "N_chain N_chain"], Float[Tensor, "N_chain N_chain"]]:
    """Of every two chains, how many distances count and how many of them are kept, in float64.

    Each distance is counted from both ends. A position that is not finite keeps nothing.
    """
    known = (labels.resolved & (labels.weight > 0) & f.atom_mask).nonzero()[:, 0]
    token = f.atom_to_token[known].long()
    residue, chain = _residues(f)[token], f.asym_id[token].long()
    # Distances inside a residue count in ligands only: there every atom is its own.
    inside = f.kind[token] == KINDS.index("ligand")
    residue = torch.where(inside, -1 - torch.arange(len(residue), device=x.device), residue)
    n_chain = int(f.asym_id.max()) + 1
    of_chain = torch.nn.functional.one_hot(chain, n_chain).float()
    x, x_gt = x[known].float(), labels.x[known].float()
    counts = torch.zeros(2, n_chain, n_chain, dtype=torch.float64, device=x.device)
    for rows in torch.arange(len(x), device=x.device).split(_BLOCK):
        other = residue[rows, None] != residue[None]
        near, kept = _kept(x[rows], x, x_gt[rows], x_gt, other)
        for count, values in zip(counts, (near, kept), strict=True):
            count += of_chain[rows].double().T @ (values @ of_chain).double()
    expected, kept = counts.cpu()
    return expected, kept


def _kept(
    x: Float[Tensor, "N 3"],
    y: Float[Tensor, "M 3"],
    x_gt: Float[Tensor, "N 3"],
    y_gt: Float[Tensor, "M 3"],
    mask: Bool[Tensor, "N M"],
) -> tuple[Float[Tensor, "N M"], Float[Tensor, "N M"]]:
    """Which distances count, and how far each is kept, 0 to 1."""
    mode = "donot_use_mm_for_euclid_dist"
    d_gt = torch.cdist(x_gt, y_gt, compute_mode=mode)
    near = (mask & (d_gt <= RADIUS)).to(x)
    error = (torch.cdist(x, y, compute_mode=mode) - d_gt).abs()
    kept = sum(((error <= t).to(x) for t in THRESHOLDS), torch.zeros_like(error))
    return near, near * kept / len(THRESHOLDS)


def _residues(f: Features) -> Int[Tensor, " N_token"]:
    """A number for every residue, that of its chain included."""
    return f.asym_id.long() * (int(f.residue_index.max()) + 1) + f.residue_index.long()


def _kind_of_chain(f: Features) -> list[str]:
    real = f.token_mask
    chain, kind = f.asym_id[real].long(), f.kind[real].long()
    of_chain = torch.full([int(f.asym_id.max()) + 1], -1, device=kind.device)
    of_chain[chain] = kind
    return ["" if k < 0 else KINDS[k] for k in of_chain.tolist()]


def _pairs_of_kinds(kinds: list[str]) -> Mapping[str, Bool[Tensor, "N_chain N_chain"]]:
    """Which pairs of chains each kind of lDDT is about."""

    def among(*wanted: str) -> Bool[Tensor, " N_chain"]:
        return torch.tensor([kind in wanted for kind in kinds])

    own = torch.eye(len(kinds), dtype=torch.bool)
    found = {COMPLEX: torch.ones_like(own)}
    found |= {kind: own & among(kind) for kind in KINDS}
    protein = among("protein")
    for name, partner in (
        ("protein_protein", protein),
        ("protein_ligand", among("ligand")),
        ("protein_na", among(*_NUCLEIC)),
    ):
        found[name] = ~own & protein[:, None] & partner[None]
    return found
