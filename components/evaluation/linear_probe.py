"""A linear classifier on frozen features: as a model of its own, as a measure of the features, as a classifier's start.

The linear probe of Alain & Bengio 2016 (arXiv 1610.01644) and of transfer studies since (Kornblith et al. 2019,
arXiv 1805.08974: it ranks backbones much as fine-tuning them does). Logistic regression on standardised features; the
strength of its L2 penalty is chosen on images of other groups.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from threadpoolctl import threadpool_limits

#: Inverse penalties to try, the strongest first. The one in the middle was best with 2,000 images of 2,500 features.
PENALTIES = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
FOLDS = 4
MAX_STEPS = 500
#: Logit of a class without an image to learn from, below those of the others.
ABSENT = -20.0

Scaling = Literal["each", "common"]


@dataclass(frozen=True)
class LinearClassifier:
    """Logits = features · weightᵀ + bias, of features as they come. weight: (K, F) float64; bias: (K,) float64."""

    weight: np.ndarray
    bias: np.ndarray

    def logits(self, features: np.ndarray) -> np.ndarray:
        """(N, K) float64 of features (N, F)."""
        return np.asarray(features.astype(np.float64) @ self.weight.T + self.bias)


@dataclass(frozen=True)
class CrossFitted:
    """logits: (N, K), each row by the classifier that has not seen its fold. classifiers, penalties: one per fold."""

    logits: np.ndarray
    classifiers: tuple[LinearClassifier, ...]
    penalties: tuple[float, ...]


@dataclass(frozen=True)
class Fitted:
    """classifier: of all rows. logits: (N, K) out of inner folds, NaN where none could be made. penalty: inverse."""

    classifier: LinearClassifier
    logits: np.ndarray
    penalty: float


def cross_fit(
    features: np.ndarray, labels: np.ndarray, folds: np.ndarray, *, num_classes: int, shares: np.ndarray | None
) -> CrossFitted:
    """Fit a classifier for each fold on the rows of the others, and score each row by the one that has not seen it.

    features: (N, F) float. labels: (N,) int in [0, K). folds: (N,) int, groups whole. shares: (K,), of the classes in
    the whole weight, whatever their number of images; None: all images weigh the same. The penalty of a fold is that of
    the lowest loss on the scores of the other folds, whose classifiers were fitted on this fold, too: its rows have
    that much of a part in their own scores.
    """
    numbers = np.unique(folds)
    splits = [(np.flatnonzero(folds != number), np.flatnonzero(folds == number)) for number in numbers]
    paths, scores = _paths(features, labels, splits, num_classes=num_classes, shares=shares)
    logits, chosen = np.empty(scores.shape[1:]), []
    for inside, outside in splits:
        losses = [mean_loss(found[inside], labels[inside], shares=shares) for found in scores]
        chosen.append(int(np.argmin(losses)))
        logits[outside] = scores[chosen[-1], outside]
    classifiers = tuple(path[number] for path, number in zip(paths, chosen, strict=True))
    return CrossFitted(logits, classifiers, tuple(PENALTIES[number] for number in chosen))


def fit(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    num_classes: int,
    shares: np.ndarray | None,
    seed: int,
) -> Fitted:
    """Fit a classifier on all rows, with the penalty of the lowest loss out of inner folds of whole groups.

    groups: (N,) ids of what is not independent; the rest as for `cross_fit`. Where no class has two groups nothing can
    be held out, and the penalty is that in the middle.
    """
    number = len(PENALTIES) // 2
    logits = np.full((len(labels), num_classes), np.nan)
    splits = _splits(labels, groups, seed=seed)
    if splits:
        _, scores = _paths(features, labels, splits, num_classes=num_classes, shares=shares)
        scored = np.sort(np.concatenate([outside for _, outside in splits]))
        number = int(np.argmin([mean_loss(found[scored], labels[scored], shares=shares) for found in scores]))
        logits[scored] = scores[number, scored]
    made = fit_at(features, labels, PENALTIES[: number + 1], num_classes=num_classes, shares=shares)
    return Fitted(made[-1], logits, PENALTIES[number])


def fit_at(
    features: np.ndarray,
    labels: np.ndarray,
    penalties: Sequence[float],
    *,
    num_classes: int,
    shares: np.ndarray | None,
    scaling: Scaling = "each",
) -> list[LinearClassifier]:
    """A classifier for each inverse penalty, given from the strongest on: each fit starts from the one before.

    scaling: what the penalty sees: `each` feature with a standard deviation of 1, or all divided by one `common` scale.
    For the start of fine-tuning it has to be `common`: a nearly constant feature else gets a weight of 50 and more, and
    eight epochs from there ended at an AUROC of .869 instead of .917 (ELPV, tf_efficientnet_lite0).
    """
    mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    if scaling == "common":
        scale = np.full_like(scale, np.sqrt(np.mean(scale**2)))
    scale = np.where(scale > 0, scale, 1.0)
    known = np.unique(labels)
    weight, bias = np.zeros((num_classes, features.shape[1])), np.full(num_classes, ABSENT)
    if len(known) == 1:
        bias[known] = 0.0
        return [LinearClassifier(weight, bias)] * len(penalties)
    scaled = ((features - mean) / scale).astype(np.float32)
    weights = None
    if shares is not None:
        own, counts = shares[known] / shares[known].sum(), np.bincount(labels)[known]
        weights = dict(zip(known.tolist(), (len(labels) * own / counts).tolist(), strict=True))
    regression = LogisticRegression(class_weight=weights, max_iter=MAX_STEPS, warm_start=True)
    made = []
    # A fit to a thousand images takes 20 ms on one thread, and on two that others compete for a hundred times that.
    with threadpool_limits(1), warnings.catch_warnings():
        # Only fits with a weak penalty do not converge; one that is cut short has a slightly stronger penalty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        for penalty in penalties:
            regression.set_params(C=penalty).fit(scaled, labels)
            made.append(_of_features(regression, known, weight, bias, mean, scale))
    return made


def mean_classifier(classifiers: Sequence[LinearClassifier]) -> LinearClassifier:
    """The classifier whose logits are the mean of theirs."""
    return LinearClassifier(
        np.mean([one.weight for one in classifiers], axis=0), np.mean([one.bias for one in classifiers], axis=0)
    )


def mean_loss(logits: np.ndarray, labels: np.ndarray, *, shares: np.ndarray | None) -> float:
    """Mean negative log-likelihood; with shares of each class first, then over the classes that occur.

    logits: (N, K). labels: (N,) int. shares: (K,), of the classes in the whole weight; None: images weigh the same.
    """
    losses = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    if shares is None:
        return float(losses.mean())
    known = np.unique(labels)
    return float(np.average([losses[labels == one].mean() for one in known], weights=shares[known]))


def choose_candidates(
    scores: Mapping[str, tuple[float, float | None, float | None]], *, keep: int, always: str
) -> dict[str, tuple[bool, str]]:
    """Keep the `keep` best, but none whose interval lies wholly below the best's; and `always` in any case.

    scores: score (greater is better, no NaN), low and high of its interval; None where there is none, which excludes
    nobody. Returns for each whether it stays and why, best first; of equal scores the earlier one is better.
    """
    order = sorted(scores, key=lambda name: -scores[name][0])
    lowest = scores[order[0]][1]
    verdicts = {}
    for rank, name in enumerate(order):
        high = scores[name][2]
        stays = rank < keep
        reason = "the best" if keep == 1 or rank == 0 else f"among the {keep} best"
        if rank > 0 and lowest is not None and high is not None and high < lowest:
            stays, reason = False, f"its interval ends at {high:.3f}, below the best's, which begins at {lowest:.3f}"
        elif not stays:
            reason = f"not {reason}"
        if name == always and not stays:
            stays, reason = True, f"the configured one; {reason}"
        verdicts[name] = stays, reason
    return verdicts


def _splits(labels: np.ndarray, groups: np.ndarray, *, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(rows to learn from, rows held out); only those where there are two classes to learn from."""
    rarest = min(len(np.unique(groups[labels == label])) for label in np.unique(labels))
    folds = min(FOLDS, rarest)
    if folds < 2:
        return []
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    made = splitter.split(labels, labels, groups)
    return [(inside, outside) for inside, outside in made if len(np.unique(labels[inside])) > 1]


