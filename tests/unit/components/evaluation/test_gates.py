"""Gates are met by the confidence bound, never by the estimate alone."""

import pytest

from components.evaluation.gates import judge_gates


def limits(auroc: float | None, escape: float | None, overkill: float | None, balanced: float | None) -> dict:
    return {
        "min_auroc": auroc,
        "max_escape_rate": escape,
        "max_overkill_rate": overkill,
        "min_balanced_accuracy": balanced,
    }


ALL = limits(0.9, 0.1, 0.3, 0.8)


def rate(value, low, high) -> dict:
    return {"value": value, "low": low, "high": high}


@pytest.fixture
def metrics() -> dict:
    return {
        "ranking": {"auroc": rate(0.95, 0.91, 0.98)},
        "operating_points": {
            "escape_budget": {"escape_rate": rate(0.04, 0.01, 0.09), "overkill_rate": rate(0.2, 0.15, 0.25)},
            "balanced": {"balanced_accuracy": rate(0.88, 0.84, 0.92)},
        },
        "class_metrics": {"balanced_accuracy": rate(0.7, 0.65, 0.75)},
        "per_file": None,
    }


def verdicts(metrics: dict, gates: dict) -> dict[str, bool]:
    return {gate.name.split(",")[0]: gate.passed for gate in judge_gates(metrics, gates)}


def test_a_model_whose_bounds_keep_the_limits_passes_all(metrics) -> None:
    assert verdicts(metrics, ALL) == {
        "AUROC": True,
        "escape rate": True,
        "overkill rate": True,
        "balanced accuracy": True,
    }


def test_the_bound_decides_and_not_the_estimate(metrics) -> None:
    gates = limits(0.92, 0.05, 0.21, 0.85)
    assert not any(verdicts(metrics, gates).values())
    first = judge_gates(metrics, gates)[0]
    assert (first.measured, first.limit) == (0.91, 0.92)
    assert first.reason == "0.910 (estimate 0.950), limit: at least 0.92"


def test_a_bound_that_just_meets_its_limit_passes(metrics) -> None:
    gates = limits(0.91, 0.09, 0.25, 0.84)
    assert all(verdicts(metrics, gates).values())


def test_a_gate_that_is_null_is_not_asked(metrics) -> None:
    gates = limits(None, None, None, None)
    assert judge_gates(metrics, gates) == []
    assert list(verdicts(metrics, limits(0.9, 0.1, None, None))) == [
        "AUROC",
        "escape rate",
    ]


def test_what_could_not_be_measured_does_not_pass(metrics) -> None:
    metrics["operating_points"]["escape_budget"]["escape_rate"] = rate(None, None, None)
    gate = judge_gates(metrics, ALL)[1]
    assert not gate.passed
    assert gate.measured is None
    assert "no image" in gate.reason
    assert gate.name == "escape rate, upper bound"


def test_an_estimate_without_a_bound_does_not_pass(metrics) -> None:
    metrics["operating_points"]["balanced"]["balanced_accuracy"] = rate(0.9, None, None)
    gate = judge_gates(metrics, ALL)[3]
    assert not gate.passed
    assert gate.reason == "estimate 0.900, but too few test images for a bound"


def test_where_images_are_tiles_the_files_are_asked_for(metrics) -> None:
    metrics["per_file"] = {
        "ranking": {"auroc": rate(0.85, 0.8, 0.9)},
        "operating_points": {
            "escape_budget": {"escape_rate": rate(0.01, 0.0, 0.03), "overkill_rate": rate(0.6, 0.5, 0.7)},
            "balanced": {"balanced_accuracy": rate(0.7, 0.6, 0.8)},
        },
    }
    assert verdicts(metrics, ALL) == {
        "AUROC": False,
        "escape rate": True,
        "overkill rate": False,
        "balanced accuracy": False,
    }
    assert [gate.measured for gate in judge_gates(metrics, ALL)] == [0.8, 0.03, 0.7, 0.6]


def test_without_a_good_class_only_balanced_accuracy_is_asked(metrics) -> None:
    metrics |= {"ranking": None, "operating_points": {}}
    assert verdicts(metrics, ALL) == {"balanced accuracy": False}  # 0.65, that of the likeliest class
