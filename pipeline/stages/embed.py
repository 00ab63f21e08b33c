"""embed: every image that is not test through each backbone in question, as it comes, and a classifier on the features.

Within a minute it says which backbones and image sizes the data suit, what each costs, which labels to look at again,
and whether there is anything to learn at all. Its scores and its classifier are the first model; the backbones that it
keeps are tested and searched, and fine-tuning starts from its head starts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from safetensors.torch import save_file

from components.models.heads import Heads, HeadStart, save_heads
from components.models.views import allowed_views, check_views
from pipeline.budget.allotment import frozen_views
from pipeline.data.sources import log_lineage
from pipeline.embedding.classifier import Judged, frozen_state, head_starts, judge
from pipeline.embedding.features import Candidate, Features, embed_all
from pipeline.embedding.hints import NO_HINTS, Hints, find_hints
from pipeline.embedding.images import Chosen, choose_images
from pipeline.embedding.ranking import Ranked, best_first, keep_best, rank, separation_of
from pipeline.reports.embedding import report_embedding
from pipeline.sections.embedding import EmbedConfig, backbones_in_question
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stage import StageContext
from pipeline.training.build import recipe_objective, recipe_shares
from pipeline.training.data import SELECTION_FOLD, TrainingData, open_data
from pipeline.training.tasks import Place, task_placement


@dataclass
class _Best:
    """The best candidate so far, and what is kept of it."""

    candidate: Candidate
    ranked: Ranked
    features: Features
    judged: Judged


def run(
    context: StageContext,
    *,
    seed: int,
    budget: str | None,
    model: ModelConfig,
    recipe: RecipeConfig,
    embed: EmbedConfig,
) -> dict[str, Any]:
    """Embed, classify, rank; write embedding.json, frozen_logits.npy, frozen.safetensors, heads.safetensors, hints.

    embedding.json: the candidates, the best first, each by one view of the images; `best`, the first of them in all its
    views, and what is served of it; `kept`, the backbones that go on, the model's own first; `not_certifying`, the
    folds on which several candidates were compared. frozen_logits.npy: (N, K) float32, the best's scores by row of the
    manifest, NaN where no classifier that has not seen the image gives one. frozen.safetensors: its classifier and
    backbone as one model. heads.safetensors: see `components/models/heads.py`; none of random weights, nor of a
    backbone whose classifier knows nothing.
    """
    allowed = allowed_views(recipe.augment, recipe.augment_strength)
    if embed.views != "auto":
        check_views(embed.views, allowed, key="embed.views", whose="the augmentation (recipe.augment)")
    data, configured = open_data(context.inputs["prepare"].directory), Recipe(model=model, recipe=recipe)
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="embedding")
    size = recipe.image_size or data.pack.size
    sizes = embed.image_sizes or (size,)
    backbones = backbones_in_question(embed, model)
    candidates = [Candidate(backbone, one) for backbone in backbones for one in sizes]
    chosen = choose_images(data, most=embed.max_images, several=len(candidates) > 1, seed=seed)
    with context.run.system_metrics(), task_placement(context) as place:
        ranked, best, heads = _compare(
            context, candidates, data, chosen, configured, embed, place, size=size, seed=seed
        )
        count: int = 1 if embed.views == "auto" else embed.views
        if budget is not None and embed.views == "auto" and model.weights != "none":
            tested, scoring = len(data.split("test")), 1 / best.features.images_per_second
            left = context.seconds_left(budget)
            count = frozen_views(left, allowed, images=len(chosen), tested=tested, scoring=scoring)
        if count > 1:
            candidate = replace(best.candidate, views=allowed[count])
            ((_, features),) = embed_all(context, [candidate], data, chosen, model, place, seed=seed)
            best = _judged(candidate, features, data, chosen, configured, embed, seed=seed)
    order = best_first(ranked)
    knows = model.weights != "none" and not best.ranked.finds_nothing
    hints = find_hints(best.features, best.judged, chosen, data) if knows else NO_HINTS
    _write_best(context, best, data, chosen, model, seed)
    if heads:
        save_heads(context.directory, heads)
    kept = keep_best(order, keep=embed.keep_backbones, configured=model.backbone, size=size)
    if model.weights == "none":
        kept = dict.fromkeys(backbones, (True, "random weights rank nothing"))
    record = _record(order, best, kept, heads, chosen, data, configured, size=data.pack.size, seed=seed)
    (context.directory / "embedding.json").write_text(json.dumps(record, indent=2), encoding="utf-8")
    hints.doubtful.drop(columns="pack_index").to_csv(context.directory / "doubtful.csv", index=False)
    hints.outliers.drop(columns="pack_index").to_csv(context.directory / "outliers.csv", index=False)
    report_embedding(context, record, hints, data.pack)
    return _headline(record, hints)


def _compare(
    context: StageContext,
    candidates: list[Candidate],
    data: TrainingData,
    chosen: Chosen,
    configured: Recipe,
    embed: EmbedConfig,
    place: Place,
    *,
    size: int,
    seed: int,
) -> tuple[list[Ranked], _Best, Heads]:
    """Score all candidates; the head starts of each backbone are of the size nearest to that of trainings."""
    nearest = min((one.image_size for one in candidates), key=lambda side: abs(side - size))
    ranked: list[Ranked] = []
    best: _Best | None = None
    heads: dict[tuple[str, int | None], HeadStart] = {}
    for candidate, features in embed_all(context, candidates, data, chosen, configured.model, place, seed=seed):
        found = _judged(candidate, features, data, chosen, configured, embed, seed=seed)
        ranked.append(found.ranked)
        if best is None or best_first([best.ranked, found.ranked])[0] is found.ranked:
            best = found
        if configured.model.weights != "none" and candidate.image_size == nearest:
            shares = recipe_shares(configured, data)
            starts = head_starts(features, chosen, num_classes=len(data.classes), shares=shares)
            heads |= {(candidate.backbone, fold): start for fold, start in starts.items()}
    assert best is not None
    return ranked, best, heads


def _judged(
    candidate: Candidate,
    features: Features,
    data: TrainingData,
    chosen: Chosen,
    configured: Recipe,
    embed: EmbedConfig,
    *,
    seed: int,
) -> _Best:
    judged = judge(features, chosen, num_classes=len(data.classes), shares=recipe_shares(configured, data), seed=seed)
    objective, samples = recipe_objective(configured), embed.bootstrap_samples
    ranked = rank(candidate, features, judged, chosen, data, objective, samples=samples, seed=seed)
    return _Best(candidate, ranked, features, judged)


def _write_best(
    context: StageContext, best: _Best, data: TrainingData, chosen: Chosen, model: ModelConfig, seed: int
) -> None:
    logits = np.full((len(data.manifest), len(data.classes)), np.nan, dtype=np.float32)
    logits[chosen.rows] = best.judged.logits
    np.save(context.directory / "frozen_logits.npy", logits)
    state = frozen_state(best.judged.classifier, model, backbone=best.ranked.backbone, seed=seed)
    contiguous = {name: values.contiguous() for name, values in state.items()}
    save_file(contiguous, context.directory / "frozen.safetensors")


def _record(
    order: list[Ranked],
    best: _Best,
    kept: dict[str, tuple[bool, str]],
    heads: Heads,
    chosen: Chosen,
    data: TrainingData,
    configured: Recipe,
    *,
    size: int,
    seed: int,
) -> dict[str, Any]:
    own = configured.model.backbone
    return {
        "design": "cross_fit" if data.folds else "hold_out",
        "folds": data.folds,
        "compared": int(chosen.compared.sum()),
        "not_certifying": [SELECTION_FOLD] if data.folds and len(order) > 1 else [],
        "images": len(chosen),
        "available": chosen.available,
        "objective": configured.recipe.objective,
        "separation": separation_of(data)[0],
        "candidates": [one.to_dict() for one in order],
        "best": best.ranked.to_dict()
        | {
            "views": best.candidate.views,
            "mean": list(best.features.mean),
            "std": list(best.features.std),
        },
        "backbones": {name: {"kept": stays, "reason": reason} for name, (stays, reason) in kept.items()},
        "kept": sorted((name for name, (stays, _) in kept.items() if stays), key=lambda name: name != own),
        "warnings": _warnings(best.ranked, configured),
        "notes": _notes(order, chosen, size) + _without_start(order, configured, heads),
        "seed": seed,
    }


def _warnings(best: Ranked, configured: Recipe) -> list[str]:
    if configured.model.weights == "none":
        return [
            "model.weights=none: features of random weights tell little; their classifier ranks no backbone and starts "
            "no training"
        ]
    if not best.finds_nothing:
        return []
    limits = "" if best.separation_low is None else f" ({best.separation_low:.3f} to {best.separation_high:.3f})"
    return [
        f"a classifier on frozen features finds nothing: {best.separation:.3f}{limits}, and a guess has "
        f"{best.chance:.3f}. Check that the labels belong to the images, that the defects are visible at this size "
        "(data.image_size, data.region, data.tile_size), and that there are enough defective parts (see the data "
        "report)"
    ]


def _notes(order: list[Ranked], chosen: Chosen, size: int) -> list[str]:
    notes = []
    if len(chosen) < chosen.available:
        notes.append(
            f"{len(chosen):,} of {chosen.available:,} images were embedded, drawn by class, groups whole "
            f"(embed.max_images)"
        )
    smaller = sorted({one.image_size for one in order if one.image_size != size})
    if smaller and len({one.image_size for one in order}) > 1:
        notes.append(
            f"images of {size} px were resized to {', '.join(map(str, smaller))} px: of what is resized twice a little "
            "is lost, so a smaller data.image_size may do better than its size does here"
        )
    return notes


def _without_start(order: list[Ranked], configured: Recipe, heads: Heads) -> list[str]:
    """Which backbones have no start of their classifier, though they could have one."""
    if configured.model.weights == "none":
        return []
    lacking = dict.fromkeys(one.backbone for one in order if (one.backbone, None) not in heads)
    return [
        f"{name}: no training starts from a fitted classifier (recipe.head_start), since a linear one on its last "
        "features predicts images that it has not seen no better than a constant"
        for name in lacking
    ]


def _headline(record: dict[str, Any], hints: Hints) -> dict[str, Any]:
    best = record["best"]
    return {
        "frozen_backbone": best["backbone"],
        "frozen_image_size": best["image_size"],
        "frozen_score": round(best["score"], 4),
        f"frozen_{record['separation']}": round(best["separation"], 4),
        "doubtful_labels": len(hints.doubtful),
        "outliers": len(hints.outliers),
    }
