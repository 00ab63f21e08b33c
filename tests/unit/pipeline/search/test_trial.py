"""A trial in a worker: what it is scored by under each horizon, and that neither a fork nor a pause changes it."""

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from components.search.trial import Suggestion
from pipeline.config import ComputeConfig
from pipeline.search import trial as module
from pipeline.search.trial import TRIAL_SEEDS, TrialPlan, TrialSession, open_session
from pipeline.search_space import at_horizon
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.training import build as training
from pipeline.training.checkpoints import load_scored
from pipeline.training.data import TrainingData

EPOCHS = 4
OVERRIDES = {"recipe.lr": 0.05, "recipe.weight_decay": 0.01}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def tiny(monkeypatch) -> None:
    """A small network with norms and dropout in the place of one of timm's."""

    def build(recipe: Recipe, data: TrainingData, *, seed: int) -> SimpleNamespace:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = nn.Sequential(
                nn.Conv2d(3, 6, 3, stride=2), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
                nn.Dropout(recipe.model.drop_rate), nn.Linear(24, 2),
            )  # fmt: skip
        return SimpleNamespace(model=model, mean=(0.5,) * 3, std=(0.5,) * 3)

    monkeypatch.setattr(training, "new_model", build)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    """24 images for training and 12 for validation; a defect is a bright corner in noise."""
    generator = np.random.default_rng(0)
    labels = np.arange(36) % 2
    pack = generator.integers(0, 200, (36, 16, 16, 3)).astype(np.uint8)
    pack[labels == 1, :6, :6] += 45
    manifest = pd.DataFrame(
        {
            "split": ["train"] * 24 + ["val"] * 12,
            "fold": np.arange(36) % 3,
            "pack_index": range(36),
            "label": np.where(labels == 1, "pit", "good"),
        }
    )
    return TrainingData(manifest, pack, ("good", "pit"), ("good",))


@pytest.fixture
def begin(data):
    """A session; `horizon`, `rungs` and other keys of the search, and keys of the recipe by `recipe`."""

    def make(
        *,
        overrides=OVERRIDES,
        rungs: tuple[int, ...] = (1, 3),
        epochs: int = EPOCHS,
        seed: int = 0,
        recipe=None,
        **search,
    ) -> TrialSession:
        search = {"max_epochs": EPOCHS, **search}
        keys = {"optimizer": "sgd", "lr": 0.1, "batch_size": 4, "warmup_epochs": 0.5, **(recipe or {})}
        plan = TrialPlan(
            prepared=None,
            default=Recipe(model=ModelConfig(drop_rate=0.2), recipe=RecipeConfig(**keys)),
            search=SearchConfig(**search),
            rungs=rungs,
            seed=0,
            compute=ComputeConfig(device="cpu"),
            threads=1,
        )
        suggestion = Suggestion(point={}, overrides=dict(overrides), epochs=epochs, seed=seed)
        return TrialSession(suggestion, data, plan)

    return make


def state_of(session: TrialSession) -> dict[str, torch.Tensor | float]:
    """All that a training goes on from, by a path: weights, averages and what the optimizer remembers."""
    found: dict = {}

    def take(path: str, value) -> None:
        if isinstance(value, dict):
            for key, entry in value.items():
                take(f"{path}.{key}", entry)
        elif isinstance(value, list | tuple):
            for key, entry in enumerate(value):
                take(f"{path}.{key}", entry)
        else:
            found[path] = value.clone() if isinstance(value, torch.Tensor) else value

    take("", session._job.learner.state_dict())
    return found


def assert_same(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for path, value in first.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, second[path]), path
        else:
            assert value == second[path], path


def run(session: TrialSession, epochs: int) -> list[dict]:
    return [session.next_epoch() for _ in range(epochs)]


def without_pace(results: list[dict]) -> list[dict]:
    return [
        {**told, "metrics": {k: v for k, v in told["metrics"].items() if k not in ("seconds", "images_per_second")}}
        for told in results
    ]


