"""deliver: what of the trained networks leaves as a model, its decision, the export.

In the design cross_fit all images that are not test certify but those on which something was chosen, by the scores of
networks that had not seen them. In the design hold_out the calibration split does, which is used here only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from components.errors import InputError
from components.evaluation.calibration import Calibration
from components.evaluation.operating_point import Evidence, OperatingPoint
from components.models.heads import read_heads
from components.serving.bundle import load_ensemble
from components.serving.latency import REPEATS, Candidate, choose_delivery, latency_ms
from pipeline.compute.device import resolve_target, set_up_process
from pipeline.compute.resources import cpu_threads, driver_compute
from pipeline.config import OperatingPointConfig, ServingConfig, TrainConfig
from pipeline.data.sources import log_lineage
from pipeline.delivery.assembly import Scorer, Unseen
from pipeline.delivery.choice import SINGLE, Choice, choose, views_asked
from pipeline.delivery.decision import decide
from pipeline.delivery.export import export_model, model_card
from pipeline.delivery.frozen import export_frozen, frozen_part
from pipeline.delivery.members import Trained, range_test_says, train_members
from pipeline.delivery.networks import Networks, load_networks
from pipeline.delivery.records import read_training, write_training
from pipeline.reports.delivery import milliseconds
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.stage import StageContext
from pipeline.training.build import recipe_objective
from pipeline.training.confirmed import read_confirmed
from pipeline.training.data import TrainingData, open_data
from pipeline.training.job import REMEDY, TrainingSpec, on_all, with_head


def run(
    context: StageContext,
    *,
    seed: int,
    train: TrainConfig,
    monitor: MonitorConfig,
    operating_point: OperatingPointConfig,
    serving: ServingConfig,
) -> dict[str, Any]:
    """Choose, calibrate, choose the threshold, write the model and what it was chosen by."""
    prepared = context.inputs["prepare"].directory
    log_lineage(context.run, prepared, used_for="delivery")
    data = open_data(prepared)
    set_up_process(cpu_threads(context.compute))
    recipe, trained = read_training(context.inputs["train"].directory)
    if not trained:
        return _deliver_frozen(context, data, operating_point, serving, chosen={})
    spec = TrainingSpec(recipe=recipe, seed=seed, epochs=train.epochs, monitor=monitor)
    networks = load_networks(context, data, spec, trained)
    scored = networks.out_of_fold() if data.folds else networks.of_split("val", views_asked(networks, serving))
    _check_finite(context, networks, scored)
    objective = recipe_objective(recipe)
    scorer = Scorer(objective=objective, classes=data.classes, good_classes=data.good_classes, seed=seed)
    frozen = frozen_part(context)
    choice = choose(networks, scored, scorer, frozen, serving, threads=_threads(context, serving))
    if not choice.assembly.network:  # it certifies on more images than those that the networks had not seen
        return _deliver_frozen(context, data, operating_point, serving, chosen=choice.record)
    delivered = _delivered(context, networks, choice, spec)
    calibration, point = _decide(context, networks, scored, choice, delivered, operating_point)
    parts = networks.parts(delivered, choice.assembly)
    if choice.assembly.frozen:
        parts.append(replace(frozen, member=replace(frozen.member, weight=choice.assembly.frozen)))
    members, precision = [part.member for part in parts], networks.learner.device.precision
    card = model_card(context, data, members, recipe=recipe, precision=precision, calibration=calibration, point=point)
    record = {
        "model_id": export_model(context, data, card, parts),
        "summary": card.summary,
        "networks": [one.name for one in delivered],
        **choice.record,
    }
    return _report(context, record, point)


def _deliver_frozen(
    context: StageContext,
    data: TrainingData,
    settings: OperatingPointConfig,
    serving: ServingConfig,
    *,
    chosen: Mapping[str, Any],
) -> dict[str, Any]:
    """The classifier on frozen features alone. chosen: what was found of networks, empty without any."""
    model_id, card, point = export_frozen(context, data, settings, name="model")
    target, threads = resolve_target(driver_compute(context.compute)), _threads(context, serving)
    _, ensemble = load_ensemble(context.directory / "model", target)
    milliseconds = latency_ms(ensemble, side=data.pack.size, threads=threads, repeats=REPEATS)
    none = np.zeros((1, 1))
    only = Candidate(name=card.summary, passes=1, scores=none[0], resampled=none, latency_ms=milliseconds)
    choose_delivery([only], limit_ms=serving.max_latency_ms)  # which refuses one that is too slow
    best = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))["best"]
    record = {
        "model_id": model_id,
        "summary": card.summary,
        "networks": [],
        "blend": None,
        "compared_views": [],
        **chosen,
        "deliver": "frozen",
        "views": len(best["views"]),
        "score": best["score"],
        "latency_ms": chosen.get("latency_ms", {})
        | {"delivered": milliseconds, "threads": threads, "device": target.type, "limit": serving.max_latency_ms},
    }
    return _report(context, record, point)


def _threads(context: StageContext, serving: ServingConfig) -> int:
    """Of the CPU, that latencies are measured with."""
    return serving.num_threads or cpu_threads(context.compute)


def _report(context: StageContext, record: dict[str, Any], point: OperatingPoint | None) -> dict[str, Any]:
    """Write delivery.json, say what is delivered; figures for the headline."""
    (context.directory / "delivery.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    context.run.log_artifact(context.directory / "delivery.json")
    _say(context, record, point)
    return {
        "unseen_score": record["score"],
        "views": record["views"],
        "latency_ms": record["latency_ms"]["delivered"],
        "threshold": point.threshold if point else None,
        "budget_certified": point.certified if point else None,
    }


def _check_finite(context: StageContext, networks: Networks, scored: Unseen) -> None:
    if not np.isfinite(scored.views).all():
        recipe = networks.recipe
        raise InputError(
            f"recipe.lr={recipe.recipe.lr:g}: the trained model gives outputs that are not finite on images that it "
            f"had not seen; {REMEDY}{range_test_says(context, recipe)}"
        )


def _delivered(context: StageContext, networks: Networks, choice: Choice, spec: TrainingSpec) -> Sequence[Trained]:
    """The networks of the model."""
    if networks.data.folds and choice.deliver == SINGLE:
        return _train_on_all(context, networks.data, spec)
    return networks.trained


def _train_on_all(context: StageContext, data: TrainingData, spec: TrainingSpec) -> list[Trained]:
    """The network on all images that are not test, and its records."""
    whole = with_head(on_all(spec), read_heads(context.inputs["embed"].directory), data)
    with context.run.system_metrics():
        delivered = train_members(context, {"all": whole}, {}, stage="deliver")
    write_training(context, delivered, spec)
    return delivered


def _decide(
    context: StageContext,
    networks: Networks,
    scored: Unseen,
    choice: Choice,
    delivered: Sequence[Trained],
    settings: OperatingPointConfig,
) -> tuple[Calibration, OperatingPoint | None]:
    """On scores out of fold, or on the calibration split."""
    data, assembly = networks.data, choice.assembly
    if not data.folds:
        unseen = networks.of_split("calibration", assembly.views)
        _check_finite(context, networks, unseen)
        logits = assembly.combine(unseen.views, unseen.frozen)
        return decide(context, data, logits, unseen.rows, settings, evidence=Evidence("held_out", folds=0, choices=1))
    confirmed = read_confirmed(context.input("confirm", "confirmation.json"))
    embedding = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))
    transferred = choice.deliver == SINGLE
    evidence = Evidence(
        "transferred" if transferred else "out_of_fold",
        folds=len(networks.trained),
        choices=confirmed.choices,
        not_certifying=tuple(sorted({*confirmed.selection_folds, *embedding["not_certifying"]})),
    )
    seen = networks.on_seen(delivered[0], assembly.combine, assembly.views) if transferred else None
    return decide(context, data, assembly.logits, scored.rows, settings, evidence=evidence, seen=seen)


def _say(context: StageContext, record: dict[str, Any], point: OperatingPoint | None) -> None:
    """What is delivered, what it costs, and what is certified."""
    if "reason" in (record["blend"] or {}):
        context.console.warn(f"the classifier on frozen features does not join: {record['blend']['reason']}")
    context.console.say(f"  delivered: {record['summary']}; {milliseconds(record['latency_ms'])} for an image")
    if point is not None:
        context.console.say(f"  {point.statement}")
