"""The result of a search: the winner, its gain over the defaults, and the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from components.search.analysis import agreement_warning, pareto_front, rung_agreement, survival
from components.search.importance import importances
from components.search.samplers import winner
from components.search.samplers.folds import fold_means
from components.search.samplers.points import point_key
from components.search.trial import TrialRecord
from pipeline.overriding import override
from pipeline.search.portfolio import portfolio_recipe
from pipeline.search.view import short_settings
from pipeline.search_space import SearchedSpace, settings_of
from pipeline.sections.recipe import Recipe
from pipeline.sections.search import SearchConfig
from pipeline.stage import StageContext
from pipeline.yaml_text import write_yaml

#: The file in the stage's work folder from which an interrupted search resumes.
JOURNAL = "journal.jsonl"
FILES = (JOURNAL, "best.json", "best.yaml", "search.json", "trials.parquet", "scores.parquet", "search.html")
SELECTED = "The winner was selected by its score, so that its gain is overestimated: the stage confirm decides."
BEST_HEAD = """# The recipe that the search found, and its data:
#   escapement run --config best.yaml
# This is the result of the search, before the confirmation, with the data source and the schedule at that time.
"""
#: Without good classes the default gates do not apply, and gates are not a part of a search.
GOODLESS_HEAD = (
    "# Without a good class a model is promoted by promote.gates.min_balanced_accuracy alone: add a bound.\n"
)
#: Columns of the table of trials that have a name of their own.
NAMED = {"model.backbone": "backbone", "recipe.optimizer": "optimizer", "recipe.lr": "lr"}


@dataclass(frozen=True, kw_only=True)
class SearchOutcome:
    """The trials of a search that has ended.

    rungs: epochs at which trials were compared. gpus: a trial's share of a GPU. ended_early: why, or empty.
    """

    records: list[TrialRecord]
    rungs: tuple[int, ...] = ()
    gpus: float = 0.0
    ended_early: str = ""


def write_results(
    context: StageContext, searched: SearchedSpace, search: SearchConfig, finished: SearchOutcome
) -> dict[str, Any]:
    """Determine the winner, write every file but the report, print the result; the stage's headline."""
    records, folder = finished.records, context.directory
    number = winner(search.sampler, records)
    best = None if number is None else records[number]
    outcome = _outcome(searched, search, best, finished)
    keys = [dimension.sets for dimension in searched.space.dimensions]
    trials, scores = trial_table(searched.default, records, keys, gpus=finished.gpus), score_table(records)
    analysis = _analysis(searched, search, records, trials, scores, finished.rungs) if records else {}
    (folder / "best.json").write_text(json.dumps(outcome, indent=2, allow_nan=False), encoding="utf-8")
    (folder / "search.json").write_text(json.dumps(analysis, indent=2, allow_nan=False), encoding="utf-8")
    prepared = context.inputs["prepare"].sections
    text = best_configuration(prepared["data"], override(searched.default, outcome["overrides"]), seed=prepared["seed"])
    (folder / "best.yaml").write_text(text, encoding="utf-8")
    trials.to_parquet(folder / "trials.parquet", index=False)
    scores.to_parquet(folder / "scores.parquet", index=False)
    if not records:
        return {"trials": 0}
    shutil.copyfile(context.work / JOURNAL, folder / JOURNAL)
    _say(context, outcome, analysis, records)
    return {
        "trials": len(records),
        "trials_stopped_early": sum(record.status == "stopped" for record in records),
        "trials_diverged": sum(record.status == "diverged" for record in records),
        "trials_failed": sum(record.status == "failed" for record in records),
        "best_trial": outcome["trial"],
        "best_val_score": outcome["last_score"],
        "gain_over_defaults": outcome["gain"],
        "epochs_trained": int(trials["epochs"].sum()),
    }


def log_results(context: StageContext) -> None:
    """Log every file to the stage's run, and the trials as a table."""
    for name in FILES:
        context.run.log_artifact(context.directory / name)
    context.run.log_table(pd.read_parquet(context.directory / "trials.parquet"), "tables/trials.json")


