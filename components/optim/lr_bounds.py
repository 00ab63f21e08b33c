"""From the curves of a range test to a learning rate, its band and the bounds of the search, or an abstention.

The suggestion is the half-drop rate: where half of what the loss falls by, from the best constant prediction to the
lowest point, is reached. It finds a range in which training is stable and moves; it cannot find the optimum of a
long training, because a short one favours rates that pay at once (Wu et al., arXiv 1803.02021).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from components.optim.lr_bootstrap import resample_half_drops
from components.optim.optimizers import OptimizerSpec
from components.optim.range_curve import (
    CurveFit,
    SeedCurves,
    align_seeds,
    curve_noise,
    finite_length,
    fit_drop,
    smooth_seeds,
    smoothing_kernel,
)
from components.optim.valley import valley_index

DROP_IN_NOISE = 3.0  # a drop below this many standard deviations is noise
DROP_SHARE = 0.02  # … and below this share of the constant predictor's loss it is nothing worth tuning for
RULES_APART = 1.0  # decades between half-drop and valley
BAND = (5.0, 95.0)  # percentiles
BAND_TOO_WIDE = 2.0  # decades
MIN_WIDTH = 0.5  # decades between the bounds
MIN_POINTS = 10
EDGE = 0.15  # decades from an end of the ramp that count as at the end
ADVISED_SEEDS, ADVISED_STEPS_PER_DECADE, ADVISED_DECADES = 3, 20, 5


@dataclass(frozen=True, kw_only=True)
class LrBounds:
    """What the range test says about one optimizer. All rates are plain rates, not logarithms.

    lower ≤ suggested ≤ upper. band: (low, high) bootstrap interval of the suggestion. drop and noise in nats.
    source: `default` where it abstained, and `reason` says why. fit: `lr` and `loss`, the decreasing fit.
    lr10, lr50, lr90: rate at which that share of the drop is reached. Rates that were not found are None.
    """

    optimizer: str
    lower: float
    suggested: float
    upper: float
    band: tuple[float, float]
    abstained: bool
    reason: str
    source: Literal["range_test", "default"]
    lr10: float | None
    lr50: float | None
    lr90: float | None
    lr_min: float | None
    lr_div: float | None
    valley: float | None
    drop: float | None
    noise: float | None
    constant_loss: float
    warnings: tuple[str, ...]
    fit: dict[str, list[float]]

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; `from_dict` is its inverse."""
        return asdict(self) | {"band": list(self.band), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LrBounds":
        """Rebuild the bounds that `to_dict` wrote."""
        low, high = values["band"]
        return cls(**{**values, "band": (low, high), "warnings": tuple(values["warnings"])})


def analyse_curves(
    curves: pd.DataFrame,
    *,
    constant_loss: float,
    spec: OptimizerSpec,
    bootstrap_samples: int,
    seed: int,
) -> LrBounds:
    """Read the curves of one optimizer; where they do not carry a suggestion, abstain and give its defaults.

    Args:
        curves: one row per step and seed; columns seed, step, lr, loss, grad_norm, heldout_loss (nan where it was
            not measured). Seeds may end at different steps.
        constant_loss: loss of the best constant prediction, positive.
        spec: the optimizer, for its default bounds.
        bootstrap_samples: resamples for the band.
        seed: of the resampling; the same seed gives the same bounds.

    Raises:
        ValueError: no rows, or seeds that ran different ramps.
    """
    if curves.empty:
        raise ValueError("the range test recorded no step")
    aligned = align_seeds(curves, constant_loss=constant_loss)
    warnings = _plan_warnings(aligned)
    reading = _read(aligned, constant_loss=constant_loss)
    if reading is None:
        reason = f"the loss diverged within the first {MIN_POINTS} steps of the ramp; start it lower"
        return _abstain(spec, aligned, None, constant_loss=constant_loss, reason=reason, warnings=warnings)
    warnings += _curve_warnings(aligned, reading, constant_loss=constant_loss)
    half_drops = resample_half_drops(
        aligned,
        reference=reading.fit.reference,
        samples=bootstrap_samples,
        rng=np.random.default_rng(seed),
    )
    half = reading.fit.crossing(aligned.log_rates, 0.5)
    low, high = np.percentile(half_drops, BAND) if len(half_drops) else (half, half)
    band = (min(float(low), half), max(float(high), half))
    reason = _reason_to_abstain(reading, half, band, constant_loss=constant_loss)
    if reason:
        return _abstain(spec, aligned, reading, constant_loss=constant_loss, reason=reason, warnings=warnings)
    return _bounds(spec, aligned, reading, band, constant_loss=constant_loss, warnings=warnings)


@dataclass(frozen=True)
class _Reading:
    """One curve, read: the fit of its drop, its noise in nats, and the valley rule's log10 rate."""

    fit: CurveFit
    noise: float
    valley: float


def _read(aligned: SeedCurves, *, constant_loss: float) -> _Reading | None:
    rates = aligned.log_rates
    kernel = smoothing_kernel(rates)
    curve = np.median(smooth_seeds(aligned.losses, kernel), axis=0)
    if finite_length(curve) < MIN_POINTS:
        return None
    noise = curve_noise(aligned.losses, kernel, until=int(np.argmin(curve)))
    fit = fit_drop(rates, curve, reference=constant_loss)
    if fit.start < constant_loss - 3 * noise:
        fit = fit_drop(rates, curve, reference=fit.start)
    return _Reading(fit, noise, float(rates[valley_index(fit.smooth.tolist())]))


def _reason_to_abstain(
    reading: _Reading, half: float, band: tuple[float, float], *, constant_loss: float
) -> str:
    """Return why the curves carry no suggestion, or an empty string."""
    drop, noise = reading.fit.drop, reading.noise
    if drop <= 0:
        return (
            f"the loss never fell below that of a constant prediction ({constant_loss:.3f}): "
            "nothing beyond the class balance was learned at any rate"
        )
    if drop < DROP_SHARE * constant_loss:
        return f"the loss fell by {drop:.4f} only, less than {DROP_SHARE:.0%} of the constant prediction's"
    if drop < DROP_IN_NOISE * noise:
        return f"the drop of {drop:.3f} is within the noise ({DROP_IN_NOISE:.0f} × {noise:.3f}); use more seeds or steps"
    apart = abs(half - reading.valley)
    if apart > RULES_APART:
        return (
            f"half-drop ({10**half:.1e}) and valley ({10**reading.valley:.1e}) lie {apart:.1f} decades apart; "
            "use more seeds or steps"
        )
    if band[1] - band[0] > BAND_TOO_WIDE:
        return f"resampled curves put it anywhere between {10 ** band[0]:.1e} and {10 ** band[1]:.1e}; use more seeds"
    return ""


def _bounds(
    spec: OptimizerSpec,
    aligned: SeedCurves,
    reading: _Reading,
    band: tuple[float, float],
    *,
    constant_loss: float,
    warnings: list[str],
) -> LrBounds:
    """Return [LR10, min(LR_div / 2, 3 LR_min)], at least half a decade wide and inside the ramp, around LR50."""
    rates, fit = aligned.log_rates, reading.fit
    lr10, lr50, lr90 = (fit.crossing(rates, share) for share in (0.1, 0.5, 0.9))
    diverged = _divergence(aligned)
    upper = float(rates[fit.cut]) + math.log10(3)
    if diverged is not None:
        upper = min(upper, diverged - math.log10(2))
    upper = float(np.clip(upper, rates[0], rates[-1]))
    if lr50 > upper:
        warnings = [
            *warnings,
            "the half-drop lies above half the diverging rate; half the diverging rate is suggested",
        ]
    suggested = min(lr50, upper)
    # A steep drop gives bounds that a search could not move in: room is made downwards, where it is safe.
    lower = min(max(min(lr10, upper - MIN_WIDTH), float(rates[0])), suggested)
    return LrBounds(
        optimizer=spec.name,
        lower=10**lower,
        suggested=10**suggested,
        upper=10**upper,
        band=(10 ** min(band[0], suggested), 10 ** max(band[1], suggested)),
        abstained=False,
        reason="",
        source="range_test",
        lr10=10**lr10,
        lr50=10**lr50,
        lr90=10**lr90,
        lr_min=10 ** float(rates[fit.cut]),
        lr_div=None if diverged is None else 10**diverged,
        valley=10**reading.valley,
        drop=fit.drop,
        noise=reading.noise,
        constant_loss=constant_loss,
        warnings=tuple(warnings),
        fit=_fit_points(aligned, reading),
    )


def _abstain(
    spec: OptimizerSpec,
    aligned: SeedCurves,
    reading: _Reading | None,
    *,
    constant_loss: float,
    reason: str,
    warnings: list[str],
) -> LrBounds:
    """Return the optimizer's default bounds, with what was seen of the curve for whoever draws it."""
    diverged = _divergence(aligned)
    return LrBounds(
        optimizer=spec.name,
        lower=spec.default_bounds[0],
        suggested=spec.default_lr,
        upper=spec.default_bounds[1],
        band=spec.default_bounds,
        abstained=True,
        reason=reason,
        source="default",
        lr10=None,
        lr50=None,
        lr90=None,
        lr_min=None if reading is None else 10 ** float(aligned.log_rates[reading.fit.cut]),
        lr_div=None if diverged is None else 10**diverged,
        valley=None if reading is None else 10**reading.valley,
        drop=None if reading is None else reading.fit.drop,
        noise=None if reading is None or not math.isfinite(reading.noise) else reading.noise,
        constant_loss=constant_loss,
        warnings=tuple(warnings),
        fit={"lr": [], "loss": []} if reading is None else _fit_points(aligned, reading),
    )


def _divergence(aligned: SeedCurves) -> float | None:
    """Return the log10 rate at which half of the seeds had diverged, or None."""
    middle = float(np.sort(aligned.onsets)[(len(aligned.onsets) - 1) // 2])
    return middle if math.isfinite(middle) else None


def _fit_points(aligned: SeedCurves, reading: _Reading) -> dict[str, list[float]]:
    rates = 10 ** aligned.log_rates[: reading.fit.cut + 1]
    return {"lr": rates.tolist(), "loss": reading.fit.fitted.tolist()}


def _curve_warnings(aligned: SeedCurves, reading: _Reading, *, constant_loss: float) -> list[str]:
    rates, fit = aligned.log_rates, reading.fit
    warnings = []
    if fit.reference < constant_loss:
        warnings.append(
            f"the loss starts at {fit.start:.3f}, below that of a constant prediction ({constant_loss:.3f}); "
            "the drop is counted from there"
        )
    if fit.drop > 0 and fit.crossing(rates, 0.1) <= rates[0] + EDGE:
        warnings.append("the loss falls from the ramp's first rates on; start the ramp lower")
    if _divergence(aligned) is None and rates[fit.cut] >= rates[-1] - EDGE:
        warnings.append("the loss was still falling when the ramp ended; end it higher")
    diverged = aligned.onsets[np.isfinite(aligned.onsets)]
    if len(diverged) and diverged.max() - diverged.min() > RULES_APART:
        warnings.append(
            f"the seeds diverged between {10 ** diverged.min():.1e} and {10 ** diverged.max():.1e}; use more seeds"
        )
    return warnings


def _plan_warnings(aligned: SeedCurves) -> list[str]:
    """Return what was less than the advised size of the test, as far as the curves tell."""
    seeds, rates = len(aligned.losses), aligned.log_rates
    warnings = []
    if seeds < ADVISED_SEEDS:
        warnings.append(f"{seeds} seed(s); {ADVISED_SEEDS} or more tell noise from a drop")
    decades = float(rates[-1] - rates[0])
    if len(rates) > 1 and (len(rates) - 1) / decades < ADVISED_STEPS_PER_DECADE - 0.5:
        warnings.append(
            f"{(len(rates) - 1) / decades:.0f} steps per decade; {ADVISED_STEPS_PER_DECADE} or more are advised"
        )
    if decades < ADVISED_DECADES - 0.05 and not np.isfinite(aligned.onsets).any():
        warnings.append(
            f"the ramp spans {decades:.1f} decades without diverging; {ADVISED_DECADES} to 6 are advised"
        )
    return warnings
