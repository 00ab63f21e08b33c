"""What is measured of validation logits: metrics, and the objective that selects the best epoch and the best trial.

They compare models, and certify nothing: `overkill_at_budget` and `cost` choose their threshold on the images on which
they are measured. The operating point is chosen elsewhere, on images that certify it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from components.evaluation import scalars
from components.evaluation.decision import defect_log_odds, good_mask


@dataclass(frozen=True, kw_only=True)
class Objective:
    """An objective and its settings.

    name: balanced_accuracy, or one of DECIDING. escape_budget: largest escape rate, in (0, 1), for overkill_at_budget.
    escape_cost: that of an escape, in overkills; defect_rate: share of defectives on the line, in (0, 1), None for that
    of the images; both for cost.
    """

    name: str
    escape_budget: float | None
    escape_cost: float
    defect_rate: float | None


def objective_score(
    objective: Objective,
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    good_classes: Sequence[str],
) -> float:
    """The objective in [0, 1], greater is better; NaN where a logit is not finite, or where the images are of one
    kind only (of one class, for `balanced_accuracy`).

    logits: (N, K). labels: (N,) int positions in `classes`. `balanced_accuracy` is that of the likeliest class.
    """
    score = score_of_images(objective, logits, labels, classes=classes, good_classes=good_classes)
    return score(np.arange(len(labels)))


def score_of_images(
    objective: Objective,
    logits: np.ndarray,
    labels: np.ndarray,
    *,
    classes: Sequence[str],
    good_classes: Sequence[str],
) -> Callable[[np.ndarray], float]:
    """`objective_score` as a function of the positions (M,) of the images that are counted, repeats allowed.

    What does not depend on the positions is computed once: a bootstrap calls the function a thousand times.
    """
    if not np.isfinite(logits).all():
        return lambda index: math.nan
    if objective.name in DECIDING:
        if objective.name == "overkill_at_budget" and objective.escape_budget is None:
            raise ValueError("overkill_at_budget needs an escape budget")
        rule = DECIDING[objective.name]
        is_good = good_mask(classes, good_classes)
        scores, is_defect = defect_log_odds(logits, is_good), ~is_good[labels]
        return lambda index: rule(scores[index], is_defect[index], objective)
    predicted = np.asarray(logits).argmax(axis=1)
    return lambda index: scalars.balanced_accuracy(scalars.tally(labels[index], predicted[index], len(classes)))


def overkill_at_budget(scores: np.ndarray, is_defect: np.ndarray, budget: float) -> float:
    """1 − overkill rate at the highest threshold whose escape rate is within the budget; NaN for one kind of image.

    scores: (N,) finite, rejected at or above the threshold. The escape rate is the share that is counted: an upper
    bound on it would need some 60 defectives for a budget of 5 %, and on fewer score every model alike.
    """
    defective, good = np.sort(scores[is_defect]), scores[~is_defect]
    if not defective.size or not good.size:
        return math.nan
    allowed = min(math.floor(budget * defective.size + 1e-9), defective.size - 1)
    return float((good < defective[allowed]).mean())


def saved_cost(scores: np.ndarray, is_defect: np.ndarray, *, escape_cost: float, defect_rate: float | None) -> float:
    """1 − the expected cost of a part at the best threshold, as a share of that without a model; NaN for one kind.

    A part costs rate · escape_cost · (escape rate) + (1 − rate) · (overkill rate). Without a model all parts are
    accepted, or all are rejected, whichever is cheaper; both are thresholds too, so that the result is in [0, 1].

    scores: (N,) finite. defect_rate: in (0, 1), None for that of the images.
    """
    defective, good = np.sort(scores[is_defect]), np.sort(scores[~is_defect])
    if not defective.size or not good.size:
        return math.nan
    rate = defective.size / scores.size if defect_rate is None else defect_rate
    cuts = np.append(np.unique(scores), np.inf)
    escapes = np.searchsorted(defective, cuts, side="left") / defective.size
    overkills = 1 - np.searchsorted(good, cuts, side="left") / good.size
    costs = rate * escape_cost * escapes + (1 - rate) * overkills
    return float(np.clip(1 - costs.min() / min(rate * escape_cost, 1 - rate), 0.0, 1.0))


#: Objectives of the defect score, which need a good class.
DECIDING: dict[str, Callable[[np.ndarray, np.ndarray, Objective], float]] = {
    "auroc": lambda scores, is_defect, objective: scalars.auroc(scores, is_defect),
    "average_precision": lambda scores, is_defect, objective: scalars.average_precision(scores, is_defect),
    "overkill_at_budget": lambda scores, is_defect, objective: overkill_at_budget(
        scores, is_defect, objective.escape_budget or 0.0
    ),
    "cost": lambda scores, is_defect, objective: saved_cost(
        scores, is_defect, escape_cost=objective.escape_cost, defect_rate=objective.defect_rate
    ),
}


def decision_metrics(
    logits: np.ndarray, labels: np.ndarray, *, classes: Sequence[str], good_classes: Sequence[str]
) -> dict[str, float]:
    """Metrics of the likeliest class, and AUROC of the defect score; NaN where they are not defined.

    logits: (N, K) float. labels: (N,) int positions in `classes`. sensitivity: share of the defective images whose
    likeliest class is any defect. Without good or without defect classes only accuracy and balanced accuracy.
    """
    inspects = 0 < len(good_classes) < len(classes)
    names = ("accuracy", "balanced_accuracy", *(("sensitivity", "specificity", "auroc") if inspects else ()))
    if not np.isfinite(logits).all():
        return dict.fromkeys(names, math.nan)
    predicted = logits.argmax(axis=1)
    counts = scalars.tally(labels, predicted, len(classes))
    values = [_share(predicted == labels), scalars.balanced_accuracy(counts)]
    if inspects:
        is_good = good_mask(classes, good_classes)
        defective = ~is_good
        is_defect, rejected = defective[labels], defective[predicted]
        scores = defect_log_odds(logits, is_good)
        values += [_share(rejected[is_defect]), _share(~rejected[~is_defect]), scalars.auroc(scores, is_defect)]
    return dict(zip(names, values, strict=True))


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if hits.size else math.nan
