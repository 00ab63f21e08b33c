"""Stages after the range test have what it recorded in place of `auto`, whatever this machine would time now."""

import json
from types import SimpleNamespace

import pytest

from pipeline.loading import load
from pipeline.sections.recipe import Recipe
from pipeline.stages import compare_lr, search
from pipeline.training import precision


class ReachedError(Exception):
    """With the recipe that the stage works with."""


@pytest.mark.parametrize(("stage", "function"), [(search, "searched_space"), (compare_lr, "methods_of")])
def test_the_recorded_precision_and_batch_size_hold(monkeypatch, tmp_path, stage, function) -> None:
    def reached(recipe: Recipe, *args: object) -> None:
        raise ReachedError(recipe)

    def timed(*args: object, **given: object) -> float:
        raise AssertionError("timed again")

    monkeypatch.setattr(precision, "bfloat16_share", timed)
    monkeypatch.setattr(stage, function, reached)
    monkeypatch.setattr(stage, "log_lineage", lambda *args, **given: None)
    for read in ("read_backbone_bounds", "read_bounds"):
        monkeypatch.setattr(stage, read, lambda path: {}, raising=False)
    settled = {"recipe.batch_size": 16, "recipe.precision": "bfloat16"}
    (tmp_path / "resolved.json").write_text(json.dumps({"overrides": settled, "bfloat16_share": 0.6}))
    context = SimpleNamespace(
        run=None, inputs={"prepare": SimpleNamespace(directory=tmp_path)}, input=lambda stage, name: tmp_path / name
    )
    config = load("default", {})
    sections = {"seed": 0, "model": config.model, "recipe": config.recipe}
    name = stage.__name__.rpartition(".")[2]
    with pytest.raises(ReachedError) as found:
        stage.run(context, **sections, **{name: getattr(config, name)})
    (recipe,) = found.value.args
    assert (recipe.recipe.batch_size, recipe.recipe.precision) == (16, "bfloat16")
