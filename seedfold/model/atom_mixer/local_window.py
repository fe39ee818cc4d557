"""AlphaFold 3's sequence-local atom transformer. Source: AF3 SI, Algorithm 7, and parts of 5.

Blocks of 32 consecutive atoms attend to the 128 atoms around their centre. Cost is linear in
N_atom. Neither invariant nor equivariant; it depends on the order of the atoms.

Deviations: conditioning, pair embedding and all pair biases do not depend on the noise and are
made once, in `prepare`. Keys may have an AdaLN of their own (`key_adaln`).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from seedfold.kernels import window_attention
from seedfold.model.atom_mixer.base import AtomContext
from seedfold.model.attention import pair_biases
from seedfold.model.primitives import AdaLN, ConditionedTransitionBlock, LayerNorm, Linear


class WindowState(NamedTuple):
    """What the windows know of a structure before any noise; p and its biases are per window.

    `places` of the atoms in the sequence, where that has other places besides.
    """

    c: Float[Tensor, "B N_place c_atom"]
    p: Float[Tensor, "B N_block n_queries n_keys c_atompair"]
    biases: Float[Tensor, "B n_blocks N_head N_block n_queries n_keys"]
    key_index: Int[Tensor, "N_block n_keys"]
    places: Int[Tensor, "B N_atom"] | None

    def spread(self, x: Float[Tensor, "B *S N_atom d"]) -> Float[Tensor, "B *S N_place d"]:
        """What belongs to the atoms, at their places."""
        return x if self.places is None else _spread(x, self.places, self.c.shape[-2])

    def gather(self, x: Float[Tensor, "B *S N_place d"]) -> Float[Tensor, "B *S N_atom d"]:
        """The inverse."""
        if self.places is None:
            return x
        return x.gather(-2, _rows(self.places.clamp_max(x.shape[-2] - 1), x))


class LocalWindow(nn.Module):
    """A stack of atom transformer blocks over windows of the atom sequence."""

    needs_positions: ClassVar[bool] = False

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """`key_adaln`: keys see AdaLN of the atoms themselves (separate, as AF3), of the already
        normalised queries (chained, as Protenix), or the queries' own (shared).
        `pair_norm`: one LayerNorm of p for the stack (shared, as AF3's code) or one per block.
        `ends`: windows at the ends of the sequence overhang it (masked) or move inwards (shifted).
        `n_slots`: every token has so many places in the sequence, most of them empty, and
        `token_multiple`: the sequence ends with a multiple of so many tokens; without, atoms stand
        side by side. `same_space_only`: atoms of different conformers have no pair embedding.
        """

        kind: Literal["local_window"] = "local_window"
        n_heads: int = 4
        n_queries: int = 32
        n_keys: int = 128
        key_adaln: Literal["separate", "chained", "shared"] = "separate"
        pair_norm: Literal["shared", "per_block"] = "shared"
        ends: Literal["masked", "shifted"] = "masked"
        n_slots: int | None = None
        token_multiple: int = 1
        same_space_only: bool = False
        extra_factor: bool = False

    def __init__(
        self,
        config: Config,
        c_atom: int,
        c_atompair: int,
        c_z: int | None,
        n_blocks: int,
        follows: bool = False,
    ):
        super().__init__()
        self.config = config
        shared = config.pair_norm == "shared"
        self.pair_embedding = (
            None
            if follows
            else WindowPairEmbedding(c_atom, c_atompair, c_z, config.same_space_only)
        )
        self.layer_norm_p = LayerNorm(c_atompair, offset=False) if shared else None
        self.blocks = nn.ModuleList(self._block(c_atom, c_atompair) for _ in range(n_blocks))

    def _block(self, c_atom: int, c_atompair: int) -> nn.Module:
        return AtomTransformerBlock(self.config, c_atom, c_atompair)

    def prepare(self, atoms: AtomContext, previous: WindowState | None = None) -> WindowState:
        """Pair embedding in windows (taken from `previous` where there is one) and its biases."""
        places, n_slots = None, self.config.n_slots
        if n_slots is not None:
            n_place = atoms.n_token * n_slots
            places = atoms.atom_to_token * n_slots + atoms.atom_slot.clamp_max(n_slots - 1)
            places = places.masked_fill(~atoms.atom_mask, n_place)
            atoms = _spread_atoms(atoms, places, n_place)
        key_index, real = self._windows(atoms.atom_mask)
        if self.pair_embedding is None:
            assert previous is not None
            p = previous.p
        else:
            p = self.pair_embedding(atoms, self.config.n_queries, key_index)
        attentions: list[Any] = [block.attention for block in self.blocks]
        shared = self.layer_norm_p
        norms = [a.layer_norm_p if shared is None else shared for a in attentions]
        biases = pair_biases(p, norms, [a.linear_p for a in attentions])
        biases = biases.masked_fill(~real[:, None, None, :, None, :], -1e9)
        return WindowState(atoms.c, p, biases, key_index, places)

    def forward(
        self,
        q: Float[Tensor, "B *S N_atom c_atom"],
        state: WindowState,
        r: Float[Tensor, "B *S N_atom 3"] | None = None,
    ) -> Float[Tensor, "B *S N_atom c_atom"]:
        """Returns the new `q`; positions are not looked at."""
        c = state.c.view(len(state.c), *[1] * (q.dim() - 3), *state.c.shape[1:])
        q = state.spread(q)
        for block, bias in zip(self.blocks, state.biases.unbind(1), strict=True):
            q = block(q, c, bias, state.key_index)
        return state.gather(q)

    def _windows(
        self, atom_mask: Bool[Tensor, "B N_atom"]
    ) -> tuple[Int[Tensor, "N_block n_keys"], Bool[Tensor, "B N_block n_keys"]]:
        """The keys of every block, and which of them are real.

        Shifted windows stay within the whole blocks of the batch's longest molecule, with slots
        within those of the multiple of tokens that it is padded to.
        """
        n_atom, n_queries, n_keys = atom_mask.shape[1], self.config.n_queries, self.config.n_keys
        first = torch.arange(0, n_atom, n_queries, device=atom_mask.device)
        first = first - (n_keys - n_queries) // 2
        if self.config.ends == "shifted":
            number = torch.arange(1, n_atom + 1, device=atom_mask.device)
            longest = (atom_mask * number).amax()
            if self.config.n_slots is not None:
                longest = _round_up(longest, self.config.n_slots * self.config.token_multiple)
            last = (_round_up(longest, n_queries) - n_keys).clamp_min(0)
            first = first.clamp_min(0).minimum(last)
        keys = first[:, None] + torch.arange(n_keys, device=atom_mask.device)
        inside = (keys >= 0) & (keys < n_atom)
        keys = keys.clamp(0, n_atom - 1)
        return keys, atom_mask[:, keys] & inside


class WindowPairEmbedding(nn.Module):
    """Atom pairs within windows, from reference positions, conditioning and tokens (Alg. 5)."""

    def __init__(self, c_atom: int, c_atompair: int, c_z: int | None, same_space_only: bool):
        super().__init__()
        self.same_space_only = same_space_only
        self.linear_d = Linear(3, c_atompair)
        self.linear_d_inverse = Linear(1, c_atompair)
        self.linear_same_space = Linear(1, c_atompair)
        self.linear_query = Linear(c_atom, c_atompair)
        self.linear_key = Linear(c_atom, c_atompair)
        self.layer_norm_z = None if c_z is None else LayerNorm(c_z, offset=False)
        self.linear_z = None if c_z is None else Linear(c_z, c_atompair, init="zeros")
        self.mlp = nn.Sequential(
            nn.ReLU(),
            Linear(c_atompair, c_atompair, init="relu"),
            nn.ReLU(),
            Linear(c_atompair, c_atompair, init="relu"),
            nn.ReLU(),
            Linear(c_atompair, c_atompair, init="zeros"),
        )

    def forward(
        self, atoms: AtomContext, n_queries: int, key_index: Int[Tensor, "N_block n_keys"]
    ) -> Float[Tensor, "B N_block n_queries n_keys c_atompair"]:
        """Returns p for all windows."""
        query_index = _query_index(atoms.atom_mask.shape[1], n_queries, key_index.device)

        def pairs(x: Tensor) -> tuple[Tensor, Tensor]:
            return x[:, query_index].unsqueeze(3), x[:, key_index].unsqueeze(2)

        pos_l, pos_m = pairs(atoms.ref_pos)
        space_l, space_m = pairs(atoms.ref_space_uid)
        d = pos_l - pos_m
        v = (space_l == space_m)[..., None].to(d.dtype)
        p = self.linear_d(d) + self.linear_d_inverse(1 / (1 + (d * d).sum(-1, keepdim=True)))
        p = p * v + self.linear_same_space(v)
        if self.linear_z is not None and self.layer_norm_z is not None:
            token_l, token_m = pairs(atoms.atom_to_token)
            batch = torch.arange(p.shape[0], device=p.device)[:, None, None, None]
            p = p + self.linear_z(self.layer_norm_z(atoms.z))[batch, token_l, token_m]
        c_l, c_m = pairs(F.relu(atoms.c))
        p = p + self.linear_query(c_l) + self.linear_key(c_m)
        if self.same_space_only:
            p = p * v
        return p + self.mlp(p)


class AtomTransformerBlock(nn.Module):
    """Windowed attention, then a conditioned transition."""

    def __init__(self, config: LocalWindow.Config, c_atom: int, c_atompair: int):
        super().__init__()
        self.attention = WindowAttention(config, c_atom, c_atompair)
        self.transition = ConditionedTransitionBlock(
            c_atom, c_atom, extra_factor=config.extra_factor
        )

    def forward(
        self,
        q: Float[Tensor, "B *S N_atom c_atom"],
        c: Float[Tensor, "B *#S N_atom c_atom"],
        bias: Float[Tensor, "B N_head N_block n_queries n_keys"],
        key_index: Int[Tensor, "N_block n_keys"],
    ) -> Float[Tensor, "B *S N_atom c_atom"]:
        """Returns the new `q`."""
        q = q + self.attention(q, c, bias, key_index)
        return q + self.transition(q, c)


class WindowAttention(nn.Module):
    """AttentionPairBias (AF3 SI, Algorithm 24) within windows, with AdaLN for the keys."""

    def __init__(self, config: LocalWindow.Config, c_atom: int, c_atompair: int):
        super().__init__()
        if c_atom % config.n_heads:
            raise ValueError(
                f"atom_mixer: c_atom {c_atom} is no multiple of {config.n_heads} heads"
            )
        per_block = config.pair_norm == "per_block"
        self.n_heads = config.n_heads
        self.chained = config.key_adaln == "chained"
        self.adaln_query = AdaLN(c_atom, c_atom)
        self.adaln_key = None if config.key_adaln == "shared" else AdaLN(c_atom, c_atom)
        self.layer_norm_p = LayerNorm(c_atompair, offset=False) if per_block else None
        self.linear_p = Linear(c_atompair, config.n_heads)
        self.linear_q = Linear(c_atom, c_atom, bias=True)
        self.linear_k = Linear(c_atom, c_atom)
        self.linear_v = Linear(c_atom, c_atom)
        self.linear_g = Linear(c_atom, c_atom, init="zeros")
        self.linear_out = Linear(c_atom, c_atom)
        self.linear_gate = Linear(c_atom, c_atom, bias=True, init="zeros", bias_init=-2.0)

    def forward(
        self,
        a: Float[Tensor, "B *S N_atom c_atom"],
        c: Float[Tensor, "B *#S N_atom c_atom"],
        bias: Float[Tensor, "B N_head N_block n_queries n_keys"],
        key_index: Int[Tensor, "N_block n_keys"],
    ) -> Float[Tensor, "B *S N_atom c_atom"]:
        """Returns the update of `a`, conditioned on `c`."""
        queries, keys = self.normalised(a, c)
        q, k, v = self._heads(queries, keys)
        o = window_attention(q, k, v, bias, key_index)
        return torch.sigmoid(self.linear_gate(c)) * self.linear_out(self._gated(o, queries))

    def normalised(
        self,
        a: Float[Tensor, "B *S N_atom c_atom"],
        c: Float[Tensor, "B *#S N_atom c_atom"],
    ) -> tuple[Float[Tensor, "B *S N_atom c_atom"], Float[Tensor, "B *S N_atom c_atom"]]:
        """What queries are made of, and what keys and values are."""
        queries = keys = self.adaln_query(a, c)
        if self.adaln_key is not None:
            keys = self.adaln_key(queries if self.chained else a, c)
        return queries, keys

    def _heads(
        self,
        queries: Float[Tensor, "B *S N_atom c_atom"],
        keys: Float[Tensor, "B *S N_atom c_atom"],
    ) -> Iterator[Float[Tensor, "B *S N_head N_atom c"]]:
        linears = (self.linear_q(queries), self.linear_k(keys), self.linear_v(keys))
        return (x.unflatten(-1, (self.n_heads, -1)).transpose(-2, -3) for x in linears)

    def _gated(
        self,
        o: Float[Tensor, "B *S N_head N_atom c"],
        queries: Float[Tensor, "B *S N_atom c_atom"],
    ) -> Float[Tensor, "B *S N_atom c_atom"]:
        return torch.sigmoid(self.linear_g(queries)) * o.transpose(-2, -3).flatten(-2)


def _query_index(
    n_atom: int, n_queries: int, device: torch.device
) -> Int[Tensor, "N_block n_queries"]:
    """Atoms of every block; the last block repeats the last atom to fill up."""
    n_block = -(-n_atom // n_queries)
    return torch.arange(n_block * n_queries, device=device).clamp_max(n_atom - 1).view(n_block, -1)


def _round_up(n: Int[Tensor, ""], multiple: int) -> Int[Tensor, ""]:
    return torch.div(n + multiple - 1, multiple, rounding_mode="floor") * multiple


def _spread_atoms(atoms: AtomContext, places: Tensor, n_place: int) -> AtomContext:
    """The atoms at their places, with zeros and masked where there is none."""

    def spread(x: Tensor) -> Tensor:
        return _spread(x.unsqueeze(-1), places, n_place).squeeze(-1)

    return replace(
        atoms,
        c=_spread(atoms.c, places, n_place),
        ref_pos=_spread(atoms.ref_pos, places, n_place),
        ref_space_uid=spread(atoms.ref_space_uid),
        atom_to_token=spread(atoms.atom_to_token),
        atom_slot=spread(atoms.atom_slot),
        atom_mask=spread(atoms.atom_mask),
    )


def _spread(x: Tensor, places: Tensor, n_place: int) -> Tensor:
    """Rows of `x` at their places; what belongs to the place after the last is dropped."""
    spread = x.new_zeros(*x.shape[:-2], n_place + 1, x.shape[-1])
    return spread.scatter(-2, _rows(places, x), x)[..., :n_place, :]


def _rows(places: Tensor, x: Tensor) -> Tensor:
    """The index of rows of `x`, as gather and scatter want it."""
    index = places.view(places.shape[0], *[1] * (x.dim() - 3), -1, 1)
    return index.expand(*x.shape[:-2], -1, x.shape[-1])
