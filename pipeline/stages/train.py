"""train: the networks of the confirmed recipe at full length.

In the design cross_fit a network without each fold, which then scores it: all images that are not test teach. In the
design hold_out one network. Trainings of the confirmation are taken over.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from components.models.heads import read_heads
from pipeline.config import TrainConfig
from pipeline.data.sources import log_lineage
from pipeline.delivery.members import Trained, train_members, train_one
from pipeline.delivery.records import write_training
from pipeline.overriding import override
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stage import StageContext
from pipeline.training.confirmed import WHOLE, read_confirmed
from pipeline.training.data import TrainingData, network_folds, open_data
from pipeline.training.job import TrainingSpec, left_out, with_head


def run(
    context: StageContext,
    *,
    seed: int,
    budget: str | None,
    model: ModelConfig,
    recipe: RecipeConfig,
    train: TrainConfig,
    monitor: MonitorConfig,
) -> dict[str, Any]:
    """Train, and write the records of the trainings. budget: the context knows when it is over."""
    prepared = context.inputs["prepare"].directory
    log_lineage(context.run, prepared, used_for="training")
    confirmed = read_confirmed(context.input("confirm", "confirmation.json"))
    chosen = override(Recipe(model=model, recipe=recipe), confirmed.overrides)
    spec = TrainingSpec(recipe=chosen, seed=seed, epochs=train.epochs, patience=train.patience, monitor=monitor)
    with context.run.system_metrics():
        trained = _train(context, spec, confirmed.kept, open_data(prepared), train.networks)
    return write_training(context, trained, spec)


def _train(
    context: StageContext, spec: TrainingSpec, kept: Mapping[str, str], data: TrainingData, networks: int | None
) -> list[Trained]:
    """The network without each of these folds, or the one network of the design hold_out; none of 0 networks."""
    if networks == 0:
        return []
    heads = read_heads(context.inputs["embed"].directory)
    if not data.folds:
        return [train_one(context, WHOLE, with_head(spec, heads, data), kept)]
    specs = {f"fold-{fold}": with_head(left_out(spec, fold), heads, data) for fold in network_folds(data, networks)}
    return train_members(context, specs, kept, stage="train")
