"""compare_lr: the same model from the same start under several methods, each at its own rate, over several seeds.

First every method tries a few multiples of the range test's suggestion in short trainings; then it is trained at full
length at the best of them, with other seeds. No later stage uses the result: it helps a user to choose a method.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from components.display import counted
from components.errors import InputError
from components.optim.range_test.bounds import read_bounds
from pipeline.comparison.rates import (
    Method,
    RateChoice,
    choose_rate,
    full_trainings,
    methods_of,
    rate_trials,
)
from pipeline.comparison.results import (
    curves_table,
    rates_table,
    summarise,
    trainings_table,
)
from pipeline.comparison.runs import ComparisonRuns
from pipeline.comparison.trainings import MethodResult, MethodTraining, missing, read_result, seconds_of
from pipeline.compute.device import set_up_process
from pipeline.compute.resources import TrainingShare, training_session
from pipeline.compute.shipping import ship
from pipeline.console import duration
from pipeline.data.sources import log_lineage
from pipeline.reports.comparison import console_table, rate_notes, write_comparison_report
from pipeline.sections.learning_rate import CompareConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stage import StageContext
from pipeline.training.build import resolved
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.data import for_selection, open_data
from pipeline.training.job import Ended, Event
from pipeline.training.pace import measure_pace
from pipeline.training.placement import Job, train_all
from pipeline.training.runs import end_run
from pipeline.training.tasks import Place


def run(
    context: StageContext, *, seed: int, model: ModelConfig, recipe: RecipeConfig, compare_lr: CompareConfig
) -> dict[str, Any]:
    """Forecast, choose the rates, train, write tables, figures and report."""
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="comparison")
    bounds = read_bounds(context.input("lr_range_test", "lr_bounds.json"))
    base = resolved(Recipe(model=model, recipe=recipe), context.input("lr_range_test", "resolved.json"))
    methods = methods_of(base, compare_lr, bounds)
    trials = rate_trials(methods, compare_lr, seed=seed)
    with context.run.system_metrics(), training_session(context.compute) as share:
        _forecast(context, methods, trials, compare_lr, share, seed)
        runs = ComparisonRuns(context, methods)
        prepared = ship(context.inputs["prepare"], compute=context.compute)
        place = Place(prepared=prepared, compute=context.compute, threads=share.cpus, share=share)
        tried = _train(context, "rate trials", trials, place, runs)
        choices = {}
        for method in methods:
            own = [trial for trial in tried if trial.training.entry == method.name]
            choices[method.name] = choose_rate(own, compare_lr.rate_factors)
            runs.chosen(method, choices[method.name], own)
        _say_choices(context, methods, choices)
        if all(choice.factor is None for choice in choices.values()):
            raise InputError(
                f"compare_lr.rate_factors={list(compare_lr.rate_factors)}: every method diverged at every rate; add "
                "smaller factors"
            )
        results = _train(context, "trainings", full_trainings(methods, choices, compare_lr, seed=seed), place, runs)
    summary = summarise(methods, choices, results, target_val_loss=compare_lr.target_val_loss)
    for record in summary["entries"]:
        runs.concluded(record, [result for result in results if result.training.entry == record["name"]])
    _write(context, summary, tried, results, model.backbone)
    return _headline(summary, tried, results)


def _forecast(
    context: StageContext,
    methods: Sequence[Method],
    trials: Sequence[MethodTraining],
    settings: CompareConfig,
    share: TrainingShare,
    seed: int,
) -> None:
    """Print the number of trainings and about how long they take."""
    first = {method.name: RateChoice(factor=settings.rate_factors[0], edge="", scores={}) for method in methods}
    trainings = full_trainings(methods, first, settings, seed=seed)
    left = missing([*trials, *trainings], context.work)
    parts = [f"{len(trials)} rate trials of {counted(trials[0].epochs, 'epoch')}"] if trials else []
    parts.append(f"{len(trainings)} trainings of {counted(settings.epochs, 'epoch')}")
    words, done = " and ".join(parts), len(trials) + len(trainings) - len(left)
    words += f", {done} of them complete" if done else ""
    if left and context.compute.ray_address is not None:
        words += f", {share.concurrent} at a time"  # the pace of other machines is not known
    elif left:
        set_up_process(share.cpus)
        data = for_selection(open_data(context.inputs["prepare"].directory))
        pace = measure_pace(methods[0].recipe, data, seed=seed, compute=context.compute)
        seconds = seconds_of(left, data, pace, at_a_time=share.concurrent)
        words += f", about {duration(seconds)}, {share.concurrent} at a time"
        context.run.log_metrics({"forecast_seconds": seconds})
    context.console.say(f"  {words}")


def _train(
    context: StageContext, name: str, trainings: Sequence[MethodTraining], place: Place, runs: ComparisonRuns
) -> list[MethodResult]:
    """Run the trainings; their results in order. Rate trials have no MLflow runs."""
    jobs = [
        Job(name=training.key, spec=training.spec, store=TrainingStore(context.work / training.key))
        if training.phase == "rate"
        else runs.open(training)
        for training in trainings
    ]
    done = sum(job.store.ended is not None for job in jobs)
    with context.console.bar(name, len(trainings), done=done) as advance:

        def on_event(job: Job, event: Event) -> None:
            if isinstance(event, Ended):
                if job.run_id:
                    end_run(job)
                    if event.reason == "diverged":
                        context.console.warn(f"{job.name} diverged at {job.spec.recipe.recipe.lr:.2e}")
                advance(1, note=job.name)

        train_all(jobs, place, warn=context.console.warn, on_event=on_event)
    return [read_result(training, job.store) for training, job in zip(trainings, jobs, strict=True)]


def _say_choices(context: StageContext, methods: Sequence[Method], choices: dict[str, RateChoice]) -> None:
    for method in methods:
        choice = choices[method.name]
        if choice.factor is None:
            context.console.warn(f"{method.name}: diverged at every tried learning rate; it is not compared")
        else:
            rate = method.suggested * choice.factor
            context.console.say(f"  {method.name}: learning rate {rate:.2e}, {choice.words}")


def _write(
    context: StageContext,
    summary: dict[str, Any],
    tried: list[MethodResult],
    results: list[MethodResult],
    backbone: str,
) -> None:
    """Write every file of the result; log tables and figures."""
    folder = context.directory
    trainings = trainings_table([*tried, *results], target=summary["target_val_loss"])
    trainings.to_parquet(folder / "comparison.parquet", index=False)
    curves = curves_table([*tried, *results])
    curves.to_parquet(folder / "curves.parquet", index=False)
    rates = rates_table(results)
    rates.to_parquet(folder / "rates.parquet", index=False)
    text = json.dumps(summary, indent=2, allow_nan=False)
    (folder / "comparison.json").write_text(text, encoding="utf-8")
    full = curves["phase"] == "full"
    write_comparison_report(
        context, summary, trainings[trainings["phase"] == "full"], curves[full], rates, backbone=backbone
    )
    context.run.log_table(trainings, "tables/comparison.json")
    for name in ("comparison.json", "comparison.html", "comparison.parquet", "curves.parquet"):
        context.run.log_artifact(folder / name)
    context.console.table(console_table(summary, width=context.console.rich.width))
    for note in rate_notes(summary):
        context.console.say(f"  {note}")
    context.console.say(f"  report: {folder / 'comparison.html'}")


def _headline(summary: dict[str, Any], tried: list[MethodResult], results: list[MethodResult]) -> dict[str, Any]:
    best = summary["entries"][0] if summary["best"] is not None else None
    return {
        "best_method": summary["best"],
        f"best_method_{summary['measure']}": best["metrics"][summary["measure"]]["mean"] if best else None,
        "methods_within_noise": sum(entry["within_noise"] is True for entry in summary["entries"]),
        "trainings": len(tried) + len(results),
        "trainings_diverged": sum(result.diverged for result in results),
    }
