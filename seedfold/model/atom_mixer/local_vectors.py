"""A local atom transformer whose atoms also carry vectors.

`LocalWindow` sees coordinates as channels only, and has to learn from examples that a bond has the
same length in all directions. Here every atom has `n_vectors` vectors in space besides its
channels. Attention gives an atom the way to where it looks, and the vectors of the atoms there;
scalar products of vectors go into its channels, and channels scale its vectors. What is learnt of a
bond, an angle or a contact in one direction then holds in all, which saves most of the examples:
docs/training.md says how many. At the end the vectors are written into the channels.

Sources: attention that falls off with distance, AF2 SI, Algorithm 22; channels and vectors by way
of linear combinations and scalar products, PaiNN (arXiv 2102.03150). Neither AF3 nor SeedFold has
it: for networks that learn from little.

Cost: linear in N_atom. Moving the coordinates changes nothing. Turning them turns the vectors, and
changes of the result only what is written of these at the end. A mirror image is told apart, by
products of three vectors. It depends on the order of the atoms.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from seedfold.kernels import window_attention
from seedfold.model.atom_mixer.local_window import LocalWindow, WindowAttention, WindowState
from seedfold.model.primitives import ConditionedTransitionBlock, LayerNorm, Linear

LENGTH = 16.0
"""Of `r` 1, in Angstrom: SIGMA_DATA, by which coordinates were divided if there is no noise."""
LONGEST = 4.0
"""Of a vector, Angstrom; shorter ones are hardly changed."""
FALLOFF = (0.5, 0.005)
"""By which logits of the first and of the last head begin to fall, 1 / Angstrom^2."""


class LocalVectors(LocalWindow):
    """A stack of blocks over windows of the atom sequence, of atoms that carry vectors."""

    needs_positions: ClassVar[bool] = True

    @dataclass(frozen=True, kw_only=True)
    class Config(LocalWindow.Config):
        """As of `LocalWindow`; `n_vectors` of every atom, two at least.

        The kernels serve heads of c_atom / n_heads + 3 (1 + n_vectors) <= 64 channels.
        """

        kind: Literal["local_vectors"] = "local_vectors"
        n_vectors: int = 8

    def __init__(
        self,
        config: Config,
        c_atom: int,
        c_atompair: int,
        c_z: int | None,
        n_blocks: int,
        follows: bool = False,
    ):
        if config.n_vectors < 2:
            raise ValueError(f"atom_mixer: n_vectors {config.n_vectors}; expected 2 or more")
        super().__init__(config, c_atom, c_atompair, c_z, n_blocks, follows)
        self.n_vectors = config.n_vectors
        self.linear_vectors = Linear(3 * config.n_vectors, c_atom)

    def _block(self, c_atom: int, c_atompair: int) -> nn.Module:
        assert isinstance(self.config, LocalVectors.Config)
        return VectorBlock(self.config, c_atom, c_atompair)

    def forward(
        self,
        q: Float[Tensor, "B *S N_atom c_atom"],
        state: WindowState,
        r: Float[Tensor, "B *S N_atom 3"] | None = None,
    ) -> Float[Tensor, "B *S N_atom c_atom"]:
        """Returns the new `q`."""
        assert r is not None, "LocalVectors without coordinates"
        x = LENGTH * r
        c = state.c.view(len(state.c), *[1] * (q.dim() - 3), *state.c.shape[1:])
        q, x = state.spread(q), state.spread(x)
        v = x.new_zeros(*x.shape, self.n_vectors)
        for block, bias in zip(self.blocks, state.biases.unbind(1), strict=True):
            q, v = block(q, v, x, c, bias, state.key_index)
        return state.gather(q + self.linear_vectors(v.flatten(-2)))


class VectorBlock(nn.Module):
    """Windowed attention of channels and vectors, then a conditioned transition."""

    def __init__(self, config: LocalVectors.Config, c_atom: int, c_atompair: int):
        super().__init__()
        self.attention = VectorAttention(config, c_atom, c_atompair)
        self.transition = ConditionedTransitionBlock(
            c_atom, c_atom, extra_factor=config.extra_factor
        )
        self.layer_norm = LayerNorm(c_atom)
        self.linear_scale = Linear(
            c_atom, 2 * config.n_vectors, bias=True, init="zeros", bias_init=1.0
        )

    def forward(
        self,
        q: Float[Tensor, "B *S N_atom c_atom"],
        v: Float[Tensor, "B *S N_atom 3 n_vectors"],
        x: Float[Tensor, "B *S N_atom 3"],
        c: Float[Tensor, "B *#S N_atom c_atom"],
        bias: Float[Tensor, "B N_head N_block n_queries n_keys"],
        key_index: Int[Tensor, "N_block n_keys"],
    ) -> tuple[Float[Tensor, "B *S N_atom c_atom"], Float[Tensor, "B *S N_atom 3 n_vectors"]]:
        """Returns the new `q` and the new vectors `v`, Angstrom, of atoms at `x`, Angstrom."""
        update, polar, axial = self.attention(q, v, x, c, bias, key_index)
        q = q + update
        q = q + self.transition(q, c)
        scale = self.linear_scale(self.layer_norm(q)).unsqueeze(-2)
        of_polar, of_axial = scale.chunk(2, -1)
        return q, v + of_polar * polar + of_axial * axial


class VectorAttention(WindowAttention):
    """Attention within windows that gives channels and vectors."""

    def __init__(self, config: LocalVectors.Config, c_atom: int, c_atompair: int):
        super().__init__(config, c_atom, c_atompair)
        n, n_heads = config.n_vectors, config.n_heads
        first, last = map(math.log, FALLOFF)
        self.log_falloff = nn.Parameter(torch.linspace(first, last, n_heads))
        self.linear_polar = Linear(n_heads * (1 + n) + n, n)
        self.linear_left = Linear(2 * n, c_atom)
        self.linear_right = Linear(2 * n, c_atom)

    def forward(
        self,
        a: Float[Tensor, "B *S N_atom c_atom"],
        v: Float[Tensor, "B *S N_atom 3 n_vectors"],
        x: Float[Tensor, "B *S N_atom 3"],
        c: Float[Tensor, "B *#S N_atom c_atom"],
        bias: Float[Tensor, "B N_head N_block n_queries n_keys"],
        key_index: Int[Tensor, "N_block n_keys"],
    ) -> tuple[
        Float[Tensor, "B *S N_atom c_atom"],
        Float[Tensor, "B *S N_atom 3 n_vectors"],
        Float[Tensor, "B *S N_atom 3 n_vectors"],
    ]:
        """Returns the update of `a`, polar vectors, and axial ones: cross products of the polar."""
        queries, keys = self.normalised(a, c)
        o, seen = self._attend(queries, keys, v, x, bias, key_index)
        polar = self.linear_polar(torch.cat([seen, v], -1))
        polar = polar * torch.rsqrt(1 + (polar**2).sum(-2, keepdim=True) / LONGEST**2)
        axial = torch.linalg.cross(polar, polar.roll(1, -1), dim=-2) / LONGEST
        both = torch.cat([polar, axial], -1)
        products = (self.linear_left(both) * self.linear_right(both)).sum(-2)
        products = products * torch.rsqrt(1 + products.abs())
        o = self.linear_out(self._gated(o, queries) + products)
        return torch.sigmoid(self.linear_gate(c)) * o, polar, axial

    def _attend(
        self,
        queries: Float[Tensor, "B *S N_atom c_atom"],
        keys: Float[Tensor, "B *S N_atom c_atom"],
        v: Float[Tensor, "B *S N_atom 3 n_vectors"],
        x: Float[Tensor, "B *S N_atom 3"],
        bias: Float[Tensor, "B N_head N_block n_queries n_keys"],
        key_index: Int[Tensor, "N_block n_keys"],
    ) -> tuple[Float[Tensor, "B *S N_head N_atom c"], Float[Tensor, "B *S N_atom 3 n_seen"]]:
        """What the heads see: channels, and vectors to where they look and of what is there.

        -w d^2 is 2w x_l x_m - w x_m^2 but for what is the same for all keys, so that one attention
        of wider heads does everything.
        """
        q, k, o = self._heads(queries, keys)
        c = q.shape[-1]

        def in_heads(t: Tensor) -> Tensor:
            return t.unsqueeze(-3).expand(*q.shape[:-1], t.shape[-1])

        x_h, v_h = in_heads(x), in_heads(v.flatten(-2))
        falloff = self.log_falloff.exp()[:, None, None].expand(*q.shape[:-1], 1)
        o = torch.cat([o, x_h, v_h], -1)
        # The attention divides by the root of all its channels.
        q = torch.cat([q * c**-0.5, 2 * falloff * x_h, -falloff], -1) * o.shape[-1] ** 0.5
        k = torch.cat([k, x_h, (x_h**2).sum(-1, keepdim=True)], -1)
        q, k = (F.pad(t, (0, o.shape[-1] - t.shape[-1])) for t in (q, k))
        o, x_seen, v_seen = window_attention(q, k, o, bias, key_index).split(
            [c, 3, v_h.shape[-1]], -1
        )
        v_seen = v_seen.unflatten(-1, (3, -1)).movedim(-4, -1).flatten(-2)
        return o, torch.cat([(x_seen - x_h).movedim(-3, -1), v_seen], -1)
