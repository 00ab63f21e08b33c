"""Runs the trials of a search on Ray Tune, with a forecast, runs and display, and resumes an interrupted search."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from components.cluster import live_nodes
from components.errors import InputError
from components.metric_writer import RetryQueue
from components.models.heads import read_heads
from components.search.checkpoints import join_location, remove_location
from components.search.improvement import too_little_to_gain
from components.search.journal import Journal
from components.search.rungs import Rungs, build_rule
from components.search.samplers import build_sampler, winner
from components.search.state import Limits, SearchState, unstopped_numbers
from components.search.trial import Suggestion, TrialRecord
from components.search.tuner import TuneSettings, run_trials
from components.tracking import is_away
from pipeline.compute.device import set_up_process
from pipeline.compute.resources import TrainingShare, training_session
from pipeline.compute.shipping import local_folder, seen_by_nodes, ship
from pipeline.config import ComputeConfig
from pipeline.console import duration
from pipeline.search.results import JOURNAL, SearchOutcome
from pipeline.search.runs import TrialRuns
from pipeline.search.trial import TrialPlan, open_session
from pipeline.search.view import SearchView
from pipeline.search_space import SearchedSpace, at_horizon, sampler_settings
from pipeline.sections.search import ADAPTIVE_SAMPLERS, SearchConfig
from pipeline.stage import StageContext
from pipeline.training.data import for_selection, open_data
from pipeline.training.pace import measure_pace

#: What the remaining trials have to be expected to add: half of the noise between seeds (the confirmation's `SEED_SD`).
#: On simulated curves nothing was lost by it that could be told from nothing; with the whole noise .002 of 32 trials.
LEAST_IMPROVEMENT = 0.015
#: How long the tracking server may be unavailable before the search fails.
AWAY_SECONDS = 3600.0


def run_search(context: StageContext, searched: SearchedSpace, search: SearchConfig, *, seed: int) -> SearchOutcome:
    """Run the remaining trials, and log the weights of those that have a checkpoint.

    Raises InputError: no trial learned, or the nodes of a cluster cannot share checkpoints. Raises RuntimeError: too
    many trials failed.
    """
    rungs = Rungs(search.first_rung, search.reduction_factor, search.max_epochs)
    with context.run.system_metrics(), training_session(context.compute) as share:
        _check_storage(context)
        state = _search_state(context, searched, search, share, seed)
        plan = TrialPlan(
            prepared=ship(context.inputs["prepare"], compute=context.compute),
            default=searched.default,
            search=search,
            rungs=rungs.epochs,
            seed=seed,
            compute=context.compute,
            threads=share.cpus,
            heads=read_heads(context.inputs["embed"].directory),
        )
        with RetryQueue(patience=AWAY_SECONDS, away=is_away, on_away=functools.partial(_say_away, context)) as retries:
            runs = TrialRuns(context, searched.default, search, retries)
            runs.catch_up(state.records)
            _run(context, state, plan, rungs, share, runs, together=1 + len(searched.portfolio))
            ended = state.spent_budget() or state.enough()
            raise_if_nothing_learned(state.records, failure=state.common_failure(), budget=ended)
            if ended:
                context.console.say(f"  The search ended early: {ended}.")
            retries.flush()
            _keep_checkpoints(context, state.records, runs)
    if context.compute.trial_storage is not None:  # the runs of the trials have the weights
        context.afterwards.append(functools.partial(remove_location, _storage(context)))
    return SearchOutcome(records=state.records, rungs=rungs.epochs, gpus=share.gpus, ended_early=ended)


def raise_if_nothing_learned(records: list[TrialRecord], *, failure: str, budget: str) -> None:
    """Raise if too many trials failed (RuntimeError) or none has a score (RuntimeError if all failed, else InputError).

    failure, budget: the messages of the state, or empty.
    """
    if failure:
        raise RuntimeError(
            f"search: {failure}; remove the cause and repeat the command, which resumes with the remaining trials, or "
            "raise search.failure_limit"
        )
    if any(record.score is not None for record in records):
        return
    failed = [record for record in records if record.status == "failed"]
    if failed and len(failed) == len(records):
        raise RuntimeError(f"search: all {len(records)} trials failed, the first: {failed[0].message}")
    diverged = sum(record.status == "diverged" for record in records)
    why = f"; {budget}" if budget else ""
    remedy = "lower recipe.lr, or its bounds in search.space"
    if budget and not diverged:
        remedy = "raise search.time_budget_minutes or search.gpu_hours, whichever is set"
    raise InputError(f"search: none of the {len(records)} trials learned ({diverged} diverged{why}); {remedy}")


def _check_storage(context: StageContext) -> None:
    """Raise `InputError` if not every node of a cluster can save its trials."""
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
    """The folder or URI of the trials' checkpoints, below `compute.trial_storage` with a name of this search's own."""
    place = context.compute.trial_storage
    return str(context.work) if place is None else join_location(place, context.run.id)


def _search_state(
    context: StageContext, searched: SearchedSpace, search: SearchConfig, share: TrainingShare, seed: int
) -> SearchState:
    """The state of a new search or, from its journal, of an interrupted one."""
    minutes, hours = search.time_budget_minutes, search.gpu_hours
    return SearchState(
        Journal(context.work / JOURNAL),
        build_sampler(
            search.sampler, sampler_settings(search, searched.space, seed=seed, portfolio=searched.portfolio)
        ),
        Limits(
            num_trials=search.num_trials,
            seconds=None if minutes is None else 60 * minutes,
            gpu_seconds=None if hours is None else 3600 * hours,
            failure_limit=search.failure_limit,
        ),
        defaults=Suggestion(
            point=searched.space.point({}) or {}, overrides={}, epochs=search.max_epochs, phase="defaults"
        ),
        concurrent=share.concurrent,
        gpus_per_trial=share.gpus,
        unstopped_fraction=search.unstopped_fraction,
        seed=seed,
        clock=time.monotonic,
        enough=_enough(searched, search),
    )


def _enough(searched: SearchedSpace, search: SearchConfig) -> Callable[[Sequence[TrialRecord]], str]:
    """When a search ends before its last trial: where the rest cannot add what would be seen above the noise."""
    if not search.stop_at_noise or search.sampler not in ADAPTIVE_SAMPLERS:
        return lambda records: ""
    return functools.partial(
        too_little_to_gain,
        epoch=search.first_rung,
        first=1 + len(searched.portfolio),
        num_trials=search.num_trials,
        least=LEAST_IMPROVEMENT,
    )


def _run(
    context: StageContext,
    state: SearchState,
    plan: TrialPlan,
    rungs: Rungs,
    share: TrainingShare,
    runs: TrialRuns,
    *,
    together: int,
) -> None:
    """Run the remaining trials with display and logging. together: how many first ones are halved together."""
    search = plan.search
    remaining = functools.partial(
        seconds_left,
        state.records,
        num_trials=search.num_trials,
        mean_epochs=expected_epochs(
            rungs,
            scheduler=search.scheduler_name,
            unstopped=len(unstopped_numbers(search.num_trials, search.unstopped_fraction, seed=plan.seed))
            / search.num_trials,
        ),
        seconds_per_epoch=seconds_per_epoch(plan, context.compute),
        concurrent=share.concurrent,
    )
    _say_forecast(context, state, search, share, remaining())
    view = SearchView(
        context.console,
        state.records,
        num_trials=search.num_trials,
        objective=plan.default.recipe.objective,
        remaining=remaining,
    )
    settings = TuneSettings(
        storage=_storage(context),
        checkpoint_epochs=rungs.epochs,
        cpus_per_trial=share.cpus,
        gpus_per_trial=share.gpus,
        timeout=60 * search.epoch_timeout_minutes,
        quota_bytes=1e9 * search.checkpoint_quota_gb,
        best=functools.partial(winner, search.sampler),
    )
    rule = build_rule(search.scheduler_name, rungs, seed=plan.seed, together=together)
    with view.shown():
        run_trials(state, functools.partial(open_session, plan=plan), [runs, view], settings, rule=rule, tick=view.tick)


def _say_forecast(
    context: StageContext, state: SearchState, search: SearchConfig, share: TrainingShare, seconds: float
) -> None:
    done = sum(record.ended for record in state.records)
    words = f"{search.num_trials} trials of up to {search.max_epochs} epochs"
    words += f", {done} of them complete" if done else ""
    words += f", {share.concurrent} at a time ({search.sampler}, {search.scheduler_name})"
    if seconds:
        words += f", about {duration(seconds)}"
        context.run.log_metrics({"forecast_seconds": seconds})
    context.console.say(f"  {words}")
    budget = search.time_budget_minutes
    if budget is not None and seconds > 60 * budget:
        context.console.say(f"  search.time_budget_minutes={budget:g} ends it before that")


def _say_away(context: StageContext, error: Exception) -> None:
    text = f"the tracking server is not available; the search continues and sends its events later ({error})"
    context.console.warn(text[:300])


def _keep_checkpoints(context: StageContext, records: list[TrialRecord], runs: TrialRuns) -> None:
    kept = [record for record in records if record.checkpoint]
    with context.console.bar("checkpoints to MLflow", len(kept)) as advance:
        for record in kept:
            runs.keep_checkpoint(record, context.work / "checkpoints")
            advance(1)


def seconds_per_epoch(plan: TrialPlan, compute: ComputeConfig) -> float:
    """Seconds per epoch of the defaults, from a few steps on this machine; 0 for a cluster of other machines."""
    if compute.ray_address is not None:
        return 0.0
    set_up_process(plan.threads)
    data = for_selection(open_data(local_folder(plan.prepared)))
    recipe = at_horizon(plan.default, {}, plan.search)
    return measure_pace(recipe, data, seed=plan.seed, compute=compute).epoch(data)


def expected_epochs(rungs: Rungs, *, scheduler: str, unstopped: float) -> float:
    """Epochs that a trial takes on average.

    asha, hyperband: one in `factor` of the trials that reach a rung continues. median: half of them continue after the
    first rung. unstopped: share of the trials that are never stopped.
    """
    epochs = rungs.epochs
    if scheduler in ("asha", "hyperband"):
        lengths = [epochs[0], *(later - earlier for earlier, later in itertools.pairwise(epochs))]
        stopped = float(sum(length / rungs.factor**number for number, length in enumerate(lengths)))
    elif scheduler == "median":
        stopped = epochs[0] + (rungs.last - epochs[0]) / 2
    else:
        return float(rungs.last)
    return unstopped * rungs.last + (1 - unstopped) * stopped


def seconds_left(
    records: Sequence[TrialRecord], *, num_trials: int, mean_epochs: float, seconds_per_epoch: float, concurrent: int
) -> float:
    """Seconds until all trials have ended, at the pace so far.

    mean_epochs: of a trial, before some have ended. seconds_per_epoch: used before the first reported epoch.
    """
    epochs = sum(record.epochs for record in records)
    seconds = sum(record.seconds for record in records)
    pace = seconds / epochs if epochs else seconds_per_epoch
    ended = [record for record in records if record.ended]
    running = [record for record in records if not record.ended]
    own = sum(record.epochs for record in ended) / len(ended) if len(ended) >= 4 else mean_epochs
    left = sum(max(own - record.epochs, 1.0) for record in running) + own * (num_trials - len(records))
    return pace * left / max(1, min(concurrent, num_trials - len(ended)))
