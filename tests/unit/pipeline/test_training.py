"""From recipe keys to optimizer, schedule and calibration batches."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from components.errors import InputError
from pipeline import training
from pipeline.config import ComputeConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training import TrainingData

CLASSES = ("good", "pit")


def recipe(**keys: object) -> Recipe:
    return Recipe(model=ModelConfig(), recipe=RecipeConfig(**{"lr": 0.1, "batch_size": 4, **keys}))


def data(count: int = 10) -> TrainingData:
    """Image number n is filled with n; all of them but the last two are for training."""
    pack = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 8, 8, 3))
    split = ["train"] * (count - 2) + ["val"] * 2
    manifest = pd.DataFrame(
        {"split": split, "pack_index": range(count), "label": [CLASSES[n % 2] for n in range(count)]}
    )
    return TrainingData(manifest, pack, CLASSES, ("good",))


@pytest.fixture
def tiny(monkeypatch) -> None:
    """No timm model is built: these tests are about what goes around it."""

    class Built:
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
        preprocessing = type("Constants", (), {"mean": (0.5,) * 3, "std": (0.5,) * 3})

    monkeypatch.setattr(training, "new_model", lambda recipe, data, *, seed: Built)


def learner(settings: Recipe, *, total_epochs: int = 6, count: int = 10, seed: int = 0):
    compute = ComputeConfig(device="cpu")
    return training.new_learner(settings, data(count), total_epochs=total_epochs, seed=seed, compute=compute)


def test_every_key_of_the_schedule_arrives() -> None:
    keys = {
        "schedule": "exp_range", "final_lr_fraction": 0.02, "schedule_drops": 4, "schedule_cycles": 5,
        "cycle_growth": 2.0, "cycle_low": 0.3, "rise_fraction": 0.4, "cooldown_fraction": 0.6, "plateau_factor": 0.7,
        "plateau_patience": 8, "warmup_epochs": 1.5,
    }  # fmt: skip
    found = training.new_schedule(recipe(**keys), data(), total_epochs=6)  # 8 images, 2 steps an epoch
    assert (found.name, found.warmup_steps, found.total_steps) == ("exp_range", 3, 12)
    assert (found.final_fraction, found.drops, found.cycles, found.cycle_growth) == (0.02, 4, 5, 2.0)
    assert (found.cycle_low, found.rise, found.cooldown) == (0.3, 0.4, 0.6)
    assert (found.plateau_factor, found.plateau_patience) == (0.7, 8)


def test_warmup_takes_half_of_a_short_training_at_most() -> None:
    assert training.new_schedule(recipe(warmup_epochs=5), data(), total_epochs=2).warmup_steps == 2


def test_the_automatic_schedule_is_cosine_or_fixed_for_what_is_schedule_free() -> None:
    assert training.new_schedule(recipe(), data(), total_epochs=2).name == "cosine"
    assert training.new_schedule(recipe(optimizer="schedulefree_sgd"), data(), total_epochs=2).name == "fixed"


def test_the_layer_keys_arrive_also_with_another_optimizer() -> None:
    settings = recipe(layer_decay=0.5, layer_decay_towards="output", head_lr_ratio=3.0, weight_decay=0.2)
    model = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False))
    built = training.new_optimizer(settings, model, lr=0.1, optimizer="sgd")
    assert isinstance(built, torch.optim.SGD)
    assert isinstance(training.new_optimizer(settings, model, lr=0.1), torch.optim.AdamW)
    # Towards the output: the first layer at the full rate, the head at half of it, times 3.
    assert sorted(group["lr"] for group in built.param_groups) == pytest.approx([0.1, 0.15])
    assert {group["weight_decay"] for group in built.param_groups} == {0.2}


@pytest.mark.usefixtures("tiny")
def test_freezing_lasts_for_its_epochs_in_steps() -> None:
    stepper = learner(recipe(freeze_epochs=1.5, warmup_epochs=0, schedule="fixed", optimizer="sgd")).stepper
    frozen = []
    for _ in range(5):
        frozen.append(min(stepper.rates()) == 0)
        for group in stepper.optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.zeros_like(weight)
        stepper.step()
    assert frozen == [True, True, True, False, False]  # 2 steps an epoch


@pytest.mark.usefixtures("tiny")
def test_the_calibration_is_of_whole_batches_of_training_images_as_they_are() -> None:
    """11 images for training in batches of 4: two of these, drawn by the seed, the same each time, and none of val."""
    one, other = learner(recipe(), count=13), learner(recipe(), count=13, seed=1)
    values = [batch.images[:, 0, 0, 0].tolist() for batch in one.calibration()]
    assert [len(batch) for batch in values] == [4, 4]
    assert len(set(np.ravel(values))) == 8
    assert np.max(values) < 11
    assert [batch.images[:, 0, 0, 0].tolist() for batch in one.calibration()] == values
    assert [batch.images[:, 0, 0, 0].tolist() for batch in other.calibration()] != values


@pytest.mark.usefixtures("tiny")
def test_the_calibration_has_fifty_batches_at_most_and_one_at_least() -> None:
    assert len(list(learner(recipe(batch_size=2), count=150).calibration())) == 50
    (only,) = learner(recipe(batch_size=32)).calibration()
    assert len(only.labels) == 8


@pytest.mark.usefixtures("tiny")
def test_a_schedule_free_optimizer_under_a_schedule_is_refused() -> None:
    settings = recipe(optimizer="schedulefree_adamw")
    forced = settings.model_copy(update={"recipe": settings.recipe.model_copy(update={"schedule": "cosine"})})
    with pytest.raises(InputError, match=r"recipe\.schedule=cosine"):
        learner(forced)


def test_the_probe_is_a_batch_of_validation_images_that_the_seed_draws() -> None:
    probe = training.held_out_batch(data(), size=64, seed=0)
    assert sorted(probe.images[:, 0, 0, 0].tolist()) == [8, 9]
