"""What frozen backbones make of the images: computed once for each backbone and size, and kept for the next time.

The images of a candidate are embedded in parts: each is a task, so that a cluster works on several at a time, and the
progress shows. The cache lies below `storage.root` and goes by the content of the images.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import timm
import torch
from torch import nn

from components.data.file_index import file_sha256
from components.data.loader import ImageSet, eval_batch_size, eval_batches
from components.errors import InputError
from components.models.backbones import BuiltModel, build_embedder
from components.models.forward import Preprocessing, pooled_features, turned
from components.models.weights import packaged_weights
from components.training.engine import Device, predict
from components.whole_files import whole_file
from pipeline.compute.device import resolve_target
from pipeline.embedding.images import Chosen
from pipeline.sections.recipe import ModelConfig
from pipeline.stage import StageContext, read_record
from pipeline.storage import FEATURES_FOLDER
from pipeline.training.data import TrainingData
from pipeline.training.tasks import Place, run_tasks

#: Bumped when features mean something else.
FORMAT = 2
#: Images of a task.
PART = 512
#: Single images that are timed, of which the fastest counts, after some that are not: the first are slower.
TIMED, UNTIMED = 7, 2


@dataclass(frozen=True)
class Candidate:
    """A backbone, the side in px at which it sees the images, and the views of each whose features are averaged."""

    backbone: str
    image_size: int
    views: tuple[int, ...] = (0,)

    def __str__(self) -> str:
        views = f" in {len(self.views)} views" if len(self.views) > 1 else ""
        return f"{self.backbone} at {self.image_size} px{views}"


@dataclass(frozen=True, kw_only=True)
class Features:
    """values: (N, F) float32, of the chosen images in their order. pooled: how many of the F, the first ones, are what
    the backbone's own classifier would get. mean, std: the normalisation of the backbone's images, on the unit scale.

    seconds: of embedding, without the loading of models. serve_ms: milliseconds for a single image.
    """

    values: np.ndarray
    pooled: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seconds: float
    serve_ms: float

    @property
    def images_per_second(self) -> float:
        return len(self.values) / self.seconds


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Images for a worker. indices: (n,) rows of the pack."""

    candidate: Candidate
    weights: str
    seed: int
    place: Place
    start: int
    indices: np.ndarray


def embed_all(
    context: StageContext,
    candidates: Sequence[Candidate],
    data: TrainingData,
    chosen: Chosen,
    model: ModelConfig,
    place: Place,
    *,
    seed: int,
) -> Iterator[tuple[Candidate, Features]]:
    """The features of each candidate, in their order; one at a time, since those of all may not fit into memory.

    Raises InputError where features are not finite.
    """
    content = _content(data, chosen)
    for candidate in candidates:
        path = _cache_file(context, candidate, content, model.weights, seed)
        found = _read(path)
        if found is None:
            parts = [
                _Part(
                    candidate=candidate,
                    weights=model.weights,
                    seed=seed,
                    place=place,
                    start=start,
                    indices=chosen.images.indices[start : start + PART],
                )
                for start in range(0, len(chosen), PART)
            ]
            made: dict[int, Features] = {}
            with context.console.bar(f"embedding {candidate}", len(chosen)) as advance:
                for part, embedded in run_tasks(_embed, parts, place):
                    made[part.start] = embedded
                    advance(len(part.indices))
            found = _joined([made[part.start] for part in parts], candidate, model.weights)
            _keep(found, path, context.storage)
        yield candidate, found


def _embed(part: _Part) -> Features:
    """In float32, since a linear classifier is sensitive to small differences; serve_ms of the first part alone."""
    data, size = part.place.open(), part.candidate.image_size
    device = Device(resolve_target(part.place.compute))
    built, network = _loaded(part.candidate.backbone, part.weights, part.seed, str(device.target))
    pooling = _Pooling(network, part.candidate.views).eval()
    preprocessing = Preprocessing.from_unit_scale(built.mean, built.std, size=size)
    images = ImageSet(data.pack, part.indices, np.zeros(len(part.indices), dtype=np.int64))
    serve_ms = math.nan
    if part.start == 0:  # before the clock is set: the first images are slower
        serve_ms = _time_single(pooling, images, device, preprocessing)
    batches = eval_batches(images, batch_size=eval_batch_size(images.side, trained=1))
    started = time.perf_counter()
    values = predict(pooling, batches, device=device, preprocessing=preprocessing)
    seconds = time.perf_counter() - started
    return Features(
        values=values,
        pooled=pooling.width(size, device.target),
        mean=built.mean,
        std=built.std,
        seconds=seconds,
        serve_ms=serve_ms,
    )


