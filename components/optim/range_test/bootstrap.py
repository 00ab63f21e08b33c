"""How far the half-drop rate would move in another range test: a bootstrap over seeds and residuals."""

import math

import numpy as np

from components.optim.range_test.curve import SeedCurves, finite_length, fit_drop, smooth_seeds, smoothing_kernel

BLOCK = 5  # steps; residuals are resampled in runs, because neighbouring steps share their weights


def resample_half_drops(
    aligned: SeedCurves, *, reference: float, until: int, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the half-drop rate (log10) of each resample that fell below the reference, up to (samples,).

    Each resample draws the seeds with replacement and gives each a new run of its own residuals: with a
    handful of seeds, drawing them alone says too little, and residuals alone know nothing of how they differ.

    Args:
        aligned: the curves.
        reference: the level from which the drop counts.
        until: position of the lowest point; residuals behind it, where the loss explodes, are not drawn.
        samples: number of resamples.
        rng: the only source of randomness.
    """
    rates = aligned.log_rates
    kernel = smoothing_kernel(rates)
    smooth = smooth_seeds(aligned.losses, kernel)
    residuals = _residuals(aligned.losses, smooth, kernel)
    found = []
    for _ in range(samples):
        drawn = rng.integers(len(smooth), size=len(smooth))
        curves = np.stack([_with_new_residuals(smooth[s], residuals[s], until, rng) for s in drawn])
        curve = np.median(smooth_seeds(curves, kernel), axis=0)
        if finite_length(curve) < 2:
            continue
        fit = fit_drop(rates, curve, reference=reference)
        if fit.drop > 0:
            found.append(fit.crossing(rates, 0.5))
    return np.asarray(found)


def _residuals(losses: np.ndarray, smooth: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Return (S, T), nan behind a divergence.

    A smoother follows its own noise: for weights k its residuals are too small by √(1 - 2 k₀ + Σk²), and that
    is made good.
    """
    weights = kernel[len(kernel) // 2] / kernel[len(kernel) // 2].sum()
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
