"""The final training of a tiny network: what is kept, what an interruption costs, what a rollback undoes."""

import contextlib
import copy
import dataclasses
import math
import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from schedules import schedule_of
from small_data import cross_fitted
from torch import nn

from components.data.loader import Batch
from components.errors import InputError
from components.models import heads
from components.models.forward import Preprocessing
from components.models.heads import HeadStart
from components.optim.layerwise import LayerRates
from components.optim.optimizers import OPTIMIZERS, build_optimizer
from components.optim.stepper import Stepper
from components.training.engine import Device, EpochRecord, Learner, Request, StepRecord, train_epochs
from pipeline.config import ComputeConfig
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training import build, checkpoints, placement
from pipeline.training import job as module
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.data import TrainingData
from pipeline.training.job import Ended, Saved, TrainingSpec, data_of, left_out, on_all, train, with_head
from pipeline.training.placement import run_training

EPOCHS, STEPS = 5, 3
#: Parameter groups of the optimizer.
GROUPS = ("body", "body_no_decay", "head", "head_no_decay")
RECIPE = Recipe(model=ModelConfig(), recipe=RecipeConfig(lr=0.05, batch_size=32))
CPU = Device(torch.device("cpu"))
DATA = SimpleNamespace(folds=0)
COMPUTE = SimpleNamespace(loader_workers=0, device="cpu", ray_address=None)
PLACE = SimpleNamespace(open=lambda: DATA, compute=COMPUTE, share=None)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Run:
    """An MLflow run in memory: (key, step) → value."""

    def __init__(self) -> None:
        self.id = "r"
        self.metrics: dict[tuple[str, int], float] = {}

    def log_metrics(self, metrics: dict, *, step: int) -> None:
        self.log_history([(step, metrics)])

    def log_history(self, rows: list) -> None:
        self.metrics |= {(key, step): value for step, metrics in rows for key, value in metrics.items()}

    def steps_of(self, key: str) -> list[int]:
        return sorted(step for name, step in self.metrics if name == key)

    def logged_steps(self, key: str) -> set[int]:
        return set(self.steps_of(key))


class Bar:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.done = 0

    def bar(self, description: str, total: int, *, done: int) -> Any:
        self.done = done
        return self

    def __enter__(self) -> Callable:
        return self._advance

    def __exit__(self, *error: object) -> None: ...

    def _advance(self, count: int, *, note: str) -> None:
        self.done += count

    def say(self, line: str) -> None:
        self.said.append(line)

    warn = say


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    return SimpleNamespace(
        work=tmp_path,
        run=Run(),
        console=Bar(),
        compute=COMPUTE,
        inputs={"prepare": SimpleNamespace(directory=tmp_path / "prepared")},
    )


class Script:
    """A monitor that answers by the number of the call, and goes back to the end of epoch 1."""

    def __init__(
        self, *, at_step: dict[int, Request] | None = None, at_epoch: dict[int, Request] | None = None
    ) -> None:
        self.at_step, self.at_epoch = at_step or {}, at_epoch or {}
        self.calls, self.epochs = 0, 0
        self.ledger: list[dict[str, Any]] = []
        self.kept: dict[str, Any] = {}

    def before_step(self, learner: Learner) -> None: ...

    def measure(self, learner: Learner) -> tuple[torch.Tensor, ...]:
        return ()

    def after_step(self, learner: Learner, record: StepRecord, measured: Sequence[float]) -> Request:
        self.calls += 1
        return self._do(learner, self.at_step.get(self.calls, "continue"))

    def after_epoch(self, learner: Learner, record: EpochRecord) -> Request:
        self.epochs += 1
        if self.epochs == 1:
            self.kept = copy.deepcopy(learner.state_dict())
        return self._do(learner, self.at_epoch.get(self.epochs, "continue"))

    def advice(self) -> list[str]:
        return ["The rate is too high."]

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls, "epochs": self.epochs, "ledger": self.ledger, "kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls, self.epochs = state["calls"], state["epochs"]
        self.ledger, self.kept = state["ledger"], state["kept"]

    def _do(self, learner: Learner, request: Request) -> Request:
        action = {"continue": "none", "stop": "stop", "rolled_back": "rollback"}[request]
        if request != "continue":
            self.ledger.append({"action": action, "kind": "oscillating"})
        if request == "rolled_back":
            learner.load_state_dict(copy.deepcopy(self.kept))
            learner.stepper.scale = 0.5
        return request


