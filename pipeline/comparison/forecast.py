"""The duration of a comparison, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.comparison.trainings import MethodTraining
from pipeline.training.build import TrainingData
from pipeline.training.checkpoints import ENDED_FILE
from pipeline.training.pace import Pace


def missing(trainings: Sequence[MethodTraining], work: Path) -> list[MethodTraining]:
    """The trainings without a result. A full one may have any factor, since the factor is not known yet."""

    def is_missing(training: MethodTraining) -> bool:
        full = training.phase == "full"
        folder = f"full-{training.entry}-x*-seed{training.seed}" if full else training.key
        return not any(work.glob(f"{folder}/{ENDED_FILE}"))

    return [training for training in trainings if is_missing(training)]


def seconds_of(trainings: Sequence[MethodTraining], data: TrainingData, pace: Pace, *, at_a_time: int) -> float:
    """How long the trainings take, if they do not slow each other down."""
    epochs = sum(training.epochs for training in trainings)
    one_epoch = len(data.split("train")) * pace.training + len(data.split("val")) * pace.scoring
    return (epochs * one_epoch + len(trainings) * pace.start) / max(1, min(at_a_time, len(trainings)))
