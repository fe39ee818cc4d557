"""What `stage` says: the confidence head alone, precision, alignments; and skipped steps."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import lightning
import pytest
import torch
from torch import nn

from seedfold.data_pipeline.errors import InputError
from seedfold.model.diffusion import DiffusionTransformerBlock
from seedfold.model.pairformer import PairformerBlock
from seedfold.train.data import Batch, DataConfig, Examples
from seedfold.train.module import FoldingModule, without_alignments
from seedfold.train.optim import Ema, OptimConfig


@pytest.fixture(scope="module")
def examples(source):
    return Examples(DataConfig(sources=(source,), n_token=16), 11)


@pytest.fixture
def batch(examples):
    return Batch.of([examples[(0, 0)]])


@pytest.fixture
def make_module(make_config):
    def make(**stage) -> FoldingModule:
        torch.manual_seed(0)
        config = make_config(stage=stage)
        module = FoldingModule(config.model, config.stage, config.optim)
        generator = torch.Generator().manual_seed(1)
        with torch.no_grad():
            for weight in module.network.parameters():
                # Much begins at 0, through which no gradient comes.
                weight.add_(0.05 * torch.randn(weight.shape, generator=generator))
        module.ema = Ema(module.network, 0.9)
        return module.train()

    return make


def gradients(module: FoldingModule) -> dict[str, torch.Tensor]:
    weights = module.network.named_parameters()
    return {n: w.grad.clone() for n, w in weights if w.grad is not None and w.grad.any()}


def test_confidence_moves_its_head_alone(make_module, batch):
    """AF3 SI 4.3.5: in normal training nothing of it reaches trunk or structure module."""
    module = make_module()
    outputs, labels = module.outputs(batch)
    f = dataclasses.replace(batch.f, labels=labels)
    terms = module.loss.terms(outputs, f)
    terms["confidence"].sum().backward(retain_graph=True)
    assert {name.split(".")[0] for name in gradients(module)} == {"confidence_head"}
    module.zero_grad()
    (terms["diffusion"] + terms["distogram"]).sum().backward()
    reached = {".".join(name.split(".")[:2]) for name in gradients(module)}
    assert not any(name.startswith("confidence_head") for name in reached)
    assert {"trunk.pairformer", "trunk.msa_module", "distogram_head.linear"} <= reached
    assert "diffusion_module.diffusion_transformer" in reached


def test_the_head_alone_is_trained_on_the_average(make_module, batch):
    """What is frozen is the averaged network in evaluation; only the head has losses."""
    module = make_module(train="confidence")
    was = {n: w.detach().clone() for n, w in module.network.named_parameters()}
    for average in module.ema.weights.values():
        average.mul_(0.9)
    module.on_train_start()
    loss = module.training_step(batch, 0)
    loss.backward()
    assert set(module.terms) == {"plddt", "pde", "resolved", "pae", "confidence", "total"}
    assert module.terms["total"] == pytest.approx(1e-4 * module.terms["confidence"])
    assert {name.split(".")[0] for name in gradients(module)} == {"confidence_head"}
    head = module.network.confidence_head
    assert head.training and head.pairformer.training
    assert not any(m.training for m in module.network.trunk.modules())
    for name, weight in module.network.named_parameters():
        factor = 1.0 if name.startswith("confidence_head") else 0.9
        torch.testing.assert_close(weight, factor * was[name], atol=0, rtol=1e-6)
    before = {n: w.clone() for n, w in module.ema.weights.items()}
    module.ema.update(module.network)
    averages = module.ema.weights.items()
    moved = {n.split(".")[0] for n, w in averages if not torch.equal(w, before[n])}
    assert moved == {"confidence_head"}


def test_the_head_alone_learns(make_module, batch):
    module = make_module(train="confidence", rollout_steps=1)
    module.eval()
    optimizer = torch.optim.AdamW(module.network.parameters(), lr=5e-3)
    frozen = module.network.trunk.linear_s.weight.clone()
    losses = []
    for i in range(4):
        optimizer.zero_grad()
        loss = module.training_step(batch, i)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.8 * losses[0]
    assert torch.equal(module.network.trunk.linear_s.weight, frozen)


def test_confidence_needs_structures_to_judge(make_module):
    with pytest.raises(InputError, match=r"stage.train: 'confidence' with stage.rollout_steps=0"):
        make_module(train="confidence", rollout_steps=0)


def test_the_loss_of_every_example_has_its_name(make_module, examples):
    module = make_module(n_cycles=1, rollout_steps=0).eval()
    one, other = (examples[(step, 0)] for step in (0, 1))
    other = dataclasses.replace(other, name="other/6yqw")
    module.training_step(Batch.of([one, other]), 0)
    both = module.totals
    assert both.keys() == {"example/6yqw", "other/6yqw"}
    assert sum(both.values()) / 2 == pytest.approx(module.terms["total"], rel=1e-6)
    for example in (one, other):
        module.training_step(Batch.of([example]), 0)
        assert both[example.name] == pytest.approx(module.totals[example.name], rel=1e-4)


def watched(module: FoldingModule, kind: type[nn.Module], see) -> None:
    for part in module.network.modules():
        if isinstance(part, kind):
            part.register_forward_hook(lambda part, args, out: see(part, args, out))


def test_gradient_flows_through_the_last_pass_and_the_copies_are_one_batch(make_module, batch):
    module, passes, copies = make_module(n_copies=5), [], []
    block = module.network.trunk.pairformer.blocks[0]
    block.register_forward_hook(lambda *_: passes.append(torch.is_grad_enabled()))
    transformer = module.network.diffusion_module.diffusion_transformer.blocks[0]
    transformer.register_forward_hook(
        lambda part, args, out: copies.append((out.shape[1], torch.is_grad_enabled()))
    )
    found = {}
    for step in range(4):
        # Other examples at the same step, as other ranks have them, take as many passes.
        for seed in (step, 17):
            passes.clear()
            copies.clear()
            module.outputs(dataclasses.replace(batch, step=step, seed=seed))
            assert passes == [False] * (len(passes) - 1) + [True]
            # The mini-rollout of two steps, then the copies.
            assert copies == [(1, False), (1, False), (5, True)]
            assert found.setdefault(step, len(passes)) == len(passes)
    assert set(found.values()) == {1, 2}


def test_precision_is_where_it_is_said_to_be(make_module, batch):
    """Matrices of trunk and confidence Pairformer in bf16, the pairs' residual stream in fp32."""
    module, dtypes = make_module(precision="bf16"), {}
    network = module.network
    for name, part in network.named_modules():
        if isinstance(part, nn.Linear | PairformerBlock | DiffusionTransformerBlock):
            part.register_forward_hook(
                lambda _, __, out, name=name: dtypes.setdefault(name, set()).add(
                    out[1].dtype if isinstance(out, tuple) else out.dtype
                )
            )
    outputs, _ = module.outputs(batch)
    half = {n for n, d in dtypes.items() if d == {torch.bfloat16}}
    single = {n for n, d in dtypes.items() if d == {torch.float32}}
    assert half | single == dtypes.keys()
    stream = {"trunk.pairformer.blocks.0", "confidence_head.pairformer.blocks.0"}
    assert stream <= single
    trunk = {n for n in dtypes if n.startswith(("trunk.", "input_embedder."))} - stream
    assert trunk <= half and "trunk.linear_z" in trunk
    outside = {n for n in dtypes if n.startswith(("diffusion_module.", "distogram_head."))}
    assert outside <= single and "diffusion_module.diffusion_transformer.blocks.0" in outside
    head = {n for n in dtypes if n.startswith("confidence_head.pairformer.blocks.0.att")}
    assert head and head <= half
    logits = outputs.confidence
    made = [outputs.distogram, outputs.x_denoised, outputs.t_hat, outputs.x_rollout]
    made += [logits.plddt, logits.pae, logits.pde, logits.resolved]
    assert {tensor.dtype for tensor in made} == {torch.float32}
    loss = module.training_step(batch, 0)
    loss.backward()
    assert loss.dtype == torch.float32
    assert {w.grad.dtype for w in network.parameters() if w.grad is not None} == {torch.float32}


