"""What a comparison will cost, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.comparison.trainings import MethodTraining
from pipeline.training.build import TrainingData
from pipeline.training.checkpoints import ENDED_FILE
from pipeline.training.pace import Pace


def missing(trainings: Sequence[MethodTraining], work: Path) -> list[MethodTraining]:
    """Those of which no result stands. A full one counts at any factor: which it will be is not known yet."""
    return [training for training in trainings if not any(work.glob(f"{_pattern(training)}/{ENDED_FILE}"))]


def images_of(trainings: Sequence[MethodTraining], data: TrainingData) -> int:
    """Images that the trainings see, augmented ones counted each time."""
    return sum(training.epochs for training in trainings) * len(data.split("train"))


def seconds_of(trainings: Sequence[MethodTraining], data: TrainingData, pace: Pace, *, at_a_time: int) -> float:
    """How long the trainings take. What workers take from each other is not in it."""
    epochs = sum(training.epochs for training in trainings)
    one_epoch = len(data.split("train")) * pace.training + len(data.split("val")) * pace.scoring
    return (epochs * one_epoch + len(trainings) * pace.start) / max(1, min(at_a_time, len(trainings)))


def _pattern(training: MethodTraining) -> str:
    return f"full-{training.entry}-x*-seed{training.seed}" if training.phase == "full" else training.key
