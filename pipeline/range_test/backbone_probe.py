"""The probe: ranks backbones by a linear classifier on their frozen features, within seconds.

Each backbone embeds a sample of the images with its pretrained weights. Clearly worse ones are dropped before any
training. Features are cached below `storage.root`, so that another choice of backbones only computes the new ones.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from components.data.file_index import file_sha256
from components.data.loader import ImageSet, eval_batch_size, eval_batches
from components.data.stratify import draw_by_class
from components.errors import InputError
from components.evaluation.linear_probe import choose_candidates, linear_probe
from components.evaluation.objective_intervals import objective_interval
from components.models.backbones import build_embedder
from components.training.engine import Device, predict
from components.whole_files import whole_file
from pipeline.compute.device import resolve_target
from pipeline.sections.learning_rate import RangeTestConfig
from pipeline.sections.recipe import Recipe
from pipeline.stage import StageContext, read_record
from pipeline.storage import FEATURES_FOLDER
from pipeline.training.build import TrainingData, for_selection, preprocessing_for, recipe_objective
from pipeline.training.tasks import Place, run_tasks

CONFIDENCE = 0.95
#: Number of validation images of the sample, relative to the training images.
VALIDATION_RATIO = 2
#: Smallest share of a class in the training sample, times the number of classes, if it has as many images.
RARE_SHARE = 0.25


@dataclass(frozen=True, kw_only=True)
class Features:
    """Features of the sample. train: (N, F), held_out: (M, F), float32. seconds: including the loading of the model."""

    train: np.ndarray
    held_out: np.ndarray
    seconds: float
    images_per_second: float


@dataclass(frozen=True, kw_only=True)
class ProbedBackbone:
    """A backbone's score, its interval (None if undefined), and whether it is kept, with the reason."""

    backbone: str
    score: float
    low: float | None
    high: float | None
    seconds: float
    images_per_second: float
    kept: bool = True
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """A backbone to probe, sent to a worker. known: its features from an earlier run."""

    recipe: Recipe
    settings: RangeTestConfig
    seed: int
    place: Place
    known: Features | None


def probe_backbones(
    context: StageContext,
    backbones: Sequence[str],
    configured: Recipe,
    settings: RangeTestConfig,
    place: Place,
    *,
    seed: int,
) -> list[ProbedBackbone]:
    """Each backbone's score on the validation split, in their order; on a cluster they run in parallel.

    Raises InputError where features are not finite.
    """
    files, probes = {}, []
    for backbone in backbones:
        recipe = configured.model_copy(update={"model": configured.model.model_copy(update={"backbone": backbone})})
        files[backbone] = _features_file(context, recipe, settings, seed)
        known = _read(files[backbone])
        probes.append(_Probe(recipe=recipe, settings=settings, seed=seed, place=place, known=known))
    found = {}
    with context.console.bar("probing backbones", len(probes)) as advance:
        for probe, (probed, features) in run_tasks(_run, probes, place):
            found[probed.backbone] = probed
            if probe.known is None:
                _keep(features, files[probed.backbone], context.storage)
            advance(1, note=f"{probed.backbone} {probed.score:.4f}")
    return [found[backbone] for backbone in backbones]


def keep_best(probed: Sequence[ProbedBackbone], *, keep: int, configured: str) -> list[ProbedBackbone]:
    """Mark the backbones that are kept, best first: see `choose_candidates`."""
    by_name = {one.backbone: one for one in probed}
    scores = {name: (one.score, one.low, one.high) for name, one in by_name.items()}
    chosen = choose_candidates(scores, keep=keep, always=configured)
    return [replace(by_name[name], kept=kept, reason=reason) for name, (kept, reason) in chosen.items()]


