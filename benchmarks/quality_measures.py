"""What the scores of the test's images are worth, the same for the pipeline and for the loop."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from components.evaluation import scalars

ESCAPES = 0.05
"""Share of the test's defectives that escape at the threshold at which overkill is compared."""


def ranking(log_odds: np.ndarray, is_defect: np.ndarray) -> dict[str, Any]:
    """Measures that need no threshold of the model's own.

    overkill: the share of good ones at or above the threshold that lets ESCAPES of the defectives pass.
    """
    return {
        "auroc": scalars.auroc(log_odds, is_defect),
        "average_precision": scalars.average_precision(log_odds, is_defect),
        "overkill": overkill_at(log_odds, is_defect, escapes=ESCAPES),
    }


def overkill_at(log_odds: np.ndarray, is_defect: np.ndarray, *, escapes: float) -> float:
    """Share of the good ones that are rejected where at most a share of the defectives passes."""
    defective = np.sort(log_odds[is_defect])
    threshold = defective[math.floor(escapes * len(defective))]
    return float((log_odds[~is_defect] >= threshold).mean())


def best_balanced_accuracy(log_odds: np.ndarray, is_defect: np.ndarray) -> float:
    """At the threshold that suits these very images best: an upper limit, for a model without a threshold."""
    order = np.argsort(-log_odds, kind="stable")
    found = np.cumsum(is_defect[order]) / is_defect.sum()
    rejected = np.cumsum(~is_defect[order]) / (~is_defect).sum()
    last = np.append(np.diff(log_odds[order]) != 0, True)  # equal scores fall on one side
    return float(max(0.5, ((found + 1 - rejected) / 2)[last].max()))


def class_balanced_accuracy(actual: np.ndarray, predicted: np.ndarray, count: int) -> float:
    """Mean recall. actual, predicted: (N,) int positions of `count` classes."""
    return scalars.balanced_accuracy(scalars.tally(actual, predicted, count))


def median(values: list[Any]) -> float | None:
    """Of the numbers among some values; None where there is none."""
    known = [value for value in values if value is not None]
    return float(np.median(known)) if known else None
