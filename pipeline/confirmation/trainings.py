"""The trainings of a confirmation: both recipes at full length, each with a run of its own.

They are repeated over the folds on which the search has compared nothing, or over seeds where there are no folds. Each
has a folder below the stage's work folder, so that an interrupted confirmation resumes within a training and repeats no
complete one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.models.heads import Heads
from components.tracking import ChildRuns
from pipeline.confirmation.verdict import DEFAULTS, WINNER, Overrides
from pipeline.overriding import override
from pipeline.stage import StageContext
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.confirmed import WHOLE
from pipeline.training.data import TrainingData
from pipeline.training.job import TrainingSpec, left_out, with_head
from pipeline.training.placement import Job, placement_of_trainings
from pipeline.training.runs import TAG_ENTRY, TAG_SEED, open_job, train_shown

LABELS = (WINNER, DEFAULTS)


@dataclass(frozen=True, kw_only=True)
class Replicate:
    """What both recipes are trained with: a seed, and the fold that is left out, None without folds.

    member: under which the kept recipe's training goes on to `train`; None if it does not.
    """

    seed: int
    fold: int | None
    member: str | None

    @property
    def name(self) -> str:
        return f"seed-{self.seed}" if self.fold is None else f"fold-{self.fold}"

    @property
    def words(self) -> str:
        return self.name.replace("-", " ")


@dataclass(frozen=True, kw_only=True)
class Result:
    """One training. label: of its recipe. run_id: of its MLflow run."""

    label: str
    replicate: Replicate
    store: TrainingStore
    run_id: str

    @property
    def failed(self) -> bool:
        """Whether it ended without an epoch to keep."""
        ended = self.store.ended
        return ended is not None and (ended.failure is not None or not self.store.progress.weights)

    @property
    def score(self) -> float | None:
        """The validation score of the kept epoch; None if it failed."""
        if self.failed:
            return None
        progress = self.store.progress
        return next(record.metrics["val_score"] for record in progress.history if record.epoch == progress.kept_epoch)

    def record(self) -> dict[str, Any]:
        """The training's record in confirmation.json."""
        progress = self.store.progress
        return {
            "recipe": self.label,
            "replicate": self.replicate.name,
            "seed": self.replicate.seed,
            "epochs": progress.epochs_done(),
            "kept_epoch": progress.kept_epoch,
            "diverged": self.failed,
            "run_id": self.run_id,
        }


def repeated_over_seeds(seed: int, count: int) -> list[Replicate]:
    """Without folds: the training of the configured seed is the member WHOLE."""
    return [Replicate(seed=seed + number, fold=None, member=None if number else WHOLE) for number in range(count)]


def repeated_over_folds(seed: int, folds: Sequence[int]) -> list[Replicate]:
    """A replicate per fold, each with a seed of its own."""
    return [Replicate(seed=seed + fold, fold=fold, member=f"fold-{fold}") for fold in folds]


def train_candidates(
    context: StageContext,
    candidates: Mapping[str, Overrides],
    configured: TrainingSpec,
    replicates: Sequence[Replicate],
    heads: Heads,
    data: TrainingData,
) -> list[Result]:
    """Train both recipes with every replicate, with one bar over their epochs.

    configured: without the overrides. heads: the starts of the classifiers. data: the prepared data.
    """
    planned = [(label, replicate) for replicate in replicates for label in LABELS]
    results: list[Result] = []

    def jobs() -> Iterator[Job]:
        runs = ChildRuns(context.tracker, context.run, TAG_ENTRY, TAG_SEED)
        for label, replicate in planned:
            spec = replace(configured, recipe=override(configured.recipe, candidates[label]))
            spec = replace(spec, seed=replicate.seed) if replicate.fold is None else left_out(spec, replicate.fold)
            folder = context.work / f"{label}-{replicate.name}"
            job = open_job(runs, label, with_head(spec, heads, data), folder, stage="confirm_training")
            results.append(Result(label=label, replicate=replicate, store=job.store, run_id=job.run_id))
            yield job

    with placement_of_trainings(context, trainings=len(planned)) as place:
        train_shown(context, "confirmation", jobs(), place, trainings=len(planned), epochs=configured.epochs)
    return results