HORIZONS = [
    {"horizon": "constant"},
    {"horizon": "wsd"},
    {"horizon": "fixed", "grace_epochs": 1, "recipe": {"schedule": "cosine"}},
    {"horizon": "constant", "recipe": {"optimizer": "adamw"}},
    {"horizon": "wsd", "recipe": {"optimizer": "adamw"}},
    {"horizon": "constant", "recipe": {"optimizer": "schedulefree_adamw"}},
]


# --- horizons


def test_by_default_the_average_of_a_training_at_a_constant_rate_is_scored(begin, data) -> None:
    one = begin(ema_decay=0.7)
    told = run(one, 2)
    recipe = at_horizon(one._plan.default, OVERRIDES, one._plan.search)
    assert (recipe.recipe.schedule, recipe.recipe.ema_decay) == ("fixed", 0.7)
    learner = training.new_learner(
        recipe, data, total_epochs=EPOCHS, seed=TRIAL_SEEDS, compute=ComputeConfig(device="cpu")
    )
    expected = list(training.run_epochs(learner, recipe, data, until=2, workers=0))
    assert [entry["score"] for entry in told] == [record.metrics["val_score"] for record in expected]
    assert [entry["metrics"]["lr"] for entry in told] == [0.05, 0.05]
    assert [entry["metrics"]["val_loss"] for entry in told] == [record.metrics["val_loss"] for record in expected]
    assert [(entry["epoch"], entry["diverged"]) for entry in told] == [(1, False), (2, False)]


def test_under_the_fixed_horizon_the_recipes_schedule_ends_with_the_trial(begin) -> None:
    one = begin(horizon="fixed", recipe={"schedule": "cosine", "final_lr_fraction": 0.1})
    rates = [told["metrics"]["lr"] for told in run(one, EPOCHS)]
    # 24 steps of which 3 are warmup: the rate of the steps number 5, 11, 17 and 23
    expected = [0.05 * (0.1 + 0.9 * (1 + math.cos(math.pi * (step - 3) / 21)) / 2) for step in (5, 11, 17, 23)]
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_fork_leaves_the_training_as_it_was_bit_for_bit(begin, optimizer: str) -> None:
    forked = begin(horizon="wsd", rungs=(1, 2, 3), recipe={"optimizer": optimizer})
    straight = begin(horizon="wsd", rungs=(), recipe={"optimizer": optimizer})
    for _ in range(3):
        scores = [one.next_epoch()["metrics"]["val_loss"] for one in (forked, straight)]
        assert scores[0] != scores[1]
        assert_same(state_of(forked), state_of(straight))


def test_between_rungs_the_training_itself_is_scored_and_at_the_last_epoch_a_copy(begin) -> None:
    forked, straight = begin(horizon="wsd", rungs=(1, 3)), begin(horizon="wsd", rungs=())
    losses = [[told["metrics"]["val_loss"] for told in run(one, EPOCHS)] for one in (forked, straight)]
    assert [first == second for first, second in zip(*losses, strict=True)] == [False, True, False, True]
    trunk = begin(horizon="wsd", rungs=(), epochs=9)
    assert run(trunk, EPOCHS)[-1]["metrics"]["val_loss"] != losses[1][-1]


@pytest.mark.parametrize("warmup", [0.0, 0.5])
def test_the_copy_goes_on_at_the_rate_of_the_training_and_takes_it_down_to_nothing(begin, warmup: float) -> None:
    """1 − √(k / n) of the rate in step k of n, which is the rate itself in the first."""
    one = begin(horizon="wsd", rungs=(), recipe={"warmup_epochs": warmup})
    one.next_epoch()
    fork = one._fork(4)
    rates = []
    for step in range(4):
        fork.stepper.steps = 6 + step
        rates.append(max(fork.stepper.rates()))
    assert rates == pytest.approx([0.05 * (1 - math.sqrt(step / 4)) for step in range(4)])