def new_learner(optimizer: str = "adamw") -> Learner:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
    layers = LayerRates(layer_decay=0.5, towards="input", head_ratio=1.0)
    name = "fixed" if OPTIMIZERS[optimizer].schedule_free else "cosine"
    schedule = schedule_of(name, warmup_steps=2, total_steps=EPOCHS * STEPS)
    built = build_optimizer(model, name=optimizer, lr=0.05, weight_decay=0.01, layers=layers)
    return Learner(
        model=model,
        stepper=Stepper(model, built, schedule, clip_grad_norm=None, freeze_steps=2),
        loss=nn.CrossEntropyLoss(),
        device=CPU,
        preprocessing=Preprocessing.from_unit_scale((0.5,) * 3, (0.25,) * 3),
        seed=0,
        averaged=None,
        calibration=lambda: batches(99),
    )


def batches(epoch: int) -> Iterator[Batch]:
    generator = np.random.default_rng([5, epoch])
    for _ in range(STEPS):
        images = torch.from_numpy(generator.integers(0, 256, (4, 3, 5, 5), dtype=np.uint8))
        yield Batch(images, torch.from_numpy(generator.integers(0, 2, 4)), torch.arange(4))


def spec_of(*, action: str = "observe", patience: int = EPOCHS, **fields: Any) -> TrainingSpec:
    monitor = MonitorConfig(action=action)
    return TrainingSpec(recipe=RECIPE, seed=0, epochs=EPOCHS, patience=patience, monitor=monitor, **fields)


@pytest.fixture
def install(monkeypatch) -> Callable:
    """`install(scores, …)`: a learner and a monitor for the next training; scores: by the number of the evaluation, the
    last one for the rest.
    """

    def prepare(
        scores: list[float], *, learner: Learner | None = None, monitor: Script | None = None, evaluations: int = 0
    ) -> None:
        done = evaluations

        def run_epochs(learner, recipe, data, *, until, workers, score_from, on_steps, on_scored, watcher, ends_at):
            def evaluate(module: nn.Module) -> dict[str, float]:
                nonlocal done
                done += 1
                on_scored(module, np.full((1, 2), done, dtype=np.float32))
                return {"val_loss": 1.0, "val_score": scores[min(done, len(scores)) - 1]}

            return train_epochs(
                learner, until=until, batches=batches, evaluate=evaluate, on_steps=on_steps, watcher=watcher
            )

        monkeypatch.setattr(module, "run_epochs", run_epochs)
        monkeypatch.setattr(module, "new_learner", lambda *a, **k: learner or new_learner())
        monkeypatch.setattr(module, "new_monitor", lambda *a, **k: monitor)
        monkeypatch.setattr(placement, "steps_per_epoch", lambda recipe, data: STEPS)
        monkeypatch.setattr(placement, "open_data", lambda folder: SimpleNamespace(folds=0))
        monkeypatch.setattr(placement, "task_placement", lambda context: contextlib.nullcontext(PLACE))

    return prepare


@pytest.fixture
def finish(context, install) -> Callable:
    """`finish(scores, …)`: train to the end from what is saved; the store."""

    def run(
        scores: list[float],
        *,
        learner: Learner | None = None,
        monitor: Script | None = None,
        action: str = "observe",
        patience: int = EPOCHS,
        evaluations: int = 0,
    ) -> TrainingStore:
        install(scores, learner=learner, monitor=monitor, evaluations=evaluations)
        store = TrainingStore(context.work, context.run)
        run_training(context, spec_of(action=action, patience=patience), store)
        return store

    return run


