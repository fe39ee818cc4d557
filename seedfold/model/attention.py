"""Attention with pair bias over tokens. Source: AF3 SI, Algorithm 24."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seedfold.kernels import pair_bias_attention
from seedfold.model.primitives import AdaLN, LayerNorm, Linear


class AttentionPairBias(nn.Module):
    """Gated multi-head attention over tokens, its logits biased by the pair representation.

    With `c_s` the input is normalised by AdaLN and the output gated by `s` (diffusion
    transformer); without, by a plain LayerNorm (Pairformer). The bias is an argument, made by
    `pair_bias`, because the diffusion transformer uses the same one at every step and for every
    sample. `pair_norm=False` leaves the normalisation of `z` to the caller, for stacks whose
    blocks share one LayerNorm.
    """

    def __init__(
        self,
        c_a: int,
        c_z: int,
        n_heads: int,
        c_s: int | None = None,
        pair_norm: bool = True,
    ):
        super().__init__()
        if c_a % n_heads:
            raise ValueError(f"AttentionPairBias: width {c_a} is no multiple of {n_heads} heads")
        self.n_heads = n_heads
        self.norm_a = LayerNorm(c_a) if c_s is None else AdaLN(c_a, c_s)
        # Weight only in the diffusion transformer, as in all of its norms.
        self.layer_norm_z = LayerNorm(c_z, offset=c_s is None) if pair_norm else None
        self.linear_z = Linear(c_z, n_heads)
        self.linear_q = Linear(c_a, c_a, bias=True)
        self.linear_k = Linear(c_a, c_a)
        self.linear_v = Linear(c_a, c_a)
        self.linear_g = Linear(c_a, c_a, init="zeros")
        self.linear_out = Linear(c_a, c_a, init="zeros" if c_s is None else "default")
        self.linear_s = (
            None if c_s is None else Linear(c_s, c_a, bias=True, init="zeros", bias_init=-2.0)
        )

    def pair_bias(
        self,
        z: Float[Tensor, "B N_token N_token c_z"],
        mask: Bool[Tensor, "B N_token"],
    ) -> Float[Tensor, "B N_head N_token N_token"]:
        """Attention logits from `z`, with masked keys at -1e9."""
        if self.layer_norm_z is not None:
            z = self.layer_norm_z(z)
        bias = self.linear_z(z).permute(0, 3, 1, 2)
        return bias.masked_fill(~mask[:, None, None, :], -1e9)

    def forward(
        self,
        a: Float[Tensor, "B *S N_token c_a"],
        bias: Float[Tensor, "B N_head N_token N_token"],
        s: Float[Tensor, "B *#S N_token c_s"] | None = None,
    ) -> Float[Tensor, "B *S N_token c_a"]:
        """Returns the update of `a`; `*S` is an optional axis of samples that share the bias."""
        a = self.norm_a(a) if s is None else self.norm_a(a, s)
        q, k, v = (
            x.unflatten(-1, (self.n_heads, -1)).transpose(-2, -3)
            for x in (self.linear_q(a), self.linear_k(a), self.linear_v(a))
        )  # [B *S N_head N_token c]
        o = pair_bias_attention(q, k, v, bias).transpose(-2, -3).flatten(-2)
        o = self.linear_out(torch.sigmoid(self.linear_g(a)) * o)
        return o if s is None or self.linear_s is None else torch.sigmoid(self.linear_s(s)) * o


def pair_biases(
    z: Float[Tensor, "B *P c_z"], norms: Sequence[LayerNorm], linears: Sequence[Linear]
) -> Float[Tensor, "B n_blocks N_head *P"]:
    """Pair biases of a whole stack of blocks: ``linears[n](norms[n](z))`` for every block n.

    The norms have no offset, so their scale folds into the projection: `z` is normalised once and
    projected for all blocks in one product.
    """
    assert all(norm.bias is None for norm in norms)
    weight = torch.cat(
        [linear.weight * norm.weight for norm, linear in zip(norms, linears, strict=True)]
    )
    z_hat = F.layer_norm(z, z.shape[-1:], eps=norms[0].eps)
    bias = weight @ z_hat.flatten(1, -2).mT  # [B, n_blocks N_head, P]
    return bias.unflatten(-1, z.shape[1:-1]).unflatten(1, (len(norms), -1))
