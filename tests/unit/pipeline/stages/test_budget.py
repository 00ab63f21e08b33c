"""The stage budget, where it needs no training: in which precision the pace is measured, and what the rest gets."""

import json
from types import SimpleNamespace

import pytest

from pipeline.sections.learning_rate import RangeTestConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.time import seconds_of
from pipeline.stages import budget
from pipeline.training.pace import Pace
from pipeline.training.precision import PrecisionChoice

PACE = Pace(training=0.01, scoring=0.003, start=0.1)


def test_the_pace_is_that_of_the_chosen_precision(monkeypatch) -> None:
    seen = []

    def choose(recipe, data, *, seed, compute, timed):
        seen.append(timed)
        return PrecisionChoice(precision="bfloat16", share=0.5)

    monkeypatch.setattr(budget, "choose_precision", choose)
    monkeypatch.setattr(budget, "for_selection", lambda data: data)
    monkeypatch.setattr(budget, "measure_pace", lambda recipe, data, **given: seen.append(recipe) or PACE)
    recipe = Recipe(model=ModelConfig(), recipe=RecipeConfig(batch_size=8))
    place = SimpleNamespace(open=lambda: None, compute=None)
    assert budget._pace((recipe, 0, True, place)) == (PACE, PrecisionChoice(precision="bfloat16", share=0.5))
    timed, measured = seen
    assert timed is True
    assert (measured.recipe.precision, measured.recipe.lr) == ("bfloat16", budget.ANY_RATE)


@pytest.mark.parametrize(("length", "timed"), [("179s", False), ("3min", True)])
def test_the_precision_is_timed_from_three_minutes_on_and_handed_to_the_rest(monkeypatch, tmp_path, length, timed):
    asked = []

    def measured(context, recipe, seed, *, choose):
        asked.append(choose)
        return PACE, PrecisionChoice(precision="bfloat16" if choose else "float32", share=0.5 if choose else None)

    data = SimpleNamespace(split=lambda name: range(100), pack=SimpleNamespace(size=64), folds=3)
    found = budget.Allotment(
        networks=1, epochs=2, range_test=False, size=64, grow_from=None, afterwards=1.0, why="it fits"
    )
    monkeypatch.setattr(budget, "open_data", lambda folder: data)
    monkeypatch.setattr(budget, "_measured", measured)
    monkeypatch.setattr(budget, "_work", lambda *args: PACE)
    monkeypatch.setattr(budget, "_changes", lambda *args, **given: {"train.epochs": 2})
    monkeypatch.setattr(budget, "allot", lambda left, work: found)
    candidate = {"backbone": "net", "image_size": 64, "images_per_second": 1e4, "score": 0.9, "low": 0.8}
    (tmp_path / "embedding.json").write_text(json.dumps({"candidates": [candidate], "best": {"views": [0, 4]}}))
    prepared = SimpleNamespace(directory=tmp_path, sections={"data": {"num_folds": 3}})
    said: list[str] = []
    context = SimpleNamespace(
        directory=tmp_path, inputs={"prepare": prepared}, input=lambda stage, name: tmp_path / name,
        seconds_left=seconds_of, run=SimpleNamespace(log_artifact=lambda path: None),
        console=SimpleNamespace(say=said.append),
    )  # fmt: skip
    budget.run(
        context, seed=0, budget=length, model=ModelConfig(backbone="net"), recipe=RecipeConfig(batch_size=8),
        lr_range_test=RangeTestConfig(),
    )  # fmt: skip
    record = json.loads((tmp_path / "budget.json").read_text())
    assert asked == [timed]
    assert record["changes"] == {
        "train.epochs": 2,
        "recipe.precision": "bfloat16" if timed else "float32",
        "data.num_folds": 3,
        "embed.views": 2,
    }
    assert record["bfloat16_share"] == (0.5 if timed else None)
    assert any("--set recipe.precision=" in line for line in said)
    assert any("takes 0.50 of its time" in line for line in said) is timed
