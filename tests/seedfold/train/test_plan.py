"""The plan's arithmetic against closed forms, and its text."""

import dataclasses
import re
from typing import Any

import pytest
import torch

from seedfold.config import from_dict, to_dict
from seedfold.model.pairformer import PairBlock
from seedfold.model.presets import nano
from seedfold.model.seedfold import SeedFold
from seedfold.train import plan as p
from seedfold.train.compose import RunConfig
from seedfold.train.flops import on_meta, pair_block
from seedfold.train.module import StageConfig


def small() -> SeedFold.Config:
    """Nano with single blocks."""

    def short(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: 1 if k.endswith("n_blocks") else short(v) for k, v in value.items()}

    return from_dict(SeedFold.Config, short(to_dict(nano())))


def run(strategy: str = "ddp", train: str = "all", **trainer: object) -> RunConfig:
    data = {
        "run": {"name": "x", "folder": "runs/x/first"},
        "stage": {"train": train, "precision": "bf16", "n_copies": 2},
        "data": {"n_token": 16},
        "trainer": {"steps": 10, "devices": 4, "nodes": 2, "strategy": strategy, **trainer},
    }
    return dataclasses.replace(from_dict(RunConfig, data), model=small())


@pytest.mark.parametrize(
    ("strategy", "numbers"),
    [
        ("ddp", 5),
        ("deepspeed_1", 3 + 2 / 8),
        ("deepspeed_2", 2 + 3 / 8),
        ("deepspeed_3", 1 + 4 / 8),
    ],
)
def test_numbers_kept_for_every_weight(strategy, numbers):
    """Weight, gradient, two moments and average, of which ZeRO's stages share out some to 8."""
    network = on_meta(small())
    n = sum(w.numel() for w in network.parameters())
    assert p.state_bytes(network, run(strategy)) == pytest.approx(4 * n * numbers)


def test_what_is_frozen_has_no_gradients():
    network = on_meta(small())
    n = sum(w.numel() for w in network.parameters())
    head = sum(w.numel() for w in network.confidence_head.parameters())
    assert p.state_bytes(network, run(train="confidence")) == pytest.approx(4 * (2 * n + 3 * head))


def test_rates_are_those_measured():
    for (c, n), seconds in p.MEASURED.items():
        with torch.device("meta"):
            block = PairBlock(PairBlock.Config(), c)
        assert p.block_rate(c, n) * seconds == pytest.approx(3 * pair_block(block, n), rel=0.01)
    assert p.block_rate(64, 100) == p.block_rate(128, 384)
    between = p.block_rate(256, 640)
    assert p.block_rate(128, 640) < between < p.block_rate(512, 640)


def test_a_step_costs_what_its_parts_do():
    network = on_meta(small())
    one = p.seconds(network, run())
    assert p.seconds(network, run(activation_checkpointing=True)) > one
    planned = p.plan(run(accumulate=5))
    assert planned.seconds == pytest.approx(5 * one)
    assert planned.examples == 5 * 8 and planned.tokens == 10 * 5 * 8 * 16
    assert planned.memory(True) < planned.memory(False)


def test_small_crops_wait_for_python():
    """Blocks of 16 tokens are launched, not computed: 3 passes' worth of launches each."""
    config = run(accumulate=1)
    config = dataclasses.replace(
        config, stage=StageConfig(n_cycles=1, n_copies=1, rollout_steps=0, precision="bf16")
    )
    trunk = small().trunk
    n_blocks = trunk.pairformer.n_blocks + trunk.msa.n_blocks + 4 * trunk.template.n_blocks
    least = p.LAUNCH * n_blocks
    assert least < p.seconds(on_meta(small()), config) < 1.1 * least


def test_the_text_has_every_number_and_its_origin():
    text = "\n".join(p.describe([p.plan(run()), p.plan(run(train="confidence"))]))
    words_of_text = " ".join(text.split())
    n = sum(w.numel() for w in on_meta(small()).parameters())
    assert f"x: {n:,} parameters" in text
    for words in ("GPU-hours, at least", "H200", "2026-11-20", "interpolated", "docs/kernels.md"):
        assert words in words_of_text
    assert re.search(r"^devices +8 ddp +8 ddp$", text, re.M)
    assert "TFLOP/s at width 128 and 384 tokens" in words_of_text
    no_time = "\n".join(p.describe([p.plan(run(accelerator="cpu"))]))
    assert "GPU-hours" not in no_time and "nothing was measured" in " ".join(no_time.split())
