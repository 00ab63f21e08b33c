"""The end of a search: its files, its figures, its chapter of the report, and what is said at the terminal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from components.report.figures_search import search_figure
from components.report.figures_search_agreement import rung_agreement_figure
from components.report.figures_search_cost import trial_cost_figure
from components.report.figures_search_importance import importance_figure
from components.report.figures_search_parallel import parallel_coordinates
from components.report.figures_search_pareto import pareto_figure
from components.report.figures_search_survival import rung_survival_figure
from components.report.html import Section, render_report
from components.search.agreement import agreement_warning, rung_agreement, survival
from components.search.importance import importances, scales
from components.search.pareto import pareto_front
from components.search.rungs import Ladder
from components.search.samplers import winner
from components.search.trial import TrialRecord
from pipeline.console import duration
from pipeline.overriding import override
from pipeline.search.recipes import SearchedSpace, at_horizon
from pipeline.search.results import (
    best_configuration,
    gain_interval,
    gain_over_defaults,
    mean_over_folds,
    score_table,
    trial_table,
)
from pipeline.search.runs import TrialRuns
from pipeline.search.view import short_settings
from pipeline.sections.search import SearchConfig
from pipeline.stage import StageContext
from pipeline.training.build import open_data

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Schedulers that end trials before their time.
STOPPING = ("asha", "hyperband", "median")
#: What an interrupted search goes on from.
JOURNAL = "journal.jsonl"
FILES = (JOURNAL, "best.json", "best.yaml", "search.json", "trials.parquet", "scores.parquet", "search.html")
UNCONFIRMED = (
    "The winner was picked on the validation split, from one seed, and search.confirm_seeds is 0: its gain is "
    "unconfirmed, and may be within the noise of the defaults."
)
TO_CONFIRM = "The winner was picked on the validation split: the confirmation says whether it is ahead."


def conclude(
    context: StageContext,
    searched: SearchedSpace,
    search: SearchConfig,
    records: Sequence[TrialRecord],
    *,
    ladder: Ladder,
    gpus: float,
    runs: TrialRuns,
    ended: str,
) -> dict[str, Any]:
    """Pick the winner, write every file, log them; the headline. ended: why the search ended early, or empty."""
    number = winner(search.sampler, records)
    best = None if number is None else records[number]
    gain = gain_over_defaults(best, records) | {
        "gain_interval": _interval(context, searched, best, records),
        "fold_means": mean_over_folds(best, records),
    }
    outcome = _outcome(searched, search, best, gain, ended)
    keys = [dimension.sets for dimension in searched.space.dimensions]
    trials, scores = trial_table(searched.default, records, keys, gpus=gpus), score_table(records)
    analysis = _analysis(searched, search, records, trials, scores, ladder)
    shutil.copyfile(context.work / JOURNAL, context.directory / JOURNAL)
    _write(context, searched, outcome, analysis, trials, scores)
    _log(context, records, trials, runs)
    _say(context, outcome, analysis, records)
    return {
        "trials": len(records),
        "trials_stopped_early": sum(record.status == "stopped" for record in records),
        "trials_diverged": sum(record.status == "diverged" for record in records),
        "trials_failed": sum(record.status == "failed" for record in records),
        "best_trial": outcome["trial"],
        "best_val_score": outcome["last_score"],
        "gain_over_defaults": gain["gain"],
        "epochs_trained": int(trials["epochs"].sum()),
    }


def conclude_without_search(context: StageContext, searched: SearchedSpace) -> dict[str, Any]:
    """The files of a search without trials: the defaults are taken."""
    nothing = dict.fromkeys(("score", "score_of_defaults", "compared_at_epoch", "gain", "gain_interval", "fold_means"))
    outcome: dict[str, Any] = {
        "overrides": {"recipe.lr": searched.default.recipe.lr},
        "defaults": {"recipe.lr": searched.default.recipe.lr},
        "trial": None,
        "schedule": [],
        **nothing,
        "last_score": None,
        "objective": searched.default.recipe.objective,
        "lr_ranges": {},
        "note": "",
    }
    _write(context, searched, outcome, {}, pd.DataFrame({"trial": []}), score_table([]))
    return {"trials": 0}


def search_section(folder: Path) -> Section:
    """The chapter of a report, from the folder of the stage's result."""
    outcome = json.loads((folder / "best.json").read_text(encoding="utf-8"))
    analysis = json.loads((folder / "search.json").read_text(encoding="utf-8"))
    trials = pd.read_parquet(folder / "trials.parquet")
    if trials.empty:
        return Section("Search", "No search was made; the recipe was trained as configured.")
    scores = pd.read_parquet(folder / "scores.parquet")
    notes = [outcome["note"], analysis["agreement_warning"], *analysis["notes"]]
    return Section(
        "Search",
        _words(outcome, trials, analysis),
        tables=[("Trials", _shown_trials(trials)), *_front_table(trials, analysis)],
        figures=_figures(outcome, analysis, trials, scores),
        notes=[note for note in notes if note],
    )


