"""`generated:…`: made-up images of metal surfaces with scratches, pits, stains and cracks, for trials and tests.

Parts come from lots (texture, grain and finish) and are seen several times by cameras of different brightness, gain
and sharpness, so that the set has the groups, the metadata and the masks of a real one. Neither the mean nor the
spread of an image's grey levels, nor its sharpness, tells much about whether it is defective.
"""

import csv
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd

from components.data.files import Files
from components.data.sources.drawing import DEFECTS, draw_lots
from components.data.sources.listing import Listing, SourceOptions, make_listing, refuse_table_options
from components.data.sources.photographs import FORMATS, GOOD, SHORTCUTS, Part, Row, Studio, photograph_parts
from components.errors import InputError

_T = TypeVar("_T", int, float)

_VERSION = 2  # raise it when the same parameters draw other pictures
_PARTS_A_LOT, _LOTS = 12, (4, 32)


@dataclass(frozen=True, kw_only=True)
class _Parameters:
    count: int
    size: int
    defect_rate: float
    parts: int
    shown: float
    strength: float
    seed: int
    shortcut: str
    format: str


def list_generated(place: str, options: SourceOptions) -> Listing:
    """Draw the images into the cache folder, once per set of parameters, and list them.

    place: comma-separated name=value: count (images), size (pixels a side), defect_rate (share of the parts),
    parts (a third of the count unless given; two to four images each, and of fewer parts equally many), shown (share of
    a defective part's images that show its defect, at least one; 1 unless given), strength (how far defects stand out;
    1 unless given), seed; format (png, or jpeg of quality 92); shortcut (format, brightness or size: nine in ten
    defective images are of the other format, brighter or larger). The label is "good" or the defect that the image
    shows; the group is the part; the metadata are camera and lot; a defective image has a mask.

    Raises InputError: an unknown name, a value out of range.
    """
    refuse_table_options(f"generated:{place}", options, group="group", metadata=("camera", "lot"), confidence=None)
    parameters = _parse(place)
    root = _cached(parameters, options.cache_dir)
    table = pd.read_csv(root / "labels.csv", dtype=str, keep_default_na=False)
    return make_listing(
        Files(str(root)),
        {
            **{name: table[name].tolist() for name in ("path", "label", "group")},
            "mask": [mask or None for mask in table["mask"]],
            **{f"meta_{name}": table[name].tolist() for name in ("camera", "lot")},
        },
        description=_describe(parameters),
    )


def _parse(place: str) -> _Parameters:
    defaults: dict[str, str] = {"count": "240", "size": "48", "defect_rate": "0.4", "parts": "", "shown": "1"}
    defaults |= {"strength": "1", "seed": "0", "shortcut": "none", "format": "png"}
    given = dict(defaults)
    for item in filter(None, (item.strip() for item in place.split(","))):
        name, equals, value = (text.strip() for text in item.partition("="))
        if name not in defaults or not equals:
            raise InputError(
                f"data.source: generated does not know {item!r}; write name=value with: {', '.join(defaults)}"
            )
        given[name] = value
    parameters = _Parameters(
        count=_number(int, "count", given["count"], low=2, high=1_000_000),
        size=_number(int, "size", given["size"], low=16, high=4096),
        defect_rate=_number(float, "defect_rate", given["defect_rate"], low=0.0, high=1.0),
        parts=0,
        shown=_number(float, "shown", given["shown"], low=0.0, high=1.0),
        strength=_number(float, "strength", given["strength"], low=0.0, high=10.0),
        seed=_number(int, "seed", given["seed"], low=0, high=2**32 - 1),
        shortcut=_choice("shortcut", given["shortcut"], SHORTCUTS),
        format=_choice("format", given["format"], FORMATS),
    )
    # More would leave parts with one image.
    parts = given["parts"] or str(max(-(-parameters.count // 4), parameters.count // 3))
    return replace(parameters, parts=_number(int, "parts", parts, low=1, high=parameters.count // 2))


def _number(kind: Callable[[str], _T], name: str, text: str, *, low: _T, high: _T) -> _T:
    rule = f"data.source: generated:{name}={text!r} has to be {kind.__name__} from {low} to {high}"
    try:
        value = kind(text)
    except ValueError as error:
        raise InputError(rule) from error
    if not low <= value <= high:
        raise InputError(rule)
    return value


def _choice(name: str, text: str, known: Sequence[str]) -> str:
    if text not in known:
        raise InputError(f"data.source: generated:{name}={text!r} has to be one of: {', '.join(known)}")
    return text


def _describe(parameters: _Parameters) -> str:
    text = (
        f"generated: {parameters.count} images of {parameters.parts} parts, {parameters.size} px, "
        f"defect rate {parameters.defect_rate:g}, seed {parameters.seed}"
    )
    if parameters.shown != 1.0:
        text += f", shown on {parameters.shown:.0%} of a defective part's images"
    if parameters.strength != 1.0:
        text += f", defects of strength {parameters.strength:g}"
    if parameters.format != "png":
        text += f", {parameters.format}"
    if parameters.shortcut != "none":
        text += f"; planted: a shortcut by {parameters.shortcut}"
    return text


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
    generator = np.random.default_rng([parameters.seed, 0])
    parts = _plan_parts(parameters, generator)
    studio = Studio(
        folder=folder,
        size=parameters.size,
        seed=parameters.seed,
        strength=parameters.strength,
        format=parameters.format,
        shortcut=parameters.shortcut,
    )
    rows = photograph_parts(studio, parts)
    with (folder / "labels.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(Row._fields)
        writer.writerows(rows)


def _plan_parts(parameters: _Parameters, generator: np.random.Generator) -> list[Part]:
    """Lots follow one another, as in production; the defects lie anywhere."""
    count, kinds = parameters.parts, list(DEFECTS)
    defective = round(parameters.defect_rate * count)
    labels = [kinds[number % len(kinds)] if number < defective else GOOD for number in range(count)]
    labels = [labels[position] for position in generator.permutation(count)]
    # Two to four images of each, all photographs together; where that is too few, the same number or one more.
    fewest, extra = (2, 2) if parameters.count <= 4 * count else (parameters.count // count, 1)
    views = np.full(count, fewest)
    more = parameters.count - fewest * count
    np.add.at(views, generator.choice(np.repeat(np.arange(count), extra), size=more, replace=False), 1)
    shown = [
        number if label == GOOD else max(1, round(parameters.shown * number))
        for number, label in zip(views.tolist(), labels, strict=True)
    ]
    firsts = np.cumsum(views) - views
    lots = draw_lots(int(np.clip(parameters.parts // _PARTS_A_LOT, *_LOTS)), generator)
    return [
        Part(
            number=number,
            label=labels[number],
            lot=lots[number * len(lots) // parameters.parts],
            first=int(firsts[number]),
            views=int(views[number]),
            shown=shown[number],
        )
        for number in range(parameters.parts)
    ]
