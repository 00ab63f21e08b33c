"""Survival: bars as high as what reached a rung, made of what became of it."""

import pytest

from components.report.figures_search_survival import rung_survival_figure


def record(rung: int, reached: int, went_on: int, stopped=0, diverged=0, failed=0, completed=0) -> dict:
    return {
        "rung": rung, "reached": reached, "went_on": went_on, "stopped": stopped, "diverged": diverged,
        "failed": failed, "completed": completed,
    }  # fmt: skip


ASHA = [record(0, 40, 39, diverged=1), record(1, 39, 12, 25, 1, 1), record(3, 12, 5, 7), record(9, 5, 0, completed=5)]


def test_the_pieces_of_a_bar_add_up_to_what_reached_the_rung() -> None:
    axes = rung_survival_figure(ASHA).axes[0]
    tops: dict[float, float] = {}
    for bar in axes.containers:
        for piece in bar.patches:
            middle = round(piece.get_x() + piece.get_width() / 2, 6)
            tops[middle] = max(tops.get(middle, 0), piece.get_y() + piece.get_height())
    assert tops == {0: 40, 1: 39, 2: 12, 3: 5}


def test_rungs_and_ends_are_named(words) -> None:
    said = words(rung_survival_figure(ASHA))
    assert {"start", "epoch 1", "epoch 9", "25 stopped early", "1 failed", "5 completed"} <= said
    assert "Of 40 trials, 5 ran to the end, 32 were stopped early, 3 diverged or failed" in said


def test_a_rung_that_no_trial_reached_is_left_out(words) -> None:
    said = words(rung_survival_figure([record(0, 2, 1, diverged=1), record(1, 1, 0, stopped=1), record(3, 0, 0)]))
    assert "epoch 3" not in said


@pytest.mark.parametrize("factor", [1, 12])
def test_no_text_lies_on_another(overlaps, factor: int) -> None:
    grown = [{key: value * (1 if key == "rung" else factor) for key, value in one.items()} for one in ASHA]
    assert overlaps(rung_survival_figure(grown)) == []


def test_many_rungs_and_small_pieces_are_told_apart(overlaps) -> None:
    reached = [500, 495, 300, 200, 120, 60, 20, 8]
    rungs = [0, 1, 2, 4, 8, 16, 32, 64]
    records = [
        record(rung, now, after, now - after - 3, 1, 1, 1)
        for rung, now, after in zip(rungs, reached, [*reached[1:], 0], strict=True)
    ]
    assert overlaps(rung_survival_figure(records)) == []


@pytest.mark.parametrize("records", [[], [record(0, 0, 0), record(1, 0, 0)]])
def test_without_a_trial_it_says_so(records: list, words) -> None:
    assert "no trial has run" in words(rung_survival_figure(records))


def test_a_single_trial_is_drawn(words) -> None:
    said = words(rung_survival_figure([record(0, 1, 1), record(1, 1, 0, completed=1)]))
    assert "Of 1 trial, 1 ran to the end, 0 were stopped early" in said
