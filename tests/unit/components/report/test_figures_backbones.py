"""The figure of the probe: a row for each backbone, its interval, and what became of it."""

from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from components.report.figures_backbones import backbones_figure
from components.report.html import figure_png


def record(name: str, score: float, *, kept: bool = True, **changes: Any) -> dict[str, Any]:
    values = {"low": score - 0.05, "high": score + 0.05, "images_per_second": 48.4, "reason": f"reason of {name}"}
    return {"backbone": name, "score": score, "kept": kept, **values, **changes}


def words(figure: Figure) -> set[str]:
    figure_png(figure)  # lays it out and draws it, which must not fail
    return {text.get_text() for text in figure.findobj(Text)}


def test_each_backbone_has_a_row_with_its_score_and_the_reason() -> None:
    figure = backbones_figure(
        [record("vit", 0.91), record("resnet18", 0.8, kept=False)], metric_name="average_precision"
    )
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == ["vit", "resnet18"]
    shown = words(figure)
    assert {"0.910", "0.800", "reason of vit\n48 images/s", "validation average precision"} <= shown
    assert {"kept", "dropped", "95 % interval", "where the best's interval begins"} <= shown
    top, bottom = figure.axes[0].transData.transform([(0.8, 0), (0.8, 1)])
    assert top[1] > bottom[1]


def test_the_interval_of_the_best_is_drawn_as_a_bound_where_there_is_one() -> None:
    bounded = backbones_figure([record("vit", 0.9), record("b", 0.8)], metric_name="auroc")
    assert any(list(line.get_xdata()) == [pytest.approx(0.85)] * 2 for line in bounded.axes[0].lines)
    perfect = record("vit", 1.0, low=None, high=None)
    for records in ([perfect, record("b", 0.8)], [record("vit", 0.9)]):
        assert "where the best's interval begins" not in words(backbones_figure(records, metric_name="auroc"))


def test_a_long_reason_is_broken_into_lines() -> None:
    long = record("vit", 0.9, reason="the configured one; its interval ends at 0.850, below the best's")
    text = next(word for word in words(backbones_figure([long], metric_name="auroc")) if "configured" in word)
    assert max(map(len, text.splitlines())) <= 38
