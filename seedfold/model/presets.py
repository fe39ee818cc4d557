"""The named configurations: SeedFold's rows, and the public networks whose weights can be loaded.

`seedfold_*` follow the paper's table (arXiv 2512.24354): widths c_z and c_m = c_z / 2, depths, and
the gated linear attention. What the paper does not say is inferred: AlphaFold 3's values, hidden
widths that scale with c_z, and a diffusion transformer with 2 c_s wide conditioning and four-matrix
transitions, without which the published parameter counts cannot be met (docs/model.md).
"""

from collections.abc import Callable, Mapping
from typing import Any

from seedfold.model.atom_mixer import LocalVectors, LocalWindow
from seedfold.model.confidence import ConfidenceHead
from seedfold.model.diffusion import (
    DiffusionConditioning,
    DiffusionModule,
    DiffusionTransformer,
)
from seedfold.model.embedding import InputFeatureEmbedder
from seedfold.model.msa import MSAModule
from seedfold.model.pairformer import PairBlock, PairformerStack
from seedfold.model.sampler import SamplerConfig
from seedfold.model.seedfold import SeedFold
from seedfold.model.template import TemplateEmbedder
from seedfold.model.triangle import (
    AdditiveTriangleAttention,
    GatedTriangleAttention,
    TriangleAttention,
)
from seedfold.model.trunk import Trunk


def seedfold(
    c_z: int,
    *,
    pairformer_blocks: int = 48,
    token_blocks: int = 24,
    triangle_attention: Any = None,
) -> SeedFold.Config:
    """A row of SeedFold's table: pair width, depths, and the triangle attention of every stack."""
    attention = triangle_attention or TriangleAttention.Config()
    pair = PairBlock.Config(triangle_attention=attention)
    return SeedFold.Config(
        c_z=c_z,
        c_m=c_z // 2,
        trunk=Trunk.Config(
            template=TemplateEmbedder.Config(
                c=c_z // 2, pair=PairBlock.Config(triangle_attention=attention, transition_n=2)
            ),
            msa=MSAModule.Config(pair=pair),
            pairformer=PairformerStack.Config(n_blocks=pairformer_blocks, pair=pair),
        ),
        diffusion=DiffusionModule.Config(
            conditioning=DiffusionConditioning.Config(c_cond=768),
            transformer=DiffusionTransformer.Config(n_blocks=token_blocks, extra_factor=True),
        ),
        confidence=ConfidenceHead.Config(
            pairformer=PairformerStack.Config(n_blocks=4, pair=pair), s_norm=True
        ),
    )


def nano() -> SeedFold.Config:
    """A SeedFold-Linear that folds in seconds on a laptop; the default of `seedfold predict`.

    Its atoms carry vectors, which SeedFold's do not: few examples have to teach it geometry. What
    they do not teach, guidance makes good.
    """
    return _small(
        c_s=128,
        c_z=64,
        c_token=256,
        c_atom=64,
        c_head=32,
        pairformer_blocks=2,
        token_blocks=4,
        template_blocks=0,
        n_msa=128,
        n_cycles=1,
        atom_mixer=LocalVectors.Config(),
        n_decoder_blocks=2,
        step_scale=2.0,
        guided=True,
    )


def pico() -> SeedFold.Config:
    """The smallest network with all parts: for tests, and to learn one structure by heart."""
    return _small(
        c_s=64,
        c_z=32,
        c_token=128,
        c_atom=32,
        c_head=16,
        pairformer_blocks=2,
        token_blocks=4,
        template_blocks=1,
        n_msa=32,
        n_cycles=2,
        atom_mixer=LocalWindow.Config(n_heads=2),
        n_decoder_blocks=1,
    )


def _small(
    *,
    c_s: int,
    c_z: int,
    c_token: int,
    c_atom: int,
    c_head: int,
    pairformer_blocks: int,
    token_blocks: int,
    template_blocks: int,
    n_msa: int,
    n_cycles: int,
    atom_mixer: LocalWindow.Config,
    n_decoder_blocks: int,
    step_scale: float = 1.5,
    guided: bool = False,
) -> SeedFold.Config:
    attention = GatedTriangleAttention.Config(c_head=c_head)
    pair = PairBlock.Config(triangle_attention=attention)
    template_pair = PairBlock.Config(triangle_attention=attention, transition_n=2)
    return SeedFold.Config(
        c_s=c_s,
        c_z=c_z,
        c_m=c_z // 2,
        c_token=c_token,
        c_token_input=c_s,
        c_atom=c_atom,
        n_cycles=n_cycles,
        embedding=InputFeatureEmbedder.Config(atom_mixer=LocalWindow.Config(n_heads=2), n_blocks=1),
        trunk=Trunk.Config(
            template=TemplateEmbedder.Config(
                n_blocks=template_blocks, c=c_z // 2, pair=template_pair
            ),
            msa=MSAModule.Config(n_blocks=1, n_msa=n_msa, c_hidden_opm=16, n_heads=4, pair=pair),
            pairformer=PairformerStack.Config(n_blocks=pairformer_blocks, n_heads=8, pair=pair),
        ),
        diffusion=DiffusionModule.Config(
            conditioning=DiffusionConditioning.Config(c_cond=c_s, c_noise=64),
            transformer=DiffusionTransformer.Config(
                n_blocks=token_blocks, n_heads=8, extra_factor=True
            ),
            atom_mixer=atom_mixer,
            n_encoder_blocks=1,
            n_decoder_blocks=n_decoder_blocks,
        ),
        sampler=SamplerConfig(n_steps=50, step_scale=step_scale, guided=guided),
        confidence=ConfidenceHead.Config(
            pairformer=PairformerStack.Config(n_blocks=1, n_heads=8, pair=pair), s_norm=True
        ),
    )


