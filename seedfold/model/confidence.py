"""Confidence and distogram heads. Source: AF3 SI, Algorithm 31 and section 4.3-4.4.

Deviations: the distance bins are AF3's released 39 (the SI prints 15). Protenix adds LayerNorms,
a clamp of `s` and a raw-distance linear ("does not converge as written"); each is a flag. Samples
are judged one at a time, so that memory does not grow with their number beyond the outputs.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from seedfold.data_pipeline.features import Features
from seedfold.model.atoms import gather_tokens
from seedfold.model.pairformer import PairformerStack
from seedfold.model.primitives import LayerNorm, Linear
from seedfold.model.trunk import TrunkState

N_PLDDT, N_PAE, N_PDE, N_RESOLVED, N_DISTOGRAM = 50, 64, 64, 2, 64
MAX_ERROR = 32.0
"""Upper edge of the last PAE and PDE bin, Angstrom; bins are 0.5 A wide."""
DISTANCE_EDGES = (3.25, 50.75, 39)
"""First and last lower edge and number of the distance bins; the last bin is open."""
DISTOGRAM_EDGES = (2.3125, 21.6875, N_DISTOGRAM - 1)
"""First and last edge between distogram bins, Angstrom, and their number; both ends are open."""
_CONTACT = 8.0
_MAX_S = 512.0


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Logits of the confidence head."""

    plddt: Float[Tensor, "B N_sample N_atom 50"]
    pae: Float[Tensor, "B N_sample N_token N_token 64"]
    pde: Float[Tensor, "B N_sample N_token N_token 64"]
    resolved: Float[Tensor, "B N_sample N_atom 2"]


