"""FoldingModule: one training step, as Lightning runs it.

Source: AF3 SI 3.7.1 (noise), 4 (losses), 5.1 and Figure 2c: the trunk once, then a batch of noised
copies, and a mini-rollout for confidence, by which equal chains and atoms are named.

What was computed is left in `FoldingModule.terms` (means of the batch by name) and
`FoldingModule.totals` (the loss of every example by its name, "source/id").

Deviations: SeedFold's batch of copies is 64, then 32 (AF3: 48). All that is random in a step is
drawn from the seeds of its examples, so that a resumed run goes on as if never stopped. An atom
that is not resolved is noised around the centre. A step whose gradient is not finite changes
nothing, neither weights nor moments nor the average, and is counted. Where the confidence head is
trained alone, the rest is the averaged network without dropout: what prediction will judge.
"""

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

import lightning
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from seedfold.data_pipeline.errors import InputError
from seedfold.data_pipeline.features import Features, Labels
from seedfold.geometry import centre_and_move, lddt, masked_mean, random_rotation
from seedfold.loss import FoldingLoss, FoldingOutputs, Truth
from seedfold.loss.diffusion import weighted_mse
from seedfold.loss.symmetry import assign
from seedfold.model.diffusion import SIGMA_DATA
from seedfold.model.sampler import seeded_generator
from seedfold.model.seedfold import SeedFold
from seedfold.model.trunk import TrunkState
from seedfold.train.data import Batch
from seedfold.train.optim import Ema, OptimConfig, learning_rate, make_optimizer