def trial_table(default: Recipe, records: Sequence[TrialRecord], keys: Sequence[str], *, gpus: float) -> pd.DataFrame:
    """One row per trial: how it ended, and its settings. keys: the searched ones. gpus: a trial's share of a GPU.

    The value of a key whose condition did not hold is missing.
    """
    defaults = settings_of(default)
    rows = [_row(record, defaults, [key for key in keys if key not in NAMED], gpus) for record in records]
    return pd.DataFrame(rows).astype({"fold": "Int64"}) if rows else pd.DataFrame({"trial": []})


def score_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row per trial and epoch: trial, epoch, score, seconds (of the trial up to there)."""
    rows = [
        {"trial": record.number, "epoch": epoch, "score": score, "seconds": record.seconds_at[epoch]}
        for record in records
        for epoch, score in sorted(record.scores.items())
    ]
    return pd.DataFrame(rows, columns=["trial", "epoch", "score", "seconds"])


def gain_over_defaults(best: TrialRecord | None, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Scores of the best trial and the defaults at the last epoch that both have; scores rise with the epochs."""
    defaults = next((record for record in records if record.number == 0 and record.score is not None), None)
    shared = sorted(best.scores.keys() & defaults.scores.keys()) if best is not None and defaults is not None else []
    if best is None or defaults is None or not shared:
        score = best.score if best else None
        return {"score": score, "score_of_defaults": None, "compared_at_epoch": None, "gain": None}
    score, base = best.scores[shared[-1]], defaults.scores[shared[-1]]
    return {"score": score, "score_of_defaults": base, "compared_at_epoch": shared[-1], "gain": score - base}


def best_configuration(data: Mapping[str, Any], recipe: Recipe, *, seed: int) -> str:
    """A YAML configuration with the same data and the found recipe, without a search."""
    values = {
        "seed": seed,
        "data": dict(data),
        "model": recipe.model.model_dump(mode="json"),
        "recipe": recipe.recipe.model_dump(mode="json"),
        "search": {"num_trials": 0},
    }
    return BEST_HEAD + ("" if data["good_labels"] else GOODLESS_HEAD) + write_yaml(values)


def _outcome(
    searched: SearchedSpace,
    search: SearchConfig,
    best: TrialRecord | None,
    finished: SearchOutcome,
) -> dict[str, Any]:
    """The content of best.json."""
    records, ended_early = finished.records, finished.ended_early
    found = {f"recipe.{key}": getattr(searched.default.recipe, key) for key in ("lr", "batch_size", "precision")}
    notes = [*searched.notes] if records else []
    if best and best.number:
        notes.insert(0, SELECTED)
    if ended_early:
        notes.append(f"The search ended early: {ended_early}.")
    return {
        "overrides": {**found, **(best.suggestion.overrides if best else {})},
        "defaults": found,
        "trial": best.number if best else None,
        **gain_over_defaults(best, records),
        "at_rung": _at_rung(best, records, finished.rungs),
        "fold_means": _mean_over_folds(best, records),
        "last_score": best.score if best else None,
        "objective": searched.default.recipe.objective,
        "lr_ranges": _labelled(searched),
        "note": " ".join(notes),
    }


def _at_rung(best: TrialRecord | None, records: Sequence[TrialRecord], rungs: Sequence[int]) -> dict[str, Any] | None:
    """Scores of the best trial and the defaults at the first rung; None where they are one, or one has no score."""
    if best is None or not best.number or not rungs:
        return None
    winner_score, score_of_defaults = best.scores.get(rungs[0]), records[0].scores.get(rungs[0])
    if winner_score is None or score_of_defaults is None:
        return None
    return {"epoch": rungs[0], "winner": winner_score, "defaults": score_of_defaults}


