"""What a test set says about a model, as plain JSON: counts, rates with limits, ranking, and per class.

Positive = defective. Every error has its full name: a defective that is accepted is an *escape*, a good
one that is rejected is *overkill* (terms after VDI/VDE/VDMA 2632). A number that the images cannot give
(no image, one class only) is None, never nan.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from components.evaluation import scalars
from components.evaluation.decision import ACCEPT, REJECT, is_rejected, sigmoid, worst_rows
from components.evaluation.intervals import bootstrap_values, exact_rate, grouped_rate, percentile_interval

MAX_MATRIX_CLASSES = 40
"""Classes of a confusion matrix: it grows with their square, and no one reads a larger one."""
MAX_PAIRS = 100


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the limits of the metrics of N images are found.

    groups: (N,) ids of the parts that images may share, which then count as fewer observations. samples: bootstrap
    resamples of whole groups. unit: what one of the N is called.
    """

    groups: np.ndarray
    confidence: float
    samples: int
    seed: int
    unit: str = "image"

    def rate(self, hits: np.ndarray, where: np.ndarray | slice = slice(None)) -> dict[str, Any]:
        """The share of hits, (N,) bool, among some images, with Clopper–Pearson limits."""
        found = grouped_rate(hits[where], self.groups[where], confidence=self.confidence, unit=self.unit)
        return found.to_dict()

    def estimates(self, summary: Callable[[np.ndarray], Sequence[float]]) -> list[dict[str, Any]]:
        """Statistics of the images at some positions, each on all images and with bootstrap limits."""
        values = np.asarray(summary(np.arange(self.groups.size)))
        resampled = bootstrap_values(
            lambda index: np.asarray(summary(index)), self.groups, samples=self.samples, seed=self.seed
        ).reshape(-1, values.size)
        records = []
        for value, column in zip(values, resampled.T, strict=True):
            limits = percentile_interval(column, confidence=self.confidence)
            known = not math.isnan(value)
            low, high = (limits.low, limits.high) if known else (None, None)
            number = float(value) if known else None
            records.append({"value": number, "low": low, "high": high, "confidence": self.confidence})
        return records


def inspection_metrics(
    log_odds: np.ndarray, is_defect: np.ndarray, threshold: float, sampling: Sampling
) -> dict[str, Any]:
    """Accept or reject at `threshold`: counts, rates and summary numbers.

    log_odds: (N,) calibrated, rejected when at or above the threshold; is_defect: (N,) bool. Rates count images;
    where images share a part their limits use fewer effective observations, and `by_group` gives one decision per
    part (defective if any image is, rejected if any image is). Balanced accuracy has bootstrap limits, or exact ones
    where the bootstrap cannot vary (`_uniform_limits`).
    """
    is_defect, rejected = np.asarray(is_defect, dtype=bool), is_rejected(log_odds, threshold)
    by_group = None
    names, part = np.unique(sampling.groups, return_inverse=True)
    if names.size < is_defect.size:
        worst = worst_rows(sampling.groups, log_odds, np.where(rejected, REJECT, ACCEPT))
        parts = replace(sampling, groups=names, unit="group")
        by_group = _decisions(np.bincount(part, weights=is_defect) > 0, rejected[worst], parts)
    return {
        "threshold": float(sigmoid(np.asarray(threshold))),
        "threshold_log_odds": float(threshold),
        **_decisions(is_defect, rejected, sampling),
        **_agreement(is_defect.astype(np.int64), rejected.astype(np.int64), 2, sampling),
        "by_group": by_group,
    }


def ranking_metrics(log_odds: np.ndarray, is_defect: np.ndarray, sampling: Sampling) -> dict[str, Any]:
    """Quality of the scores apart from any threshold: auroc and average_precision.

    log_odds: (N,); is_defect: (N,) bool. An auroc of exactly 0 or 1 takes its limits from disjoint pairs: the bootstrap
    would give a band of no width.
    """
    log_odds, is_defect = np.asarray(log_odds, dtype=np.float64), np.asarray(is_defect, dtype=bool)

    def summary(index: np.ndarray) -> list[float]:
        taken = log_odds[index], is_defect[index]
        return [scalars.auroc(*taken), scalars.average_precision(*taken)]

    auroc, precision = sampling.estimates(summary)
    if auroc["value"] in (0.0, 1.0):
        low, high = _separated_limits(auroc["value"], is_defect, sampling)
        auroc |= {"low": low, "high": high}
    return {"auroc": auroc, "average_precision": precision}