def test_bf16_is_fp32_within_its_error(make_module, batch):
    """A bf16 number is right to 2^-9; through some tens of roundings to a few per cent."""
    losses, found = [], []
    for precision in ("fp32", "bf16"):
        module = make_module(precision=precision, n_cycles=1)
        module.eval()
        loss = module.training_step(batch, 0)
        loss.backward()
        losses.append(float(loss.detach()))
        found.append(torch.cat([g.flatten() for g in gradients(module).values()]))
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
    error = (found[1] - found[0]).norm() / found[0].norm()
    assert found[0].dtype == found[1].dtype == torch.float32
    assert 1e-4 < float(error) < 0.03


def test_alignments_are_dropped_at_their_share(examples):
    drawn = [examples[(0, 0)], examples[(1, 0)]]
    f = Batch.of(drawn).f
    msa = torch.randint(0, 20, (2, 5, f.n_token), generator=torch.Generator().manual_seed(0))
    f = dataclasses.replace(
        f,
        msa=msa.to(f.msa),
        msa_mask=f.token_mask[:, None].expand(-1, 5, -1),
        has_deletion=f.has_deletion[:, :1].expand(-1, 5, -1),
        deletion_value=f.deletion_value[:, :1].expand(-1, 5, -1),
        deletion_mean=torch.ones_like(f.deletion_mean),
    )
    dropped = 0
    for seed in range(200):
        found = without_alignments(f, (seed, seed + 1000), 0.25)
        for b in range(2):
            if found.msa_mask[b, 1:].any():
                assert torch.equal(found.msa_mask[b], f.msa_mask[b])
                assert torch.equal(found.profile[b], f.profile[b])
                continue
            dropped += 1
            assert torch.equal(found.msa_mask[b, 0], f.token_mask[b])
            real = f.token_mask[b]
            assert torch.equal(found.profile[b].argmax(-1)[real], f.msa[b, 0].long()[real])
            assert torch.equal(found.profile[b].sum(-1), real.to(f.profile))
            assert not found.deletion_mean[b].any()
    # 100 of 400 are expected, with a standard deviation of 8.7.
    assert 65 < dropped < 135
    again = without_alignments(f, (7, 8), 0.25)
    swapped = without_alignments(f, (8, 7), 0.25)
    other = [bool(t.msa_mask[b, 1:].any()) for t, b in ((again, 0), (again, 1))]
    assert other == [bool(swapped.msa_mask[b, 1:].any()) for b in (1, 0)]


