"""Steps gathered into windows: their statistics, the recent ones, what is kept and what is dropped."""

import math

import pytest

from components.optim.monitor.monitor import Signals
from components.optim.monitor.windows import BASELINE_WINDOWS, FEWEST, MOST, WindowHistory, mean_known


def signals(step: int, *, every: int = 2, **changes) -> Signals:
    """Loss = step, norm = 2 · step; the probe is measured every two steps and gives 10 · step."""
    values = {
        "step": step,
        "loss": float(step),
        "grad_norm": 2.0 * step,
        "cosine": math.nan if step == 1 else 0.5,
        "update_ratio": math.nan,
        "probe_loss": 10.0 * step if step % every == 0 else math.nan,
        "lr": 0.1,
        "in_grace_period": False,
    }
    return Signals(**(values | changes))


def test_a_window_has_the_means_of_its_steps_and_the_distance_so_far() -> None:
    history = WindowHistory(total_steps=100, start=0)
    assert history.update(signals(1, lr=0.2)) is None
    window = history.update(signals(2, update_ratio=0.01))
    assert window is not None
    assert (window.step, window.loss, window.grad_norm, window.cosine) == (2, 1.5, 3.0, 0.5)
    assert (window.probe_loss, window.update_ratio, window.in_grace_period) == (20.0, 0.01, False)
    assert window.distance == pytest.approx(0.3)
    assert (window.lr, window.highest_lr) == (0.1, 0.2)


def test_in_a_long_training_a_window_holds_several_measurements() -> None:
    history = WindowHistory(total_steps=600, start=0)  # a hundredth is 6 steps
    found = [history.update(signals(step)) for step in range(1, 13)]
    assert [window.step for window in found if window] == [6, 12]
    assert [window.probe_loss for window in found if window] == [40.0, 100.0]


def test_fewer_than_ten_windows_are_not_judged() -> None:
    history = WindowHistory(total_steps=100, start=0)
    for step in range(1, 2 * FEWEST):
        history.update(signals(step))
    assert history.recent() == []
    history.update(signals(2 * FEWEST))
    assert [window.step for window in history.recent()] == list(range(2, 2 * FEWEST + 1, 2))


def test_recent_windows_begin_after_the_last_grace_period() -> None:
    history = WindowHistory(total_steps=100, start=0)
    for step in range(1, 31):
        history.update(signals(step, in_grace_period=step in (9, 10)))
    assert [window.step for window in history.recent()] == list(range(12, 31, 2))
    history.update(signals(31))
    history.update(signals(32, in_grace_period=True))
    assert history.recent() == []


def test_only_the_latest_windows_are_kept_with_the_first_and_the_largest_update() -> None:
    history = WindowHistory(total_steps=100, start=0)
    for step in range(1, 201):
        history.update(signals(step, in_grace_period=step < 3, update_ratio=0.3 if step == 20 else 0.001))
    assert len(history.state_dict()["_windows"]) == MOST
    assert history.first is not None
    assert (history.first.step, history.largest_update) == (4, 0.3)


def test_norms_of_the_first_steps_and_of_the_first_windows_after_a_grace_period_are_kept_as_medians() -> None:
    history = WindowHistory(total_steps=100, start=0)
    assert math.isnan(history.first_norm)
    for step in range(1, 31):
        history.update(signals(step, in_grace_period=step < 3))
        assert math.isnan(history.baseline_norm) == (step < 2 + 2 * BASELINE_WINDOWS)
    assert history.first_norm == 11.0  # of 2, 4, … 20
    assert history.baseline_norm == 15.0  # of the windows 3–4, 5–6, … 11–12: 7, 11, 15, 19, 23


def test_a_restored_one_continues_in_the_middle_of_a_window() -> None:
    straight, saved = WindowHistory(total_steps=100, start=0), WindowHistory(total_steps=100, start=0)
    for step in range(1, 42):
        straight.update(signals(step))
        saved.update(signals(step))
    restored = WindowHistory(total_steps=100, start=0)
    restored.load_state_dict(saved.state_dict())
    assert restored.update(signals(42)) == straight.update(signals(42))
    assert restored.recent() == straight.recent()
    assert (restored.first, restored.first_norm, restored.baseline_norm) == (
        straight.first,
        straight.first_norm,
        straight.baseline_norm,
    )


def test_a_mean_leaves_out_what_is_unknown() -> None:
    assert mean_known([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(mean_known([math.nan]))
    assert mean_known([1.0, math.inf]) == math.inf