def _interval(
    context: StageContext, searched: SearchedSpace, best: TrialRecord | None, records: Sequence[TrialRecord]
) -> dict[str, Any] | None:
    if best is None:
        return None
    data = open_data(context.inputs["prepare"].directory)
    found = gain_interval(best, records[0], searched.default, data, seed=0)
    return found.to_dict() if found is not None else None


def _outcome(
    searched: SearchedSpace, search: SearchConfig, best: TrialRecord | None, gain: Mapping[str, Any], ended: str
) -> dict[str, Any]:
    """What best.json holds. schedule: of population-based training, each change after `epoch` of `epochs`."""
    lr = {"recipe.lr": searched.default.recipe.lr}
    overrides = {**lr, **(best.suggestion.overrides if best else {})}
    schedule: list[dict[str, Any]] = []
    if best is not None and search.scheduler_name == "pbt" and best.number:
        schedule = [{**change, "epochs": best.suggestion.epochs} for change in best.changes]
        start = schedule[0]["overrides"]
        average = at_horizon(searched.default, start, search).recipe.ema_decay
        overrides |= {**start, "recipe.schedule": "fixed", "recipe.ema_decay": average}
    unconfirmed = TO_CONFIRM if search.confirm_seeds else UNCONFIRMED
    note = " ".join([*([unconfirmed] if best and best.number else []), *searched.notes, *_sentence(ended)])
    return {
        "overrides": overrides,
        "defaults": lr,
        "trial": best.number if best else None,
        "schedule": schedule,
        **gain,
        "last_score": best.score if best else None,
        "objective": searched.default.recipe.objective,
        "lr_ranges": _labelled(searched),
        "note": note,
    }


def _sentence(ended: str) -> list[str]:
    return [f"The search ended early: {ended}."] if ended else []


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
    ladder: Ladder,
) -> dict[str, Any]:
    """What the figures show and search.json keeps: of the trials on the split itself, those on folds left out."""
    trials = trials[trials["fold"].isna()]
    scores = scores[scores["trial"].isin(trials["trial"])]
    points = {record.number: record.suggestion.point for record in records if record.suggestion.fold is None}
    # The defaults run to their end as well, but nobody drew them.
    unstopped = [int(number) for number in trials.loc[trials["unstopped"] & (trials["trial"] > 0), "trial"]]
    stops = search.scheduler_name in STOPPING
    if not stops:
        unstopped = [int(number) for number in trials["trial"]]
    agreement = rung_agreement(scores, ladder.rungs, ladder.last, unstopped=unstopped)
    measured = "latency_ms" in trials
    return {
        "rungs": list(ladder.rungs),
        "scheduler": search.scheduler_name,
        "sampler": search.sampler,
        "horizon": search.horizon,
        "unstopped": unstopped,
        "agreement": [record.to_dict() for record in agreement],
        "agreement_warning": (agreement_warning(agreement) if stops else None) or "",
        "survival": [record.to_dict() for record in survival(trials, ladder.rungs)],
        "importances": importances(points, scores, searched.space, seed=len(records)).to_dict(),
        "scales": scales(searched.space),
        "pareto_front": pareto_front(trials) if measured else [],
        "notes": [],
    }


