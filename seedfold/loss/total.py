"""FoldingLoss: the weighted sum of all terms, each returned by name. Source: AF3 SI, equation 15.

Everything is reduced within an example first; a batch is the mean of its examples, so neither
padding nor who shares a batch or a device with whom changes what an example is worth. A term that
an example has nothing for (no bonds, no resolved atoms, the confidence of a structure without
resolution) is 0 there, with a gradient of 0.

Deviations: see `seedfold.loss.diffusion` and `seedfold.loss.confidence`.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seedfold.data_pipeline.features import Features
from seedfold.loss.confidence import (
    distogram_loss,
    pae_loss,
    pde_loss,
    plddt_loss,
    resolved_loss,
)
from seedfold.loss.diffusion import (
    Truth,
    bond_loss,
    chirality_loss,
    is_kind,
    noise_weight,
    of_atoms,
    smooth_lddt_loss,
    weighted_mse,
)
from seedfold.model.confidence import Confidence


@dataclass(frozen=True, kw_only=True)
class FoldingOutputs:
    """What the network made of a batch, in fp32 at least; None = not computed in this step.

    `x_rollout` are the sampled structures that `confidence` judges.
    """

    distogram: Float[Tensor, "B N_token N_token 64"] | None = None
    x_denoised: Float[Tensor, "B N_sample N_atom 3"] | None = None
    t_hat: Float[Tensor, " B #N_sample"] | None = None
    x_rollout: Float[Tensor, "B N_rollout N_atom 3"] | None = None
    confidence: Confidence | None = None


class FoldingLoss(nn.Module):
    """The weighted sum of the terms, of whatever was computed."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        """AF3's weights of its first stage.

        Later: `alpha_bond` 1 in fine-tuning, `alpha_pae` 1 in the last stage; Protenix and
        OpenFold3 fine-tune with `alpha_smooth_lddt` 0. `alpha_dna`, `alpha_rna` and `alpha_ligand`
        add to the weight 1 of an atom in the MSE. `alpha_chirality` is the weight of a term that
        AF3 does not have; where it is 0 the term is not computed. Confidence is learnt where the
        resolution is `min_resolution` to `max_resolution` Angstrom: not from predicted structures,
        which have 0.
        """

        alpha_confidence: float = 1e-4
        alpha_diffusion: float = 4.0
        alpha_distogram: float = 3e-2
        alpha_pae: float = 0.0
        alpha_bond: float = 0.0
        alpha_smooth_lddt: float = 1.0
        alpha_chirality: float = 0.0
        alpha_dna: float = 5.0
        alpha_rna: float = 5.0
        alpha_ligand: float = 10.0
        min_resolution: float = 0.1
        max_resolution: float = 4.0

    def __init__(self, config: Config):
        super().__init__()
        self.config = config

    def forward(
        self,
        outputs: FoldingOutputs,
        f: Features,
        truth: Truth | None = None,
        rollout_truth: Truth | None = None,
    ) -> dict[str, Float[Tensor, ""]]:
        """The mean over the batch of every term, of their sums, and `total`; see `terms`."""
        terms = self.terms(outputs, f, truth, rollout_truth)
        return {name: values.mean() for name, values in terms.items()}

    def terms(
        self,
        outputs: FoldingOutputs,
        f: Features,
        truth: Truth | None = None,
        rollout_truth: Truth | None = None,
    ) -> dict[str, Float[Tensor, " B"]]:
        """Every term of every example.

        `mse`, `bond`, `smooth_lddt` and, if it counts, `chirality` make `diffusion`; `plddt`,
        `pde`, `resolved`, `pae` make `confidence`; these two and `distogram` make `total`. A term
        is as it enters its sum, but for its own alpha: `mse` and `bond` are weighted by the noise
        level.

        Args:
            outputs: of the network.
            f: the batch; its labels are the truth where none is given.
            truth: that of `x_denoised` and the distogram.
            rollout_truth: that of `x_rollout`; `truth` where None.
        """
        if truth is None:
            assert f.labels is not None, "a loss needs labels"
            truth = Truth.of(f.labels, f.atom_mask)
        c = self.config
        with torch.autocast(truth.x.device.type, enabled=False):
            diffusion = self._diffusion(outputs, f, truth)
            confidence = self._confidence(outputs, f, rollout_truth or truth)
            distogram: dict[str, Tensor] = {}
            if outputs.distogram is not None:
                distogram["distogram"] = distogram_loss(outputs.distogram, truth, f).mean(1)
        total = (
            c.alpha_diffusion * diffusion.get("diffusion", 0)
            + c.alpha_confidence * confidence.get("confidence", 0)
            + c.alpha_distogram * distogram.get("distogram", 0)
        )
        assert isinstance(total, Tensor), "nothing was computed"
        return {**diffusion, **confidence, **distogram, "total": total}

    def _diffusion(self, outputs: FoldingOutputs, f: Features, truth: Truth) -> dict[str, Tensor]:
        x, c = outputs.x_denoised, self.config
        if x is None:
            return {}
        assert outputs.t_hat is not None, "x_denoised without its noise levels"
        _check_fits(truth, x)
        noise = noise_weight(outputs.t_hat)
        # A term that counts for nothing is still reported; its gradient need not be made.
        x_lddt = x if c.alpha_smooth_lddt else x.detach()
        terms = {
            "mse": noise * weighted_mse(x, truth, self._atom_weight(f).to(x.dtype)),
            "bond": noise * bond_loss(x, truth, f),
            "smooth_lddt": smooth_lddt_loss(x_lddt, truth, of_atoms(is_kind(f, "dna", "rna"), f)),
        }
        if c.alpha_chirality:
            terms["chirality"] = chirality_loss(x, truth)
        terms = {name: values.mean(1) for name, values in terms.items()}
        terms["diffusion"] = (
            terms["mse"] + c.alpha_bond * terms["bond"] + c.alpha_smooth_lddt * terms["smooth_lddt"]
        )
        if c.alpha_chirality:
            terms["diffusion"] = terms["diffusion"] + c.alpha_chirality * terms["chirality"]
        return terms

    def _confidence(self, outputs: FoldingOutputs, f: Features, truth: Truth) -> dict[str, Tensor]:
        logits, x, c = outputs.confidence, outputs.x_rollout, self.config
        if logits is None:
            return {}
        assert x is not None, "confidence without the structures that it judges"
        _check_fits(truth, x)
        terms = {
            "plddt": plddt_loss(logits.plddt, x, truth, f),
            "pde": pde_loss(logits.pde, x, truth, f),
            "resolved": resolved_loss(logits.resolved, truth, f.atom_mask),
            "pae": pae_loss(logits.pae, x, truth, f),
        }
        learnt = self._confidence_is_learnt(f)
        terms = {name: values.mean(1) * learnt for name, values in terms.items()}
        terms["confidence"] = (
            terms["plddt"] + terms["pde"] + terms["resolved"] + c.alpha_pae * terms["pae"]
        )
        return terms

    def _atom_weight(self, f: Features) -> Float[Tensor, "B N_atom"]:
        """Weight of an atom in the MSE. AF3 SI, equation 4."""
        c = self.config
        weight = (
            1
            + c.alpha_dna * is_kind(f, "dna")
            + c.alpha_rna * is_kind(f, "rna")
            + c.alpha_ligand * is_kind(f, "ligand")
        )
        return of_atoms(weight, f)

    def _confidence_is_learnt(self, f: Features) -> Bool[Tensor, " B"]:
        assert f.labels is not None, "the resolution rule needs labels"
        resolution = f.labels.resolution
        return (resolution >= self.config.min_resolution) & (
            resolution <= self.config.max_resolution
        )


def _check_fits(truth: Truth, x: Float[Tensor, "B N_sample N_atom 3"]) -> None:
    n = truth.x.shape[1]
    assert n in (1, x.shape[1]), f"{n} truths for {x.shape[1]} samples; expected 1 or as many"
