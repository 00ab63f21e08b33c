"""Bars of importances, what no key explains alone among them, and a plain word where they may be noise."""

import pytest

from components.report.figures_search_importance import importance_figure


def record(foretold: float | None = 0.8, **shares: float) -> dict:
    named = {f"recipe.{name}": share for name, share in shares.items()}
    return {"shares": named, "basis": "40 trials after epoch 9", "reason": "", "foretold": foretold}


def test_every_key_has_a_bar_with_its_share_and_the_rest_has_one(words) -> None:
    figure = importance_figure(record(lr=0.6, weight_decay=0.15))
    assert [bar.get_width() for bar in figure.axes[0].patches] == pytest.approx([0.6, 0.15, 0.25])
    assert {"learning rate", "60.0 %", "weight decay", "15.0 %", "several together, and noise", "25.0 %"} <= words(
        figure
    )


def test_the_basis_and_how_far_it_can_be_trusted_are_said(words) -> None:
    said = "\n".join(words(importance_figure(record(foretold=0.8, lr=0.6))))
    assert "40 trials after epoch 9" in said
    assert "80.0 % of the variance among trials not yet seen" in said


def test_noise_is_called_noise(words) -> None:
    assert "This may be noise" in "\n".join(words(importance_figure(record(foretold=-0.1, lr=0.6))))
    assert "noise:" not in "\n".join(words(importance_figure(record(foretold=None, lr=0.6))))


def test_without_shares_the_reason_is_said(words) -> None:
    empty = {"shares": {}, "basis": "", "reason": "nothing was searched", "foretold": None}
    assert "not known: nothing was searched" in words(importance_figure(empty))


@pytest.mark.parametrize("count", [1, 5, 16])
def test_no_text_lies_on_another(overlaps, count: int) -> None:
    shares = {f"a_key_with_a_rather_long_name_{i}": 0.9 / count for i in range(count)}
    assert overlaps(importance_figure(record(**shares))) == []
    assert overlaps(importance_figure(record(foretold=-1.0, lr=1.0))) == []
