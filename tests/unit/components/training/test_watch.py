"""Watching a training: what is measured, that watching changes nothing, and what the actions do."""

import copy
import itertools
import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from schedules import schedule_of
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from components.data.loader import Batch
from components.models.forward import Preprocessing
from components.optim.layerwise import LayerRates
from components.optim.monitor.monitor import Signals, TrainingMonitor, Verdict
from components.optim.optimizers import build_optimizer
from components.optim.stepper import Stepper
from components.training.checkpoint import load_checkpoint, save_checkpoint
from components.training.engine import FETCH_STEPS, Device, EpochRecord, Learner, train_epochs
from components.training.watch import GRACE_STEPS, MonitorWatcher

CPU = Device(torch.device("cpu"))
HALF = Preprocessing.from_unit_scale((0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
STEPS, SIZE = 4, 6


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For networks of a few weights, more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def some_batch(seed: int) -> Batch:
    generator = np.random.default_rng(seed)
    images = torch.from_numpy(generator.integers(0, 256, (SIZE, 3, 5, 5), dtype=np.uint8))
    return Batch(images, torch.from_numpy(generator.integers(0, 2, SIZE)), torch.arange(SIZE))


def batches(epoch: int) -> Iterator[Batch]:
    return (some_batch(100 * epoch + number) for number in range(STEPS))


def new_learner(*, optimizer: str = "sgd", lr: float = 0.05, schedule: str = "fixed", warmup: int = 0) -> Learner:
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(3, 4, 3, bias=False),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(4, 2),
        )
    layers = LayerRates(layer_decay=1.0, towards="input", head_ratio=1.0)
    plan = schedule_of(schedule, warmup_steps=warmup, total_steps=40)
    built = build_optimizer(model, name=optimizer, lr=lr, weight_decay=0.01, layers=layers)
    return Learner(
        model=model,
        stepper=Stepper(model, built, plan, clip_grad_norm=None, freeze_steps=0),
        loss=nn.CrossEntropyLoss(),
        device=CPU,
        preprocessing=HALF,
        seed=3,
        averaged=None,
        calibration=lambda: [some_batch(0)],
    )


def new_watcher(action: str = "observe", *, max_rollbacks: int = 2, probe_every: int = 2) -> MonitorWatcher:
    return MonitorWatcher(
        some_batch(99),
        action=action,  # type: ignore[arg-type]
        max_rollbacks=max_rollbacks,
        probe_every=probe_every,
        total_steps=40,
        chance_loss=math.log(2),
    )


def train(learner: Learner, until: int, watcher, *, val_losses=None) -> list[EpochRecord]:
    """val_losses: by the number of the epoch, from 1; without, they fall."""

    def evaluate(model: nn.Module) -> dict[str, float]:
        epoch = learner.epoch
        return {"val_loss": val_losses[epoch] if val_losses else 1 / epoch, "val_score": 0.5}

    return list(
        train_epochs(
            learner, until=until, batches=batches, evaluate=evaluate, on_steps=lambda records: None, watcher=watcher
        )
    )


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Signals]:
    """All signals that the monitor is given."""
    found: list[Signals] = []
    original = TrainingMonitor.update

    def update(self: TrainingMonitor, signals: Signals) -> Verdict | None:
        found.append(signals)
        return original(self, signals)

    monkeypatch.setattr(TrainingMonitor, "update", update)
    return found


def find(monkeypatch: pytest.MonkeyPatch, *steps: int, kind: str = "oscillating") -> None:
    """A monitor that finds this kind at the n-th calls of `update`."""
    calls = iter(range(1, 1000))

    def update(self: TrainingMonitor, signals: Signals) -> Verdict | None:
        if next(calls) not in steps:
            return None
        return Verdict(
            kind=kind,  # type: ignore[arg-type]
            step=signals.step,
            epoch=1,
            evidence={"loss": signals.loss},
            advice="lower it",
        )

    monkeypatch.setattr(TrainingMonitor, "update", update)


