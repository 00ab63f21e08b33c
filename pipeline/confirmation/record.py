"""confirmation.json: the decision, what it is based on, and what goes on to the training of the model."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.confirmation.comparison import scores_by_recipe
from pipeline.confirmation.foresight import Foresight
from pipeline.confirmation.rung import order_at_rung
from pipeline.confirmation.trainings import LABELS, Result
from pipeline.confirmation.verdict import Overrides, Verdict


@dataclass(frozen=True, kw_only=True)
class Conclusion:
    """What a confirmation has in common, however it ends.

    selection_folds: those on which the search has chosen; they do not certify. cross_validated: recipes that the search
    has compared on the others, 1 for none.
    """

    objective: str
    confidence: float
    selection_folds: Sequence[int]
    cross_validated: int


def write_confirmation(
    path: Path,
    conclusion: Conclusion,
    verdict: Verdict,
    overrides: Overrides,
    *,
    foresight: Foresight | None,
    at_rung: Mapping[str, Any] | None,
    results: Sequence[Result],
    kept: Mapping[str, str],
) -> dict[str, Any]:
    """Write it; its values.

    foresight: None where nothing was to be compared. at_rung: of best.json. results: none if the confirmation was left
    out. kept: member → run of its training. `choices` are the recipes that were compared on folds that certify.
    """
    compared_on_folds = any(result.replicate.fold is not None for result in results)
    replicates = list(dict.fromkeys(result.replicate.name for result in results))
    scores = {
        label: [score if score is not None and math.isfinite(score) else None for score in row]
        for label, row in scores_by_recipe(results).items()
    }
    values = {
        **asdict(verdict),
        "overrides": overrides,
        **asdict(conclusion),
        "detectable_difference": None if foresight is None else foresight.detectable,
        "possible_gain": None if foresight is None else foresight.possible_gain,
        "foresight": None if foresight is None else foresight.statement,
        "replicates": replicates,
        "scores": scores,
        "at_rung": order_at_rung(at_rung, scores, replicates),
        "trainings": [result.record() for result in results],
        "kept": dict(kept),
        # The defaults and the winner are among those that the search has cross-validated.
        "choices": max(conclusion.cross_validated, len(LABELS) if compared_on_folds else 1),
    }
    path.write_text(json.dumps(values, indent=2, allow_nan=False), encoding="utf-8")
    return values
