"""From the noisy losses of several seeds to one smooth curve, its noise and its drop. All rates are log10.

The smoothing is centred, since a causal average lags by more than a decade. Each seed is smoothed before the median is
taken: with 2 % defects in batches of 16 the constant prediction's loss is 0.10 in the mean and 0.02 in the median, and
a median of raw losses would look like learning. The curve is cut at its lowest point *before* the isotonic fit: a
decreasing fit over the rising tail pools it with the drop and moves everything to the right.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from components.optim.range_test.divergence import divergence_onset

BANDWIDTH = 0.1  # decades, standard deviation of the smoothing kernel
START = 0.5  # decades at the low end whose mean is the start of the curve
FLOOR = 0.15  # decades on either side of the lowest point whose median is the floor of the curve
MIN_NOISE_POINTS = 8
NOISE_WINDOW = 1.0  # decades before the lowest point whose noise is also estimated by itself
MEDIAN_INEFFICIENCY = math.sqrt(math.pi / 2)


@dataclass(frozen=True)
class SeedCurves:
    """Losses on one grid of rates.

    log_rates: (T,) rising. losses: (S, T), inf from a seed's divergence on. onsets: (S,) log10 rate at which each seed
    diverged, inf where it did not.
    """

    log_rates: np.ndarray
    losses: np.ndarray
    onsets: np.ndarray

    @property
    def diverged_at(self) -> float | None:
        """Log10 rate at which half of the seeds had diverged, or None."""
        middle = float(np.sort(self.onsets)[(len(self.onsets) - 1) // 2])
        return middle if math.isfinite(middle) else None


@dataclass(frozen=True)
class CurveFit:
    """The drop of one curve, up to its lowest point. Rates are log10, losses in nats.

    log_rates: (T,). smooth: (m,) the curve while it is finite. fitted: (cut + 1,) the decreasing fit. start: mean level
    over the first half decade. reference: the level from which the drop counts. floor: median level around the lowest
    point; the lowest value itself is the luckiest of many, and a drop measured to it is too large.
    """

    log_rates: np.ndarray
    smooth: np.ndarray
    fitted: np.ndarray
    start: float
    reference: float
    floor: float

    @property
    def cut(self) -> int:
        """Position of the lowest point."""
        return len(self.fitted) - 1

    @property
    def drop(self) -> float:
        """What the loss fell by, counted from the reference; negative where it never got there."""
        return self.reference - self.floor

    def floor_end(self, rise: float) -> float:
        """Return the log10 rate up to which, from the lowest point on, the loss lies no more than `rise` above it."""
        risen = np.flatnonzero(self.smooth[self.cut :] > self.smooth[self.cut] + rise)
        last = self.cut + int(risen[0]) - 1 if len(risen) else len(self.smooth) - 1
        return float(self.log_rates[last])

    def crossing(self, share: float) -> float:
        """Return the log10 rate at which this share of the drop is reached, linear between the points."""
        level = self.reference - share * self.drop
        first = int(np.argmax(self.fitted <= level))
        if first == 0:
            return float(self.log_rates[0])
        above, below = self.fitted[first - 1], self.fitted[first]
        step = (above - level) / (above - below)
        return float(self.log_rates[first - 1] + step * (self.log_rates[first] - self.log_rates[first - 1]))


def align_seeds(curves: pd.DataFrame, *, constant_loss: float) -> SeedCurves:
    """Put the seeds on one grid and mark where each diverged.

    A seed has diverged at its first loss or gradient norm that is not finite, where the median-of-5 rule says so, or at
    its last step if it ended before the others. Steps that a seed skipped are interpolated.

    curves: columns seed, step, lr, loss and, if recorded, grad_norm; a step has the same lr in all seeds.
    constant_loss: loss of the best constant prediction. The floor of the median-of-5 rule is twice this, and at least
    twice log 2, the least that a uniform prediction costs. Raises ValueError: seeds with different rates at the same
    step.
    """
    rates = curves.groupby("step")["lr"].agg(["min", "max"]).sort_index()
    if (rates["max"] > rates["min"] * (1 + 1e-6)).any():
        raise ValueError("the seeds ran different ramps: the same step has different rates")
    log_rates = np.log10(rates["min"].to_numpy(dtype=float))
    steps = rates.index.to_numpy()
    floor = 2 * max(constant_loss, math.log(2))
    rows, onsets = [], []
    for _, seed in curves.sort_values("step").groupby("seed", sort=True):
        losses = seed["loss"].to_numpy(dtype=float)
        if "grad_norm" in seed:
            losses = np.where(np.isfinite(seed["grad_norm"].to_numpy(dtype=float)), losses, np.nan)
        own = log_rates[np.searchsorted(steps, seed["step"].to_numpy())]
        onset = divergence_onset(losses.tolist(), floor=floor)
        ended_early = own[-1] < log_rates[-1]
        end = len(own) if onset is None else onset
        filled = np.interp(log_rates, own[:end], losses[:end]) if end else np.full_like(log_rates, np.inf)
        last = own[end - 1] if end else -np.inf
        rows.append(np.where(log_rates > last, np.inf, filled))
        onsets.append(own[onset] if onset is not None else own[-1] if ended_early else np.inf)
    return SeedCurves(log_rates, np.stack(rows), np.asarray(onsets))


def smoothing_kernel(log_rates: np.ndarray) -> np.ndarray:
    """Return (T, T) Gaussian weights in log-rate, unnormalised: a seed may end before the others."""
    distance = (log_rates[:, None] - log_rates[None, :]) / BANDWIDTH
    return np.asarray(np.exp(-0.5 * distance**2))


def middle_weights(kernel: np.ndarray) -> np.ndarray:
    """Return the normalised weights (T,) with which the point in the middle is smoothed."""
    middle = kernel[len(kernel) // 2]
    return np.asarray(middle / middle.sum())


def median_curve(losses: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return (T,): the median over the smoothed seeds, inf where at least half of them have diverged."""
    return np.asarray(np.median(smooth_seeds(losses, kernel), axis=0))


