"""The range test's stage, where it needs no training: its held-out batch, what it recommends."""

import contextlib
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console as RichConsole
from rich.table import Table

from components.data.loader import ImageSet
from components.optim.range_test.bounds import LrBounds
from components.optim.range_test.weight_decay import DecayLimit, DecayVerdict
from pipeline.range_test.ramps import Curve
from pipeline.reports.range_test import (
    name_test,
    report_tests,
    report_weight_decay,
    say_conditions,
)
from pipeline.sections.learning_rate import RangeTestConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stages import lr_range_test
from pipeline.training.data import held_out_batch
from pipeline.training.precision import PrecisionChoice


@dataclass
class Said:
    """A console and a run that remember."""

    lines: list[str] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    figures: list[str] = field(default_factory=list)
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    artifacts: list[str] = field(default_factory=list)

    def say(self, message: str, style: str = "") -> None:
        self.lines.append(message)

    def warn(self, message: str) -> None:
        self.lines.append(f"warning: {message}")

    def log_metrics(self, metrics: dict[str, Any]) -> None:
        self.metrics |= metrics

    def log_figure(self, figure: object, name: str) -> None:
        self.figures.append(name)

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        self.tables[name] = table

    def log_artifact(self, path: Path) -> None:
        self.artifacts.append(path.name)

    def table(self, table: Table) -> None:
        shown = RichConsole(width=100, record=True, file=io.StringIO())
        shown.print(table)
        self.lines.append(shown.export_text())


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
    return Recipe(model=ModelConfig(), recipe=RecipeConfig(**{"batch_size": 32, **settings}))


def test_that_frozen_epochs_limit_the_ramps_is_said_where_there_are_some() -> None:
    console = Said()
    say_conditions(console, recipe(), ramped=32)  # type: ignore[arg-type]
    assert console.lines == []
    say_conditions(console, recipe(freeze_epochs=1.5), ramped=32)  # type: ignore[arg-type]
    assert "recipe.freeze_epochs=1.5" in console.lines[0]
    assert "classifier alone" in console.lines[0]
    say_conditions(console, recipe(batch_size=8), ramped=32)  # type: ignore[arg-type]
    assert console.lines[1] == "  ramps with batches of 32 images; rates are scaled to trainings with 8"


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
    context = SimpleNamespace(console=said, run=said, log_figure=said.log_figure)
    report_weight_decay(context, verdict, {0.01: 1e-3, 0.1: 2e-3})  # type: ignore[arg-type]
    return said


def test_a_recommended_weight_decay_is_said_as_a_key_with_its_rate_and_logged() -> None:
    said = told(0.1)
    assert "recipe.weight_decay=0.1 is recommended, with a rate of 2.0e-03" in said.lines[0]
    assert said.metrics == {"a_b_weight_decay": 0.1}


def test_a_weight_decay_test_that_abstains_says_why() -> None:
    said = told(None, "all are flat")
    assert said.lines == ["warning: a/b: the weight-decay range test abstains (all are flat)"]
    assert said.metrics == {"a_b_weight_decay": None}


# --- what later trainings have in place of auto