HIGH_NOISE = (40.0, 640.0)
"""Noise levels from which `StageConfig.high_noise` draws evenly in their logarithm, Angstrom."""


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What a step computes.

    `train`: the whole network, or the confidence head alone (AF3's last stage), of which
    `loss.alpha_pae` is 1. `n_cycles`: most passes of the trunk; the number is drawn for each step.
    `n_copies`: noised copies of each example. `rollout_steps`: of the mini-rollout; with 0 there is
    none, nor a loss of confidence, and equal chains and atoms keep their names, since nothing else
    that is predicted is free of them: a noised copy shows which names it was given. `precision`: of
    the trunk and the Pairformer of the confidence head; structure module, logits and losses are
    fp32. `msa_dropout`: how often an example has no alignment. SeedFold's "msa_dropout 0.10" means
    this or the dropout of the MSA module's rows, `model.trunk.msa.dropout` (AF3: 0.15); nobody
    knows. `noise_mean`, `noise_std`: of the logarithm of the noise level, in units of SIGMA_DATA.
    `high_noise`: share of the copies whose level is drawn from `HIGH_NOISE` instead. There sampling
    decides between a structure and its mirror image, and AF3 goes there with one copy in thirteen.
    What a network learns first is linear in the coordinates and fits either hand; a network that is
    trained briefly has to see more of what tells them apart.
    """

    train: Literal["all", "confidence"] = "all"
    n_cycles: int = 4
    n_copies: int = 64
    rollout_steps: int = 20
    precision: Literal["fp32", "bf16"] = "fp32"
    msa_dropout: float = 0.0
    noise_mean: float = -1.2
    noise_std: float = 1.5
    high_noise: float = 0.0
    loss: FoldingLoss.Config = field(default_factory=FoldingLoss.Config)


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """All-atom lDDT of predicted structures, 0 to 1, and which of them are mirror images."""

    lddt: tuple[float, ...]
    mirrored: tuple[bool, ...]


class FoldingModule(lightning.LightningModule):
    """Trains a network.

    Args:
        model: Of the network, whose weights are drawn from torch's generator.
        stage: What a step computes.
        optim: How the weights change.
    """

    def __init__(self, model: SeedFold.Config, stage: StageConfig, optim: OptimConfig):
        super().__init__()
        self.head_alone = stage.train == "confidence"
        if self.head_alone and not stage.rollout_steps:
            found = "'confidence' with stage.rollout_steps=0"
            raise InputError("stage.train", found, expected="1 or more")
        if not 0 <= stage.high_noise <= 1:
            found = str(stage.high_noise)
            raise InputError("stage.high_noise", found, expected="a share of the copies, 0 to 1")
        for name, value in vars(stage.loss).items():
            if not 0 <= value < math.inf:
                expected = "a finite number, 0 or more"
                raise InputError(f"stage.loss.{name}", str(value), expected=expected)
        self.stage, self.optim = stage, optim
        self.network = SeedFold(model)
        self.loss = FoldingLoss(stage.loss)
        self.ema = Ema(self.network, optim.ema_decay)
        self.n_skipped = 0
        self.terms: dict[str, float] = {}
        self.totals: dict[str, float] = {}
        if self.head_alone:
            for part in self._frozen():
                part.requires_grad_(False)

    def _frozen(self) -> list[nn.Module]:
        """The parts that are not trained with the confidence head."""
        head = self.network.confidence_head
        return [part for part in self.network.children() if part is not head]

    def on_train_start(self) -> None:
        """What is frozen is the average; its further averages are then the same."""
        if self.head_alone:
            with torch.no_grad():
                for name, weight in self.network.named_parameters():
                    if not weight.requires_grad:
                        weight.copy_(self.ema.weights[name])

    def training_step(self, batch: Batch, _index: int) -> Float[Tensor, ""]:
        """The loss of a batch; see `terms` and `totals` for its parts."""
        # Dropout draws from torch's own generators.
        torch.manual_seed(seeded_generator(batch.seed, "dropout").initial_seed())
        if self.head_alone:
            for part in self._frozen():
                part.eval()
        outputs, labels = self.outputs(batch)
        terms = self.loss.terms(outputs, batch.f, Truth.of(labels, batch.f.atom_mask))
        means = {name: values.mean() for name, values in terms.items()}
        # Numbers are fetched at once: each time, a GPU is waited for.
        numbers = torch.cat([torch.stack(list(means.values())), terms["total"]]).detach().tolist()
        self.terms = dict(zip(means, numbers[: len(means)], strict=True))
        self.totals = dict(zip(batch.names, numbers[len(means) :], strict=True))
        return means["total"]

    def outputs(self, batch: Batch) -> tuple[FoldingOutputs, Labels]:
        """What the network makes of a batch, and its labels in the names that fit it best."""
        c, f = self.stage, batch.f
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.head_alone):
            state = self._trunk(batch)
        labels, rollout, confidence = _labels(f), None, None
        if c.rollout_steps:
            rollout, labels = self._rolled_out(batch, state)
            with self._autocast(f):
                confidence = self.network.confidence_head(f, state, rollout)
        if self.head_alone:
            return FoldingOutputs(x_rollout=rollout, confidence=confidence), labels
        levels = noise_levels(c, batch.seeds).to(labels.x)
        x_noisy = noised_copies(f, labels, batch.seeds, levels)
        diffusion = self.network.diffusion_module
        prepared = diffusion.prepare(f, state.s_inputs, state.s, state.z)
        outputs = FoldingOutputs(
            distogram=self.network.distogram_head(state.z),
            x_denoised=diffusion(x_noisy, levels, prepared),
            t_hat=levels,
            x_rollout=rollout,
            confidence=confidence,
        )
        return outputs, labels

    def _autocast(self, f: Features) -> torch.autocast:
        device = f.restype.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.stage.precision == "bf16")

    def _trunk(self, batch: Batch) -> TrunkState:
        c, f = self.stage, batch.f
        generator = seeded_generator(batch.seed, "trunk")
        # The same on all ranks, of which none then waits for another's longer way.
        drawn = seeded_generator(batch.step, "trunk passes")
        n_cycles = int(torch.randint(1, c.n_cycles + 1, (), generator=drawn))
        if c.msa_dropout:
            f = without_alignments(f, batch.seeds, c.msa_dropout)
        with self._autocast(f):
            state = self.network.embed(f, n_cycles, generator)
        return TrunkState(s_inputs=state.s_inputs.float(), s=state.s.float(), z=state.z.float())

    @torch.no_grad()
    def _rolled_out(self, batch: Batch, state: TrunkState) -> tuple[Tensor, Labels]:
        """A quickly sampled structure of every example, and the labels named after it."""
        n_steps = self.stage.rollout_steps
        x = self.network.sample(batch.f, state, n_samples=1, n_steps=n_steps, seed=batch.seed)
        rows = []
        for b, found in enumerate(batch.symmetries):
            own = _labels(batch.f).map(lambda tensor, b=b: tensor[b])
            rows.append(assign(x[b, 0], own, found))
        names = [field.name for field in dataclasses.fields(Labels)]
        return x, Labels(**{n: torch.stack([getattr(row, n) for row in rows]) for n in names})

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW over all weights."""
        return make_optimizer(self.optim, self.network.parameters())

    def configure_gradient_clipping(self, optimizer: Any, *_args: Any, **_kwargs: Any) -> None:
        """Clips the norm of the whole gradient, or drops a gradient that is not finite."""
        weights = self.network.parameters()
        norm = float(nn.utils.clip_grad_norm_(weights, self.optim.clip_norm, foreach=True))
        self.terms["gradient_norm"] = norm
        # The same on all ranks: gradients were summed over them before.
        if not math.isfinite(norm):
            self.n_skipped += 1
            optimizer.zero_grad(set_to_none=True)

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None
    ) -> None:
        """A step at the learning rate of its number; the average follows if there was one."""
        rate = learning_rate(self.optim, self.trainer.global_step, int(self.trainer.max_steps))
        for group in optimizer.param_groups:
            group["lr"] = rate
        skipped = self.n_skipped
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if self.n_skipped == skipped:
            self.ema.update(self.network)
        self.terms |= {"learning_rate": rate, "skipped": self.n_skipped}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds what is not a weight."""
        checkpoint["seedfold"] = {"ema": self.ema.state_dict(), "skipped": self.n_skipped}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """The inverse."""
        self.ema.load_state_dict(checkpoint["seedfold"]["ema"])
        self.n_skipped = checkpoint["seedfold"]["skipped"]

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Moves the features; symmetries are searched on the CPU."""
        return dataclasses.replace(batch, f=batch.f.to(device))

    @torch.no_grad()
    def sampled(self, f: Features, *, n_samples: int, seed: int) -> "Sampled":
        """How good structures are that the averaged network predicts for a batch."""
        was_training = self.network.training
        self.network.eval()
        try:
            with self.ema.applied(self.network):
                samples = self.network.predict(f, n_samples=n_samples, seed=seed)
                x = torch.cat([sample.x for sample in samples], 1)
        finally:
            self.network.train(was_training)
        truth = Truth.of(_labels(f), f.atom_mask)
        return Sampled(
            lddt=tuple(mean_lddt(x, truth).flatten().tolist()),
            mirrored=tuple(mirrored(x, truth).flatten().tolist()),
        )


