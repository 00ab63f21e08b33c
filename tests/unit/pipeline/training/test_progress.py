"""Which epoch is the best, which steps are its own, and what a rollback leaves of both."""

import math

import pytest

from components.training.engine import EpochRecord, StepRecord
from pipeline.training.progress import Progress


def record(epoch: int, score: float) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, step=2 * epoch, train_loss=1.0, lr=0.1, lr_lowest=0.1, grad_norm=1.0, seconds=1.0,
        images_per_second=1.0, diverged=False, metrics={"val_score": score, "val_loss": 1.0},
    )  # fmt: skip


def step(number: int, *, loss: float = 0.5) -> StepRecord:
    return StepRecord(step=number, lr=0.2, lr_lowest=0.1, rates=(0.1, 0.2), loss=loss, grad_norm=1.5)


def progress_of(*scores: float) -> Progress:
    return Progress(history=[record(epoch, score) for epoch, score in enumerate(scores, start=1)])


def test_of_equal_scores_the_first_epoch_is_the_best() -> None:
    assert progress_of(0.5, 0.8, 0.8).best_epoch == 2
    assert progress_of(0.5, 0.8, 0.8).without_gain() == 1
    assert Progress().without_gain() == 0


@pytest.mark.parametrize("scores", [(math.nan, 0.5, 0.4), (0.4, 0.5, math.nan), (0.1, 0.5, math.nan, 0.4)])
def test_a_score_that_is_nan_is_below_every_other(scores) -> None:
    assert progress_of(*scores).best_epoch == 2


def test_an_epoch_seen_again_replaces_itself_and_what_followed() -> None:
    progress = progress_of(0.5, 0.9, 0.8)
    progress.weights, progress.trained = {1: "a", 2: "b"}, 3
    progress.add_epoch(record(2, 0.6))
    assert [(r.epoch, r.metrics["val_score"]) for r in progress.history] == [(1, 0.5), (2, 0.6)]
    assert progress.weights == {1: "a"}
    assert progress.trained == 4


def test_a_step_seen_again_replaces_itself_and_what_followed() -> None:
    progress = Progress()
    for record_ in (step(1), step(2), step(3), step(2, loss=0.1)):
        progress.add_step(record_)
    assert progress.steps == [step(1), step(2, loss=0.1)]


def test_the_steps_of_an_epoch_are_those_after_the_one_before() -> None:
    progress = progress_of(0.5, 0.6)
    progress.steps = [step(number) for number in range(1, 6)]  # the fifth is of an epoch that was stopped
    assert [s.step for s in progress.steps_of(progress.history[0])] == [1, 2]
    assert [s.step for s in progress.steps_of(progress.history[1])] == [3, 4]


def test_the_table_of_steps_has_the_rate_of_every_group() -> None:
    table = Progress(steps=[step(1), step(2)]).steps_table(("body", "head"))
    assert list(table.columns) == ["step", "lr_body", "lr_head", "loss", "grad_norm"]
    assert table.iloc[1].tolist() == [2, 0.1, 0.2, 0.5, 1.5]
    assert Progress().steps_table(("body", "head")).empty


def test_it_comes_back_from_its_state_exactly() -> None:
    progress = progress_of(0.5, math.pi / 4)
    progress.steps = [step(1, loss=1 / 3), step(2)]
    progress.weights, progress.trained = {2: "weights-2.pt"}, 2
    assert Progress.from_state(progress.state_dict()) == progress
    assert Progress.from_state(Progress().state_dict()) == Progress()
