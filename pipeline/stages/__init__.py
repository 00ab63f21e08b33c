"""The stages, their inputs, and the sections of the configuration on which each depends."""

from __future__ import annotations

import importlib
from typing import Any

from pipeline.sections.recipe import OBJECTIVE_KEYS, SCHEDULE_KEYS, RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.stage import Stage

#: Keys of the section `search` for the confirmation; it depends on the others by the search's result.
CONFIRM_KEYS = ("confirm", "confirm_seeds", "confirm_confidence")
#: Keys of the recipe that shape a classifier on frozen features and its score.
EMBED_KEYS = (
    *OBJECTIVE_KEYS,
    "recipe.class_weights",
    "recipe.image_size",
    "recipe.augment",
    "recipe.augment_strength",
)


def _lazily(module: str, function: str) -> Any:  # noqa: ANN401 - the callable's type is the stage's own
    """Import a stage when it runs: a reused stage, a plan and `--help` need neither torch nor Ray."""

    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return getattr(importlib.import_module(module), function)(*args, **kwargs)

    return call


def schedule_digest(storage: Any, console: Any, *, recipe: RecipeConfig, search: SearchConfig, **others: Any) -> str:  # noqa: ANN401
    """The recipe's schedule for the horizon `fixed`; with other horizons the search does not depend on it."""
    if search.horizon != "fixed":
        return ""
    return recipe.model_dump_json(include={key.partition(".")[2] for key in SCHEDULE_KEYS})