def _write(
    context: StageContext,
    searched: SearchedSpace,
    outcome: Mapping[str, Any],
    analysis: Mapping[str, Any],
    trials: pd.DataFrame,
    scores: pd.DataFrame,
) -> None:
    folder = context.directory
    (folder / "best.json").write_text(json.dumps(outcome, indent=2, allow_nan=False), encoding="utf-8")
    (folder / "search.json").write_text(json.dumps(analysis, indent=2, allow_nan=False), encoding="utf-8")
    prepared = context.inputs["prepare"].sections
    best = override(searched.default, outcome["overrides"])
    text = best_configuration(prepared["data"], best, seed=prepared["seed"], changes=bool(outcome["schedule"]))
    (folder / "best.yaml").write_text(text, encoding="utf-8")
    trials.to_parquet(folder / "trials.parquet", index=False)
    scores.to_parquet(folder / "scores.parquet", index=False)
    section = search_section(folder)
    html = render_report(
        title="Search report",
        subtitle=f"{len(trials)} trials of {searched.default.model.backbone}, compared by {outcome['objective']}",
        headline=_headline(outcome, trials),
        sections=[section],
    )
    (folder / "search.html").write_text(html, encoding="utf-8")
    for name, figure in section.figures:
        context.log_figure(figure, f"figures/{name.lower().replace(' ', '_')}.png")


def _log(context: StageContext, records: Sequence[TrialRecord], trials: pd.DataFrame, runs: TrialRuns) -> None:
    """Files to the stage's run, weights to the trials' own."""
    for name in FILES:
        context.run.log_artifact(context.directory / name)
    context.run.log_table(trials, "tables/trials.json")
    kept = [record for record in records if record.checkpoint]
    with context.console.bar("checkpoints to MLflow", len(kept)) as advance:
        for record in kept:
            runs.keep_checkpoint(record, context.work / "checkpoints")
            advance(1)


def _headline(outcome: Mapping[str, Any], trials: pd.DataFrame) -> list[tuple[str, str, str]]:
    if trials.empty:
        return []
    winner_name = "the defaults" if outcome["trial"] == 0 else f"trial {outcome['trial']}"
    interval = outcome["gain_interval"]
    hint = "unconfirmed"
    if interval and interval["low"] is not None:
        hint = f"{interval['low']:+.3f} to {interval['high']:+.3f} over the images"
    score, gain = outcome["last_score"], outcome["gain"]
    return [
        ("Winner", winner_name, outcome["objective"]),
        ("Its score", "–" if score is None else f"{score:.3f}", "validation split"),
        ("Over the defaults", "–" if gain is None else f"{gain:+.3f}", hint),
        ("Time in trials", duration(float(trials["seconds"].sum())), f"{int(trials['epochs'].sum())} epochs"),
    ]


def _figures(
    outcome: Mapping[str, Any], analysis: Mapping[str, Any], trials: pd.DataFrame, scores: pd.DataFrame
) -> list[tuple[str, Figure]]:
    objective, whole = outcome["objective"], trials[trials["fold"].isna()]
    bounds = {name: (low, high) for name, (low, high) in outcome["lr_ranges"].items()}
    names = {"default_trial": 0, "best_trial": outcome["trial"], "metric_name": objective}
    figures = [
        ("Search", search_figure(whole, bounds=bounds, **names)),
        ("Settings", parallel_coordinates(whole, analysis["scales"], **names)),
        ("Importance", importance_figure(analysis["importances"])),
        ("Cost", trial_cost_figure(trials, metric_name=objective)),
    ]
    if analysis["scheduler"] in STOPPING:
        figures.insert(3, ("Rung survival", rung_survival_figure(analysis["survival"])))
    if len(analysis["rungs"]) > 1:
        agreement = rung_agreement_figure(
            scores,
            analysis["rungs"],
            analysis["rungs"][-1],
            unstopped=analysis["unstopped"],
            records=analysis["agreement"],
        )
        figures.insert(4, ("Rung agreement", agreement))
    if "latency_ms" in trials:
        figures.append(("Quality and latency", pareto_figure(whole, analysis["pareto_front"], metric_name=objective)))
    return figures