class _Pooling(nn.Module):
    """A backbone whose output are its pooled features, averaged over views: of a linear classifier on them the
    log-odds are the mean of those of the views, as a model that is served averages them."""

    def __init__(self, network: nn.Module, views: tuple[int, ...]) -> None:
        super().__init__()
        self.network, self.views = network, views

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        total = pooled_features(self.network, images)  # the first view is the image as it is
        for view in self.views[1:]:
            seen = turned(images, view).contiguous(memory_format=torch.channels_last)
            total = total + pooled_features(self.network, seen)
        return total / len(self.views)

    def width(self, size: int, target: torch.device) -> int:
        """How many features the backbone's own classifier would get."""
        with torch.inference_mode():
            return int(self.network(torch.zeros(1, 3, size, size, device=target)).shape[1])


@functools.lru_cache(maxsize=1)
def _loaded(backbone: str, weights: str, seed: int, target: str) -> tuple[BuiltModel, nn.Module]:
    """The backbone on the device in eval mode; kept for the next part in this process."""
    built = build_embedder(backbone=backbone, weights=weights, seed=seed)
    network = built.model.to(torch.device(target), memory_format=torch.channels_last)  # type: ignore[call-overload]
    return built, network.eval()


def _time_single(pooling: nn.Module, images: ImageSet, device: Device, preprocessing: Preprocessing) -> float:
    """Milliseconds from the pixels of an image to its features, the least of a few: other processes only slow it."""
    one = images.take(np.zeros(1, dtype=np.int64))
    seconds = []
    for _ in range(UNTIMED + TIMED):
        batches = list(eval_batches(one, batch_size=1))
        started = time.perf_counter()
        predict(pooling, batches, device=device, preprocessing=preprocessing)  # which copies back, and so waits
        seconds.append(time.perf_counter() - started)
    return 1000 * min(seconds[UNTIMED:])


def _joined(parts: Sequence[Features], candidate: Candidate, weights: str) -> Features:
    values = np.concatenate([part.values for part in parts])
    if not np.isfinite(values).all():
        raise InputError(
            f"model.weights={weights}: {candidate.backbone} with these weights gives features that are not finite; "
            "remove it from the backbones, or use other weights"
        )
    return replace(parts[0], values=values, seconds=sum(part.seconds for part in parts))


def _content(data: TrainingData, chosen: Chosen) -> str:
    """Digest of the pixels: the files that they come from, the part of each, and how it becomes a square."""
    rows = data.manifest.iloc[chosen.rows]
    boxes = [name[len(path) :] for name, path in zip(rows["image_id"], rows["path"], strict=True)]
    identity = [asdict(data.pack.framing), rows["sha256"].tolist(), boxes]
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _cache_file(context: StageContext, candidate: Candidate, content: str, weights: str, seed: int) -> Path:
    """Named by the prepared data, with which it goes, and by what the features depend on.

    Features of the same images for earlier prepared data are taken over.
    """
    identity = {
        "format": FORMAT,
        "timm": timm.__version__,
        "images": content,
        **asdict(candidate),
        "weights": _weights(candidate.backbone, weights),
        "seed": seed if weights == "none" else None,
    }
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    folder = context.storage / FEATURES_FOLDER
    path = folder / f"{context.inputs['prepare'].result_id}-{key}.npz"
    earlier = next(folder.glob(f"*-{key}.npz"), path)
    if earlier != path and not path.exists():
        earlier.rename(path)
    return path


def _weights(backbone: str, weights: str) -> str:
    """The digest of the file that holds the weights; their name where timm's version says which they are."""
    if weights == "package":
        return file_sha256(packaged_weights(backbone).file())
    if weights.startswith("file:"):
        return file_sha256(Path(os.path.expanduser(weights.removeprefix("file:"))))  # noqa: PTH111
    return weights


def _read(path: Path) -> Features | None:
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        return Features(
            values=kept["values"],
            pooled=int(kept["pooled"]),
            mean=tuple(kept["mean"].tolist()),
            std=tuple(kept["std"].tolist()),
            seconds=float(kept["seconds"]),
            serve_ms=float(kept["serve_ms"]),
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