def smooth_seeds(losses: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return (S, T): each seed smoothed over its finite part, inf behind it."""
    smoothed = np.full_like(losses, np.inf)
    for row, values in zip(smoothed, losses, strict=True):
        end = finite_length(values)
        weights = kernel[:end, :end]
        row[:end] = weights @ values[:end] / weights.sum(axis=1)
    return smoothed


def finite_length(values: np.ndarray) -> int:
    """Return how many leading values are finite."""
    finite = np.isfinite(values)
    return len(values) if finite.all() else int(np.argmin(finite))


def fit_drop(log_rates: np.ndarray, curve: np.ndarray, *, reference: float) -> CurveFit:
    """Cut the curve at its argmin, then fit a decreasing step function in log-rate to what is left.

    log_rates: (T,). curve: (T,) of `median_curve`; its first value is finite. reference: the level from which the drop
    counts.
    """
    smooth = curve[: finite_length(curve)]
    cut = int(np.argmin(smooth))
    rates = log_rates[: cut + 1]
    fitted = IsotonicRegression(increasing=False).fit_transform(rates, smooth[: cut + 1])
    start = float(smooth[log_rates[: len(smooth)] <= log_rates[0] + START].mean())
    near = np.abs(log_rates[: len(smooth)] - log_rates[cut]) <= FLOOR
    return CurveFit(log_rates, smooth, fitted, start, reference, float(np.median(smooth[near])))


def drop_centre(log_rates: np.ndarray, smoothed: np.ndarray, *, reference: float) -> float:
    """Return the mean of the log10 rates, each weighed by the square of what the loss has fallen by there.

    Each seed counts up to its divergence and where it lies below the reference. As a mean over the whole curve it
    varies less than its lowest point, which may lie anywhere on a flat floor; squares keep the flanks and the noise
    before the drop small.

    log_rates: (T,). smoothed: (S, T) of `smooth_seeds`. reference: the level from which the drop counts. NaN where no
    seed ever lies below it.
    """
    fallen = np.mean(np.maximum(reference - smoothed, 0.0), axis=0)
    return float(np.average(log_rates, weights=fallen**2)) if fallen.any() else math.nan


def curve_noise(losses: np.ndarray, kernel: np.ndarray, *, until: int, window: int, least: float) -> float:
    """Return the standard deviation of `median_curve`, in nats.

    It is estimated from second differences of the mean over seeds, which a trend does not change and which contain the
    noise that the seeds share. It is multiplied by what the kernel leaves of it (√Σk²) and by the inefficiency of a
    median. The estimate over all steps up to the lowest point is compared with that over the last of them, and the
    larger one counts: a network that still predicts the same for all images has the same loss on every batch, so noise
    begins only after it has learned the class balance.

    losses: (S, T) as aligned. kernel: (T, T). until: position of the curve's lowest point; later steps are ignored.
    window: how many of the last steps up to there are also taken by themselves. least: standard deviation of one
    batch's loss that is known to exist, at least 0.
    """
    until = max(until, MIN_NOISE_POINTS)
    reaching = [row for row in losses if finite_length(row) >= until]
    if not reaching or until > losses.shape[1]:
        return math.inf
    squares = np.diff(np.mean([row[:until] for row in reaching], axis=0), n=2) ** 2 / 6
    noisier = max(float(np.mean(squares)), float(np.mean(squares[-max(window, MIN_NOISE_POINTS) :])))
    noisier = max(noisier, least**2 / len(reaching))
    median_cost = MEDIAN_INEFFICIENCY if len(losses) > 2 else 1.0
    return math.sqrt(noisier) * float(np.sqrt(np.sum(middle_weights(kernel) ** 2))) * median_cost