def best_weights(context: SimpleNamespace) -> dict[str, torch.Tensor]:
    return TrainingStore(context.work).best().weights


def weights_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*weights*"))


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- what is kept


@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree_adamw"])
def test_the_weights_that_are_kept_are_those_that_were_scored_in_the_best_epoch(context, finish, optimizer) -> None:
    learner, until_two = new_learner(optimizer), new_learner(optimizer)
    store = finish([0.5, 0.9, 0.7], learner=learner)
    list(
        train_epochs(until_two, until=2, batches=batches, evaluate=lambda m: {}, on_steps=lambda r: None, watcher=None)
    )
    with until_two.scoring() as scored:
        expected = {name: tensor.clone() for name, tensor in scored.state_dict().items()}
    assert store.progress.best.epoch == 2
    assert equal(best_weights(context), expected)
    assert weights_in(context.work) == ["epoch-2-weights.safetensors"]


def test_the_training_ends_when_patience_is_out(finish) -> None:
    assert [record.epoch for record in finish([0.5, 0.9, 0.7], patience=2).progress.history] == [1, 2, 3, 4]


def test_every_step_is_logged_with_its_epoch(context, finish) -> None:
    store = finish([0.5])
    numbers = list(range(1, EPOCHS * STEPS + 1))
    for key in ("step/lr", "step/lr_lowest", "step/loss", "step/grad_norm"):
        assert context.run.steps_of(key) == numbers
    assert context.run.metrics["step/lr", 1] == pytest.approx(0.05 / 3)  # the first of two steps of warmup
    assert context.run.metrics["step/lr_lowest", 1] == 0  # the body is frozen in the first two steps
    assert context.run.metrics["step/lr_lowest", 3] == pytest.approx(0.025)
    assert context.run.steps_of("train_loss") == [1, 2, 3, 4, 5]
    assert [step.step for step in store.steps()] == numbers
    assert context.console.done == EPOCHS * STEPS


# --- interruptions


@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree_adamw"])
@pytest.mark.parametrize("cut_at", ["state.pt", "log"])
def test_an_interrupted_training_ends_as_a_straight_one(
    context, finish, monkeypatch, tmp_path, optimizer, cut_at
) -> None:
    """Cut while the third epoch is written: before `state.pt` it is done again, after it the epoch is only logged."""
    scores = [0.5, 0.6, 0.9, 0.7, 0.8]
    saved, logged = checkpoints.save_checkpoint, checkpoints.log_epoch

    def save(path: Path, state: dict) -> None:
        if cut_at == "state.pt" and path.name == "state.pt" and state["epoch"] == 3:
            raise KeyboardInterrupt
        saved(path, state)

    def log(run, record, steps) -> None:
        if cut_at == "log" and record.epoch == 3:
            raise KeyboardInterrupt
        logged(run, record, steps)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoints, "save_checkpoint", save)
        patched.setattr(checkpoints, "log_epoch", log)
        with pytest.raises(KeyboardInterrupt):
            finish(scores, learner=new_learner(optimizer))
    store = finish(scores, learner=new_learner(optimizer), evaluations=2 if cut_at == "state.pt" else 3)
    kept = best_weights(context)
    metrics = dict(context.run.metrics)
    for file in tmp_path.iterdir():
        file.unlink()
    whole = finish(scores, learner=new_learner(optimizer))
    assert store.progress.best.epoch == whole.progress.best.epoch == 3
    assert store.steps() == whole.steps()
    assert equal(kept, best_weights(context))
    assert [record.metrics for record in store.progress.history] == [
        record.metrics for record in whole.progress.history
    ]
    timed = ("seconds", "images_per_second")
    assert {k: v for k, v in metrics.items() if k[0] not in timed} == {
        k: v for k, v in context.run.metrics.items() if k[0] not in timed
    }


