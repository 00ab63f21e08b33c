"""`generated:…`: made-up images of brushed metal with scratches, pits and stains, for trials and tests.

Parts come from lots (grain and finish) and are seen two to four times by cameras of different brightness, so
that the set has the groups and the metadata of a real one. A defect hardly moves the mean brightness.
"""

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from components.data.listing import Listing, SourceOptions, make_listing, refuse_table_options
from components.errors import InputError

_T = TypeVar("_T", int, float)

_VERSION = 1  # raise it when the same parameters draw other pictures
_CAMERAS = {"camera_a": 112.0, "camera_b": 125.0, "camera_c": 138.0}  # mean grey level
_LOTS = 6
_COLUMNS = ("path", "label", "group", "camera", "lot")


@dataclass(frozen=True, kw_only=True)
class _Parameters:
    count: int
    size: int
    defect_rate: float
    parts: int
    seed: int


def list_generated(place: str, options: SourceOptions) -> Listing:
    """Draw the images into the cache folder, once per set of parameters, and list them.

    place: comma-separated name=value: count (images), size (pixels a side), defect_rate (share of the parts),
    parts (a third of the count unless given; two to four images each), seed. The label is "good" or the
    part's defect; the group is the part; the metadata are camera and lot.

    Raises InputError: an unknown name, a value out of range.
    """
    refuse_table_options(f"generated:{place}", options, group="group", metadata=("camera", "lot"))
    parameters = _parse(place)
    root = _cached(parameters, options.cache_dir)
    with (root / "labels.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return make_listing(
        root,
        path=[row["path"] for row in rows],
        label=[row["label"] for row in rows],
        group=[row["group"] for row in rows],
        split=None,
        metadata={name: [row[name] for row in rows] for name in ("camera", "lot")},
        description=(
            f"generated: {parameters.count} images of {parameters.parts} parts, {parameters.size} px, "
            f"defect rate {parameters.defect_rate:g}, seed {parameters.seed}"
        ),
    )


def _parse(place: str) -> _Parameters:
    defaults: dict[str, str] = {"count": "240", "size": "48", "defect_rate": "0.4", "parts": "", "seed": "0"}
    given = dict(defaults)
    for item in filter(None, (item.strip() for item in place.split(","))):
        name, equals, value = (text.strip() for text in item.partition("="))
        if name not in defaults or not equals:
            raise InputError(
                f"data.source: generated does not know {item!r}; write name=value with: {', '.join(defaults)}"
            )
        given[name] = value
    count = _number(int, "count", given["count"], low=2, high=1_000_000)
    parts = given["parts"] or str(max(1, count // 3))
    return _Parameters(
        count=count,
        size=_number(int, "size", given["size"], low=16, high=1024),
        defect_rate=_number(float, "defect_rate", given["defect_rate"], low=0.0, high=1.0),
        # Fewer would leave parts with more than four images, more would leave parts with one.
        parts=_number(int, "parts", parts, low=-(-count // 4), high=count // 2),
        seed=_number(int, "seed", given["seed"], low=0, high=2**32 - 1),
    )


def _number(kind: Callable[[str], _T], name: str, text: str, *, low: _T, high: _T) -> _T:
    rule = f"data.source: generated:{name}={text!r} has to be {kind.__name__} from {low} to {high}"
    try:
        value = kind(text)
    except ValueError as error:
        raise InputError(rule) from error
    if not low <= value <= high:
        raise InputError(rule)
    return value


def _cached(parameters: _Parameters, cache_dir: Path) -> Path:
    """The folder of these images; drawn beside it and moved into place whole, so it is there or it is not."""
    key = json.dumps({"version": _VERSION, **asdict(parameters)}, sort_keys=True)
    target = cache_dir / f"generated-{hashlib.sha256(key.encode()).hexdigest()[:16]}"
    if not target.is_dir():
        cache_dir.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".generated-", dir=cache_dir))
        try:
            _draw_all(parameters, draft)
            draft.chmod(0o755)  # mkdtemp's 0700 would shut out other users of a shared cache
            try:
                os.rename(draft, target)  # noqa: PTH104  fails on an existing folder, as it has to
            except OSError:
                if not target.is_dir():  # else another process was first, with the same pictures
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return target.resolve()


def _draw_all(parameters: _Parameters, folder: Path) -> None:
    (folder / "images").mkdir()
    generator = np.random.default_rng([parameters.seed, 0])
    labels = _part_labels(parameters, generator)
    views = _views_per_part(parameters, generator)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        for part, (label, count) in enumerate(zip(labels, views, strict=True)):
            part_generator = np.random.default_rng([parameters.seed, 1, part])
            lot = int(part_generator.integers(_LOTS))
            surface = _surface(parameters.size, label, lot, part_generator)
            for view in range(count):
                camera = str(part_generator.choice(list(_CAMERAS)))
                pixels = _photograph(surface, parameters.size, _CAMERAS[camera], part_generator)
                path = f"images/part{part:05d}_{view + 1}.png"
                Image.fromarray(pixels).save(folder / path)
                writer.writerow((path, label, f"part{part:05d}", camera, f"lot{lot}"))


def _part_labels(parameters: _Parameters, generator: np.random.Generator) -> list[str]:
    kinds = list(_DEFECTS)
    defective = round(parameters.defect_rate * parameters.parts)
    labels = [kinds[number % len(kinds)] for number in range(defective)]
    labels += ["good"] * (parameters.parts - defective)
    return [labels[position] for position in generator.permutation(parameters.parts)]


def _views_per_part(parameters: _Parameters, generator: np.random.Generator) -> list[int]:
    """Two to four each, `count` in all."""
    views = np.full(parameters.parts, 2)
    slots = np.repeat(np.arange(parameters.parts), 2)
    extra = generator.choice(slots, size=parameters.count - 2 * parameters.parts, replace=False)
    np.add.at(views, extra, 1)
    return [int(count) for count in views]


def _surface(size: int, label: str, lot: int, generator: np.random.Generator) -> np.ndarray:
    """(1.25 size)² float, mean 0: the part's texture and its defect, somewhat wider than any view of it."""
    side = round(1.25 * size)
    surface = _grain(side, angle=np.pi * lot / _LOTS, length=4.0 + 2.0 * (lot % 3), generator=generator)
    if label != "good":
        y, x = np.mgrid[:side, :side] / size
        # Inside every possible view: views are shifted by at most a quarter of the size.
        row, column = generator.uniform(0.42, 0.83, size=2)
        sign = generator.choice([-1.0, 1.0])
        surface = surface + sign * _DEFECTS[label](y - row, x - column, generator)
    return surface


def _grain(side: int, *, angle: float, length: float, generator: np.random.Generator) -> np.ndarray:
    """White noise, blurred along one direction in the frequency domain (so it wraps around at the edges)."""
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side), indexing="ij")
    along = fx * np.cos(angle) + fy * np.sin(angle)
    across = -fx * np.sin(angle) + fy * np.cos(angle)
    blur = np.exp(-2.0 * np.pi**2 * ((along * length) ** 2 + (across * 0.6) ** 2))
    grain = np.real(np.fft.ifft2(np.fft.fft2(generator.normal(size=(side, side))) * blur))
    return 5.0 * (grain - grain.mean()) / grain.std()


