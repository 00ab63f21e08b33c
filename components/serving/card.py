"""The model card: `model.json` of a bundle, what a trained model is made of and how it decides.

Cards of earlier versions can be read, since a champion may have one.
"""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from components.data.framing import Framing
from components.display import counted
from components.errors import InputError
from components.models.forward import AUTOCAST, KINDS

FORMAT_VERSION = 6
CARD_FILE = "model.json"
VIEWS = 8


@dataclass(frozen=True, kw_only=True)
class Member:
    """One of the models that are averaged: see `Ensemble` in `components/models/forward.py`.

    kind: `network`, or `frozen`: a linear classifier on pooled features of a backbone that was not trained further.
    input_size: side of the square that it sees, px: a framed one is resized to it, after normalisation.
    mean, std: per channel RGB, of pixels in [0, 1].
    weight: of its log-probabilities in the sum over the members.
    views: the symmetries of the square over which it averages, 0 (the image as it is) first.
    """

    kind: str
    backbone: str
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    weight: float
    views: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The content of `model.json`.

    classes: in the order of the logits.
    good_classes: a subset of the classes; empty for a problem of defect types only.
    framing: the fields of `components.data.framing.Framing`: what of an image becomes a square, and of which size.
    members: in the order of the weights.
    precision: in which the networks compute wherever they are served, as they did when the model was calibrated: see
        `components/models/forward.py`.
    calibration: `scale` and `bias` on the log-odds of the defect classes.
    operating_point: at least `threshold_log_odds` (reject when the calibrated log-odds >= it); None only where there
        are no good classes.
    provenance: commit, versions, fingerprints, manifest digest, run id; free, JSON-ready.

    Raises ValueError: the fields contradict each other.
    """

    name: str
    num_classes: int
    classes: tuple[str, ...]
    good_classes: tuple[str, ...]
    framing: Mapping[str, Any]
    members: tuple[Member, ...]
    precision: str
    calibration: Mapping[str, float]
    operating_point: Mapping[str, Any] | None
    provenance: Mapping[str, Any]

    def __post_init__(self) -> None:
        faults = _card_faults(self)
        if faults:
            raise ValueError(f"a contradictory model card: {'; '.join(faults)}")

    def to_json(self) -> str:
        """Text with one key a line, byte-identical for equal cards."""
        return json.dumps({"format_version": FORMAT_VERSION, **asdict(self)}, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Read what `to_json` wrote.

        Raises InputError: not JSON, another format version, a missing key, or contradictory fields.
        """
        content = _parse_card(text)
        try:
            for key in ("classes", "good_classes"):
                content[key] = tuple(content[key])
            content["members"] = tuple(_member(entry) for entry in content["members"])
            content["framing"] = asdict(Framing.from_dict(content["framing"]))
            return cls(**content)
        except (ValueError, TypeError, AttributeError) as error:  # the last two: a value of another kind
            raise InputError(f"{CARD_FILE}: {error}; export the model again") from error

    @property
    def summary(self) -> str:
        """The members in words: "3 networks (resnet18 at 128 px, 8 views) and 1 frozen classifier (…)"."""
        nouns = {"network": "network", "frozen": "frozen classifier"}
        alike = Counter((one.kind, one.backbone, one.input_size, len(one.views)) for one in self.members)
        *others, last = (
            f"{counted(count, nouns[kind])} ({backbone} at {size} px, {counted(views, 'view')})"
            for (kind, backbone, size, views), count in alike.items()
        )
        return f"{', '.join(others)} and {last}" if others else last


def _member(entry: Mapping[str, Any]) -> Member:
    """Raises ValueError, TypeError or AttributeError: a key is missing, or a value is of another kind."""
    names = [field.name for field in fields(Member)]
    missing = [name for name in names if name not in entry]
    if missing:
        raise ValueError(f"a member lacks {', '.join(missing)}")
    content = {name: entry[name] for name in names}
    return Member(**content | {name: tuple(content[name]) for name in ("mean", "std", "views")})


