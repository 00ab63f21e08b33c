"""From the curves of a range test to a learning rate, its band and the bounds of the search, or an abstention.

The suggestion is the centre of the drop (`drop_centre`) times a factor of the optimizer's family, but no rate at which
the loss has clearly risen again. The centre contains both sides of the drop: where a network starts to learn, and where
it becomes unstable. The rate of half the drop (LR50) is one side alone: with SGD the best peak rate of a training was 2
times as high for a perceptron, and 12 times for a network with batch norm; and images that return in the ramp move LR50
up. The valley rule reads the same curve in another way; where the two lie far apart, or the drop is within the noise,
the test abstains and the optimizer's default bounds are used. The result is a range in which training is stable and the
loss moves. It is not the optimum of a long training: a short one favours rates that pay at once (Wu et al., arXiv
1803.02021).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.optim.optimizers import OptimizerSpec, optimizer_spec
from components.optim.range_test.curve import (
    SeedCurves,
    align_seeds,
    drop_centre,
    finite_length,
    fit_drop,
    middle_weights,
    smooth_seeds,
    smoothing_kernel,
)
from components.optim.range_test.reading import DROP_IN_NOISE, MIN_POINTS, Reading, read_curve, reason_to_abstain
from components.optim.range_test.warnings import curve_warnings, held_out_warnings, plan_warnings

BAND = (5.0, 95.0)  # percentiles
MIN_WIDTH = 0.5  # decades between the bounds
BLOCK = 5  # steps; residuals are resampled in blocks, because neighbouring steps share their weights

# Best peak rate divided by the centre of the drop. Fitted on the settings that benchmarks/lr_range_test.py marks `fit`,
# by its `--fit`, and judged on its others. AdaGrad divides by all gradients so far, so that its steps shrink: a whole
# training needs a far higher rate than a ramp.
FAMILY_FACTOR: dict[str, float] = {"sgd": 1.0, "adaptive": 1.2, "adagrad": 4.0}
# Standard deviations in decades: of the best rate around centre times factor in these settings, and of the best rate
# around the optimizer's default rate.
FACTOR_SPREAD = 0.2
PRIOR_SPREAD = 1.0
NORMAL = 1.645  # of the band's percentiles


@dataclass(frozen=True, kw_only=True)
class LrBounds:
    """The result of the range test of one optimizer. All rates are plain rates, not logarithms.

    lower ≤ suggested ≤ upper: the optimizer's defaults where it `abstained`, for the `reason` given. band: (low, high)
    90 % interval of the suggestion, from resampled curves and the spread of the factor. lr50: half-drop rate, centre:
    of the drop, None where it abstained. lr_min: rate of the lowest loss; lr_div: rate at which half of the seeds have
    diverged; valley: of the valley rule; None where there is none. drop and noise in nats. fit: `lr` and `loss` of the
    decreasing fit. factor: of the optimizer's family; 1 where it abstained.
    """

    optimizer: str
    lower: float
    suggested: float
    upper: float
    band: tuple[float, float]
    abstained: bool
    reason: str
    lr50: float | None
    centre: float | None
    lr_min: float | None
    lr_div: float | None
    valley: float | None
    drop: float | None
    noise: float | None
    constant_loss: float
    warnings: tuple[str, ...]
    fit: dict[str, list[float]]
    factor: float

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold; `from_dict` is its inverse."""
        return asdict(self) | {"band": list(self.band), "warnings": list(self.warnings)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "LrBounds":
        """Rebuild the bounds that `to_dict` wrote."""
        low, high = values["band"]
        return cls(**{**values, "band": (low, high), "warnings": tuple(values["warnings"])})


def read_bounds(path: Path) -> dict[str, LrBounds]:
    """The range test's result per optimizer."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return {name: LrBounds.from_dict(record) for name, record in values.items()}


def read_backbone_bounds(path: Path) -> dict[tuple[str, str], LrBounds]:
    """The range test's result per backbone and optimizer, for all tested backbones."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return {
        (backbone, name): LrBounds.from_dict(record) for backbone, own in values.items() for name, record in own.items()
    }


