"""The gates: limits that a model meets with its confidence bound, not with its estimate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GateResult:
    """One gate. measured: the bound that is compared with the limit; both None where there is no single number."""

    name: str
    measured: float | None
    limit: float | None
    passed: bool
    reason: str


def judge_gates(metrics: Mapping[str, Any], limits: Mapping[str, float | None]) -> list[GateResult]:
    """Compare metrics.json with the limits: min_auroc, max_escape_rate, max_overkill_rate, min_balanced_accuracy.

    A limit of None is not asked for. Where images are judged in tiles, the rates are those of the files: a part goes
    out as a whole. Without a good class only the limit on balanced accuracy applies.
    """
    results = []
    if metrics["ranking"] is not None:
        judged = metrics["per_file"] or metrics
        point = judged["operating_points"]["escape_budget"]
        balanced = judged["operating_points"]["balanced"]["balanced_accuracy"]
        results += [
            _at_least("AUROC", judged["ranking"]["auroc"], limits["min_auroc"]),
            _at_most("escape rate", point["escape_rate"], limits["max_escape_rate"]),
            _at_most("overkill rate", point["overkill_rate"], limits["max_overkill_rate"]),
        ]
    else:
        balanced = metrics["class_metrics"]["balanced_accuracy"]
    results.append(_at_least("balanced accuracy", balanced, limits["min_balanced_accuracy"]))
    return [result for result in results if result is not None]


def _at_least(name: str, record: Mapping[str, Any], limit: float | None) -> GateResult | None:
    return None if limit is None else _judge(f"{name}, lower bound", record["value"], record["low"], limit, sign=1)


def _at_most(name: str, record: Mapping[str, Any], limit: float | None) -> GateResult | None:
    return None if limit is None else _judge(f"{name}, upper bound", record["value"], record["high"], limit, sign=-1)


def _judge(name: str, value: float | None, bound: float | None, limit: float, *, sign: int) -> GateResult:
    if value is None:
        return GateResult(name, None, limit, False, "the test split has no image to measure it on")
    if bound is None:
        return GateResult(name, None, limit, False, f"estimate {value:.3f}, but too few test images to bound it")
    passed = sign * (bound - limit) >= 0
    relation = "at least" if sign > 0 else "at most"
    return GateResult(name, bound, limit, passed, f"{bound:.3f} (estimate {value:.3f}), asked {relation} {limit:g}")
