from unittest.mock import Mock

from lightning import Trainer

from seedfold.train.callbacks import AfterStep, FirstExample, SampledStructures
from seedfold.train.data import Batch, FoldingData
from seedfold.train.module import FoldingModule, Sampled

BATCH = Mock(spec=Batch)


def trainer_at(step: int, accumulate: int = 2) -> Mock:
    trainer = Mock(spec=Trainer)
    trainer.configure_mock(global_step=step, max_steps=9, accumulate_grad_batches=accumulate)
    return trainer


class Counting(AfterStep):
    def __init__(self) -> None:
        self.steps: list[int] = []

    def after_step(self, trainer, module, batch) -> None:
        self.steps.append(trainer.global_step)


def test_only_the_last_batch_of_a_step_counts():
    counting = Counting()
    for i in range(9):
        counting.on_train_batch_end(trainer_at(i, 3), Mock(), None, BATCH, i)
    assert counting.steps == [2, 5, 8]


def test_structures_are_sampled_where_it_is_time_to():
    module = Mock(spec=FoldingModule)
    found = Sampled(lddt=(0.25, 0.75), mirrored=(True, False))
    module.terms, module.sampled.return_value = {}, found
    batch = Mock(spec=Batch)
    batch.f = "features"
    sampling = SampledStructures(every=3, seed=5)
    for step in (1, 2):
        sampling.after_step(trainer_at(step), module, batch)
    assert module.terms == {}
    sampling.after_step(trainer_at(3), module, batch)
    assert module.terms == {"lddt": 0.5, "mirrored": 0.5}
    module.sampled.assert_called_once_with("features", n_samples=1, seed=5)


def test_a_run_that_was_stopped_predicts_nothing_at_its_end():
    example = FirstExample(Mock(spec=FoldingData), seed=1)
    module = Mock(spec=FoldingModule)
    example.on_train_end(trainer_at(8), module)
    assert example.found is None and not module.sampled.called