def describe_rates(bounds: LrBounds) -> str:
    """Return the result as a clause: `the range test of adamw suggests 0.001, at most 0.01`."""
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
    """Read the curves of one optimizer; abstain and return its defaults where they give no suggestion.

    curves: one row per step and seed; columns seed, step, lr, loss, grad_norm, heldout_loss (nan where it was not
    measured). Seeds may end at different steps. constant_loss: loss of the best constant prediction, positive.
    constant_spread: standard deviation of that loss from batch to batch, nats; 0 for a loss that weighs the classes
    equally, for which it is the same on every batch, or where it is not known. spec: the optimizer. bootstrap_samples:
    resamples for the band. seed: of the resampling; the same seed gives the same bounds. Raises ValueError: no rows,
    seeds that ran different ramps, or a constant loss that is not positive.
    """
    if curves.empty:
        raise ValueError("the range test recorded no step")
    if not 0 < constant_loss < math.inf:
        raise ValueError(f"constant_loss={constant_loss}: it is positive wherever there are two classes")
    aligned = align_seeds(curves, constant_loss=constant_loss)
    reading = read_curve(aligned, constant_loss=constant_loss, constant_spread=constant_spread)
    warnings = plan_warnings(aligned)
    seen = _seen(aligned, reading) | {"optimizer": spec.name, "constant_loss": constant_loss}
    if reading is None:
        reason = f"the loss diverged within the first {MIN_POINTS} steps of the ramp; start it lower"
        return LrBounds(**seen, **_defaults(spec), reason=reason, warnings=tuple(warnings))
    warnings += curve_warnings(aligned, reading.fit, constant_loss=constant_loss)
    resampled = resample_rates(
        aligned,
        reference=reading.fit.reference,
        until=reading.fit.cut,
        samples=bootstrap_samples,
        rng=np.random.default_rng(seed),
    )
    family = factor_family(spec.name)
    factor = FAMILY_FACTOR[family]
    reason = reason_to_abstain(
        reading,
        _percentiles(reading.half_drop, resampled[:, 0]),
        suggested=reading.centre + math.log10(factor),
        fell=len(resampled) / bootstrap_samples if bootstrap_samples else 1.0,
        constant_loss=constant_loss,
    )
    if reason:
        return LrBounds(**seen, **_defaults(spec), reason=reason, warnings=tuple(warnings))
    warnings += held_out_warnings(curves, reading.half_drop, constant_loss=constant_loss)
    estimate = _estimate(reading.centre, resampled[:, 1], factor=factor, prior=spec.default_lr)
    # Where AdaGrad's loss rises in a ramp says nothing of a training, whose steps have shrunk by then.
    risen = math.inf if family == "adagrad" else reading.fit.floor_end(DROP_IN_NOISE * reading.noise)
    rates = _rates(aligned, reading, estimate, risen=risen)
    if rates["suggested"] < 10**reading.half_drop:
        warnings.append("the half-drop lies above half the diverging rate, which is suggested instead")
    found: dict[str, Any] = {
        "lr50": 10**reading.half_drop,
        "centre": 10**reading.centre,
        "factor": factor,
        "abstained": False,
        "reason": "",
    }
    return LrBounds(**seen, **rates, **found, warnings=tuple(warnings))


def untested(spec: OptimizerSpec, *, constant_loss: float, reason: str) -> LrBounds:
    """Return the optimizer's defaults, for the reason that nothing was measured."""
    nothing: dict[str, Any] = dict.fromkeys(("lr_min", "lr_div", "valley", "drop", "noise"))
    return LrBounds(
        **_defaults(spec), **nothing, optimizer=spec.name, constant_loss=constant_loss, reason=reason, warnings=(),
        fit={"lr": [], "loss": []},
    )  # fmt: skip


def factor_family(optimizer: str) -> str:
    """Return the optimizer's key in FAMILY_FACTOR: AdaGrad's own, else its spec's family."""
    return "adagrad" if optimizer.startswith("adagrad") else optimizer_spec(optimizer).family


def _percentiles(value: float, resampled: np.ndarray) -> tuple[float, float]:
    low, high = np.percentile(resampled, BAND) if len(resampled) else (value, value)
    return min(float(low), value), max(float(high), value)


