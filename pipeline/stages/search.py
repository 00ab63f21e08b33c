"""search: Ray Tune with ASHA over the recipe; trial 0 is the recipe as configured.

Trials run at a constant rate after warmup and are compared on averaged weights, which are comparable at every epoch: a
cosine tied to the last epoch would be judged half-annealed at a rung.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from components.errors import InputError
from components.optim.batch_scaling import batch_factor
from components.optim.lr_bounds import LrBounds
from components.optim.optimizers import optimizer_spec
from components.report.figures import search_figure
from components.search.samplers import latin_hypercube
from components.search.space import Choice, ConditionalInterval, Interval
from components.search.space import Dimension as SpaceDimension
from components.search.tuner import TrialResult, TrialStatus, TuneSettings, run_trials
from components.tracking import TAG_PARENT, Run, Status
from pipeline.config import ComputeConfig
from pipeline.console import Advance
from pipeline.loading import override
from pipeline.resources import Shares, ray_for, training_shares
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import Dimension, SearchConfig
from pipeline.sources import log_lineage
from pipeline.stage import StageContext
from pipeline.training import TrialSession, open_data, read_bounds, use_threads, with_learning_rate

TAG_TRIAL = "escapement.trial"
#: Weight decay shifts where a rate is stable, by little: the range is widened to both sides by this factor.
WIDENED = 1.5
UNCONFIRMED = (
    "The trial of the top score is taken, one seed on the validation split, without a repetition: "
    "its gain is unconfirmed, and may be within the noise of the defaults."
)
#: Rates searched per optimizer, (low, high); empty where the range test does not bound the search.
Ranges = dict[str, tuple[float, float]]
#: Keys of a trial's result that are worth a chart.
LOGGED = ("train_loss", "val_loss", "val_score", "lr", "lr_lowest", "grad_norm", "images_per_second")


def run(
    context: StageContext, *, seed: int, model: ModelConfig, recipe: RecipeConfig, search: SearchConfig
) -> dict[str, Any]:
    """Run the trials; write trials.parquet and best.json."""
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="search")
    bounds = read_bounds(context.input("lr_range_test", "lr_bounds.json"))
    configured = Recipe(model=model, recipe=recipe)
    default = with_learning_rate(configured, bounds)
    ranges, notes = _searched_ranges(search, bounds), _adjustments(search, recipe)
    space = tuple(_expand(dimension, ranges, recipe) for dimension in search.space)
    sampled = latin_hypercube(space, max(0, search.num_trials - 1), seed=seed)
    own = (_with_own_rate(trial, configured, bounds, within_bounds=bool(ranges)) for trial in sampled)
    trials: list[dict[str, Any]] = [{}, *own][: search.num_trials]
    if not trials:
        return _conclude(context, default, trials, [], ranges, [])
    for note in notes:
        context.console.say(f"  {note}")
    shares = training_shares(context.compute)
    settings = _settings(context, search, shares)
    open_trial = _session_opener(context, default, trials, search, settings, seed)
    with (
        context.run.system_metrics(),
        ray_for(context.compute, shares),
        context.console.bar("trials", len(trials)) as advance,
    ):
        log = _TrialLog(context, default, trials, advance)
        results = run_trials(len(trials), open_trial, log, settings)
    _raise_if_all_failed(results)
    return _conclude(context, default, trials, results, ranges, notes)


def open_session(
    index: int,
    *,
    prepared: Path,
    default: Recipe,
    trials: list[dict[str, Any]],
    search: SearchConfig,
    seed: int,
    compute: ComputeConfig,
    threads: int,
) -> TrialSession:
    """A trial, opened in a worker. Every trial starts from the same seed, so that trials differ by their settings."""
    use_threads(threads)
    recipe = _at_horizon(default, trials[index], search)
    return TrialSession(recipe, open_data(prepared), total_epochs=search.max_epochs, seed=seed, compute=compute)


def _at_horizon(default: Recipe, trial: Mapping[str, Any], search: SearchConfig) -> Recipe:
    """The recipe of a trial at a constant rate on averaged weights; a schedule-free optimizer averages by itself."""
    averages = optimizer_spec(trial.get("recipe.optimizer", default.recipe.optimizer)).schedule_free
    horizon = {"recipe.schedule": "fixed", "recipe.ema_decay": None if averages else search.ema_decay}
    return override(default, {**trial, **horizon})


def _session_opener(
    context: StageContext,
    default: Recipe,
    trials: list[dict[str, Any]],
    search: SearchConfig,
    settings: TuneSettings,
    seed: int,
) -> functools.partial[TrialSession]:
    return functools.partial(
        open_session,
        prepared=context.inputs["prepare"].directory,
        default=default,
        trials=trials,
        search=search,
        seed=seed,
        compute=context.compute,
        threads=max(1, int(settings.cpus_per_trial)),
    )


def _settings(context: StageContext, search: SearchConfig, shares: Shares) -> TuneSettings:
    return TuneSettings(
        storage=context.work,
        max_epochs=search.max_epochs,
        grace_epochs=search.grace_epochs,
        reduction_factor=search.reduction_factor,
        concurrent=shares.concurrent,
        cpus_per_trial=shares.cpus,
        gpus_per_trial=shares.gpus,
    )


def _searched_ranges(search: SearchConfig, bounds: Mapping[str, LrBounds]) -> Ranges:
    """The range test's bounds per optimizer, widened where trials differ in weight decay."""
    if all(dimension.bounds is None for dimension in search.space):
        return {}
    factor = WIDENED if _searches(search, "recipe.weight_decay") else 1.0
    return {name: (found.lower / factor, found.upper * factor) for name, found in bounds.items()}


