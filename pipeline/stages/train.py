"""train: the networks of the confirmed recipe at full length, then what is delivered of them, its decision, the export.

In the design cross_fit a network without each fold, which then scores it: all images that are not test teach, and all
of them certify but those on which something was chosen. In the design hold_out one network; the calibration split is
used here only, after the training. Trainings of the confirmation are taken over.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from components.errors import InputError
from components.evaluation.calibration import Calibration
from components.evaluation.operating_point import Evidence, OperatingPoint
from components.models.heads import Heads, read_heads
from components.models.views import allowed_views, nested_views
from components.optim.range_test.bounds import describe_rates, read_backbone_bounds
from pipeline.compute.device import set_up_process
from pipeline.compute.resources import cpu_threads, driver_compute
from pipeline.config import OperatingPointConfig, ServingConfig, TrainConfig
from pipeline.data.sources import log_lineage
from pipeline.delivery.assembly import Scorer, Unseen
from pipeline.delivery.choice import SINGLE, Choice, check_limit, choose, views_asked
from pipeline.delivery.decision import decide
from pipeline.delivery.export import Part, export_model, model_card, network_member
from pipeline.delivery.frozen import frozen_part
from pipeline.delivery.members import Kept, Trained, train_folds, train_one
from pipeline.delivery.networks import Networks
from pipeline.delivery.records import monitor_counts, write_history, write_ledger
from pipeline.overriding import override
from pipeline.reports.delivery import milliseconds
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stage import StageContext
from pipeline.training.build import TrainingData, new_learner, open_data, recipe_objective
from pipeline.training.confirmed import KEPT, WHOLE, Confirmed, read_confirmed
from pipeline.training.job import REMEDY, TrainingSpec, left_out, on_all, with_head


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is trained. known: the range test's result, for the message of a training that diverges."""

    spec: TrainingSpec
    heads: Heads
    kept: Kept
    known: str


def run(
    context: StageContext,
    *,
    seed: int,
    model: ModelConfig,
    recipe: RecipeConfig,
    train: TrainConfig,
    monitor: MonitorConfig,
    operating_point: OperatingPointConfig,
    serving: ServingConfig,
) -> dict[str, Any]:
    """Train, choose what is delivered, calibrate, choose the threshold, write the model and its records."""
    prepared = context.inputs["prepare"].directory
    data = open_data(prepared)
    _check_deliverable(data, serving)
    log_lineage(context.run, prepared, used_for="training")
    confirmed = read_confirmed(context.input("confirm", "confirmation.json"))
    chosen = override(Recipe(model=model, recipe=recipe), confirmed.overrides)
    plan = _Plan(
        spec=TrainingSpec(recipe=chosen, seed=seed, epochs=train.epochs, patience=train.patience, monitor=monitor),
        heads=read_heads(context.inputs["embed"].directory),
        kept=Kept(folder=context.inputs["confirm"].directory / KEPT, runs=confirmed.kept),
        known=_range_test_says(context, chosen),
    )
    threads = serving.num_threads or cpu_threads(context.compute)
    with context.run.system_metrics():
        if serving.max_latency_ms is not None:
            check_limit(_load(context, data, plan, []), serving, threads=threads)
        trained = _train(context, data, plan)
        set_up_process(cpu_threads(context.compute))
        networks = _load(context, data, plan, trained)
        scored = networks.out_of_fold() if data.folds else networks.of_split("val", views_asked(networks, serving))
        _check_finite(scored.views, plan)
        scorer = Scorer(
            objective=recipe_objective(chosen), classes=data.classes, good_classes=data.good_classes, seed=seed
        )
        choice = choose(networks, scored, scorer, frozen_part(context, weight=1.0), serving, threads=threads)
        delivered = _delivered(context, data, plan, trained, choice)
    calibration, point = _decide(context, networks, scored, choice, delivered, confirmed, operating_point, plan)
    parts = _parts(context, networks, choice, delivered, chosen)
    card = model_card(
        context,
        data,
        [part.member for part in parts],
        recipe=chosen,
        precision=networks.learner.device.precision,
        calibration=calibration,
        point=point,
    )
    _say_delivered(context, card.summary, choice)
    everything = list({one.name: one for one in [*trained, *delivered]}.values())
    ledger = write_ledger(context, everything, monitor)
    write_history(context, everything, networks.learner.stepper.group_names, ledger)
    outcome = {
        "model_id": export_model(context, data, card, parts),
        "delivered": card.summary,
        "members": [_member_record(one, confirmed) for one in delivered],
        "recipe": chosen.model_dump(mode="json"),
    }
    (context.directory / "training.json").write_text(json.dumps(outcome, indent=2), encoding="utf-8")
    if point is not None:
        context.console.say(f"  {point.statement}")
    epochs = [epoch for one in everything for epoch in one.store.progress.history]
    return {
        "networks": len(everything),
        "epochs": len(epochs),
        "unseen_score": choice.assembly.record["score"],
        "views": choice.assembly.views,
        "latency_ms": choice.latency["delivered"],
        "threshold": point.threshold if point else None,
        "budget_certified": point.certified if point else None,
        "median_images_per_second": float(np.median([epoch.images_per_second for epoch in epochs])),
        **monitor_counts(ledger),
    }


def _say_delivered(context: StageContext, summary: str, choice: Choice) -> None:
    """What is delivered and what it costs, and where that is not as it was asked for."""
    latency, blend = choice.latency, choice.assembly.record["blend"] or {}
    if "reason" in blend:
        context.console.warn(f"the classifier on frozen features does not join: {blend['reason']}")
    context.console.say(f"  delivered: {summary}; {milliseconds(latency)} for an image")
    if latency["limit"] is not None and latency["delivered"] > latency["limit"]:
        took = f"the delivered model took {latency['delivered']:.3g} ms when it was measured again"
        context.console.warn(f"serving.max_latency_ms={latency['limit']:g}: {took}")


