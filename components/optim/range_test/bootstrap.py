"""How far the half-drop rate would move in another range test: a bootstrap over seeds and residuals."""

import math

import numpy as np

from components.optim.range_test.curve import (
    SeedCurves,
    finite_length,
    fit_drop,
    median_curve,
    middle_weights,
    smooth_seeds,
    smoothing_kernel,
)

BLOCK = 5  # steps; residuals are resampled in blocks, because neighbouring steps share their weights


def resample_half_drops(
    aligned: SeedCurves, *, reference: float, until: int, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the half-drop rate (log10) of each resample that fell below the reference, up to (samples,).

    Each resample draws the seeds with replacement and then new residuals for each of them. With a handful of seeds,
    seeds alone vary too little; residuals alone do not contain the differences between seeds.

    aligned: the curves. reference: the level from which the drop counts. until: position of the lowest point; residuals
    after it, where the loss explodes, are not drawn. samples: number of resamples. rng: the only source of randomness.
    """
    kernel = smoothing_kernel(aligned.log_rates)
    smooth = smooth_seeds(aligned.losses, kernel)
    residuals = _residuals(aligned.losses, smooth, kernel)
    found = []
    for _ in range(samples):
        drawn = rng.integers(len(smooth), size=len(smooth))
        curves = np.stack([_with_new_residuals(smooth[s], residuals[s], until, rng) for s in drawn])
        curve = median_curve(curves, kernel)
        if finite_length(curve) < 2:
            continue
        fit = fit_drop(aligned.log_rates, curve, reference=reference)
        if fit.drop > 0:
            found.append(fit.crossing(0.5))
    return np.asarray(found)


def _residuals(losses: np.ndarray, smooth: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return (S, T), nan after a divergence.

    A smoother follows its own noise: for weights k its residuals are too small by √(1 - 2 k₀ + Σk²), which is undone.
    """
    weights = middle_weights(kernel)
    shrunk = math.sqrt(max(1 - 2 * weights.max() + np.sum(weights**2), 0.01))
    finite = np.isfinite(losses)
    return np.where(finite, np.where(finite, losses, 0) - np.where(finite, smooth, 0), np.nan) / shrunk


def _with_new_residuals(smooth: np.ndarray, residuals: np.ndarray, until: int, rng: np.random.Generator) -> np.ndarray:
    end = finite_length(smooth)
    if end == 0:
        return smooth
    pool = min(end, max(until, 2 * BLOCK))
    starts = rng.integers(pool, size=math.ceil(end / BLOCK))
    positions = (starts[:, None] + np.arange(BLOCK)).ravel()[:end] % pool
    renewed = smooth.copy()
    renewed[:end] += residuals[positions]
    return renewed
