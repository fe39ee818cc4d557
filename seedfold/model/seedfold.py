"""SeedFold: the whole network. Source: AF3 SI, Algorithm 1.

`predict` is the main loop: trunk, diffusion sampling, confidence. Its parts are methods of their
own, for training and for those who want the representations.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from seedfold.data_pipeline.features import Features
from seedfold.model.confidence import (
    Confidence,
    ConfidenceHead,
    DistogramHead,
    contact_probs,
)
from seedfold.model.diffusion import DiffusionModule
from seedfold.model.embedding import InputFeatureEmbedder
from seedfold.model.sampler import (
    Draws,
    Guide,
    OnStep,
    SamplerConfig,
    sample_diffusion,
    seeded_generator,
)
from seedfold.model.trunk import Trunk, TrunkState

OnProgress = Callable[[str, int, int], None]
"""Told (stage, steps done, steps in all); stages are "trunk", "diffusion", "confidence"."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One predicted structure of every example: coordinates in Angstrom, and how good they are.

    `contact_probs` is the trunk's opinion, the same for all samples.
    """

    index: int
    x: Float[Tensor, "B 1 N_atom 3"]
    confidence: Confidence
    contact_probs: Float[Tensor, "B N_token N_token"]


class SeedFold(nn.Module):
    """An AlphaFold-3-like network; its members differ in configuration only."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """Widths stand here once and are handed to the parts; `n_cycles` is that of prediction.

        `element_offset` is added to the atomic number to give its class (Protenix: -1).
        """

        c_s: int = 384
        c_z: int = 128
        c_m: int = 64
        c_token: int = 768
        c_token_input: int = 384
        c_atom: int = 128
        c_atompair: int = 16
        n_cycles: int = 10
        element_offset: int = 0
        distogram_bias: bool = False
        embedding: InputFeatureEmbedder.Config = field(default_factory=InputFeatureEmbedder.Config)
        trunk: Trunk.Config = field(default_factory=Trunk.Config)
        diffusion: DiffusionModule.Config = field(default_factory=DiffusionModule.Config)
        sampler: SamplerConfig = field(default_factory=SamplerConfig)
        confidence: ConfidenceHead.Config = field(default_factory=ConfidenceHead.Config)

        @property
        def c_s_inputs(self) -> int:
            """Width of the embedded inputs."""
            return self.c_token_input + self.embedding.n_token_features

    def __init__(self, config: Config):
        super().__init__()
        self.config = c = config
        self.input_embedder = InputFeatureEmbedder(
            c.embedding, c.c_atom, c.c_atompair, c.c_token_input, c.element_offset
        )
        self.trunk = Trunk(c.trunk, c.c_s_inputs, c.c_s, c.c_z, c.c_m)
        self.diffusion_module = DiffusionModule(
            c.diffusion,
            c_s=c.c_s,
            c_z=c.c_z,
            c_s_inputs=c.c_s_inputs,
            c_token=c.c_token,
            c_atom=c.c_atom,
            c_atompair=c.c_atompair,
            element_offset=c.element_offset,
        )
        self.distogram_head = DistogramHead(c.c_z, bias=c.distogram_bias)
        self.confidence_head = ConfidenceHead(c.confidence, c.c_s_inputs, c.c_s, c.c_z)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the parameters, in which the structure module and the heads run."""
        return self.distogram_head.linear.weight.dtype

    def embed(
        self, f: Features, n_cycles: int, generator: torch.Generator | None = None
    ) -> TrunkState:
        """Embeds the inputs and runs the trunk; `generator` draws the MSA rows of every pass."""
        f = f.to(self.dtype)
        return self.trunk(f, self.input_embedder(f), n_cycles, generator)

    def sample(
        self,
        f: Features,
        state: TrunkState,
        *,
        n_samples: int,
        n_steps: int,
        seed: int,
        max_parallel_samples: int | None = None,
        on_step: OnStep | None = None,
        guide: Guide | None = None,
    ) -> Float[Tensor, "B N_sample N_atom 3"]:
        """Samples structures; sample k is the same whatever `n_samples` and the parallelism are."""
        prepared = self.diffusion_module.prepare(f.to(self.dtype), state.s_inputs, state.s, state.z)
        size = max_parallel_samples or n_samples
        starts = range(0, n_samples, size)
        x = []
        for i, start in enumerate(starts):
            indices = range(start, min(start + size, n_samples))
            x.append(
                sample_diffusion(
                    lambda x_noisy, t_hat: self.diffusion_module(x_noisy, t_hat, prepared),
                    f.atom_mask,
                    [[Draws(seed, k) for k in indices] for _ in range(len(f.atom_mask))],
                    self.config.sampler,
                    n_steps,
                    self.dtype,
                    _part_of(on_step, i, len(starts)),
                    guide,
                )
            )
        return torch.cat(x, 1)

    def predict(
        self,
        f: Features,
        *,
        seed: int = 1,
        n_samples: int = 5,
        n_cycles: int | None = None,
        n_steps: int | None = None,
        max_parallel_samples: int | None = None,
        precision: Literal["fp32", "bf16"] = "fp32",
        on_progress: OnProgress | None = None,
        guide: Guide | None = None,
    ) -> Iterator[Sample]:
        """Algorithm 1. Yields the samples one by one, so that logits need not be kept.

        Args:
            f: a batch of examples, padded or not.
            seed: decides everything random.
            n_samples: structures per example.
            n_cycles: passes of the trunk; the configuration's where None.
            n_steps: diffusion steps; the configuration's where None.
            max_parallel_samples: samples denoised at a time, for memory; all where None.
            precision: of the trunk and the confidence Pairformer; the rest runs in `dtype`.
            on_progress: told how far each stage is.
            guide: moves every guess of the structure (`seedfold.model.guidance`).
        """
        n_cycles = n_cycles or self.config.n_cycles
        report = on_progress or (lambda stage, done, total: None)
        autocast = torch.autocast(
            f.restype.device.type, dtype=torch.bfloat16, enabled=precision == "bf16"
        )
        with torch.no_grad():
            with autocast, self._trunk_progress(n_cycles, report):
                state = self.embed(f, n_cycles, seeded_generator(seed, "msa"))
            state = TrunkState(
                s_inputs=state.s_inputs.to(self.dtype),
                s=state.s.to(self.dtype),
                z=state.z.to(self.dtype),
            )
            contacts = contact_probs(self.distogram_head(state.z))
            x = self.sample(
                f,
                state,
                n_samples=n_samples,
                n_steps=n_steps or self.config.sampler.n_steps,
                seed=seed,
                max_parallel_samples=max_parallel_samples,
                on_step=lambda done, total: report("diffusion", done, total),
                guide=guide,
            )
        for k in range(n_samples):
            # Entered for every sample, so that the caller's grad mode is its own in between.
            with torch.no_grad(), autocast:
                confidence = self.confidence_head(f, state, x[:, k : k + 1])
            report("confidence", k + 1, n_samples)
            yield Sample(index=k, x=x[:, k : k + 1], confidence=confidence, contact_probs=contacts)

    @contextmanager
    def _trunk_progress(self, n_cycles: int, on_progress: OnProgress) -> Iterator[None]:
        """Reports every Pairformer block of every pass, from outside the forward."""
        blocks = self.trunk.pairformer.blocks
        done = 0

        def count(*_: object) -> None:
            nonlocal done
            done += 1
            on_progress("trunk", done, n_cycles * len(blocks))

        hooks = [block.register_forward_hook(count) for block in blocks]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


def _part_of(on_step: OnStep | None, i: int, n: int) -> OnStep | None:
    """Progress of batch `i` of `n` as part of the whole."""
    if on_step is None:
        return None
    return lambda done, total: on_step(i * total + done, n * total)
