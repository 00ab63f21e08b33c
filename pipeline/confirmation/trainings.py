"""The trainings of a confirmation: both recipes at full length, each from several seeds, each with a run of its own.

Each has a folder below the stage's work folder, so that an interrupted confirmation resumes within the training that it
was at and repeats none that has ended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.tracking import ChildRuns
from pipeline.confirmation.verdict import DEFAULTS, WINNER, Candidate
from pipeline.overriding import override
from pipeline.stage import StageContext
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.job import Ended, Event, TrainingSpec
from pipeline.training.placement import Job, placement_of_trainings, train_all
from pipeline.training.runs import TAG_ENTRY, TAG_SEED, end_run, open_job

LABELS = (WINNER, DEFAULTS)


@dataclass(frozen=True, kw_only=True)
class SeedResult:
    """What came of one training. label: of its recipe. run_id: of its MLflow run."""

    label: str
    seed: int
    store: TrainingStore
    run_id: str

    @property
    def diverged(self) -> bool:
        """Whether it failed before there was an epoch to keep; where there is one, that is judged."""
        return self.store.ended is not None and self.store.ended.failure is not None

    @property
    def score(self) -> float | None:
        """The best on the validation split; None where it diverged."""
        return None if self.diverged else self.store.progress.best.metrics["val_score"]

    def record(self) -> dict[str, Any]:
        """What confirmation.json tells of it."""
        progress = self.store.progress
        return {
            "recipe": self.label,
            "seed": self.seed,
            "epochs": progress.epochs_done(),
            "best_epoch": progress.best.epoch if progress.history else None,
            "diverged": self.diverged,
            "run_id": self.run_id,
        }


def train_candidates(
    context: StageContext, candidates: Mapping[str, Candidate], configured: TrainingSpec, *, seeds: Sequence[int]
) -> list[SeedResult]:
    """Train both recipes from every seed, one after the other or several at a time, with one bar over their epochs.

    configured: a training of the recipe that the candidates set keys of.
    """
    specs = [
        (label, replace(configured, recipe=override(configured.recipe, candidates[label].overrides), seed=seed))
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
