"""Trainings of the comparison: their names, what is read of them, and that an interruption changes nothing."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.comparison.trainings import MethodResult, MethodTraining, missing, read_result, seconds_of
from pipeline.config import ComputeConfig
from pipeline.loading import load
from pipeline.overriding import override
from pipeline.sections.recipe import Recipe
from pipeline.training.build import new_learner
from pipeline.training.checkpoints import ENDED_FILE, TrainingStore
from pipeline.training.data import TrainingData, train_loader
from pipeline.training.job import TrainingJob
from pipeline.training.pace import Pace, measure_pace

COMPUTE = ComputeConfig(device="cpu", num_threads=1)


def recipe(**sets) -> Recipe:
    config = load("smoke")
    return override(
        Recipe(model=config.model, recipe=config.recipe),
        {"recipe.lr": 0.01, **{f"recipe.{key}": value for key, value in sets.items()}},
    )


def training(entry="cosine", seed=1, epochs=2, factor=1.0, phase="full", **sets) -> MethodTraining:
    return MethodTraining(phase=phase, entry=entry, factor=factor, seed=seed, epochs=epochs, recipe=recipe(**sets))


def made(one: MethodTraining, data: TrainingData, folder, *, events: int | None = None) -> TrainingStore:
    """Train it from what the folder holds; events: how many are saved before it is cut short."""
    store = TrainingStore(folder / one.key)
    job = TrainingJob(one.spec, data, COMPUTE, earlier=store.state())
    for number, event in enumerate(job.run(), start=1):
        store.save(event)
        if number == events:
            break
    return store


def test_trainings_that_differ_have_files_of_different_names() -> None:
    several = [
        training(),
        training(phase="rate"),
        training(entry="adam"),
        training(seed=2),
        training(factor=0.3333),
        training(factor=0.33333),
    ]
    assert len({one.key for one in several}) == len(several)
    assert training().key == training().key


@pytest.fixture
def prepared() -> TrainingData:
    """Forty images of noise in two classes, as `prepare` leaves them."""
    generator = np.random.default_rng(0)
    split = np.array(["train"] * 24 + ["val"] * 16)
    label = np.where(np.arange(40) % 2 == 0, "good", "dent")
    manifest = pd.DataFrame({"split": split, "label": label, "is_defect": label != "good", "pack_index": np.arange(40)})
    pixels = generator.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    pixels[label == "dent"] //= 2
    return TrainingData(manifest, pixels, ("dent", "good"), ("good",))


@pytest.fixture
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


METHODS = (
    {"optimizer": "sgd", "schedule": "fixed"},
    {"optimizer": "adamw", "schedule": "cosine", "layer_decay": 0.9},
    {"optimizer": "schedulefree_adamw"},
)


@pytest.mark.usefixtures("one_thread")
def test_trainings_of_one_seed_start_from_the_same_weights_and_see_the_same_batches(prepared) -> None:
    starts, batches = [], []
    for sets in METHODS:
        one = training(**sets)
        learner = new_learner(one.recipe, prepared, total_epochs=2, seed=one.seed, compute=COMPUTE)
        starts.append(learner.model.state_dict())
        with train_loader(one.recipe, prepared, seed=one.seed, device=learner.device, workers=0) as loader:
            batches.append([batch.images for epoch in range(2) for batch in loader.epoch(epoch)])
    for state, seen in zip(starts[1:], batches[1:], strict=True):
        assert all(torch.equal(state[name], value) for name, value in starts[0].items())
        assert all(torch.equal(mine, first) for mine, first in zip(seen, batches[0], strict=True))
    other = new_learner(training(seed=2).recipe, prepared, total_epochs=2, seed=2, compute=COMPUTE)
    assert any(not torch.equal(value, starts[0][name]) for name, value in other.model.state_dict().items())


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("sets", METHODS, ids=lambda sets: sets["optimizer"])
def test_a_training_that_was_interrupted_resumes_to_the_same_end(prepared, tmp_path, sets) -> None:
    one = training(epochs=3, **sets)
    whole = read_result(one, made(one, prepared, tmp_path / "whole"))
    assert [epoch["epoch"] for epoch in whole.history] == [1, 2, 3]
    assert len(whole.rates) == whole.history[-1]["step"]
    assert whole.final["accuracy"] is not None
    made(one, prepared, tmp_path / "cut", events=1)
    resumed = read_result(one, made(one, prepared, tmp_path / "cut"))
    assert _untimed(resumed) == _untimed(whole)
    json.dumps([resumed.history, resumed.rates], allow_nan=False)
    assert not list(tmp_path.rglob("*weights*"))  # nobody asks for them


@pytest.mark.usefixtures("one_thread")
def test_a_training_that_diverges_is_a_result_without_final_metrics(prepared, tmp_path) -> None:
    one = training(epochs=2, optimizer="sgd_plain", schedule="fixed", warmup_epochs=0.0)
    recipe = one.recipe.recipe.model_copy(update={"lr": 1e30})  # beyond what a configuration may say
    wild = dataclasses.replace(one, recipe=one.recipe.model_copy(update={"recipe": recipe}))
    result = read_result(wild, made(wild, prepared, tmp_path))
    assert result.diverged
    assert result.final == {}
    assert len(result.rates) > 0
    json.dumps([result.history, result.rates], allow_nan=False)


@pytest.mark.usefixtures("one_thread")
def test_the_forecast_counts_what_is_missing_and_scales_with_it(prepared, tmp_path) -> None:
    several = [training(phase="rate", factor=0.5), training(phase="rate", factor=2.0), training(seed=1, factor=0.5)]
    for one in (several[0], training(seed=1, factor=2.0)):  # the full one went on with another factor
        (tmp_path / one.key).mkdir()
        (tmp_path / one.key / ENDED_FILE).touch()
    assert missing(several, tmp_path) == [several[1]]
    pace = measure_pace(several[0].recipe, prepared, seed=0, compute=COMPUTE)
    assert pace.training > 0
    assert pace.scoring > 0
    known = Pace(training=0.5, scoring=0.25, start=4.0)
    # six epochs of 24 · 0.5 + 16 · 0.25 = 16 s each, and three starts of 4 s
    assert seconds_of(several, prepared, known, at_a_time=1) == pytest.approx(108)
    assert seconds_of(several, prepared, known, at_a_time=2) == pytest.approx(54)
    assert seconds_of([], prepared, known, at_a_time=2) == 0


def _untimed(result: MethodResult) -> MethodResult:
    return dataclasses.replace(
        result,
        history=[{name: value for name, value in epoch.items() if name != "seconds"} for epoch in result.history],
    )
