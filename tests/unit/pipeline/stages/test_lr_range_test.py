"""The range test's stage, where it needs no training: its held-out batch, its conditions, what it recommends."""

import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from components.data.loader import ImageSet
from components.optim.weight_decay_test import DecayLimit, DecayVerdict
from components.training.engine import Device
from pipeline.range_test_report import file_safe, measured_at, report_weight_decays, say_conditions
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training import held_out_batch


@dataclass
class Said:
    """A console and a run that remember."""

    lines: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)

    def say(self, message: str, style: str = "") -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")

    def log_metrics(self, metrics: dict[str, Any]) -> None:
        self.metrics |= metrics

    def log_figure(self, figure: object, name: str) -> None:
        self.figures.append(name)


def validation(*counts: int) -> ImageSet:
    labels = np.repeat(np.arange(len(counts)), counts)
    pack = np.zeros((len(labels), 2, 2, 3), dtype=np.uint8)
    return ImageSet(pack=pack, indices=np.arange(len(labels)), labels=labels)


def with_validation(images: ImageSet) -> SimpleNamespace:
    """Training data with this validation split."""
    return SimpleNamespace(split={"val": images}.__getitem__)


@pytest.mark.parametrize(("size", "expected"), [(32, [24, 8]), (4, [3, 1]), (1000, [90, 30])])
def test_the_held_out_batch_has_the_shares_of_the_classes(size: int, expected: list[int]) -> None:
    batch = held_out_batch(with_validation(validation(90, 30)), size=size, seed=0)
    assert np.bincount(batch.labels.numpy()).tolist() == expected


def test_the_held_out_batch_is_the_same_for_a_seed_and_no_image_is_in_it_twice() -> None:
    def chosen(seed: int) -> list[int]:
        labels = validation(50, 50)
        numbered = np.broadcast_to(np.arange(100, dtype=np.uint8)[:, None, None, None], (100, 2, 2, 3)).copy()
        images = held_out_batch(
            with_validation(ImageSet(numbered, labels.indices, labels.labels)), size=20, seed=seed
        ).images
        return images[:, 0, 0, 0].tolist()

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
    assert len(set(chosen(1))) == 20


def recipe(**settings: Any) -> Recipe:
    return Recipe(model=ModelConfig(), recipe=RecipeConfig(**settings))


def conditions(optimizers: tuple[str, ...], **settings: Any) -> dict[str, Any]:
    data = SimpleNamespace(split=lambda name: range({"train": 120}[name]), framing=SimpleNamespace(size=96))
    return measured_at(recipe(**settings), data, Device(torch.device("cpu"), torch.bfloat16), optimizers)  # type: ignore[arg-type]


def test_the_conditions_name_what_the_rate_depends_on() -> None:
    found = json.loads(json.dumps(conditions(("sgd",), batch_size=24, weight_decay=0.05, layer_decay=0.8)))[
        "measured_at"
    ]
    expected = {
        "backbone": "resnet18", "images": 120, "image_size": 96, "batch_size": 24, "weight_decay": 0.05,
        "layer_decay": 0.8, "head_lr_ratio": 1.0, "augment_strength": 0.5, "precision": "bfloat16",
        "loss": "cross_entropy", "focal_gamma": 0.0,
    }  # fmt: skip
    assert expected.items() <= found.items()


def test_the_conditions_name_the_size_that_the_model_sees_and_the_loss() -> None:
    found = conditions(("sgd",), image_size=64, loss="focal", focal_gamma=1.5)["measured_at"]
    assert (found["image_size"], found["loss"], found["focal_gamma"]) == (64, "focal", 1.5)


def test_the_conditions_say_how_the_rate_follows_the_batch_size() -> None:
    rules = conditions(("sgd", "schedulefree_sgd", "adamw", "lion"))["batch_size"]
    assert ["linearly" in rule for rule in rules.values()] == [True, True, False, False]
    assert "square root" in rules["lion"]
    assert "voids" in conditions(("sgd",))["note"]


def test_that_frozen_epochs_are_not_measured_is_said_where_there_are_some() -> None:
    console = Said()
    say_conditions(console, recipe())  # type: ignore[arg-type]
    assert console.lines == []
    say_conditions(console, recipe(freeze_epochs=1.5))  # type: ignore[arg-type]
    assert "recipe.freeze_epochs=1.5" in console.lines[0]
    assert "all layers" in console.lines[0]


def told(recommended: float | None, reason: str = "") -> Said:
    said = Said()
    verdict = DecayVerdict(
        optimizer="a/b",
        recommended=recommended,
        reason=reason,
        measure="lr_div",
        tolerance_decades=0.25,
        limits=(DecayLimit(0.01, 0.5, False), DecayLimit(0.1, 0.5, False)),
        note="",
    )
    curves = pd.DataFrame({"seed": 0, "step": [0, 1, 0, 1], "lr": [1e-3, 1e-2] * 2, "loss": [0.7, 0.6] * 2})
    curves["weight_decay"] = [0.01, 0.01, 0.1, 0.1]
    context = SimpleNamespace(console=said, run=said)
    report_weight_decays(context, verdict, curves, {0.01: 1e-3, 0.1: 2e-3})  # type: ignore[arg-type]
    return said


def test_a_recommended_weight_decay_is_said_as_a_key_with_its_rate_and_logged() -> None:
    said = told(0.1)
    assert "recipe.weight_decay=0.1 is recommended, with a rate of 2.0e-03" in said.lines[0]
    assert (said.metrics, said.figures) == ({"a_b_weight_decay": 0.1}, ["figures/weight_decay_a_b.png"])


def test_a_weight_decay_test_that_abstains_says_why() -> None:
    said = told(None, "all are flat")
    assert said.lines == ["warning: a/b: the weight-decay range test abstains (all are flat)"]
    assert said.metrics == {"a_b_weight_decay": None}


def test_any_name_makes_a_file_name() -> None:
    assert file_safe("adamw") == "adamw"
    assert file_safe("hub:x/y z") == "hub_x_y_z"
