"""The monitor's rules: each returns the numbers that prove its finding, or None.

Slopes are Theil and Sen's (the median of all pairwise slopes) and count where Kendall's τ has p < 0.05: a single
outlier changes neither. Losses are compared with the chance loss, that of the best constant prediction, so that one set
of thresholds serves any number of classes. The thresholds come from trainings of a perceptron and a convolutional
network, with SGD and AdamW, at rates from 1/100 to 30 times the best (`benchmarks/monitor.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from components.optim.monitor.windows import WindowStats, mean_known

Evidence = dict[str, float]

SIGNIFICANT = 0.05
#: Mean cosine between successive gradients below which they point against each other.
BACK_AND_FORTH = -0.1
#: Relative change of the weights in one step: the largest of a training is large from the first value on (good rates:
#: 0.025 to 0.08); the usual one at the highest rate is small below the second (1/100 of good rates: 0.0003 to 0.001).
LARGE_STEPS, SMALL_STEPS = 1e-2, 2e-3
#: Share of the chance loss above which nothing was learned; of the first gradients' norm, below which they vanished.
NOTHING_LEARNED, VANISHED = 0.97, 0.4
#: Share of the training before which slowness is not judged; share of the chance loss above which a final loss is poor.
SETTLED, FAR = 0.25, 0.6
#: Recent slope as a share of the slope so far: below it the loss is levelling off, whatever the rate.
LEVELLING = 1 / 3
#: Epochs that show a plateau, at least and as a share of those so far; smallest gain from its first half to its second.
PLATEAU_EPOCHS, PLATEAU_SHARE, NO_GAIN = 6, 0.25, 0.01
#: Share of the highest rate: once a schedule is below it, the loss stops falling because the training ends.
STILL_HIGH = 0.5
#: Epochs in an average, rise of the validation loss above its best, and fall of the training loss since then.
OVERFIT_EPOCHS, OVERFIT_RISE, OVERFIT_FALL = 3, 0.05, 0.1


def oscillating(recent: Sequence[WindowStats], *, baseline: float) -> Evidence | None:
    """Too high: the probe loss rises, and successive gradients point in opposite directions and are larger than before.

    All three are needed: a cosine of −0.2 was measured at the best rate of SGD with momentum, while the loss fell. The
    training loss must not fall either: where images are memorised, all three hold as well.

    recent: of `WindowHistory.recent`. baseline: gradient norm at the start, NaN if unknown.
    """
    if not recent or math.isnan(baseline):
        return None
    slope, p = _trend([window.step for window in recent], [window.probe_loss for window in recent])
    cosine = mean_known([window.cosine for window in recent])
    norm = float(np.median([window.grad_norm for window in recent]))
    if not (slope > 0 and p < SIGNIFICANT and cosine < BACK_AND_FORTH and norm > baseline):
        return None
    train_slope, _ = _trend([window.step for window in recent], [window.loss for window in recent])
    if train_slope < 0:
        return None
    return {
        "probe_loss_per_100_steps": 100 * slope,
        "train_loss_per_100_steps": 100 * train_slope,
        "p_value": p,
        "cosine": cosine,
        "grad_norm": norm,
        "grad_norm_baseline": baseline,
    }


def collapsed(
    recent: Sequence[WindowStats], *, first_norm: float, largest_update: float, chance: float
) -> Evidence | None:
    """Too high: after large steps the loss is the chance loss and the gradients are nearly zero.

    This is the usual result of a rate 30 times too high if the loss stays finite; the cosine does not show it.

    recent: of `WindowHistory.recent`. first_norm: median gradient norm of the first steps. largest_update: largest
    update ratio so far. chance: the chance loss.
    """
    if not recent:
        return None
    loss = mean_known([window.loss for window in recent])
    norm = float(np.median([window.grad_norm for window in recent]))
    if not (loss >= NOTHING_LEARNED * chance and norm < VANISHED * first_norm and largest_update >= LARGE_STEPS):
        return None
    return {
        "loss": loss,
        "chance_loss": chance,
        "grad_norm": norm,
        "first_grad_norm": first_norm,
        "largest_update_ratio": largest_update,
    }


def too_slow(
    recent: Sequence[WindowStats], *, first: WindowStats | None, largest_update: float, total_steps: int, chance: float
) -> Evidence | None:
    """Too low: small steps down a steady slope that leads to a poor loss at the end of the training.

    The loss is extrapolated along the recent slope as if the rate stayed the same. The mean cosine is evidence and no
    condition: on noisy images it was −0.07 to 0.16 at a hundredth of the best rate, and 0.1 to 0.37 with AdamW at the
    best one.

    recent: of `WindowHistory.recent`. first: the first window outside of a grace period. largest_update: largest update
    ratio so far. After a large step, small ones mean large weights, the result of a rate that was too high.
    total_steps: of the training. chance: the chance loss.
    """
    if not recent or first is None or recent[-1].step < SETTLED * total_steps or largest_update >= LARGE_STEPS:
        return None
    update = float(np.median([window.update_ratio / window.lr for window in recent])) * max(
        window.highest_lr for window in recent
    )
    slope, p = _trend([window.step for window in recent], [window.probe_loss for window in recent])
    if not (update < SMALL_STEPS and slope < 0 and p < SIGNIFICANT):
        return None
    now = float(np.median([window.probe_loss for window in recent[-3:]]))
    end = now + slope * (total_steps - recent[-1].step)
    if end < FAR * chance or _levels_off(recent, first, now):
        return None
    return {
        "probe_loss": now,
        "probe_loss_at_the_end": end,
        "chance_loss": chance,
        "p_value": p,
        "update_ratio": update,
        "cosine": mean_known([window.cosine for window in recent]),
    }


def plateau(train_losses: Sequence[float], val_losses: Sequence[float], rates: Sequence[float]) -> Evidence | None:
    """The validation loss has stopped falling while the rate is still high; one value for each epoch so far.

    There is neither a falling trend over the latest epochs nor a gain from their first half to their second.
    """
    count = max(PLATEAU_EPOCHS, math.ceil(PLATEAU_SHARE * len(val_losses)))
    if len(val_losses) < count or min(rates[-count:]) < STILL_HIGH * max(rates):
        return None
    val, train = np.asarray(val_losses[-count:]), np.asarray(train_losses[-count:])
    if not (np.isfinite(val).all() and np.isfinite(train).all()):
        return None
    slope, p = _trend(range(count), val)
    gain, train_gain = _half_gain(val), _half_gain(train)
    if (slope < 0 and p < SIGNIFICANT) or gain > NO_GAIN or train_gain > OVERFIT_FALL:
        return None
    losses = {"val_loss": float(np.median(val)), "train_loss": float(np.median(train))}
    return {"epochs": count} | losses | {"gain": gain, "p_value": p}


def overfitting(train_losses: Sequence[float], val_losses: Sequence[float]) -> Evidence | None:
    """The validation loss has risen from its best while the training loss fell on; one value for each epoch so far.

    The best and the latest are means over a few epochs, so that one lucky epoch is no best, and the latest must all be
    above it. A trend is no condition: once the training images are memorised, the loss stays high and constant.
    """
    if len(val_losses) < 2 * OVERFIT_EPOCHS or not np.isfinite([*train_losses, *val_losses]).all():
        return None
    val, train = _running_mean(val_losses), _running_mean(train_losses)
    best = int(np.argmin(val))
    since = len(val_losses) - 1 - (best + OVERFIT_EPOCHS - 1)
    if since < 2 * OVERFIT_EPOCHS - 1:
        return None
    rise, fall = float(val[-OVERFIT_EPOCHS:].min()) / val[best] - 1, 1 - train[-1] / train[best]
    if not (rise > OVERFIT_RISE and fall > OVERFIT_FALL):
        return None
    return {
        "best_val_loss": float(val[best]),
        "val_loss": float(val[-1]),
        "train_loss_then": float(train[best]),
        "train_loss": float(train[-1]),
        "best_epoch": best + 1 + OVERFIT_EPOCHS // 2,
    }


def _trend(x: Sequence[float] | range, y: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """Return the Theil–Sen slope and the p-value of Kendall's τ; a p-value of 1 where all values are equal."""
    slope = float(stats.theilslopes(y, x).slope)
    p = float(stats.kendalltau(x, y).pvalue)
    return slope, 1.0 if math.isnan(p) else p


def _levels_off(recent: Sequence[WindowStats], first: WindowStats, now: float) -> bool:
    """Whether the probe loss falls far slower than before, per unit of rate because a schedule lowers it as well."""
    latest = -_trend([window.distance for window in recent], [window.probe_loss for window in recent])[0]
    whole = (first.probe_loss - now) / max(recent[-1].distance - first.distance, 1e-30)
    return whole > 0 and latest < LEVELLING * whole


def _half_gain(values: np.ndarray) -> float:
    """Return by how much the second half's median is below the first's, as a share of it."""
    half = len(values) // 2
    before, after = float(np.median(values[:half])), float(np.median(values[-half:]))
    return (before - after) / max(abs(before), 1e-30)


def _running_mean(values: Sequence[float]) -> np.ndarray:
    return np.convolve(values, np.ones(OVERFIT_EPOCHS) / OVERFIT_EPOCHS, mode="valid")