def test_a_copy_that_is_made_within_the_warmup_takes_down_the_rate_that_was_reached(begin) -> None:
    """Two epochs of six steps are warmup: after the first the rate has come to 6/13 of the peak, 7/13 in the next."""
    one = begin(horizon="wsd", rungs=(1,), recipe={"warmup_epochs": 2.0})
    told = one.next_epoch()
    assert (told["diverged"], told["metrics"]["lr"]) == (False, pytest.approx(0.05 * 6 / 13))
    fork = one._fork(4)
    assert max(fork.stepper.rates()) == pytest.approx(0.05 * 7 / 13)
    fork.stepper.steps += 3
    assert max(fork.stepper.rates()) == pytest.approx(0.05 * 7 / 13 * (1 - math.sqrt(3 / 4)))


def test_the_cooldown_is_a_share_of_the_steps_so_far(begin, monkeypatch) -> None:
    lengths = []
    real = TrialSession._fork
    monkeypatch.setattr(TrialSession, "_fork", lambda self, extra: (lengths.append(extra), real(self, extra))[1])
    run(begin(horizon="wsd", rungs=(1, 3), fork_fraction=0.25), EPOCHS)
    assert lengths == [2, 4, 6]  # of 6, 18 and 24 steps: 1.5 is rounded to even


def test_a_schedule_free_optimizer_averages_and_is_not_cooled_down(begin, monkeypatch) -> None:
    monkeypatch.setattr(TrialSession, "_fork", None)
    told = run(begin(horizon="wsd", rungs=(1, 2), recipe={"optimizer": "schedulefree_sgd"}), 2)
    assert all(math.isfinite(entry["score"]) for entry in told)


def test_trials_start_alike_unless_another_seed_is_asked_for(begin) -> None:
    first, second, other = begin(), begin(overrides={"recipe.lr": 0.01}), begin(seed=1)
    start = [{k: v for k, v in state_of(one).items() if k.startswith(".model")} for one in (first, second, other)]
    assert_same(start[0], start[1])
    assert not torch.equal(start[0][".model.0.weight"], start[2][".model.0.weight"])


# --- pauses


@pytest.mark.parametrize("settings", HORIZONS, ids=lambda keys: "-".join(str(v) for v in keys.values()))
@pytest.mark.parametrize("after", [1, 3])
def test_what_is_saved_goes_on_as_if_nothing_had_been(begin, tmp_path, settings: dict, after: int) -> None:
    undisturbed = begin(**settings)
    expected = run(undisturbed, EPOCHS)
    first = begin(**settings)
    run(first, after)
    first.save(tmp_path)
    first.close()
    second = begin(**settings)
    second.load(tmp_path)
    assert without_pace(run(second, EPOCHS - after)) == without_pace(expected[after:])
    assert_same(state_of(second), state_of(undisturbed))


def test_saving_changes_nothing(begin, tmp_path) -> None:
    saved, straight = begin(), begin()
    for _ in range(3):
        saved.next_epoch()
        saved.save(tmp_path)
        straight.next_epoch()
    assert_same(state_of(saved), state_of(straight))


def test_a_session_that_is_closed_before_its_first_epoch_is_no_fault(begin) -> None:
    assert begin().close() is None


# --- the files


@pytest.mark.parametrize("settings", HORIZONS, ids=lambda keys: "-".join(str(v) for v in keys.values()))
@pytest.mark.parametrize("epochs", [2, 3])
def test_weights_and_logits_are_those_that_were_scored(begin, data, tmp_path, settings: dict, epochs: int) -> None:
    one = begin(**settings)
    told = run(one, epochs)[-1]
    one.save(tmp_path)
    scored = load_scored(tmp_path)
    logits = scored.val_logits
    val = data.split("val")
    scores = training.scores_of(logits, val.labels, one._job.learner, one._job.spec.recipe, data)
    assert scores == {"val_loss": told["metrics"]["val_loss"], "val_score": told["score"]}
    model = training.new_model(one._job.spec.recipe, data, seed=5).model.to(memory_format=torch.channels_last)
    model.load_state_dict(scored.weights)
    assert np.array_equal(training.predict_split(model, val, one._job.learner), logits)