def test_each_epoch_hands_out_what_it_takes_to_end_with_the_same_weights(install, tmp_path) -> None:
    """From the state after every epoch, written and read again, in a learner of its own."""
    scores = [0.5, 0.6, 0.9, 0.7, 0.8]
    install(scores)
    states, items, store = [], [], TrainingStore(tmp_path)
    for item in train(spec_of(), PLACE, earlier=None):
        items.append(item)
        if isinstance(item, Saved):
            store.save(item)
            states.append(store.state())
    assert [type(item) for item in items] == [Saved] * EPOCHS + [Ended]
    assert [item.epoch.epoch for item in items[:-1]] == [1, 2, 3, 4, 5]
    assert [[step.step for step in item.steps] for item in items[:-1]] == [
        [1, 2, 3], [4, 5, 6], [7, 8, 9], [10, 11, 12], [13, 14, 15]
    ]  # fmt: skip
    # Kept are the weights of the epochs that led when they ended, with the logits of that very evaluation.
    assert [item.scored is not None for item in items[:-1]] == [True, True, True, False, False]
    assert items[2].scored.val_logits.tolist() == [[3.0, 3.0]]
    assert items[-1] == Ended(
        reason="completed", epoch=EPOCHS, precision="float32", failure=None, ledger=[], advice=[], steps=[],
        groups=GROUPS,
    )  # fmt: skip
    last = states[-1]["learner"]["model"]
    for done, state in enumerate(states[:-1], start=1):
        install(scores, evaluations=done)
        *_, final, _ = train(spec_of(), PLACE, earlier=state)
        assert equal(final.state["learner"]["model"], last)
        assert final.state["weights"] == {3: 3}


def test_what_is_handed_out_can_be_sent_to_another_process(install) -> None:
    install([0.5])
    for item in train(spec_of(), PLACE, earlier=None):
        assert type(pickle.loads(pickle.dumps(item))) is type(item)
    assert pickle.loads(pickle.dumps(spec_of())) == spec_of()


def test_a_training_that_has_ended_is_not_begun_again(context, finish, monkeypatch) -> None:
    finish([0.5, 0.9])
    logged = dict(context.run.metrics)
    monkeypatch.setattr(placement, "train", None)
    assert len(finish([0.5]).progress.history) == EPOCHS
    assert context.run.metrics == logged


# --- the monitor


def test_a_rollback_inside_an_epoch_undoes_the_epochs_after_it_also_the_best_of_them(context, finish) -> None:
    """From the second step of epoch 4 back to the end of epoch 1; epochs 2 and 3 were better than what came."""
    learner = new_learner()
    monitor = Script(at_step={3 * STEPS + 2: "rolled_back"})
    store = finish([0.5, 0.8, 0.9, 0.4, 0.3, 0.2, 0.1], learner=learner, monitor=monitor, action="rollback")
    assert [record.metrics["val_score"] for record in store.progress.history] == [0.5, 0.4, 0.3, 0.2, 0.1]
    assert store.progress.best.epoch == 1
    assert weights_in(context.work) == ["epoch-1-weights.safetensors"]
    only_one = new_learner()
    list(train_epochs(only_one, until=1, batches=batches, evaluate=lambda m: {}, on_steps=lambda r: None, watcher=None))
    assert equal(best_weights(context), only_one.model.state_dict())
    assert [step.step for step in store.steps()] == list(range(1, EPOCHS * STEPS + 1))
    peak = next(step for step in store.steps() if step.step == STEPS + 1).lr
    assert peak == pytest.approx(context.run.metrics["step/lr", STEPS + 1])
    assert peak < 0.5 * 0.05  # half of the schedule's, in the steps that were repeated
    assert context.console.done == EPOCHS * STEPS