def _searches(search: SearchConfig, key: str) -> bool:
    return any(dimension.sets == key for dimension in search.space)


def _adjustments(search: SearchConfig, recipe: RecipeConfig) -> list[str]:
    """In words, what is done where trials differ in a setting that the range test held fixed."""
    notes = []
    bounded = any(dimension.bounds for dimension in search.space)
    if bounded and _searches(search, "recipe.weight_decay"):
        notes.append(
            f"The range test's bounds hold for the recipe's weight decay; trials vary it, so they are widened by a "
            f"factor of {WIDENED:g} to both sides."
        )
    suggested = recipe.lr == "auto" and not _searches(search, "recipe.lr")
    if (bounded or suggested) and _searches(search, "recipe.batch_size"):
        notes.append(
            "The range test's rates hold for the recipe's batch size; a trial of another one has its rate scaled, "
            "in proportion for sgd and by the square root for the adaptive optimizers."
        )
    return notes


def _expand(dimension: Dimension, ranges: Ranges, recipe: RecipeConfig) -> SpaceDimension:
    """A configured dimension as a dimension of the space; the ranges of the rate are put in per optimizer."""
    if dimension.choices is not None:
        return Choice(dimension.sets, dimension.choices)
    if dimension.bounds is not None:
        return ConditionalInterval(dimension.sets, "recipe.optimizer", ranges, default=recipe.optimizer)
    assert dimension.low is not None  # the configuration asks for both
    assert dimension.high is not None
    return Interval(dimension.sets, dimension.low, dimension.high, dimension.log)


def _with_own_rate(
    trial: dict[str, Any], configured: Recipe, bounds: Mapping[str, LrBounds], *, within_bounds: bool
) -> dict[str, Any]:
    """A trial whose rate comes from the range test has it fitted to its own optimizer and batch size.

    within_bounds: the trial's rate was drawn within the range test's bounds. A rate that was given otherwise stays.
    """
    recipe = override(configured, trial)
    if recipe.recipe.lr != "auto" and not within_bounds:
        return trial
    rate = with_learning_rate(recipe, bounds).recipe.lr
    assert not isinstance(rate, str)
    factor = batch_factor(
        recipe.recipe.optimizer, batch_size=recipe.recipe.batch_size, measured=configured.recipe.batch_size
    )
    return {**trial, "recipe.lr": rate * factor}


class _TrialLog:
    """Draws the bar and keeps an MLflow run per trial, found again by its tag when a search goes on."""

    def __init__(self, context: StageContext, default: Recipe, trials: list[dict[str, Any]], advance: Advance) -> None:
        self._context, self._default, self._trials, self._advance = context, default, trials, advance
        self._best: tuple[float, int] | None = None
        self._reports = 0
        self._runs: dict[int, Run] = {}
        for child in context.tracker.children(context.run):
            index = int(child.data.tags[TAG_TRIAL])
            self._runs[index] = context.tracker.run(child.info.run_id)

    def started(self, index: int) -> None:
        tracker, stage_run = self._context.tracker, self._context.run
        if index in self._runs:
            tracker.client.update_run(self._runs[index].id, status="RUNNING")
            return
        tags = {TAG_TRIAL: str(index), "escapement.stage": "trial", "escapement.root": _root_of(stage_run)}
        name = "trial-0-defaults" if index == 0 else f"trial-{index}"
        run = self._runs[index] = tracker.start_child(stage_run, name, tags)
        run.log_params(effective_settings(self._default, self._trials[index]))

    def reported(self, index: int, result: Mapping[str, Any]) -> None:
        self._reports += 1
        metrics = {key: result[key] for key in LOGGED if _finite(result.get(key))}
        self._runs[index].log_metrics(metrics, step=int(result["training_iteration"]))
        if not result["diverged"] and (self._best is None or result["score"] > self._best[0]):
            self._best = (result["score"], index)
            best = {"best_so_far": result["score"], "best_so_far_trial": index}
            self._context.run.log_metrics(best, step=self._reports)
        if self._best is not None:
            self._advance(0, note=f"best {self._best[0]:.4f} (trial {self._best[1]})")

    def ended(self, index: int, status: TrialStatus, message: str) -> None:
        run = self._runs[index]
        run.set_tags({"escapement.trial_status": status, **({"escapement.error": message} if message else {})})
        outcome: Status = "FAILED" if status in ("failed", "diverged") else "FINISHED"
        run.finish(outcome)
        if status == "failed":
            self._context.console.warn(f"trial {index} failed: {message}")
        if status == "diverged":
            self._context.console.warn(f"trial {index} diverged: {self._trials[index]}")
        self._advance(1)


