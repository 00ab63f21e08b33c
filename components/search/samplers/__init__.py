"""The samplers by name, and the rule by which each determines the best trial."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from components.errors import InputError
from components.search.samplers.base import Sampler, SamplerSettings
from components.search.samplers.folds import best_over_folds
from components.search.samplers.grid import GridSampler
from components.search.samplers.hierarchical import HierarchicalSampler
from components.search.samplers.lipschitz import LipschitzSampler, best_arm
from components.search.samplers.spread import random_sampler
from components.search.samplers.tpe import hybrid_sampler, tpe_sampler
from components.search.trial import TrialRecord, best_trial

SAMPLERS: dict[str, Callable[[SamplerSettings], Sampler]] = {
    "random": random_sampler,
    "grid": GridSampler,
    "tpe": tpe_sampler,
    "hybrid": hybrid_sampler,
    "lipschitz": LipschitzSampler,
    "hierarchical": HierarchicalSampler,
}
#: For samplers that repeat points: the best trial by the mean of its point. Where there is none, `best_trial` decides.
MEANS: dict[str, Callable[[Sequence[TrialRecord]], int | None]] = {"lipschitz": best_arm, "grid": best_over_folds}


def build_sampler(name: str, settings: SamplerSettings) -> Sampler:
    """Build a sampler. Raises `InputError` for an unknown name, or settings that the sampler cannot use."""
    if name not in SAMPLERS:
        raise InputError(f"search.sampler={name}: unknown; use one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name](settings)


def winner(name: str, history: Sequence[TrialRecord]) -> int | None:
    """The number of the best trial of a search with this sampler; None where there is none."""
    by_means = MEANS[name](history) if name in MEANS else None
    return best_trial(history) if by_means is None else by_means