class Broken(FoldingModule):
    """Fits numbers with a line; the gradient of some batches is not finite."""

    def __init__(self, broken: set[int]):
        lightning.LightningModule.__init__(self)
        torch.manual_seed(0)
        self.broken, self.head_alone = broken, False
        self.network = nn.Linear(3, 1)
        self.optim = OptimConfig(warmup_steps=0, learning_rate=0.1, weight_decay=0.1, clip_norm=1.0)
        self.ema = Ema(self.network, 0.9)
        self.n_skipped, self.terms = 0, {}

    def training_step(self, batch: torch.Tensor, index: int) -> torch.Tensor:
        loss = self.network(batch).square().mean()
        return loss * (float("nan") if int(batch[0, 2]) in self.broken else 1.0)

    def transfer_batch_to_device(self, batch, device, dataloader_idx) -> torch.Tensor:
        return batch


def trained(batches: list[int], broken: set[int], at_once: int = 2, **options) -> Broken:
    """Some batches a step, each made of its number."""
    module = Broken(broken)
    data = [torch.tensor([[1.0, (7 * i % 5) / 5, i]]) for i in batches]
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_steps=len(batches) // at_once,
        max_epochs=1,
        accumulate_grad_batches=at_once,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,
    )
    trainer.fit(module, torch.utils.data.DataLoader(data, batch_size=None))
    return module


@pytest.mark.parametrize("broken", [4, 5])
def test_a_skipped_step_is_as_if_it_had_not_been(broken):
    """Weights, decay, moments, their counts and the average, to the last bit.

    The first or the second of the two batches of the third step is broken.
    """
    module = trained(list(range(10)), {broken})
    whole = trained([0, 1, 2, 3, 6, 7, 8, 9], set())
    assert module.n_skipped == 1 and whole.n_skipped == 0
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(module.network.state_dict()[name], weight)
        assert torch.equal(module.ema.weights[name], whole.ema.weights[name])
    assert module.ema.n_updates == whole.ema.n_updates == 4
    states = [m.trainer.optimizers[0].state_dict()["state"] for m in (module, whole)]
    for one, other in zip(*(s.values() for s in states), strict=True):
        assert all(torch.equal(one[key], other[key]) for key in ("step", "exp_avg", "exp_avg_sq"))


RANKS = """
import os, sys
import torch
sys.path.insert(0, sys.argv[1])
from test_module_stages import trained
rank = int(os.environ.get("LOCAL_RANK", 0))
options = {"strategy": "ddp", "devices": 2, "use_distributed_sampler": False}
module = trained(list(range(rank, 10, 2)), {5}, at_once=1, **options)
found = {"skipped": module.n_skipped, "ema": module.ema.weights, **module.network.state_dict()}
torch.save(found, f"{sys.argv[2]}/{rank}.pt")
"""


def test_all_ranks_skip_a_step_that_is_broken_on_one(tmp_path):
    """Batch 5 is the second rank's part of the third step."""
    (tmp_path / "ranks.py").write_text(RANKS)
    command = [sys.executable, tmp_path / "ranks.py", str(Path(__file__).parent), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2))
    whole = trained([0, 1, 2, 3, 6, 7, 8, 9], set())
    assert first["skipped"] == second["skipped"] == 1
    for name, weight in whole.network.state_dict().items():
        assert torch.equal(first[name], second[name])
        assert torch.equal(first["ema"][name], second["ema"][name])
        torch.testing.assert_close(first[name], weight, atol=1e-7, rtol=1e-6)
        torch.testing.assert_close(first["ema"][name], whole.ema.weights[name])
