"""Which epoch is the best, and what a rollback leaves."""

import pytest

from components.training.engine import EpochRecord
from pipeline.training.job import epoch_metrics
from pipeline.training.progress import Progress, history_rows


def record(epoch: int, score: float | None) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, step=2 * epoch, train_loss=1.0, lr=0.1, lr_lowest=0.1, grad_norm=1.0, seconds=1.0,
        images_per_second=1.0, diverged=False, metrics={} if score is None else {"val_score": score, "val_loss": 1.0},
    )  # fmt: skip


def progress_of(*scores: float | None) -> Progress:
    return Progress(history=[record(epoch, score) for epoch, score in enumerate(scores, start=1)])


def test_of_equal_scores_the_first_epoch_is_the_best() -> None:
    assert progress_of(0.5, 0.8, 0.8).best.epoch == 2
    assert progress_of(0.5, 0.8, 0.8).epochs_without_gain() == 1
    assert Progress().epochs_without_gain() == 0


def test_a_rollback_forgets_the_epochs_after_it_with_their_weights() -> None:
    progress = progress_of(0.5, 0.9, 0.8)
    progress.weights, progress.trained = {1: 1, 2: 2}, 3
    progress.cut(1)
    assert (progress.epochs_done(), progress.steps_done(), progress.weights, progress.trained) == (1, 2, {1: 1}, 3)


def test_a_row_has_the_metrics_beside_the_epochs_own_numbers() -> None:
    (row,) = history_rows([record(1, 0.5)])
    assert (row["epoch"], row["val_score"], row["lr"]) == (1, 0.5, 0.1)
    assert "metrics" not in row


def test_what_is_logged_of_an_epoch_is_finite() -> None:
    assert "val_score" not in epoch_metrics(record(1, float("nan")))
    assert epoch_metrics(record(1, 0.5))["val_score"] == pytest.approx(0.5)


def test_of_epochs_of_which_the_last_is_scored_that_one_is_the_best() -> None:
    assert progress_of(None, None, 0.5).best.epoch == 3
    assert progress_of(None, 0.9, None, 0.5).best.epoch == 2
    assert progress_of(None, None, 0.5).note() == "best score 0.5000 (epoch 3)"


def test_without_any_score_the_last_epoch_is_kept_and_nothing_is_said_of_it() -> None:
    found = progress_of(None, None)
    assert (found.best.epoch, found.epochs_without_gain(), found.note()) == (2, 0, "")
    assert Progress().note() == ""
