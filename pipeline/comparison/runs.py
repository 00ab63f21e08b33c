"""The comparison in MLflow: a run per method below the stage's, and a run per seed below each of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from components.tracking import TAG_ROOT, TAG_STAGE, Run, root_of
from pipeline.comparison.rates import Method, RateChoice
from pipeline.comparison.results import METRICS, curves_table
from pipeline.comparison.trainings import Trained
from pipeline.plan import flatten
from pipeline.stage import StageContext

TAG_ENTRY = "escapement.entry"
TAG_SEED = "escapement.seed"
#: Of an epoch, what is worth a chart.
CHARTED = ("train_loss", "seconds", *METRICS)


class ComparisonRuns:
    """Opens the runs, finds them again by their tags when a comparison goes on, and ends them.

    A run per seed is logged when its training is done, all at once.
    """

    def __init__(self, context: StageContext, methods: Sequence[Method]) -> None:
        self._context = context
        self._root = root_of(context.run)
        found = {child.data.tags[TAG_ENTRY]: child.info.run_id for child in context.tracker.children(context.run)}
        self._entries = {method.name: self._open(method, found.get(method.name)) for method in methods}
        self._seeds = {name: self._seed_runs(run) for name, run in self._entries.items()}

    def chosen(self, method: Method, choice: RateChoice, trials: Sequence[Trained]) -> None:
        """Log which rate the method goes on with, and what the tried ones gave."""
        run = self._entries[method.name]
        rate = None if choice.factor is None else method.suggested * choice.factor
        if "chosen.factor" not in run.client.get_run(run.id).data.params:
            run.log_history([(number, _of_trial(trial)) for number, trial in enumerate(trials)])
        run.log_params({"chosen.factor": choice.factor, "chosen.lr": rate, "chosen.edge": choice.edge or "inside"})
        if choice.factor is None:
            run.finish("FAILED")

    def trained(self, result: Trained) -> None:
        """The run of one full training, logged and ended."""
        ended, run = self._seeds[result.entry].get(result.seed, (False, None))
        if ended:
            return
        run = run or self._new_seed(result)
        run.log_params({"seed": result.seed, "lr": result.lr, "epochs": result.epochs})
        run.log_history([(epoch["epoch"], {name: epoch.get(name) for name in CHARTED}) for epoch in result.history])
        run.log_metrics({"training_seconds": result.seconds})
        run.finish("FAILED" if result.diverged else "FINISHED")

    def concluded(self, record: Mapping[str, Any], results: Sequence[Trained]) -> None:
        """Means over the seeds per epoch, the final metrics with their intervals, and the end of a method's run."""
        run = self._entries[record["name"]]
        if record["failed"]:
            return
        per_epoch = curves_table(results)
        if not per_epoch.empty:
            shown = [name for name in CHARTED if name in per_epoch]
            means = per_epoch.groupby("epoch")[shown].mean()
            run.log_history([(int(epoch), _without_nan(means.loc[epoch])) for epoch in means.index])
        final: dict[str, float | None] = {}
        for name, repeats in record["metrics"].items():
            final |= {f"final_{name}{end}": repeats[key] for end, key in _ENDS}
        final |= {f"gap_to_best{end}": record["gap_to_best"][key] for end, key in _ENDS}
        final |= {"steps_to_target": record["steps_to_target"]["mean"], "diverged_trainings": record["diverged"]}
        run.log_metrics(final)
        run.finish("FAILED" if record["diverged"] == record["trainings"] else "FINISHED")

    def _open(self, method: Method, run_id: str | None) -> Run:
        tracker = self._context.tracker
        if run_id is not None:
            again = Run(tracker.client, run_id, self._context.run.experiment_id)
            again.set_tags({TAG_ROOT: self._root})
            tracker.client.update_run(run_id, status="RUNNING")
            return again
        tags = {TAG_ENTRY: method.name, TAG_STAGE: "method", TAG_ROOT: self._root}
        run = tracker.start_child(self._context.run, method.name, tags)
        settings = flatten({"recipe": method.recipe.recipe.model_dump(mode="json", exclude={"lr"})})
        run.log_params({**settings, "suggested_lr": method.suggested, "range_test_abstained": method.abstained})
        return run

    def _seed_runs(self, entry: Run) -> dict[int, tuple[bool, Run]]:
        """Seed → whether its run has ended, and the run."""
        return {
            int(child.data.tags[TAG_SEED]): (
                "training_seconds" in child.data.metrics and child.info.status in ("FINISHED", "FAILED"),
                Run(entry.client, child.info.run_id, entry.experiment_id),
            )
            for child in self._context.tracker.children(entry)
        }

    def _new_seed(self, result: Trained) -> Run:
        tags = {TAG_SEED: str(result.seed), TAG_STAGE: "method_seed", TAG_ROOT: self._root}
        return self._context.tracker.start_child(
            self._entries[result.entry], f"{result.entry}-seed-{result.seed}", tags
        )


_ENDS = (("", "mean"), ("_low", "low"), ("_high", "high"))


def _of_trial(trial: Trained) -> dict[str, float | None]:
    scores = {f"rate_trial_{name}": trial.final.get(name) for name in ("val_score", "val_loss")}
    return {"rate_trial_factor": trial.factor, "rate_trial_lr": trial.lr, **scores}


def _without_nan(row: pd.Series) -> dict[str, float]:
    return {str(name): float(value) for name, value in row.dropna().items()}
