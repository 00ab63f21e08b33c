"""How far the half-drop rate would move if the range test were run again: a bootstrap over seeds and residuals."""

import math

import numpy as np

from components.optim.range_curve import SeedCurves, finite_length, fit_drop, smooth_seeds, smoothing_kernel

BLOCK = 5  # steps; residuals are resampled in runs, because neighbouring steps share their weights


def resample_half_drops(
    aligned: SeedCurves, *, reference: float, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the half-drop rate (log10) of each resample in which the loss fell below the reference, (≤ samples,).

    Each resample draws the seeds with replacement and gives each a new run of its own residuals: with a handful of
    seeds, drawing seeds alone says too little, and residuals alone know nothing of how the seeds differ.

    Args:
        aligned: the curves.
        reference: the level from which the drop counts.
        samples: number of resamples.
        rng: the only source of randomness.
    """
    rates = aligned.log_rates
    kernel = smoothing_kernel(rates)
    smooth = smooth_seeds(aligned.losses, kernel)
    found = []
    for _ in range(samples):
        drawn = rng.integers(len(smooth), size=len(smooth))
        curves = np.stack([_with_new_residuals(aligned.losses[s], smooth[s], rng) for s in drawn])
        curve = np.median(smooth_seeds(curves, kernel), axis=0)
        if finite_length(curve) < 2:
            continue
        fit = fit_drop(rates, curve, reference=reference)
        if fit.drop > 0:
            found.append(fit.crossing(rates, 0.5))
    return np.asarray(found)


def _with_new_residuals(losses: np.ndarray, smooth: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    end = finite_length(losses)
    if end == 0:
        return losses
    residuals = losses[:end] - smooth[:end]
    starts = rng.integers(end, size=math.ceil(end / BLOCK))
    positions = (starts[:, None] + np.arange(BLOCK)).ravel()[:end] % end
    renewed = losses.copy()
    renewed[:end] = smooth[:end] + residuals[positions]
    return renewed
