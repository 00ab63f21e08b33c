"""The training monitor: from the signals of a training to verdicts on its learning rate, with evidence and advice.

The usual rule "if the loss jumps, lower the rate; if it falls slowly, raise it" fails with noise, which alone changes
the sign of two successive differences out of three. `rules.py` describes the rules that are used instead. This module
uses neither torch nor models: its input are numbers, its output are verdicts.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from components.optim.monitor import rules
from components.optim.monitor.advice import advise, conclusions
from components.optim.monitor.rules import NOTHING_LEARNED
from components.optim.monitor.spikes import LossWatch
from components.optim.monitor.windows import WINDOWS, Signals, WindowHistory, WindowStats

__all__ = ["NOTHING_LEARNED", "TOO_HIGH", "WINDOWS", "Kind", "Signals", "TrainingMonitor", "Verdict"]

Kind = Literal["diverged", "oscillating", "too_slow", "plateau", "overfitting", "spike"]
#: Kinds that call for a lower rate. Overfitting does not: the best epoch is kept anyway.
TOO_HIGH: tuple[Kind, ...] = ("diverged", "oscillating")


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """A finding: its step, its epoch (from 1), the numbers that prove it, and advice.

    step: the first step at which the finding shows, if it needs a window of steps or epochs.
    """

    kind: Kind
    step: int
    epoch: int
    evidence: dict[str, float]
    advice: str


class TrainingMonitor:
    """Follows one training. A finding is reported when it appears, not while it lasts; `too_slow` once only."""

    def __init__(self, *, total_steps: int, chance_loss: float) -> None:
        """Take the length of the training, and the loss of the best constant prediction, positive."""
        self._total_steps = total_steps
        self._chance = chance_loss
        self._epoch = 0
        self._step = 0
        self._losses = LossWatch(floor=chance_loss)
        self._windows = WindowHistory(total_steps=total_steps, start=0)
        self._train_losses: list[float] = []
        self._val_losses: list[float] = []
        self._epoch_rates: list[float] = []
        self._lr = math.nan
        self._reported: list[str] = []
        self._found: list[dict[str, Any]] = []
        self._rollbacks = 0
        self._quiet = True

    def update(self, signals: Signals) -> Verdict | None:
        """Take the next step; return the most severe finding."""
        self._lr, self._step = signals.lr, signals.step
        window = self._windows.update(signals)
        event = self._losses.update(
            signals.step, signals.loss, signals.grad_norm, in_grace_period=signals.in_grace_period
        )
        if event is not None:
            return self._verdict(event.kind, event.step, self._epoch + 1, event.evidence)
        if window is None or window.in_grace_period:
            return None
        return self._judge(window)

    def epoch_ended(self, epoch: int, train_loss: float, val_loss: float, val_score: float) -> Verdict | None:
        """Take the losses of an epoch (numbered from 1). val_score: of the objective, recorded as evidence."""
        self._epoch = epoch
        self._train_losses.append(train_loss)
        self._val_losses.append(val_loss)
        self._epoch_rates.append(self._lr)
        score = {"val_score": val_score}
        evidence = rules.overfitting(self._train_losses, self._val_losses)
        if evidence is not None:
            return self._report_once("overfitting", self._step, epoch, evidence | score)
        self._clear("overfitting")
        evidence = rules.plateau(self._train_losses, self._val_losses, self._epoch_rates)
        if evidence is not None:
            return self._report_once("plateau", self._step, epoch, evidence | score)
        self._clear("plateau")
        return None

    def rolled_back(self, *, step: int, epoch: int) -> None:
        """Continue from this step, with this many epochs done; forget everything later."""
        self._epoch, self._step = epoch, step
        self._losses = LossWatch(floor=self._chance)
        self._windows = WindowHistory(total_steps=self._total_steps, start=step)
        self._train_losses, self._val_losses = self._train_losses[:epoch], self._val_losses[:epoch]
        self._epoch_rates = self._epoch_rates[:epoch]
        self._reported.clear()
        self._rollbacks += 1
        self._quiet = True

    def conclude(self) -> list[str]:
        """Return one sentence of advice per kind of finding; [] for none."""
        return conclusions(self._found, rollbacks=self._rollbacks, quiet=self._quiet)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values."""
        values = {name: copy.deepcopy(value) for name, value in vars(self).items() if name not in _PARTS}
        return values | {name: getattr(self, name).state_dict() for name in _PARTS}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(copy.deepcopy({name: value for name, value in state.items() if name not in _PARTS}))
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])

    def _judge(self, window: WindowStats) -> Verdict | None:
        """Apply the rules that need several windows."""
        history, recent = self._windows, self._windows.recent()
        evidence = rules.oscillating(recent, baseline=history.baseline_norm) or rules.collapsed(
            recent, first_norm=history.first_norm, largest_update=history.largest_update, chance=self._chance
        )
        if evidence is not None:
            return self._report_once("oscillating", window.step, self._epoch + 1, evidence)
        self._clear("oscillating")
        evidence = rules.too_slow(
            recent,
            first=history.first,
            largest_update=history.largest_update,
            total_steps=self._total_steps,
            chance=self._chance,
        )
        return None if evidence is None else self._report_once("too_slow", window.step, self._epoch + 1, evidence)

    def _report_once(self, kind: Kind, step: int, epoch: int, evidence: dict[str, float]) -> Verdict | None:
        if kind in self._reported:
            return None
        self._reported.append(kind)
        return self._verdict(kind, step, epoch, evidence)

    def _clear(self, kind: Kind) -> None:
        self._reported = [other for other in self._reported if other != kind]

    def _verdict(self, kind: Kind, step: int, epoch: int, evidence: dict[str, float]) -> Verdict:
        self._quiet &= kind not in TOO_HIGH
        self._found.append({"kind": kind, "step": step, "epoch": epoch, "evidence": dict(evidence)})
        return Verdict(kind=kind, step=step, epoch=epoch, evidence=evidence, advice=advise(kind, epoch, evidence))


#: Attributes of the monitor that have a state of their own.
_PARTS = ("_losses", "_windows")