def effective_settings(default: Recipe, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe of a trial as flat dotted keys."""
    recipe = override(default, overrides)
    return {
        f"{section}.{key}": value
        for section, values in recipe.model_dump(mode="json").items()
        for key, value in values.items()
    }


def _conclude(
    context: StageContext,
    default: Recipe,
    trials: list[dict[str, Any]],
    results: list[TrialResult],
    ranges: Ranges,
    notes: list[str],
) -> dict[str, Any]:
    """Pick the best trial among those that went furthest, write the files, log figure and table."""
    best = _best(results)
    chosen = trials[best.index] if best is not None else {}
    gain = _gain(best, results)
    outcome = {
        "overrides": {"recipe.lr": default.recipe.lr, **chosen},
        "trial": best.index if best else None,
        **gain,
        "last_score": best.score if best else None,
        "objective": default.recipe.objective,
        "lr_ranges": ranges,
        "note": " ".join([UNCONFIRMED, *notes]) if best else "",
    }
    (context.directory / "best.json").write_text(json.dumps(outcome, indent=2), encoding="utf-8")
    context.run.log_artifact(context.directory / "best.json")
    table = trial_table(default, trials, results)
    table.to_parquet(context.directory / "trials.parquet", index=False)
    if best is None:
        return {"trials": 0}
    context.run.log_table(table, "tables/trials.json")
    figure = search_figure(
        table, default_trial=0, best_trial=best.index, bounds=ranges, metric_name=default.recipe.objective
    )
    context.run.log_figure(figure, "figures/search.png")
    _say(context, default, best, chosen, gain)
    return {
        "trials": len(results),
        "trials_stopped_early": sum(result.status == "stopped" for result in results),
        "trials_diverged": sum(result.status == "diverged" for result in results),
        "best_trial": best.index,
        "best_val_score": best.score,
        "gain_over_defaults": gain["gain"],
    }


def _gain(best: TrialResult | None, results: list[TrialResult]) -> dict[str, Any]:
    """Best trial and defaults after the last epoch that both reached; later scores are higher for that alone."""
    defaults = next((result for result in results if result.index == 0 and result.score is not None), None)
    epoch = min(len(best.scores), len(defaults.scores)) if best is not None and defaults is not None else 0
    if best is None or defaults is None or not epoch:
        return {
            "score": best.score if best else None,
            "score_of_defaults": None,
            "compared_at_epoch": None,
            "gain": None,
        }
    score, base = best.scores[epoch - 1], defaults.scores[epoch - 1]
    return {"score": score, "score_of_defaults": base, "compared_at_epoch": epoch, "gain": score - base}


def _say(
    context: StageContext, default: Recipe, best: TrialResult, chosen: Mapping[str, Any], gain: Mapping[str, Any]
) -> None:
    settings = effective_settings(default, chosen)
    text = "the defaults reached no score"
    if gain["gain"] is not None:
        text = f"{gain['gain']:+.4f} over the defaults after epoch {gain['compared_at_epoch']}, unconfirmed"
    context.console.say(
        f"  best: trial {best.index} ({settings['recipe.optimizer']}, lr {settings['recipe.lr']:.2e}), "
        f"{default.recipe.objective} {best.score:.4f}, {text}"
    )


def _best(results: list[TrialResult]) -> TrialResult | None:
    """The best score among the trials of the most epochs: a score at an early rung is no match for a later one."""
    usable = [result for result in results if result.score is not None]
    if not usable:
        return None
    furthest = max(result.epochs for result in usable)
    return max((r for r in usable if r.epochs == furthest), key=lambda r: (r.score or 0.0, -r.index))


def trial_table(default: Recipe, trials: list[dict[str, Any]], results: list[TrialResult]) -> pd.DataFrame:
    """One row per trial: how it ended, and its settings as columns."""
    rows = []
    for result in results:
        settings = effective_settings(default, trials[result.index])
        rows.append(
            {
                "trial": result.index,
                "status": result.status,
                "score": result.score,
                "epochs": result.epochs,
                "seconds": round(result.seconds, 1),
                "optimizer": settings["recipe.optimizer"],
                "lr": settings["recipe.lr"],
                **{key: settings[key] for key in trials[result.index] if key not in ("recipe.optimizer", "recipe.lr")},
            }
        )
    return pd.DataFrame(rows)


def _raise_if_all_failed(results: list[TrialResult]) -> None:
    if all(result.status == "failed" for result in results):
        raise RuntimeError(f"all {len(results)} trials failed; the first: {results[0].message}")
    if all(result.status in ("failed", "diverged") for result in results):
        raise InputError(
            f"search: none of the {len(results)} trials learned ({sum(r.status == 'diverged' for r in results)} "
            "diverged); lower the bounds of recipe.lr in search.space"
        )


def _root_of(run: Run) -> str:
    tags = run.client.get_run(run.id).data.tags
    return tags.get("escapement.root", tags.get(TAG_PARENT, run.id))


def _finite(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int | float) and value == value and abs(value) != float("inf")
