"""A linear classifier on frozen features, as a measure of the features.

The linear probe of Alain & Bengio 2016 (arXiv 1610.01644) and of transfer studies since (Kornblith et al. 2019,
arXiv 1805.08974: it ranks backbones much as fine-tuning them does). Logistic regression on standardised features; the
strength of its L2 penalty is chosen by cross-validation that keeps whole groups together.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

#: Inverse penalties to try, the strongest first. The fourth was best with a thousand images of a thousand features.
PENALTIES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
FOLDS = 4
MAX_STEPS = 500
_LEAST = 1e-12


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
        return _fit_predict(features, labels, held_out, num_classes, penalty, balanced=balanced), penalty


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


def _held_out_loss(
    features: np.ndarray,
    labels: np.ndarray,
    splits: Sequence[tuple[np.ndarray, np.ndarray]],
    penalty: float,
    *,
    balanced: bool,
) -> float:
    """Mean negative log-likelihood over all folds; with `balanced` of each class first, then over the classes."""
    losses = []
    for inside, outside in splits:
        found = _fit_predict(
            features[inside], labels[inside], features[outside], int(labels.max()) + 1, penalty, balanced=balanced
        )
        losses.append(-np.log(np.maximum(found[np.arange(len(outside)), labels[outside]], _LEAST)))
    loss, label = np.concatenate(losses), labels[np.concatenate([outside for _, outside in splits])]
    if not balanced:
        return float(loss.mean())
    return float(np.mean([loss[label == one].mean() for one in np.unique(label)]))


def _fit_predict(
    features: np.ndarray,
    labels: np.ndarray,
    held_out: np.ndarray,
    num_classes: int,
    penalty: float,
    *,
    balanced: bool,
) -> np.ndarray:
    """(M, num_classes) probabilities of the held-out rows."""
    regression = LogisticRegression(C=penalty, class_weight="balanced" if balanced else None, max_iter=MAX_STEPS)
    classifier = make_pipeline(StandardScaler(), regression)
    with warnings.catch_warnings():
        # Only fits with a weak penalty do not converge; one that is cut short has a slightly stronger penalty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(features, labels)
    found = np.zeros((len(held_out), num_classes))
    found[:, classifier.classes_] = classifier.predict_proba(held_out)
    return found
