"""Embedding of the input features. Source: AF3 SI, Algorithm 2."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from seedfold.data_pipeline.chemistry import RESTYPES
from seedfold.data_pipeline.features import Features
from seedfold.model.atom_mixer import ATOM_MIXERS, LocalWindow
from seedfold.model.atoms import AtomAttentionEncoder

N_TOKEN_FEATURES = 2 * len(RESTYPES) + 1
"""Residue class, profile and deletion mean, appended to the embedded atoms: 65."""


class InputFeatureEmbedder(nn.Module):
    """Embeds atoms and appends residue class, profile and deletion mean."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`atom_mixer`: Config of one of `ATOM_MIXERS` that does without coordinates."""

        atom_mixer: Annotated[Any, ATOM_MIXERS] = field(default_factory=LocalWindow.Config)
        n_blocks: int = 3

    def __init__(
        self, config: Config, c_atom: int, c_atompair: int, c_token: int, element_offset: int
    ):
        super().__init__()
        self.atom_attention_encoder = AtomAttentionEncoder(
            config.atom_mixer,
            config.n_blocks,
            c_atom,
            c_atompair,
            c_token,
            element_offset,
        )

    def forward(self, f: Features) -> Float[Tensor, "B N_token c_s_inputs"]:
        """Returns `s_inputs`: atoms (c_token), residue class 32, profile 32, deletion mean 1."""
        encoder = self.atom_attention_encoder
        a, _ = encoder(encoder.prepare(f), f.n_token)
        restype = F.one_hot(f.restype.long(), len(RESTYPES))
        return torch.cat(
            [a, restype.to(a), f.profile.to(a), f.deletion_mean[..., None].to(a)], dim=-1
        )
