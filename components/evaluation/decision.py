"""From logits to accept, reject or review, in calibration, evaluation and the served model.

Copied verbatim into every exported model (`components/serving/bundle.py`), so it imports nothing but numpy.

Images are ranked, and compared with the threshold, by log-odds, not by probabilities: 1 − 1e-17 is 1.0 in float64, so
that images of high certainty would become ties.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

ACCEPT, REVIEW, REJECT = "accept", "review", "reject"


@dataclass(frozen=True)
class Decisions:
    """The answers of a model for N images or tiles.

    probabilities: (N, K) float64; log_odds: (N,) float64, calibrated, of the defect classes; verdicts: (N,) object,
    accept, reject or review. A row whose logits are not finite has the verdict review, and its numbers are NaN. Without
    a good class all log-odds are NaN, and the verdict of a finite row is None.
    """

    probabilities: np.ndarray
    log_odds: np.ndarray
    verdicts: np.ndarray


@dataclass(frozen=True)
class DecisionRule:
    """The rule from logits to decisions.

    is_good: (K,) bool. scale, bias: the calibrated log-odds are scale · log-odds + bias. threshold: in calibrated
    log-odds; None without a good class.
    """

    is_good: np.ndarray
    scale: float
    bias: float
    threshold: float | None

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> DecisionRule:
        """The rule of a model card (`model.json`)."""
        point = card["operating_point"]
        return cls(
            is_good=good_mask(card["classes"], card["good_classes"]),
            scale=card["calibration"]["scale"],
            bias=card["calibration"]["bias"],
            threshold=None if point is None else point["threshold_log_odds"],
        )

    def decide(self, logits: np.ndarray) -> Decisions:
        """logits: (N, K)."""
        logits = np.asarray(logits, dtype=np.float64)
        finite = np.isfinite(logits).all(axis=1)
        safe = np.where(finite[:, None], logits, 0.0)
        log_odds = np.full(len(logits), np.nan)
        verdicts = np.full(len(logits), None, dtype=object)
        if self.is_good.any():
            log_odds = self.scale * defect_log_odds(safe, self.is_good) + self.bias
            probabilities = _class_probabilities(safe, self.is_good, log_odds)
        else:
            probabilities = softmax(safe)
        if self.threshold is not None:
            verdicts = np.where(is_rejected(log_odds, self.threshold), REJECT, ACCEPT).astype(object)
        # A comparison with NaN is false: without this the image would be accepted.
        verdicts[~finite], log_odds[~finite], probabilities[~finite] = REVIEW, np.nan, np.nan
        return Decisions(probabilities, log_odds, verdicts)


def good_mask(classes: Any, good_classes: Any) -> np.ndarray:  # noqa: ANN401 - sequences of names
    """(K,) bool: which of the K classes are good."""
    return np.array([name in good_classes for name in classes], dtype=bool)


def defect_log_odds(logits: np.ndarray, is_good: np.ndarray) -> np.ndarray:
    """(N,) float64: log-odds of the defect classes against the good ones, before calibration.

    logits: (N, K). Finite where the logits are; infinite if there is no defect class or no good class.
    """
    logits = np.asarray(logits, dtype=np.float64)
    # The logarithm of an empty sum is −inf.
    defect, good = (np.logaddexp.reduce(logits[:, side], axis=1, initial=-np.inf) for side in (~is_good, is_good))
    return np.asarray(defect - good)


def is_rejected(log_odds: np.ndarray, threshold: float) -> np.ndarray:
    """(N,) bool: whether the calibrated log-odds reach the threshold."""
    return np.asarray(log_odds, dtype=np.float64) >= threshold


def worst_rows(keys: np.ndarray, log_odds: np.ndarray, verdicts: np.ndarray) -> np.ndarray:
    """(M,) int: for each distinct key, in ascending order, the position of the row that decides.

    keys: (N,) the image of each tile, or the part of each image. A part is rejected if any of its images is; otherwise
    it is reviewed if any is. Among rows with the same verdict the one with the highest log-odds decides, of equal ones
    the first.
    """
    rank = np.select([verdicts == REJECT, verdicts == REVIEW], [2, 1], default=0)
    odds = np.nan_to_num(np.asarray(log_odds, dtype=np.float64), nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    worst_last = np.lexsort((-np.arange(len(keys)), odds, rank))
    names, codes = np.unique(np.asarray(keys), return_inverse=True)
    found = np.empty(len(names), dtype=np.int64)
    found[codes[worst_last]] = worst_last  # of several values for one place numpy keeps the last
    return found


def softmax(logits: np.ndarray) -> np.ndarray:
    """(N, K) probabilities of finite logits (N, K)."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    """Probabilities of log-odds, without overflow; NaN for NaN."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.exp(-np.logaddexp(0, -np.asarray(log_odds))))


def _class_probabilities(logits: np.ndarray, is_good: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    """(N, K): the defect classes sum to the calibrated score; within both sides the ratios are those of the logits."""
    result = np.empty_like(logits)
    for side, mass in ((~is_good, sigmoid(log_odds)), (is_good, sigmoid(-log_odds))):
        result[:, side] = softmax(logits[:, side]) * mass[:, None]
    return result