def test_a_rollback_after_an_epoch_undoes_that_epoch_at_once(context, finish) -> None:
    store = finish(
        [0.5, 0.9, 0.4, 0.3, 0.2, 0.1], monitor=Script(at_epoch={2: "rolled_back"}), action="rollback", patience=2
    )
    assert [record.metrics["val_score"] for record in store.progress.history] == [0.5, 0.4, 0.3]
    assert weights_in(context.work) == ["epoch-1-weights.safetensors"]


def test_stopped_by_the_monitor_the_best_epoch_is_kept_and_the_last_steps_are_logged(context, finish) -> None:
    monitor = Script(at_step={2 * STEPS + 2: "stop"})
    store = finish([0.9, 0.5], monitor=monitor, action="stop")
    assert [record.epoch for record in store.progress.history] == [1, 2]
    assert store.progress.best.epoch == 1
    assert context.run.steps_of("step/loss") == list(range(1, 2 * STEPS + 3))


def test_a_training_that_was_stopped_at_an_epochs_end_does_not_go_on_when_it_is_resumed(finish) -> None:
    monitor = Script(at_epoch={2: "stop"})
    assert len(finish([0.9, 0.5], monitor=monitor, action="stop").progress.history) == 2
    assert len(finish([0.9, 0.5], monitor=Script(), action="stop").progress.history) == 2


def test_stopped_before_there_was_an_epoch_to_keep_the_user_hears_why(finish) -> None:
    with pytest.raises(
        InputError, match=r"recipe\.lr=5\.00e-02.*first epoch.*lower recipe\.lr.*The rate is too high\."
    ):
        finish([0.5], monitor=Script(at_step={2: "stop"}), action="stop")


# --- divergence


class Poisoned(nn.CrossEntropyLoss):
    def __init__(self, at: int) -> None:
        super().__init__()
        self.calls, self.at = 0, at

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return super().forward(logits, labels) * (math.nan if self.calls == self.at else 1)


def poisoned(at: int) -> Learner:
    learner = new_learner()
    learner.loss = Poisoned(at)
    return learner


@pytest.mark.parametrize("action", ["none", "observe"])
def test_a_training_that_diverges_under_observation_is_an_error_with_a_remedy(finish, action: str) -> None:
    with pytest.raises(InputError, match=r"recipe\.lr=.*diverged in epoch 2.*lower recipe\.lr"):
        finish([0.5], learner=poisoned(STEPS + 1), monitor=Script() if action == "observe" else None, action=action)


def test_a_training_that_the_monitor_may_end_keeps_its_best_epoch_when_it_diverges(context, finish) -> None:
    store = finish([0.5], learner=poisoned(STEPS + 1), monitor=Script(), action="stop")
    assert [record.epoch for record in store.progress.history] == [1]
    assert "diverged in epoch 2" in context.console.said[-1]


def test_without_an_epoch_to_keep_it_is_an_error_all_the_same(finish) -> None:
    with pytest.raises(InputError, match=r"diverged in epoch 1.*The rate is too high\."):
        finish([0.5], learner=poisoned(1), monitor=Script(), action="stop")


@pytest.mark.parametrize("action", ["none", "observe", "stop"])
def test_outputs_on_the_validation_split_that_are_not_finite_are_a_divergence_too(finish, action: str) -> None:
    monitor = None if action == "none" else Script()
    with pytest.raises(InputError, match=r"^recipe\.lr=.*diverged in epoch 1; lower recipe\.lr"):
        finish([math.nan], monitor=monitor, action=action)


def test_they_end_a_training_that_the_monitor_may_end_at_its_best_epoch_so_far(context, finish) -> None:
    store = finish([0.4, math.nan, 0.9], monitor=Script(), action="stop")
    assert (store.progress.best.epoch, len(store.progress.history), store.ended.epoch) == (1, 1, 2)


