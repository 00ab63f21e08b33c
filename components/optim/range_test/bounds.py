"""From the curves of a range test to a learning rate, its band and the bounds of the search; or an abstention.

The half-drop rate is where half of what the loss falls by, from the best constant prediction to the lowest point, is
reached. It scatters little from one range test to the next, and lies below the best peak rate of a training, by about
the same factor for optimizers of one family: a rising rate halves the loss with all the steps before, most of them too
small to matter. The suggestion is the half-drop rate times that factor, held inside the bounds. The valley rule reads
the same curve in another way; where the two lie far apart, or the drop is within the noise, nothing is suggested and
the optimizer's defaults stand. What is found is a range in which training is stable and moves. It is not the optimum of
a long training: a short one favours rates that pay at once (Wu et al., arXiv 1803.02021).
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from components.optim.optimizers import OptimizerSpec, optimizer_spec
from components.optim.range_test.bootstrap import resample_half_drops
from components.optim.range_test.curve import SeedCurves, align_seeds
from components.optim.range_test.reading import MIN_POINTS, Reading, read_curve, reason_to_abstain
from components.optim.range_test.warnings import curve_warnings, held_out_warnings, plan_warnings

BAND = (5.0, 95.0)  # percentiles
MIN_WIDTH = 0.5  # decades between the bounds

# Best peak rate by half-drop rate. Fitted on the settings that benchmarks/lr_range_test.py marks `fit`, by its `--fit`,
# and judged on its others. AdaGrad divides by all gradients so far, so that its steps shrink: over a whole training it
# bears a far higher rate than on a ramp.
FAMILY_FACTOR: dict[str, float] = {"sgd": 2.0, "adaptive": 6.0, "adagrad": 15.0}


@dataclass(frozen=True, kw_only=True)
class LrBounds:
    """What the range test says about one optimizer. All rates are plain rates, not logarithms.

    lower ≤ suggested ≤ upper. band: (low, high) bootstrap interval of the suggestion. drop and noise in nats. source:
    `default` where it abstained, and `reason` says why. lr10, lr50, lr90: rate at which that share of the drop is
    reached; lr_min: lowest loss; lr_div: half of the seeds have diverged; None where there is none. fit: `lr` and
    `loss`, the decreasing fit that these were read from. factor: suggestion by lr50 before it was held inside the
    bounds; 1 where it abstained, and in records from before there was one.
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
    factor: float = 1.0

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; `from_dict` is its inverse."""
        return asdict(self) | {"band": list(self.band), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LrBounds":
        """Rebuild the bounds that `to_dict` wrote."""
        low, high = values["band"]
        return cls(**{**values, "band": (low, high), "warnings": tuple(values["warnings"])})


def describe_rates(bounds: LrBounds) -> str:
    """What the test says of rates, in words."""
    ends = "" if bounds.lr_div is None else f"found that {bounds.lr_div:.2g} diverges and "
    gives = "abstained" if bounds.abstained else f"suggests {bounds.suggested:.2g}, at most {bounds.upper:.2g}"
    return f"the range test of {bounds.optimizer} {ends}{gives}"


def analyse_curves(
    curves: pd.DataFrame,
    *,
    constant_loss: float,
    constant_spread: float,
    spec: OptimizerSpec,
    bootstrap_samples: int,
    seed: int,
) -> LrBounds:
    """Read the curves of one optimizer; where they do not carry a suggestion, abstain and give its defaults.

    Args:
        curves: one row per step and seed; columns seed, step, lr, loss, grad_norm, heldout_loss (nan where it was not
            measured). Seeds may end at different steps.
        constant_loss: loss of the best constant prediction, positive.
        constant_spread: standard deviation of the constant prediction's loss from batch to batch, nats. 0 for a loss
            that weighs the classes equally, where it costs the same on every batch, or where it is not known.
        spec: the optimizer, for its default bounds and its family.
        bootstrap_samples: resamples for the band.
        seed: of the resampling; the same seed gives the same bounds.

    Raises:
        ValueError: no rows, seeds that ran different ramps, or a constant loss that is not positive.
    """
    if curves.empty:
        raise ValueError("the range test recorded no step")
    if not 0 < constant_loss < math.inf:
        raise ValueError(f"constant_loss={constant_loss}: it is positive wherever there are two classes")
    aligned = align_seeds(curves, constant_loss=constant_loss)
    reading = read_curve(aligned, constant_loss=constant_loss, constant_spread=constant_spread)
    warnings = plan_warnings(aligned)
    if reading is None:
        reason = f"the loss diverged within the first {MIN_POINTS} steps of the ramp; start it lower"
        return _abstain(spec, aligned, None, constant_loss=constant_loss, reason=reason, warnings=warnings)
    warnings += curve_warnings(aligned, reading.fit, constant_loss=constant_loss)
    half_drops = resample_half_drops(
        aligned,
        reference=reading.fit.reference,
        until=reading.fit.cut,
        samples=bootstrap_samples,
        rng=np.random.default_rng(seed),
    )
    band = _band(reading.half_drop, half_drops)
    fell = len(half_drops) / bootstrap_samples if bootstrap_samples else 1.0
    factor = FAMILY_FACTOR[factor_family(spec.name)]
    reason = reason_to_abstain(reading, band, factor=factor, fell=fell, constant_loss=constant_loss)
    if reason:
        return _abstain(spec, aligned, reading, constant_loss=constant_loss, reason=reason, warnings=warnings)
    warnings += held_out_warnings(curves, reading.half_drop, constant_loss=constant_loss)
    return _bounds(spec, aligned, reading, band, factor=factor, constant_loss=constant_loss, warnings=warnings)


def factor_family(optimizer: str) -> str:
    """Return the optimizer's key in FAMILY_FACTOR: AdaGrad's own, else its spec's family."""
    return "adagrad" if optimizer.startswith("adagrad") else optimizer_spec(optimizer).family


