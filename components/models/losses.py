"""Cross-entropy and focal loss, the weights of the classes, and the loss of the best constant prediction.

The focal loss is that of Lin et al. (arXiv 1708.02002), over a softmax: the smaller a term, the less it counts. Weights
by the effective number of images are those of Cui et al. (arXiv 1901.05555).
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from scipy import optimize, special
from torch import nn
from torch.nn import functional

from components.errors import InputError


def class_shares(num_classes: int, good: Collection[int]) -> np.ndarray:
    """Return the share of each class in the whole weight, (K,) float64, their sum 1.

    The good classes have half of it and the others half, each of a kind the same; all the same where there is one kind.
    Else many kinds of defects would outweigh the question of whether there is one. good: positions of classes.
    """
    is_good = np.isin(np.arange(num_classes), list(good))
    kinds = [kind for kind in (is_good, ~is_good) if kind.any()]
    return np.asarray(sum(kind / (kind.sum() * len(kinds)) for kind in kinds))


def class_weights(labels: np.ndarray, shares: np.ndarray) -> torch.Tensor:
    """Return the weight of each class, (K,) float32: N · share / count, whose mean over the images is 1.

    labels: (N,) integers in [0, K). shares: (K,), of the whole weight. Raises InputError: a class without an image,
    whose weight would be infinite.
    """
    counts = _counted(labels, len(shares), what="class weights 'balanced'", remedy="use none")
    return torch.tensor(len(labels) * shares / counts, dtype=torch.float32)


def effective_number_weights(labels: np.ndarray, num_classes: int, beta: float) -> torch.Tensor:
    """Return the weight of each class, (K,) float32, by the effective number of its images (Cui et al. 2019).

    The effective number of n images is (1 - beta^n) / (1 - beta). The weight is its inverse, scaled so that the mean
    weight over the images is 1. beta, in [0, 1): 0 is no weighting; towards 1 it becomes `balanced`.
    labels: (N,) integers in [0, K). Raises InputError: a class without an image, whose weight would be infinite.
    """
    counts = _counted(labels, num_classes, what="recipe.loss=class_balanced", remedy="use cross_entropy")
    inverse = (1 - beta) / (1 - beta**counts)
    return torch.tensor(len(labels) * inverse / (counts @ inverse), dtype=torch.float32)


def build_loss(weights: torch.Tensor | None, label_smoothing: float, *, focal_gamma: float) -> nn.Module:
    """Return the loss, from logits (B, K) and labels (B,) to its mean over the batch, weighted by class.

    Of targets (B, K) float, each class's term is weighted, and the mean divided by the sum of the weighted targets, as
    with labels, which are targets of a single class.

    weights: (K,) float or None. label_smoothing: in [0, 1). focal_gamma: at least 0; 0 for torch's cross-entropy.
    """
    if focal_gamma == 0:
        return CrossEntropy(weight=weights, label_smoothing=label_smoothing)
    return FocalLoss(weights, label_smoothing, focal_gamma)


class CrossEntropy(nn.CrossEntropyLoss):
    """torch's, which divides by the number of images where targets are soft; here by the sum of their weights."""

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean, a scalar. logits: (B, K); labels: (B,) int64 or (B, K) float."""
        if self.weight is None or not labels.is_floating_point():
            return super().forward(logits, labels)
        total = functional.cross_entropy(
            logits, labels, self.weight, reduction="sum", label_smoothing=self.label_smoothing
        )
        return total / (labels @ self.weight).sum()


class FocalLoss(nn.Module):
    """Cross-entropy whose every term -log p is multiplied by (1 - p)^gamma.

    Label smoothing and the weighted mean are those of torch's cross-entropy, which it equals for gamma 0.
    """

    weight: torch.Tensor | None

    def __init__(self, weights: torch.Tensor | None, label_smoothing: float, gamma: float) -> None:
        super().__init__()
        self.register_buffer("weight", weights)
        self.label_smoothing = label_smoothing
        self.gamma = gamma

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """Return the weighted mean, a scalar. logits: (B, K); labels: (B,) int64 or (B, K) float."""
        log_p = logits.log_softmax(dim=1)
        # Kept above 0, where the power of a gamma below 1 has an infinite slope; the term itself is 0 there.
        rest = (-log_p.expm1()).clamp_min(torch.finfo(logits.dtype).tiny ** 0.5)
        costs = rest.pow(self.gamma) * -log_p
        weight = logits.new_ones(logits.shape[1]) if self.weight is None else self.weight
        if labels.is_floating_point():
            own, terms = labels @ weight, (labels * costs) @ weight
        else:
            own = weight[labels]
            terms = own * costs.gather(1, labels[:, None]).squeeze(1)
        if self.label_smoothing:
            spread = (costs @ weight) / logits.shape[1]
            terms = (1 - self.label_smoothing) * terms + self.label_smoothing * spread
        return terms.sum() / own.sum()


def constant_predictor_loss(
    class_counts: Sequence[float], weights: torch.Tensor | None, label_smoothing: float, *, focal_gamma: float
) -> float:
    """Return the lowest loss that constant logits reach on these labels: that of knowing the class balance.

    With counts n, weights w and smoothing s over K classes, the loss is Σ a_c (1 - p_c)^gamma (-log p_c) / W with
    a_c = (1 - s) w_c n_c + (s / K) w_c N and W = Σ w_c n_c. Its terms are convex in p; with gamma 0 it is lowest where
    p = a / Σa, and without weights and smoothing it is then the entropy of the class balance. The weighted mean is
    taken over all labels at once. class_counts: (K,) images per class, or the sum of their targets; their sum is at
    least 1; the rest as `build_loss`.
    """
    counts, weight, targets = _balance(class_counts, weights, label_smoothing)
    return float(targets @ _constant_costs(targets, focal_gamma) / (weight @ counts))


def constant_predictor_spread(
    class_counts: Sequence[float],
    weights: torch.Tensor | None,
    label_smoothing: float,
    *,
    focal_gamma: float,
    batch_size: int,
    targets: np.ndarray | None = None,
) -> float:
    """Return the standard deviation of that prediction's loss from batch to batch.

    A batch's loss is a ratio, the sum of its images' terms t_y over that of their weights w_y; to first order it varies
    as the mean of (t_y - L w_y) / E[w] over the batch, L being the loss on all. It is 0 where all classes have the same
    share of the whole weight: the loss of a constant is then the same on every batch. targets: (N, K), of the images
    whose labels are soft, of which class_counts is the sum; an image then has the terms of its classes.
    """
    counts, weight, sums = _balance(class_counts, weights, label_smoothing)
    costs = _constant_costs(sums, focal_gamma)
    smoothed = label_smoothing / len(counts) * np.sum(weight * costs)
    terms = (1 - label_smoothing) * weight * costs
    loss = constant_predictor_loss(class_counts, weights, label_smoothing, focal_gamma=focal_gamma)
    share = counts / counts.sum()
    if targets is not None:
        terms, weight, share = targets @ terms, targets @ weight, np.full(len(targets), 1 / len(targets))
    variance = np.sum(share * (terms + smoothed - loss * weight) ** 2) / np.sum(share * weight) ** 2
    return float(np.sqrt(variance / batch_size))


def _counted(labels: np.ndarray, num_classes: int, *, what: str, remedy: str) -> np.ndarray:
    """Return images per class, (K,) int; every class has some."""
    counts = np.bincount(labels, minlength=num_classes)
    if (counts == 0).any():
        empty = ", ".join(str(index) for index in np.flatnonzero(counts == 0))
        raise InputError(f"{what}: classes {empty} (by position) have no training image; add some or {remedy}")
    return counts


def _balance(
    class_counts: Sequence[float], weights: torch.Tensor | None, label_smoothing: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each class, (K,): its images, its weight, and its factor in the loss of a constant prediction."""
    counts = np.asarray(class_counts, dtype=np.float64)
    weight = np.ones_like(counts) if weights is None else weights.detach().cpu().numpy().astype(np.float64)
    targets = (1 - label_smoothing) * weight * counts + label_smoothing / len(counts) * weight * counts.sum()
    return counts, weight, np.asarray(targets)


def _constant_costs(targets: np.ndarray, gamma: float) -> np.ndarray:
    """Return the loss of a label of each class, (K,), under the best constant prediction; 0 where the target is 0."""
    costs = np.zeros_like(targets)
    some = targets > 0
    share = targets[some] / targets[some].sum()
    log_p = np.log(share)
    if gamma and share.size > 1:

        def loss(logits: np.ndarray) -> tuple[float, np.ndarray]:
            log_p = special.log_softmax(logits)
            rest = np.maximum(-np.expm1(log_p), 1e-300)
            slopes = share * (gamma * rest ** (gamma - 1) * np.exp(log_p) * log_p - rest**gamma)
            return share @ (rest**gamma * -log_p), slopes - np.exp(log_p) * slopes.sum()

        found = optimize.minimize(loss, log_p, jac=True, method="BFGS", options={"gtol": 1e-12})
        log_p = special.log_softmax(found.x)
    costs[some] = (-np.expm1(log_p)) ** gamma * -log_p
    return costs