@pytest.fixture
def carried_out(monkeypatch, tmp_path):
    """`carried_out(chosen, ends_at, **recipe)`: the precision of the ramps, resolved.json, and how often was asked."""
    directory = tmp_path / "result"
    (tmp_path / "embedding.json").write_text(json.dumps({"kept": ["net"]}))
    manifest = pd.DataFrame({"split": ["train"] * 10, "fold": -1})

    def run(chosen: PrecisionChoice | None, *, ends_at: float | None = None, seeds: int = 1, **settings: Any):
        directory.mkdir(exist_ok=True)
        ramps: list[str] = []

        def record(context, data, configured, *args, **given):
            ramps.append(configured.recipe.precision)
            return lr_range_test._Found(bounds={"net": {}}, curves=[pd.DataFrame({"lr": [0.1]})])

        asked: list[Recipe] = []
        data = SimpleNamespace(manifest=manifest, folds=0)
        monkeypatch.setattr(lr_range_test, "open_data", lambda folder: data)
        monkeypatch.setattr(lr_range_test, "log_lineage", lambda *args, **given: None)
        monkeypatch.setattr(lr_range_test, "task_placement", lambda context: contextlib.nullcontext("here"))
        monkeypatch.setattr(
            lr_range_test, "choose_where_trained", lambda recipe, *args, **given: asked.append(recipe) or chosen
        )
        monkeypatch.setattr(lr_range_test, "_test_all", record)
        monkeypatch.setattr(lr_range_test, "loss_of_constant", lambda recipe, data: 0.7)
        monkeypatch.setattr(lr_range_test, "report_tests", lambda context, bounds: None)
        said = Said()
        context = SimpleNamespace(
            directory=directory, inputs={"prepare": SimpleNamespace(directory=tmp_path)}, console=said,
            input=lambda stage, name: tmp_path / name, ends_at=ends_at,
            run=SimpleNamespace(system_metrics=contextlib.nullcontext, log_artifact=said.log_artifact),
        )  # fmt: skip
        lr_range_test.run(
            context,  # type: ignore[arg-type]
            seed=0,
            model=ModelConfig(backbone="net"),
            recipe=RecipeConfig(**settings),
            lr_range_test=RangeTestConfig(num_seeds=seeds, optimizers=("adamw",)),
        )
        return ramps, json.loads((directory / "resolved.json").read_text()), len(asked)

    return run


def test_the_chosen_precision_is_that_of_the_ramps_and_recorded_with_the_batch_size(carried_out) -> None:
    ramps, resolved, asked = carried_out(PrecisionChoice(precision="bfloat16", share=0.6))
    assert (ramps, asked) == (["bfloat16"], 1)
    assert resolved == {
        "overrides": {"recipe.batch_size": 8, "recipe.precision": "bfloat16"},
        "bfloat16_share": 0.6,
    }


def test_without_ramps_it_is_chosen_all_the_same(carried_out) -> None:
    ramps, resolved, _ = carried_out(PrecisionChoice(precision="float32", share=1.2), seeds=0, batch_size=16)
    assert ramps == []
    assert resolved["overrides"] == {"recipe.batch_size": 16, "recipe.precision": "float32"}


def test_a_precision_that_is_given_or_a_budget_leaves_nothing_to_choose(carried_out) -> None:
    ramps, resolved, asked = carried_out(None, precision="bfloat16")
    assert (ramps, asked) == (["bfloat16"], 0)
    assert resolved["bfloat16_share"] is None
    ramps, resolved, asked = carried_out(None, ends_at=1.0)
    assert (ramps, asked) == (["auto"], 0)
    assert resolved["overrides"]["recipe.precision"] == "auto"


# --- batch sizes


@pytest.mark.parametrize(("optimizer", "factor"), [("adamw", 0.5), ("sgd", 0.25)])
def test_rates_are_for_the_recipes_batch_size_whichever_the_ramps_have(monkeypatch, optimizer, factor) -> None:
    measured: list[Any] = []

    def measure(tests, place, console):
        measured.extend(tests)
        return (Curve(test=test, steps=pd.DataFrame({"lr": [1e-4, 1e-3]})) for test in tests)

    monkeypatch.setattr(lr_range_test, "measure", measure)
    monkeypatch.setattr(lr_range_test, "analyse_curves", lambda steps, **settings: bounds(optimizer))
    for name in ("loss_of_constant", "spread_of_constant", "report_test"):
        monkeypatch.setattr(lr_range_test, name, lambda *arguments: 1.0)
    context = SimpleNamespace(console=None)
    settings = RangeTestConfig(optimizers=[optimizer])
    found = lr_range_test._test_all(context, None, recipe(batch_size=8), settings, None, ["net"], 0, ramped=32)  # type: ignore[arg-type]
    assert [test.recipe.recipe.batch_size for test in measured] == [32]
    assert found.curves[0]["lr"].tolist() == pytest.approx([factor * 1e-4, factor * 1e-3])


# --- several backbones


@pytest.mark.parametrize(
    ("backbone", "several", "label", "key"),
    [
        ("resnet18", False, "adamw", "adamw"),
        ("resnet18", True, "resnet18, adamw", "adamw"),
        ("vit.a[1]@x", True, "vit.a[1]@x, adamw", "vit.a_1__x_adamw"),
    ],
)
def test_the_backbone_is_named_where_there_are_several(backbone: str, several: bool, label: str, key: str) -> None:
    name = name_test(backbone, "adamw", own="resnet18", several=several)
    assert (name.label, name.key) == (label, key)