def _words(outcome: Mapping[str, Any], trials: pd.DataFrame, analysis: Mapping[str, Any]) -> str:
    made = (
        f"{len(trials)} trials, trial 0 with the defaults; sampler {analysis['sampler']}, scheduler "
        f"{analysis['scheduler']}, horizon {analysis['horizon']}."
    )
    return f"{made} {gain_in_words(outcome)}"


def gain_in_words(outcome: Mapping[str, Any]) -> str:
    """The winner, and how far it is ahead of the defaults."""
    if outcome["trial"] is None:
        return "No trial reached a score."
    if outcome["trial"] == 0:
        return "The defaults had the best score."
    if outcome["gain"] is None:
        return f"Trial {outcome['trial']} was the best; the defaults reached no score to compare it with."
    words = (
        f"Trial {outcome['trial']} was the best. After epoch {outcome['compared_at_epoch']}, the last that both "
        f"reached, {outcome['objective']} was {outcome['score']:.3f}, and {outcome['score_of_defaults']:.3f} with the "
        f"defaults: {outcome['gain']:+.3f}"
    )
    interval = outcome["gain_interval"]
    if interval and interval["low"] is not None:
        words += (
            f", {interval['low']:+.3f} to {interval['high']:+.3f} over the choice of validation images "
            f"({interval['confidence']:.0%}), which leaves out how seeds differ"
        )
    means = outcome["fold_means"]
    if means:
        words += f". Over {means['folds']} folds its mean was {means['winner']:.3f}"
        words += "" if means["defaults"] is None else f", and {means['defaults']:.3f} with the defaults"
    return words + "."


def _shown_trials(trials: pd.DataFrame) -> pd.DataFrame:
    """The table without columns that say the same of every trial."""
    dull = [name for name in ("fold", "seed", "gpu_seconds", "backbone") if trials[name].nunique(dropna=False) == 1]
    return trials.drop(columns=dull).rename(columns=lambda name: str(name).removeprefix("recipe.").replace("_", " "))


def _front_table(trials: pd.DataFrame, analysis: Mapping[str, Any]) -> list[tuple[str, pd.DataFrame]]:
    if not analysis["pareto_front"]:
        return []
    front = trials[trials["trial"].isin(analysis["pareto_front"])].sort_values("latency_ms", ignore_index=True)
    columns = ["trial", "score", "latency_ms", "backbone", "optimizer", "lr"]
    return [("No trial is better and faster than one of these", front[columns])]


def _say(
    context: StageContext, outcome: Mapping[str, Any], analysis: Mapping[str, Any], records: Sequence[TrialRecord]
) -> None:
    say = context.console.say
    if outcome["trial"]:
        settings = short_settings(records[outcome["trial"]])
        say(f"  best: trial {outcome['trial']} ({settings}), {outcome['objective']} {outcome['last_score']:.4f}")
    say(f"  {gain_in_words(outcome)}")
    failed = [record for record in records if record.status == "failed"]
    if failed:
        context.console.warn(f"{len(failed)} of {len(records)} trials failed, the last with: {failed[-1].message}")
    if analysis["agreement_warning"]:
        context.console.warn(analysis["agreement_warning"])
    say(f"  report: {context.directory / 'search.html'}")
