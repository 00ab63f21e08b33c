"""The one number that picks the best epoch and the best trial, on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score

from components.evaluation.calibration import defect_scores

#: Objectives that rank images by their defect score, and so need a good class.
RANKING: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auroc": roc_auc_score,
    "average_precision": average_precision_score,
}


def objective_score(
    name: str,
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    good_classes: Sequence[str],
) -> float:
    """The objective in [0, 1], greater is better; NaN where a probability is not finite.

    probabilities: (N, K). labels: (N,) int positions in `classes`. `balanced_accuracy` is that of the likeliest class.
    """
    if not np.isfinite(probabilities).all():
        return float("nan")
    if name in RANKING:
        is_defect = ~np.isin(np.asarray(classes)[labels], good_classes)
        return float(RANKING[name](is_defect, defect_scores(probabilities, classes, good_classes)))
    return float(balanced_accuracy_score(labels, probabilities.argmax(axis=1)))
