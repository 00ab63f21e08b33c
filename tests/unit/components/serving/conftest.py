"""A tiny model with random weights, its card, and images as bytes."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from components.serving.bundle import save_bundle
from components.serving.card import Member, ModelCard

SIZE = 32
FRAMING = {
    "size": SIZE, "region": None, "fit": "squash", "tile_size": None, "tile_overlap": 0.25, "significant_bits": None,
}  # fmt: skip
BACKBONE = "test_resnet"


@dataclass(frozen=True)
class Exported:
    card: ModelCard
    network: torch.nn.Module
    bundle: Path


@pytest.fixture(scope="session")
def make_member() -> Callable[..., Member]:
    def make(**changes: object) -> Member:
        fields = {
            "kind": "network",
            "backbone": BACKBONE,
            "input_size": SIZE,
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.25, 0.3),
            "weight": 1.0,
            "views": (0,),
        }
        return Member(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def make_card(make_member) -> Callable[..., ModelCard]:
    """`members`, or what one member sees: `input_size`, if not the framed square."""

    def make(*, input_size: object = None, **changes: object) -> ModelCard:
        fields = {
            "name": "castings",
            "num_classes": 3,
            "classes": ("good", "pit", "scratch"),
            "good_classes": ("good",),
            "framing": FRAMING,
            "members": (make_member(input_size=input_size or changes.get("framing", FRAMING).get("size")),),
            "precision": "float32",
            "calibration": {"scale": 1.5, "bias": -0.5},
            "operating_point": {"threshold": 0.5, "threshold_log_odds": 0.0, "escape_budget": 0.05, "certified": False},
            "provenance": {"commit": "abc"},
        }
        return ModelCard(**{**fields, **changes})

    return make


@pytest.fixture(scope="session")
def exported(make_card, tmp_path_factory) -> Exported:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = timm.create_model(BACKBONE, pretrained=False, num_classes=3).eval()
    directory = tmp_path_factory.mktemp("export") / "bundle"
    card = make_card()
    save_bundle(directory, states=[network.state_dict()], card=card, seen_images=["ab" * 32])
    return Exported(card, network, directory)


@pytest.fixture(scope="session")
def framing() -> Callable[..., dict]:
    """The framing of the exported model, with changes."""
    return lambda **changes: {**FRAMING, **changes}


@pytest.fixture(scope="session")
def pixels() -> list[np.ndarray]:
    """Five images of the size that the network sees, so that resizing changes nothing."""
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8) for _ in range(5)]


@pytest.fixture(scope="session")
def images(pixels, png) -> list[bytes]:
    return [png(array) for array in pixels]


@pytest.fixture(scope="session")
def png() -> Callable[[np.ndarray], bytes]:
    def encode(array: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(array).save(buffer, "PNG")
        return buffer.getvalue()

    return encode
