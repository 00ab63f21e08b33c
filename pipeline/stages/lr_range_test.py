"""lr_range_test: for each backbone and optimizer of the configuration, the range of learning rates at which it learns.

Of several backbones only those are tested that `embed` has kept and that trainings may use. The result becomes the
bounds of the search and, with `lr: auto`, the learning rate. It is valid for the model, the data and the recipe with
which it was measured; the stage's fingerprint covers them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import pandas as pd

from components.optim.optimizers import batch_factor, optimizer_spec
from components.optim.range_test.bounds import LrBounds, analyse_curves, untested
from components.optim.range_test.weight_decay import DecayVerdict, choose_weight_decay
from components.training.ramp import RampStep
from pipeline.data.sources import log_lineage
from pipeline.overriding import override
from pipeline.range_test.ramps import Curve, RangeTest, measure
from pipeline.reports.range_test import (
    name_test,
    report_test,
    report_tests,
    report_weight_decay,
    say_conditions,
)
from pipeline.sections.learning_rate import RangeTestConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stage import StageContext
from pipeline.training.build import loss_of_constant, spread_of_constant
from pipeline.training.data import BATCH_SIZES, TrainingData, for_selection, open_data, with_batch_size
from pipeline.training.precision import PrecisionChoice, choose_where_trained
from pipeline.training.tasks import Place, task_placement


@dataclass
class _Found:
    """The results so far. bounds: by backbone and optimizer, the model's own backbone first."""

    bounds: dict[str, dict[str, LrBounds]] = field(default_factory=dict)
    curves: list[pd.DataFrame] = field(default_factory=list)
    decays: dict[str, DecayVerdict] = field(default_factory=dict)
    decay_curves: list[pd.DataFrame] = field(default_factory=list)


def run(
    context: StageContext, *, seed: int, model: ModelConfig, recipe: RecipeConfig, lr_range_test: RangeTestConfig
) -> dict[str, Any]:
    """Run the ramps, analyse them, write curves.parquet and the bounds.

    resolved.json: `overrides`, the batch size and the precision of all trainings; `bfloat16_share`, by which the
    precision was chosen, null where it was given.
    lr_bounds.json: of the model's backbone, by optimizer. backbone_bounds.json: of all tested backbones, by backbone
    and optimizer. With `weight_decays` also weight_decay.json and weight_decay_curves.parquet, of the model's backbone.
    """
    data = for_selection(open_data(context.inputs["prepare"].directory))
    asked = Recipe(model=model, recipe=recipe)
    configured = with_batch_size(asked, data)
    # Few images get small batches, whose noise could hide the drop of a short ramp.
    ramped = max(BATCH_SIZES) if asked.recipe.batch_size == "auto" else configured.recipe.images_per_step
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="range test")
    assert lr_range_test.optimizers is not None  # resolved when the configuration was loaded
    embedding = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))
    backbones = _to_test(embedding["kept"], lr_range_test, own=model.backbone)
    choice, found = PrecisionChoice(precision=recipe.precision), None
    undecided = recipe.precision == "auto" and context.ends_at is None  # with a budget its stage has decided
    if lr_range_test.num_seeds or undecided:
        with context.run.system_metrics(), task_placement(context) as place:
            if undecided:
                choice = choose_where_trained(configured, place, context.console, seed=seed)
                configured = override(configured, {"recipe.precision": choice.precision})
            if lr_range_test.num_seeds:
                say_conditions(context.console, configured, ramped=ramped)
                found = _test_all(context, data, configured, lr_range_test, place, backbones, seed, ramped=ramped)
    found = found or _untested(configured, data, backbones, lr_range_test.optimizers)
    settled = {f"recipe.{key}": getattr(configured.recipe, key) for key in ("batch_size", "precision")}
    _write(context, "resolved", {"overrides": settled, "bfloat16_share": choice.share})
    report_tests(context, found.bounds)
    _write_results(context, configured, found)
    return _headline(found, backbones)


def _to_test(kept: Sequence[str], settings: RangeTestConfig, *, own: str) -> list[str]:
    """Those of the kept backbones that trainings may use. kept: the model's own first."""
    return [name for name in kept if settings.backbones is None or name in (own, *settings.backbones)]


def _untested(configured: Recipe, data: TrainingData, backbones: Sequence[str], optimizers: Sequence[str]) -> _Found:
    """The usual rates of each optimizer."""
    loss, reason = loss_of_constant(configured, data), "it was left out, lr_range_test.num_seeds=0"
    own = {name: untested(optimizer_spec(name), constant_loss=loss, reason=reason) for name in optimizers}
    columns = [*(column.name for column in fields(RampStep)), "optimizer", "backbone"]
    return _Found(bounds=dict.fromkeys(backbones, own), curves=[pd.DataFrame(columns=columns)])


