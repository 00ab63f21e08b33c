"""Blends candidates that score the same images: a weight for each, fitted on scores of images that they had not seen.

Stacking with non-negative weights (Wolpert 1992; Breiman 1996, "Stacked regressions"): the weights minimise the log
loss of the softmax of the weighted sum of log-probabilities. What the blend gains is measured on weights that were
fitted without the fold that they are applied to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special

LARGEST_WEIGHT = 10.0
"""Candidates that separate the classes perfectly would have infinite weights."""
LARGEST_BIAS = 20.0
"""A class without an image among those fitted on would have an infinite one."""
MOST_BIASED_CLASSES = 50
"""With more classes, each has few images to fit a bias on: there is none then."""


@dataclass(frozen=True)
class Blend:
    """Weights of M candidates, and what they are worth.

    weights: (M,) float64 ≥ 0, fitted on all folds: those to deliver. blended: (N, K) float64, unnormalised
    log-probabilities, those of each fold with weights fitted on the other folds; NaN where a candidate has no score.
    gain: by how much the blend lowers the mean log loss of the first candidate, each with weights (and class biases)
    fitted without the fold at hand; images of classes that the other folds lack do not count. gain_error: its standard
    error over groups; NaN with fewer than two.
    """

    weights: np.ndarray
    blended: np.ndarray
    gain: float
    gain_error: float


def fit_blend(scores: np.ndarray, labels: np.ndarray, folds: np.ndarray, *, groups: np.ndarray) -> Blend:
    """Fit the weights, and cross-fit the blend.

    scores: (M, N, K) log-probabilities of images that the candidate had not seen; a row with NaN is left out. labels:
    (N,) int in [0, K). folds: (N,) int, at least two of them with scores. groups: (N,) part ids, none in two folds.
    Where no candidate helps, the first one has the weight 1. Raises ValueError with fewer than two folds.

    Beside the weights a bias for each class is fitted, and dropped: class weights in training shift the scores, which
    the calibration mends later; weights alone would have to shrink for it. With many classes there are no biases.
    """
    scores = np.asarray(scores, dtype=np.float64)
    kept = np.isfinite(scores).all(axis=(0, 2))
    numbers = np.unique(folds[kept])
    if numbers.size < 2:
        raise ValueError(f"a blend is cross-fitted over two folds or more, not over {numbers.size}")
    blended = np.full(scores.shape[1:], np.nan)
    gains = np.full(len(labels), np.nan)
    for number in numbers:
        rows, others = kept & (folds == number), kept & (folds != number)
        weights, bias = _fit(scores[:, others], labels[others])
        alone, alone_bias = _fit(scores[:1, others], labels[others])
        blended[rows] = np.tensordot(weights, scores[:, rows], axes=1)
        known = rows & np.isin(labels, labels[others])
        gains[known] = _losses(alone[0] * scores[0, known] + alone_bias, labels[known])
        gains[known] -= _losses(blended[known] + bias, labels[known])
    weights, _ = _fit(scores[:, kept], labels[kept])
    compared = np.isfinite(gains)
    gain = float(gains[compared].mean()) if compared.any() else 0.0
    return Blend(weights, blended, gain, _standard_error(gains[compared], groups[compared]))


def _fit(scores: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(M,) weights and (K,) class biases of the least mean log loss, which is convex in both."""
    candidates, count, classes = scores.shape
    rows = np.arange(count)

    def loss(values: np.ndarray) -> tuple[float, np.ndarray]:
        logits = np.tensordot(values[:candidates], scores, axes=1) + values[candidates:]
        errors = special.softmax(logits, axis=1)
        errors[rows, labels] -= 1
        slopes = np.append(np.tensordot(scores, errors, axes=2), errors.sum(axis=0))
        return float(_losses(logits, labels).mean()), slopes / count

    start = np.append(np.full(candidates, 1 / candidates), np.zeros(classes))
    largest = LARGEST_BIAS if classes <= MOST_BIASED_CLASSES else 0.0
    bounds = [(0.0, LARGEST_WEIGHT)] * candidates + [(-largest, largest)] * classes
    options = {"ftol": 1e-9, "maxiter": 100}
    found = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options).x
    weights, bias = found[:candidates], found[candidates:]
    if not weights.any():
        weights[0] = 1.0
    return weights, bias


def _losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(N,) log loss of each row."""
    return np.asarray(-special.log_softmax(logits, axis=1)[np.arange(len(labels)), labels])


def _standard_error(values: np.ndarray, groups: np.ndarray) -> float:
    """That of the mean of values whose groups are independent (the sandwich, with G / (G − 1))."""
    _, codes = np.unique(groups, return_inverse=True)
    if codes.size == 0 or codes.max() == 0:
        return math.nan
    residuals = np.bincount(codes, weights=values - values.mean())
    return float(math.sqrt(residuals.size / (residuals.size - 1) * np.sum(residuals**2)) / values.size)
