"""Champion against challenger: the score bound against direct likelihood, and verdicts on clear cases."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from components.evaluation.intervals import kish_size
from components.evaluation.non_inferiority import (
    non_inferiority,
    paired_difference,
    tango_upper_bound,
)

SETTINGS: dict[str, Any] = {
    "margin_escape": 0.02,
    "margin_overkill": 0.05,
    "confidence": 0.95,
    "bootstrap_samples": 300,
    "seed": 0,
}


def test_without_disagreement_the_bound_is_z_squared_over_n_plus_z_squared() -> None:
    z = stats.norm.ppf(0.95)
    assert tango_upper_bound(0, 0, 10, confidence=0.95) == pytest.approx(z**2 / (10 + z**2))


@pytest.mark.parametrize("pairs", [1, 1.8, 10, 333.3])
def test_where_all_pairs_differ_the_bound_has_a_closed_form(pairs: float) -> None:
    # all better: n(1 + δ) = z²(1 − δ); all worse: there is nothing above 1
    z = stats.norm.ppf(0.95)
    assert tango_upper_bound(0, pairs, pairs, confidence=0.95) == pytest.approx((z**2 - pairs) / (z**2 + pairs))
    assert tango_upper_bound(pairs, 0, pairs, confidence=0.95) == 1.0


@settings(max_examples=80, deadline=None)
@given(
    st.floats(1, 1e5),
    st.sampled_from([0.0, 0.3, 0.999, 1.0]) | st.floats(0, 1),
    st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1),
    st.floats(0.5, 0.999),
)
def test_the_score_bound_is_in_order_over_its_whole_domain(
    pairs: float, discordant: float, share: float, confidence: float
) -> None:
    worse, better = pairs * discordant * share, pairs * discordant * (1 - share)
    estimate = (worse - better) / pairs
    upper = tango_upper_bound(worse, better, pairs, confidence=confidence)
    lower = -tango_upper_bound(better, worse, pairs, confidence=confidence)
    assert -1 <= lower <= estimate + 1e-9
    assert estimate - 1e-9 <= upper <= 1
    surer = tango_upper_bound(worse, better, pairs, confidence=(1 + confidence) / 2)
    more = tango_upper_bound(2 * worse, 2 * better, 2 * pairs, confidence=confidence)
    moved = tango_upper_bound(worse + better / 2, better / 2, pairs, confidence=confidence)
    assert more - 1e-9 <= upper <= min(surer, moved) + 1e-9


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 6)), min_size=1, max_size=25)
    | st.lists(st.tuples(st.just(False), st.just(True), st.integers(0, 6)), min_size=1, max_size=25)
    | st.lists(st.tuples(st.just(True), st.just(False), st.integers(0, 1)), min_size=1, max_size=25)
)
def test_any_two_models_can_be_compared(images: list[tuple[bool, bool, int]]) -> None:
    wrong, before, groups = (np.array(column) for column in zip(*images, strict=True))
    record = paired_difference(
        wrong, before, groups, name="escape rate", kind="defective", margin=0.1, confidence=0.95,
        bootstrap_samples=20, seed=0,
    )  # fmt: skip
    assert record["difference"] == pytest.approx(wrong.mean() - before.mean())
    assert record["difference"] - 1e-9 <= record["score_upper_bound"] <= record["upper_bound"] <= 1
    assert 1 <= record["effective_images"] <= len(images) + 1e-9


def test_models_that_differ_on_every_image_of_grouped_parts_are_compared() -> None:
    everything = np.ones(49, dtype=bool)
    groups = np.arange(49) // 3
    record = non_inferiority(everything, ~everything, everything, groups, **SETTINGS)["escape_rate"]
    # 49²/(16·9 + 1) effective images, all of them better: (z² − n)/(z² + n)
    worth, z = 49**2 / 145, stats.norm.ppf(0.95)
    assert record["upper_bound"] == pytest.approx((z**2 - worth) / (z**2 + worth))
    assert record["passed"]


def test_the_score_bound_agrees_with_a_numerical_constrained_likelihood() -> None:
    worse, better, pairs = 7, 3, 60
    delta = tango_upper_bound(worse, better, pairs, confidence=0.95)

    def minus_log_likelihood(q: float) -> float:
        cells = [(worse, q + delta), (better, q), (pairs - worse - better, 1 - 2 * q - delta)]
        return -sum(count * np.log(share) for count, share in cells)

    q = optimize.minimize_scalar(
        minus_log_likelihood,
        bounds=(1e-9, (1 - delta) / 2 - 1e-9),
        method="bounded",
        options={"xatol": 1e-10},
    ).x
    statistic = (worse - better - pairs * delta) / np.sqrt(pairs * (2 * q + delta * (1 - delta)))
    assert statistic == pytest.approx(-stats.norm.ppf(0.95), abs=1e-3)


def test_the_score_bound_covers_the_true_difference_as_often_as_stated() -> None:
    draws = np.random.default_rng(0).multinomial(80, [0.08, 0.05, 0.87], size=1000)
    covered = [tango_upper_bound(worse, better, 80, confidence=0.95) >= 0.03 for worse, better, _ in draws]
    assert 0.925 < np.mean(covered) < 0.985


def test_equal_models_pass_on_many_images_and_not_on_few() -> None:
    assert _compare(2000)["passed"]
    small = _compare(20)
    assert small["escape_rate"]["difference"] == 0.0
    assert not small["passed"]  # no difference seen is no proof of equality


def test_a_worse_challenger_fails_on_escapes_alone() -> None:
    is_defect = np.arange(2000) < 1000
    challenger = is_defect & (np.arange(2000) >= 60)
    result = non_inferiority(challenger, is_defect, is_defect, np.arange(is_defect.size), **SETTINGS)
    assert (result["escape_rate"]["passed"], result["overkill_rate"]["passed"]) == (False, True)
    assert result["escape_rate"]["difference"] == pytest.approx(0.06)
    assert "above the margin" in result["escape_rate"]["reason"]
    assert result["escape_rate"]["only_challenger_wrong"] == 60


def test_images_of_one_part_prove_less_than_parts_of_their_own() -> None:
    assert kish_size(np.arange(300) // 3) == pytest.approx(100)
    alone, shared = _compare(600), _compare(600, per_part=3)
    assert shared["escape_rate"]["upper_bound"] > alone["escape_rate"]["upper_bound"]


def test_the_upper_bound_is_never_below_the_bootstrap() -> None:
    generator = np.random.default_rng(3)
    is_defect = generator.random(400) < 0.5
    challenger, champion = (is_defect ^ (generator.random(400) < 0.1) for _ in range(2))
    record = non_inferiority(challenger, champion, is_defect, np.arange(400) // 2, **SETTINGS)["escape_rate"]
    assert record["upper_bound"] == max(record["bootstrap_upper_bound"], record["score_upper_bound"])


def test_no_images_of_a_kind_do_not_pass_and_say_so() -> None:
    nothing = np.empty(0, dtype=bool)
    result = non_inferiority(nothing, nothing, nothing, np.arange(nothing.size), **SETTINGS)
    assert not result["passed"]
    assert result["escape_rate"]["reason"] == "no defective image: the escape rate cannot be compared"
    assert result["overkill_rate"]["upper_bound"] is None


def _compare(count: int, per_part: int = 1) -> dict[str, Any]:
    is_defect = (np.arange(count) // per_part) % 2 == 0
    return non_inferiority(is_defect, is_defect, is_defect, np.arange(count) // per_part, **SETTINGS)