def protenix(
    *,
    c_z: int = 128,
    c_s: int = 384,
    c_m: int = 64,
    c_token_input: int = 384,
    c_token_diffusion: int = 768,
    c_atom: int = 128,
    c_atompair: int = 16,
    pairformer_blocks: int = 48,
    pairformer_heads: int = 16,
    msa_blocks: int = 4,
    template_blocks: int = 2,
    template_c: int = 64,
    hidden_scale_up: bool = False,
    input_atom_encoder_blocks: int = 3,
    input_atom_heads: int = 4,
    atom_encoder_blocks: int = 3,
    atom_decoder_blocks: int = 3,
    atom_heads: int = 4,
    diffusion_transformer_blocks: int = 24,
    diffusion_transformer_heads: int = 16,
    confidence_blocks: int = 4,
    confidence_heads: int = 16,
    max_atoms_per_token: int = 24,
    n_cycles: int = 10,
    sampler: SamplerConfig | None = None,
) -> SeedFold.Config:
    """A network of bytedance/Protenix, v1 by default; the names are those of its configuration.

    Without `hidden_scale_up` the triangle operations keep 4 heads of 32 and 128 hidden channels
    whatever the pair width is. No option of Protenix changes the numbers of heads of the confidence
    head and of the input embedder.
    """

    def pair(width: int, n: int = 4) -> PairBlock.Config:
        return PairBlock.Config(
            triangle_attention=TriangleAttention.Config(n_heads=None if hidden_scale_up else 4),
            c_hidden_mul=width if hidden_scale_up else 128,
            transition_n=n,
        )

    def pairformer(n_blocks: int, n_heads: int) -> PairformerStack.Config:
        return PairformerStack.Config(n_blocks=n_blocks, n_heads=n_heads, pair=pair(c_z))

    def mixer(n_heads: int) -> LocalWindow.Config:
        return LocalWindow.Config(n_heads=n_heads, key_adaln="chained", pair_norm="per_block")

    return SeedFold.Config(
        c_s=c_s,
        c_z=c_z,
        c_m=c_m,
        c_token=c_token_diffusion,
        c_token_input=c_token_input,
        c_atom=c_atom,
        c_atompair=c_atompair,
        n_cycles=n_cycles,
        element_offset=-1,
        distogram_bias=True,
        embedding=InputFeatureEmbedder.Config(
            atom_mixer=mixer(input_atom_heads), n_blocks=input_atom_encoder_blocks
        ),
        trunk=Trunk.Config(
            z_init_from="s_init",
            template=TemplateEmbedder.Config(
                n_blocks=template_blocks, c=template_c, pair=pair(template_c, n=2)
            ),
            msa=MSAModule.Config(n_blocks=msa_blocks, c_head=8, pair=pair(c_z)),
            pairformer=pairformer(pairformer_blocks, pairformer_heads),
        ),
        diffusion=DiffusionModule.Config(
            conditioning=DiffusionConditioning.Config(c_cond=c_s, relative_positions="encoded"),
            transformer=DiffusionTransformer.Config(
                n_blocks=diffusion_transformer_blocks,
                n_heads=diffusion_transformer_heads,
                pair_norm="per_block",
            ),
            atom_mixer=mixer(atom_heads),
            n_encoder_blocks=atom_encoder_blocks,
            n_decoder_blocks=atom_decoder_blocks,
        ),
        sampler=sampler or SamplerConfig(end_at_zero=True),
        confidence=ConfidenceHead.Config(
            pairformer=pairformer(confidence_blocks, confidence_heads),
            s_norm=True,
            raw_distance=True,
            n_slots=max_atoms_per_token,
        ),
    )


def _protenix_small(pairformer_blocks: int) -> SeedFold.Config:
    """Protenix mini and tiny, v0.5: few steps of a plain Euler sampler."""
    return protenix(
        pairformer_blocks=pairformer_blocks,
        msa_blocks=1,
        template_blocks=0,
        atom_encoder_blocks=1,
        atom_decoder_blocks=1,
        diffusion_transformer_blocks=8,
        n_cycles=4,
        sampler=SamplerConfig(n_steps=5, gamma_0=0.0, step_scale=1.0, end_at_zero=True),
    )


PRESETS: Mapping[str, Callable[[], SeedFold.Config]] = {
    "nano": nano,
    "pico": pico,
    "seedfold_128": lambda: seedfold(128),
    "seedfold_256": lambda: seedfold(256),
    "seedfold_512": lambda: seedfold(512),
    "seedfold_deep_pairformer": lambda: seedfold(128, pairformer_blocks=96),
    "seedfold_deep_structure": lambda: seedfold(128, token_blocks=48),
    "seedfold_linear_384": lambda: seedfold(
        384, triangle_attention=GatedTriangleAttention.Config()
    ),
    "seedfold_linear_128": lambda: seedfold(
        128, triangle_attention=GatedTriangleAttention.Config()
    ),
    "seedfold_additive_128": lambda: seedfold(
        128, triangle_attention=AdditiveTriangleAttention.Config()
    ),
    "protenix_v1": protenix,
    "protenix_v2": lambda: protenix(c_z=256, c_m=128, hidden_scale_up=True),
    "protenix_v0.5": lambda: protenix(template_blocks=0),
    "protenix_mini_v0.5": lambda: _protenix_small(16),
    "protenix_tiny_v0.5": lambda: _protenix_small(8),
}
"""Name -> configuration."""
