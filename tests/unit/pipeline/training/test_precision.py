"""Whether trainings on a CPU have bfloat16: by the time of a step, which is made up here."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.config import ComputeConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training import precision
from pipeline.training.data import TrainingData
from pipeline.training.precision import PrecisionChoice, bfloat16_share, choose_precision

CPU = ComputeConfig(device="cpu")
CLASSES = ("good", "pit")


def recipe(**keys: object) -> Recipe:
    model = ModelConfig(backbone="test_efficientnet", weights="none")
    return Recipe(model=model, recipe=RecipeConfig(**{"batch_size": 4, **keys}))


def data(count: int = 6) -> TrainingData:
    pack = np.zeros((count, 32, 32, 3), dtype=np.uint8)
    labels = [CLASSES[number % 2] for number in range(count)]
    manifest = pd.DataFrame({"split": "train", "fold": -1, "pack_index": range(count), "label": labels})
    return TrainingData(manifest, pack, CLASSES, ("good",))


@pytest.fixture
def native(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})


def measured(monkeypatch, share: float) -> list[Recipe]:
    """The recipes that are timed from now on, with this result."""
    timed: list[Recipe] = []
    monkeypatch.setattr(precision, "bfloat16_share", lambda recipe, data, **given: timed.append(recipe) or share)
    return timed


@pytest.mark.parametrize(
    ("share", "expected"), [(0.5, "bfloat16"), (0.85, "bfloat16"), (0.86, "float32"), (1.4, "float32")]
)
def test_bfloat16_is_taken_where_its_steps_are_clearly_faster(native, monkeypatch, share, expected) -> None:
    measured(monkeypatch, share)
    found = choose_precision(recipe(), data(), seed=0, compute=CPU)
    assert found == PrecisionChoice(precision=expected, share=share)


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_a_precision_that_is_given_holds_and_nothing_is_timed(native, monkeypatch, asked) -> None:
    timed = measured(monkeypatch, 0.5)
    assert choose_precision(recipe(precision=asked), data(), seed=0, compute=CPU) == PrecisionChoice(precision=asked)
    assert timed == []


def test_nothing_is_timed_on_a_gpu_or_on_a_cpu_without_bfloat16_which_keep_their_own(monkeypatch) -> None:
    timed = measured(monkeypatch, 0.5)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert choose_precision(recipe(), data(), seed=0, compute=CPU) == PrecisionChoice(precision="auto")
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    any_device = ComputeConfig(device="auto")
    assert choose_precision(recipe(), data(), seed=0, compute=any_device) == PrecisionChoice(precision="auto")
    assert timed == []


def test_where_there_is_no_time_to_time_it_is_float32(native, monkeypatch) -> None:
    timed = measured(monkeypatch, 0.5)
    found = choose_precision(recipe(), data(), seed=0, compute=CPU, timed=False)
    assert (found, timed) == (PrecisionChoice(precision="float32"), [])


@pytest.fixture
def clock(monkeypatch):
    """A clock that only steps of a training move: by what is left of each precision's list."""
    now, taken = [0.0], []

    def install(**seconds: list[float]) -> list[str]:
        def step(learner, *, until, **given):
            taken.append(learner.device.precision)
            now[0] += seconds[learner.device.precision].pop(0)
            yield None

        monkeypatch.setattr(precision, "train_epochs", step)
        monkeypatch.setattr(precision, "time", SimpleNamespace(perf_counter=lambda: now[0]))
        return taken

    return install


def test_the_first_steps_do_not_count_and_of_the_others_the_medians(clock) -> None:
    taken = clock(float32=[9.0, 0.2, 0.2, 0.1, 0.2, 0.4], bfloat16=[9.0, 0.1, 0.1, 0.9, 0.05, 0.1])
    assert bfloat16_share(recipe(), data(), seed=0, compute=CPU) == pytest.approx(0.5)
    assert taken == ["float32", "bfloat16"] * 6


def test_slow_steps_are_few(clock) -> None:
    taken = clock(float32=[1.0, 4.0], bfloat16=[1.0, 1.0])
    assert bfloat16_share(recipe(), data(), seed=0, compute=CPU) == pytest.approx(0.25)
    assert len(taken) == 4


def test_real_steps_are_timed_whatever_the_recipe_freezes_grows_or_averages() -> None:
    settings = recipe(freeze_epochs=1, grow_from=32, ema_decay=0.9, schedule="one_cycle")
    assert bfloat16_share(settings, data(), seed=0, compute=CPU) > 0
