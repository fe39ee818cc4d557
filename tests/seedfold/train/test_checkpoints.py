import os
import pickle
import signal
import zipfile
from unittest.mock import Mock

import pytest
import torch
from lightning import Trainer

from seedfold.data_pipeline.errors import InputError
from seedfold.train.checkpoints import Checkpoints, latest, latest_whole, read
from seedfold.train.data import Batch
from seedfold.train.module import FoldingModule

MODULE, BATCH = Mock(spec=FoldingModule), Mock(spec=Batch)


def make(folder, *steps):
    folder.mkdir(parents=True, exist_ok=True)
    for step in steps:
        torch.save({"global_step": step, "x": torch.arange(1000.0)}, path_of(folder, step))


def path_of(folder, step):
    return folder / f"step_{step:08d}.ckpt"


def steps_in(folder):
    return sorted(int(path.stem.removeprefix("step_")) for path in folder.glob("step_*.ckpt"))


def at(step, save=None):
    """A trainer of one rank whose checkpoints hold the step."""
    trainer = Mock(spec=Trainer)
    trainer.configure_mock(global_step=step, max_steps=100, is_global_zero=True, should_stop=False)
    trainer.strategy.reduce_boolean_decision = lambda decision, **_: decision
    trainer.save_checkpoint = save or (lambda path, **_: torch.save({"global_step": step}, path))
    return trainer


def test_the_newest_stay(tmp_path):
    exported = []
    keeper = Checkpoints(tmp_path, 5, 2, lambda trainer, module: exported.append(trainer))
    for step in range(1, 21):
        keeper.after_step(at(step), MODULE, BATCH)
    assert steps_in(tmp_path) == [15, 20] and len(exported) == 4
    assert latest(tmp_path) == path_of(tmp_path, 20)
    assert read(path_of(tmp_path, 20)) == {"global_step": 20}


def test_those_of_later_steps_go_when_a_run_has_gone_back(tmp_path):
    make(tmp_path, 10, 15, 20)
    keeper = Checkpoints(tmp_path, 5, 3, Mock())
    keeper.after_step(at(15), MODULE, BATCH)
    assert steps_in(tmp_path) == [10, 15]


def test_a_checkpoint_is_whole_or_absent(tmp_path):
    make(tmp_path, 5)

    def broken(path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Checkpoints(tmp_path, 5, 1, Mock()).after_step(at(10, broken), MODULE, BATCH)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005.ckpt"]


def test_what_a_killed_run_left_is_removed(tmp_path):
    make(tmp_path, 5)
    (tmp_path / ".77.step_00000010.ckpt").write_bytes(b"half")
    keeper = Checkpoints(tmp_path, 5, 1, Mock())
    keeper.on_train_start(at(5), None)
    keeper.on_train_end(at(5), None)
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005.ckpt"]


def test_a_signal_is_answered_at_the_end_of_the_step(tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    keeper = Checkpoints(tmp_path, 1000, 1, Mock())
    keeper.on_train_start(at(0), None)
    os.kill(os.getpid(), signal.SIGTERM)
    trainer = at(7)
    keeper.after_step(trainer, MODULE, BATCH)
    keeper.on_train_end(trainer, None)
    assert steps_in(tmp_path) == [7] and trainer.should_stop
    assert keeper.received == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_newest_is_reported_and_passed_over(tmp_path, damage):
    make(tmp_path, 5, 10)
    path = path_of(tmp_path, 10)
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        with zipfile.ZipFile(path) as archive:
            entry = max(archive.infolist(), key=lambda info: info.file_size)
        content[entry.header_offset + 2000] ^= 1
    path.write_bytes({"cut": content[:3000], "flipped": content, "empty": b""}[damage])
    said = []
    assert latest_whole(tmp_path, said.append) == path_of(tmp_path, 5)
    assert len(said) == 1 and said[0].startswith(f"{path} is damaged (")


def test_a_folder_of_damaged_checkpoints_is_an_error(tmp_path):
    assert latest_whole(tmp_path, print) is None
    for step in (1, 2):
        path_of(tmp_path, step).write_bytes(b"PK")
    with pytest.raises(InputError, match="2 checkpoints, all damaged; remove the folder"):
        latest_whole(tmp_path, lambda _line: None)


def test_objects_are_not_unpickled(tmp_path):
    torch.save({"x": Mock}, path_of(tmp_path, 1))
    with pytest.raises(pickle.UnpicklingError, match=r"[Ww]eights.only"):
        read(path_of(tmp_path, 1))
