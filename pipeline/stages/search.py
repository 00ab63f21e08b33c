"""search: trials of recipes on Ray Tune; trial 0 is the recipe as configured.

What a trial is compared by at different lengths is the horizon's matter (`pipeline/search/trial.py`), which trial is
next the sampler's, which goes on the stopping rule's. The journal in the stage's scratch folder is what an interrupted
search goes on from.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from components.cluster_nodes import live_nodes
from components.errors import InputError
from components.metric_writer import RetryQueue
from components.search.checkpoints import below, remove_all
from components.search.course import Course, Limits
from components.search.journal import Journal
from components.search.rungs import Ladder, build_rule
from components.search.samplers import build_sampler, winner
from components.search.trial import Suggestion, TrialRecord
from components.search.tuner import TuneSettings, run_trials
from components.tracking import is_away
from pipeline.compute.resources import Shares, training_session
from pipeline.compute.shipping import seen_by_nodes, ship
from pipeline.console import duration
from pipeline.data.sources import log_lineage
from pipeline.reports.search import JOURNAL, conclude, conclude_without_search
from pipeline.search.forecast import expected_epochs, seconds_left
from pipeline.search.pace import seconds_per_epoch
from pipeline.search.recipes import SearchedSpace, rate_warnings, sampler_settings, searched_space
from pipeline.search.results import raise_if_in_vain
from pipeline.search.runs import TrialRuns
from pipeline.search.trial import TrialPlan, open_session
from pipeline.search.view import SearchView
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.stage import StageContext
from pipeline.training.build import read_backbone_bounds

#: How long the tracking server may be away before the search gives up.
AWAY_SECONDS = 3600.0


def run(
    context: StageContext, *, seed: int, model: ModelConfig, recipe: RecipeConfig, search: SearchConfig
) -> dict[str, Any]:
    """Run the trials; write trials.parquet, scores.parquet, best.json, best.yaml and search.html."""
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="search")
    found = read_backbone_bounds(context.input("lr_range_test", "backbone_bounds.json"))
    searched = searched_space(Recipe(model=model, recipe=recipe), search, found)
    for warning in rate_warnings(searched, search, found):
        context.console.warn(warning)
    if not search.num_trials:
        return conclude_without_search(context, searched)
    for note in searched.notes:
        context.console.say(f"  {note}")
    ladder = Ladder(search.grace_epochs, search.reduction_factor, search.max_epochs)
    with context.run.system_metrics(), training_session(context.compute) as shares:
        _check_storage(context)
        course = _course(context, searched, search, shares, seed)
        plan = TrialPlan(
            prepared=ship(context.inputs["prepare"], compute=context.compute),
            default=searched.default,
            search=search,
            rungs=ladder.rungs,
            seed=seed,
            compute=context.compute,
            threads=shares.cpus,
        )
        with RetryQueue(patience=AWAY_SECONDS, away=is_away, on_away=functools.partial(_say_away, context)) as retries:
            runs = TrialRuns(context, searched.default, search, retries)
            runs.catch_up(course.records)
            _run(context, course, searched, plan, ladder, shares, runs)
            ended = course.spent_budget()
            raise_if_in_vain(course.records, failure=course.common_failure(), budget=ended)
            retries.flush()
            if context.compute.trial_storage is not None:  # what is kept of it goes to the runs of the trials
                context.afterwards.append(functools.partial(remove_all, _storage(context)))
            return conclude(
                context, searched, search, course.records, ladder=ladder, gpus=shares.gpus, runs=runs, ended=ended
            )


def _check_storage(context: StageContext) -> None:
    """Raise `InputError` where nodes of a cluster could not save their trials; on one machine all is well."""
    place = _storage(context)
    if context.compute.ray_address is None or "://" in place or len(live_nodes()) == 1:
        return
    probe = Path(place) / f"seen-by-all-{context.run.id}"
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.write_text(context.run.id, encoding="utf-8")
    try:
        seen = seen_by_nodes(probe, context.run.id)
    finally:
        probe.unlink()
    if not seen:
        raise InputError(
            f"compute.trial_storage={context.compute.trial_storage or 'null'}: not every node of the cluster sees "
            f"{place}, where trials would keep their checkpoints; give the URI of an object store or a shared folder, "
            "or share storage.root"
        )


def _storage(context: StageContext) -> str:
    """Where trials keep their checkpoints: below a name of this search's own where searches share `trial_storage`."""
    place = context.compute.trial_storage
    return str(context.work) if place is None else below(place, context.run.id)