def _mean_over_folds(best: TrialRecord | None, records: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """Mean score over the folds of the winner and of the defaults; None without a cross-validation."""
    means = fold_means(records)
    if best is None or point_key(best.suggestion.point) not in means:
        return None
    return {
        "folds": len({record.suggestion.fold for record in records} - {None}),
        "winner": means[point_key(best.suggestion.point)],
        "defaults": means.get(point_key(records[0].suggestion.point)),
    }


def _labelled(searched: SearchedSpace) -> dict[str, tuple[float, float]]:
    """The searched ranges by optimizer, or by backbone and optimizer where there are several backbones."""
    several = len({backbone for backbone, _ in searched.rates}) > 1
    return {
        (f"{backbone} / {optimizer}" if several else optimizer): limits
        for (backbone, optimizer), limits in searched.rates.items()
    }


def _analysis(
    searched: SearchedSpace,
    search: SearchConfig,
    records: Sequence[TrialRecord],
    trials: pd.DataFrame,
    scores: pd.DataFrame,
    rungs: Sequence[int],
) -> dict[str, Any]:
    """The content of search.json, of all trials but those on folds."""
    trials = trials[trials["fold"].isna()]
    scores = scores[scores["trial"].isin(trials["trial"])]
    points = {record.number: record.suggestion.point for record in records if record.suggestion.fold is None}
    stops = search.scheduler_name != "none"
    # The defaults are never stopped either, but they were not drawn at random.
    unstopped = trials.loc[trials["unstopped"] & (trials["trial"] > 0), "trial"] if stops else trials["trial"]
    agreement = rung_agreement(scores, rungs, rungs[-1], unstopped=list(unstopped))
    return {
        "rungs": list(rungs),
        "scheduler": search.scheduler_name,
        "sampler": search.sampler,
        "horizon": search.horizon,
        "agreement": agreement,
        "agreement_warning": (agreement_warning(agreement) if stops else None) or "",
        "survival": survival(trials, rungs) if stops else [],
        "importances": importances(points, scores, searched.space, seed=len(records)).to_dict(),
        "pareto_front": pareto_front(trials),
        "portfolio": _portfolio(records),
    }


def _portfolio(records: Sequence[TrialRecord]) -> list[dict[str, Any]]:
    """The recipes of the portfolio that were tried, each with its trial, score and reason."""
    found = [(record, portfolio_recipe(record.suggestion.phase)) for record in records]
    return [
        {
            "recipe": recipe.name,
            "trial": record.number,
            "epochs": record.epochs,
            "score": record.score,
            "reason": recipe.reason,
        }
        for record, recipe in found
        if recipe is not None
    ]


def _say(
    context: StageContext, outcome: Mapping[str, Any], analysis: Mapping[str, Any], records: Sequence[TrialRecord]
) -> None:
    if outcome["trial"]:
        settings = short_settings(records[outcome["trial"]])
        score = f"{outcome['objective']} {outcome['last_score']:.4f}"
        context.console.say(f"  best: trial {outcome['trial']} ({settings}), {score}")
    failed = [record for record in records if record.status == "failed"]
    if failed:
        context.console.warn(f"{len(failed)} of {len(records)} trials failed, the last with: {failed[-1].message}")
    if analysis["agreement_warning"]:
        context.console.warn(analysis["agreement_warning"])


def _row(record: TrialRecord, defaults: Mapping[str, Any], keys: Sequence[str], gpus: float) -> dict[str, Any]:
    suggestion = record.suggestion
    settings = {**defaults, **suggestion.overrides}
    row = {
        "trial": record.number,
        "status": record.status,
        "score": record.score if record.score is not None else float("nan"),
        "epochs": record.epochs,
        "seconds": round(record.seconds, 2),
        "gpu_seconds": round(record.seconds * gpus, 2),
        "phase": suggestion.phase,
        "unstopped": record.unstopped,
        "fold": suggestion.fold,
        "seed": suggestion.seed,
        **{name: settings[key] for key, name in NAMED.items()},
    }
    # A trial without overrides has the defaults; another one has no value for a key whose condition does not hold.
    unset = {} if suggestion.overrides else defaults
    for key in keys:
        value = suggestion.overrides.get(key, unset.get(key))
        is_list = isinstance(value, list | tuple)  # as one text: a column of a table has hashable values
        row[key] = (", ".join(str(entry) for entry in value) or "none") if is_list else value
    latency = next((values["latency_ms"] for values in record.metrics.values() if "latency_ms" in values), None)
    return row | ({"latency_ms": latency} if latency is not None else {})