def _scratch(y: np.ndarray, x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    angle = generator.uniform(0.0, np.pi)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = -x * np.sin(angle) + y * np.cos(angle) + generator.uniform(-0.5, 0.5) * along**2
    half_length = generator.uniform(0.2, 0.35)
    depth = generator.uniform(65.0, 90.0)
    return depth * np.exp(-((across / 0.028) ** 2)) * (np.abs(along) < half_length)


def _pit(y: np.ndarray, x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    radius = generator.uniform(0.055, 0.085)
    distance = np.hypot(y, x) / radius
    rim = np.exp(-(((distance - 1.6) / 0.4) ** 2)) * (x + y > 0)  # the far wall catches the light
    return generator.uniform(70.0, 95.0) * (np.exp(-(distance**4)) - 0.6 * rim)


def _stain(y: np.ndarray, x: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    direction = np.arctan2(y, x)
    waves = sum(generator.uniform(0.05, 0.15) * np.cos(k * direction + generator.uniform(0, 6)) for k in (2, 3))
    radius = generator.uniform(0.14, 0.21) * (1.0 + waves)
    return generator.uniform(40.0, 55.0) / (1.0 + np.exp((np.hypot(y, x) - radius) / 0.015))


_DEFECTS: dict[str, Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]] = {
    "scratch": _scratch,
    "pit": _pit,
    "stain": _stain,
}


def _photograph(surface: np.ndarray, size: int, brightness: float, generator: np.random.Generator) -> np.ndarray:
    """(size, size) uint8: one shifted view under uneven light, with sensor noise."""
    row, column = generator.integers(0, surface.shape[0] - size + 1, size=2)
    view = surface[row : row + size, column : column + size]
    y, x = np.mgrid[:size, :size] / size - 0.5
    slope = generator.uniform(-12.0, 12.0, size=2)
    light = brightness + generator.normal(0.0, 8.0) + slope[0] * y + slope[1] * x
    return np.clip(light + view + generator.normal(0.0, 2.0, size=view.shape), 0, 255).round().astype(np.uint8)