def test_an_epoch_of_such_outputs_that_is_undone_at_once_ends_nothing(finish) -> None:
    scores = [0.5, math.nan, 0.4, 0.3, 0.2, 0.1]
    store = finish(scores, monitor=Script(at_epoch={2: "rolled_back"}), action="rollback")
    assert [record.metrics["val_score"] for record in store.progress.history] == [0.5, 0.4, 0.3, 0.2, 0.1]


def test_a_training_that_came_to_nothing_is_made_anew_when_it_is_asked_for_again(context, finish) -> None:
    with pytest.raises(InputError):
        finish([0.5], learner=poisoned(STEPS + 1), action="observe")
    assert len(finish([0.5]).progress.history) == EPOCHS


# --- how a training ends, and what is written of it


@pytest.mark.parametrize(
    ("scores", "options", "reason", "epoch"),
    [
        ([0.5], {}, "completed", EPOCHS),
        ([0.9, 0.5], {"patience": 2}, "patience", 3),
        ([0.5], {"monitor": Script(at_step={STEPS + 2: "stop"}), "action": "stop"}, "monitor", 1),
        ([0.5], {"monitor": Script(at_epoch={2: "stop"}), "action": "stop"}, "monitor", 2),
        ([0.5, math.nan], {"monitor": Script(), "action": "stop"}, "diverged", 2),
    ],
)
def test_the_end_has_a_reason(finish, scores, options, reason, epoch) -> None:
    ended = finish(scores, **options).ended
    assert (ended.reason, ended.epoch, ended.failure) == (reason, epoch, None)


def test_what_is_written_for_an_epoch_does_not_grow_with_the_training(context, install) -> None:
    install([0.5] * EPOCHS)
    store, written = TrainingStore(context.work), []
    for event in train(spec_of(), PLACE, earlier=None):
        for path in context.work.iterdir():
            os.utime(path, ns=(0, 0))
        store.save(event)
        if isinstance(event, Saved):
            new = [path for path in context.work.iterdir() if path.stat().st_mtime_ns]
            written.append({path.name.split("-")[0]: path.stat().st_size for path in new if path.suffix == ".pt"})
    assert [set(sizes) for sizes in written] == [{"state.pt", "epoch"}] * EPOCHS
    assert max(sizes["state.pt"] for sizes in written) - min(sizes["state.pt"] for sizes in written) < 64
    assert len({sizes["epoch"] for sizes in written}) == 1


def test_a_training_that_has_ended_needs_no_learner_any_more(context, finish) -> None:
    finish([0.5])
    state = checkpoints.load_checkpoint(context.work / "state.pt", device=CPU.target)
    assert state.keys() == {"epoch", "trained", "weights"}
    again = TrainingStore(context.work)
    assert len(again.progress.history) == EPOCHS
    assert again.best().val_logits.tolist() == [[1.0, 1.0]]


def test_only_what_is_to_be_kept_is_handed_out(install) -> None:
    for keep, expected in (("best", [1, 2]), ("last", [1, 2, 3, 4, 5]), (None, [])):
        install([0.5, 0.9, 0.7])
        events = list(train(spec_of(keep=keep), PLACE, earlier=None))
        assert [event.epoch.epoch for event in events[:-1] if event.scored is not None] == expected


def test_the_table_of_steps_has_the_rate_of_every_group(finish) -> None:
    store = finish([0.5])
    table = store.steps_table()
    assert list(table.columns) == ["step", *(f"lr_{name}" for name in GROUPS), "loss", "grad_norm"]
    last = store.steps()[-1]
    assert table.iloc[-1].tolist() == [last.step, *last.rates, last.loss, last.grad_norm]


# --- trainings of the folds


def recipe_of(**keys: Any) -> Recipe:
    return RECIPE.model_copy(update={"recipe": RECIPE.recipe.model_copy(update=keys)})


