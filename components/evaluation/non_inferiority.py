"""Champion against challenger on the same images: is the challenger no worse, within a stated margin?

Escapes and overkill are judged separately. The bound on each difference is the larger of two: a paired bootstrap by
group, and Tango's score bound for paired proportions (Tango 1998, Statistics in Medicine 17), which has a width even if
the two models agree on all images. The bootstrap then has none: "no difference" on ten images would count as proof.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy import stats

from components.evaluation.intervals import bootstrap_values, kish_size


def non_inferiority(
    challenger_reject: np.ndarray,
    champion_reject: np.ndarray,
    is_defect: np.ndarray,
    groups: np.ndarray,
    *,
    margin_escape: float,
    margin_overkill: float,
    confidence: float,
    bootstrap_samples: int,
    seed: int,
) -> dict[str, Any]:
    """Judge both error rates; `passed` only when both pass.

    challenger_reject, champion_reject, is_defect: (N,) bool on the same images in the same order; groups: (N,) part
    ids. margin_*: the largest tolerated increase of a rate, in [0, 1]. An error rate passes if the one-sided upper
    bound of (challenger − champion) is at most its margin; without images to measure it, it fails.
    """
    challenger = np.asarray(challenger_reject, dtype=bool)
    champion = np.asarray(champion_reject, dtype=bool)
    is_defect = np.asarray(is_defect, dtype=bool)
    escape, overkill = (
        paired_difference(
            wrong[where], wrong_before[where], groups[where], name=name, kind=kind, margin=margin,
            confidence=confidence, bootstrap_samples=bootstrap_samples, seed=seed,
        )
        for name, kind, margin, where, wrong, wrong_before in (
            ("escape rate", "defective", margin_escape, is_defect, ~challenger, ~champion),
            ("overkill rate", "good", margin_overkill, ~is_defect, challenger, champion),
        )
    )  # fmt: skip
    return {
        "passed": escape["passed"] and overkill["passed"],
        "confidence": confidence,
        "escape_rate": escape,
        "overkill_rate": overkill,
    }


def paired_difference(
    wrong: np.ndarray,
    wrong_before: np.ndarray,
    groups: np.ndarray,
    *,
    name: str,
    kind: str,
    margin: float,
    confidence: float,
    bootstrap_samples: int,
    seed: int,
) -> dict[str, Any]:
    """One error rate on its N images: difference, upper bound, margin, verdict and reason.

    wrong, wrong_before: (N,) bool, the errors of the challenger and of the champion.
    """
    count = int(wrong.size)
    if count == 0:
        reason = f"no {kind} image: the {name} cannot be compared"
        return {"images": 0, "upper_bound": None, "margin": margin, "passed": False, "reason": reason}
    only_challenger = int((wrong & ~wrong_before).sum())
    only_champion = int((~wrong & wrong_before).sum())
    difference = (only_challenger - only_champion) / count
    change = wrong.astype(np.float64) - wrong_before
    resampled = bootstrap_values(
        lambda index: float(change[index].mean()), groups, samples=bootstrap_samples, seed=seed
    )
    bootstrap = float(np.quantile(resampled, confidence)) if resampled.size else difference
    effective = kish_size(groups)
    share = effective / count
    score = tango_upper_bound(only_challenger * share, only_champion * share, effective, confidence=confidence)
    upper = max(bootstrap, score)
    return {
        "images": count,
        "effective_images": effective,
        "challenger_errors": int(wrong.sum()),
        "champion_errors": int(wrong_before.sum()),
        "only_challenger_wrong": only_challenger,
        "only_champion_wrong": only_champion,
        "difference": difference,
        "bootstrap_upper_bound": bootstrap,
        "score_upper_bound": score,
        "upper_bound": upper,
        "margin": margin,
        "passed": upper <= margin,
        "reason": f"{name}: challenger − champion = {100 * difference:+.2f} points on {count} {kind} images, at most "
        f"{100 * upper:+.2f} at {100 * confidence:g} % confidence, {'within' if upper <= margin else 'above'} the "
        f"margin of {100 * margin:.2f}",
    }


def tango_upper_bound(worse: float, better: float, pairs: float, *, confidence: float) -> float:
    """One-sided score bound of a paired difference (worse − better) / pairs, in (−1, 1], never below the difference.

    worse, better: discordant pairs, or effective counts, at least 0 and at most `pairs` in sum; confidence: in
    [0.5, 1). Tango 1998: the difference at which the score statistic, with the variance of the constrained likelihood,
    falls to −z.
    """
    quantile = float(stats.norm.ppf(confidence))
    worse, better = worse / pairs, better / pairs
    # Effective counts are rounded, and may be the least bit more than all pairs.
    estimate = min(max(worse - better, -1.0), 1.0)

    def is_below_bound(delta: float) -> bool:
        linear = (2 - worse + better) * delta - worse - better
        root = math.sqrt(max(linear**2 + 8 * better * delta * (1 - delta), 0.0))
        nuisance = max((root - linear) / 4, 0.0)
        variance = max(2 * nuisance + delta * (1 - delta), 0.0)
        return delta - estimate <= quantile * math.sqrt(variance / pairs)

    # The difference itself may solve the equation too, where its variance is 0: bisection goes to the solution above.
    low, high = estimate, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below_bound(middle) else (low, middle)
    return high