def _course(context: StageContext, searched: SearchedSpace, search: SearchConfig, shares: Shares, seed: int) -> Course:
    """The search as its journal has it, or a new one."""
    minutes, hours = search.time_budget_minutes, search.gpu_hours
    return Course(
        Journal(context.work / JOURNAL),
        build_sampler(search.sampler, sampler_settings(search, searched.space, seed=seed)),
        Limits(
            num_trials=search.num_trials,
            seconds=None if minutes is None else 60 * minutes,
            gpu_seconds=None if hours is None else 3600 * hours,
            failure_limit=search.failure_limit,
        ),
        defaults=Suggestion(
            point=searched.space.point({}) or {}, overrides={}, epochs=search.max_epochs, phase="defaults"
        ),
        concurrent=shares.concurrent,
        gpus_per_trial=shares.gpus,
        unstopped_fraction=search.unstopped_fraction,
        seed=seed,
        clock=time.monotonic,
    )


def _run(
    context: StageContext,
    course: Course,
    searched: SearchedSpace,
    plan: TrialPlan,
    ladder: Ladder,
    shares: Shares,
    runs: TrialRuns,
) -> None:
    """Run what is left of the trials, shown and logged."""
    search = plan.search
    pace = seconds_per_epoch(plan, context)
    mean = expected_epochs(ladder, scheduler=search.scheduler_name, unstopped=search.unstopped_fraction)

    def remaining() -> float:
        return seconds_left(
            course.records,
            num_trials=search.num_trials,
            mean_epochs=mean,
            seconds_per_epoch=pace,
            concurrent=shares.concurrent,
        )

    _say_forecast(context, course, search, shares, remaining())
    view = SearchView(
        context.console,
        course.records,
        num_trials=search.num_trials,
        objective=plan.default.recipe.objective,
        remaining=remaining,
    )
    settings = TuneSettings(
        storage=_storage(context),
        checkpoint_epochs=ladder.rungs,
        cpus_per_trial=shares.cpus,
        gpus_per_trial=shares.gpus,
        timeout=60 * search.epoch_timeout_minutes,
        quota_bytes=1e9 * search.checkpoint_quota_gb,
        best=functools.partial(winner, search.sampler),
    )
    opener = functools.partial(open_session, plan=plan)
    both = _Both(runs, view)
    with view.shown():
        rule = build_rule(search.scheduler_name, ladder, seed=plan.seed)
        run_trials(course, opener, both, settings, rule=rule)


@dataclass(frozen=True)
class _Both:
    """Tells the store and the person."""

    runs: TrialRuns
    view: SearchView

    def started(self, record: TrialRecord) -> None:
        self.runs.started(record)
        self.view.started(record)

    def reported(self, record: TrialRecord, result: Mapping[str, Any]) -> None:
        self.runs.reported(record, result)

    def ended(self, record: TrialRecord, trace: str) -> None:
        self.runs.ended(record, trace)
        self.view.ended(record, trace)

    def tick(self) -> None:
        self.view.tick()


def _say_forecast(context: StageContext, course: Course, search: SearchConfig, shares: Shares, seconds: float) -> None:
    done = sum(record.ended for record in course.records)
    words = f"{search.num_trials} trials of up to {search.max_epochs} epochs"
    words += f", {done} of them done already" if done else ""
    words += f", {shares.concurrent} at a time ({search.sampler}, {search.scheduler_name})"
    if seconds:
        words += f", about {duration(seconds)}"
        context.run.log_metrics({"forecast_seconds": seconds})
    context.console.say(f"  {words}")
    budget = search.time_budget_minutes
    if budget is not None and seconds > 60 * budget:
        context.console.say(f"  search.time_budget_minutes={budget:g} will end it before that")


def _say_away(context: StageContext, error: Exception) -> None:
    context.console.warn(f"the tracking server is away, the search goes on; it is told when it is back ({error})"[:300])