def bounds(optimizer: str, *, suggested: float = 1e-3) -> LrBounds:
    return LrBounds(
        optimizer=optimizer, lower=1e-4, suggested=suggested, upper=1e-2, band=(5e-4, 2e-3), abstained=False, reason="",
        lr50=None, centre=None, lr_min=None, lr_div=None, valley=None, drop=None, noise=None, constant_loss=0.69,
        warnings=(), fit={"lr": [], "loss": []}, factor=2.0,
    )  # fmt: skip


def test_each_backbone_has_a_table_of_its_own() -> None:
    for several, titles in ((True, ["test: vit", "test: resnet18"]), (False, ["range test"])):
        said = Said()
        found = {"vit": {"sgd": bounds("sgd")}, "resnet18": {"sgd": bounds("sgd")}} if several else {
            "vit": {"sgd": bounds("sgd")}
        }  # fmt: skip
        report_tests(SimpleNamespace(console=said, run=said, log_figure=said.log_figure), found)  # type: ignore[arg-type]
        assert [title in line for title, line in zip(titles, said.lines, strict=True)] == [True] * len(titles)


def planned(backbones: list[str], decays: tuple[float, ...] = ()) -> list[list[tuple]]:
    settings = RangeTestConfig(optimizers=("sgd", "adamw"), weight_decays=decays)
    groups = lr_range_test._planned(recipe(weight_decay=0.01), settings, backbones, 0)
    return [
        [(test.recipe.model.backbone, test.optimizer, test.recipe.recipe.weight_decay) for test in group]
        for group in groups
    ]


def test_every_optimizer_is_tested_on_every_backbone() -> None:
    assert planned(["resnet18", "vit"]) == [
        [("resnet18", "sgd", 0.01)], [("resnet18", "adamw", 0.01)], [("vit", "sgd", 0.01)], [("vit", "adamw", 0.01)],
    ]  # fmt: skip


def test_of_the_kept_backbones_those_are_tested_that_trainings_may_use_and_the_models_own() -> None:
    kept = ["resnet18", "vit", "convnext"]
    for asked, tested in ((("resnet18",), kept[:1]), (("convnext", "gone"), ["resnet18", "convnext"]), (None, kept)):
        assert lr_range_test._to_test(kept, RangeTestConfig(backbones=asked), own="resnet18") == tested


def test_weight_decays_are_compared_on_the_models_own_backbone() -> None:
    groups = planned(["resnet18", "vit"], decays=(0.1, 0.01, 0.001))
    assert [decay for _, _, decay in groups[0]] == [0.01, 0.001, 0.1]  # its own first
    assert groups[2:] == [[("vit", "sgd", 0.01)], [("vit", "adamw", 0.01)]]


def test_a_test_that_is_left_out_leaves_the_usual_rates_and_no_curve(monkeypatch) -> None:
    monkeypatch.setattr(lr_range_test, "loss_of_constant", lambda *args: 0.7)
    found = lr_range_test._untested(recipe(), None, ["net", "other"], ("adamw", "sgd"))  # type: ignore[arg-type]
    assert list(found.bounds) == ["net", "other"]
    bounds = found.bounds["net"]["sgd"]
    assert (bounds.lower, bounds.suggested, bounds.upper, bounds.abstained) == (1e-3, 1e-2, 3e-1, True)
    assert bounds.reason == "it was left out, lr_range_test.num_seeds=0"
    (curves,) = found.curves
    assert curves.empty
    assert {"seed", "step", "lr", "loss", "optimizer", "backbone"} <= set(curves.columns)
    with pytest.raises(ValueError, match="num_seeds=0 tests nothing"):
        RangeTestConfig(num_seeds=0, weight_decays=(0.1, 0.2))


def test_the_headline_names_other_backbones() -> None:
    found = lr_range_test._Found(
        bounds={"a": {"sgd": bounds("sgd", suggested=0.1)}, "b@x": {"sgd": bounds("sgd", suggested=0.2)}}
    )
    assert lr_range_test._headline(found, ["a", "b@x"]) == {
        "lr_suggested_sgd": 0.1, "lr_suggested_b_x_sgd": 0.2, "range_tests_abstained": 0,
    }  # fmt: skip