def test_without_a_fold_nothing_is_stopped_or_picked_on_it_and_it_is_scored_once_in_all_views() -> None:
    recipe = recipe_of(augment=("horizontal_flip", "vertical_flip", "quarter_turns"))
    asked = TrainingSpec(recipe=recipe, seed=5, epochs=3, patience=2, keep="best")
    found = left_out(asked, 2)
    assert (found.fold, found.seed, found.keep, found.patience, found.score_last) == (2, 7, "last", None, True)
    assert found.views == (0, 4, 2, 6, 1, 3, 5, 7)
    assert (found.recipe, found.epochs) == (recipe, 3)
    assert left_out(TrainingSpec(recipe=recipe_of(augment_strength=0.0), seed=5, epochs=3), 0).views == (0,)


def test_a_training_on_all_images_picks_nothing_either() -> None:
    found = on_all(spec_of(patience=2))
    assert (found.fold, found.keep, found.patience, found.score_last) == ("all", "last", None, True)
    assert (found.seed, found.views) == (0, ())


def start(value: float) -> HeadStart:
    return HeadStart(np.full((2, 3), value, np.float32), np.zeros(2, np.float32))


def test_the_start_of_a_classifier_is_the_one_that_was_fitted_without_the_images_that_are_scored() -> None:
    name = RECIPE.model.backbone
    folds = {(name, 0): start(0), (name, 1): start(1), (name, None): start(9), ("other", 1): start(5)}

    def value(spec: TrainingSpec, heads: dict) -> float | None:
        head = with_head(spec, heads, cross_fitted()).head
        return None if head is None else float(head.weight[0, 0])

    plain = TrainingSpec(recipe=recipe_of(head_start="always"), seed=0, epochs=1)
    assert value(left_out(plain, 1), folds) == 1
    assert value(plain, folds) == 0  # compares recipes on the first fold
    assert value(on_all(plain), folds) == 9
    assert value(plain, {(name, None): start(9)}) == 9  # of the design hold_out
    assert value(left_out(plain, 2), folds) is None
    assert value(plain, {}) is None
    assert value(TrainingSpec(recipe=recipe_of(head_start="never"), seed=0, epochs=1), folds) is None


def test_a_long_training_starts_its_classifier_near_zero_unless_it_is_told_to(monkeypatch) -> None:
    monkeypatch.setattr(module, "HEAD_START_IMAGES", 20)
    heads = {(RECIPE.model.backbone, fold): start(0) for fold in (0, None)}

    def has_start(epochs: int, wanted: str) -> bool:
        spec = left_out(TrainingSpec(recipe=recipe_of(head_start=wanted), seed=0, epochs=epochs), 0)
        return with_head(spec, heads, cross_fitted()).head is not None  # five images without the fold

    assert [has_start(epochs, "auto") for epochs in (1, 4, 5)] == [True, True, False]
    assert has_start(5, "always")
    assert not has_start(1, "never")


def test_the_images_of_a_training_follow_its_fold(monkeypatch) -> None:
    monkeypatch.setattr(module, "for_selection", lambda data: "selection")
    monkeypatch.setattr(module, "fold_of", lambda data, fold: f"without {fold}")
    plain = TrainingSpec(recipe=RECIPE, seed=0, epochs=1)
    assert data_of(plain.fold, "data") == "selection"
    assert data_of(left_out(plain, 2).fold, "data") == "without 2"
    assert data_of(left_out(plain, 0).fold, "data") == "without 0"
    assert data_of(on_all(plain).fold, "data") == "data"


