"""How long an epoch takes, from a few real steps, before a search begins."""

from __future__ import annotations

from pipeline.comparison.forecast import measure_pace
from pipeline.compute.shipping import local_folder
from pipeline.search.recipes import at_horizon
from pipeline.search.trial import TrialPlan
from pipeline.stage import StageContext
from pipeline.training.build import open_data, use_threads


def seconds_per_epoch(plan: TrialPlan, context: StageContext) -> float:
    """Of the defaults, on this machine; 0 for a cluster, whose trials run elsewhere, on other hardware."""
    if context.compute.ray_address is not None:
        return 0.0
    use_threads(plan.threads)
    data = open_data(local_folder(plan.prepared))
    recipe = at_horizon(plan.default, {}, plan.search)
    pace = measure_pace(recipe, data, seed=plan.seed, compute=context.compute)
    return len(data.split("train")) * pace.training + len(data.split("val")) * pace.scoring
