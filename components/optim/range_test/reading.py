"""Reads the curves of one range test: the half-drop rate, the noise, the valley rule, and whether to believe them."""

from dataclasses import dataclass

import numpy as np

from components.optim.range_test.curve import (
    NOISE_WINDOW,
    CurveFit,
    SeedCurves,
    curve_noise,
    drop_centre,
    finite_length,
    fit_drop,
    smooth_seeds,
    smoothing_kernel,
)

DROP_IN_NOISE = 3.0  # a drop below this many standard deviations is noise
DROP_SHARE = 0.02  # and one below this share of the constant predictor's loss is nothing to tune for
VALLEY_RESOLUTION = 0.005  # of the drop
RULES_APART = 1.0  # decades between suggestion and valley
BAND_TOO_WIDE = 2.0  # decades
MIN_RESAMPLES = 0.5  # share of the resamples in which the loss fell at all
MIN_POINTS = 10


@dataclass(frozen=True)
class Reading:
    """fit: of the median curve. noise: its standard deviation, nats. half_drop, centre, valley: log10 rates of three
    rules; the centre is NaN where the loss never fell."""

    fit: CurveFit
    noise: float
    half_drop: float
    centre: float
    valley: float


def read_curve(aligned: SeedCurves, *, constant_loss: float, constant_spread: float) -> Reading | None:
    """Return the reading, or None where fewer than `MIN_POINTS` of the curve are finite.

    The drop counts from the constant predictor's loss, so that learning the class balance counts as nothing. Where the
    curve starts clearly below that loss (the model already knows something), it counts from the start.

    aligned: the curves. constant_loss: loss of the best constant prediction. constant_spread: standard deviation of
    that loss from batch to batch, the least noise that any curve has. Where defects are rare, a few batches without any
    of them have a low loss and would look quiet.
    """
    rates = aligned.log_rates
    kernel = smoothing_kernel(rates)
    smoothed = smooth_seeds(aligned.losses, kernel)
    curve = np.median(smoothed, axis=0)
    if finite_length(curve) < MIN_POINTS:
        return None
    window = int(np.searchsorted(rates, rates[0] + NOISE_WINDOW))
    lowest = int(np.argmin(curve))
    noise = curve_noise(aligned.losses, kernel, until=lowest, window=window, least=constant_spread)
    fit = fit_drop(rates, curve, reference=constant_loss)
    if fit.start < constant_loss - DROP_IN_NOISE * noise:
        fit = fit_drop(rates, curve, reference=fit.start)
    # Above the reference the model learns the class balance; a valley there is none of the drop.
    below = np.minimum(fit.smooth, fit.reference)
    valley = valley_index(below, resolution=VALLEY_RESOLUTION * max(fit.drop, 0.0))
    centre = drop_centre(rates, smoothed, reference=fit.reference)
    return Reading(fit, noise, fit.crossing(0.5), centre, float(rates[valley]))


def reason_to_abstain(
    reading: Reading, band: tuple[float, float], *, suggested: float, fell: float, constant_loss: float
) -> str:
    """Return why the curves give no suggestion, or an empty string.

    reading: of the curve. band: (low, high) log10 interval of the half-drop over the resampled curves. suggested: log10
    rate. The valley must be near it or the half-drop, or between. fell: share of the resampled curves that fell below
    the reference. constant_loss: loss of the best constant prediction.
    """
    drop, noise = reading.fit.drop, reading.noise
    half, valley = reading.half_drop, reading.valley
    apart = max(half - valley, valley - max(half, suggested))
    if drop <= 0:
        return (
            f"the loss never fell below that of a constant prediction ({constant_loss:.3f}): "
            "nothing beyond the class balance was learned at any rate"
        )
    if drop < DROP_SHARE * constant_loss:
        return f"the loss fell by {drop:.4f} only, less than {DROP_SHARE:.0%} of the constant prediction's"
    if drop < DROP_IN_NOISE * noise:
        noisy = f"the drop of {drop:.3f} is within the noise ({DROP_IN_NOISE:.0f} × {noise:.3f})"
        return f"{noisy}; use more seeds, more steps or larger batches"
    if apart > RULES_APART:
        rules = f"half-drop ({10**half:.1e}, suggestion {10**suggested:.1e}) and valley ({10**valley:.1e})"
        return f"{rules} lie {apart:.1f} decades apart; use more seeds or steps"
    if fell < MIN_RESAMPLES:
        return f"the loss fell in {fell:.0%} of the resampled curves only; use more seeds or steps"
    if band[1] - band[0] > BAND_TOO_WIDE:
        anywhere = f"anywhere between {10 ** band[0]:.1e} and {10 ** band[1]:.1e}"
        return f"resampled curves put the half-drop {anywhere}; use more seeds or steps"
    return ""


def valley_index(losses: np.ndarray, *, resolution: float) -> int:
    """Return the position of the valley rule's suggestion, a second way to read the same curve.

    fastai states the rule in `callback.schedule.valley` (github.com/fastai/fastai): take the longest decreasing
    subsequence of the losses, of length L and ending at e; its window starts at e - L, and the suggestion is int(L/3) +
    int(L/6) further on. On a loss that never falls it returns the lowest rate, which is why it only checks here and
    never decides. We add a resolution: on a curve without noise every step of a flat plateau falls by a tiny amount and
    would count as a valley.

    losses: (n,) finite, in the order of rising rates, n at least 1. resolution: nats; a fall of this or less is no
    fall. 0 is the rule as published.
    """
    length, end = longest_decrease(losses, resolution=resolution)
    return max(0, end - length) + int(length / 3) + int(length / 6)


def longest_decrease(losses: np.ndarray, *, resolution: float) -> tuple[int, int]:
    """Return the length of the longest subsequence in which each member is lower than the one before it, and its end.

    Lower by more than the resolution. The end is the first position at which one of that length ends. The time is
    O(n²), for a few hundred steps.
    """
    lengths = np.ones(len(losses), dtype=np.int64)
    for position in range(1, len(losses)):
        higher = losses[:position] - losses[position] > resolution
        lengths[position] += max(lengths[:position][higher], default=0)
    end = int(np.argmax(lengths))
    return int(lengths[end]), end