def _band(half_drop: float, resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(resampled, BAND) if len(resampled) else (half_drop, half_drop)
    return min(float(low), half_drop), max(float(high), half_drop)


def _bounds(
    spec: OptimizerSpec,
    aligned: SeedCurves,
    reading: Reading,
    band: tuple[float, float],
    *,
    factor: float,
    constant_loss: float,
    warnings: list[str],
) -> LrBounds:
    """Return [LR10, min(LR_div / 2, 3 LR_min)] around the suggestion: inside the ramp, at least half a decade wide.

    The lowest point of a flat floor lies anywhere on it. So it does not hold the suggestion back, which widens the
    bounds instead; divergence does.
    """
    rates, fit = aligned.log_rates, reading.fit
    shift = math.log10(factor)
    end = float(rates[-1])
    if aligned.diverged_at is not None:
        end = min(end, aligned.diverged_at - math.log10(2))
    end = max(end, float(rates[0]))
    suggested = min(reading.half_drop + shift, end)
    upper = min(max(float(rates[fit.cut]) + math.log10(3), suggested), end)
    if suggested < reading.half_drop:
        warnings = [*warnings, "the half-drop lies above half the diverging rate, which is suggested instead"]
    lr10 = fit.crossing(rates, 0.1)
    # A steep drop gives bounds that a search could not move in: room is made downwards, where it is safe.
    lower = min(max(min(lr10, upper - MIN_WIDTH), float(rates[0])), suggested)
    return LrBounds(
        optimizer=spec.name,
        lower=10**lower,
        suggested=10**suggested,
        upper=10**upper,
        band=(10 ** min(band[0] + shift, suggested), 10 ** min(max(band[1] + shift, suggested), upper)),
        abstained=False,
        reason="",
        source="range_test",
        lr10=10**lr10,
        lr50=10**reading.half_drop,
        lr90=10 ** fit.crossing(rates, 0.9),
        lr_min=10 ** float(rates[fit.cut]),
        lr_div=_diverging_rate(aligned),
        valley=10**reading.valley,
        drop=fit.drop,
        noise=reading.noise,
        constant_loss=constant_loss,
        warnings=tuple(warnings),
        fit=_fit_points(aligned, reading),
        factor=factor,
    )


def _abstain(
    spec: OptimizerSpec,
    aligned: SeedCurves,
    reading: Reading | None,
    *,
    constant_loss: float,
    reason: str,
    warnings: list[str],
) -> LrBounds:
    """Return the optimizer's default bounds, with what was seen of the curve for whoever draws it."""
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
        lr_div=_diverging_rate(aligned),
        valley=None if reading is None else 10**reading.valley,
        drop=None if reading is None else reading.fit.drop,
        noise=None if reading is None or not math.isfinite(reading.noise) else reading.noise,
        constant_loss=constant_loss,
        warnings=tuple(warnings),
        fit={"lr": [], "loss": []} if reading is None else _fit_points(aligned, reading),
    )


def _diverging_rate(aligned: SeedCurves) -> float | None:
    return None if aligned.diverged_at is None else 10**aligned.diverged_at


def _fit_points(aligned: SeedCurves, reading: Reading) -> dict[str, list[float]]:
    rates = 10 ** aligned.log_rates[: reading.fit.cut + 1]
    return {"lr": rates.tolist(), "loss": reading.fit.fitted.tolist()}