def _estimate(
    centre: float, resampled: np.ndarray, *, factor: float, prior: float
) -> tuple[float, tuple[float, float]]:
    """Return the log10 rate to suggest and its band.

    Centre times factor, and the optimizer's default rate, weighed by their precision: where the resampled centres
    scatter, the default has a part in it. To their percentiles the spread of the factor is added in quadrature.
    """
    variance = float(np.var(resampled)) if len(resampled) else 0.0
    share = variance / (variance + PRIOR_SPREAD**2)
    read = centre + math.log10(factor)
    suggested = read + share * (math.log10(prior) - read)
    low, high = _percentiles(centre, resampled)
    known = NORMAL * FACTOR_SPREAD
    return suggested, (suggested - math.hypot(centre - low, known), suggested + math.hypot(high - centre, known))


def _rates(
    aligned: SeedCurves, reading: Reading, estimate: tuple[float, tuple[float, float]], *, risen: float
) -> dict[str, Any]:
    """Return [LR10, min(LR_div / 2, 3 LR_min)] around the suggestion: within the ramp, at least half a decade wide.

    LR10 is the rate at which a tenth of the drop is reached. On a flat floor the lowest point may lie anywhere, so
    it does not limit the suggestion, which widens the bounds instead. The divergence limits it, and `risen`, the
    log10 rate beyond which the loss has clearly risen.
    """
    rates, fit = aligned.log_rates, reading.fit
    end = float(rates[-1])
    if aligned.diverged_at is not None:
        end = min(end, aligned.diverged_at - math.log10(2))
    end = max(end, float(rates[0]))
    read, (low, high) = estimate
    suggested = min(read, risen, end)
    upper = min(max(float(rates[fit.cut]) + math.log10(3), suggested), end)
    # After a steep drop the bounds would leave a search no room: they are widened downwards, where it is safe.
    lower = min(max(min(fit.crossing(0.1), upper - MIN_WIDTH), float(rates[0])), suggested)
    return {
        "lower": 10**lower,
        "suggested": 10**suggested,
        "upper": 10**upper,
        "band": (10 ** min(max(low, lower), suggested), 10 ** max(min(high, upper), suggested)),
    }


def _defaults(spec: OptimizerSpec) -> dict[str, Any]:
    """Return the optimizer's default rates, for a test that abstains."""
    low, high = spec.default_bounds
    rates = {"lower": low, "suggested": spec.default_lr, "upper": high, "band": (low, high)}
    return rates | {"abstained": True, "lr50": None, "centre": None, "factor": 1.0}


def _seen(aligned: SeedCurves, reading: Reading | None) -> dict[str, Any]:
    """Return what the curves show whether the test abstains or not, for the figure."""
    lr_div = None if aligned.diverged_at is None else 10**aligned.diverged_at
    if reading is None:
        nothing = dict.fromkeys(("lr_min", "valley", "drop", "noise"))
        return {"lr_div": lr_div, "fit": {"lr": [], "loss": []}, **nothing}
    fit = reading.fit
    return {
        "lr_div": lr_div,
        "lr_min": 10 ** float(aligned.log_rates[fit.cut]),
        "valley": 10**reading.valley,
        "drop": fit.drop,
        "noise": reading.noise if math.isfinite(reading.noise) else None,
        "fit": {"lr": (10 ** aligned.log_rates[: fit.cut + 1]).tolist(), "loss": fit.fitted.tolist()},
    }


def resample_rates(
    aligned: SeedCurves, *, reference: float, until: int, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Return the half-drop rate and the centre (log10) of each resample that fell below the reference, (n, 2).

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
        curves = smooth_seeds(curves, kernel)
        curve = np.median(curves, axis=0)
        if finite_length(curve) < 2:
            continue
        fit = fit_drop(aligned.log_rates, curve, reference=reference)
        if fit.drop > 0:
            found.append((fit.crossing(0.5), drop_centre(aligned.log_rates, curves, reference=reference)))
    return np.asarray(found).reshape(-1, 2)


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
