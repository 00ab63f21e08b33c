"""The final training of a tiny network: what is kept, what an interruption costs, what a rollback undoes."""

import copy
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from components.data.loader import Batch
from components.errors import InputError
from components.optim.layerwise import LayerRates
from components.optim.optimizers import OPTIMIZERS, build_optimizer
from components.optim.schedules import Schedule
from components.optim.stepper import Stepper
from components.training.engine import Device, EpochRecord, Learner, Preprocessing, Request, StepRecord, train_epochs
from pipeline import final_training
from pipeline.config import TrainConfig
from pipeline.progress import Progress
from pipeline.sections.rates import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig

EPOCHS, STEPS = 5, 3
RECIPE = Recipe(model=ModelConfig(), recipe=RecipeConfig(lr=0.05))
CPU = Device(torch.device("cpu"))


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
        self.client = SimpleNamespace(get_metric_history=self._history)

    def log_metrics(self, metrics: dict, *, step: int) -> None:
        self.log_history([(step, metrics)])

    def log_history(self, rows: list) -> None:
        self.metrics |= {(key, step): value for step, metrics in rows for key, value in metrics.items()}

    def steps_of(self, key: str) -> list[int]:
        return sorted(step for name, step in self.metrics if name == key)

    def _history(self, run_id: str, key: str) -> list:
        return [SimpleNamespace(step=step) for step in self.steps_of(key)]


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
        work=tmp_path, run=Run(), console=Bar(), compute=SimpleNamespace(loader_workers=0, device="cpu")
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

    def after_step(self, learner: Learner, record: StepRecord) -> Request:
        self.calls += 1
        return self._do(learner, self.at_step.get(self.calls, "go_on"))

    def after_epoch(self, learner: Learner, record: EpochRecord) -> Request:
        self.epochs += 1
        if self.epochs == 1:
            self.kept = copy.deepcopy(learner.state_dict())
        return self._do(learner, self.at_epoch.get(self.epochs, "go_on"))

    def advice(self) -> list[str]:
        return ["The rate is too high."]

    def state_dict(self) -> dict[str, Any]:
        return {"calls": self.calls, "epochs": self.epochs, "ledger": self.ledger, "kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.calls, self.epochs = state["calls"], state["epochs"]
        self.ledger, self.kept = state["ledger"], state["kept"]

    def _do(self, learner: Learner, request: Request) -> Request:
        action = {"go_on": "none", "stop": "stop", "rolled_back": "rollback"}[request]
        if request != "go_on":
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
    schedule = Schedule(
        name="fixed" if OPTIMIZERS[optimizer].schedule_free else "cosine", warmup_steps=2, total_steps=EPOCHS * STEPS,
        final_fraction=0.01, drops=2, cycles=2, cycle_growth=1.0, cycle_low=0.25, rise=0.3, cooldown=0.2,
        plateau_factor=0.3, plateau_patience=2,
    )  # fmt: skip
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


@pytest.fixture
def finish(context, monkeypatch) -> Callable:
    """`finish(scores, …)`: train to the end; scores: by the number of the evaluation, the last one for the rest."""

    def run(
        scores: list[float],
        *,
        learner: Learner | None = None,
        monitor: Script | None = None,
        action: str = "observe",
        patience: int = EPOCHS,
        evaluations: int = 0,
    ) -> Progress:
        done = evaluations

        def run_epochs(learner, recipe, data, *, until, workers, on_step, on_scored, watcher):
            def evaluate(module: nn.Module) -> dict[str, float]:
                nonlocal done
                done += 1
                on_scored(module, np.zeros((1, 2)))
                return {"val_loss": 1.0, "val_score": scores[min(done, len(scores)) - 1]}

            return train_epochs(
                learner, until=until, batches=batches, evaluate=evaluate, on_step=on_step, watcher=watcher
            )

        monkeypatch.setattr(final_training, "run_epochs", run_epochs)
        monkeypatch.setattr(final_training, "new_monitor", lambda *a, **k: monitor)
        monkeypatch.setattr(final_training, "steps_per_epoch", lambda recipe, data: STEPS)
        progress, _ = final_training.train_to_the_end(
            context,
            learner or new_learner(),
            RECIPE,
            SimpleNamespace(),
            train=TrainConfig(epochs=EPOCHS, patience=patience),
            settings=MonitorConfig(action=action),
        )
        return progress

    return run


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


# --- what is kept


@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree_adamw"])
def test_the_weights_that_are_kept_are_those_that_were_scored_in_the_best_epoch(context, finish, optimizer) -> None:
    learner, until_two = new_learner(optimizer), new_learner(optimizer)
    progress = finish([0.5, 0.9, 0.7], learner=learner)
    list(train_epochs(until_two, until=2, batches=batches, evaluate=lambda m: {}, on_step=lambda r: None, watcher=None))
    with until_two.scoring() as scored:
        expected = {name: tensor.clone() for name, tensor in scored.state_dict().items()}
    assert progress.best_epoch == 2
    assert equal(final_training.best_weights(context, progress, learner), expected)
    assert files(context.work) == {"last.pt", "weights-2.pt"}


def test_the_training_ends_when_patience_is_out(finish) -> None:
    assert [record.epoch for record in finish([0.5, 0.9, 0.7], patience=2).history] == [1, 2, 3, 4]


def test_every_step_is_logged_with_its_epoch(context, finish) -> None:
    progress = finish([0.5])
    numbers = list(range(1, EPOCHS * STEPS + 1))
    for key in ("step_lr", "step_lr_lowest", "step_loss", "step_grad_norm"):
        assert context.run.steps_of(key) == numbers
    assert context.run.metrics["step_lr", 1] == pytest.approx(0.05 / 3)  # the first of two steps of warmup
    assert context.run.metrics["step_lr_lowest", 1] == 0  # the body is frozen in the first two steps
    assert context.run.metrics["step_lr_lowest", 3] == pytest.approx(0.025)
    assert context.run.steps_of("train_loss") == [1, 2, 3, 4, 5]
    assert [step.step for step in progress.steps] == numbers
    assert context.console.done == EPOCHS * STEPS


# --- interruptions


@pytest.mark.parametrize("optimizer", ["adamw", "schedulefree_adamw"])
@pytest.mark.parametrize("cut_at", ["last.pt", "log"])
def test_an_interrupted_training_ends_as_a_straight_one(
    context, finish, monkeypatch, tmp_path, optimizer, cut_at
) -> None:
    """Cut while the third epoch is written: before `last.pt` it is done again, after it the epoch is only logged."""
    straight = SimpleNamespace(work=tmp_path / "straight", run=context.run, console=context.console)
    straight.work.mkdir()
    scores = [0.5, 0.6, 0.9, 0.7, 0.8]
    saved, logged = final_training.save_checkpoint, final_training.log_epoch

    def save(path: Path, state: dict) -> None:
        if cut_at == "last.pt" and path.name == "last.pt" and len(state["history"]) == 3:
            raise KeyboardInterrupt
        saved(path, state)

    def log(context, progress, record) -> None:
        if cut_at == "log" and record.epoch == 3:
            raise KeyboardInterrupt
        logged(context, progress, record)

    with monkeypatch.context() as patched:
        patched.setattr(final_training, "save_checkpoint", save)
        patched.setattr(final_training, "log_epoch", log)
        with pytest.raises(KeyboardInterrupt):
            finish(scores, learner=new_learner(optimizer))
    learner = new_learner(optimizer)
    progress = finish(scores, learner=learner, evaluations=2 if cut_at == "last.pt" else 3)
    kept = final_training.best_weights(context, progress, learner)
    metrics = dict(context.run.metrics)
    for file in tmp_path.glob("*.pt"):
        file.unlink()
    whole = finish(scores, learner=new_learner(optimizer))
    assert progress.best_epoch == whole.best_epoch == 3
    assert progress.steps == whole.steps
    assert equal(kept, final_training.best_weights(context, whole, learner))
    assert [record.metrics for record in progress.history] == [record.metrics for record in whole.history]
    timed = ("seconds", "images_per_second")
    assert {k: v for k, v in metrics.items() if k[0] not in timed} == {
        k: v for k, v in context.run.metrics.items() if k[0] not in timed
    }


# --- the monitor


def test_a_rollback_inside_an_epoch_undoes_the_epochs_after_it_also_the_best_of_them(context, finish) -> None:
    """From the second step of epoch 4 back to the end of epoch 1; epochs 2 and 3 were better than what came."""
    learner = new_learner()
    monitor = Script(at_step={3 * STEPS + 2: "rolled_back"})
    progress = finish([0.5, 0.8, 0.9, 0.4, 0.3, 0.2, 0.1], learner=learner, monitor=monitor, action="rollback")
    assert [record.metrics["val_score"] for record in progress.history] == [0.5, 0.4, 0.3, 0.2, 0.1]
    assert progress.best_epoch == 1
    assert files(context.work) == {"last.pt", "weights-1.pt"}
    only_one = new_learner()
    list(train_epochs(only_one, until=1, batches=batches, evaluate=lambda m: {}, on_step=lambda r: None, watcher=None))
    assert equal(final_training.best_weights(context, progress, learner), only_one.model.state_dict())
    assert [step.step for step in progress.steps] == list(range(1, EPOCHS * STEPS + 1))
    peak = next(step for step in progress.steps if step.step == STEPS + 1).lr
    assert peak == pytest.approx(context.run.metrics["step_lr", STEPS + 1])
    assert peak < 0.5 * 0.05  # half of the schedule's, in the steps that were repeated
    assert context.console.done == EPOCHS * STEPS


def test_a_rollback_after_an_epoch_undoes_that_epoch_at_once(context, finish) -> None:
    progress = finish(
        [0.5, 0.9, 0.4, 0.3, 0.2, 0.1], monitor=Script(at_epoch={2: "rolled_back"}), action="rollback", patience=2
    )
    assert [record.metrics["val_score"] for record in progress.history] == [0.5, 0.4, 0.3]
    assert files(context.work) == {"last.pt", "weights-1.pt"}


def test_stopped_by_the_monitor_the_best_epoch_is_kept_and_the_last_steps_are_logged(context, finish) -> None:
    monitor = Script(at_step={2 * STEPS + 2: "stop"})
    progress = finish([0.9, 0.5], monitor=monitor, action="stop")
    assert [record.epoch for record in progress.history] == [1, 2]
    assert progress.best_epoch == 1
    assert context.run.steps_of("step_loss") == list(range(1, 2 * STEPS + 3))


def test_a_training_that_was_stopped_at_an_epochs_end_does_not_go_on_when_it_is_resumed(finish) -> None:
    monitor = Script(at_epoch={2: "stop"})
    assert len(finish([0.9, 0.5], monitor=monitor, action="stop").history) == 2
    assert len(finish([0.9, 0.5], monitor=Script(), action="stop").history) == 2


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
    progress = finish([0.5], learner=poisoned(STEPS + 1), monitor=Script(), action="stop")
    assert [record.epoch for record in progress.history] == [1]
    assert "diverged in epoch 2" in context.console.said[-1]


def test_without_an_epoch_to_keep_it_is_an_error_all_the_same(finish) -> None:
    with pytest.raises(InputError, match=r"diverged in epoch 1.*The rate is too high\."):
        finish([0.5], learner=poisoned(1), monitor=Script(), action="stop")
