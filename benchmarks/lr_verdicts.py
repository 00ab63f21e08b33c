"""From what the range test's benchmark measured to its bars, and to the factors that its settings ask for."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import numpy as np

from components.optim.range_test.bounds import factor_family

PEERS = ("steepest", "valley")
FACTORS = (0.5, 0.7, 1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
TIE = 0.1  # seed-sd
AS_GOOD = 0.5  # seed-sd below the best that a rate of the grid may score and count as good


def verdicts(result: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return per bar whether it is met, and by what figures; a bar without measurements is left out."""
    found: dict[str, dict[str, Any]] = {}
    learnable = result["learnable"]
    for half in ("judge", "fit", "all"):
        part = [setting for setting in learnable if half in ("all", setting["half"])]
        if part:
            found |= _regret_verdicts(part, half)
    if learnable:
        abstained = sum(setting["abstained"] for setting in learnable)
        share = abstained / sum(setting["tests"] for setting in learnable)
        spreads = {setting["setting"]: setting["rules"]["ours"]["spread_decades"] for setting in learnable}
        found["abstention on at most 10 % of the tests of learnable settings"] = _verdict(
            share <= 0.10, {"share": share}
        )
        mean = statistics.fmean(spreads.values())
        found["spread of the suggestion at most 0.1 decade in the mean"] = _verdict(
            mean <= 0.1, {"mean": mean, "above": {k: v for k, v in spreads.items() if v > 0.1}}
        )
        offsets = _family_offsets(learnable)
        found["no family off by more than a factor of two"] = _verdict(
            max(map(abs, offsets.values())) <= np.log10(2), offsets
        )
    for kind in ("flat", "noise"):
        part = [setting for setting in result["unlearnable"] if setting["setting"].startswith(kind)]
        if part:
            counts = {setting["setting"]: f"{setting['abstained']}/{setting['tests']}" for setting in part}
            every = all(setting["abstained"] == setting["tests"] for setting in part)
            found[f"every test of a {kind} problem abstains"] = _verdict(every, counts)
    if result["cost"]:
        ratios = {setting["setting"]: setting["ratio"]["median"] for setting in result["cost"]}
        found["a curve costs at most 1.05 × a bare loop"] = _verdict(max(ratios.values()) <= 1.05, ratios)
    return found


def fit_factors(learnable: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the factor on the centre of the drop per family that the settings marked `fit` ask for.

    That is the lowest whose mean regret is within a tenth of a seed-sd of the least: a rate too low costs time, one too
    high the training. The regret of a rate is read off the grid's mean scores, linear in the log of the rate; factors
    are coarse, so that they do not follow the noise of a few settings.
    """
    fitted: dict[str, float] = {}
    used = [setting for setting in learnable if setting["half"] == "fit" and setting["centres"]]
    for family in sorted({factor_family(setting["optimizer"]) for setting in used}):
        part = [setting for setting in used if factor_family(setting["optimizer"]) == family]
        regrets = [statistics.fmean(_read_regret(setting, factor) for setting in part) for factor in FACTORS]
        fitted[family] = FACTORS[int(np.argmax(np.asarray(regrets) <= min(regrets) + TIE))]
    return fitted


def _regret_verdicts(part: Sequence[dict[str, Any]], which: str) -> dict[str, dict[str, Any]]:
    ours = _mean_regret(part, "ours")
    found = {
        f"mean regret at most 0.25 seed-sd, settings: {which} ({len(part)})": _verdict(ours <= 0.25, {"ours": ours})
    }
    both = [setting for setting in part if all(peer in setting["rules"] for peer in PEERS)]
    if both:
        means = {rule: _mean_regret(both, rule) for rule in ("ours", *PEERS)}
        found[f"no peer's mean regret is lower, settings: {which} ({len(both)})"] = _verdict(
            all(means["ours"] <= means[peer] for peer in PEERS), means
        )
    return found


def _mean_regret(part: Sequence[dict[str, Any]], rule: str) -> float:
    return statistics.fmean(setting["rules"][rule]["regret"] for setting in part)


def _family_offsets(learnable: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return the mean decades per family by which suggestions lie above or below the good rates of the grid."""
    offsets: dict[str, list[float]] = {}
    for setting in learnable:
        scores = np.asarray(setting["grid"]["scores"])
        good = np.log10(setting["grid"]["rates"])[scores >= scores.max() - AS_GOOD * setting["best"]["seed_sd"]]
        read = float(np.mean(np.log10(setting["rules"]["ours"]["rates"])))
        offsets.setdefault(factor_family(setting["optimizer"]), []).append(
            read - float(np.clip(read, good.min(), good.max()))
        )
    return {family: statistics.fmean(values) for family, values in offsets.items()}


def _read_regret(setting: dict[str, Any], factor: float) -> float:
    grid, scores = np.log10(setting["grid"]["rates"]), np.asarray(setting["grid"]["scores"])
    limit = np.median(setting["diverging"]) / 2 if setting["diverging"] else np.inf
    rates = np.minimum(np.asarray(setting["centres"]) * factor, limit)
    return float(np.mean(scores.max() - np.interp(np.log10(rates), grid, scores)) / setting["best"]["seed_sd"])


def _verdict(met: bool, measured: dict[str, Any]) -> dict[str, Any]:
    return {"met": bool(met), "measured": measured}
