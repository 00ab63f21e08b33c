"""What came of a search: its tables, the winner, the gain over the defaults, and the winner as a configuration."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.errors import InputError
from components.evaluation.objective_intervals import ObjectiveInterval, paired_objective_difference
from components.search.checkpoints import fetch
from components.search.samplers.folds import fold_means
from components.search.samplers.points import point_key
from components.search.trial import TrialRecord
from pipeline.search.recipes import settings_of
from pipeline.sections.recipe import Recipe
from pipeline.training.build import TrainingData, recipe_objective
from pipeline.training.checkpoints import LOGITS_FILE
from pipeline.yaml_text import write_yaml

#: Of the interval of the gain, and the resamples behind it.
GAIN_CONFIDENCE, GAIN_SAMPLES = 0.95, 1000
BEST_HEAD = """# The recipe that the search found, and the images that it was found on:
#   escapement run --config best.yaml
# It is as the search left it, before the confirmation: with the data's place and the schedule of that time.
"""
#: Gates are no part of a search. Of all their keys this one alone has no default that such a problem can do with.
GOODLESS_HEAD = (
    "# Without a good class a model is promoted by promote.gates.min_balanced_accuracy alone: add a bound.\n"
)


def trial_table(default: Recipe, records: Sequence[TrialRecord], keys: Sequence[str], *, gpus: float) -> pd.DataFrame:
    """One row per trial: how it ended, and its settings. keys: those that are searched.

    A key that the trial left to the defaults because its condition did not hold is missing.
    """
    defaults = settings_of(default)
    rows = [_row(record, defaults, keys, gpus) for record in records]
    return pd.DataFrame(rows).astype({"fold": "Int64"}) if rows else pd.DataFrame()


def score_table(records: Sequence[TrialRecord]) -> pd.DataFrame:
    """One row per trial and epoch: trial, epoch, score, seconds (of the trial up to there)."""
    rows = [
        {"trial": record.number, "epoch": epoch, "score": score, "seconds": record.seconds_at[epoch]}
        for record in records
        for epoch, score in sorted(record.scores.items())
    ]
    return pd.DataFrame(rows, columns=["trial", "epoch", "score", "seconds"])


def gain_over_defaults(best: TrialRecord | None, records: Sequence[TrialRecord]) -> dict[str, Any]:
    """Best trial and defaults after the last epoch that both reached; later scores are higher for that alone."""
    defaults = next((record for record in records if record.number == 0 and record.score is not None), None)
    shared = sorted(best.scores.keys() & defaults.scores.keys()) if best is not None and defaults is not None else []
    if best is None or defaults is None or not shared:
        score = best.score if best else None
        return {"score": score, "score_of_defaults": None, "compared_at_epoch": None, "gain": None}
    score, base = best.scores[shared[-1]], defaults.scores[shared[-1]]
    return {"score": score, "score_of_defaults": base, "compared_at_epoch": shared[-1], "gain": score - base}


def gain_interval(
    best: TrialRecord, defaults: TrialRecord, recipe: Recipe, data: TrainingData, *, seed: int
) -> ObjectiveInterval | None:
    """The interval of that gain over the choice of validation images; None where the two were not scored alike.

    It says nothing of how seeds differ, and the winner was picked on these very images, which flatters it.
    """
    ends = (best.checkpoint_epoch, defaults.checkpoint_epoch)
    if best.number == defaults.number or ends[0] != ends[1] or best.suggestion.fold is not None:
        return None
    logits = [_logits(record) for record in (best, defaults)]
    if logits[0] is None or logits[1] is None:
        return None
    val = data.manifest[data.manifest["split"] == "val"]
    return paired_objective_difference(
        recipe_objective(recipe),
        logits[0],
        logits[1],
        data.split("val").labels,
        data.classes,
        data.good_classes,
        val["group"].to_numpy(),
        confidence=GAIN_CONFIDENCE,
        samples=GAIN_SAMPLES,
        seed=seed,
    )


def mean_over_folds(best: TrialRecord | None, records: Sequence[TrialRecord]) -> dict[str, Any] | None:
    """Mean score over the folds of the winner and of the defaults; None without a cross-validation."""
    means = fold_means(records)
    if best is None or point_key(best.suggestion.point) not in means:
        return None
    return {
        "folds": len({record.suggestion.fold for record in records} - {None}),
        "winner": means[point_key(best.suggestion.point)],
        "defaults": means.get(point_key(records[0].suggestion.point)),
    }


def raise_if_in_vain(records: Sequence[TrialRecord], *, failure: str, budget: str) -> None:
    """Raise where too many trials failed or none has a score: RuntimeError for failures, else InputError.

    failure: what most failures have in common; budget: which one is spent; both as the course says it, or empty.
    """
    if failure:
        raise RuntimeError(
            f"search: {failure}; remove the cause and give the same command, which goes on with the trials that are "
            "left, or raise search.failure_limit"
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


def best_configuration(data: Mapping[str, Any], recipe: Recipe, *, seed: int) -> str:
    """YAML that `escapement run --config` takes: the same data, and the recipe as it was found, without a search."""
    values = {
        "seed": seed,
        "data": dict(data),
        "model": recipe.model.model_dump(mode="json"),
        "recipe": recipe.recipe.model_dump(mode="json"),
        "search": {"num_trials": 0},
    }
    head = BEST_HEAD + ("" if data["good_labels"] else GOODLESS_HEAD)
    return head + write_yaml(values)


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
        "backbone": settings["model.backbone"],
        "optimizer": settings["recipe.optimizer"],
        "lr": settings["recipe.lr"],
    }
    own = ("model.backbone", "recipe.optimizer", "recipe.lr")
    # Without overrides it is the defaults', on a fold perhaps; a trial of the space leaves out what it has no use for.
    unset = {} if suggestion.overrides else defaults
    row |= {key: _plain(suggestion.overrides.get(key, unset.get(key))) for key in keys if key not in own}
    latency = next((told["latency_ms"] for told in record.metrics.values() if "latency_ms" in told), None)
    return row | ({"latency_ms": latency} if latency is not None else {})


def _plain(value: Any) -> Any:  # noqa: ANN401 - of any key
    """A list as one text: a column of a table holds values that can be told apart."""
    return ", ".join(str(entry) for entry in value) or "none" if isinstance(value, list | tuple) else value


def _logits(record: TrialRecord) -> np.ndarray | None:
    if record.checkpoint is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        found = fetch(record.checkpoint, (LOGITS_FILE,), Path(folder))
        return np.load(found[0], allow_pickle=False) if found else None
