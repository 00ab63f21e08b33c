"""How the candidates compare: the score of each, what it costs, and which backbones go on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from components.errors import InputError
from components.evaluation.linear_probe import choose_candidates
from components.evaluation.objective_intervals import ObjectiveInterval, objective_interval
from components.evaluation.objectives import Objective
from pipeline.embedding.classifier import Judged
from pipeline.embedding.features import Candidate, Features
from pipeline.embedding.images import Chosen
from pipeline.training.data import TrainingData

CONFIDENCE = 0.95
#: A step of training takes about as long as three forward passes: one, and twice as much backwards.
PASSES_PER_STEP = 3.0


@dataclass(frozen=True, kw_only=True)
class Ranked:
    """A candidate with its score by the recipe's objective, and by what tells learning from chance.

    low, high: of the interval, None where there is none. separation: AUROC, or without a good class balanced accuracy;
    chance: its value for a guess. serve_ms: milliseconds for an image. epoch_seconds: estimated, of a training on all
    images that are not test.
    """

    backbone: str
    image_size: int
    score: float
    low: float | None
    high: float | None
    separation: float
    separation_low: float | None
    separation_high: float | None
    chance: float
    images_per_second: float
    seconds: float
    serve_ms: float
    epoch_seconds: float
    penalties: tuple[float, ...]

    @property
    def finds_nothing(self) -> bool:
        """Whether chance is within the interval of what tells learning from it."""
        low = self.separation if self.separation_low is None else self.separation_low
        return low <= self.chance

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def rank(
    candidate: Candidate,
    features: Features,
    judged: Judged,
    chosen: Chosen,
    data: TrainingData,
    objective: Objective,
    *,
    samples: int,
    seed: int,
) -> Ranked:
    """Score a candidate on the images that candidates are compared on.

    Raises InputError where these do not have both kinds.
    """
    compared = chosen.compared

    def measured(by: Objective) -> ObjectiveInterval:
        return objective_interval(
            by,
            judged.logits[compared],
            chosen.images.labels[compared],
            data.classes,
            data.good_classes,
            chosen.groups[compared],
            confidence=CONFIDENCE,
            samples=samples,
            seed=seed,
        )

    score = measured(objective)
    name, chance = separation_of(data)
    apart = measured(Objective(name=name, escape_budget=None, escape_cost=1.0, defect_rate=None))
    if score.value is None or apart.value is None:
        key, remedy = (
            ("data.splits.val", "give val images of both")
            if chosen.folds is None
            else ("embed.max_images", "raise embed.max_images, or lower data.num_folds")
        )
        raise InputError(
            f"{key}: the {int(compared.sum())} images on which backbones and sizes are compared are of one kind only; "
            f"{remedy}"
        )
    return Ranked(
        backbone=candidate.backbone,
        image_size=candidate.image_size,
        score=score.value,
        low=score.low,
        high=score.high,
        separation=apart.value,
        separation_low=apart.low,
        separation_high=apart.high,
        chance=chance,
        images_per_second=round(features.images_per_second, 1),
        seconds=round(features.seconds, 2),
        serve_ms=round(features.serve_ms, 2),
        epoch_seconds=round(PASSES_PER_STEP * chosen.available / features.images_per_second, 1),
        penalties=judged.penalties,
    )


def separation_of(data: TrainingData) -> tuple[str, float]:
    """The metric that tells learning from chance, and its value by chance."""
    return ("auroc", 0.5) if data.good_classes else ("balanced_accuracy", 1 / len(data.classes))


def best_first(ranked: Sequence[Ranked]) -> list[Ranked]:
    """Of equal scores the smaller image is better, then the earlier candidate: what was timed decides nothing."""
    return sorted(ranked, key=lambda one: (-one.score, one.image_size))


def keep_best(ranked: Sequence[Ranked], *, keep: int, configured: str, size: int) -> dict[str, tuple[bool, str]]:
    """Whether each backbone goes on, and why, best first (see `choose_candidates`).

    size: in px, that trainings have; a backbone counts by its score at the nearest one.
    """
    scores = {}
    for backbone in dict.fromkeys(one.backbone for one in ranked):
        own = [one for one in ranked if one.backbone == backbone]
        nearest = own[int(np.argmin([abs(one.image_size - size) for one in own]))]
        scores[backbone] = (nearest.score, nearest.low, nearest.high)
    return choose_candidates(scores, keep=keep, always=configured)
