"""The monitor's rules: each takes what was seen so far and returns the numbers that prove its case, or None.

Slopes are Theil and Sen's (the median of all pairwise ones) and are believed where Kendall's τ has p < 0.05: neither
is moved by a single wild value. Losses are compared with the chance loss, that of the best predictor that sees no
image, so that one set of thresholds serves any number of classes. The thresholds come from trainings of a perceptron
and a convolutional network, with SGD and AdamW, at rates from 1/100 to 30 times the best (`benchmarks/monitor.py`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from components.optim.monitor.windows import Look, mean_known

Evidence = dict[str, float]

SIGNIFICANT = 0.05
#: Mean cosine between successive gradients below which they point back at each other.
BACK_AND_FORTH = -0.1
#: Relative change of the weights in one step: the largest of a training that counts as large (good rates: 0.025 to
#: 0.08), and the usual one at the highest rate that counts as small (1/100 of good rates: 0.0003 to 0.001).
LARGE_STEPS, SMALL_STEPS = 1e-2, 2e-3
#: Share of the chance loss above which nothing was learned; of the first gradients' norm, below which they vanished.
NOTHING_LEARNED, VANISHED = 0.97, 0.4
#: Share of the training before which slowness is not judged; of the chance loss, above which an end is far off.
SETTLED, FAR = 0.25, 0.6
#: Pace of a window, by the pace so far: below, the loss is levelling off, and it is not the rate that holds it up.
LEVELLING = 1 / 3
#: Epochs that show a plateau, and as a share of those so far; gain from its first half to its second that is none.
PLATEAU_EPOCHS, PLATEAU_SHARE, NO_GAIN = 6, 0.25, 0.01
#: Share of the highest rate: where a schedule has gone below, the loss stands still because the training ends.
STILL_HIGH = 0.5
#: Epochs that are averaged, rise of the validation loss over its best, and fall of the training loss since then.
OVERFIT_EPOCHS, OVERFIT_RISE, OVERFIT_FALL = 3, 0.05, 0.1


def oscillating(window: Sequence[Look], *, baseline: float) -> Evidence | None:
    """Too high: the probe loss rises, successive gradients point back at each other, and they are larger than before.

    window: of `Looks.window`. baseline: gradient norm at the start, NaN if unknown. All three are needed: a cosine of
    −0.2 was measured at the best rate of SGD with momentum, while the loss fell. Nor may the training loss fall: where
    images are learned by heart, all three hold as well.
    """
    if not window or math.isnan(baseline):
        return None
    slope, p = _trend([look.step for look in window], [look.probe_loss for look in window])
    cosine = mean_known([look.cosine for look in window])
    norm = float(np.median([look.grad_norm for look in window]))
    if not (slope > 0 and p < SIGNIFICANT and cosine < BACK_AND_FORTH and norm > baseline):
        return None
    train_slope, _ = _trend([look.step for look in window], [look.loss for look in window])
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


def collapsed(window: Sequence[Look], *, first_norm: float, largest_update: float, chance: float) -> Evidence | None:
    """Too high: large steps threw the weights to where the loss is that of chance and gradients are near nothing.

    first_norm: median gradient norm of the first steps. largest_update: largest update ratio so far. The usual end of
    a rate 30 times too high that does not reach infinity; the cosine says nothing there.
    """
    if not window:
        return None
    loss = mean_known([look.loss for look in window])
    norm = float(np.median([look.grad_norm for look in window]))
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
    window: Sequence[Look], *, first: Look | None, largest_update: float, total_steps: int, chance: float
) -> Evidence | None:
    """Too low: small steps down a steady slope that will not get far by the end of the training.

    first: the first look that did not rest. largest_update: largest update ratio so far; once a step was large, small
    ones mean weights that were thrown far out by a rate too high. The loss is extrapolated along the window's slope as
    if the rate stayed as it is. A mean cosine above 0.2 is a witness and no condition: on noisy images it was −0.07 to
    0.16 at a hundredth of the best rate, and 0.1 to 0.37 with AdamW at the best one.
    """
    if not window or first is None or window[-1].step < SETTLED * total_steps or largest_update >= LARGE_STEPS:
        return None
    update = float(np.median([look.update_ratio / look.lr for look in window])) * max(
        look.highest_lr for look in window
    )
    slope, p = _trend([look.step for look in window], [look.probe_loss for look in window])
    if not (update < SMALL_STEPS and slope < 0 and p < SIGNIFICANT):
        return None
    now = float(np.median([look.probe_loss for look in window[-3:]]))
    end = now + slope * (total_steps - window[-1].step)
    if end < FAR * chance or _levels_off(window, first, now):
        return None
    return {
        "probe_loss": now,
        "probe_loss_at_the_end": end,
        "chance_loss": chance,
        "p_value": p,
        "update_ratio": update,
        "cosine": mean_known([look.cosine for look in window]),
    }


def plateau(train_losses: Sequence[float], val_losses: Sequence[float], rates: Sequence[float]) -> Evidence | None:
    """The validation loss has stopped falling while the rate is still high; of all epochs so far, one value each.

    Neither a falling trend over the latest epochs nor a gain from their first half to their second, of either loss.
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
    """The validation loss has risen from its best while the training loss fell on; of all epochs so far.

    Both best and present are means over a few epochs, so that one lucky epoch is no best, and the present ones must all
    be above it. A trend is not asked for: once the training images are known by heart, the loss stands high and still.
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
    """Theil–Sen slope and the p-value of Kendall's τ; a p-value of 1 where all values are alike."""
    slope = float(stats.theilslopes(y, x).slope)
    p = float(stats.kendalltau(x, y).pvalue)
    return slope, 1.0 if math.isnan(p) else p


def _levels_off(window: Sequence[Look], first: Look, now: float) -> bool:
    """Whether the probe loss falls far slower than it did, per unit of rate, so that a schedule's fall is no excuse."""
    recent = -_trend([look.distance for look in window], [look.probe_loss for look in window])[0]
    whole = (first.probe_loss - now) / max(window[-1].distance - first.distance, 1e-30)
    return whole > 0 and recent < LEVELLING * whole


def _half_gain(values: np.ndarray) -> float:
    """By how much the second half's median is below the first's, as a share of it."""
    half = len(values) // 2
    before, after = float(np.median(values[:half])), float(np.median(values[-half:]))
    return (before - after) / max(abs(before), 1e-30)


def _running_mean(values: Sequence[float]) -> np.ndarray:
    return np.convolve(values, np.ones(OVERFIT_EPOCHS) / OVERFIT_EPOCHS, mode="valid")
