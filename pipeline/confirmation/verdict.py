"""Decides whether the winner of a search is better than the defaults, with confidence, over several seeds.

The measured difference varies with the seeds and with the choice of validation images. The first part is measured by
the differences per seed, the second by a bootstrap over groups of images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from components.display import counted
from components.evaluation.paired_seeds import paired_lower_bound
from pipeline.overriding import override
from pipeline.sections.recipe import Recipe

WINNER, DEFAULTS = "winner", "defaults"
OPTIMISTIC = (
    "The search compared its trials on these same validation images, so the gain is somewhat overestimated; the test "
    "split gives the unbiased figure."
)


#: What a recipe changes in the configured one, by dotted path.
Overrides = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The decision. Values that were not measured are None.

    difference: mean over the seeds of winner − defaults. low: its one-sided lower bound. se_seeds, se_sampling: the two
    parts of its standard error, from the seeds and from the choice of images.
    """

    chosen: str
    statement: str
    difference: float | None = None
    low: float | None = None
    se_seeds: float | None = None
    se_sampling: float | None = None


def candidates(best: Mapping[str, Any], recipe: Recipe) -> dict[str, Overrides]:
    """The defaults, and the winner if it is another recipe. best: of the search."""
    winner, defaults = dict(best["overrides"]), dict(best["defaults"])
    if not best["trial"] or override(recipe, winner) == override(recipe, defaults):
        return {DEFAULTS: defaults}
    return {WINNER: winner, DEFAULTS: defaults}


def judge(
    differences: Sequence[float], *, variance: float | None, units: int, confidence: float, objective: str
) -> Verdict:
    """Take the winner if the lower bound of the mean difference is above 0.

    differences: winner − defaults, one per seed, at least one. variance: of their mean, over resampled images; None
    where it has none. units: groups of images that were resampled, at least two where there is a variance.
    """
    bound = None
    if variance is not None:
        bound = paired_lower_bound(differences, variance=variance, units=units, confidence=confidence)
    if bound is None:
        return Verdict(
            chosen=DEFAULTS,
            statement=f"The defaults are kept: on these validation images ({counted(units, 'group')}) "
            f"{objective} has no value or no uncertainty, so it cannot be shown that the winner is better.",
        )
    chosen = WINNER if bound.low > 0 else DEFAULTS
    return Verdict(
        chosen=chosen,
        statement=_in_words(chosen, bound.difference, bound.low, len(differences), confidence, objective),
        difference=bound.difference,
        low=bound.low,
        se_seeds=bound.se_seeds,
        se_sampling=bound.se_sampling,
    )


def diverged(winner: Sequence[int], defaults: Sequence[int], *, others: Sequence[float]) -> Verdict:
    """The decision if a training diverged. winner, defaults: the seeds with which the recipe diverged.

    others: winner − defaults of each other seed.
    """
    if winner:
        also = f" So did the defaults, with {_seeds(defaults)}." if defaults else ""
        return Verdict(
            chosen=DEFAULTS,
            statement=f"The defaults are kept: the winner diverged at full length with {_seeds(winner)}.{also}",
        )
    if sum(others) < 0:
        return Verdict(
            chosen=DEFAULTS,
            statement=f"The defaults are kept: they diverged at full length with {_seeds(defaults)}, and the winner "
            "with none, but over the other seeds it is behind.",
        )
    also = ", and over the other seeds it is not behind" if others else ""
    return Verdict(
        chosen=WINNER,
        statement=f"The winner is taken: the defaults diverged at full length with {_seeds(defaults)}, the winner "
        f"with none{also}.",
    )


def untested(candidates: Mapping[str, Overrides]) -> Verdict:
    """The decision without trainings."""
    if WINNER not in candidates:
        return Verdict(chosen=DEFAULTS, statement="The search found nothing better: nothing to confirm.")
    return Verdict(
        chosen=WINNER,
        statement="The winner of the search is taken without a repetition (search.confirm_seeds=0): its gain is "
        "unconfirmed, and may be within the noise of the defaults.",
    )


def write_confirmation(
    path: Path,
    verdict: Verdict,
    overrides: Overrides,
    *,
    objective: str,
    confidence: float,
    seeds: Sequence[int],
    scores: Mapping[str, Sequence[float | None]],
    trainings: Sequence[Mapping[str, Any]],
    kept_run: str | None,
) -> dict[str, Any]:
    """Write confirmation.json; its values.

    scores: per recipe, one for each seed, None where the training diverged. trainings: a record of each.
    """
    values = {
        **asdict(verdict),
        "overrides": overrides,
        "objective": objective,
        "confidence": confidence,
        "seeds": list(seeds),
        "scores": {
            label: [score if score is not None and math.isfinite(score) else None for score in row]
            for label, row in scores.items()
        },
        "trainings": list(trainings),
        "kept_run": kept_run,
    }
    path.write_text(json.dumps(values, indent=2, allow_nan=False), encoding="utf-8")
    return values


def _in_words(chosen: str, mean: float, low: float, count: int, confidence: float, objective: str) -> str:
    over = f"over {count} seeds" if count > 1 else "from one seed"
    gap = f"{abs(mean):.4f} {'above' if mean > 0 else 'below'}" if mean else "at 0.0000 from"
    sure = f"{100 * confidence:g} % confidence"
    if chosen == WINNER:
        words = (
            f"The winner is taken: {over} its {objective} on the validation split is {gap} that of the defaults, and "
            f"with {sure} at least {low:.4f} above."
        )
    else:
        words = f"The defaults are kept: {over} the winner's {objective} on the validation split is {gap} theirs"
        words += f", but with {sure} the lower bound of the difference is {low:+.4f}." if mean > 0 else "."
    if count == 1:
        words += " This does not include the spread between seeds, which one seed cannot measure."
    return f"{words} {OPTIMISTIC}" if mean > 0 else words


def _seeds(seeds: Sequence[int]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(str(seed) for seed in seeds)}"
