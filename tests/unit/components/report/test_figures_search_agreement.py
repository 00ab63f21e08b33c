"""Rungs against the end: a panel per rung, unstopped trials full, survivors hollow and out of the count."""

import pandas as pd
import pytest

from components.report import style
from components.report.figures_search_agreement import rung_agreement_figure

EPOCHS = (1, 3, 9)


def scores(count: int, epochs=EPOCHS) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"trial": trial, "epoch": epoch, "score": 0.5 + 0.01 * trial + 0.03 * epoch}
            for trial in range(count)
            for epoch in epochs
        ],
        columns=["trial", "epoch", "score"],
    )


def record(rung: int, rho: float | None, count: int = 6) -> dict:
    return {"rung": rung, "count": count, "rho": rho, "p_value": None, "low": rho is not None and rho < 0.6}


def drawn(table: pd.DataFrame, records: list, rungs=(1, 3), unstopped=range(6), final=9):
    return rung_agreement_figure(table, rungs, final, unstopped=unstopped, records=records)


def test_every_rung_has_a_panel_with_its_rho(words) -> None:
    figure = drawn(scores(10), [record(1, 0.43), record(3, 0.91)])
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Epoch 1", "Epoch 3"]
    assert [axes.get_title(loc="right") for axes in figure.axes] == ["ρ = 0.43, too low", "ρ = 0.91"]
    assert any("Survivors of early stopping (4, hollow)" in text for text in words(figure))


def test_unstopped_trials_are_full_and_survivors_hollow() -> None:
    hollow, full = drawn(scores(10), [record(1, 0.9)]).axes[0].collections
    assert (len(hollow.get_offsets()), len(full.get_offsets())) == (4, 6)
    assert len(hollow.get_facecolors()) == 0
    assert full.get_facecolors()[0][:3] == pytest.approx([0, 0x72 / 255, 0xB2 / 255])


def test_an_unknown_rho_is_said_quietly() -> None:
    axes = drawn(scores(3), [record(1, None, 3)], rungs=(1,), unstopped=range(3)).axes[0]
    assert axes.get_title(loc="right") == "ρ unknown: 3 trials"
    assert style.MUTED in {text.get_color() for text in (axes.title, axes._right_title)}  # type: ignore[attr-defined]


def test_a_trial_without_a_final_score_is_not_drawn() -> None:
    early = scores(3, epochs=(1,)).assign(trial=lambda table: table["trial"] + 50)
    hollow, full = drawn(pd.concat([scores(6), early]), [record(1, 0.9)]).axes[0].collections
    assert (len(hollow.get_offsets()), len(full.get_offsets())) == (0, 6)


@pytest.mark.parametrize("rungs", [(1,), (1, 3), (1, 2, 3, 4, 5)])
@pytest.mark.parametrize("count", [1, 6, 40])
def test_no_text_lies_on_another(overlaps, rungs: tuple, count: int) -> None:
    table = scores(count, epochs=(1, 2, 3, 4, 5, 9))
    assert overlaps(drawn(table, [record(rung, 0.5) for rung in rungs], rungs=rungs)) == []


def test_nothing_to_draw_is_said(words) -> None:
    assert "there is no rung before the last epoch" in words(drawn(scores(4), [], rungs=(9,)))
    assert "no trial has a score after epoch 9" in words(drawn(scores(4, epochs=(1,)), [record(1, None, 0)]))
    assert "no trial has a score after epoch 9" in words(drawn(scores(0), [record(1, None, 0)]))