def test_what_is_kept_is_a_copy_that_further_training_does_not_move(begin) -> None:
    one = begin()
    one.next_epoch()
    held = one._saved.scored.weights
    before = {name: tensor.clone() for name, tensor in held.items()}
    one.next_epoch()
    for name, tensor in before.items():
        assert torch.equal(held[name], tensor)


# --- what else it tells


@pytest.mark.parametrize("horizon", ["constant", "wsd"])
def test_a_training_that_diverges_says_so_and_has_no_score(begin, horizon: str) -> None:
    one = begin(horizon=horizon, rungs=(1, 2))
    one.next_epoch()
    real = one._job.learner.loss
    one._job.learner.loss = lambda logits, labels: real(logits, labels) * math.inf
    told = one.next_epoch()
    assert (told["diverged"], told["epoch"]) == (True, 2)
    assert math.isnan(told["score"])
    assert all(math.isfinite(value) for value in told["metrics"].values())


def test_a_copy_that_diverges_as_it_cools_down_has_no_score(begin, monkeypatch) -> None:
    real = TrialSession._fork

    def broken(self: TrialSession, extra: int):
        fork = real(self, extra)
        fork.loss = lambda logits, labels: logits.sum() * math.nan
        return fork

    monkeypatch.setattr(TrialSession, "_fork", broken)
    assert math.isnan(begin(horizon="wsd", rungs=(1,)).next_epoch()["score"])


def test_what_is_logged_are_plain_numbers(begin) -> None:
    told = begin().next_epoch()
    assert set(told["metrics"]) == {
        "step", "train_loss", "val_loss", "val_score", "lr", "lr_lowest", "grad_norm", "seconds", "images_per_second"
    }  # fmt: skip
    assert {type(value) for value in told["metrics"].values()} == {float}


@pytest.mark.parametrize("optimizer", ["sgd", "schedulefree_adamw"])
def test_the_latency_is_measured_once_and_disturbs_nothing(begin, monkeypatch, optimizer: str) -> None:
    monkeypatch.setattr(module, "LATENCY_REPEATS", 3)
    measured = begin(measure_latency=True, recipe={"optimizer": optimizer})
    plain = begin(recipe={"optimizer": optimizer})
    told = run(measured, 2)
    expected = run(plain, 2)
    latencies = [entry["metrics"].pop("latency_ms") for entry in told]
    assert latencies[0] == latencies[1] > 0
    assert without_pace(told) == without_pace(expected)
    assert_same(state_of(measured), state_of(plain))


# --- opening


def test_a_worker_opens_the_data_and_validates_on_the_fold_that_is_asked_for(data, begin, monkeypatch) -> None:
    plan = begin()._plan
    threads = []
    monkeypatch.setattr(module, "set_up_process", threads.append)
    monkeypatch.setattr(module, "local_folder", lambda prepared: Path("/prepared"))
    monkeypatch.setattr(module, "open_data", lambda folder: data)
    plain = open_session(Suggestion(point={}, overrides={}, epochs=2), plan=plan)
    folded = open_session(Suggestion(point={}, overrides={}, epochs=2, fold=2), plan=plan)
    assert threads == [1, 1]
    assert (len(plain._job.data.split("train")), len(plain._job.data.split("val"))) == (24, 12)
    assert folded._job.data.split("val").indices.tolist() == list(range(2, 36, 3))
    assert (len(folded._job.data.split("train")), folded.next_epoch()["epoch"]) == (24, 1)
