"""The LR range test's run: a short training under a rate that rises exponentially (Smith, arXiv 1506.01186).

It is an ordinary training under the schedule `ramp`, with a watcher that measures a held-out loss and stops when the
loss diverges. So freezing, clipping and precision are those of the training whose rate it finds. The curves are
analysed in `components.optim.range_test.bounds`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from components.data.loader import Batch
from components.optim.range_test.divergence import DivergenceMonitor
from components.optim.schedules import Schedule
from components.training.engine import EpochRecord, Learner, Request, StepRecord, train_epochs

logger = logging.getLogger(__name__)

HELD_OUT_PER_DECADE = 2
HELD_OUT_STEPS = 6  # smallest interval of the held-out loss
MAX_PASSES = 2.0


@dataclass(frozen=True)
class RampStep:
    """One successful optimizer step, or the step at which the ramp stopped.

    `lr` is that of a group whose ratio is 1, `loss` the batch's before the step, `grad_norm` the total norm before
    clipping, `heldout_loss` that of the held-out batch after the step, nan where it was not measured.
    """

    seed: int
    step: int
    lr: float
    loss: float
    grad_norm: float
    heldout_loss: float


def ramp_rates(low: float, high: float, steps_per_decade: int) -> np.ndarray:
    """Return the ramp's rates, (n,) float64, exponential from low to high inclusive."""
    steps = round(math.log10(high / low) * steps_per_decade) + 1
    return np.geomspace(low, high, steps)


def ramp_schedule(rates: Sequence[float] | np.ndarray) -> Schedule:
    """The schedule with these rates, for an optimizer whose peak is the last of them."""
    return Schedule(
        name="ramp",
        warmup_steps=0,
        total_steps=len(rates) - 1,
        final_lr_fraction=1.0,
        schedule_drops=1,
        schedule_cycles=1,
        cycle_growth=1.0,
        cycle_low=rates[0] / rates[-1],
        rise_fraction=0.5,
        cooldown_fraction=1.0,
        plateau_factor=0.5,
        plateau_patience=0,
    )


def held_out_interval(steps_per_decade: int) -> int:
    """Return the number of steps from one held-out loss to the next: 11 of them or more in six decades of 10 steps."""
    return max(HELD_OUT_STEPS, round(steps_per_decade / HELD_OUT_PER_DECADE))


def recycling_warning(*, steps: int, batch_size: int, images: int) -> str | None:
    """Return a warning where the ramp passes over the training set more than twice, else None."""
    passes = steps * batch_size / images
    if passes <= MAX_PASSES:
        return None
    return (
        f"the ramp passes over the {images} training images {passes:.1f} times: "
        "repeated images flatter the loss; they hardly move the suggestion, but the upper bound may lie too high"
    )


def run_ramp(
    learner: Learner,
    batches: Callable[[int], Iterable[Batch]],
    held_out: Batch,
    *,
    rates: np.ndarray,
    interval: int,
    num_classes: int,
    on_step: Callable[[RampStep], None] = lambda step: None,
) -> list[RampStep]:
    """Train under the rising rate, until the ramp ends or diverges; the records of its steps.

    Stops after the first non-finite loss or gradient, or by the median-of-5 rule with the floor at twice log K, the
    cross-entropy of the uniform prediction, also for a loss that starts below it. A schedule-free optimizer's held-out
    loss is that of its training weights y, as the batches' is: the average x is dominated by the highest rates so far
    and lags like any causal mean, and a round trip to it would change the bits of the training.

    learner: a new one under `ramp_schedule(rates)`. batches: of an epoch, numbered from 0. held_out: one fixed batch,
    not trained on; looked at every `interval` steps and at the last. rates: of `ramp_rates`. interval: of
    `held_out_interval`. num_classes: K. on_step: called with each record. Raises ValueError: the epochs have no
    batches.
    """
    watcher = _RampWatcher(
        held_out.to(learner.device.target), rates.tolist(), interval, 2 * math.log(num_classes), on_step
    )
    for _ in train_epochs(
        learner, until=len(rates), batches=batches, evaluate=None, on_steps=lambda records: None, watcher=watcher
    ):
        pass
    if not watcher.over:
        raise ValueError(f"the batches ran out after {len(watcher.steps)} of the ramp's {len(rates)} steps")
    return watcher.steps


class _RampWatcher:
    """A `Watcher`. steps: the records so far. over: whether the ramp has ended."""

    def __init__(
        self,
        held_out: Batch,
        rates: list[float],
        interval: int,
        floor: float,
        on_step: Callable[[RampStep], None],
    ) -> None:
        self.steps: list[RampStep] = []
        self.over = False
        self._held_out = held_out
        self._rates = rates
        self._interval = interval
        self._divergence = DivergenceMonitor(floor=floor)
        self._on_step = on_step
        self._unknown = torch.tensor(math.nan, device=held_out.images.device)

    def before_step(self, learner: Learner) -> None:
        """The gradients are not used."""

    def measure(self, learner: Learner) -> Sequence[torch.Tensor]:
        step = learner.step - 1
        measured = step % self._interval == 0 or step == len(self._rates) - 1
        return (_held_out_loss(learner, self._held_out) if measured else self._unknown,)

    def after_step(self, learner: Learner, record: StepRecord, measured: Sequence[float]) -> Request:
        step = len(self.steps)
        diverged = self._divergence.update(record.loss) or record.diverged
        held_out_loss = math.nan if diverged else measured[0]
        lr = self._rates[step]
        self.steps.append(RampStep(learner.seed, step, lr, record.loss, record.grad_norm, held_out_loss))
        self._on_step(self.steps[-1])
        if diverged:
            logger.info(
                "seed %d: the ramp diverged at lr %.2e (step %d of %d)", learner.seed, lr, step + 1, len(self._rates)
            )
        self.over = diverged or step == len(self._rates) - 1
        return "stop" if self.over else "continue"

    def after_epoch(self, learner: Learner, record: EpochRecord) -> Request:
        return "continue"


@torch.no_grad()
def _held_out_loss(learner: Learner, batch: Batch) -> torch.Tensor:
    """Return the loss on the fixed batch, (), without dropout but with batch statistics where the training has them.

    Running averages lag behind a rising rate (timm's EfficientNets move them by 1 % a step): in eval mode the held-out
    loss would show that lag, not the weights.
    """
    learner.model.eval()
    norms = learner.stepper.updated_norms()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 0.0  # uses batch statistics without a change of the running averages
    loss: torch.Tensor = learner.loss(learner.device.forward(learner.model, batch, learner.preprocessing), batch.taught)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    learner.stepper.train()
    return loss
