"""The LR range test's run: a short training under a rate that rises exponentially (Smith, arXiv 1506.01186).

It works on a copy and draws from its own random state, so that whoever runs it goes on as if it had not happened. What
the curves mean is `components.optim.range_test.bounds`'s business.

A curve is to cost what the same number of plain training steps costs. What it measures beside them is the gradient
norm, and a held-out loss at every tenth step: on a batch no larger than the training's that is 4 % more.
"""

import copy
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from components.data.loader import Batch
from components.optim.optimizers import ScheduleFree
from components.optim.range_test.divergence import DivergenceMonitor
from components.training.randomness import OwnRandomness

logger = logging.getLogger(__name__)

HELD_OUT_PER_DECADE = 2
HELD_OUT_STEPS = 6  # from one held-out loss to the next, at least
MAX_PASSES = 2.0
#: Steps between two exchanges of the random states, which take 0.2 ms: at every step, 6 % of a tiny network's.
STEPS_AT_A_TIME = 10


@dataclass(frozen=True)
class RampStep:
    """One successful optimizer step, or the step at which the ramp stopped.

    `loss` is the batch's before the step, `grad_norm` the total norm before clipping, `heldout_loss` that of the
    held-out batch after the step, nan where it was not measured.
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
        "repeated batches flatter the loss, so the bounds may lie too high"
    )


def run_ramp(
    model: nn.Module,
    optimizer_factory: Callable[[nn.Module, float], torch.optim.Optimizer],
    loss: nn.Module,
    batches: Iterator[Batch],
    held_out: Batch,
    *,
    low: float,
    high: float,
    steps_per_decade: int,
    seed: int,
    device: torch.device,
    forward: Callable[[nn.Module, Batch], torch.Tensor],
    clip_grad_norm: float | None,
) -> Iterator[RampStep]:
    """Train a copy of the model under a rising rate and yield a record per step, until it ends or diverges.

    The rate moves on once per optimizer step; each parameter group keeps its ratio to the rate the factory was given.
    Stops after the first non-finite loss or gradient, or by the median-of-5 rule with the floor at twice log K, the
    cross-entropy of the uniform prediction, also for a loss that starts below it. Model, buffers, gradients, flags and
    the global random states (Python's, NumPy's, torch's) of the caller are the same after each step as before it, and
    wherever the iterator is abandoned. Records come a few at a time.

    A schedule-free optimizer is in train mode throughout, and the held-out loss is that of its training weights y, as
    the batches' is: the average x is dominated by the highest rates so far and lags like any causal mean, and a round
    trip to it would change the bits of the training.

    Args:
        model: the start; it is copied, not touched.
        optimizer_factory: from a model and a rate to its optimizer, in the recipe's settings.
        loss: from (B, K) logits and (B,) labels to a scalar; copied as well.
        batches: at least as many as the ramp has steps.
        held_out: one fixed batch, not trained on; looked at every `held_out_interval` steps and at the last.
        low: first rate, positive.
        high: last rate, above low.
        steps_per_decade: at least 1; the analysis wants 20.
        seed: of dropout and the like, at least 0; recorded with each step.
        device: where the copy trains.
        forward: from the model and a batch to (B, K) logits, normalisation, transfer and precision included.
        clip_grad_norm: as in the training that follows; None for no clipping.

    Raises:
        ValueError: the batches ran out before the ramp was over.
    """
    randomness = OwnRandomness(seed, device)
    with randomness.active():
        trained = copy.deepcopy(model).to(device).train()
        loss = copy.deepcopy(loss).to(device)
        optimizer = optimizer_factory(trained, low)
    if isinstance(optimizer, ScheduleFree):
        optimizer.train()
    steps = _steps(
        trained,
        optimizer,
        loss,
        batches,
        held_out,
        rates=ramp_rates(low, high, steps_per_decade).tolist(),
        interval=held_out_interval(steps_per_decade),
        seed=seed,
        forward=forward,
        clip_grad_norm=clip_grad_norm,
    )
    while True:
        with randomness.active():
            records = list(itertools.islice(steps, STEPS_AT_A_TIME))
        if not records:
            return
        yield from records


def _steps(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: nn.Module,
    batches: Iterator[Batch],
    held_out: Batch,
    *,
    rates: list[float],
    interval: int,
    seed: int,
    forward: Callable[[nn.Module, Batch], torch.Tensor],
    clip_grad_norm: float | None,
) -> Iterator[RampStep]:
    """Yield a record per step; to be asked for the next one where the random states are the ramp's own."""
    ratios = [group["lr"] / rates[0] for group in optimizer.param_groups]
    monitor: DivergenceMonitor | None = None
    for step, lr in enumerate(rates):
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            group["lr"] = lr * ratio
        batch = next(batches, None)
        if batch is None:
            raise ValueError(f"the batches ran out after {step} of the ramp's {len(rates)} steps")
        batch_loss, grad_norm, num_classes = _train_step(model, optimizer, loss, batch, forward, clip_grad_norm)
        monitor = monitor or DivergenceMonitor(floor=2 * math.log(num_classes))
        stopped = monitor.update(batch_loss) or not math.isfinite(grad_norm)
        measured = step % interval == 0 or step == len(rates) - 1
        heldout = _held_out_loss(model, loss, held_out, forward) if measured and not stopped else math.nan
        yield RampStep(seed, step, lr, batch_loss, grad_norm, heldout)
        if stopped:
            logger.info("seed %d: the ramp diverged at lr %.2e (step %d of %d)", seed, lr, step + 1, len(rates))
            return


def _train_step(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: nn.Module,
    batch: Batch,
    forward: Callable[[nn.Module, Batch], torch.Tensor],
    clip_grad_norm: float | None,
) -> tuple[float, float, int]:
    """Return loss, gradient norm and number of classes of the batch; the step is taken if all is finite."""
    optimizer.zero_grad(set_to_none=True)
    logits = forward(model, batch)
    batch_loss = loss(logits, batch.labels.to(logits.device))
    value = float(batch_loss.detach())
    if not math.isfinite(value):
        return value, math.nan, logits.shape[1]
    batch_loss.backward()
    gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    grad_norm = float(nn.utils.get_total_norm(gradients))  # before step(): some optimizers overwrite the gradient
    if math.isfinite(grad_norm):
        if clip_grad_norm is not None and grad_norm > clip_grad_norm:
            torch._foreach_mul_(gradients, clip_grad_norm / grad_norm)
        optimizer.step()
    return value, grad_norm, logits.shape[1]


@torch.no_grad()
def _held_out_loss(
    model: nn.Module, loss: nn.Module, batch: Batch, forward: Callable[[nn.Module, Batch], torch.Tensor]
) -> float:
    """Return the loss on the fixed batch, without dropout but with batch statistics.

    Running averages lag behind a rising rate (timm's EfficientNets move them by 1 % a step): in eval mode the held-out
    loss would show that lag, not the weights.
    """
    model.eval()
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 0.0  # looks, and leaves the running averages alone
    logits = forward(model, batch)
    value = float(loss(logits, batch.labels.to(logits.device)))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.train()
    return value
