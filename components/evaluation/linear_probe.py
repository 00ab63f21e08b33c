"""A linear classifier on frozen features: what can be told apart by them, and so how good a start they are.

The linear probe of Alain & Bengio 2016 (arXiv 1610.01644) and of transfer studies since (Kornblith et al. 2019,
arXiv 1805.08974: it ranks backbones much as fine-tuning them does). Logistic regression on standardised features; how
strongly it is held back is chosen by cross-validation that keeps whole groups together.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

#: Inverse strengths of the penalty that are tried, the strongest first. With a thousand images of as many features the
#: fourth was best.
PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FOLDS = 4
MAX_STEPS = 500
_LEAST = 1e-12


@dataclass(frozen=True)
class Verdict:
    """Whether a candidate stays, and why, in words."""

    name: str
    kept: bool
    reason: str


def linear_probe(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    held_out: np.ndarray,
    *,
    num_classes: int,
    balanced: bool,
    seed: int,
) -> tuple[np.ndarray, float]:
    """Probabilities (M, K) of the held-out images, and the inverse penalty that was chosen.

    features: (N, F) float. labels: (N,) int in [0, K), two classes at least; a class that is not among them gets 0.
    groups: (N,) ids of what is not independent. held_out: (M, F). balanced: classes weigh the same, whatever their
    number of images. Where no class has two groups nothing can be held out, and the penalty is that in the middle.
    """
    penalty = PENALTIES[len(PENALTIES) // 2]
    # A fit to a thousand images takes 20 ms on one thread, and on two that others compete for a hundred times that.
    with threadpool_limits(1):
        splits = _splits(labels, groups, seed=seed)
        if splits:
            losses = [_held_out_loss(features, labels, splits, each, balanced=balanced) for each in PENALTIES]
            penalty = PENALTIES[int(np.argmin(losses))]
        classifier = _classifier(penalty, balanced=balanced)
        _fit(classifier, features, labels)
        return _probabilities(classifier, held_out, num_classes), penalty


def choose_candidates(
    names: Sequence[str],
    scores: Sequence[float],
    intervals: Sequence[tuple[float | None, float | None]],
    *,
    keep: int,
    always: str,
) -> list[Verdict]:
    """Keep the `keep` best, but none whose interval lies wholly below the best's; and the one that always stays.

    scores: greater is better, no NaN. intervals: low and high of each; None where there is none, which excludes nobody.
    Returns them best first; of equal scores the earlier one is better.
    """
    order = sorted(range(len(names)), key=lambda number: -scores[number])
    lowest = intervals[order[0]][0]
    verdicts = []
    for rank, number in enumerate(order):
        high = intervals[number][1]
        hopeless = rank > 0 and lowest is not None and high is not None and high < lowest
        if hopeless:
            reason = f"its interval ends at {high:.3f}, below the best's, which begins at {lowest:.3f}"
        elif rank >= keep:
            reason = "not the best" if keep == 1 else f"not among the {keep} best"
        else:
            reason = "the best" if rank == 0 else f"among the {keep} best"
        stays = not hopeless and rank < keep
        if names[number] == always and not stays:
            stays, reason = True, f"the configured one; {reason}"
        verdicts.append(Verdict(names[number], stays, reason))
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


def _held_out_loss(
    features: np.ndarray,
    labels: np.ndarray,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    penalty: float,
    *,
    balanced: bool,
) -> float:
    """Mean negative log-likelihood over all folds; with `balanced` of each class first, then over the classes."""
    losses, of = [], []
    for inside, outside in splits:
        classifier = _classifier(penalty, balanced=balanced)
        _fit(classifier, features[inside], labels[inside])
        found = _probabilities(classifier, features[outside], int(labels.max()) + 1)
        losses.append(-np.log(np.maximum(found[np.arange(len(outside)), labels[outside]], _LEAST)))
        of.append(labels[outside])
    loss, label = np.concatenate(losses), np.concatenate(of)
    if not balanced:
        return float(loss.mean())
    return float(np.mean([loss[label == one].mean() for one in np.unique(label)]))


def _classifier(penalty: float, *, balanced: bool) -> Pipeline:
    regression = LogisticRegression(C=penalty, class_weight="balanced" if balanced else None, max_iter=MAX_STEPS)
    return make_pipeline(StandardScaler(), regression)


def _fit(classifier: Pipeline, features: np.ndarray, labels: np.ndarray) -> None:
    with warnings.catch_warnings():
        # Where it matters, at a weak penalty, a fit that is cut short is one that is held back a little more.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(features, labels)


def _probabilities(classifier: Pipeline, features: np.ndarray, num_classes: int) -> np.ndarray:
    found = np.zeros((len(features), num_classes))
    found[:, classifier.classes_] = classifier.predict_proba(features)
    return found
