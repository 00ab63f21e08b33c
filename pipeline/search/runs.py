"""The trials of a search in MLflow: a run for each below the stage's, found by its tag when a search resumes.

All calls go through a retry queue. When a search resumes, each run gets the epochs of the journal that it lacks.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.metric_writer import QueuedWriter, RetryQueue, Status
from components.search.checkpoints import fetch
from components.search.trial import TrialRecord
from components.tracking import TAG_NOTE, ChildRuns, Run
from pipeline.search_space import at_horizon, settings_of
from pipeline.sections.recipe import Recipe
from pipeline.sections.search import SearchConfig
from pipeline.stage import StageContext
from pipeline.training.checkpoints import WEIGHTS_FILE

TAG_TRIAL = "escapement.trial"
TAG_STATUS = "escapement.trial_status"
#: An epoch is logged if its run has this metric.
EPOCH_METRIC = "val_score"


class TrialRuns:
    """Opens, fills and ends the runs of trials. Its methods only put calls into the queue."""

    def __init__(self, context: StageContext, default: Recipe, search: SearchConfig, retries: RetryQueue) -> None:
        self._default, self._search, self._retries = default, search, retries
        self._stage = QueuedWriter(retries, lambda: context.run)
        self._children = ChildRuns(context.tracker, context.run, TAG_TRIAL)
        self._writers: dict[int, QueuedWriter] = {}
        self._reports = 0
        self._best: tuple[float, int] | None = None

    def catch_up(self, records: list[TrialRecord]) -> None:
        """Log the parts of the journal that the tracking store lacks."""
        reported = [(score, record.number) for record in records for score in record.scores.values()]
        self._reports, self._best = len(reported), max(reported, default=None)
        for record in records:
            child = self._children.found.get((str(record.number),))
            if child is not None and TAG_STATUS in child.data.tags:
                continue
            self.started(record)
            rows = {epoch: _row(record, epoch) for epoch in record.scores}
            self._writer(record).call(functools.partial(_log_missing, rows))
            if record.ended:
                self.ended(record, trace="")

    def started(self, record: TrialRecord) -> None:
        """Open or reopen the run."""
        self._writer(record).call(lambda run: None)

    def reported(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Log the metrics of an epoch, and on the stage's run the best score so far."""
        if result["outcome"] != "scored":
            return
        epoch, score = record.epochs, record.scores[record.epochs]
        self._reports += 1
        self._writer(record).log_metrics(_row(record, epoch), step=epoch)
        if self._best is None or score > self._best[0]:
            self._best = (score, record.number)
            self._stage.log_metrics({"best_so_far": score, "best_so_far_trial": record.number}, step=self._reports)

    def ended(self, record: TrialRecord, trace: str) -> None:
        """End the run: FAILED if the trial failed or diverged, else FINISHED."""
        tags = {
            TAG_STATUS: record.status,
            TAG_NOTE: _note(record),
            "escapement.pruned": str(record.status == "stopped").lower(),
        }
        if record.message:
            tags["escapement.error"] = record.message
        outcome: Status = "FAILED" if record.status in ("failed", "diverged") else "FINISHED"
        writer = self._writer(record)
        if trace:
            writer.log_text(trace, "error.txt")
        writer.log_metrics({"trial_seconds": record.seconds, "trial_epochs": record.epochs})
        writer.finish(outcome)
        writer.set_tags(tags)  # last: a run with a status is left alone when the search resumes

    def keep_checkpoint(self, record: TrialRecord, scratch: Path) -> None:
        """Log the last scored weights of a trial as an artifact of its run."""
        assert record.checkpoint is not None
        folder = scratch / f"trial-{record.number}"
        folder.mkdir(parents=True, exist_ok=True)
        for path in fetch(record.checkpoint, (WEIGHTS_FILE,), folder):
            self._writer(record).log_artifact(path, "checkpoint")

    def _writer(self, record: TrialRecord) -> QueuedWriter:
        """The writer of the trial's run, which the queue opens at the first call."""
        number, suggestion = record.number, record.suggestion
        if number not in self._writers:
            recipe = at_horizon(self._default, suggestion.overrides, self._search)
            params = settings_of(recipe) | {
                "trial.epochs": suggestion.epochs,
                "trial.seed": suggestion.seed,
                "trial.fold": suggestion.fold,
                "trial.phase": suggestion.phase,
                "trial.unstopped": record.unstopped,
            }
            name = "trial-0-defaults" if number == 0 else f"trial-{number}"
            opener = functools.partial(self._children.open, str(number), name=name, stage="trial", params=params)
            self._writers[number] = QueuedWriter(self._retries, opener)
        return self._writers[number]


def _row(record: TrialRecord, epoch: int) -> dict[str, float]:
    return {**record.metrics.get(epoch, {}), EPOCH_METRIC: record.scores[epoch]}


def _log_missing(rows: Mapping[int, Mapping[str, float]], run: Run) -> None:
    logged = run.logged_steps(EPOCH_METRIC)
    run.log_history([(epoch, row) for epoch, row in rows.items() if epoch not in logged])


def _note(record: TrialRecord) -> str:
    """How a trial ended, and its settings, in Markdown."""
    score = "" if record.score is None else f", score {record.score:.4g}"
    changed = [f"- `{key}`: {value}" for key, value in record.suggestion.overrides.items()]
    return "\n".join([f"{record.status} after {record.epochs} epochs{score}", "", *(changed or ["- the defaults"])])