STAGES: tuple[Stage, ...] = (
    # images → manifest.parquet (splits, folds), pack/, data_report.html, data_report.json, statistics.parquet,
    #   quarantine.csv, near_duplicates.csv, label_conflicts.csv
    Stage(
        name="prepare",
        help="Images to a manifest with splits and folds, a pack and a data report.",
        inputs=(),
        sections=("seed", "data"),
        version=7,
        run=_lazily("pipeline.stages.prepare", "run"),
        # The digest covers what the source and the earlier manifest hold, wherever they lie.
        unhashed=(
            "data.source",
            "data.root",
            "data.group_pattern",
            "data.earlier_manifest",
            "data.max_quarantined_fraction",
            "data.pack",
        ),
        external=_lazily("pipeline.data.sources", "source_digest"),
    ),
    # → embedding.json (scores and costs, the backbones that go on), frozen_logits.npy, frozen.safetensors,
    #   heads.safetensors, doubtful.csv, outliers.csv, embed.html
    Stage(
        name="embed",
        help="Frozen features of each backbone and size: a classifier, the ranking, doubtful labels.",
        inputs=("prepare",),
        sections=("seed", "budget", "model", "recipe", "embed"),
        version=5,
        unhashed=(
            *("model.drop_rate", "model.drop_path_rate"),
            *(f"recipe.{key}" for key in RecipeConfig.model_fields if f"recipe.{key}" not in EMBED_KEYS),
        ),
        external=_lazily("pipeline.data.sources", "weights_digest"),
        run=_lazily("pipeline.stages.embed", "run"),
    ),
    # → model/ (the classifier on frozen features), operating_point.json, calibration_predictions.parquet; no later
    #   stage reads them, and a whole run makes them
    Stage(
        name="first_model",
        help="The classifier on frozen features as a model: calibrated, with its operating point.",
        inputs=("prepare", "embed"),
        sections=("operating_point",),
        version=2,
        run=_lazily("pipeline.stages.first_model", "run"),
    ),
    # → budget.json (what fits into the time of the run); the stages after it then have this configuration
    Stage(
        name="budget",
        help="Measure the pace; choose what fits into the time of a run with --budget.",
        inputs=("prepare", "embed", "first_model"),
        sections=("seed", "budget", "model", "recipe", "lr_range_test"),
        version=2,
        run=_lazily("pipeline.stages.budget", "run"),
    ),
    # → curves.parquet, lr_bounds.json, backbone_bounds.json, resolved.json (batch size and precision of all trainings);
    #   weight_decay.json where asked for
    Stage(
        name="lr_range_test",
        help="Find the range of learning rates, per optimizer: of all in question, or --optimizers sgd,adamw,lion.",
        inputs=("prepare", "embed"),
        sections=("seed", "model", "recipe", "lr_range_test"),
        version=11,
        unhashed=(*SCHEDULE_KEYS, *OBJECTIVE_KEYS, "recipe.lr", "recipe.warmup_epochs", "recipe.head_start"),
        run=_lazily("pipeline.stages.lr_range_test", "run"),
    ),
    # → comparison.json and .html: methods, each at its own rate; no later stage reads them
    Stage(
        name="compare_lr",
        help="Compare schedules, optimizers and layer-wise rates, each at its own rate; some: --entries cosine,adamw.",
        inputs=("prepare", "lr_range_test"),
        sections=("seed", "model", "recipe", "compare_lr"),
        unhashed=("recipe.lr", "recipe.head_start"),
        version=4,
        run=_lazily("pipeline.stages.compare_lr", "run"),
        resumes=True,
    ),
    # → trials.parquet, scores.parquet, best.json (overrides of the configuration), best.yaml, search.json, search.html
    Stage(
        name="search",
        help="Search recipes with Ray Tune and ASHA.",
        inputs=("prepare", "embed", "lr_range_test"),
        sections=("seed", "model", "recipe", "search"),
        unhashed=(
            *SCHEDULE_KEYS,
            *(f"search.{key}" for key in CONFIRM_KEYS),
            "search.epoch_timeout_minutes",
            "search.failure_limit",
            "search.checkpoint_quota_gb",
        ),
        external=schedule_digest,
        version=7,
        run=_lazily("pipeline.stages.search", "run"),
        resumes=True,
    ),
    # → confirmation.json (the kept recipe: the search's winner or the defaults), kept/ (trainings of it, by member)
    Stage(
        name="confirm",
        help="Compare the search's winner and the defaults at full length; keep what is likely better.",
        inputs=("prepare", "embed", "search"),
        sections=("seed", "model", "recipe", "search", "train", "monitor"),
        unhashed=tuple(f"search.{key}" for key in SearchConfig.model_fields if key not in CONFIRM_KEYS),
        version=6,
        run=_lazily("pipeline.stages.confirm", "run"),
        resumes=True,
    ),
    # → members/ (a training each), training.json (what they are), history.parquet, steps.parquet, monitor.json
    Stage(
        name="train",
        help="Train the networks of the confirmed recipe.",
        inputs=("prepare", "embed", "lr_range_test", "confirm"),
        # budget: trainings that the clock has shortened are not those of a run without it.
        sections=("seed", "budget", "model", "recipe", "train", "monitor"),
        version=11,
        run=_lazily("pipeline.stages.train", "run"),
        resumes=True,
    ),
    # → model/, delivery.json (what it is made of, and why), operating_point.json, calibration_predictions.parquet;
    #   where it trains one network on all images, what `train` writes of each
    Stage(
        name="deliver",
        help="Choose networks, views and blend, calibrate, choose the operating point, export the model.",
        inputs=("prepare", "embed", "lr_range_test", "confirm", "train"),
        sections=("seed", "train", "monitor", "operating_point", "serving"),
        version=3,
        run=_lazily("pipeline.stages.deliver", "run"),
        resumes=True,
    ),
    # → test_predictions.parquet, metrics.json, report.html
    Stage(
        name="evaluate",
        help="Measure on the test split; write the report.",
        inputs=("prepare", "embed", "lr_range_test", "search", "confirm", "train", "deliver"),
        sections=("seed", "evaluate"),
        version=7,
        run=_lazily("pipeline.stages.evaluate", "run"),
    ),
    # → decision.json, a model version with an alias
    Stage(
        name="promote",
        help="Register the model, apply the gates, set the alias.",
        inputs=("prepare", "first_model", "deliver", "evaluate"),
        sections=("seed", "data", "promote"),
        version=3,
        run=_lazily("pipeline.stages.promote", "run"),
        cached=False,
    ),
)

STAGE_NAMES = tuple(stage.name for stage in STAGES)
