"""What a test set says about a model, as plain JSON: counts, rates with bounds, ranking, and per class.

Positive = defective. Every error has its full name: a defective that is accepted is an *escape*, a good
one that is rejected is *overkill* (terms after VDI/VDE/VDMA 2632). A number that the images cannot give
(no image, one class only) is None, never nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

from components.evaluation import scalars
from components.evaluation.intervals import (
    bootstrap_values,
    exact_rate,
    grouped_rate,
    percentile_interval,
    upper_bound,
)


def inspection_metrics(
    log_odds: np.ndarray,
    is_defect: np.ndarray,
    threshold: float,
    *,
    confidence: float,
    groups: np.ndarray | None,
    bootstrap_samples: int,
    seed: int,
) -> dict[str, Any]:
    """Accept or reject at `threshold`: counts, rates and summary numbers.

    log_odds: (N,) calibrated, rejected when at or above the threshold; is_defect: (N,) bool; groups: (N,)
    part ids, or None when every image is a part of its own. Rates count images; where images share a
    part their limits rest on fewer effective observations, and `by_group` gives one decision per part
    (defective if any image is, rejected if any image is).
    `escape_rate_upper_bound` is one-sided, to be held against an escape budget; 1.0 when there is no
    defective image. Balanced accuracy has bootstrap limits, or exact ones where the bootstrap cannot vary
    (`_uniform_limits`).
    """
    is_defect = np.asarray(is_defect, dtype=bool)
    rejected = np.asarray(log_odds, dtype=np.float64) >= threshold
    keys = _group_keys(groups, is_defect.size)

    def summary(index: np.ndarray) -> np.ndarray:
        table = _decision_table(is_defect[index], rejected[index])
        return np.array([scalars.balanced_accuracy(table), scalars.matthews(table), scalars.f1(table, positive=1)])

    summaries = _with_limits(summary, keys, confidence=confidence, samples=bootstrap_samples, seed=seed)
    summaries[0] = _uniform_limits(summaries[0], is_defect == rejected, is_defect, groups, confidence=confidence)
    shared = groups is not None and np.unique(keys).size < keys.size
    return {
        "threshold": float(special.expit(threshold)),
        "threshold_log_odds": float(threshold),
        **_decisions(is_defect, rejected, groups, confidence=confidence, unit="image"),
        **dict(zip(("balanced_accuracy", "mcc", "f1"), summaries, strict=True)),
        "by_group": _roll_up(is_defect, rejected, keys, confidence=confidence) if shared else None,
    }


def ranking_metrics(
    log_odds: np.ndarray,
    is_defect: np.ndarray,
    *,
    confidence: float,
    groups: np.ndarray | None,
    bootstrap_samples: int,
    seed: int,
) -> dict[str, Any]:
    """Quality of the scores apart from any threshold: auroc, average_precision, ece.

    log_odds: (N,) calibrated; is_defect: (N,) bool; groups: (N,) part ids or None.
    Each is {value, low, high, …}. An auroc of exactly 1 takes its lower limit from disjoint pairs: the
    bootstrap would give a band of no width. ece has no limits: resampling adds noise to its bins, and noise
    reads as miscalibration, so that a bootstrap band lies above the value itself.
    """
    log_odds, is_defect = np.asarray(log_odds, dtype=np.float64), np.asarray(is_defect, dtype=bool)

    def summary(index: np.ndarray) -> np.ndarray:
        taken = log_odds[index], is_defect[index]
        return np.array([scalars.auroc(*taken), scalars.average_precision(*taken)])

    keys = _group_keys(groups, is_defect.size)
    limits = _with_limits(summary, keys, confidence=confidence, samples=bootstrap_samples, seed=seed)
    if limits[0]["value"] in (0.0, 1.0):
        low, high = _separated_limits(limits[0]["value"], is_defect, keys, confidence=confidence)
        limits[0] = {**limits[0], "low": low, "high": high}
    ece = _number(scalars.expected_calibration_error(special.expit(log_odds), is_defect))
    return {
        "auroc": limits[0],
        "average_precision": limits[1],
        "ece": {"value": ece, "low": None, "high": None},
    }


def class_metrics(
    probabilities: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    confidence: float,
    groups: np.ndarray | None,
    bootstrap_samples: int,
    seed: int,
) -> dict[str, Any]:
    """The class of highest probability: overall numbers, recall and precision per class, the confusion.

    probabilities: (N, K); labels: (N,) int positions in `classes` (K names). confusion_matrix: rows actual,
    columns predicted, in the order of `classes`. Classes without a test image are listed in
    `absent_classes` and left out of balanced accuracy, whose limits are those of `inspection_metrics`.
    """
    labels = np.asarray(labels, dtype=np.int64)
    count = len(classes)
    predicted = np.asarray(probabilities).reshape(-1, count).argmax(axis=1)
    keys = _group_keys(groups, labels.size)

    def summary(index: np.ndarray) -> np.ndarray:
        table = scalars.confusion(labels[index], predicted[index], count)
        return np.array([scalars.balanced_accuracy(table), scalars.matthews(table)])

    def share(hits: np.ndarray, where: np.ndarray) -> dict[str, Any]:
        kept = None if groups is None else keys[where]
        return grouped_rate(hits[where], kept, confidence=confidence, unit="image").to_dict()

    table = scalars.confusion(labels, predicted, count)
    correct = labels == predicted
    limits = _with_limits(summary, keys, confidence=confidence, samples=bootstrap_samples, seed=seed)
    limits[0] = _uniform_limits(limits[0], correct, labels, groups, confidence=confidence)
    return {
        "images": int(labels.size),
        "accuracy": share(correct, np.ones_like(correct)),
        "balanced_accuracy": limits[0],
        "mcc": limits[1],
        "per_class": {
            name: {
                "images": int(table[position].sum()),
                "recall": share(correct, labels == position),
                "precision": share(correct, predicted == position),
                "f1": _number(scalars.f1(table, positive=position)),
            }
            for position, name in enumerate(classes)
        },
        "classes": list(classes),
        "absent_classes": [name for position, name in enumerate(classes) if not table[position].any()],
        "confusion_matrix": table.tolist(),
    }


def _decisions(
    is_defect: np.ndarray, rejected: np.ndarray, groups: np.ndarray | None, *, confidence: float, unit: str
) -> dict[str, Any]:
    """Counts and rates of accept and reject, with their full names."""

    def share(hits: np.ndarray, where: np.ndarray) -> dict[str, Any]:
        kept = None if groups is None else np.asarray(groups)[where]
        return grouped_rate(hits[where], kept, confidence=confidence, unit=unit).to_dict()

    good = ~is_defect
    escapes = share(~rejected, is_defect)
    effective = escapes["effective"]
    escaped = effective * (escapes["value"] or 0.0)
    return {
        "unit": unit,
        "total": int(is_defect.size),
        "defective_rejected": int((is_defect & rejected).sum()),
        "defective_accepted": int((is_defect & ~rejected).sum()),
        "good_rejected": int((good & rejected).sum()),
        "good_accepted": int((good & ~rejected).sum()),
        "accuracy": share(is_defect == rejected, np.ones_like(good)),
        "sensitivity": share(rejected, is_defect),
        "specificity": share(~rejected, good),
        "escape_rate": escapes,
        "escape_rate_upper_bound": upper_bound(escaped, effective, confidence=confidence),
        "overkill_rate": share(rejected, good),
        "reject_precision": share(is_defect, rejected),
    }


def _roll_up(is_defect: np.ndarray, rejected: np.ndarray, keys: np.ndarray, *, confidence: float) -> dict[str, Any]:
    """The same for parts: one decision from all images of a group."""
    _, codes = np.unique(keys, return_inverse=True)
    defective = np.bincount(codes, weights=is_defect) > 0
    out = np.bincount(codes, weights=rejected) > 0
    return _decisions(defective, out, None, confidence=confidence, unit="group")


def _with_limits(
    summary: Callable[[np.ndarray], np.ndarray],
    keys: np.ndarray,
    *,
    confidence: float,
    samples: int,
    seed: int,
) -> list[dict[str, Any]]:
    """The statistic on all images, each entry with its bootstrap limits by group."""
    values = summary(np.arange(keys.size))
    resampled = bootstrap_values(summary, keys, samples=samples, seed=seed).reshape(-1, values.size)
    records = []
    for position, value in enumerate(values):
        interval = percentile_interval(resampled[:, position], confidence=confidence)
        known = not math.isnan(value)
        records.append(
            {
                "value": _number(value),
                "low": interval.low if known else None,
                "high": interval.high if known else None,
                "confidence": confidence,
                "resamples": interval.samples,
                "resamples_dropped": interval.dropped,
            }
        )
    return records


def _uniform_limits(
    record: dict[str, Any],
    correct: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray | None,
    *,
    confidence: float,
) -> dict[str, Any]:
    """The record of a balanced accuracy, with exact limits where each class is wholly right or wholly wrong.

    Every resample then has the same value, and the bootstrap no width. The limits are the means of the classes'
    Clopper–Pearson limits. They are conservative: recalls under which all hits are as likely as the tail lose in
    each class at most what that class's own limit grants.
    """
    if record["value"] is None:
        return record
    rates = [
        grouped_rate(correct[where], None if groups is None else np.asarray(groups)[where],
                     confidence=confidence, unit="image")
        for where in (labels == position for position in np.unique(labels))
    ]  # fmt: skip
    if any(rate.value not in (0.0, 1.0) for rate in rates):
        return record
    low, high = (float(np.mean([getattr(rate, side) for rate in rates])) for side in ("low", "high"))
    return {**record, "low": low, "high": high}


def _separated_limits(
    value: float, is_defect: np.ndarray, keys: np.ndarray, *, confidence: float
) -> tuple[float, float]:
    """Clopper–Pearson limits of an auroc of 1 (or 0) from as many disjoint defective–good pairs as there are.

    Each such pair is an independent draw that is ordered rightly with probability auroc; all of them were.
    """
    sides = np.unique(keys[is_defect]).size, np.unique(keys[~is_defect]).size
    pairs = max(min(*sides, np.unique(keys).size // 2), 1)
    limits = exact_rate(round(value * pairs), pairs, confidence=confidence, unit="pair")
    return float(limits.low or 0.0), float(limits.high or 0.0)


def _decision_table(is_defect: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    return scalars.confusion(is_defect.astype(np.int64), rejected.astype(np.int64), 2)


def _group_keys(groups: np.ndarray | None, size: int) -> np.ndarray:
    return np.arange(size) if groups is None else np.asarray(groups)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
