"""Builds a model, batches and a learner from the configuration.

The range test, the search and the final training all use it, so that their results hold for each other. Nothing here
reads the test split.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from scipy.special import log_softmax
from timm.utils import ModelEmaV3
from torch import nn

from components.data.loader import Batch, ImageSet, eval_batch_size, eval_batches
from components.evaluation.objectives import Objective, objective_score
from components.models.backbones import BuiltModel, build_model
from components.models.forward import Preprocessing, turned
from components.models.heads import HeadStart, start_classifier
from components.models.losses import (
    build_loss,
    class_shares,
    class_weights,
    constant_predictor_loss,
    constant_predictor_spread,
    effective_number_weights,
)
from components.optim.layerwise import LayerRates
from components.optim.optimizers import build_optimizer
from components.optim.schedules import Schedule
from components.optim.stepper import Stepper
from components.training.engine import (
    EpochRecord,
    Learner,
    StepRecord,
    Watcher,
    predict,
    train_epochs,
)
from pipeline.compute.device import resolve_device
from pipeline.config import ComputeConfig
from pipeline.overriding import override
from pipeline.sections.recipe import Recipe
from pipeline.training.data import TrainingData, calibration_batches, steps_per_epoch, train_loader


def new_model(recipe: Recipe, data: TrainingData, *, seed: int) -> BuiltModel:
    return build_model(
        backbone=recipe.model.backbone,
        weights=recipe.model.weights,
        num_classes=len(data.classes),
        drop_rate=recipe.model.drop_rate,
        drop_path_rate=recipe.model.drop_path_rate,
        seed=seed,
    )


def preprocessing_for(built: BuiltModel, recipe: Recipe) -> Preprocessing:
    """The normalisation of the model's weights, and the recipe's image size."""
    return Preprocessing.from_unit_scale(built.mean, built.std, size=recipe.recipe.image_size)


def new_loss(recipe: Recipe, data: TrainingData) -> nn.Module:
    settings = recipe.recipe
    return build_loss(_weights(recipe, data), settings.label_smoothing, focal_gamma=settings.loss_gamma)


def loss_of_constant(recipe: Recipe, data: TrainingData) -> float:
    """The loss of the best constant prediction."""
    settings = recipe.recipe
    return constant_predictor_loss(
        data.target_sums.tolist(),
        _weights(recipe, data),
        settings.label_smoothing,
        focal_gamma=settings.loss_gamma,
    )


def spread_of_constant(recipe: Recipe, data: TrainingData) -> float:
    """The standard deviation of that loss between batches."""
    settings = recipe.recipe
    return constant_predictor_spread(
        data.target_sums.tolist(),
        _weights(recipe, data),
        settings.label_smoothing,
        focal_gamma=settings.loss_gamma,
        batch_size=settings.images_per_step,
        targets=data.split("train").targets,
    )


def resolved(recipe: Recipe, path: Path) -> Recipe:
    """The recipe as the range test had it, its batch size a number and its precision settled. path: of resolved.json"""
    return override(recipe, json.loads(path.read_text(encoding="utf-8"))["overrides"])


def new_learner(
    recipe: Recipe,
    data: TrainingData,
    *,
    total_epochs: int,
    seed: int,
    compute: ComputeConfig,
    head: HeadStart | None = None,
    schedule: Schedule | None = None,
) -> Learner:
    """A learner at epoch 0. `recipe.recipe.lr` must be a number, not `auto`.

    head: the start of the classifier; None for one near zero. schedule: None for the recipe's over `total_epochs`.
    """
    settings = recipe.recipe
    assert not isinstance(settings.lr, str)
    device = resolve_device(compute, settings.precision)
    built = new_model(recipe, data, seed=seed)
    if head is not None:
        start_classifier(built.model, recipe.model.backbone, head)
    model = built.model.to(device.target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    early, size = settings.grow_from, settings.image_size or data.split("train").side
    steps = steps_per_epoch(recipe, data) * total_epochs
    stepper = Stepper(
        model,
        build_optimizer(
            model,
            name=settings.optimizer,
            lr=settings.lr,
            weight_decay=settings.weight_decay,
            layers=LayerRates(
                layer_decay=settings.layer_decay,
                towards=settings.layer_decay_towards,
                head_ratio=settings.head_lr_ratio,
            ),
        ),
        schedule if schedule is not None else new_schedule(recipe, data, total_epochs=total_epochs),
        clip_grad_norm=settings.clip_grad_norm,
        freeze_steps=round(steps_per_epoch(recipe, data) * settings.freeze_epochs),
    )
    averaged = None
    if settings.ema_decay is not None:
        averaged = ModelEmaV3(model, decay=settings.ema_decay, use_warmup=True)
    return Learner(
        model=model,
        stepper=stepper,
        loss=new_loss(recipe, data).to(device.target),
        device=device,
        preprocessing=preprocessing_for(built, recipe),
        seed=seed,
        averaged=averaged,
        calibration=functools.partial(calibration_batches, recipe, data, seed),
        early=None
        if early is None or early >= size
        else Preprocessing.from_unit_scale(built.mean, built.std, size=early),
        early_steps=round(settings.grow_share * steps),
        eval_batch=eval_batch_size(data.split("train").side, trained=settings.images_per_step),
    )


def new_schedule(recipe: Recipe, data: TrainingData, *, total_epochs: int) -> Schedule:
    """The recipe's schedule over that many epochs; its warmup takes at most half of them."""
    settings = recipe.recipe
    steps = steps_per_epoch(recipe, data)
    return Schedule(
        name=settings.schedule_name,
        warmup_steps=min(round(steps * settings.warmup_epochs), steps * total_epochs // 2),
        total_steps=steps * total_epochs,
        **settings.model_dump(include={field.name for field in fields(Schedule)}),
    )


def run_epochs(
    learner: Learner,
    recipe: Recipe,
    data: TrainingData,
    *,
    until: int,
    workers: int,
    score_from: int = 1,
    on_steps: Callable[[Sequence[StepRecord]], None] = lambda records: None,
    on_scored: Callable[[nn.Module, np.ndarray], None] = lambda module, logits: None,
    watcher: Watcher | None = None,
    ends_at: float | None = None,
) -> Generator[EpochRecord, None, None]:
    """Train up to epoch `until`; after each epoch from `score_from` on, score the images that are held out, if any are.

    ends_at: when the last epoch has to end, by `time.time`; None: whenever. Each epoch has its share of the time that
    is left; where that is too short, the rest of its batches is left out, and the schedule goes on with the next epoch.
    The scores are `val_loss` and `val_score`. workers: processes that make the batches, for as long as this iterator.
    on_scored: gets the module with the scored weights, in eval mode, and the validation logits (N, K); the module has
    these weights only during the call.
    """
    val = data.split("val")

    def evaluate(model: nn.Module) -> Mapping[str, float]:
        logits = predict_split(model, val, learner) if len(val) else np.empty((0, len(data.classes)), np.float32)
        on_scored(model, logits)
        return scores_of(logits, val.labels, learner, recipe, data) if len(val) else {}

    with train_loader(recipe, data, seed=learner.seed, device=learner.device, workers=workers) as loader:

        def in_time(number: int) -> Iterator[Batch]:
            assert ends_at is not None
            share = (ends_at - time.time()) / (until - number)
            return _until(time.time() + share, loader.epoch(number), learner, steps_per_epoch(recipe, data))

        yield from train_epochs(
            learner,
            until=until,
            batches=loader.epoch if ends_at is None else in_time,
            evaluate=evaluate,
            evaluate_from=score_from,
            on_steps=on_steps,
            watcher=watcher,
        )


def _until(due: float, batches: Iterable[Batch], learner: Learner, count: int) -> Iterator[Batch]:
    """The batches of an epoch, the first at least, until the time is due; the others count as steps of the schedule."""
    for number, batch in enumerate(batches):
        if number and time.time() > due:
            learner.stepper.skipped += count - number
            return
        yield batch


def scores_of(
    logits: np.ndarray, labels: np.ndarray, learner: Learner, recipe: Recipe, data: TrainingData
) -> dict[str, float]:
    """`val_loss` and `val_score` of validation logits (N, K), both by the labels (N,)."""
    device = learner.device.target
    loss = learner.loss(torch.from_numpy(logits).to(device), torch.from_numpy(labels).to(device))
    return {"val_loss": float(loss), "val_score": validation_score(logits, labels, recipe, data)}


def predict_split(model: nn.Module, images: ImageSet, learner: Learner) -> np.ndarray:
    """Logits (N, K) of an image set, in its order."""
    return predict(
        model,
        eval_batches(images, batch_size=learner.eval_batch),
        device=learner.device,
        preprocessing=learner.preprocessing,
    )


def view_scores(model: nn.Module, images: ImageSet, learner: Learner, views: Sequence[int]) -> np.ndarray:
    """(V, N, K) float32 log-probabilities of an image set in several views (see `turned`)."""
    logits = [predict_split(_View(model, view) if view else model, images, learner) for view in views]
    return np.asarray(log_softmax(np.stack(logits), axis=2))


class _View(nn.Module):
    """A model that sees its images turned."""

    def __init__(self, model: nn.Module, view: int) -> None:
        super().__init__()
        self.model, self.view = model, view

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        seen = turned(images, self.view).contiguous(memory_format=torch.channels_last)
        logits: torch.Tensor = self.model(seen)
        return logits


def validation_score(logits: np.ndarray, labels: np.ndarray, recipe: Recipe, data: TrainingData) -> float:
    """The recipe's objective on the images that are held out, in [0, 1]; NaN when a logit is not finite."""
    return objective_score(
        recipe_objective(recipe),
        logits,
        labels,
        classes=data.classes,
        good_classes=data.good_classes,
    )


def recipe_objective(recipe: Recipe) -> Objective:
    settings = recipe.recipe
    return Objective(
        name=settings.objective,
        escape_budget=settings.escape_budget,
        escape_cost=settings.escape_cost,
        defect_rate=settings.defect_rate,
    )


def recipe_shares(recipe: Recipe, data: TrainingData) -> np.ndarray | None:
    """The share of each class in the weight of the loss, (K,); None where every image weighs the same."""
    if recipe.recipe.class_weights == "none":
        return None
    good = () if recipe.recipe.objective == "balanced_accuracy" else data.good_classes
    return class_shares(len(data.classes), [data.classes.index(name) for name in good])


def _weights(recipe: Recipe, data: TrainingData) -> torch.Tensor | None:
    settings, labels, shares = recipe.recipe, data.split("train").labels, recipe_shares(recipe, data)
    if settings.loss == "class_balanced":
        return effective_number_weights(labels, len(data.classes), settings.class_balanced_beta)
    return None if shares is None else class_weights(labels, shares)
