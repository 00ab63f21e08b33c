"""Measures a training for the monitor, and acts on its verdicts.

It measures gradients, weights and the loss of a fixed batch of validation images. The measurements do not change the
weights, bit for bit. The actions are to stop, or to return to the best epoch and continue at half the rate; a rate is
never raised.

Nothing here reads a value back from the device: the engine fetches what `measure` gives. In a training of more than
`WINDOWS * probe_every` steps the probe is measured once per look of the monitor, and the cosine ten times: more would
make the mean of a look a little steadier, at a cost that shows (the probe is a forward pass, the cosine a copy of all
gradients).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch

from components.data.loader import Batch
from components.optim.monitor.monitor import NOTHING_LEARNED, TOO_HIGH, WINDOWS, Signals, TrainingMonitor, Verdict
from components.training.checkpoint import on_cpu
from components.training.engine import EpochRecord, Learner, Request, StepRecord

#: Length of the grace period after a rate has risen (warmup, restart, unfreezing), in steps.
GRACE_STEPS = 20
#: Cosines from one measurement of the probe to the next.
COSINES = 10
#: Factor on the rate at each rollback. It is a factor beside the schedule, which may raise the rate of a group again.
ROLLBACK_FACTOR = 0.5


class MonitorWatcher:
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

        probe: validation images, always the same. action: what a rate that is too high brings about. max_rollbacks: how
        often `rollback` goes back at most; then it stops. It goes to the epoch of the lowest validation loss, or to the
        start where none is below chance. probe_every: optimizer steps from one look at the probe to the next, at least.
        total_steps: of the whole training. chance_loss: of the best predictor that sees no image, positive.
        """
        self.ledger: list[dict[str, Any]] = []
        self._probe = probe
        self._action = action
        self._max_rollbacks = max_rollbacks
        self._probe_every = max(probe_every, math.ceil(total_steps / WINDOWS))
        self._cosine_every = max(1, self._probe_every // COSINES)
        self._monitor = TrainingMonitor(total_steps=total_steps, chance_loss=chance_loss)
        self._unknown = torch.tensor(math.nan)
        self._cosine = self._unknown
        self._weights: list[tuple[torch.Tensor, torch.Tensor]] | None = None
        self._earlier: tuple[int, int, list[torch.Tensor], torch.Tensor] | None = None
        self._rollbacks = 0
        self._rates: tuple[float, ...] = ()
        self._grace_until = 0
        # An epoch at chance level is no better than the start: a rate far too high leads to it within an epoch. Of four
        # trainings at 30 times the best rate, one recovered from a collapsed state, and all four from the start.
        self._best_loss = NOTHING_LEARNED * chance_loss
        self._best: dict[str, Any] | None = None

    def before_step(self, learner: Learner) -> None:
        """Look at the gradients before the optimizer clips or overwrites them."""
        # The initial state is copied here, after the first forward pass: a watcher is not called earlier.
        if self._best is None and self._action == "rollback":
            self._best = on_cpu(learner.state_dict())
        if self._unknown.device.type != learner.device.target.type:
            self._unknown, self._probe = self._unknown.to(learner.device.target), self._probe.to(learner.device.target)
        step = learner.step + 1
        self._cosine = self._successive_cosine(learner, step) if step % self._cosine_every == 0 else self._unknown
        # Copies: several optimizers write into the gradients that they are given.
        if (step + 1) % self._cosine_every == 0:
            copies = [gradient.clone() for gradient in learner.stepper.gradients]
            self._earlier = (learner.epoch, step, copies, learner.stepper.grad_norm)
        if step % self._probe_every == 0:
            self._weights = [(weight, weight.detach().clone()) for weight in _matrices(learner)]

    def measure(self, learner: Learner) -> Sequence[torch.Tensor]:
        """Cosine, update ratio and probe loss of the step, () each; NaN for those that were not measured."""
        if self._weights is None:
            return self._cosine, self._unknown, self._unknown
        ratio, self._weights = _update_ratio(self._weights), None
        return self._cosine, ratio, self._probe_loss(learner)

    def after_step(self, learner: Learner, record: StepRecord, measured: Sequence[float]) -> Request:
        """Judge the step, also one that diverged, although it did not change the weights."""
        cosine, update_ratio, probe_loss = measured if not record.diverged else (math.nan,) * 3
        signals = Signals(
            step=record.step,
            loss=record.loss,
            grad_norm=record.grad_norm,
            cosine=cosine,
            update_ratio=update_ratio,
            probe_loss=probe_loss,
            lr=record.lr,
            in_grace_period=self._in_grace_period(record),
        )
        return self._act_on(learner, self._monitor.update(signals))

    def after_epoch(self, learner: Learner, record: EpochRecord) -> Request:
        """Judge the epoch, and keep its state where it is the best so far."""
        val_loss = record.metrics.get("val_loss", math.nan)
        val_score = record.metrics.get("val_score", math.nan)
        verdict = self._monitor.epoch_ended(record.epoch, record.train_loss, val_loss, val_score)
        if val_loss < self._best_loss:
            self._best_loss = val_loss
            if self._action == "rollback":
                self._best = on_cpu(learner.state_dict())
        return self._act_on(learner, verdict)

    def advice(self) -> list[str]:
        """Advice on the learning rate, a sentence each; empty for none."""
        return self._monitor.conclude()

    def state_dict(self) -> dict[str, Any]:
        """Plain values, and with `rollback` the tensors of the best epoch; taken between epochs."""
        return {
            "monitor": self._monitor.state_dict(),
            "ledger": copy.deepcopy(self.ledger),
            "rollbacks": self._rollbacks,
            "rates": list(self._rates),
            "grace_until": self._grace_until,
            "best_loss": self._best_loss,
            "best": self._best,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._monitor.load_state_dict(state["monitor"])
        self.ledger = copy.deepcopy(state["ledger"])
        self._rollbacks = state["rollbacks"]
        self._rates = tuple(state["rates"])
        self._grace_until = state["grace_until"]
        self._best_loss = state["best_loss"]
        self._best = None if state["best"] is None else on_cpu(state["best"])
        self._earlier = None

    def _in_grace_period(self, record: StepRecord) -> bool:
        """Whether a rate rises (warmup, restart, cycle, unfreezing) or has risen in the latest GRACE_STEPS."""
        before, self._rates = self._rates, record.rates
        rises = any(now > then * (1 + 1e-9) for now, then in zip(record.rates, before, strict=False))
        if rises:
            self._grace_until = record.step + GRACE_STEPS
        return record.step < self._grace_until

    @torch.no_grad()
    def _successive_cosine(self, learner: Learner, step: int) -> torch.Tensor:
        """The cosine of this gradient and that of the step before.

        NaN at the first step of an epoch (so that a resumed training measures the same), if other weights have a
        gradient than before, and for a gradient of length 0.
        """
        gradients, earlier, self._earlier = learner.stepper.gradients, self._earlier, None
        if earlier is None or earlier[:2] != (learner.epoch, step - 1) or len(earlier[2]) != len(gradients):
            return self._unknown
        products = torch.stack([product.sum() for product in torch._foreach_mul(earlier[2], gradients)])
        return products.sum() / (earlier[3] * learner.stepper.grad_norm)

    @torch.no_grad()
    def _probe_loss(self, learner: Learner) -> torch.Tensor:
        """Loss on the probe without dropout; uses no random numbers and updates no norm."""
        learner.model.eval()
        try:
            logits = learner.device.forward(learner.model, self._probe, learner.preprocessing)
        finally:
            learner.stepper.train()
        loss: torch.Tensor = learner.loss(logits, self._probe.taught)
        return loss

    def _act_on(self, learner: Learner, verdict: Verdict | None) -> Request:
        if verdict is None:
            return "continue"
        action = self._choose_action(verdict)
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
        return "stop" if action == "stop" else "continue"

    def _choose_action(self, verdict: Verdict) -> Literal["none", "stop", "rollback"]:
        if verdict.kind not in TOO_HIGH or self._action == "observe":
            return "none"
        # If the very first loss was not finite, the start is no state to return to.
        may_go_back = self._rollbacks < self._max_rollbacks and self._best is not None and verdict.step > 0
        return "rollback" if self._action == "rollback" and may_go_back else "stop"

    def _roll_back(self, learner: Learner) -> None:
        scale = learner.stepper.scale * ROLLBACK_FACTOR  # before the earlier state, with its scale, is loaded
        assert self._best is not None
        learner.load_state_dict(copy.deepcopy(self._best))
        learner.stepper.scale = scale
        self._rollbacks += 1
        self._rates, self._grace_until = (), learner.step
        self._earlier = None
        self._monitor.rolled_back(step=learner.step, epoch=learner.epoch)


@torch.no_grad()
def _update_ratio(pairs: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """‖Δw‖ / ‖w‖ of this step over all trained matrices and kernels. pairs: each, and its copy before the step."""
    now, before = ([weight[place] for weight in pairs] for place in (0, 1))
    return _norm(list(torch._foreach_sub(now, before))) / _norm(before).clamp_min(1e-30)


def _matrices(learner: Learner) -> list[torch.Tensor]:
    """The trained matrices and kernels; norms and biases start at 0 or 1, so that their ratios mean nothing."""
    return [weight for weight in learner.model.parameters() if weight.requires_grad and weight.ndim > 1]


def _norm(tensors: list[torch.Tensor]) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(tensors)))
    return norm