class Folded:
    """Twelve images of noise in three folds, and their networks of a few weights, through the builders themselves."""

    def __init__(self, monkeypatch) -> None:
        generator = np.random.default_rng(0)
        manifest = pd.DataFrame(
            {
                "split": ["train"] * 12,
                "fold": np.arange(12) // 2 % 3,
                "label": ["dent", "good"] * 6,
                "pack_index": np.arange(12),
            }
        )
        pixels = generator.integers(0, 256, (12, 5, 5, 3), dtype=np.uint8)
        data = TrainingData(manifest, pixels, ("dent", "good"), ("good",))
        self.place = SimpleNamespace(open=lambda: data, compute=ComputeConfig(device="cpu", loader_workers=0))
        monkeypatch.setattr(build, "new_model", lambda recipe, data, *, seed: self.model(seed))
        keys = {"batch_size": 4, "augment": ("horizontal_flip", "vertical_flip"), "objective": "auroc"}
        recipe = Recipe(model=ModelConfig(), recipe=RecipeConfig(lr=0.01, precision="float32", **keys))
        self.spec = TrainingSpec(recipe=recipe, seed=0, epochs=3)

    def model(self, seed: int) -> SimpleNamespace:
        with torch.random.fork_rng([]):
            torch.manual_seed(seed)
            model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 2))
        return SimpleNamespace(model=model, mean=(0.5,) * 3, std=(0.25,) * 3)

    def events(self, spec: TrainingSpec, earlier: Any = None) -> Iterator:
        return train(spec, self.place, earlier=earlier)


@pytest.fixture
def folded(monkeypatch) -> Folded:
    return Folded(monkeypatch)


def finished(folded: Folded, spec: TrainingSpec, folder: Path) -> TrainingStore:
    store = TrainingStore(folder)
    for event in folded.events(spec, store.state()):
        store.save(event)
    return store


def test_a_fold_is_scored_after_the_last_epoch_alone_and_the_last_weights_are_kept(folded, tmp_path) -> None:
    store = finished(folded, left_out(folded.spec, 1), tmp_path)
    assert [sorted(record.metrics) for record in store.progress.history] == [[], [], ["val_loss", "val_score"]]
    assert store.progress.weights == {3: 3}
    kept = store.best()
    assert kept.val_logits.shape == (4, 2)
    assert (kept.views.shape, kept.views.dtype) == ((4, 4, 2), np.float32)
    np.testing.assert_allclose(kept.views[0], torch.from_numpy(kept.val_logits).log_softmax(1), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("cut_after", [1, 2, 3])
def test_a_fold_whose_training_was_interrupted_has_the_same_views_bit_for_bit(folded, tmp_path, cut_after: int) -> None:
    spec = left_out(folded.spec, 1)
    whole = finished(folded, spec, tmp_path / "whole").best()
    cut = TrainingStore(tmp_path / "cut")
    for event, _ in zip(folded.events(spec), range(cut_after), strict=False):
        cut.save(event)
    again = finished(folded, spec, tmp_path / "cut")
    np.testing.assert_array_equal(again.best().views, whole.views)
    assert equal(again.best().weights, whole.weights)
    assert TrainingStore(tmp_path / "cut").ended == again.ended
    checkpoints.copy_training(tmp_path / "cut", tmp_path / "copy")
    np.testing.assert_array_equal(TrainingStore(tmp_path / "copy").best().views, whole.views)


def test_a_training_on_all_images_ends_with_its_last_weights_and_no_scores(folded, tmp_path) -> None:
    store = finished(folded, on_all(folded.spec), tmp_path)
    assert [record.metrics for record in store.progress.history] == [{}, {}, {}]
    assert (store.ended.reason, store.ended.failure, store.progress.weights) == ("completed", None, {3: 3})
    kept = store.best()
    assert (kept.val_logits.shape, kept.views) == ((0, 2), None)
    other = finished(folded, left_out(folded.spec, 0), tmp_path / "other").best()
    assert not equal(kept.weights, other.weights)


def test_the_head_that_is_given_is_where_the_classifier_starts(folded, monkeypatch) -> None:
    monkeypatch.setattr(heads, "classifier_names", lambda backbone: ("4",))
    given = HeadStart(np.full((2, 36), 0.5, np.float32), np.array([1, -1], np.float32))
    started = module.TrainingJob(
        dataclasses.replace(folded.spec, head=given), folded.place.open(), folded.place.compute
    )
    assert (started.learner.model[4].weight == 0.5).all()
    assert started.learner.model[4].bias.tolist() == [1, -1]