def without_alignments(f: Features, seeds: tuple[int, ...], share: float) -> Features:
    """The features with every example's alignment dropped at a probability of `share`.

    Nothing is left of it but the first row, of which the profile is then made.
    """
    drawn = [torch.rand((), generator=seeded_generator(seed, "msa dropout")) for seed in seeds]
    dropped = (torch.stack(drawn) < share).to(f.restype.device)
    first = torch.arange(f.msa.shape[1], device=f.msa.device) == 0
    alone = F.one_hot(f.msa[:, 0].long(), f.profile.shape[-1]) * f.token_mask[..., None]
    return dataclasses.replace(
        f,
        msa_mask=f.msa_mask & (first | ~dropped[:, None])[..., None],
        profile=torch.where(dropped[:, None, None], alone.to(f.profile), f.profile),
        deletion_mean=f.deletion_mean.masked_fill(dropped[:, None], 0.0),
    )


def noise_levels(stage: StageConfig, seeds: tuple[int, ...]) -> Float[Tensor, "B N_sample"]:
    """Noise levels of the copies of every example, Angstrom. AF3 SI 3.7.1."""
    rows = [
        torch.randn(stage.n_copies, generator=seeded_generator(seed, "noise level"))
        for seed in seeds
    ]
    levels = SIGMA_DATA * torch.exp(stage.noise_mean + stage.noise_std * torch.stack(rows))
    if stage.high_noise:
        drawn = [
            torch.rand(2, stage.n_copies, generator=seeded_generator(seed, "high noise"))
            for seed in seeds
        ]
        which, at = torch.stack(drawn, 1)
        lowest, highest = HIGH_NOISE
        high = lowest * (highest / lowest) ** at
        levels = torch.where(which < stage.high_noise, high, levels)
    return levels


def noised_copies(
    f: Features,
    labels: Labels,
    seeds: tuple[int, ...],
    t_hat: Float[Tensor, "B N_sample"],
) -> Float[Tensor, "B N_sample N_atom 3"]:
    """Copies of the truth, each turned, moved and noised on its own.

    What an example gets depends on its seed and its real atoms, not on who shares the batch.
    """
    n_copies = t_hat.shape[1]
    rotation = torch.zeros(len(seeds), n_copies, 3, 3)
    shift = torch.zeros(len(seeds), n_copies, 3)
    noise = torch.zeros(len(seeds), n_copies, f.n_atom, 3)
    for b, (seed, n_real) in enumerate(zip(seeds, f.atom_mask.sum(-1).tolist(), strict=True)):
        generator = seeded_generator(seed, "noise")
        rotation[b] = random_rotation(n_copies, generator=generator)
        shift[b] = torch.randn(n_copies, 3, generator=generator)
        noise[b, :, :n_real] = torch.randn(n_copies, n_real, 3, generator=generator)
    rotation, shift, noise = (tensor.to(labels.x) for tensor in (rotation, shift, noise))
    known = labels.resolved & f.atom_mask
    centre = masked_mean(labels.x, known.to(labels.x))
    x = torch.where(known[..., None], labels.x, centre)[:, None].expand(-1, n_copies, -1, -1)
    x = centre_and_move(x, known[:, None], rotation, shift) + t_hat[..., None, None] * noise
    return x * f.atom_mask[:, None, :, None]


def mean_lddt(x: Float[Tensor, "B N_sample N_atom 3"], truth: Truth) -> Float[Tensor, "B N_sample"]:
    """All-atom lDDT, 0 to 1: the mean over the atoms that are known."""
    known = truth.known
    per_atom = lddt(x, truth.x, known[..., :, None] & known[..., None, :])
    return (per_atom * known).sum(-1) / known.sum(-1).clamp_min(1)


def mirrored(x: Float[Tensor, "B N_sample N_atom 3"], truth: Truth) -> Bool[Tensor, "B N_sample"]:
    """Whether the mirror image of a structure is nearer to the truth than itself."""
    flipped = x * x.new_tensor([1.0, 1.0, -1.0])
    one = torch.ones_like(truth.weight[:, 0])
    return weighted_mse(flipped, truth, one) < weighted_mse(x, truth, one)


def _labels(f: Features) -> Labels:
    assert f.labels is not None, "training needs labels"
    return f.labels
