"""The training monitor: from the signals of a training to verdicts on its learning rate, with evidence and advice.

The usual rule, "loss jumps: lower the rate; loss falls slowly: raise it", is deceived by noise, which alone flips
the sign of two successive differences out of three. What is judged here instead, and why, stands with each rule in
`monitor_rules.py`. This file knows neither torch nor models: numbers go in, verdicts come out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.optim.monitor import rules
from components.optim.monitor.advice import advise, conclusions
from components.optim.monitor.spikes import LossWatch
from components.optim.monitor.windows import Look, Looks

Kind = Literal["diverged", "oscillating", "too_slow", "plateau", "overfitting", "spike"]
#: What calls for a lower rate. Overfitting does not: the best epoch is kept anyway.
TOO_HIGH: tuple[Kind, ...] = ("diverged", "oscillating")


@dataclass(frozen=True, kw_only=True)
class Signals:
    """What one optimizer step showed.

    step: number of the step, from 1. loss: of its batch. grad_norm: before clipping. cosine: between its gradient and
    that of the step before, NaN where unknown. update_ratio: length of the step over that of the weights; probe_loss:
    on the fixed batch; both NaN where not measured. lr: of the fastest group. resting: warmup, a restart or a body just
    unfrozen, during which the loss may do as it likes.
    """

    step: int
    loss: float
    grad_norm: float
    cosine: float
    update_ratio: float
    probe_loss: float
    lr: float
    resting: bool


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A finding: the step at which it began, the epoch under way (from 1), the numbers that prove it, advice in words.

    What takes a window of steps or epochs to show began before `step`, where it could first be told.
    """

    kind: Kind
    step: int
    epoch: int
    evidence: dict[str, float]
    advice: str


class TrainingMonitor:
    """Follows one training. A finding is reported once, and again only after it had gone away; slowness once."""

    def __init__(self, *, total_steps: int, chance_loss: float) -> None:
        """Take the length of the training, and the loss of the best predictor that sees no image, positive."""
        self._total_steps = total_steps
        self._chance = chance_loss
        self._epoch = 0
        self._step = 0
        self._losses = LossWatch(floor=chance_loss)
        self._looks = Looks(total_steps=total_steps, start=0)
        self._train_losses: list[float] = []
        self._val_losses: list[float] = []
        self._epoch_rates: list[float] = []
        self._lr = math.nan
        self._standing: set[str] = set()
        self._found: list[dict[str, Any]] = []
        self._rollbacks = 0
        self._quiet = True

    def update(self, signals: Signals) -> Verdict | None:
        """Take the next step; return what it brought to light, the gravest first."""
        self._lr, self._step = signals.lr, signals.step
        look = self._looks.update(signals)
        event = self._losses.update(signals.step, signals.loss, signals.grad_norm, resting=signals.resting)
        if event is not None:
            return self._verdict(event.kind, event.step, event.evidence)
        if look is None or look.resting:
            return None
        return self._judge(look)

    def epoch_ended(self, epoch: int, train_loss: float, val_loss: float, val_score: float) -> Verdict | None:
        """Take the losses of an epoch (numbered from 1). val_score: of the objective, noted as evidence."""
        self._epoch = epoch
        self._train_losses.append(train_loss)
        self._val_losses.append(val_loss)
        self._epoch_rates.append(self._lr)
        evidence = rules.overfitting(self._train_losses, self._val_losses)
        if evidence is not None:
            return self._once("overfitting", self._step, epoch, evidence | {"val_score": val_score})
        self._standing.discard("overfitting")
        evidence = rules.plateau(self._train_losses, self._val_losses, self._epoch_rates)
        if evidence is not None:
            return self._once("plateau", self._step, epoch, evidence | {"val_score": val_score})
        self._standing.discard("plateau")
        return None

    def rolled_back(self, *, step: int, epoch: int) -> None:
        """The training is back at this step, with this many epochs done; what came after it is no evidence any more."""
        self._epoch, self._step = epoch, step
        self._losses = LossWatch(floor=self._chance)
        self._looks = Looks(total_steps=self._total_steps, start=step)
        self._train_losses, self._val_losses = self._train_losses[:epoch], self._val_losses[:epoch]
        self._epoch_rates = self._epoch_rates[:epoch]
        self._standing.clear()
        self._rollbacks += 1
        self._quiet = True

    def conclude(self) -> list[str]:
        """Advice in words for the end of the run, one sentence per kind of finding; empty if nothing was found."""
        return conclusions(self._found, rollbacks=self._rollbacks, quiet=self._quiet)

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "epoch": self._epoch,
            "step": self._step,
            "losses": self._losses.state_dict(),
            "looks": self._looks.state_dict(),
            "train_losses": list(self._train_losses),
            "val_losses": list(self._val_losses),
            "epoch_rates": list(self._epoch_rates),
            "lr": self._lr,
            "standing": sorted(self._standing),
            "found": [dict(entry) for entry in self._found],
            "rollbacks": self._rollbacks,
            "quiet": self._quiet,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._epoch, self._step = state["epoch"], state["step"]
        self._losses.load_state_dict(state["losses"])
        self._looks.load_state_dict(state["looks"])
        self._train_losses, self._val_losses = list(state["train_losses"]), list(state["val_losses"])
        self._epoch_rates = list(state["epoch_rates"])
        self._lr = state["lr"]
        self._standing = set(state["standing"])
        self._found = [dict(entry) for entry in state["found"]]
        self._rollbacks, self._quiet = state["rollbacks"], state["quiet"]

    def _judge(self, look: Look) -> Verdict | None:
        """The rules that need a window of looks at the probe batch."""
        looks, window = self._looks, self._looks.window()
        evidence = rules.oscillating(window, baseline=looks.baseline_norm) or rules.collapsed(
            window, first_norm=looks.first_norm, largest_update=looks.largest_update, chance=self._chance
        )
        if evidence is not None:
            return self._once("oscillating", look.step, self._epoch + 1, evidence)
        self._standing.discard("oscillating")
        evidence = rules.too_slow(
            window,
            first=looks.first,
            largest_update=looks.largest_update,
            total_steps=self._total_steps,
            chance=self._chance,
        )
        return None if evidence is None else self._once("too_slow", look.step, self._epoch + 1, evidence)

    def _once(self, kind: Kind, step: int, epoch: int, evidence: dict[str, float]) -> Verdict | None:
        if kind in self._standing:
            return None
        self._standing.add(kind)
        return self._verdict(kind, step, evidence, epoch)

    def _verdict(self, kind: Kind, step: int, evidence: dict[str, float], epoch: int | None = None) -> Verdict:
        number = self._epoch + 1 if epoch is None else epoch
        self._quiet &= kind not in TOO_HIGH
        text = advise(kind, number, evidence)
        self._found.append({"kind": kind, "step": step, "epoch": number, "evidence": dict(evidence)})
        return Verdict(kind=kind, step=step, epoch=number, evidence=evidence, advice=text)
