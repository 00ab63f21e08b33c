"""The bundle: the folder with everything that a trained model needs outside of this project.

A bundle holds plain data and source files, nothing pickled::

    weights.safetensors   the state dicts of the members, the keys of each after its number: `0.conv.weight`
    model.json            the model card: members, classes, preprocessing, precision, calibration, operating point
    decode.py             a verbatim copy of the project's own: the file to pixels
    framing.py            likewise: the pixels to squares
    forward.py            likewise: the squares to logits
    decision.py           likewise: the logits to decisions
    seen_images.txt       16-hex sha256 prefixes of the images the model was fitted or calibrated on

`pyfunc.py` reads such a folder without importing this project.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from components.errors import InputError
from components.models.forward import Ensemble, joined, parted
from components.serving.card import CARD_FILE, ModelCard

SEEN_PREFIX_LENGTH = 16

WEIGHTS_FILE = "weights.safetensors"
SEEN_FILE = "seen_images.txt"

SOURCES = tuple(
    Path(__file__).resolve().parents[1] / name
    for name in ("data/decode.py", "data/framing.py", "models/forward.py", "evaluation/decision.py")
)
"""Copied into every bundle."""


def save_bundle(
    directory: Path, *, states: Sequence[Mapping[str, torch.Tensor]], card: ModelCard, seen_images: Sequence[str]
) -> Path:
    """Write the bundle to `directory`; an existing one is replaced.

    states: the state dict of each member of the card, in order; any device, any memory format. seen_images: sha256 hex
    digests or 16-hex prefixes of them, any order, repeats allowed.

    Raises ValueError: another number of states than of members; a seen image is not a sha256 digest.
    """
    if len(states) != len(card.members):
        raise ValueError(f"{len(states)} state dicts for {len(card.members)} members of the card")
    lines = _seen_prefixes(seen_images)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    # safetensors refuses channels-last and shared storage: each tensor gets a contiguous one of its own.
    weights = {
        key: torch.clone(value.detach().cpu(), memory_format=torch.contiguous_format)
        for key, value in joined(states).items()
    }
    save_file(weights, directory / WEIGHTS_FILE, metadata={"format": "pt"})
    for source in SOURCES:
        shutil.copyfile(source, directory / source.name)
    (directory / SEEN_FILE).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (directory / CARD_FILE).write_text(card.to_json(), encoding="utf-8")  # last: by it a bundle is known
    return directory


def read_card(directory: Path) -> ModelCard:
    """The card of a bundle or of an exported model that holds one.

    Raises InputError: no bundle there, or a card that cannot be read.
    """
    return ModelCard.from_json((find_bundle(directory) / CARD_FILE).read_text(encoding="utf-8"))


def load_bundle(directory: Path) -> tuple[ModelCard, dict[str, torch.Tensor]]:
    """Card and weights of all members, on the CPU, of a bundle or of an exported model that holds one.

    Raises InputError: no bundle there, one that cannot be read, or one whose weights are of other members.
    """
    bundle = find_bundle(directory)
    text = (bundle / CARD_FILE).read_text(encoding="utf-8")
    card = ModelCard.from_json(text)
    try:
        weights = load_file(bundle / WEIGHTS_FILE, device="cpu")
    except (OSError, SafetensorError) as error:
        raise InputError(f"{bundle / WEIGHTS_FILE} cannot be read ({error}); export the model again") from error
    if json.loads(text)["format_version"] < 6:  # one network, without its number
        weights = joined([weights])
    try:
        parted(asdict(card), weights)
    except ValueError as error:
        raise InputError(f"{bundle / WEIGHTS_FILE}: {error}") from error
    return card, weights


def load_ensemble(directory: Path, device: torch.device) -> tuple[ModelCard, Ensemble]:
    """Card and model, on the device, of a bundle or of an exported model that holds one.

    Raises InputError: what `load_bundle` refuses, or weights that do not fit the members.
    """
    card, weights = load_bundle(directory)
    try:
        return card, Ensemble.from_card(asdict(card), weights, device)
    except ValueError as error:
        raise InputError(f"{find_bundle(directory) / WEIGHTS_FILE}: {error}") from error


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


def _seen_prefixes(digests: Sequence[str]) -> list[str]:
    prefixes = {digest[:SEEN_PREFIX_LENGTH] for digest in digests}
    wrong = sorted(p for p in prefixes if len(p) != SEEN_PREFIX_LENGTH or set(p) - set("0123456789abcdef"))
    if wrong:
        raise ValueError(f"seen_images holds {wrong[0]!r}, not a lower-case sha256 digest or its first 16 digits")
    return sorted(prefixes)
