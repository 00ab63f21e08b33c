"""Trainings of the comparison: their names, what stands and what is made again, and what a fault stops."""

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.comparison import trainings as comparison
from pipeline.comparison.forecast import images_of, missing, seconds_of
from pipeline.comparison.trainings import (
    Trained,
    Training,
    TrainingPlace,
    carry_out,
    decision_metrics,
    read_result,
    train_and_keep,
    train_once,
    write_result,
)
from pipeline.compute.shipping import Prepared
from pipeline.config import ComputeConfig
from pipeline.loading import load
from pipeline.overriding import override
from pipeline.sections.recipe import Recipe
from pipeline.training.build import TrainingData, new_learner, train_loader
from pipeline.training.pace import Pace, measure_pace

COMPUTE = ComputeConfig(device="cpu", num_threads=1)


def recipe(**sets) -> Recipe:
    config = load("smoke")
    return override(
        Recipe(model=config.model, recipe=config.recipe),
        {"recipe.lr": 0.01, **{f"recipe.{key}": value for key, value in sets.items()}},
    )


def training(entry="cosine", seed=1, epochs=2, factor=1.0, phase="full", **sets) -> Training:
    return Training(phase=phase, entry=entry, factor=factor, seed=seed, epochs=epochs, recipe=recipe(**sets))


def result_of(one: Training) -> Trained:
    history = [{"epoch": 1, "step": 3, "seconds": 1.5, "val_loss": 0.5, "val_score": None}]
    return Trained(phase=one.phase, entry=one.entry, factor=one.factor, lr=0.01, seed=one.seed, epochs=one.epochs,
                   diverged=False, history=history, rates=[0.01])  # fmt: skip


@pytest.fixture
def place(tmp_path) -> TrainingPlace:
    prepared = Prepared(tmp_path / "prepared", "1")
    return TrainingPlace(prepared=prepared, compute=COMPUTE, threads=1, shares=None, work=tmp_path)


class Trainer:
    """Stands for a worker: notes what it was asked for, and fails where it is told to."""

    def __init__(self, failing=()) -> None:
        self.asked: list[str] = []
        self.failing = failing

    def __call__(self, job) -> Trained:
        one, _ = job
        self.asked.append(one.key)
        if one.key in self.failing:
            raise ValueError(f"no luck with {one.key}")
        return result_of(one)


def one_after_the_other(perform, jobs):
    for job in jobs:
        try:
            yield job, perform(job)
        except ValueError as error:
            yield job, error


def carried_out(trainings, place, trainer):
    done = []
    results = carry_out(
        trainings, place, perform=trainer, settle=one_after_the_other, on_done=lambda one, outcome: done.append(one.key)
    )
    return results, done


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


def test_a_result_comes_back_as_it_was_written(tmp_path) -> None:
    one = training()
    assert read_result(one, tmp_path) is None
    write_result(one, result_of(one), tmp_path)
    assert read_result(one, tmp_path) == result_of(one)
    assert [path.name for path in (tmp_path / "results").iterdir()] == [f"{one.key}.json"]


def test_half_a_file_is_no_result(tmp_path, monkeypatch) -> None:
    one = training()

    def torn(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison.json, "dumps", torn)
    with pytest.raises(KeyboardInterrupt):
        write_result(one, result_of(one), tmp_path)
    assert read_result(one, tmp_path) is None


def test_what_stands_is_not_trained_again(place) -> None:
    several = [training(seed=seed) for seed in (1, 2, 3)]
    write_result(several[1], result_of(several[1]), place.work)
    trainer = Trainer()
    results, done = carried_out(several, place, trainer)
    assert trainer.asked == [several[0].key, several[2].key]
    assert [result.seed for result in results] == [1, 2, 3]
    assert sorted(done) == sorted(one.key for one in several)
    carried_out(several, place, trainer)
    assert len(trainer.asked) == 2


def test_a_training_that_fails_is_raised_after_all_others_are_kept(place) -> None:
    several = [training(seed=seed) for seed in (1, 2, 3)]
    with pytest.raises(ValueError, match="no luck with full-cosine") as caught:
        carried_out(several, place, Trainer(failing=(several[0].key,)))
    assert "1 of 3 trainings failed" in caught.value.__notes__[0]
    assert [read_result(one, place.work) is not None for one in several] == [False, True, True]
    again = Trainer()
    carried_out(several, place, again)
    assert again.asked == [several[0].key]


def test_a_worker_that_is_asked_twice_trains_once(place, monkeypatch) -> None:
    one = training()
    write_result(one, result_of(one), place.work)
    monkeypatch.setattr(comparison, "train_once", lambda *_, **__: pytest.fail("trained again"))
    assert train_and_keep((one, place)) == result_of(one)


