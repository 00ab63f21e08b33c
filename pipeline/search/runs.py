"""A search's trials in MLflow: a run for each below the stage's, found again by its tag when a search goes on.

What is logged goes through an outbox. A run that lacks what the journal has, because the driver or the server died in
between, is given it when the search goes on.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from components.outbox import Outbox
from components.search.checkpoints import fetch
from components.search.trial import TrialRecord
from components.tracking import TAG_NOTE, TAG_ROOT, TAG_STAGE, Status, root_of
from pipeline.search.session import WEIGHTS_FILE
from pipeline.search_space import at_horizon, settings_of
from pipeline.sections.recipe import Recipe
from pipeline.sections.search import SearchConfig
from pipeline.stage import StageContext

TAG_TRIAL = "escapement.trial"
TAG_STATUS = "escapement.trial_status"
#: An epoch is logged once: by this metric it is known whether it was.
EPOCH_METRIC = "val_score"


class TrialRuns:
    """Opens, fills and ends the runs of trials. Its methods only put calls into the outbox."""

    def __init__(self, context: StageContext, default: Recipe, search: SearchConfig, outbox: Outbox) -> None:
        self._context, self._default, self._search, self._outbox = context, default, search, outbox
        self._root = root_of(context.run)
        children = context.tracker.children(context.run)
        found = {int(child.data.tags[TAG_TRIAL]): child for child in children if TAG_TRIAL in child.data.tags}
        self._runs = {number: context.tracker.run(child.info.run_id) for number, child in found.items()}
        self._statuses = {number: child.data.tags.get(TAG_STATUS) for number, child in found.items()}
        self._described = {number for number, child in found.items() if child.data.params}
        self._reports = 0
        self._best: tuple[float, int] | None = None

    def catch_up(self, records: list[TrialRecord]) -> None:
        """Give the store what the journal has and it has not."""
        told = [(score, record.number) for record in records for score in record.scores.values()]
        self._reports, self._best = len(told), max(told, default=None)
        for record in records:
            if self._statuses.get(record.number) is not None:
                continue
            self.started(record)
            self._put(functools.partial(self._log_missing, record.number, dict(record.scores), dict(record.metrics)))
            if record.ended:
                self.ended(record, trace="")

    def started(self, record: TrialRecord) -> None:
        """Open the run, or open it again."""
        suggestion, number = record.suggestion, record.number
        recipe = at_horizon(self._default, suggestion.overrides, self._search)
        params = settings_of(recipe) | {
            "trial.epochs": suggestion.epochs,
            "trial.seed": suggestion.seed,
            "trial.fold": suggestion.fold,
            "trial.phase": suggestion.phase,
            "trial.unstopped": record.unstopped,
        }
        self._put(functools.partial(self._open, number, params))

    def reported(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        """Log the metrics of an epoch, and on the stage's run the best score so far."""
        if result["outcome"] != "scored":
            return
        epoch, score = record.epochs, record.scores[record.epochs]
        self._reports += 1
        metrics = {**record.metrics[epoch], EPOCH_METRIC: score}
        self._put(functools.partial(self._log, record.number, metrics, epoch))
        if self._best is None or score > self._best[0]:
            self._best = (score, record.number)
            best = {"best_so_far": score, "best_so_far_trial": record.number}
            self._put(functools.partial(self._context.run.log_metrics, best, step=self._reports))

    def ended(self, record: TrialRecord, trace: str) -> None:
        """End the run: FAILED where the trial failed or diverged, else FINISHED, pruned or not."""
        tags = {
            TAG_STATUS: record.status,
            TAG_NOTE: _note(record),
            "escapement.pruned": str(record.status == "stopped").lower(),
        }
        if record.message:
            tags["escapement.error"] = record.message
        costs = {"trial_seconds": record.seconds, "trial_epochs": record.epochs}
        outcome: Status = "FAILED" if record.status in ("failed", "diverged") else "FINISHED"
        self._put(functools.partial(self._end, record.number, tags, costs, trace, outcome))

    def keep_checkpoint(self, record: TrialRecord, scratch: Path) -> None:
        """Log the weights that a trial was last scored with, as an artifact of its run."""
        assert record.checkpoint is not None
        folder = scratch / f"trial-{record.number}"
        folder.mkdir(parents=True, exist_ok=True)
        for path in fetch(record.checkpoint, (WEIGHTS_FILE,), folder):
            self._runs[record.number].log_artifact(path, "checkpoint")

    def _put(self, call: Callable[[], Any]) -> None:
        self._outbox.put(call)

    def _open(self, number: int, params: Mapping[str, Any]) -> None:
        tracker = self._context.tracker
        if number in self._runs:
            tracker.client.update_run(self._runs[number].id, status="RUNNING")
        else:
            tags = {TAG_TRIAL: str(number), TAG_STAGE: "trial", TAG_ROOT: self._root}
            name = "trial-0-defaults" if number == 0 else f"trial-{number}"
            # Known before its parameters are logged: a call that is repeated makes no second run.
            self._runs[number] = tracker.start_child(self._context.run, name, tags)
        if number not in self._described:
            self._runs[number].log_params(params)
            self._described.add(number)

    def _log(self, number: int, metrics: Mapping[str, float], epoch: int) -> None:
        self._runs[number].log_metrics(metrics, step=epoch)

    def _log_missing(
        self, number: int, scores: Mapping[int, float], metrics: Mapping[int, Mapping[str, float]]
    ) -> None:
        run = self._runs[number]
        logged = {entry.step for entry in run.client.get_metric_history(run.id, EPOCH_METRIC)}
        rows = [
            (epoch, {**metrics.get(epoch, {}), EPOCH_METRIC: score})
            for epoch, score in scores.items()
            if epoch not in logged
        ]
        run.log_history(rows)

    def _end(
        self, number: int, tags: Mapping[str, str], costs: Mapping[str, float], trace: str, outcome: Status
    ) -> None:
        run = self._runs[number]
        if trace:
            run.log_text(trace, "error.txt")
        run.log_metrics(costs)
        run.finish(outcome)
        run.set_tags(tags)  # last: a run with a status is left alone when the search goes on


def _note(record: TrialRecord) -> str:
    """How a trial ended, and what it set, in Markdown."""
    score = "" if record.score is None else f", score {record.score:.4g}"
    changed = [f"- `{key}`: {value}" for key, value in record.suggestion.overrides.items()]
    return "\n".join([f"{record.status} after {record.epochs} epochs{score}", "", *(changed or ["- the defaults"])])
