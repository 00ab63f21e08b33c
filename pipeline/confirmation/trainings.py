"""The trainings of a confirmation: both recipes at full length, each from several seeds, each with a run of its own.

Each has a folder below the stage's work folder, so that an interrupted confirmation goes on within the training that it
was at and repeats none that has ended.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from components.tracking import TAG_ROOT, TAG_STAGE, Run, root_of
from pipeline.comparison.runs import TAG_ENTRY, TAG_SEED
from pipeline.confirmation.verdict import DEFAULTS, WINNER, Candidate
from pipeline.console import Advance
from pipeline.overriding import override
from pipeline.plan import flatten
from pipeline.stage import StageContext
from pipeline.training.job import Ended, FinalTraining
from pipeline.training.keeper import TrainingKeeper
from pipeline.training.placement import Item, Job, place_of_several, say_death, train_here, train_on_workers

LABELS = (WINNER, DEFAULTS)


@dataclass(frozen=True, kw_only=True)
class Entrant:
    """One training of the confirmation. label: of its recipe."""

    label: str
    training: FinalTraining

    @property
    def name(self) -> str:
        return f"{self.label}, seed {self.training.seed}"

    @property
    def key(self) -> str:
        """Names its folder and its run."""
        return f"{self.label}-seed-{self.training.seed}"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of one training. run: its MLflow run."""

    label: str
    seed: int
    keeper: TrainingKeeper
    run: Run

    @property
    def diverged(self) -> bool:
        """Whether it failed before there was an epoch to keep; where there is one, that is judged."""
        return self.keeper.ended is not None and self.keeper.ended.failure is not None

    @property
    def score(self) -> float | None:
        """The best on the validation split; None where it diverged."""
        return None if self.diverged else self.keeper.progress.best.metrics["val_score"]

    def record(self) -> dict[str, Any]:
        """What confirmation.json tells of it."""
        history = self.keeper.progress.history
        return {
            "recipe": self.label,
            "seed": self.seed,
            "epochs": len(history),
            "best_epoch": self.keeper.progress.best_epoch if history else None,
            "diverged": self.diverged,
            "run_id": self.run.id,
        }


def entrants(candidates: Mapping[str, Candidate], like: FinalTraining, *, seeds: Sequence[int]) -> list[Entrant]:
    """Seed by seed. like: a training of the recipe that the candidates set keys of."""
    return [
        Entrant(
            label=label,
            training=replace(
                like, recipe=override(like.recipe, candidates[label].overrides), seed=seed
            ),
        )
        for seed in seeds
        for label in LABELS
    ]  # fmt: skip


def train_all(context: StageContext, entries: Sequence[Entrant]) -> list[Result]:
    """Train all to their ends, one after the other or several at a time, with one bar over their epochs."""
    total = sum(entry.training.train.epochs for entry in entries)
    with (
        place_of_several(context, trainings=len(entries)) as place,
        context.console.bar("confirmation", total) as advance,
    ):
        board = _Board(context, advance)
        if place.shares is not None:
            jobs = {entry.name: board.open(entry) for entry in entries}
            died = functools.partial(say_death, context.console)
            train_on_workers(jobs, place, place.shares, on_item=board.committed, on_death=died)
            return board.results
        for entry in entries:
            job = board.open(entry)
            train_here(job, place, on_item=functools.partial(board.committed, job))
        return board.results


class _Board:
    """Opens the trainings with their runs, and keeps the bar and the runs in step with them."""

    def __init__(self, context: StageContext, advance: Advance) -> None:
        self.results: list[Result] = []
        self._context, self._advance = context, advance
        self._shown: dict[str, int] = {}
        self._runs: dict[str, Run] = {}
        self._found = {
            (child.data.tags[TAG_ENTRY], child.data.tags[TAG_SEED]): child
            for child in context.tracker.children(context.run)
        }

    def open(self, entry: Entrant) -> Job:
        """The training with what stands of it. Its run is found again by its tags; one that has ended well stays so."""
        context, seed = self._context, str(entry.training.seed)
        tags = {TAG_ENTRY: entry.label, TAG_SEED: seed, TAG_STAGE: "confirm_training", TAG_ROOT: root_of(context.run)}
        found = self._found.get((entry.label, seed))
        if found is None:
            run = context.tracker.start_child(context.run, entry.key, tags)
            settings = flatten(entry.training.recipe.model_dump(mode="json"))
            run.log_params({**settings, "seed": seed})
        else:
            run = Run(context.tracker.client, found.info.run_id, found.info.experiment_id)
            run.set_tags({TAG_ROOT: tags[TAG_ROOT]})
        keeper = TrainingKeeper(context.work / entry.key, run)
        job = Job(name=entry.name, training=entry.training, keeper=keeper)
        self._runs[job.name] = run
        self._shown[job.name] = 0
        self.results.append(Result(label=entry.label, seed=entry.training.seed, keeper=keeper, run=run))
        if keeper.ended is not None:
            self._end(job, keeper.ended, has_ended=found is not None and found.info.status in ("FINISHED", "FAILED"))
        elif found is not None:
            context.tracker.client.update_run(run.id, status="RUNNING")
            self._show(job, keeper.progress.epochs_done())
        return job

    def committed(self, job: Job, item: Item) -> None:
        """Move the bar; the end of a training ends its run."""
        if isinstance(item, Ended):
            self._end(job, item, has_ended=False)
        else:
            self._show(job, job.keeper.progress.epochs_done())

    def _end(self, job: Job, ended: Ended, *, has_ended: bool) -> None:
        progress = job.keeper.progress
        if not has_ended:
            run = self._runs[job.name]
            if progress.history:
                run.log_metrics(
                    {"best_epoch": progress.best_epoch, "best_val_score": progress.best.metrics["val_score"]}
                )
            run.finish("FAILED" if ended.failure is not None or ended.diverged is not None else "FINISHED")
        if ended.failure is not None or ended.diverged is not None:
            self._context.console.warn(f"{job.name}: {ended.failure or f'diverged in epoch {ended.diverged}'}")
        self._show(job, job.training.train.epochs)

    def _show(self, job: Job, epochs: int) -> None:
        self._advance(epochs - self._shown[job.name], note=f"{job.name}: {job.keeper.progress.note()}")
        self._shown[job.name] = epochs
