"""An MLflow run for each of several trainings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from components.tracking import ChildRuns
from pipeline.plan import flatten
from pipeline.stage import StageContext
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.job import Ended, Event, TrainingSpec
from pipeline.training.placement import Job, train_all
from pipeline.training.tasks import Place

#: Tags of a run: the recipe or method of its training, and the seed.
TAG_ENTRY, TAG_SEED = "escapement.entry", "escapement.seed"


def open_job(runs: ChildRuns, label: str, spec: TrainingSpec, folder: Path, *, stage: str) -> Job:
    """A training with its store in a folder, and its run, which `runs` finds by `TAG_ENTRY` and `TAG_SEED`."""
    name = f"{label}-seed-{spec.seed}"
    params = flatten(spec.recipe.model_dump(mode="json")) | {"seed": spec.seed, "epochs": spec.epochs}
    run = runs.open(label, str(spec.seed), name=name, stage=stage, params=params)
    job = Job(name=f"{label}, seed {spec.seed}", spec=spec, store=TrainingStore(folder, run), run_id=run.id)
    if job.store.ended is not None and not run.has_finished():
        end_run(job)
    return job


def end_run(job: Job) -> None:
    """Log the results of a complete training, and end its run."""
    store = job.store
    assert store.ended is not None
    if store.progress.history:
        best, seconds = store.progress.best, sum(record.seconds for record in store.progress.history)
        values = {"best_epoch": best.epoch, "training_seconds": seconds}
        if "val_score" in best.metrics:
            values["best_val_score"] = best.metrics["val_score"]
        store.writer.log_metrics(values)
    store.writer.finish("FAILED" if store.ended.reason == "diverged" or store.ended.failure else "FINISHED")


def train_shown(
    context: StageContext, title: str, jobs: Iterable[Job], place: Place, *, trainings: int, epochs: int
) -> None:
    """Run trainings with runs of their own, with one bar over their epochs; end the run of each. See `train_all`."""
    shown: Counter[str] = Counter()
    with context.console.bar(title, trainings * epochs) as advance:

        def show(job: Job) -> None:
            ended, progress = job.store.ended, job.store.progress
            if ended is not None and (ended.failure is not None or ended.reason == "diverged"):
                context.console.warn(f"{job.name}: {ended.failure or f'diverged in epoch {ended.epoch}'}")
            done = progress.epochs_done() if ended is None else epochs
            note = progress.note()
            advance(done - shown[job.name], note=f"{job.name}{f': {note}' if note else ''}")
            shown[job.name] = done

        def seen() -> Iterator[Job]:
            for job in jobs:
                show(job)
                yield job

        def on_event(job: Job, event: Event) -> None:
            if isinstance(event, Ended):
                end_run(job)
            show(job)

        train_all(seen(), place, warn=context.console.warn, on_event=on_event)
