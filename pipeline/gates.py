"""The gates: absolute bounds that a model meets with its confidence bound, not with its point value."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pipeline.config import Gates


@dataclass(frozen=True)
class GateResult:
    """One gate: the bound that was measured, the limit that was asked, and the verdict in words."""

    name: str
    measured: float | None
    limit: float | None
    passed: bool
    reason: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def judge_gates(metrics: dict[str, Any], gates: Gates) -> list[GateResult]:
    """Hold metrics.json against the configured gates; a gate that is null is not asked.

    Where images are judged in tiles, it is the files that are asked for: a part goes out or not as a whole. For a
    problem without a good class only the gate on balanced accuracy applies.
    """
    results = []
    if metrics["ranking"] is not None:
        judged = metrics["per_file"] or metrics
        point = judged["operating_points"]["escape_budget"]
        balanced = judged["operating_points"]["balanced"]["balanced_accuracy"]
        results += [
            _at_least("AUROC, lower bound", judged["ranking"]["auroc"], gates.min_auroc),
            _at_most("escape rate, upper bound", point["escape_rate"], gates.max_escape_rate),
            _at_most("overkill rate, upper bound", point["overkill_rate"], gates.max_overkill_rate),
        ]
    else:
        balanced = metrics["class_metrics"]["balanced_accuracy"]
    results.append(_at_least("balanced accuracy, lower bound", balanced, gates.min_balanced_accuracy))
    return [result for result in results if result is not None]


def _at_least(name: str, record: dict[str, Any], limit: float | None) -> GateResult | None:
    return None if limit is None else _judge(name, record["value"], record["low"], limit, sign=1)


def _at_most(name: str, record: dict[str, Any], limit: float | None) -> GateResult | None:
    return None if limit is None else _judge(name, record["value"], record["high"], limit, sign=-1)


def _judge(name: str, value: float | None, bound: float | None, limit: float, *, sign: int) -> GateResult:
    if value is None:
        return GateResult(name, None, limit, False, "the test split has no image to measure it on")
    if bound is None:
        return GateResult(name, None, limit, False, f"estimate {value:.3f}, but too few test images to bound it")
    passed = sign * (bound - limit) >= 0
    relation = "at least" if sign > 0 else "at most"
    return GateResult(name, bound, limit, passed, f"{bound:.3f} (estimate {value:.3f}), asked {relation} {limit:g}")