def weights(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in learner.model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


# --- measuring


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "schedulefree_adamw"])
def test_watching_changes_no_weight_no_statistic_and_no_draw(optimizer) -> None:
    watched, alone = new_learner(optimizer=optimizer), new_learner(optimizer=optimizer)
    train(watched, 3, new_watcher(probe_every=1))
    train(alone, 3, None)
    assert same(weights(watched), weights(alone))
    assert watched.model.training == alone.model.training


def test_the_cosine_is_that_of_successive_gradients_and_unknown_at_the_first_of_an_epoch(monkeypatch, seen) -> None:
    gradients = iter([[3.0, 4.0], [4.0, 3.0], [-4.0, -3.0], [0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [1.0, 1.0]])

    def measure(self: Stepper) -> None:
        self.gradients = [torch.tensor(next(gradients))]
        self.grad_norm = self.gradients[0].norm()

    monkeypatch.setattr(Stepper, "measure_gradients", measure)
    train(new_learner(), 2, new_watcher())
    cosines = [entry.cosine for entry in seen]
    assert cosines[1] == pytest.approx(24 / 25)
    assert cosines[2] == pytest.approx(-1.0)
    assert [math.isnan(value) for value in cosines] == [True, False, False, True, True, False, False, False]
    assert cosines[5] == 0.0
    assert cosines[6] == pytest.approx(math.sqrt(0.5))


@pytest.mark.parametrize("optimizer", ["sgd", "schedulefree_sgd"])
def test_the_cosine_is_of_the_gradients_though_optimizers_write_into_them(optimizer, seen) -> None:
    learner, found = new_learner(optimizer=optimizer), []

    class Beside(MonitorWatcher):
        def before_step(self, learner: Learner) -> None:
            found.append(torch.cat([weight.grad.flatten().clone() for weight in learner.model.parameters()]))
            super().before_step(learner)

    train(learner, 1, Beside(some_batch(99), **SETTINGS))
    expected = [torch.cosine_similarity(one, two, dim=0) for one, two in itertools.pairwise(found)]
    assert [entry.cosine for entry in seen[1:]] == pytest.approx([float(value) for value in expected], rel=1e-5)


SETTINGS = {
    "action": "observe",
    "max_rollbacks": 1,
    "probe_every": 2,
    "total_steps": 40,
    "chance_loss": math.log(2),
}


def test_the_update_ratio_is_the_length_of_a_step_over_that_of_the_weights(seen) -> None:
    learner, probe_every = new_learner(), 2
    before: dict[int, torch.Tensor] = {}

    def matrices() -> torch.Tensor:
        return torch.cat([learner.model[0].weight.flatten(), learner.model[6].weight.flatten()]).detach().clone()

    class Beside(MonitorWatcher):
        def before_step(self, learner: Learner) -> None:
            before[learner.step + 1] = matrices()
            super().before_step(learner)

    train(learner, 1, Beside(some_batch(99), **SETTINGS))
    after = {step: before[step + 1] for step in range(1, STEPS)} | {STEPS: matrices()}
    for entry in seen:
        if entry.step % probe_every:
            assert math.isnan(entry.update_ratio)
            assert math.isnan(entry.probe_loss)
        else:
            change = (after[entry.step] - before[entry.step]).norm() / before[entry.step].norm()
            assert entry.update_ratio == pytest.approx(float(change), rel=1e-5)


def test_the_step_after_which_the_body_is_unfrozen_is_measured_on_what_it_trained(seen) -> None:
    learner = new_learner()
    learner.stepper = Stepper(
        learner.model, learner.stepper.optimizer, learner.stepper.schedule, clip_grad_norm=None, freeze_steps=2
    )
    train(learner, 1, new_watcher(probe_every=2))
    assert [signals.step for signals in seen if signals.update_ratio > 0] == [2, 4]


def test_the_probe_loss_is_that_of_the_weights_after_the_step_in_eval_mode(seen) -> None:
    learner = new_learner()
    train(learner, 1, new_watcher(probe_every=STEPS))
    learner.model.eval()
    with torch.no_grad():
        expected = learner.loss(CPU.forward(learner.model, some_batch(99), HALF), some_batch(99).labels)
    assert seen[-1].probe_loss == pytest.approx(float(expected), rel=1e-6)


def test_the_probe_loss_is_of_soft_targets_where_there_are_any(seen) -> None:
    probe = replace(some_batch(99), targets=torch.full((SIZE, 2), 0.5))
    learner = new_learner()
    train(learner, 1, MonitorWatcher(probe, **(SETTINGS | {"probe_every": STEPS})))
    learner.model.eval()
    with torch.no_grad():
        expected = nn.CrossEntropyLoss()(CPU.forward(learner.model, probe, HALF), probe.targets)
    assert seen[-1].probe_loss == pytest.approx(float(expected), rel=1e-6)


def test_a_long_training_is_measured_a_hundred_times_and_its_cosine_ten_times_as_often(seen) -> None:
    watcher = MonitorWatcher(some_batch(99), **(SETTINGS | {"total_steps": 2000}))
    batches_of_45 = [some_batch(number) for number in range(45)]
    learner = new_learner()
    list(
        train_epochs(
            learner,
            until=1,
            batches=lambda epoch: batches_of_45,
            evaluate=None,
            on_steps=lambda records: None,
            watcher=watcher,
        )
    )
    assert [entry.step for entry in seen if not math.isnan(entry.probe_loss)] == [20, 40]
    assert [entry.step for entry in seen if not math.isnan(entry.cosine)] == list(range(2, 46, 2))


def test_detectors_rest_while_a_rate_rises_and_a_while_after(seen) -> None:
    train(new_learner(warmup=8), 10, new_watcher())
    rests = [entry.step for entry in seen if entry.in_grace_period]
    # The first step has none to compare with; the rate rises up to step 9, which is the first at the full one.
    assert rests == list(range(2, 9 + GRACE_STEPS))


def test_detectors_rest_after_a_restart(seen) -> None:
    train(new_learner(schedule="cosine_restarts"), 10, new_watcher())
    assert [entry.step for entry in seen if entry.in_grace_period] == list(range(21, 41))  # two cycles of 20 steps


# --- what the host waits for


class HostReads(TorchDispatchMode):
    """Counts the values that the host reads from tensors: what `item`, `float`, `bool` and copies come down to."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "schedulefree_adamw"])
@pytest.mark.parametrize("ema", [False, True])
def test_the_host_reads_from_the_device_once_in_so_many_steps(monkeypatch, optimizer, ema) -> None:
    learner, reads = new_learner(optimizer=optimizer), HostReads()
    if optimizer != "schedulefree_adamw":
        for group in learner.stepper.optimizer.param_groups:
            group["fused"] = True  # as on a GPU
        if ema:
            learner.averaged = ModelEmaV3(learner.model, decay=0.9, use_warmup=True)
    learner.fetch_every = FETCH_STEPS
    for name in ("tolist", "cpu", "numpy"):
        original = getattr(torch.Tensor, name)

        def counted(tensor, *args, original=original):
            reads.count += 1
            return original(tensor, *args)

        monkeypatch.setattr(torch.Tensor, name, counted)
    long_epoch = [some_batch(number) for number in range(3 * FETCH_STEPS)]
    records = train_epochs(
        learner,
        until=1,
        batches=lambda epoch: long_epoch,
        evaluate=None,
        on_steps=lambda records: None,
        watcher=new_watcher(probe_every=2),
    )
    with reads:
        next(records)
    assert learner.step == 3 * FETCH_STEPS
    assert reads.count == 3


# --- acting


@pytest.mark.parametrize("kind", ["oscillating", "diverged", "spike", "too_slow"])
def test_on_observe_a_verdict_is_noted_and_nothing_done(monkeypatch, kind) -> None:
    alone = new_learner()
    train(alone, 2, None)
    find(monkeypatch, 3, kind=kind)
    learner, watcher = new_learner(), new_watcher("observe")
    assert len(train(learner, 2, watcher)) == 2
    (entry,) = watcher.ledger
    assert {key: entry[key] for key in ("step", "epoch", "kind", "action", "advice")} == {
        "step": 3,
        "epoch": 1,
        "kind": kind,
        "action": "none",
        "advice": "lower it",
    }
    assert list(entry["evidence"]) == ["loss"]
    assert same(weights(learner), weights(alone))


def test_on_stop_a_rate_too_high_ends_the_training(monkeypatch) -> None:
    find(monkeypatch, STEPS + 2)
    learner, watcher = new_learner(), new_watcher("stop")
    assert [record.epoch for record in train(learner, 5, watcher)] == [1]
    assert [(entry["action"], entry["step"]) for entry in watcher.ledger] == [("stop", STEPS + 2)]


@pytest.mark.parametrize("kind", ["spike", "too_slow"])
@pytest.mark.parametrize("action", ["stop", "rollback"])
def test_a_bad_batch_or_a_low_rate_is_never_acted_upon(monkeypatch, kind, action) -> None:
    find(monkeypatch, 3, kind=kind)
    learner, watcher = new_learner(), new_watcher(action)
    assert len(train(learner, 2, watcher)) == 2
    assert [entry["action"] for entry in watcher.ledger] == ["none"]
    assert learner.stepper.scale == 1.0


def test_overfitting_is_never_acted_upon(monkeypatch) -> None:
    verdict = Verdict(kind="overfitting", step=4, epoch=1, evidence={}, advice="")
    monkeypatch.setattr(TrainingMonitor, "epoch_ended", lambda self, *values: verdict)
    watcher = new_watcher("rollback")
    assert len(train(new_learner(), 2, watcher)) == 2
    assert [entry["action"] for entry in watcher.ledger] == ["none", "none"]


@pytest.mark.parametrize("optimizer", ["sgd", "adamw", "schedulefree_adamw"])
def test_a_rollback_restores_the_best_epoch_and_halves_the_rate(monkeypatch, optimizer) -> None:
    val_losses = {1: 0.9, 2: 0.4, 3: 0.6, 4: 0.5}
    until_best = new_learner(optimizer=optimizer)
    train(until_best, 2, None, val_losses=val_losses)
    best = weights(until_best)

    find(monkeypatch, 3 * STEPS + 2)  # in the fourth epoch
    learner, watcher = new_learner(optimizer=optimizer), new_watcher("rollback")
    start: dict[int, dict[str, torch.Tensor]] = {}

    class Beside:
        """Keeps the weights with which each epoch begins."""

        def before_step(self, learner: Learner) -> None:
            if learner.step % STEPS == 0:
                start[len(start)] = weights(learner)
            watcher.before_step(learner)

        measure = staticmethod(watcher.measure)
        after_step = staticmethod(watcher.after_step)
        after_epoch = staticmethod(watcher.after_epoch)

    records = train(learner, 4, Beside(), val_losses=val_losses)
    assert [record.epoch for record in records] == [1, 2, 3, 3, 4]
    assert torch.equal(start[4]["6.weight"], best["6.weight"])  # of the epochs begun: 1, 2, 3, 4, again 3
    assert torch.equal(start[4]["0.weight"], best["0.weight"])
    assert learner.stepper.scale == 0.5
    assert records[-1].lr == pytest.approx(records[0].lr / 2)
    assert [(entry["kind"], entry["action"]) for entry in watcher.ledger] == [("oscillating", "rollback")]


def test_without_an_epoch_a_rollback_goes_to_the_start(monkeypatch) -> None:
    initial = weights(new_learner())
    find(monkeypatch, 3)
    learner, watcher = new_learner(), new_watcher("rollback")
    back: list[dict[str, torch.Tensor]] = []
    original = Learner.load_state_dict

    def load(self: Learner, state) -> None:
        original(self, state)
        back.append(weights(self))

    monkeypatch.setattr(Learner, "load_state_dict", load)
    assert [record.epoch for record in train(learner, 1, watcher)] == [1]
    assert torch.equal(back[0]["6.weight"], initial["6.weight"])
    assert (learner.step, learner.stepper.scale) == (STEPS, 0.5)


def test_an_epoch_at_chance_level_is_no_better_than_the_start(monkeypatch) -> None:
    find(monkeypatch, STEPS + 2)
    learner, watcher = new_learner(), new_watcher("rollback")
    # ln 2 = 0.69, of which 97 % is 0.672: the first epoch comes again, not the second alone.
    assert [record.epoch for record in train(learner, 2, watcher, val_losses={1: 0.68, 2: 0.5})] == [1, 1, 2]


def test_after_the_last_rollback_the_training_stops(monkeypatch) -> None:
    find(monkeypatch, 3, 6, 9)
    learner, watcher = new_learner(), new_watcher("rollback", max_rollbacks=2)
    assert train(learner, 2, watcher) == []
    assert [entry["action"] for entry in watcher.ledger] == ["rollback", "rollback", "stop"]
    assert learner.stepper.scale == 0.25


class Failing(nn.Module):
    """Cross-entropy that is not a number at these calls, counted from 1."""

    def __init__(self, *calls: int) -> None:
        super().__init__()
        self.failures, self.calls = calls, 0

    def forward(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        loss = nn.functional.cross_entropy(logits, labels)
        return loss * math.nan if self.calls in self.failures else loss


def test_a_divergence_is_rolled_back_and_the_kept_state_stays_as_it_was() -> None:
    learner, watcher = new_learner(optimizer="adamw"), new_watcher("rollback", probe_every=100)
    learner.loss = Failing(STEPS + 2, STEPS + 5)  # the second step of epoch 2, and the third of its second attempt
    train(learner, 1, watcher, val_losses={1: 0.4})
    kept = copy.deepcopy(watcher.state_dict()["best"])
    assert kept["epoch"] == 1
    assert [record.epoch for record in train(learner, 2, watcher, val_losses={2: 9.0})] == [2]
    assert [(entry["kind"], entry["action"]) for entry in watcher.ledger] == [("diverged", "rollback")] * 2
    assert learner.stepper.scale == 0.25
    assert str(watcher.state_dict()["best"]) == str(kept)
    assert not same(weights(learner), kept["model"])


def test_a_first_loss_that_is_no_number_stops_since_there_is_nothing_to_go_back_to() -> None:
    learner, watcher = new_learner(), new_watcher("rollback")
    with torch.no_grad():
        learner.model[6].weight.fill_(math.nan)
    (record,) = train(learner, 1, watcher)
    assert record.diverged
    assert [(entry["kind"], entry["action"]) for entry in watcher.ledger] == [("diverged", "stop")]


# --- going on


def test_a_resumed_watcher_sees_the_same_and_can_go_back(tmp_path, seen, monkeypatch) -> None:
    straight, watcher = new_learner(), new_watcher("rollback")
    train(straight, 4, watcher)
    expected, seen[:] = list(seen), []

    first, before = new_learner(), new_watcher("rollback")
    train(first, 2, before)
    save_checkpoint(tmp_path / "last.pt", {"learner": first.state_dict(), "watcher": before.state_dict()})
    state = load_checkpoint(tmp_path / "last.pt", device=torch.device("cpu"))
    second, after = new_learner(), new_watcher("rollback")
    second.load_state_dict(state["learner"])
    after.load_state_dict(state["watcher"])
    train(second, 4, after)
    assert [str(entry) for entry in seen] == [str(entry) for entry in expected]
    assert str(after.state_dict()["monitor"]) == str(watcher.state_dict()["monitor"])
    assert after.ledger == watcher.ledger


def test_rollbacks_before_a_resume_count(monkeypatch) -> None:
    find(monkeypatch, STEPS + 1)
    learner, watcher = new_learner(), new_watcher("rollback", max_rollbacks=1)
    train(learner, 2, watcher)
    find(monkeypatch, 1)
    resumed = new_watcher("rollback", max_rollbacks=1)
    resumed.load_state_dict(watcher.state_dict())
    train(learner, 3, resumed)
    assert [entry["action"] for entry in resumed.ledger] == ["rollback", "stop"]
    assert any("too high" in line for line in resumed.advice())
