import dataclasses
from pathlib import Path
from unittest.mock import Mock

import pytest
from lightning import Trainer

from seedfold.data_pipeline.errors import InputError
from seedfold.train.data import Batch
from seedfold.train.examples import Bad, Examples
from seedfold.train.module import FoldingModule
from seedfold.train.quarantine import WINDOW, Quarantine
from seedfold.train.run import train
from seedfold.train.tables import Table


def trainer_at(step: int) -> Mock:
    trainer = Mock(spec=Trainer, global_step=step, is_global_zero=True, accumulate_grad_batches=1)
    trainer.strategy.reduce_boolean_decision = lambda decision, all: decision
    return trainer


def bad(step: int, slot: int = 0) -> Bad:
    return Bad(step=step, slot=slot, attempt=0, source="set", id="x", reason='a "reason", b')


def do_step(quarantine: Quarantine, step: int, *rows: Bad) -> None:
    """Step `step`, counted from 0, with these failures."""
    batch = Mock(spec=Batch, bad=rows)
    module = Mock(spec=FoldingModule)
    quarantine.on_train_batch_end(trainer_at(step + 1), module, None, batch, step)


def test_rows_are_kept_up_to_the_step_of_the_checkpoint(tmp_path):
    path, said = tmp_path / "quarantine.csv", []
    quarantine = Quarantine(path, 0.05, 1, said.append)
    quarantine.on_train_start(trainer_at(0), Mock(spec=FoldingModule))
    assert quarantine.known == {} and Table(path, Bad).read() == []
    do_step(quarantine, 0)
    do_step(quarantine, 1, bad(1, 1), bad(1))
    do_step(quarantine, 2, bad(2))
    assert Table(path, Bad).read() == [bad(1), bad(1, 1), bad(2)]
    assert said[0] == 'quarantined (1): set/x: a "reason", b' and len(said) == 3
    resumed = Quarantine(path, 0.05, 1, said.append)
    assert resumed.known == {b.place: b for b in (bad(1), bad(1, 1), bad(2))}
    resumed.on_train_start(trainer_at(2), Mock(spec=FoldingModule))
    assert Table(path, Bad).read() == [bad(1), bad(1, 1)]
    resumed.on_train_end(trainer_at(3), Mock(spec=FoldingModule))
    assert said[-1] == f"quarantined: 2 examples could not be made, see {path}"


def test_more_than_the_share_of_the_window_stops_the_run(tmp_path):
    """8 a step, so the window is 125 steps; of its 1000 examples 20 may be bad."""
    quarantine = Quarantine(tmp_path / "quarantine.csv", 0.02, 8, lambda line: None)
    assert WINDOW == 1000
    for step, n in ((0, 8), (1, 8), (2, 4), (124, 0)):
        do_step(quarantine, step, *(bad(step, slot) for slot in range(n)))
    # Step 0 leaves the window now.
    do_step(quarantine, 125, *(bad(125, slot) for slot in range(8)))
    assert len(quarantine.known) == 28, "a run that was not stopped takes failures for granted"
    with pytest.raises(InputError, match=r"too many examples cannot be made, the last set/x: a"):
        do_step(quarantine, 125, bad(125, 9))
    again = Quarantine(tmp_path / "quarantine.csv", 0.02, 8, lambda line: None)
    assert again.rows and again.known == {}, "after the data was repaired it is tried again"


def test_few_are_told_one_by_one(tmp_path):
    said: list[str] = []
    quarantine = Quarantine(tmp_path / "quarantine.csv", 1.0, 1, said.append)
    for step in range(40):
        do_step(quarantine, step, bad(step))
    numbers = [int(line.partition("(")[2].partition(")")[0]) for line in said]
    assert numbers == [1, 2, 3, 4, 5, 8, 16, 32]


def test_a_run_with_a_damaged_shard(make_config, make_set, example, damage):
    """What the table has is what the places say; a run that is resumed writes the same."""
    names = ("a", "b", "c")
    source = make_set([dataclasses.replace(example, id=name) for name in names])
    damage(source, 0)
    said: list[str] = []
    whole = make_config(
        "whole",
        data={"sources": (source,)},
        stage={"rollout_steps": 0, "n_copies": 1, "n_cycles": 1},
        trainer={"steps": 5},
    )
    train(whole, said.append)
    examples = Examples(whole.data, whole.run.seed)
    expected = [b for step in range(5) for b in examples[(step, 0)].bad]
    assert expected, "nothing bad was drawn"

    def table(config):
        return Table(Path(config.run.folder, "quarantine.csv"), Bad).read()

    assert table(whole) == expected
    assert f"quarantined: {len(expected)} examples could not be made, see" in said[-1]
    trainer = dataclasses.replace(whole.trainer, steps=2)
    parts = dataclasses.replace(
        whole, run=dataclasses.replace(whole.run, folder=f"{whole.run.folder}_2")
    )
    train(dataclasses.replace(parts, trainer=trainer), said.append)
    train(parts, said.append)
    assert table(parts) == expected