class ConfidenceHead(nn.Module):
    """Judges structures. AF3 SI, Algorithm 31. No gradient flows back into the trunk."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`s_norm`: clamp and LayerNorm of `s`; `raw_distance`: distances also enter as they are;
        `head_norms`: a LayerNorm before every head (AF3's code and Protenix; not in the SI);
        `symmetric_pde`: the PDE head adds the transpose to the pairs (SI) or to the logits (AF3's
        code); `n_slots`: atoms of a token that have a head of their own.
        """

        pairformer: PairformerStack.Config = field(
            default_factory=lambda: PairformerStack.Config(n_blocks=4)
        )
        s_norm: bool = False
        raw_distance: bool = False
        head_norms: bool = True
        symmetric_pde: Literal["pairs", "logits"] = "pairs"
        n_slots: int = 24

    def __init__(self, config: Config, c_s_inputs: int, c_s: int, c_z: int):
        super().__init__()
        self.symmetric_pde = config.symmetric_pde
        self.layer_norm_s = LayerNorm(c_s) if config.s_norm else None
        self.linear_s_inputs_i = Linear(c_s_inputs, c_z)
        self.linear_s_inputs_j = Linear(c_s_inputs, c_z)
        self.linear_distance_bin = Linear(DISTANCE_EDGES[2], c_z)
        self.linear_distance = Linear(1, c_z) if config.raw_distance else None
        self.pairformer = PairformerStack(config.pairformer, c_s, c_z)

        def norm(c: int) -> nn.Module:
            return LayerNorm(c) if config.head_norms else nn.Identity()

        self.layer_norm_pae, self.layer_norm_pde = norm(c_z), norm(c_z)
        self.layer_norm_plddt, self.layer_norm_resolved = norm(c_s), norm(c_s)
        self.linear_pae = Linear(c_z, N_PAE, init="zeros")
        self.linear_pde = Linear(c_z, N_PDE, init="zeros")
        self.weight_plddt = nn.Parameter(torch.zeros(config.n_slots, c_s, N_PLDDT))
        self.weight_resolved = nn.Parameter(torch.zeros(config.n_slots, c_s, N_RESOLVED))

    def forward(
        self, f: Features, state: TrunkState, x: Float[Tensor, "B N_sample N_atom 3"]
    ) -> Confidence:
        """Judges every sample, one after the other."""
        s_inputs, s, z = (t.detach() for t in (state.s_inputs, state.s, state.z))
        if self.layer_norm_s is not None:
            s = self.layer_norm_s(s.clamp(-_MAX_S, _MAX_S))
        z = z + self.linear_s_inputs_i(s_inputs)[:, :, None]
        z = z + self.linear_s_inputs_j(s_inputs)[:, None, :]
        judged = [self._judge(f, s, z, one) for one in x.detach().unbind(1)]
        plddt, pae, pde, resolved = (torch.stack(t, 1) for t in zip(*judged, strict=True))
        return Confidence(plddt=plddt, pae=pae, pde=pde, resolved=resolved)

    def _judge(
        self,
        f: Features,
        s: Float[Tensor, "B N_token c_s"],
        z: Float[Tensor, "B N_token N_token c_z"],
        x: Float[Tensor, "B N_atom 3"],
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        index = f.representative_atom.long()[..., None].expand(*f.restype.shape, 3)
        centres = x.gather(1, index)
        # cdist by matrix product, as in the networks whose weights we load: its rounding, which
        # leaves about 0.01 A on the diagonal, is part of what they were trained on.
        d = torch.cdist(centres, centres)
        z = z + self._embed_distances(d.to(z.dtype))
        s, z = self.pairformer(s, z, f.token_mask)
        # Logits in fp32 at least, whatever the Pairformer ran in.
        with torch.autocast(x.device.type, enabled=False):
            dtype = self.linear_pae.weight.dtype
            s, z = s.to(dtype), z.to(dtype)
            pae = self.linear_pae(self.layer_norm_pae(z))
            pde = self._pde(z)
            slots = f.atom_slot.clamp_max(self.weight_plddt.shape[0] - 1)
            plddt = _per_slot(self.layer_norm_plddt(s), self.weight_plddt, f, slots)
            resolved = _per_slot(self.layer_norm_resolved(s), self.weight_resolved, f, slots)
        return plddt, pae, pde, resolved

    def _pde(
        self, z: Float[Tensor, "B N_token N_token c_z"]
    ) -> Float[Tensor, "B N_token N_token 64"]:
        if self.symmetric_pde == "pairs":
            return self.linear_pde(self.layer_norm_pde(z + z.transpose(1, 2)))
        logits = self.linear_pde(self.layer_norm_pde(z))
        return logits + logits.transpose(1, 2)

    def _embed_distances(
        self, d: Float[Tensor, "B N_token N_token"]
    ) -> Float[Tensor, "B N_token N_token c_z"]:
        # Bin 0 is below the first edge and has no class: its row of the table is zero.
        edges = torch.linspace(*DISTANCE_EDGES, dtype=d.dtype, device=d.device)
        bins = torch.bucketize(d.contiguous(), edges)
        table = F.pad(self.linear_distance_bin.weight.t(), (0, 0, 1, 0))
        z = F.embedding(bins, table)
        return z if self.linear_distance is None else z + self.linear_distance(d[..., None])


def _per_slot(
    s: Float[Tensor, "B N_token c_s"],
    weight: Float[Tensor, "n_slots c_s n_bins"],
    f: Features,
    slots: Int[Tensor, "B N_atom"],
) -> Float[Tensor, "B N_atom n_bins"]:
    """Projects each atom's token by the matrix of the atom's slot."""
    logits = torch.einsum("bic,kcn->bikn", s, weight).flatten(1, 2)
    index = f.atom_to_token.long() * weight.shape[0] + slots
    return gather_tokens(logits, index)


class DistogramHead(nn.Module):
    """Distances between representative atoms. AF3 SI, section 4.4."""

    def __init__(self, c_z: int, bias: bool = False):
        super().__init__()
        self.linear = Linear(c_z, N_DISTOGRAM, bias=bias, init="zeros")

    def forward(
        self, z: Float[Tensor, "B N_token N_token c_z"]
    ) -> Float[Tensor, "B N_token N_token 64"]:
        """Symmetric logits, in fp32 at least."""
        with torch.autocast(z.device.type, enabled=False):
            logits = self.linear(z.to(self.linear.weight.dtype))
            return logits + logits.transpose(1, 2)


def contact_probs(
    logits: Float[Tensor, "B N_token N_token 64"],
) -> Float[Tensor, "B N_token N_token"]:
    """Probability that two representative atoms are within 8 Angstrom: the bins that end there."""
    edges = torch.linspace(*DISTOGRAM_EDGES, device=logits.device)
    n_contact = int((edges <= _CONTACT + 1e-3).sum())
    return logits.softmax(-1)[..., :n_contact].sum(-1)
