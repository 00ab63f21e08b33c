"""confirm: trains the search's winner and the defaults at full length over several seeds, and decides between them.

The trainings are like that of `train`, which reuses the one of the configured seed.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from components.evaluation.objective_intervals import objective_interval
from pipeline.compute.device import use_threads
from pipeline.compute.resources import cpu_threads
from pipeline.config import TrainConfig
from pipeline.confirmation.trainings import LABELS, SeedResult, train_candidates
from pipeline.confirmation.verdict import (
    WINNER,
    Overrides,
    Verdict,
    candidates,
    diverged,
    judge,
    untested,
    write_confirmation,
)
from pipeline.data.sources import log_lineage
from pipeline.reports.confirmation import console_table
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.stage import StageContext
from pipeline.training.build import TrainingData, open_data, recipe_objective
from pipeline.training.checkpoints import copy_training
from pipeline.training.confirmed import KEPT
from pipeline.training.job import TrainingSpec

#: Resamples of the validation images.
SAMPLES = 1000


def run(
    context: StageContext,
    *,
    seed: int,
    model: ModelConfig,
    recipe: RecipeConfig,
    search: SearchConfig,
    train: TrainConfig,
    monitor: MonitorConfig,
) -> dict[str, Any]:
    """Train both, decide, keep the training that `train` reuses."""
    best = json.loads(context.input("search", "best.json").read_text(encoding="utf-8"))
    configured = Recipe(model=model, recipe=recipe)
    both = candidates(best, configured)
    seeds = range(seed, seed + search.confirm_seeds)
    if WINNER not in both or not seeds:
        return _conclude(context, untested(both), both, [], recipe.objective, search.confirm_confidence)
    prepared = context.inputs["prepare"].directory
    log_lineage(context.run, prepared, used_for="confirmation")
    spec = TrainingSpec(recipe=configured, seed=seed, epochs=train.epochs, patience=train.patience, monitor=monitor)
    context.console.say(
        f"  the winner of the search against the defaults: {len(both) * len(seeds)} trainings of up to {train.epochs} "
        "epochs"
    )
    with context.run.system_metrics():
        results = train_candidates(context, both, spec, seeds=seeds)
    use_threads(cpu_threads(context.compute))
    verdict = _decide(results, open_data(prepared), spec, confidence=search.confirm_confidence)
    kept = _keep(context, results, verdict, seed=seed)
    return _conclude(context, verdict, both, results, recipe.objective, search.confirm_confidence, kept)


def _decide(results: Sequence[SeedResult], data: TrainingData, spec: TrainingSpec, *, confidence: float) -> Verdict:
    """Compare the recipes seed by seed, each training at its best epoch."""
    winners, defaults = ([result for result in results if result.label == label] for label in LABELS)
    lost = [[result.seed for result in some if result.failed] for some in (winners, defaults)]
    pairs = list(zip(winners, defaults, strict=True))
    differences = [a.score - b.score for a, b in pairs if a.score is not None and b.score is not None]
    if any(lost):
        return diverged(*lost, others=differences)
    val = data.manifest[data.manifest["split"] == "val"]
    logits = [np.stack([result.store.best().val_logits for result in some]) for some in (winners, defaults)]
    sampled = objective_interval(
        recipe_objective(spec.recipe),
        logits[0],
        data.split("val").labels,
        data.classes,
        data.good_classes,
        val["group"].to_numpy(),
        reference=logits[1],
        confidence=confidence,
        samples=SAMPLES,
        seed=spec.seed,
    )
    enough = sampled.dropped < SAMPLES / 2
    return judge(
        differences,
        variance=sampled.variance if enough else None,
        units=sampled.units,
        confidence=confidence,
        objective=spec.recipe.recipe.objective,
    )


def _keep(context: StageContext, results: Sequence[SeedResult], verdict: Verdict, *, seed: int) -> SeedResult | None:
    """Copy and return the training that `train` would repeat, unless it failed; an interrupted copy starts again."""
    chosen = (verdict.chosen, seed)
    kept = next((one for one in results if (one.label, one.seed) == chosen and not one.failed), None)
    shutil.rmtree(context.directory / KEPT, ignore_errors=True)
    if kept is not None:
        copy_training(kept.store.folder, context.directory / KEPT)
    return kept


def _conclude(
    context: StageContext,
    verdict: Verdict,
    both: Mapping[str, Overrides],
    results: Sequence[SeedResult],
    objective: str,
    confidence: float,
    kept: SeedResult | None = None,
) -> dict[str, Any]:
    """Write confirmation.json, log it with table and figure, print the decision."""
    seeds = sorted({result.seed for result in results})
    scores = {label: [result.score for result in results if result.label == label] for label in LABELS if results}
    values = write_confirmation(
        context.directory / "confirmation.json",
        verdict,
        both[verdict.chosen],
        objective=objective,
        confidence=confidence,
        seeds=seeds,
        scores=scores,
        trainings=[result.record() for result in results],
        kept_run=kept.run_id if kept is not None else None,
    )
    context.run.log_artifact(context.directory / "confirmation.json")
    if results:
        context.console.table(console_table(values))
    context.console.say(f"  {verdict.statement}")
    return {
        "confirmed_recipe": verdict.chosen,
        "confirmation_difference": verdict.difference,
        "confirmation_low": verdict.low,
        "confirmation_trainings": len(results),
    }
