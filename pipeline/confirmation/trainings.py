"""The trainings of a confirmation: both recipes at full length with several seeds, each with a run of its own.

Each has a folder below the stage's work folder, so that an interrupted confirmation resumes within a training and
repeats no complete one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.tracking import ChildRuns
from pipeline.confirmation.verdict import DEFAULTS, WINNER, Overrides
from pipeline.overriding import override
from pipeline.stage import StageContext
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.job import Ended, Event, TrainingSpec
from pipeline.training.placement import Job, placement_of_trainings, train_all
from pipeline.training.runs import TAG_ENTRY, TAG_SEED, end_run, open_job

LABELS = (WINNER, DEFAULTS)


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """One training. label: of its recipe. run_id: of its MLflow run."""

    label: str
    seed: int
    store: TrainingStore
    run_id: str

    @property
    def failed(self) -> bool:
        """Whether it failed without an epoch to keep."""
        return self.store.ended is not None and self.store.ended.failure is not None

    @property
    def score(self) -> float | None:
        """The best validation score; None if it failed."""
        return None if self.failed else self.store.progress.best.metrics["val_score"]

    def record(self) -> dict[str, Any]:
        """The training's record in confirmation.json."""
        progress = self.store.progress
        return {
            "recipe": self.label,
            "seed": self.seed,
            "epochs": progress.epochs_done(),
            "best_epoch": progress.best.epoch if progress.history else None,
            "diverged": self.failed,
            "run_id": self.run_id,
        }


def train_candidates(
    context: StageContext, candidates: Mapping[str, Overrides], configured: TrainingSpec, *, seeds: Sequence[int]
) -> list[SeedResult]:
    """Train both recipes with every seed, with one bar over their epochs. configured: without the overrides."""
    specs = [
        (label, replace(configured, recipe=override(configured.recipe, candidates[label]), seed=seed))
        for seed in seeds
        for label in LABELS
    ]
    results: list[SeedResult] = []
    shown: Counter[str] = Counter()
    with (
        placement_of_trainings(context, trainings=len(specs)) as place,
        context.console.bar("confirmation", len(specs) * configured.epochs) as advance,
    ):

        def show(job: Job) -> None:
            ended, progress = job.store.ended, job.store.progress
            if ended is not None and (ended.failure is not None or ended.reason == "diverged"):
                context.console.warn(f"{job.name}: {ended.failure or f'diverged in epoch {ended.epoch}'}")
            epochs = progress.epochs_done() if ended is None else configured.epochs
            advance(epochs - shown[job.name], note=f"{job.name}: {progress.note()}")
            shown[job.name] = epochs

        def jobs() -> Iterator[Job]:
            runs = ChildRuns(context.tracker, context.run, TAG_ENTRY, TAG_SEED)
            for label, spec in specs:
                folder = context.work / f"{label}-seed-{spec.seed}"
                job = open_job(runs, label, spec, folder, stage="confirm_training")
                results.append(SeedResult(label=label, seed=spec.seed, store=job.store, run_id=job.run_id))
                show(job)
                yield job

        def on_event(job: Job, event: Event) -> None:
            if isinstance(event, Ended):
                end_run(job)
            show(job)

        train_all(jobs(), place, warn=context.console.warn, on_event=on_event)
    return results
