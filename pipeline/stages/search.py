"""search: trials of recipes on Ray Tune; trial 0 is the configured recipe.

The horizon determines how trials of different length are compared, the sampler the next trial, the stopping rule which
trials continue. An interrupted search resumes from the journal in the stage's work folder.
"""

from __future__ import annotations

from typing import Any

from components.optim.range_test.bounds import read_backbone_bounds
from pipeline.data.sources import log_lineage
from pipeline.reports.search import write_report
from pipeline.search.results import SearchOutcome, log_results, write_results
from pipeline.search_space import rate_warnings, searched_space
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.stage import StageContext
from pipeline.training.build import resolved


def run(
    context: StageContext, *, seed: int, model: ModelConfig, recipe: RecipeConfig, search: SearchConfig
) -> dict[str, Any]:
    """Run the trials; write trials.parquet, scores.parquet, search.json, best.json, best.yaml and search.html."""
    log_lineage(context.run, context.inputs["prepare"].directory, used_for="search")
    found = read_backbone_bounds(context.input("lr_range_test", "backbone_bounds.json"))
    configured = resolved(Recipe(model=model, recipe=recipe), context.input("lr_range_test", "resolved.json"))
    searched = searched_space(configured, search, found)
    for warning in rate_warnings(searched, search, found):
        context.console.warn(warning)
    if not search.num_trials:
        headline = write_results(context, searched, search, SearchOutcome(records=[]))
        write_report(context)
        return headline
    from pipeline.search.run import run_search  # Ray takes a second

    for note in searched.notes:
        context.console.say(f"  {note}")
    finished = run_search(context, searched, search, seed=seed)
    headline = write_results(context, searched, search, finished)
    write_report(context)
    log_results(context)
    return headline