def _card_faults(card: ModelCard) -> list[str]:
    """Messages on contradictory fields."""
    framing = Framing.from_dict(card.framing)
    threshold = None if card.operating_point is None else card.operating_point.get("threshold_log_odds")
    weights = [member.weight for member in card.members]
    rules = {
        f"num_classes={card.num_classes} for {len(card.classes)} classes": card.num_classes == len(card.classes),
        "classes repeat": len(set(card.classes)) == len(card.classes),
        f"good_classes {sorted(set(card.good_classes) - set(card.classes))} are not classes": (
            set(card.good_classes) <= set(card.classes)
        ),
        "no defect class": not set(card.classes) <= set(card.good_classes),
        "an image of tiles has the answer of its worst tile, which needs good classes": (
            framing.tile_size is None or bool(card.good_classes)
        ),
        "there is no member": bool(card.members),
        f"the weights of the members are {weights}, and one has to be above 0": (
            not card.members or not all(map(_is_number, weights)) or max(weights) > 0
        ),
        f"precision={card.precision!r} is none of {', '.join(AUTOCAST)}": card.precision in AUTOCAST,
        "calibration needs finite scale and bias": all(
            _is_number(card.calibration.get(key)) for key in ("scale", "bias")
        ),
        "good classes need an operating point with a finite threshold_log_odds, defect types alone have none": (
            _is_number(threshold) if card.good_classes else card.operating_point is None
        ),
    }
    faults = [fault for fault, holds in rules.items() if not holds]
    return faults + [
        f"member {number}: {fault}"
        for number, member in enumerate(card.members)
        for fault in _member_faults(member, framing.size)
    ]


def _member_faults(member: Member, framed: int) -> list[str]:
    """framed: side of the squares, px."""
    views = member.views
    rules = {
        f"kind={member.kind!r} is none of {', '.join(KINDS)}": member.kind in KINDS,
        f"backbone={member.backbone!r} is no name": isinstance(member.backbone, str) and bool(member.backbone),
        f"input_size={member.input_size!r} for squares of {framed} px": (
            type(member.input_size) is int and 0 < member.input_size <= framed
        ),
        "mean and std need three finite channels": (
            len(member.mean) == len(member.std) == 3 and all(map(_is_number, (*member.mean, *member.std)))
        ),
        "std must be positive": not any(value <= 0 for value in member.std),
        f"weight={member.weight!r} is no finite number from 0": _is_number(member.weight) and member.weight >= 0,
        f"views={views!r} are not different numbers from 0 to {VIEWS - 1} with 0 first": (
            all(type(view) is int and 0 <= view < VIEWS for view in views)
            and views[:1] == (0,)
            and len(set(views)) == len(views)
        ),
    }
    return [fault for fault, holds in rules.items() if not holds]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _parse_card(text: str) -> dict[str, Any]:
    """All keys of the card; unknown ones are dropped.

    The first five versions have one network, which sees the image as it is. In the first two its input has the size of
    the framed square; the first three have their threshold as a score only; the first four are served in float32.
    """
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{CARD_FILE} is not JSON ({error}); export the model again") from error
    version = content.get("format_version") if isinstance(content, dict) else None
    if version == 1 and "image_size" in content:
        size = content["input_size"] = content["image_size"]
        content["framing"] = {"size": size, "region": None, "fit": "squash", "tile_size": None, "tile_overlap": 0.0}
    elif version == 2 and isinstance(content.get("framing"), dict):
        content["input_size"] = content["framing"].get("size")
    elif version not in (3, 4, 5, FORMAT_VERSION):
        raise InputError(
            f"{CARD_FILE}: format_version={version!r}, and this code reads {FORMAT_VERSION}; "
            "use the release that wrote the model, or export it again"
        )
    if version < 5:
        content["precision"] = "float32"
    if version < 6:
        network = {key: content[key] for key in ("backbone", "input_size", "mean", "std") if key in content}
        content["members"] = [{"kind": "network", **network, "weight": 1.0, "views": [0]}]
    point = content.get("operating_point")
    if version < 4 and isinstance(point, dict) and _is_number(point.get("threshold")):
        score = min(max(point["threshold"], sys.float_info.min), 1 - sys.float_info.epsilon)
        content["operating_point"] = {**point, "threshold_log_odds": math.log(score) - math.log1p(-score)}
    names = [field.name for field in fields(ModelCard)]
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(f"{CARD_FILE} lacks {', '.join(missing)}; export the model again")
    return {name: content[name] for name in names}
