"""Confirmation: seeds are paired, the differences have an axis of their own, and the verdict is in words."""

import math

import numpy as np
import pytest

from components.report.figures_search_confirmation import confirmation_figure

DEFAULTS, WINNER = [0.90, 0.91, 0.92], [0.92, 0.90, 0.95]  # differences 0.02, −0.01, 0.03; mean 0.0133


def drawn(first=DEFAULTS, second=WINNER, difference: float | None = 0.0133, low: float | None = 0.002):
    return confirmation_figure(
        {"defaults": first, "winner": second}, difference=difference, low=low, confidence=0.9, metric_name="AUROC"
    )


def test_the_scores_of_a_seed_are_joined() -> None:
    pairs = [tuple(line.get_ydata()) for line in drawn().axes[0].lines if list(line.get_xdata()) == [0, 1]]
    assert pairs == list(zip(DEFAULTS, WINNER, strict=True))


def test_every_difference_is_a_dot_and_the_mean_one() -> None:
    axes = drawn().axes[1]
    assert sorted(axes.collections[0].get_offsets()[:, 0]) == pytest.approx([-0.01, 0.02, 0.03])
    mean, _, _ = axes.containers[0]
    assert mean.get_xydata().tolist() == [[0.0133, 0.2]]


@pytest.mark.parametrize(
    ("low", "verdict"), [(0.002, "+0.0020 or more: ahead"), (-0.001, "−0.0010 or more: not ahead")]
)
def test_the_verdict_follows_from_the_lower_limit(words, low: float, verdict: str) -> None:
    said = words(drawn(low=low))
    assert f"3 seeds: winner +0.0133 against defaults, and with 90 % confidence {verdict}" in said


def test_one_seed_has_no_interval(words) -> None:
    said = words(drawn([0.9], [0.92], difference=0.02, low=None))
    assert "1 seed: winner +0.0200 against defaults; too few seeds for an interval" in said


def test_seeds_without_both_scores_are_left_out(words) -> None:
    figure = drawn([0.9, math.nan, 0.92], [0.92, 0.9, 0.95])
    assert any(text.startswith("2 seeds") for text in words(figure))


@pytest.mark.parametrize(
    "scores",
    [{}, {"defaults": [], "winner": []}, {"defaults": [0.9]}, {"defaults": [math.nan], "winner": [0.9]}],
)
def test_without_a_pair_it_says_so(words, scores: dict) -> None:
    figure = confirmation_figure(scores, difference=None, low=None, confidence=0.9, metric_name="AUROC")
    assert "no seed was trained under both settings" in words(figure)


@pytest.mark.parametrize("shift", [-0.02, -0.001, 0.0, 0.001, 0.02])
@pytest.mark.parametrize("seeds", [1, 2, 3, 10])
def test_no_text_lies_on_another(overlaps, shift: float, seeds: int) -> None:
    generator = np.random.default_rng(seeds)
    first = 0.9 + 0.01 * generator.normal(size=seeds)
    differences = shift + 0.005 * generator.normal(size=seeds)
    low = differences.mean() - 0.003 if seeds > 1 else None
    assert overlaps(drawn(first, first + differences, float(differences.mean()), low)) == []


def test_equal_scores_are_drawn(overlaps) -> None:
    assert overlaps(drawn([0.9, 0.9], [0.9, 0.9], 0.0, 0.0)) == []
