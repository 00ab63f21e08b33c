"""The figures of the range test: each says what was found, and what was not."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from components.report.figures_lr import range_test_figure
from components.report.html import figure_png


def record(**changes: Any) -> dict[str, Any]:
    return {
        "optimizer": "adamw", "lower": 1e-4, "suggested": 1e-3, "upper": 1e-2, "band": [8e-4, 1.3e-3],
        "abstained": False, "reason": "", "valley": 3e-3, "lr_div": 2e-1,
        "fit": {"lr": [1e-4, 1e-2], "loss": [0.7, 0.2]},
        **changes,
    }  # fmt: skip


ABSTAINED = {"abstained": True, "reason": "the loss never fell", "fit": {"lr": [], "loss": []}, "lr_div": None}


def curves(heldout: bool = True) -> pd.DataFrame:
    rates = np.logspace(-6, 0, 61)
    table = pd.DataFrame({"step": range(61), "lr": rates, "loss": 0.7 - 0.5 / (1 + 1e-3 / rates) + 3 * rates})
    table["heldout_loss"] = np.where(heldout & (table["step"] % 6 == 0), table["loss"], np.nan)
    return pd.concat([table.assign(seed=seed) for seed in range(3)], ignore_index=True)


def words(figure: Figure) -> set[str]:
    figure_png(figure)  # lays it out and draws it, which must not fail
    return {text.get_text() for text in figure.findobj(Text)}


def test_a_range_test_shows_every_rate_that_it_found() -> None:
    shown = words(range_test_figure(curves(), record(), "Range test: adamw"))
    assert {"lower 1e-4", "suggested 1e-3", "upper 0.01", "valley 3e-3", "diverges 0.2"} <= shown
    assert {"one seed", "median of 3 seeds", "decreasing fit", "held-out images", "band of the suggestion"} <= shown


def test_what_was_not_found_is_not_in_the_key() -> None:
    shown = words(range_test_figure(curves(heldout=False), record(**ABSTAINED, valley=None), "Range test"))
    assert not {"decreasing fit", "held-out images", "band of the suggestion", "search range"} & shown
    assert not any(word.startswith(("diverges", "valley")) for word in shown)
    assert {"default range", "default 1e-3", "No verdict: the loss never fell"} <= shown


@pytest.mark.parametrize("place", [1.05e-3, 1e-3, 1e-2])
def test_names_of_lines_that_lie_close_stand_on_rows_of_their_own(place: float) -> None:
    figure = range_test_figure(curves(), record(valley=place, lr_div=None), "Range test")
    boxes = sorted(
        text.get_window_extent().extents.tolist()
        for text in drawn(figure).findobj(Text)
        if text.get_text().startswith(("lower", "suggested", "upper", "valley"))
    )
    assert len(boxes) == 4
    assert not any(overlap(one, other) for i, one in enumerate(boxes) for other in boxes[i + 1 :])


def drawn(figure: Figure) -> Figure:
    figure.canvas.draw()
    return figure


def overlap(one: list[float], other: list[float]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] - 1 and other[1] < one[3] - 1
