"""Cross-entropy with class weights and label smoothing, and what a model that sees no image would score."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import nn

from components.errors import InputError


def class_weights(labels: np.ndarray, num_classes: int, scheme: Literal["none", "balanced"]) -> torch.Tensor | None:
    """Return the weight of each class, (K,) float32, or None for `none`.

    `balanced` is N / (K · count), so that every class has the same total weight and the mean weight is 1.

    Args:
        labels: (N,) integers in [0, K).
        num_classes: K.
        scheme: none or balanced.

    Raises:
        InputError: an unknown scheme, or a class without an image, whose weight would be infinite.
    """
    if scheme == "none":
        return None
    if scheme != "balanced":
        raise InputError(f"class weights {scheme!r} are unknown; use none or balanced")
    counts = np.bincount(labels, minlength=num_classes)
    if (counts == 0).any():
        empty = ", ".join(str(index) for index in np.flatnonzero(counts == 0))
        raise InputError(
            f"class weights 'balanced': classes {empty} (by position) have no training image; add some or use none"
        )
    return torch.tensor(len(labels) / (num_classes * counts), dtype=torch.float32)


def build_loss(weights: torch.Tensor | None, label_smoothing: float) -> nn.CrossEntropyLoss:
    """Return torch's cross-entropy (mean over the batch, weighted by class), label_smoothing in [0, 1)."""
    return nn.CrossEntropyLoss(weight=weights, label_smoothing=label_smoothing)


def constant_predictor_loss(class_counts: Sequence[int], weights: torch.Tensor | None, label_smoothing: float) -> float:
    """Return the lowest loss that constant logits reach on these labels: that of knowing the class balance.

    With counts n, weights w and smoothing s over K classes, torch's weighted mean is a cross-entropy with
    targets a_c = (1 - s) w_c n_c + (s / K) w_c N, divided by W = Σ w_c n_c. It is lowest where p = a / Σa,
    and that is (Σa / W) · H(p). Without weights and smoothing it is the entropy of the class balance. The
    weighted mean is taken over all labels at once; batch by batch it differs by what the batches' balance
    does.

    Args:
        class_counts: (K,) images per class, their sum at least 1.
        weights: (K,) float or None.
        label_smoothing: in [0, 1).
    """
    counts, weight = _counts_and_weights(class_counts, weights)
    targets = _constant_targets(counts, weight, label_smoothing)
    share = targets / targets.sum()
    entropy = -math.fsum(p * math.log(p) for p in share if p > 0)
    return float(targets.sum() / (weight * counts).sum() * entropy)


def constant_predictor_spread(
    class_counts: Sequence[int], weights: torch.Tensor | None, label_smoothing: float, *, batch_size: int
) -> float:
    """Return how much that prediction's loss varies from batch to batch: a standard deviation.

    A batch's loss is a ratio, the sum of its images' terms t_y over that of their weights w_y; to first order it varies
    as the mean of (t_y - L w_y) / E[w] over the batch does, L being the loss on all. Nothing for classes that are
    weighted to balance: then a constant costs the same on every batch.

    Args:
        class_counts: (K,) images per class, their sum at least 1.
        weights: (K,) float or None.
        label_smoothing: in [0, 1).
        batch_size: at least 1.
    """
    counts, weight = _counts_and_weights(class_counts, weights)
    targets = _constant_targets(counts, weight, label_smoothing)
    costs = -np.log(targets / targets.sum(), out=np.zeros_like(targets), where=targets > 0)
    smoothed = label_smoothing / len(counts) * np.sum(weight * costs)
    terms = (1 - label_smoothing) * weight * costs + smoothed
    loss = constant_predictor_loss(class_counts, weights, label_smoothing)
    share = counts / counts.sum()
    variance = np.sum(share * (terms - loss * weight) ** 2) / np.sum(share * weight) ** 2
    return float(np.sqrt(variance / batch_size))


def _counts_and_weights(class_counts: Sequence[int], weights: torch.Tensor | None) -> tuple[np.ndarray, np.ndarray]:
    counts = np.asarray(class_counts, dtype=np.float64)
    weight = np.ones_like(counts) if weights is None else weights.detach().cpu().numpy().astype(np.float64)
    return counts, weight


def _constant_targets(counts: np.ndarray, weight: np.ndarray, label_smoothing: float) -> np.ndarray:
    """What each class weighs in the loss of a constant prediction; it is lowest where p is their share."""
    return (1 - label_smoothing) * weight * counts + label_smoothing / len(counts) * weight * counts.sum()
