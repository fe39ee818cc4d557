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
_N, _DN = RESTYPES.index("N"), RESTYPES.index("DN")


class InputFeatureEmbedder(nn.Module):
    """Embeds atoms and appends residue class, profile and deletion mean."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`atom_mixer`: Config of one of `ATOM_MIXERS` that does without coordinates.

        `one_unknown_base`: N stands for DN as well, which leaves 31 classes (AF3's code).
        """

        atom_mixer: Annotated[Any, ATOM_MIXERS] = field(default_factory=LocalWindow.Config)
        n_blocks: int = 3
        one_unknown_base: bool = False

        @property
        def n_token_features(self) -> int:
            """Width of what is appended to the embedded atoms."""
            return N_TOKEN_FEATURES - 2 * self.one_unknown_base

    def __init__(
        self, config: Config, c_atom: int, c_atompair: int, c_token: int, element_offset: int
    ):
        super().__init__()
        self.one_unknown_base = config.one_unknown_base
        self.atom_attention_encoder = AtomAttentionEncoder(
            config.atom_mixer,
            config.n_blocks,
            c_atom,
            c_atompair,
            c_token,
            element_offset,
        )

    def forward(self, f: Features) -> Float[Tensor, "B N_token c_s_inputs"]:
        """Returns `s_inputs`: atoms (c_token), residue class, profile (32 or 31), deletion mean."""
        encoder = self.atom_attention_encoder
        a, _ = encoder(encoder.prepare(f), f.n_token)
        restype, profile = F.one_hot(f.restype.long(), len(RESTYPES)).to(a), f.profile.to(a)
        if self.one_unknown_base:
            restype, profile = _join_unknown_bases(restype), _join_unknown_bases(profile)
        return torch.cat([a, restype, profile, f.deletion_mean[..., None].to(a)], dim=-1)


def _join_unknown_bases(classes: Float[Tensor, "*N 32"]) -> Float[Tensor, "*N 31"]:
    """Counts DN as N."""
    return torch.cat(
        [
            classes[..., :_N],
            classes[..., [_N]] + classes[..., [_DN]],
            classes[..., _N + 1 : _DN],
            classes[..., _DN + 1 :],
        ],
        dim=-1,
    )
