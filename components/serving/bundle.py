"""The bundle: the folder with everything that a trained model needs outside of this project.

A bundle holds plain data and source files, nothing pickled::

    weights.safetensors   the state dict of the timm model
    model.json            the model card: architecture, classes, preprocessing, precision, calibration, operating point
    decode.py             a verbatim copy of the project's own: the file to pixels
    framing.py            likewise: the pixels to squares
    forward.py            likewise: the squares to logits
    decision.py           likewise: the logits to decisions
    seen_images.txt       16-hex sha256 prefixes of the images the model was fitted or calibrated on

`pyfunc.py` reads such a folder without importing this project.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from components.data.framing import Framing
from components.errors import InputError
from components.models.forward import AUTOCAST

FORMAT_VERSION = 5
SEEN_PREFIX_LENGTH = 16

CARD_FILE = "model.json"
WEIGHTS_FILE = "weights.safetensors"
SEEN_FILE = "seen_images.txt"

SOURCES = tuple(
    Path(__file__).resolve().parents[1] / name
    for name in ("data/decode.py", "data/framing.py", "models/forward.py", "evaluation/decision.py")
)
"""Copied into every bundle."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """The content of `model.json`.

    classes: in the order of the logits.
    good_classes: a subset of the classes; empty for a problem of defect types only.
    framing: the fields of `components.data.framing.Framing`: what of an image becomes a square, and of which size.
    input_size: side of the square that the network sees, px: a framed one is resized to it, after normalisation.
    mean, std: per channel RGB, of pixels in [0, 1].
    precision: in which the model computes wherever it is served, as it did when it was calibrated: see
        `components/models/forward.py`.
    calibration: `scale` and `bias` on the log-odds of the defect classes.
    operating_point: at least `threshold_log_odds` (reject when the calibrated log-odds >= it); None only where there
        are no good classes.
    provenance: commit, versions, fingerprints, manifest digest, run id; free, JSON-ready.

    Raises ValueError: the fields contradict each other.
    """

    name: str
    backbone: str
    num_classes: int
    classes: tuple[str, ...]
    good_classes: tuple[str, ...]
    framing: Mapping[str, Any]
    input_size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
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
            for key in ("classes", "good_classes", "mean", "std"):
                content[key] = tuple(content[key])
            content["framing"] = asdict(Framing.from_dict(content["framing"]))
            return cls(**content)
        except (ValueError, TypeError, AttributeError) as error:  # the last two: a value of another kind
            raise InputError(f"{CARD_FILE}: {error}; export the model again") from error


def save_bundle(
    directory: Path, *, state_dict: Mapping[str, torch.Tensor], card: ModelCard, seen_images: Sequence[str]
) -> Path:
    """Write the bundle to `directory`; an existing one is replaced.

    state_dict: of the bare timm model; any device, any memory format. seen_images: sha256 hex digests or 16-hex
    prefixes of them, any order, repeats allowed.

    Raises ValueError: a seen image is not a sha256 digest.
    """
    lines = _seen_prefixes(seen_images)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    # safetensors refuses channels-last and shared storage: each tensor gets a contiguous one of its own.
    weights = {
        key: torch.clone(value.detach().cpu(), memory_format=torch.contiguous_format)
        for key, value in state_dict.items()
    }
    save_file(weights, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    for source in SOURCES:
        shutil.copyfile(source, directory / source.name)
    (directory / SEEN_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (directory / CARD_FILE).write_text(card.to_json(), encoding="utf-8")  # last: by it a bundle is known
    return directory


def load_bundle(directory: Path) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    """Card and state dict, on the CPU, of a bundle or of an exported model that holds one.

    Raises InputError: no bundle there, or one that cannot be read.
    """
    bundle = find_bundle(directory)
    card = ModelCard.from_json((bundle / CARD_FILE).read_text(encoding="utf-8"))
    try:
        return card, load_file(bundle / WEIGHTS_FILE, device="cpu")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{bundle / WEIGHTS_FILE} cannot be read ({error}); export the model again") from error


def read_seen_images(directory: Path) -> frozenset[str]:
    """16-hex sha256 prefixes of the images that the bundled model was fitted or calibrated on.

    Raises InputError: no bundle there, or one without the list.
    """
    path = find_bundle(directory) / SEEN_FILE
    if not path.is_file():
        raise InputError(f"{path} is missing: it lists the images that the model has seen; export the model again")
    return frozenset(path.read_text(encoding="utf-8").split())


def find_bundle(directory: Path) -> Path:
    """The bundle at `directory`, or inside it where `directory` is an MLflow model.

    Raises InputError: there is none, or more than one.
    """
    found = [
        path.parent for path in (directory / CARD_FILE, *directory.glob(f"artifacts/*/{CARD_FILE}")) if path.is_file()
    ]
    if len(found) != 1:
        raise InputError(
            f"{directory} holds {len(found)} model bundles ({CARD_FILE}, or artifacts/*/{CARD_FILE}); "
            "exactly one is needed: give the folder of an exported model"
        )
    return found[0]


def _card_faults(card: ModelCard) -> list[str]:
    """Messages on contradictory fields."""
    framing = Framing.from_dict(card.framing)
    threshold = None if card.operating_point is None else card.operating_point.get("threshold_log_odds")
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
        f"input_size={card.input_size!r} for squares of {framing.size} px": (
            type(card.input_size) is int and 0 < card.input_size <= framing.size
        ),
        "mean and std need three channels": len(card.mean) == len(card.std) == 3,
        "std must be positive": all(value > 0 for value in card.std),
        f"precision={card.precision!r} is none of {', '.join(AUTOCAST)}": card.precision in AUTOCAST,
        "calibration needs finite scale and bias": all(
            _is_number(card.calibration.get(key)) for key in ("scale", "bias")
        ),
        "good classes need an operating point with a finite threshold_log_odds, defect types alone have none": (
            _is_number(threshold) if card.good_classes else card.operating_point is None
        ),
    }
    return [fault for fault, holds in rules.items() if not holds]


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _parse_card(text: str) -> dict[str, Any]:
    """All keys of the card; unknown ones are dropped.

    Cards of earlier versions can be read, since a champion may have one. In the first two the network's input has the
    size of the framed square; the first three have their threshold as a score only; the first four are served in
    float32.
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
    elif version not in (3, 4, FORMAT_VERSION):
        raise InputError(
            f"{CARD_FILE}: format_version={version!r}, and this code reads {FORMAT_VERSION}; "
            "use the release that wrote the model, or export it again"
        )
    if version < 5:
        content["precision"] = "float32"
    point = content.get("operating_point")
    if version < 4 and isinstance(point, dict) and _is_number(point.get("threshold")):
        score = min(max(point["threshold"], sys.float_info.min), 1 - sys.float_info.epsilon)
        content["operating_point"] = {**point, "threshold_log_odds": math.log(score) - math.log1p(-score)}
    names = [field.name for field in fields(ModelCard)]
    missing = [name for name in names if name not in content]
    if missing:
        raise InputError(f"{CARD_FILE} lacks {', '.join(missing)}; export the model again")
    return {name: content[name] for name in names}


def _seen_prefixes(digests: Sequence[str]) -> list[str]:
    prefixes = {digest[:SEEN_PREFIX_LENGTH] for digest in digests}
    wrong = sorted(p for p in prefixes if len(p) != SEEN_PREFIX_LENGTH or set(p) - set("0123456789abcdef"))
    if wrong:
        raise ValueError(f"seen_images holds {wrong[0]!r}, not a lower-case sha256 digest or its first 16 digits")
    return sorted(prefixes)
