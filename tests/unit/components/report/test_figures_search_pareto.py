"""Quality and latency: the front is a stair, its trials are named, the beaten ones are grey."""

import numpy as np
import pandas as pd
import pytest

from components.report.figures_search_pareto import pareto_figure
from components.search.pareto import pareto_front


def drawn(trials: pd.DataFrame, front: list[int] | None = None):
    return pareto_figure(trials, pareto_front(trials) if front is None else front, metric_name="AUROC")


def trials() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "trial": [0, 1, 2, 3, 4],
            "status": ["completed", "completed", "completed", "completed", "stopped"],
            "epochs": [9, 9, 9, 9, 3],
            "score": [0.8, 0.9, 0.7, 0.95, 0.99],
            "latency_ms": [2.0, 4.0, 3.0, 8.0, 1.0],
            "backbone": ["a", "b", "a", "b", "a"],
        }
    )


def test_the_front_is_a_stair_through_its_trials_from_fast_to_good() -> None:
    (line,) = drawn(trials()).axes[0].lines
    assert list(zip(line.get_xdata(), line.get_ydata(), strict=True)) == [(2, 0.8), (4, 0.9), (8, 0.95)]


def test_the_trials_of_the_front_are_named_with_their_backbone_where_there_are_several(words) -> None:
    said = words(drawn(trials()))
    assert {"0: a", "1: b", "3: b"} <= said
    assert any(text.startswith("4 completed trials; 3 on the Pareto front") for text in said)
    assert "trial 3" in words(drawn(trials().assign(backbone="a")))


def test_a_stopped_trial_is_not_drawn() -> None:
    points = sum(len(one.get_offsets()) for one in drawn(trials()).axes[0].collections)
    assert points == 4


def test_latencies_far_apart_are_on_a_logarithmic_axis() -> None:
    assert drawn(trials()).axes[0].get_xscale() == "linear"
    assert drawn(trials().assign(latency_ms=[1.0, 10.0, 3.0, 50.0, 1.0])).axes[0].get_xscale() == "log"


@pytest.mark.parametrize("count", [1, 2, 6, 40, 500])
def test_no_text_lies_on_another(search_trials, overlaps, count: int) -> None:
    table = search_trials(count, backbones=("tf_efficientnet_lite0", "resnet18", "mobilenetv3_small_100"))
    assert overlaps(drawn(table)) == []


def test_names_on_a_dense_front_are_thinned_and_the_best_is_kept(overlaps, words) -> None:
    steps = np.arange(60)
    table = pd.DataFrame(
        {
            "trial": steps,
            "status": "completed",
            "epochs": 9,
            "score": 0.9 + 1e-3 * steps,
            "latency_ms": 4 + 0.01 * steps,
        }
    )
    figure = drawn(table)
    assert overlaps(figure) == []
    assert "trial 59" in words(figure)


@pytest.mark.parametrize("change", [{"score": np.nan}, {"latency_ms": np.nan}, {"status": "stopped"}])
def test_nothing_to_compare_is_said(words, change: dict) -> None:
    assert "no completed trial has both a score and a latency" in words(drawn(trials().assign(**change)))


def test_without_latencies_it_says_so(words) -> None:
    table = trials().drop(columns="latency_ms")
    assert "no completed trial has both a score and a latency" in words(drawn(table))
    assert "no completed trial has both a score and a latency" in words(drawn(table.iloc[:0]))
