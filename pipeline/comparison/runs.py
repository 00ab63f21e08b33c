"""The comparison in MLflow: a run per method below the stage's, and a run per seed below each of those."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from components.tracking import ChildRuns
from pipeline.comparison.rates import Method, RateChoice
from pipeline.comparison.results import METRICS, curves_table
from pipeline.comparison.trainings import MethodResult, MethodTraining
from pipeline.plan import flatten
from pipeline.stage import StageContext
from pipeline.training.placement import Job
from pipeline.training.runs import TAG_ENTRY, TAG_SEED, open_job

#: Metrics of an epoch whose means over the seeds are logged.
CHARTED = ("train_loss", "seconds", *METRICS)


class ComparisonRuns:
    """Opens the runs, also those of an interrupted comparison, and ends those of the methods."""

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
        """Log the chosen rate of a method, and the results of all tried ones."""
        run = self._entries[method.name]
        rate = None if choice.factor is None else method.suggested * choice.factor
        if "chosen.factor" not in run.client.get_run(run.id).data.params:
            run.log_history(
                [
                    (
                        number,
                        {
                            "rate_trial_factor": trial.training.factor,
                            "rate_trial_lr": trial.training.lr,
                            "rate_trial_val_score": trial.final.get("val_score"),
                            "rate_trial_val_loss": trial.final.get("val_loss"),
                        },
                    )
                    for number, trial in enumerate(trials)
                ]
            )
        run.log_params({"chosen.factor": choice.factor, "chosen.lr": rate, "chosen.edge": choice.edge or "inside"})
        if choice.factor is None:
            run.finish("FAILED")

    def concluded(self, record: Mapping[str, Any], results: Sequence[MethodResult]) -> None:
        """Log the means over the seeds per epoch and the final metrics with their intervals; end the method's run."""
        run = self._entries[record["name"]]
        if record["failed"]:
            return
        per_epoch = curves_table(results)
        if not per_epoch.empty:
            shown = [name for name in CHARTED if name in per_epoch]
            means = per_epoch.groupby("epoch")[shown].mean()
            run.log_history([(int(epoch), means.loc[epoch].dropna().to_dict()) for epoch in means.index])
        final: dict[str, float | None] = {}
        for name, repeats in record["metrics"].items():
            final |= {f"final_{name}{end}": repeats[key] for end, key in _ENDS}
        final |= {f"gap_to_best{end}": record["gap_to_best"][key] for end, key in _ENDS}
        final |= {"steps_to_target": record["steps_to_target"]["mean"], "diverged_trainings": record["diverged"]}
        run.log_metrics(final)
        run.finish("FAILED" if record["diverged"] == record["trainings"] else "FINISHED")


_ENDS = (("", "mean"), ("_low", "low"), ("_high", "high"))
