"""confirm: compares the search's winner with the defaults at full length, and keeps what is likely better.

Left out where it could not detect what the winner may gain. The trainings are like those of `train`, which reuses
those of the kept recipe.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from typing import Any

from components.evaluation.expected_difference import Normal
from components.models.heads import read_heads
from components.search.samplers.folds import CANDIDATES
from pipeline.compute.device import set_up_process
from pipeline.compute.resources import cpu_threads
from pipeline.config import TrainConfig
from pipeline.confirmation.comparison import decide, held_out_rows
from pipeline.confirmation.foresight import Foresight, foresee
from pipeline.confirmation.prior import expected_gain, search_gain
from pipeline.confirmation.record import Conclusion, write_confirmation
from pipeline.confirmation.trainings import (
    Replicate,
    Result,
    repeated_over_folds,
    repeated_over_seeds,
    train_candidates,
)
from pipeline.confirmation.verdict import WINNER, Overrides, Verdict, by_search, candidates, nothing_to_confirm
from pipeline.data.sources import log_lineage
from pipeline.reports.confirmation import console_table
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.stage import StageContext
from pipeline.training.checkpoints import copy_training
from pipeline.training.confirmed import KEPT
from pipeline.training.data import SELECTION_FOLD, TrainingData, network_folds, open_data
from pipeline.training.job import TrainingSpec


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
    """Train both where that can tell them apart, decide, keep the trainings that `train` reuses."""
    best = json.loads(context.input("search", "best.json").read_text(encoding="utf-8"))
    prepared = context.inputs["prepare"].directory
    data, configured = open_data(prepared), Recipe(model=model, recipe=recipe)
    both = candidates(best, configured)
    searched = bool(data.folds) and search.num_trials > 1
    conclusion = Conclusion(
        objective=recipe.objective,
        confidence=search.confirm_confidence,
        selection_folds=[SELECTION_FOLD] if searched else [],
        cross_validated=CANDIDATES + 1 if searched and search.folds else 1,
    )
    if WINNER not in both:
        return _conclude(context, conclusion, nothing_to_confirm(), both)
    gain = search_gain(best)
    prior, replicates = expected_gain(gain), _replicates(data, search, train, seed=seed)
    foresight = _foresee(context, conclusion, replicates, data, best, prior) if replicates else None
    reason = _reason_against(search, foresight)
    if reason is not None:
        verdict = by_search(prior, gain, confidence=conclusion.confidence, objective=recipe.objective, reason=reason)
        return _conclude(context, conclusion, verdict, both, foresight)
    log_lineage(context.run, prepared, used_for="confirmation")
    context.console.say(
        f"  the winner of the search against the defaults: {2 * len(replicates)} trainings of up to {train.epochs} "
        "epochs"
    )
    spec = TrainingSpec(recipe=configured, seed=seed, epochs=train.epochs, patience=train.patience, monitor=monitor)
    with context.run.system_metrics():
        heads = read_heads(context.inputs["embed"].directory)
        results = train_candidates(context, both, spec, replicates, heads, data)
    set_up_process(cpu_threads(context.compute))
    verdict = decide(results, data, configured, prior, confidence=conclusion.confidence, seed=seed)
    return _conclude(context, conclusion, verdict, both, foresight, results, at_rung=best.get("at_rung"))


def _replicates(data: TrainingData, search: SearchConfig, train: TrainConfig, *, seed: int) -> list[Replicate]:
    """Over the folds of the networks on which the search has compared nothing; there may be none."""
    if not data.folds:
        return repeated_over_seeds(seed, search.confirm_seeds)
    compared_on = max(search.folds, SELECTION_FOLD + 1) if search.num_trials > 1 else 0
    return repeated_over_folds(seed, [fold for fold in network_folds(data, train.networks) if fold >= compared_on])


def _foresee(
    context: StageContext,
    conclusion: Conclusion,
    replicates: Sequence[Replicate],
    data: TrainingData,
    best: Mapping[str, Any],
    prior: Normal,
) -> Foresight:
    """Say what the confirmation could detect."""
    score = best.get("score_of_defaults")
    foresight = foresee(
        held_out_rows(data, replicates),
        prior,
        replicates=len(replicates),
        objective=conclusion.objective,
        score=0.5 if score is None else score,
        confidence=conclusion.confidence,
    )
    context.console.say(f"  {foresight.statement}")
    return foresight


def _reason_against(search: SearchConfig, foresight: Foresight | None) -> str | None:
    """Why the confirmation is left out; None if it is not. foresight: None where there is nothing to compare on."""
    if foresight is None:
        return f"Not confirmed: the search has chosen on every fold (search.folds={search.folds}), none is left."
    if search.confirm == "never":
        return "Not confirmed (search.confirm=never)."
    if search.confirm == "auto" and not foresight.worthwhile:
        return f"Not confirmed, since not even the winner's possible gain would be certain. {foresight.statement}"
    return None


def _keep(context: StageContext, results: Sequence[Result], verdict: Verdict) -> dict[str, str]:
    """Copy the trainings that `train` would repeat, but failed ones; the run of each member. An interrupted copy starts
    again.
    """
    shutil.rmtree(context.directory / KEPT, ignore_errors=True)
    kept: dict[str, str] = {}
    for result in results:
        member = result.replicate.member
        if result.label == verdict.chosen and member is not None and not result.failed:
            copy_training(result.store.folder, context.directory / KEPT / member)
            kept[member] = result.run_id
    return kept


def _conclude(
    context: StageContext,
    conclusion: Conclusion,
    verdict: Verdict,
    both: Mapping[str, Overrides],
    foresight: Foresight | None = None,
    results: Sequence[Result] = (),
    *,
    at_rung: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Keep trainings, write confirmation.json, log it, print the decision."""
    values = write_confirmation(
        context.directory / "confirmation.json",
        conclusion,
        verdict,
        both[verdict.chosen],
        foresight=foresight,
        at_rung=at_rung,
        results=results,
        kept=_keep(context, results, verdict),
    )
    context.run.log_artifact(context.directory / "confirmation.json")
    if results:
        context.console.table(console_table(values))
    if values["at_rung"] is not None:
        context.console.say(f"  {values['at_rung']['statement']}")
    context.console.say(f"  {verdict.statement}")
    return {
        "confirmed_recipe": verdict.chosen,
        "confirmation_difference": verdict.difference,
        "confirmation_expected": verdict.expected,
        "confirmation_detectable": values["detectable_difference"],
        "confirmation_trainings": len(results),
    }
