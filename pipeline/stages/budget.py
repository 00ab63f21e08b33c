"""budget: what fits into the time that a run has, by the pace of its first minute; a configuration without the clock.

A stage of runs with `budget` alone. The stages after it have the configuration that it writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from components.display import counted
from components.errors import InputError
from components.models.views import allowed_views
from pipeline.budget.allotment import EMA_DECAY, EMA_STEPS, GROW_SHARE, Allotment, Work, allot, close_sizes
from pipeline.compute.device import LEAST_TO_TIME
from pipeline.compute.resources import check_compute
from pipeline.console import duration
from pipeline.overriding import override
from pipeline.sections.learning_rate import RangeTestConfig
from pipeline.sections.recipe import SCHEDULE_FREE, ModelConfig, Recipe, RecipeConfig
from pipeline.sections.time import seconds_of
from pipeline.stage import StageContext
from pipeline.training.data import TrainingData, fold_of, for_selection, open_data, with_batch_size
from pipeline.training.pace import Pace, measure_pace
from pipeline.training.precision import ANY_RATE, PrecisionChoice, choose_precision
from pipeline.training.tasks import Place, run_tasks, task_placement


def run(
    context: StageContext,
    *,
    seed: int,
    budget: str | None,
    model: ModelConfig,
    recipe: RecipeConfig,
    lr_range_test: RangeTestConfig,
) -> dict[str, Any]:
    """Measure the pace, choose, write budget.json: `changes` of the configuration, `afterwards`, and why."""
    if budget is None:
        raise InputError("budget: the stage needs a time; give --budget 10min")
    data = open_data(context.inputs["prepare"].directory)
    configured = with_batch_size(Recipe(model=model, recipe=recipe), data)
    embedding = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))
    own = [one for one in embedding["candidates"] if one["backbone"] == model.backbone]
    pace, choice = _estimated(own), PrecisionChoice(precision=recipe.precision)
    if pace.training * len(data.split("train")) < context.seconds_left(budget):  # an epoch by a rough estimate
        pace, choice = _measured(context, configured, seed, choose=seconds_of(budget) >= LEAST_TO_TIME)
    left = context.seconds_left(budget)
    frozen_views = len(embedding["best"]["views"])
    work = _work(context, configured, data, pace, _sizes(own, recipe, data), frozen_views)
    found = allot(left, work)
    num_folds = context.inputs["prepare"].sections["data"]["num_folds"]  # as asked for, which the groups may not allow
    changes = {
        **_changes(found, work, data, configured, lr_range_test),
        "recipe.precision": choice.precision,
        "data.num_folds": num_folds,
        "embed.views": frozen_views,
    }
    record = {
        "budget": budget,
        "left": left,
        "work": asdict(work),
        **asdict(found),
        "bfloat16_share": choice.share,
        "changes": changes,
    }
    (context.directory / "budget.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    context.run.log_artifact(context.directory / "budget.json")
    choice.say(context.console)
    _say(context, found, changes, left)
    return {"networks_planned": found.networks, "epochs_planned": found.epochs if found.networks else 0}


def _estimated(candidates: Sequence[Mapping[str, Any]]) -> Pace:
    """From the embedding of the images at the largest size, a training step being three passes."""
    scoring = 1 / max(candidates, key=lambda one: one["image_size"])["images_per_second"]
    return Pace(training=3 * scoring, scoring=scoring, start=1.0)


def _sizes(candidates: Sequence[Mapping[str, Any]], recipe: RecipeConfig, data: TrainingData) -> tuple[int, ...]:
    """Those that trainings may have: their own, and the smaller ones at which frozen features are as good."""
    full = recipe.image_size or data.pack.size
    scores = [(one["image_size"], one["score"], one["low"]) for one in candidates if one["image_size"] <= full]
    return close_sizes(scores) if any(side == full for side, _, _ in scores) else (full,)


def _measured(context: StageContext, recipe: Recipe, seed: int, *, choose: bool) -> tuple[Pace, PrecisionChoice]:
    """Where trainings run, in the precision that they will have. choose: whether it may be bfloat16 on a CPU."""
    with task_placement(context) as place:
        ((_, measured),) = run_tasks(_pace, [(recipe, seed, choose, place)], place)
    return measured


def _pace(task: tuple[Recipe, int, bool, Place]) -> tuple[Pace, PrecisionChoice]:
    recipe, seed, choose, place = task
    data, compute = for_selection(place.open()), place.compute
    choice = choose_precision(recipe, data, seed=seed, compute=compute, timed=choose)
    timed = override(recipe, {"recipe.lr": ANY_RATE, "recipe.precision": choice.precision})
    return measure_pace(timed, data, seed=seed, compute=compute), choice


def _work(
    context: StageContext,
    recipe: Recipe,
    data: TrainingData,
    pace: Pace,
    sizes: tuple[int, ...],
    frozen_views: int,
) -> Work:
    one = fold_of(data, data.folds - 1) if data.folds else data
    share = check_compute(context.compute)
    several = context.compute.ray_address is not None or share.gpus
    return Work(
        teach=len(one.split("train")),
        held_out=len(one.split("val")),
        tested=len(data.split("test")),
        folds=data.folds,
        frozen_views=frozen_views,
        views=max(allowed_views(recipe.recipe.augment, recipe.recipe.augment_strength)),
        at_once=share.concurrent if several else 1,
        needs_rate=recipe.recipe.lr == "auto",
        sizes=sizes,
        training=pace.training,
        scoring=pace.scoring,
        start=pace.start,
    )


def _changes(
    found: Allotment, work: Work, data: TrainingData, configured: Recipe, lr_range_test: RangeTestConfig
) -> dict[str, Any]:
    """Dotted keys of the configuration without the clock that follow from the choice."""
    recipe = configured.recipe
    networks = found.networks if data.folds or not found.networks else None
    steps = found.epochs * work.teach // recipe.images_per_step
    averages = recipe.optimizer not in SCHEDULE_FREE
    return {
        "recipe.image_size": recipe.image_size if found.size == data.pack.size else found.size,
        "recipe.grow_from": found.grow_from,
        "recipe.grow_share": GROW_SHARE,
        "recipe.ema_decay": recipe.ema_decay or (EMA_DECAY if averages and steps >= EMA_STEPS else None),
        "search.num_trials": 0,
        "lr_range_test.num_seeds": min(1, lr_range_test.num_seeds) if found.range_test else 0,
        "lr_range_test.weight_decays": [],
        "train.networks": None if networks == data.folds else networks,
        "train.epochs": found.epochs,
    }


def _say(context: StageContext, found: Allotment, changes: Mapping[str, Any], left: float) -> None:
    what = "no network"
    if found.networks:
        rate = "after a range test" if found.range_test else "without a range test"
        what = f"{counted(found.networks, 'network')} of {found.epochs} epochs at {found.size} px, {rate}"
    context.console.say(f"  {duration(max(left, 0))} left: {what}; {found.why}")
    shown = " ".join(f"--set {key}={'null' if value is None else value}" for key, value in changes.items())
    context.console.say(f"  the same without the clock: {shown}")