def _check_deliverable(data: TrainingData, serving: ServingConfig) -> None:
    if serving.deliver == "ensemble" and not data.folds:
        raise InputError(
            "serving.deliver=ensemble: the design hold_out trains one network; set data.design to cross_fit, or "
            "serving.deliver to auto or single"
        )


def _train(context: StageContext, data: TrainingData, plan: _Plan) -> list[Trained]:
    """The network without each fold, or the one network of the design hold_out."""
    if not data.folds:
        return [train_one(context, WHOLE, with_head(plan.spec, plan.heads), plan.kept, known=plan.known)]
    specs = {f"fold-{fold}": with_head(left_out(plan.spec, fold), plan.heads) for fold in range(data.folds)}
    return train_folds(context, specs, plan.kept, title="training", known=plan.known)


def _load(context: StageContext, data: TrainingData, plan: _Plan, trained: Sequence[Trained]) -> Networks:
    """The first network with its weights, in the precision that it was trained in, maybe on another machine; before
    any was trained, as it starts."""
    spec = plan.spec
    learner = new_learner(
        spec.recipe, data, total_epochs=spec.epochs, seed=spec.seed, compute=driver_compute(context.compute)
    )
    if trained:
        learner.model.load_state_dict(trained[0].store.best().weights)
        learner.device = replace(learner.device, precision=trained[0].ended.precision)
    settings = spec.recipe.recipe
    allowed = allowed_views(settings.augment, settings.augment_strength)
    return Networks(
        data=data,
        trained=trained,
        learner=learner,
        views=nested_views(allowed),
        counts=tuple(sorted(allowed)),
        frozen=np.load(context.input("embed", "frozen_logits.npy"), allow_pickle=False),
    )


def _delivered(
    context: StageContext, data: TrainingData, plan: _Plan, trained: list[Trained], choice: Choice
) -> list[Trained]:
    """The networks of the model, none where the classifier on frozen features is better alone."""
    if not choice.assembly.network:
        return []
    return [_train_whole(context, plan)] if data.folds and choice.deliver == SINGLE else trained


def _train_whole(context: StageContext, plan: _Plan) -> Trained:
    """The network on all images that are not test."""
    none = Kept(folder=plan.kept.folder, runs={})
    spec = with_head(on_all(plan.spec), plan.heads)
    (whole,) = train_folds(context, {"all": spec}, none, title="training on all images", known=plan.known)
    return whole


def _check_finite(scores: np.ndarray, plan: _Plan) -> None:
    if not np.isfinite(scores).all():
        raise InputError(
            f"recipe.lr={plan.spec.recipe.recipe.lr:g}: the trained model gives outputs that are not finite on images "
            f"that it had not seen; {REMEDY}{plan.known}"
        )


def _decide(
    context: StageContext,
    networks: Networks,
    scored: Unseen,
    choice: Choice,
    delivered: Sequence[Trained],
    confirmed: Confirmed,
    settings: OperatingPointConfig,
    plan: _Plan,
) -> tuple[Calibration, OperatingPoint | None]:
    """On scores out of fold, or on the calibration split. delivered: none where networks have no weight."""
    data, assembly, seen = networks.data, choice.assembly, None
    if not data.folds:
        unseen = networks.of_split("calibration", assembly.views)
        _check_finite(unseen.views, plan)
        logits, evidence = assembly.combine(unseen.views, unseen.frozen), Evidence("held_out", folds=0, choices=1)
    else:
        unseen, logits = scored, assembly.logits
        embedding = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))
        whole = delivered if choice.deliver == SINGLE else []
        evidence = Evidence(
            "transferred" if whole else "out_of_fold",
            folds=data.folds,
            choices=confirmed.choices,
            not_certifying=tuple(sorted({*confirmed.selection_folds, *embedding["not_certifying"]})),
        )
        if whole:
            seen = networks.on_seen(whole[0], assembly.combine, assembly.views, seed=plan.spec.seed)
    return decide(context, data, logits, unseen.rows, settings, evidence=evidence, seen=seen, assembly=choice.record)


def _parts(
    context: StageContext, networks: Networks, choice: Choice, delivered: Sequence[Trained], recipe: Recipe
) -> list[Part]:
    assembly = choice.assembly
    parts = [
        Part(
            member=network_member(
                recipe,
                networks.learner.preprocessing,
                side=networks.data.pack.framing.size,
                weight=assembly.network / len(delivered),
                views=networks.views[: assembly.views],
            ),
            state=one.store.best().weights,
        )
        for one in delivered
    ]
    return [*parts, frozen_part(context, weight=assembly.frozen)] if assembly.frozen else parts


def _member_record(one: Trained, confirmed: Confirmed) -> dict[str, Any]:
    return {
        "name": one.name,
        "seed": one.spec.seed,
        "epochs": len(one.store.progress.history),
        "kept_epoch": max(one.store.progress.weights),
        "trained_in": "confirm" if one.name in confirmed.kept else "train",
        "run_id": one.run_id,
    }


def _range_test_says(context: StageContext, recipe: Recipe) -> str:
    """The range test's result for the recipe's optimizer, to append to a message; empty if it was not tested."""
    found = read_backbone_bounds(context.input("lr_range_test", "backbone_bounds.json"))
    bounds = found.get((recipe.model.backbone, recipe.recipe.optimizer))
    return "" if bounds is None else f" ({describe_rates(bounds)})"