def _test_all(
    context: StageContext,
    data: TrainingData,
    configured: Recipe,
    settings: RangeTestConfig,
    place: Place,
    backbones: Sequence[str],
    seed: int,
    *,
    ramped: int,
) -> _Found:
    """Test every optimizer on every backbone; other weight decays only on the model's own backbone.

    ramped: images of a step in the ramps; rates are for those of the recipe.
    """
    size = configured.recipe.images_per_step
    # With all classes alike in the loss, that of a constant is the same on each batch, and no noise.
    ramp = override(configured, {"recipe.batch_size": ramped, "recipe.objective": "balanced_accuracy"})
    groups = list(_planned(ramp, settings, backbones, seed))
    curves = measure([test for group in groups for test in group], place, context.console)
    found = _Found()
    for group in groups:
        made = {test.recipe.recipe.weight_decay: _analysed(next(curves), data, size) for test in group}
        test = group[0]  # with the recipe's own weight decay
        backbone = test.recipe.model.backbone
        name = name_test(backbone, test.optimizer, own=configured.model.backbone, several=len(backbones) > 1)
        curve, bounds = made[configured.recipe.weight_decay]
        report_test(context, data, test.recipe, curve.steps, bounds, name)
        found.bounds.setdefault(backbone, {})[test.optimizer] = bounds
        found.curves.append(curve.steps.assign(optimizer=test.optimizer, backbone=backbone))
        if len(group) > 1:
            asked = {decay: made[decay] for decay in sorted(settings.weight_decays)}
            _compare_decays(context, test.optimizer, asked, found)
    return found


def _planned(
    configured: Recipe, settings: RangeTestConfig, backbones: Sequence[str], seed: int
) -> Iterator[list[RangeTest]]:
    """The tests of each backbone and optimizer: with the recipe's own weight decay, then with others to compare."""
    own = configured.recipe.weight_decay
    for backbone in backbones:
        others = sorted(set(settings.weight_decays) - {own}) if backbone == configured.model.backbone else []
        recipes = [
            override(configured, {"model.backbone": backbone, "recipe.weight_decay": decay}) for decay in (own, *others)
        ]
        for optimizer in settings.optimizers or ():
            yield [RangeTest(recipe=one, optimizer=optimizer, settings=settings, seed=seed) for one in recipes]


def _analysed(curve: Curve, data: TrainingData, batch_size: int) -> tuple[Curve, LrBounds]:
    """With the rates for trainings of that batch size."""
    test = curve.test
    factor = batch_factor(test.optimizer, batch_size=batch_size, measured=test.recipe.recipe.images_per_step)
    curve = replace(curve, steps=curve.steps.assign(lr=factor * curve.steps["lr"]))
    return curve, analyse_curves(
        curve.steps,
        constant_loss=loss_of_constant(test.recipe, data),
        constant_spread=spread_of_constant(test.recipe, data),
        spec=optimizer_spec(test.optimizer),
        bootstrap_samples=test.settings.bootstrap_samples,
        seed=test.seed,
    )


def _compare_decays(
    context: StageContext, optimizer: str, made: dict[float, tuple[Curve, LrBounds]], found: _Found
) -> None:
    verdict = choose_weight_decay({decay: bounds for decay, (_, bounds) in made.items()}, optimizer=optimizer)
    tables = [one.steps.assign(optimizer=optimizer, weight_decay=decay) for decay, (one, _) in made.items()]
    table = pd.concat(tables, ignore_index=True)
    report_weight_decay(context, verdict, {decay: bounds.suggested for decay, (_, bounds) in made.items()})
    found.decays[optimizer] = verdict
    found.decay_curves.append(table)


def _write_results(context: StageContext, configured: Recipe, found: _Found) -> None:
    records = {
        backbone: {optimizer: bounds.to_dict() for optimizer, bounds in own.items()}
        for backbone, own in found.bounds.items()
    }
    own = records[configured.model.backbone]
    _write_table(context, "curves", found.curves)
    _write(context, "lr_bounds", own)
    _write(context, "backbone_bounds", records)
    if found.decays:
        _write_table(context, "weight_decay_curves", found.decay_curves)
        _write(context, "weight_decay", {name: verdict.to_dict() for name, verdict in found.decays.items()})


def _headline(found: _Found, backbones: Sequence[str]) -> dict[str, Any]:
    several, headline, abstained = len(backbones) > 1, {}, 0
    for backbone, own in found.bounds.items():
        for optimizer, bounds in own.items():
            name = name_test(backbone, optimizer, own=backbones[0], several=several)
            headline[f"lr_suggested_{name.key}"] = bounds.suggested
            abstained += bounds.abstained
    return headline | {"range_tests_abstained": abstained}


def _write(context: StageContext, name: str, values: dict[str, Any]) -> None:
    path = context.directory / f"{name}.json"
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")
    context.run.log_artifact(path)


def _write_table(context: StageContext, name: str, parts: list[pd.DataFrame]) -> None:
    path = context.directory / f"{name}.parquet"
    pd.concat(parts, ignore_index=True).to_parquet(path, index=False)
    context.run.log_artifact(path)
