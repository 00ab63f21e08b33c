"""A training watched from inside: what its gradients, weights and a fixed batch of validation images say of the rate.

Watching changes nothing: the same weights come out, bit for bit, unless a verdict is acted upon. To act is to stop, or
to go back to the best epoch and on at half the rate; a rate is never raised.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from components.data.loader import Batch
from components.optim.monitor.monitor import NOTHING_LEARNED, TOO_HIGH, Signals, TrainingMonitor, Verdict
from components.training.engine import EpochRecord, Learner, Request, StepRecord

#: Steps for which the detectors rest after a rate has risen: a restart and a body just unfrozen need a while to settle.
REST_STEPS = 20
#: Of the rate, at each rollback; beside the schedule, because one that rises would undo a halved rate of a group.
ROLLBACK_FACTOR = 0.5


class MonitoredTraining:
    """Implements the engine's `Watcher`. ledger: every verdict with what was done, in order."""

    def __init__(
        self,
        probe: Batch,
        *,
        action: Literal["observe", "stop", "rollback"],
        max_rollbacks: int,
        probe_every: int,
        total_steps: int,
        chance_loss: float,
    ) -> None:
        """Watch one training from its first step.

        Args:
            probe: validation images, always the same.
            action: what a rate that is too high brings about.
            max_rollbacks: how often `rollback` goes back at most; then it stops. It goes to the epoch of the lowest
                validation loss, or to the start where none is below chance.
            probe_every: optimizer steps from one look at the probe to the next.
            total_steps: of the whole training.
            chance_loss: of the best predictor that sees no image, positive.
        """
        self.ledger: list[dict[str, Any]] = []
        self._probe = probe
        self._action = action
        self._max_rollbacks = max_rollbacks
        self._probe_every = probe_every
        self._monitor = TrainingMonitor(total_steps=total_steps, chance_loss=chance_loss)
        self._gradient = _Successive()
        self._weights: list[torch.Tensor] | None = None
        self._cosine = math.nan
        self._rollbacks = 0
        self._rates: tuple[float, ...] = ()
        self._rest_until = 0
        # An epoch at chance level is no better than the start: a rate far too high collapses to it within an epoch. Of
        # four trainings at 30 times the best rate, one was saved from a collapsed state, and all four from the start.
        self._best_loss = NOTHING_LEARNED * chance_loss
        self._best: dict[str, Any] | None = None

    def before_step(self, learner: Learner) -> None:
        """Look at the gradients before the optimizer clips or overwrites them."""
        # The start is taken here, when the norms have seen one batch: nobody asks a watcher earlier.
        if self._best is None and self._action == "rollback":
            self._best = _on_cpu(learner.state_dict())
        self._cosine = self._gradient.cosine(_gradients(learner), epoch=learner.epoch)
        if self._looks_after(learner.step + 1):
            self._weights = [weight.detach().clone() for weight in _matrices(learner)]

    def after_step(self, learner: Learner, record: StepRecord) -> Request:
        """Judge the step; a loss that is not finite is judged too, though no step was taken."""
        looks = math.isfinite(record.loss) and self._looks_after(record.step) and self._weights is not None
        signals = Signals(
            step=record.step,
            loss=record.loss,
            grad_norm=record.grad_norm,
            cosine=self._cosine if math.isfinite(record.loss) else math.nan,
            update_ratio=self._update_ratio(learner) if looks else math.nan,
            probe_loss=self._probe_loss(learner) if looks else math.nan,
            lr=record.lr,
            in_grace_period=self._rests(record),
        )
        self._weights = None
        return self._answer(learner, self._monitor.update(signals))

    def after_epoch(self, learner: Learner, record: EpochRecord) -> Request:
        """Judge the epoch, and keep its state where it is the best so far."""
        val_loss = record.metrics.get("val_loss", math.nan)
        val_score = record.metrics.get("val_score", math.nan)
        verdict = self._monitor.epoch_ended(record.epoch, record.train_loss, val_loss, val_score)
        if val_loss < self._best_loss:
            self._best_loss = val_loss
            if self._action == "rollback":
                self._best = _on_cpu(learner.state_dict())
        return self._answer(learner, verdict)

    def advice(self) -> list[str]:
        """What the run teaches about its rate, in words; empty where there is nothing to say."""
        return self._monitor.conclude()

    def state_dict(self) -> dict[str, Any]:
        """Plain values, and with `rollback` the tensors of the best epoch; taken between epochs."""
        return {
            "monitor": self._monitor.state_dict(),
            "ledger": copy.deepcopy(self.ledger),
            "rollbacks": self._rollbacks,
            "rates": list(self._rates),
            "rest_until": self._rest_until,
            "best_loss": self._best_loss,
            "best": self._best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._monitor.load_state_dict(state["monitor"])
        self.ledger = copy.deepcopy(state["ledger"])
        self._rollbacks = state["rollbacks"]
        self._rates = tuple(state["rates"])
        self._rest_until = state["rest_until"]
        self._best_loss = state["best_loss"]
        self._best = None if state["best"] is None else _on_cpu(state["best"])
        self._gradient.forget()

    def _looks_after(self, step: int) -> bool:
        return step % self._probe_every == 0

    def _rests(self, record: StepRecord) -> bool:
        """Whether a rate rises (warmup, restart, a cycle's rise, unfreezing) or did so a moment ago."""
        before, self._rates = self._rates, record.rates
        rises = any(now > then * (1 + 1e-9) for now, then in zip(record.rates, before, strict=False))
        if rises:
            self._rest_until = record.step + REST_STEPS
        return record.step < self._rest_until

    @torch.no_grad()
    def _update_ratio(self, learner: Learner) -> float:
        """‖Δw‖ / ‖w‖ of this step, over all weight matrices and kernels together."""
        before = self._weights
        assert before is not None
        change = list(torch._foreach_sub(_matrices(learner), before))
        return float(_norm(change) / _norm(before).clamp_min(1e-30))

    @torch.no_grad()
    def _probe_loss(self, learner: Learner) -> float:
        """Loss on the probe of the weights that are trained, without dropout; draws nothing and updates no norm."""
        learner.model.eval()
        try:
            logits = learner.device.forward(learner.model, self._probe, learner.preprocessing)
        finally:
            learner.stepper.train()
        return float(learner.loss(logits, self._probe.labels.to(learner.device.target)))

    def _answer(self, learner: Learner, verdict: Verdict | None) -> Request:
        if verdict is None:
            return "go_on"
        action = self._choose(verdict)
        self.ledger.append(
            {
                "step": verdict.step,
                "epoch": verdict.epoch,
                "kind": verdict.kind,
                "action": action,
                "evidence": dict(verdict.evidence),
                "advice": verdict.advice,
            }
        )
        if action == "rollback":
            self._roll_back(learner)
            return "rolled_back"
        return "stop" if action == "stop" else "go_on"

    def _choose(self, verdict: Verdict) -> Literal["none", "stop", "rollback"]:
        if verdict.kind not in TOO_HIGH or self._action == "observe":
            return "none"
        # Without a state to go back to, the very first loss was not a number.
        may_go_back = self._rollbacks < self._max_rollbacks and self._best is not None
        return "rollback" if self._action == "rollback" and may_go_back else "stop"

    def _roll_back(self, learner: Learner) -> None:
        scale = learner.stepper.scale * ROLLBACK_FACTOR  # of the rate that failed, not of the state that is loaded
        assert self._best is not None
        learner.load_state_dict(copy.deepcopy(self._best))
        learner.stepper.scale = scale
        self._rollbacks += 1
        self._rates, self._rest_until = (), learner.step
        self._gradient.forget()
        self._monitor.rolled_back(step=learner.step, epoch=learner.epoch)


class _Successive:
    """The cosine between each gradient and the one before it in the same epoch.

    Within an epoch only, so that a training resumed between epochs sees the same.
    """

    def __init__(self) -> None:
        self._epoch = -1
        self._last: torch.Tensor | None = None

    @torch.no_grad()
    def cosine(self, gradients: Sequence[torch.Tensor], *, epoch: int) -> float:
        """NaN at the first of an epoch, where other weights have a gradient than before, and for one of length 0."""
        # Copied into one vector: several optimizers write into the gradients that they are given.
        now = torch.cat([gradient.flatten() for gradient in gradients])
        last, self._last = self._last, now
        same = epoch == self._epoch and last is not None and last.numel() == now.numel()
        self._epoch = epoch
        if not same or last is None:
            return math.nan
        lengths = now.norm() * last.norm()
        return float(torch.dot(now, last) / lengths)

    def forget(self) -> None:
        self._last = None


def _gradients(learner: Learner) -> list[torch.Tensor]:
    return [weight.grad for weight in learner.model.parameters() if weight.grad is not None]


def _matrices(learner: Learner) -> list[torch.Tensor]:
    """Weights proper that are trained; norms and biases start at 0 or 1, and their ratios mean nothing."""
    return [weight for weight in learner.model.parameters() if weight.requires_grad and weight.ndim > 1]


def _norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))


def _on_cpu(value: Any) -> Any:  # noqa: ANN401 - a state: tensors, plain values and containers of these
    """A copy that later steps do not touch."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, Mapping):
        return {key: _on_cpu(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_on_cpu(item) for item in value)
    return value