def class_metrics(
    probabilities: np.ndarray, labels: np.ndarray, classes: Sequence[str], sampling: Sampling
) -> dict[str, Any]:
    """The class of highest probability: overall numbers, recall and precision per class, confusion.

    probabilities: (N, K); labels: (N,) int positions in `classes` (K names). confusion_matrix: rows actual, columns
    predicted, in the order of `classes`; None with more than MAX_MATRIX_CLASSES. confused_pairs: the most frequent
    errors, at most MAX_PAIRS. Balanced accuracy is over the classes with a test image, with the limits of
    `inspection_metrics`.
    """
    labels, count = np.asarray(labels, dtype=np.int64), len(classes)
    predicted = np.asarray(probabilities).reshape(-1, count).argmax(axis=1)
    correct = labels == predicted
    per_class = zip(classes, _rows_by_class(labels, count), _rows_by_class(predicted, count), strict=True)
    shown = count <= MAX_MATRIX_CLASSES
    matrix = np.bincount(labels * count + predicted, minlength=count**2).reshape(count, count) if shown else None
    return {
        "accuracy": sampling.rate(correct),
        **_agreement(labels, predicted, count, sampling),
        "per_class": {
            name: {
                "images": len(own),
                "recall": sampling.rate(correct, own),
                "precision": sampling.rate(correct, as_this_class),
            }
            for name, own, as_this_class in per_class
        },
        "confusion_matrix": None if matrix is None else matrix.tolist(),
        "confused_pairs": _confused_pairs(labels, predicted, classes),
    }


def _agreement(actual: np.ndarray, predicted: np.ndarray, count: int, sampling: Sampling) -> dict[str, Any]:
    """Balanced accuracy and Matthews correlation of (N,) int class positions."""

    def summary(index: np.ndarray) -> list[float]:
        counts = scalars.tally(actual[index], predicted[index], count)
        return [scalars.balanced_accuracy(counts), scalars.matthews(counts)]

    balanced, mcc = sampling.estimates(summary)
    return {"balanced_accuracy": _uniform_limits(balanced, actual == predicted, actual, sampling), "mcc": mcc}


def _decisions(is_defect: np.ndarray, rejected: np.ndarray, sampling: Sampling) -> dict[str, Any]:
    """Counts and rates of accept and reject, with their full names."""
    good = ~is_defect
    return {
        "unit": sampling.unit,
        "total": int(is_defect.size),
        "defective_rejected": int((is_defect & rejected).sum()),
        "defective_accepted": int((is_defect & ~rejected).sum()),
        "good_rejected": int((good & rejected).sum()),
        "good_accepted": int((good & ~rejected).sum()),
        "accuracy": sampling.rate(is_defect == rejected),
        "sensitivity": sampling.rate(rejected, is_defect),
        "specificity": sampling.rate(~rejected, good),
        "escape_rate": sampling.rate(~rejected, is_defect),
        "overkill_rate": sampling.rate(rejected, good),
        "reject_precision": sampling.rate(is_defect, rejected),
    }


def _confused_pairs(actual: np.ndarray, predicted: np.ndarray, classes: Sequence[str]) -> list[dict[str, Any]]:
    """The most frequent first; of equally frequent ones that with the larger share of its class."""
    wrong = actual != predicted
    pairs, counts = np.unique(np.stack([actual[wrong], predicted[wrong]], axis=1), axis=0, return_counts=True)
    shares = counts / np.bincount(actual, minlength=len(classes))[pairs[:, 0]]
    order = np.lexsort([-shares, -counts])[:MAX_PAIRS]
    return [
        {"actual": classes[one], "predicted": classes[other], "images": int(number), "share": float(share)}
        for (one, other), number, share in zip(pairs[order], counts[order], shares[order], strict=True)
    ]


def _rows_by_class(positions: np.ndarray, count: int) -> list[np.ndarray]:
    """The rows of each class. positions: (N,) int."""
    ends = np.cumsum(np.bincount(positions, minlength=count))
    return np.split(np.argsort(positions, kind="stable"), ends[:-1])


def _uniform_limits(
    record: dict[str, Any], correct: np.ndarray, labels: np.ndarray, sampling: Sampling
) -> dict[str, Any]:
    """The record of a balanced accuracy, with exact limits where each class is wholly right or wholly wrong.

    Every resample then has the same value, and the bootstrap no width. The limits are the means of the classes'
    Clopper–Pearson limits. They are conservative: recalls under which all hits are as likely as the tail lose in
    each class at most what that class's own limit grants.
    """
    rates = [sampling.rate(correct, labels == label) for label in np.unique(labels)]
    if record["value"] is None or any(rate["value"] not in (0.0, 1.0) for rate in rates):
        return record
    return {**record, **{side: float(np.mean([rate[side] for rate in rates])) for side in ("low", "high")}}


def _separated_limits(value: float, is_defect: np.ndarray, sampling: Sampling) -> tuple[float, float]:
    """Clopper–Pearson limits of an auroc of 1 (or 0) from as many disjoint defective–good pairs as there are.

    Each such pair is an independent draw that is ordered rightly with probability auroc; all of them were.
    """
    keys = sampling.groups
    sides = np.unique(keys[is_defect]).size, np.unique(keys[~is_defect]).size
    pairs = max(min(*sides, np.unique(keys).size // 2), 1)
    limits = exact_rate(round(value * pairs), pairs, confidence=sampling.confidence, unit="pair")
    return float(limits.low or 0.0), float(limits.high or 0.0)
