"""The figure of the frozen backbones."""

import pytest

from components.report.figures_embedding import candidates_figure


def candidate(backbone: str, size: int, score: float, ms: float, *, known: bool = True) -> dict:
    low, high = (score - 0.05, score + 0.05) if known else (None, None)
    return {"backbone": backbone, "image_size": size, "score": score, "low": low, "high": high, "serve_ms": ms}


def test_every_candidate_has_its_place_and_its_size(words) -> None:
    candidates = [candidate("a", 128, 0.9, 8.0), candidate("a", 224, 0.92, 20.0), candidate("b", 128, 0.8, 3.0)]
    figure = candidates_figure(candidates, metric_name="auroc")
    (axes,) = figure.axes
    assert {line.get_label() for line in axes.get_legend().legend_handles} == {"a", "b"}
    assert {"128 px", "224 px", "auroc"} <= set(words(figure))
    assert axes.get_xscale() == "log"  # from 3 to 20


@pytest.mark.parametrize("known", [True, False])
def test_one_candidate_is_drawn_with_and_without_an_interval(known: bool) -> None:
    figure = candidates_figure([candidate("a", 128, 0.9, 8.0, known=known)], metric_name="auroc")
    assert len(figure.axes[0].lines) == 1 + known
