"""The comparison in MLflow: a run per method below the stage's, and a run per seed below each of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from components.tracking import ChildRuns
from pipeline.comparison.rates import Method, RateChoice
from pipeline.comparison.results import METRICS, curves_table
from pipeline.comparison.trainings import MethodResult, MethodTraining
from pipeline.plan import flatten
from pipeline.stage import StageContext
from pipeline.training.placement import Job
from pipeline.training.runs import TAG_ENTRY, TAG_SEED, open_job

#: Of an epoch, what is worth a chart of the means over the seeds.
CHARTED = ("train_loss", "seconds", *METRICS)


class ComparisonRuns:
    """Opens the runs, those of an interrupted comparison again, and ends those of the methods."""

    def __init__(self, context: StageContext, methods: Sequence[Method]) -> None:
        self._context = context
        children = ChildRuns(context.tracker, context.run, TAG_ENTRY)
        self._entries = {
            method.name: children.open(
                method.name,
                name=method.name,
                stage="method",
                params={
                    **flatten({"recipe": method.recipe.recipe.model_dump(mode="json", exclude={"lr"})}),
                    "suggested_lr": method.suggested,
                    "range_test_abstained": method.abstained,
                },
            )
            for method in methods
        }
        self._seeds = {
            name: ChildRuns(context.tracker, run, TAG_ENTRY, TAG_SEED) for name, run in self._entries.items()
        }

    def open(self, training: MethodTraining) -> Job:
        """A full training, with its run below its method's."""
        seeds, folder = self._seeds[training.entry], self._context.work / training.key
        return open_job(seeds, training.entry, training.spec, folder, stage="method_seed")

    def chosen(self, method: Method, choice: RateChoice, trials: Sequence[MethodResult]) -> None:
        """Log which rate the method goes on with, and what the tried ones gave."""
        run = self._entries[method.name]
        rate = None if choice.factor is None else method.suggested * choice.factor
        if "chosen.factor" not in run.client.get_run(run.id).data.params:
            run.log_history([(number, _of_trial(trial)) for number, trial in enumerate(trials)])
        run.log_params({"chosen.factor": choice.factor, "chosen.lr": rate, "chosen.edge": choice.edge or "inside"})
        if choice.factor is None:
            run.finish("FAILED")

    def concluded(self, record: Mapping[str, Any], results: Sequence[MethodResult]) -> None:
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


_ENDS = (("", "mean"), ("_low", "low"), ("_high", "high"))


def _of_trial(trial: MethodResult) -> dict[str, float | None]:
    scores = {f"rate_trial_{name}": trial.final.get(name) for name in ("val_score", "val_loss")}
    return {"rate_trial_factor": trial.factor, "rate_trial_lr": trial.lr, **scores}


def _without_nan(row: pd.Series) -> dict[str, float]:
    return {str(name): float(value) for name, value in row.dropna().items()}
