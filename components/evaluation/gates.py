"""The gates: limits for the confidence bounds of a model's metrics, not for the estimates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class GateResult:
    """One gate. measured: the bound that is compared with the limit; both None if there is no single number."""

    name: str
    measured: float | None
    limit: float | None
    passed: bool
    reason: str


def judge_gates(metrics: Mapping[str, Any], limits: Mapping[str, float | None]) -> list[GateResult]:
    """Compare metrics.json with the limits: min_auroc, max_escape_rate, max_overkill_rate, min_balanced_accuracy.

    A limit of None is no gate. With tiles, the rates are those of whole image files. Without a good class only the
    limit on balanced accuracy applies.
    """
    if metrics["ranking"] is None:
        records = {"min_balanced_accuracy": ("balanced accuracy", metrics["class_metrics"]["balanced_accuracy"])}
    else:
        judged = metrics["per_file"] or metrics
        point = judged["operating_points"]["escape_budget"]
        records = {
            "min_auroc": ("AUROC", judged["ranking"]["auroc"]),
            "max_escape_rate": ("escape rate", point["escape_rate"]),
            "max_overkill_rate": ("overkill rate", point["overkill_rate"]),
            "min_balanced_accuracy": (
                "balanced accuracy",
                judged["operating_points"]["balanced"]["balanced_accuracy"],
            ),
        }
    results = []
    for key, (name, record) in records.items():
        limit = limits[key]
        if limit is not None:
            results.append(_judge(name, record, limit, is_minimum=key.startswith("min_")))
    return results


def _judge(name: str, record: Mapping[str, Any], limit: float, *, is_minimum: bool) -> GateResult:
    name = f"{name}, {'lower' if is_minimum else 'upper'} bound"
    value, bound = record["value"], record["low" if is_minimum else "high"]
    if value is None:
        return GateResult(name, None, limit, False, "the test split has no image to measure it on")
    if bound is None:
        return GateResult(name, None, limit, False, f"estimate {value:.3f}, but too few test images for a bound")
    passed, relation = (bound >= limit, "at least") if is_minimum else (bound <= limit, "at most")
    return GateResult(name, bound, limit, passed, f"{bound:.3f} (estimate {value:.3f}), limit: {relation} {limit:g}")