def _run(probe: _Probe) -> tuple[ProbedBackbone, Features]:
    """Embed the sample unless its features are cached; train the classifier on one part, score it on the other."""
    data, recipe = for_selection(probe.place.open()), probe.recipe
    sample = {name: _sample(data, name, probe) for name in ("train", "val")}
    features = probe.known or _embed(sample["train"][0], sample["val"][0], probe)
    started = time.perf_counter()
    (train, groups), (val, val_groups) = sample["train"], sample["val"]
    probabilities, _ = linear_probe(
        features.train,
        train.labels,
        groups,
        features.held_out,
        num_classes=len(data.classes),
        balanced=recipe.recipe.class_weights == "balanced",
        seed=probe.seed,
    )
    found = objective_interval(
        recipe_objective(recipe),
        np.log(np.maximum(probabilities, np.finfo(np.float64).tiny)),
        val.labels,
        data.classes,
        data.good_classes,
        val_groups,
        confidence=CONFIDENCE,
        samples=probe.settings.bootstrap_samples,
        seed=probe.seed,
    )
    assert found.value is not None  # every split has images of both kinds
    return ProbedBackbone(
        backbone=recipe.model.backbone,
        score=found.value,
        low=found.low,
        high=found.high,
        seconds=round(features.seconds + time.perf_counter() - started, 2),
        images_per_second=round(features.images_per_second, 1),
    ), features


def _sample(data: TrainingData, split: str, probe: _Probe) -> tuple[ImageSet, np.ndarray]:
    """Images of a split and their groups, stratified by class; for training, with more of rare classes."""
    images, groups = data.split(split), data.manifest.loc[data.manifest["split"] == split, "group"].to_numpy()
    size, in_training = probe.settings.probe_images, split == "train"
    rare = int(RARE_SHARE * size / len(data.classes)) if in_training else 0
    chosen = draw_by_class(
        images.labels, size=size if in_training else VALIDATION_RATIO * size, rare=rare, seed=probe.seed
    )
    return images.take(chosen), groups[chosen]


def _embed(train: ImageSet, held_out: ImageSet, probe: _Probe) -> Features:
    """Compute the features in float32, since a linear classifier is sensitive to small differences."""
    started = time.perf_counter()
    model = probe.recipe.model
    built = build_embedder(backbone=model.backbone, weights=model.weights, seed=probe.seed)
    device = Device(resolve_target(probe.place.compute))
    module = built.model.to(device.target, memory_format=torch.channels_last)  # type: ignore[call-overload]
    preprocessing = preprocessing_for(built, probe.recipe)
    batch_size = eval_batch_size(train.side, trained=probe.recipe.recipe.batch_size)
    ready = time.perf_counter()
    found = [
        predict(module, eval_batches(images, batch_size=batch_size), device=device, preprocessing=preprocessing)
        for images in (train, held_out)
    ]
    ended = time.perf_counter()
    if not all(np.isfinite(features).all() for features in found):
        raise InputError(
            f"model.weights={model.weights}: {model.backbone} with these weights gives features that are not finite; "
            "remove it from the backbones, or use other weights"
        )
    return Features(
        train=found[0],
        held_out=found[1],
        seconds=ended - started,
        images_per_second=(len(train) + len(held_out)) / (ended - ready),
    )


def _features_file(context: StageContext, recipe: Recipe, settings: RangeTestConfig, seed: int) -> Path:
    """The cache file, named by the prepared data and by all else that the features depend on."""
    weights = recipe.model.weights
    identity = {
        "format": 2,
        "backbone": recipe.model.backbone,
        "weights": file_sha256(Path(weights.removeprefix("file:"))) if weights.startswith("file:") else weights,
        "image_size": recipe.recipe.image_size,
        "images": settings.probe_images,
        "seed": seed,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    return context.storage / FEATURES_FOLDER / f"{context.inputs['prepare'].result_id}-{key}.npz"


def _read(path: Path) -> Features | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        return Features(
            train=kept["train"],
            held_out=kept["held_out"],
            seconds=float(kept["seconds"]),
            images_per_second=float(kept["images_per_second"]),
        )


def _keep(features: Features, path: Path, storage: Path) -> None:
    """Write the features; remove those of prepared data that do not exist any more."""
    path.parent.mkdir(exist_ok=True)
    with whole_file(path) as draft, draft.open("wb") as stream:
        np.savez(stream, **vars(features))
    records = [read_record(folder) for folder in (storage / "prepare").iterdir()]
    existing = {record.result_id for record in records if record is not None}
    for file in path.parent.glob("*.npz"):
        if file.name.partition("-")[0] not in existing:
            file.unlink(missing_ok=True)
