"""A training cut where its settings change, and the course of a search laid out over another length."""

from types import SimpleNamespace

import torch
from torch import nn

from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training import retuning

EPOCHS = 5
RECIPE = Recipe(model=ModelConfig(), recipe=RecipeConfig(lr=0.05))
CHANGES = ((2, {"recipe.lr": 0.02}), (4, {"recipe.weight_decay": 0.1}))


def test_a_course_is_cut_where_its_settings_change() -> None:
    course = retuning.stretches(RECIPE, CHANGES, epochs=EPOCHS)
    assert [(each.start, each.until) for each in course] == [(0, 2), (2, 4), (4, 5)]
    assert [each.recipe.recipe.lr for each in course] == [0.05, 0.02, 0.02]
    assert [each.recipe.recipe.weight_decay for each in course] == [0.01, 0.01, 0.1]
    assert [retuning.stretch_at(course, epoch).start for epoch in range(5)] == [0, 0, 2, 2, 4]


def test_the_course_of_a_search_is_laid_out_over_the_epochs_of_a_training() -> None:
    schedule = [
        {"epoch": 0, "epochs": 9, "overrides": {"recipe.lr": 1.0}},
        {"epoch": 3, "epochs": 9, "overrides": {"recipe.lr": 0.5}},
        {"epoch": 4, "epochs": 9, "overrides": {"recipe.weight_decay": 0.1}},
        {"epoch": 9, "epochs": 9, "overrides": {"recipe.lr": 0.1}},
    ]
    start, changes = retuning.scaled(schedule, epochs=30)
    assert start == {"recipe.lr": 1.0}
    assert changes == ((10, {"recipe.lr": 0.5}), (13, {"recipe.weight_decay": 0.1}))
    start, changes = retuning.scaled(schedule, epochs=3)  # 3 and 4 of 9 both fall on the first
    assert changes == ((1, {"recipe.lr": 0.5, "recipe.weight_decay": 0.1}),)


def test_a_learner_takes_up_rate_weight_decay_and_loss(monkeypatch) -> None:
    told = []
    learner = SimpleNamespace(
        loss=None,
        device=SimpleNamespace(target=torch.device("cpu")),
        stepper=SimpleNamespace(retune=lambda **settings: told.append(settings)),
    )
    monkeypatch.setattr(
        retuning, "new_loss", lambda recipe, data: nn.CrossEntropyLoss(label_smoothing=recipe.recipe.label_smoothing)
    )
    recipe = Recipe(model=ModelConfig(), recipe=RecipeConfig(lr=0.02, weight_decay=0.3, label_smoothing=0.1))
    retuning.take_up(learner, recipe, SimpleNamespace())
    assert told == [{"lr": 0.02, "weight_decay": 0.3}]
    assert learner.loss.label_smoothing == 0.1
