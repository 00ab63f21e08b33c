"""The one number that picks the best epoch and the best trial, on the validation split."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from components.evaluation import scalars
from components.evaluation.calibration import defect_scores

#: Objectives that rank images by their defect score, and so need a good class.
RANKING: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "auroc": scalars.auroc,
    "average_precision": scalars.average_precision,
}


def objective_score(
    name: str,
    probabilities: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    good_classes: Sequence[str],
) -> float:
    """The objective in [0, 1], greater is better; NaN where a probability is not finite, or where a ranking
    has only one kind of image.

    probabilities: (N, K). labels: (N,) int positions in `classes`. `balanced_accuracy` is that of the likeliest class.
    """
    if not np.isfinite(probabilities).all():
        return float("nan")
    if name in RANKING:
        is_defect = ~np.isin(np.asarray(classes)[labels], good_classes)
        return float(RANKING[name](defect_scores(probabilities, classes, good_classes), is_defect))
    return float(balanced_accuracy_score(labels, probabilities.argmax(axis=1)))
