"""Steps gathered into looks: their means, the window, what is remembered and what is forgotten."""

import math

import pytest

from components.optim.monitor.monitor import Signals
from components.optim.monitor.windows import BASELINE_LOOKS, FEWEST, MOST, Looks, mean_known


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
        "resting": False,
    }
    return Signals(**(values | changes))


def test_a_look_has_the_means_of_its_steps_and_the_way_gone_so_far() -> None:
    looks = Looks(total_steps=100, start=0)
    assert looks.update(signals(1, lr=0.2)) is None
    look = looks.update(signals(2, update_ratio=0.01))
    assert look is not None
    assert (look.step, look.loss, look.grad_norm, look.cosine) == (2, 1.5, 3.0, 0.5)
    assert (look.probe_loss, look.update_ratio, look.resting) == (20.0, 0.01, False)
    assert look.distance == pytest.approx(0.3)
    assert (look.lr, look.highest_lr) == (0.1, 0.2)


def test_in_a_long_training_several_measurements_make_one_look() -> None:
    looks = Looks(total_steps=600, start=0)  # a hundredth is 6 steps
    found = [looks.update(signals(step)) for step in range(1, 13)]
    assert [look.step for look in found if look] == [6, 12]
    assert [look.probe_loss for look in found if look] == [40.0, 100.0]


def test_there_is_no_window_of_fewer_than_ten_looks() -> None:
    looks = Looks(total_steps=100, start=0)
    for step in range(1, 2 * FEWEST):
        looks.update(signals(step))
    assert looks.window() == []
    looks.update(signals(2 * FEWEST))
    assert [look.step for look in looks.window()] == list(range(2, 2 * FEWEST + 1, 2))


def test_a_window_begins_after_the_last_rest() -> None:
    looks = Looks(total_steps=100, start=0)
    for step in range(1, 31):
        looks.update(signals(step, resting=step in (9, 10)))
    assert [look.step for look in looks.window()] == list(range(12, 31, 2))
    looks.update(signals(31))
    looks.update(signals(32, resting=True))
    assert looks.window() == []


def test_only_the_latest_looks_are_kept_with_the_first_and_the_largest_update() -> None:
    looks = Looks(total_steps=100, start=0)
    for step in range(1, 201):
        looks.update(signals(step, resting=step < 3, update_ratio=0.3 if step == 20 else 0.001))
    assert len(looks.state_dict()["looks"]) == MOST
    assert looks.first is not None
    assert (looks.first.step, looks.largest_update) == (4, 0.3)


def test_norms_of_the_first_steps_and_of_the_first_looks_after_rest_are_kept_as_medians() -> None:
    looks = Looks(total_steps=100, start=0)
    assert math.isnan(looks.first_norm)
    for step in range(1, 31):
        looks.update(signals(step, resting=step < 3))
        assert math.isnan(looks.baseline_norm) == (step < 2 + 2 * BASELINE_LOOKS)
    assert looks.first_norm == 11.0  # of 2, 4, … 20
    assert looks.baseline_norm == 15.0  # of the looks 3–4, 5–6, … 11–12: 7, 11, 15, 19, 23


def test_a_restored_one_goes_on_in_the_middle_of_a_look() -> None:
    straight, saved = Looks(total_steps=100, start=0), Looks(total_steps=100, start=0)
    for step in range(1, 42):
        straight.update(signals(step))
        saved.update(signals(step))
    restored = Looks(total_steps=100, start=0)
    restored.load_state_dict(saved.state_dict())
    assert restored.update(signals(42)) == straight.update(signals(42))
    assert restored.window() == straight.window()
    assert (restored.first, restored.first_norm, restored.baseline_norm) == (
        straight.first,
        straight.first_norm,
        straight.baseline_norm,
    )


def test_a_mean_leaves_out_what_is_unknown() -> None:
    assert mean_known([1.0, math.nan, 3.0]) == 2.0
    assert math.isnan(mean_known([math.nan]))
    assert mean_known([1.0, math.inf]) == math.inf