def test_decisions_are_those_of_the_likeliest_class() -> None:
    # good, crack, stain; logits say: good, crack (right), stain for a crack (still a defect), good for a stain
    logits = np.log(np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.1, 0.2, 0.7], [0.6, 0.1, 0.3], [0.3, 0.4, 0.3]]))
    labels = np.array([0, 1, 1, 2, 0])
    found = decision_metrics(logits, labels, classes=("good", "crack", "stain"), good_classes=("good",))
    assert found["accuracy"] == pytest.approx(2 / 5)
    assert found["balanced_accuracy"] == pytest.approx((1 / 2 + 1 / 2 + 0) / 3)
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    # defect scores: goods .2 and .7; defects .9, .9, .4; five of the six pairs are in order
    assert found["auroc"] == pytest.approx(5 / 6)


def test_defect_types_without_a_good_class_have_accuracies_only() -> None:
    found = decision_metrics(np.eye(2), np.array([0, 1]), classes=("a", "b"), good_classes=())
    assert found == {"accuracy": 1.0, "balanced_accuracy": 1.0}


def test_what_cannot_be_measured_is_none() -> None:
    binary = {"classes": ("good", "bad"), "good_classes": ("good",)}
    blown_up = decision_metrics(np.array([[0.0, math.inf]]), np.array([0]), **binary)
    assert set(blown_up.values()) == {None}
    assert set(blown_up) == {"accuracy", "balanced_accuracy", "sensitivity", "specificity", "auroc"}
    one_class = decision_metrics(np.array([[1.0, 0.0]]), np.array([0]), **binary)
    assert one_class == {
        "accuracy": 1.0, "balanced_accuracy": None, "sensitivity": None, "specificity": 1.0, "auroc": None
    }  # fmt: skip


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
def test_a_training_that_was_interrupted_goes_on_to_the_same_end(prepared, tmp_path, monkeypatch, sets) -> None:
    one = training(epochs=3, **sets)
    whole = train_once(one, prepared, compute=COMPUTE, checkpoint=tmp_path / "whole.pt")
    assert [epoch["epoch"] for epoch in whole.history] == [1, 2, 3]
    assert len(whole.rates) == whole.history[-1]["step"]
    save = comparison.save_checkpoint

    def save_once(path, state):
        save(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(comparison, "save_checkpoint", save_once)
    with pytest.raises(KeyboardInterrupt):
        train_once(one, prepared, compute=COMPUTE, checkpoint=tmp_path / "cut.pt")
    monkeypatch.setattr(comparison, "save_checkpoint", save)
    resumed = train_once(one, prepared, compute=COMPUTE, checkpoint=tmp_path / "cut.pt")
    assert _untimed(resumed) == _untimed(whole)
    json.dumps(dataclasses.asdict(resumed), allow_nan=False)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("sees", [True, False], ids=["sees the folder", "does not see the folder"])
def test_a_worker_keeps_its_result_where_it_sees_the_folder(prepared, place, tmp_path, monkeypatch, sees) -> None:
    monkeypatch.setattr(TrainingPlace, "open", lambda place: prepared)
    one, work = training(epochs=2), tmp_path / "work"
    if sees:
        work.mkdir()
    result = train_and_keep((one, dataclasses.replace(place, work=work)))
    assert _untimed(result) == _untimed(train_once(one, prepared, compute=COMPUTE, checkpoint=None))
    assert work.exists() == sees
    assert read_result(one, work) == (result if sees else None)


@pytest.mark.usefixtures("one_thread")
def test_a_training_that_diverges_is_a_result_without_final_metrics(prepared, tmp_path) -> None:
    one = training(epochs=2, optimizer="sgd_plain", schedule="fixed", warmup_epochs=0.0)
    recipe = one.recipe.recipe.model_copy(update={"lr": 1e30})  # beyond what a configuration may say
    wild = dataclasses.replace(one, recipe=one.recipe.model_copy(update={"recipe": recipe}))
    result = train_once(wild, prepared, compute=COMPUTE, checkpoint=tmp_path / "wild.pt")
    assert result.diverged
    assert result.final == {}
    json.dumps(dataclasses.asdict(result), allow_nan=False)


@pytest.mark.usefixtures("one_thread")
def test_the_forecast_counts_what_is_missing_and_scales_with_it(prepared, tmp_path) -> None:
    several = [training(phase="rate", factor=0.5), training(phase="rate", factor=2.0), training(seed=1, factor=0.5)]
    write_result(several[0], result_of(several[0]), tmp_path)
    write_result(training(seed=1, factor=2.0), result_of(several[2]), tmp_path)  # it went on with another factor
    assert missing(several, tmp_path) == [several[1]]
    pace = measure_pace(several[0].recipe, prepared, seed=0, compute=COMPUTE)
    assert pace.training > 0
    assert pace.scoring > 0
    known = Pace(training=0.5, scoring=0.25, start=4.0)
    assert images_of(several, prepared) == 3 * 2 * 24
    # six epochs of 24 · 0.5 + 16 · 0.25 = 16 s each, and three starts of 4 s
    assert seconds_of(several, prepared, known, at_a_time=1) == pytest.approx(108)
    assert seconds_of(several, prepared, known, at_a_time=2) == pytest.approx(54)
    assert seconds_of([], prepared, known, at_a_time=2) == 0


def _untimed(result: Trained) -> Trained:
    return dataclasses.replace(
        result,
        history=[{name: value for name, value in epoch.items() if name != "seconds"} for epoch in result.history],
    )
