import csv
import sys
from unittest.mock import Mock

import pytest
import torch
from lightning import Trainer

from seedfold.data_pipeline.errors import InputError
from seedfold.train import curves as module_under_test
from seedfold.train.curves import NEXT_BATCH, Clock, Curves, means, read_table, wandb_log
from seedfold.train.data import Batch
from seedfold.train.flops import Sizes
from seedfold.train.module import FoldingModule


@pytest.fixture(autouse=True)
def constant_flops(monkeypatch):
    """A batch of 10 tokens and 6 FLOPs for each example."""
    sizes = Sizes(n_token=10, n_atom=20, n_msa=1, n_templates=0)
    monkeypatch.setattr(module_under_test.Sizes, "of", lambda _f: sizes)
    monkeypatch.setattr(module_under_test, "step_flops", lambda *_: Mock(model=6.0))


def trainer_at(step: int) -> Mock:
    trainer = Mock(spec=Trainer)
    trainer.configure_mock(
        global_step=step, max_steps=9, accumulate_grad_batches=2, is_global_zero=True
    )
    trainer.strategy.root_device = torch.device("cpu")
    return trainer


def run_step(curves: Curves, number: int, *terms: dict, names=("pdb/a", "afdb/b")) -> None:
    """A step of one batch for each of `terms`, the last of which counts."""
    for i, found in enumerate(terms):
        module = Mock(spec=FoldingModule)
        module.configure_mock(
            terms=found,
            totals={name: found["total"] + k for k, name in enumerate(names)},
            network=None,
            stage=None,
        )
        batch = Mock(spec=Batch)
        batch.names, batch.f = names, None
        curves.on_train_batch_end(trainer_at(number), module, None, batch, i)


def test_the_table_has_the_means_of_a_step_and_no_later_rows(tmp_path):
    path, said = tmp_path / "run" / "metrics.csv", []
    curves = Curves(path, Clock(), said.append, every=2)
    curves.on_train_start(trainer_at(0), None)
    for number in (1, 2, 3):
        run_step(curves, number, {"total": 1.0 * number}, {"total": 2.0 * number, "skipped": 0})
    again = Curves(path, Clock(), said.append, every=2)
    again.on_train_start(trainer_at(2), None)
    run_step(again, 3, {"total": 10.0}, {"total": 20.0, "learning_rate": 0.5})
    rows = read_table(path)
    assert [(int(r["step"]), float(r["total"])) for r in rows] == [(1, 1.5), (2, 3.0), (3, 15.0)]
    assert float(rows[2]["learning_rate"]) == 0.5 and rows[2]["mse"] == ""
    assert [(float(r["total_pdb"]), float(r["total_afdb"])) for r in rows] == [
        (1.5, 2.5),
        (3.0, 4.0),
        (15.0, 16.0),
    ]
    assert [line.split(",")[0] for line in said] == ["step 2 of 9: loss 3.000"]


def test_a_new_name_gets_a_column(tmp_path):
    """In the file as well: rows that stand there keep their places."""
    path = tmp_path / "metrics.csv"
    curves = Curves(path, Clock(), print)
    curves.on_train_start(trainer_at(0), None)
    run_step(curves, 1, {"total": 1.0}, {"total": 1.0})
    run_step(curves, 2, {"total": 2.0}, {"total": 2.0, "new_loss": 7.0})
    with path.open(newline="") as file:
        header, *rows = list(csv.reader(file))
    assert header[-1] == "new_loss" and all(len(row) == len(header) for row in rows)
    assert [row[-1] for row in rows] == ["", "7.0"]


def test_a_row_that_was_cut_off_is_left_out(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,total\n1,0.5\n2,0.25\n3")
    assert read_table(path) == [{"step": "1", "total": "0.5"}, {"step": "2", "total": "0.25"}]


def test_throughput_and_waiting(tmp_path, monkeypatch):
    """Two batches of two examples in 4 s, of which 1.5 s were spent on data."""
    clock, now = Clock(), [100.0]
    monkeypatch.setattr(module_under_test.time, "perf_counter", lambda: now[0])
    curves = Curves(tmp_path / "metrics.csv", clock, print)
    curves.on_train_start(trainer_at(0), None)
    clock.start(NEXT_BATCH)
    now[0] += 1.5
    clock.stop(NEXT_BATCH)
    now[0] += 2.5
    run_step(curves, 1, {"total": 1.0}, {"total": 1.0})
    (row,) = read_table(tmp_path / "metrics.csv")
    assert (float(row["seconds"]), float(row["waited"])) == (4.0, 1.5)
    assert float(row["tokens_per_second"]) == 2 * 2 * 10 / 4
    assert float(row["flops_per_second"]) == 2 * 2 * 6 / 4
    assert row["utilisation"] == ""


def test_utilisation_is_of_the_peak_of_one_device(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "NVIDIA H100 80GB HBM3")
    peak = module_under_test.peak_flops("NVIDIA H100 80GB HBM3")
    assert peak is not None
    done = [{"tokens": 1.0, "flops": peak}, {"tokens": 1.0, "flops": 2 * peak}]
    row = module_under_test._throughput(done, 3.0, torch.device("cuda"))
    assert row["utilisation"] == pytest.approx(0.5)


def test_means_are_over_the_rows_that_have_a_name():
    assert means([{"a": 1.0, "b": 5.0}, {"a": 3.0}, {}]) == {"a": 2.0, "b": 5.0}


def test_a_logger_that_is_not_there_is_told(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"trainer.logger: wandb is not installed; pip install"):
        wandb_log(tmp_path, "test", {}, offline=True)


def test_wandb_offline(tmp_path):
    """The configuration and the rows are in the file that it would send later."""
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    log = wandb_log(tmp_path, "test", {"run": {"seed": 3}}, offline=True)
    for step in (1, 2):
        log({"step": float(step), "total": 1.0 / step})
    wandb.finish()
    (found,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    content = found.read_bytes()
    assert b"total" in content and b"0.5" in content and b"seed" in content
