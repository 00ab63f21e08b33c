"""Whether a confirmation is worth its trainings: what it could detect, and what the winner may gain."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from components.display import counted
from components.evaluation.expected_difference import (
    Normal,
    detectable_difference,
    difference_variance,
    score_variance,
)
from pipeline.confirmation.prior import CORRELATION, SEED_SD, possible_gain


@dataclass(frozen=True, kw_only=True)
class Foresight:
    """What is known before the trainings.

    expected: the winner's gain at full length. detectable: the smallest measured difference that would be certain; None
    where none would be, since images of a set are of one kind.
    """

    expected: Normal
    detectable: float | None
    statement: str

    @property
    def possible_gain(self) -> float:
        """What the winner may gain."""
        return possible_gain(self.expected)

    @property
    def worthwhile(self) -> bool:
        """Whether what the winner may gain would be certain, if it were measured."""
        return self.detectable is not None and self.detectable <= self.possible_gain


def foresee(
    held_out: Sequence[pd.DataFrame],
    expected: Normal,
    *,
    replicates: int,
    objective: str,
    score: float,
    confidence: float,
) -> Foresight:
    """What a confirmation could detect.

    held_out: rows of the manifest on which trainings will be scored, a table for each set of images. replicates: pairs
    of trainings. score: about what the recipes will score.
    """
    kinds = [groups_by_kind(rows, objective) for rows in held_out]
    detectable = None
    if all(len(kind) > 1 for kind in kinds):
        sampling = sum(score_variance(objective, score, list(kind.values())) for kind in kinds) / len(kinds) ** 2
        variance = difference_variance(
            sampling, correlation=CORRELATION, seed_variance=SEED_SD**2, replicates=replicates
        )
        detectable = detectable_difference(math.sqrt(variance), confidence=confidence)
    images = ", ".join(f"{sum(kind.get(name, 0) for kind in kinds)} {name}" for name in sorted(set().union(*kinds)))
    certain = "no difference (too few images)" if detectable is None else f"a measured difference of {detectable:.4f}"
    return Foresight(
        expected=expected,
        detectable=detectable,
        statement=f"With {counted(replicates, 'pair')} of trainings (groups of images to compare on: {images}) "
        f"{certain} in {objective} would be certain at {100 * confidence:g} %; the winner may gain "
        f"{max(possible_gain(expected), 0.0):.4f}.",
    )


def groups_by_kind(rows: pd.DataFrame, objective: str) -> Mapping[str, int]:
    """Groups that hold an image of a kind: of a class for balanced_accuracy, else of the good and the defective ones.

    Images of a group count as one, which is careful where they differ.
    """
    kind = rows["label"]
    if objective != "balanced_accuracy":
        kind = rows["is_defect"].astype(bool).map({True: "defective", False: "good"})
    return {str(name): int(groups) for name, groups in rows.groupby(kind)["group"].nunique().items()}