def _paths(
    features: np.ndarray,
    labels: np.ndarray,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    *,
    num_classes: int,
    shares: np.ndarray | None,
) -> tuple[list[list[LinearClassifier]], np.ndarray]:
    """The classifiers of each split by penalty, and the logits of the rows held out, (penalties, N, K)."""
    paths = []
    scores = np.full((len(PENALTIES), len(labels), num_classes), np.nan)
    for inside, outside in splits:
        path = fit_at(features[inside], labels[inside], PENALTIES, num_classes=num_classes, shares=shares)
        scores[:, outside] = [one.logits(features[outside]) for one in path]
        paths.append(path)
    return paths, scores


def _of_features(
    regression: LogisticRegression,
    known: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    mean: np.ndarray,
    scale: np.ndarray,
) -> LinearClassifier:
    """The regression of scaled features as a classifier of the features themselves. known: classes that it has seen."""
    slopes, offsets = regression.coef_.astype(np.float64), regression.intercept_.astype(np.float64)
    if len(known) == 2:  # one row, for the second class against the first
        slopes, offsets = np.concatenate([-slopes, slopes]) / 2, np.concatenate([-offsets, offsets]) / 2
    weight, bias = weight.copy(), bias.copy()
    weight[known] = slopes / scale
    bias[known] = offsets - weight[known] @ mean
    return LinearClassifier(weight, bias)
