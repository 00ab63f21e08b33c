"""Rungs are judged on trials that nothing could stop, and every trial is accounted for at each rung."""

import pandas as pd
import pytest

from components.search.analysis import agreement_warning, pareto_front, rung_agreement, survival


def scores(**by_trial: dict[int, float]) -> pd.DataFrame:
    """trial0={epoch: score}, …"""
    return pd.DataFrame(
        [
            {"trial": int(name.removeprefix("trial")), "epoch": epoch, "score": score, "seconds": 1.0}
            for name, one in by_trial.items()
            for epoch, score in one.items()
        ],
        columns=["trial", "epoch", "score", "seconds"],
    )


SWAPPED = scores(
    trial0={1: 0.1, 3: 0.2, 9: 0.5},
    trial1={1: 0.2, 3: 0.3, 9: 0.6},
    trial2={1: 0.3, 3: 0.5, 9: 0.8},
    trial3={1: 0.4, 3: 0.4, 9: 0.7},
)


def test_rho_is_that_of_the_ranks() -> None:
    first, second = rung_agreement(SWAPPED, [1, 3], 9, unstopped={0, 1, 2, 3})
    # At epoch 1 two neighbours have changed places: 1 − 6 · 2 / (4 · 15).
    assert (first["rung"], first["count"], first["rho"]) == (1, 4, pytest.approx(0.8))
    assert (second["rung"], second["count"], second["rho"]) == (3, 4, pytest.approx(1.0))


def test_survivors_of_early_stopping_are_not_counted() -> None:
    against = scores(trial4={1: 0.9, 9: 0.1}, trial5={1: 0.0, 9: 0.9})
    (first,) = rung_agreement(pd.concat([SWAPPED, against]), [1], 9, unstopped={0, 1, 2, 3})
    assert (first["count"], first["rho"]) == (4, pytest.approx(0.8))


def test_trials_without_a_final_score_are_not_counted() -> None:
    more = scores(trial4={1: 0.9}, trial5={1: 0.9, 9: float("nan")})
    (first,) = rung_agreement(pd.concat([SWAPPED, more]), [1], 9, unstopped=range(6))
    assert first["count"] == 4


def test_three_trials_are_too_few_to_say_anything() -> None:
    (first,) = rung_agreement(SWAPPED, [1], 9, unstopped={0, 1, 2})
    assert first == {"rung": 1, "count": 3, "rho": None, "low": False}


def test_scores_that_are_all_the_same_have_no_ranks() -> None:
    flat = SWAPPED.assign(score=lambda table: table["score"].where(table["epoch"] != 1, 0.5))
    (first,) = rung_agreement(flat, [1], 9, unstopped=range(4))
    assert (first["count"], first["rho"]) == (4, None)


def test_the_last_epoch_is_no_rung_and_nothing_gives_nothing() -> None:
    assert [one["rung"] for one in rung_agreement(SWAPPED, [9, 3, 1, 3], 9, unstopped=range(4))] == [1, 3]
    assert rung_agreement(scores(), [1], 9, unstopped=()) == [{"rung": 1, "count": 0, "rho": None, "low": False}]


def agreements(**rho: float | None) -> list[dict]:
    return [
        {"rung": int(name.removeprefix("epoch")), "count": 7, "rho": value, "low": value is not None and value < 0.6}
        for name, value in rho.items()
    ]


def test_a_low_rho_is_said_with_the_first_rung_that_can_be_trusted() -> None:
    warning = agreement_warning(agreements(epoch1=0.31, epoch3=0.5, epoch9=0.7, epoch27=0.9))
    assert warning is not None
    assert "after epoch 1" in warning
    assert "0.31 over 7 trials" in warning
    assert "raise search.grace_epochs to 9, or set search.scheduler to none" in warning


def test_where_no_rung_can_be_trusted_none_is_proposed() -> None:
    warning = agreement_warning(agreements(epoch1=0.9, epoch3=-0.2))
    assert warning is not None
    assert "raise search.grace_epochs, or set search.scheduler to none" in warning


@pytest.mark.parametrize("rho", [{"epoch1": 0.6, "epoch3": 0.9}, {"epoch1": None}, {}])
def test_there_is_no_warning_at_the_limit_nor_where_nothing_is_known(rho: dict) -> None:
    assert agreement_warning(agreements(**rho)) is None


def trials(*ends: tuple[str, int]) -> pd.DataFrame:
    return pd.DataFrame(ends, columns=["status", "epochs"])


def test_every_trial_is_accounted_for_at_each_rung() -> None:
    table = trials(
        ("completed", 9), ("completed", 9), ("stopped", 1), ("stopped", 1), ("stopped", 3),
        ("diverged", 0), ("diverged", 2), ("failed", 5), ("stopped", 9),
    )  # fmt: skip
    found = [list(one.values()) for one in survival(table, [9, 1, 3])]
    # rung, reached, continued, stopped, diverged, failed, completed
    assert found == [
        [0, 9, 8, 0, 1, 0, 0],
        [1, 8, 5, 2, 1, 0, 0],
        [3, 5, 3, 1, 0, 1, 0],
        [9, 3, 0, 1, 0, 0, 2],
    ]


def test_without_a_trial_nothing_is_reached() -> None:
    assert [one["reached"] for one in survival(trials(), [1, 3])] == [0, 0, 0]


# --- the Pareto front


def timed(*rows: tuple[float | None, float | None], status: str = "completed") -> pd.DataFrame:
    """score, latency_ms"""
    table = pd.DataFrame(rows, columns=["score", "latency_ms"], dtype=float)
    return table.assign(trial=range(len(table)), status=status, epochs=9)


@pytest.mark.parametrize(
    ("rows", "front"),
    [
        ([(0.9, 5.0), (0.8, 2.0), (0.85, 5.0), (0.7, 3.0)], [1, 0]),  # 2 and 3 are beaten by 0 and 1
        ([(0.9, 5.0), (0.9, 4.0)], [1]),  # as good and faster
        ([(0.9, 5.0), (0.8, 5.0)], [0]),  # as fast and better
        ([(0.9, 5.0), (0.9, 5.0)], [0, 1]),  # neither beats the other
        ([(0.7, 1.0), (0.8, 2.0), (0.9, 3.0)], [0, 1, 2]),
        ([(None, 1.0), (0.5, None), (0.4, 2.0)], [2]),
        ([], []),
    ],
)
def test_the_front_is_what_nothing_beats_fastest_first(rows: list, front: list[int]) -> None:
    assert pareto_front(timed(*rows)) == front


def test_a_stopped_trial_is_not_compared_with_completed_ones() -> None:
    table = pd.concat([timed((0.99, 1.0), status="stopped"), timed((0.9, 2.0)).assign(trial=7)])
    assert pareto_front(table) == [7]


def test_without_latencies_there_is_no_front() -> None:
    assert pareto_front(timed((0.9, 1.0)).drop(columns="latency_ms")) == []


def test_a_trial_that_was_planned_shorter_is_left_out() -> None:
    assert pareto_front(timed((0.9, 5.0), (0.99, 1.0)).assign(epochs=[9, 3])) == [0]
