"""The weight-decay range test: the largest decay that permits as high a rate, or no verdict with its reason."""

import json

import pytest

from components.optim.range_test.bounds import LrBounds
from components.optim.range_test.weight_decay import choose_weight_decay


def found(lr_div: float | None = None, *, lr_min: float = 1e-2, abstained: bool = False) -> LrBounds:
    return LrBounds(
        optimizer="sgd",
        lower=1e-4,
        suggested=1e-3,
        upper=1e-2,
        band=(1e-3, 1e-3),
        abstained=abstained,
        reason="flat" if abstained else "",
        lr50=1e-3,
        centre=1e-3,
        lr_min=lr_min,
        lr_div=lr_div,
        valley=1e-3,
        drop=0.5,
        noise=0.01,
        constant_loss=0.69,
        warnings=(),
        fit={"lr": [], "loss": []},
        factor=1.0,
    )


def test_the_largest_whose_diverging_rate_is_not_reduced_is_picked() -> None:
    tests = {1e-3: found(1.0), 1e-2: found(0.9), 1e-1: found(0.1), 1e-4: found(0.8)}
    verdict = choose_weight_decay(tests, optimizer="sgd")
    assert (verdict.recommended, verdict.measure, verdict.reason, verdict.note) == (1e-2, "lr_div", "", "")
    assert [(limit.weight_decay, limit.limit, limit.reduced) for limit in verdict.limits] == [
        (1e-4, 0.8, False),
        (1e-3, 1.0, False),
        (1e-2, 0.9, False),
        (1e-1, 0.1, True),
    ]


@pytest.mark.parametrize(("limit", "recommended"), [(10**-0.24, 0.1), (10**-0.26, 0.01)])
def test_a_quarter_decade_below_the_highest_is_not_reduced(limit: float, recommended: float) -> None:
    assert choose_weight_decay({0.01: found(1.0), 0.1: found(limit)}, optimizer="sgd").recommended == recommended


def test_a_largest_that_permits_as_much_says_that_larger_ones_may_do() -> None:
    verdict = choose_weight_decay({0.01: found(1.0), 0.1: found(1.0)}, optimizer="sgd")
    assert verdict.recommended == 0.1
    assert "larger ones" in verdict.note


def test_where_a_ramp_does_not_diverge_the_rates_of_lowest_loss_are_compared_for_all() -> None:
    tests = {0.01: found(1.0, lr_min=1e-1), 0.1: found(0.3, lr_min=9e-2), 1.0: found(None, lr_min=1e-3)}
    verdict = choose_weight_decay(tests, optimizer="adamw")
    assert (verdict.recommended, verdict.measure) == (0.1, "lr_min")
    assert [limit.limit for limit in verdict.limits] == [1e-1, 9e-2, 1e-3]


def test_curves_that_neither_diverge_nor_differ_carry_no_verdict() -> None:
    verdict = choose_weight_decay({0.01: found(), 0.1: found(), 1.0: found()}, optimizer="adamw")
    assert verdict.recommended is None
    assert "the rate of lowest loss is the same under all" in verdict.reason


def test_a_weight_decay_whose_range_test_abstained_is_not_picked_and_has_no_limit() -> None:
    tests = {0.01: found(1.0), 0.1: found(0.9), 1.0: found(5.0, abstained=True)}
    verdict = choose_weight_decay(tests, optimizer="sgd")
    assert verdict.recommended == 0.1
    assert verdict.note == ""
    assert (verdict.limits[-1].limit, verdict.limits[-1].reduced) == (None, False)


def test_one_readable_test_is_no_comparison() -> None:
    verdict = choose_weight_decay({0.01: found(1.0), 0.1: found(abstained=True)}, optimizer="sgd")
    assert verdict.recommended is None
    assert verdict.reason.startswith("1 of the 2 range tests abstained, and a single one")


def test_where_all_abstained_so_does_the_verdict() -> None:
    tests = {0.01: found(abstained=True), 0.1: found(abstained=True)}
    verdict = choose_weight_decay(tests, optimizer="sgd")
    assert verdict.recommended is None
    assert verdict.reason.startswith("2 of the 2 range tests abstained;")
    assert [limit.limit for limit in verdict.limits] == [None, None]


def test_a_verdict_survives_json() -> None:
    verdict = choose_weight_decay({0.01: found(1.0), 0.1: found(0.1)}, optimizer="sgd").to_dict()
    assert json.loads(json.dumps(verdict))["limits"][1] == {"weight_decay": 0.1, "limit": 0.1, "reduced": True}
