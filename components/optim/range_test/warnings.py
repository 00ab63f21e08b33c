"""Warnings about a range test that has a result: too few seeds or steps, a ramp that ends too early, seeds that differ.

The held-out loss is only a check. Its batch is fixed, which makes it smoother, but it is recorded every few steps, it
has another constant prediction (of a few hundred images), and a training moves by the training loss. Where the two
contradict each other, the user is warned.
"""

import numpy as np
import pandas as pd

from components.optim.range_test.curve import (
    CurveFit,
    SeedCurves,
    align_seeds,
    finite_length,
    fit_drop,
    median_curve,
    smoothing_kernel,
)

EDGE = 0.15  # decades from an end of the ramp that count as its end
SEEDS_APART = 1.0  # decades
HELD_OUT_APART = 0.75  # decades
HELD_OUT_POINTS = 10
SEEDS, STEPS_PER_DECADE, DECADES = 3, 20, 5  # recommended minima


def plan_warnings(aligned: SeedCurves) -> list[str]:
    """Return where the test was smaller than recommended, as far as the curves show."""
    seeds, rates = len(aligned.losses), aligned.log_rates
    decades = float(rates[-1] - rates[0])
    warnings = []
    if seeds < SEEDS:
        warnings.append(f"{seeds} seed{'s' * (seeds > 1)}: use {SEEDS} or more to distinguish a drop from noise")
    if len(rates) > 1 and (density := (len(rates) - 1) / decades) < STEPS_PER_DECADE - 0.5:
        warnings.append(f"{density:.0f} steps per decade: {STEPS_PER_DECADE} or more are advised")
    if decades < DECADES - 0.05 and aligned.diverged_at is None:
        warnings.append(f"the ramp spans {decades:.1f} decades and did not diverge: {DECADES} to 6 are advised")
    return warnings


def curve_warnings(aligned: SeedCurves, fit: CurveFit, *, constant_loss: float) -> list[str]:
    """Return what the shape of the curve shows about the test."""
    rates = aligned.log_rates
    warnings = []
    if fit.reference < constant_loss:
        warnings.append(
            f"the loss starts at {fit.start:.3f}, below that of a constant prediction ({constant_loss:.3f}); "
            "the drop is counted from there; start the ramp lower, unless the model knows these images already"
        )
    if fit.drop > 0 and fit.crossing(0.1) <= rates[0] + EDGE:
        warnings.append("the loss falls from the first rates on: start the ramp lower")
    if aligned.diverged_at is None and rates[fit.cut] >= rates[-1] - EDGE:
        warnings.append("the loss was still falling when the ramp ended: end it higher")
    diverged = aligned.onsets[np.isfinite(aligned.onsets)]
    if len(diverged) and diverged.max() - diverged.min() > SEEDS_APART:
        span = f"{10 ** diverged.min():.1e} and {10 ** diverged.max():.1e}"
        warnings.append(f"the seeds diverged anywhere between {span}: use more seeds")
    return warnings


def held_out_warnings(curves: pd.DataFrame, half_drop: float, *, constant_loss: float) -> list[str]:
    """Return where the held-out loss contradicts the training loss; [] where it was measured at too few steps.

    curves: the recorded steps; `heldout_loss` may be missing. half_drop: log10 rate at which the training loss has
    fallen half-way. constant_loss: loss of the best constant prediction on the training images.
    """
    if "heldout_loss" not in curves:
        return []
    measured = curves[np.isfinite(curves["heldout_loss"].to_numpy(dtype=float))]
    aligned_steps = measured.drop(columns=["loss"]).rename(columns={"heldout_loss": "loss"})
    if aligned_steps["step"].nunique() < HELD_OUT_POINTS:
        return []
    aligned = align_seeds(aligned_steps, constant_loss=constant_loss)
    curve = median_curve(aligned.losses, smoothing_kernel(aligned.log_rates))
    if finite_length(curve) < HELD_OUT_POINTS:
        return []
    fit = fit_drop(aligned.log_rates, curve, reference=constant_loss)
    if fit.drop <= 0:
        return [
            f"the held-out loss never fell below that of a constant prediction ({constant_loss:.3f}): "
            "the training loss may have fallen by memorising"
        ]
    held_out = fit.crossing(0.5)
    if abs(held_out - half_drop) > HELD_OUT_APART:
        return [f"the held-out loss is half-way down at {10**held_out:.1e}, the training loss at {10**half_drop:.1e}"]
    return []
