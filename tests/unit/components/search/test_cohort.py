"""The first trials are halved together: who goes on, and when that is known."""

import pytest

from components.search.cohort import Cohort
from components.search.rungs import Rungs, build_rule
from components.search.trial import Suggestion, TrialRecord


def arrived(scores: list[float], *, size: int | None = None) -> Cohort:
    cohort = Cohort(size or len(scores), rung=3, factor=3)
    for number, score in enumerate(scores):
        cohort.arrive(number, score)
    return cohort


def test_nothing_is_decided_before_all_have_come() -> None:
    cohort = arrived([0.5, 0.6], size=3)
    assert [cohort.verdict(number) for number in range(3)] == [None, None, None]
    cohort.arrive(2, 0.4)
    assert [cohort.verdict(number) for number in range(3)] == [False, True, False]


@pytest.mark.parametrize(("size", "kept"), [(2, 1), (3, 1), (5, 1), (6, 2), (7, 2), (9, 3)])
def test_one_in_three_goes_on_and_one_at_least(size: int, kept: int) -> None:
    cohort = arrived([0.1 * number for number in range(size)])
    assert [number for number in range(size) if cohort.verdict(number)] == list(range(size - kept, size))


def test_of_equals_the_earlier_one_goes_on_and_the_first_score_counts() -> None:
    cohort = arrived([0.5, 0.5, 0.5])
    cohort.arrive(2, 0.9)
    assert [cohort.verdict(number) for number in range(3)] == [True, False, False]


# --- within the rule


def record(number: int, epoch: int, *, unstopped: bool = False) -> TrialRecord:
    scores = dict.fromkeys(range(1, epoch + 1), 0.5)
    return TrialRecord(
        number=number, suggestion=Suggestion(point={}, overrides={}, epochs=9), unstopped=unstopped, scores=scores
    )


def rule_of(together: int):
    rule = build_rule("asha", Rungs(grace=3, factor=3, last=9), seed=0, together=together)
    assert rule is not None
    return rule


def test_the_first_trials_stop_at_the_rung_until_the_last_of_them_has_come() -> None:
    rule = rule_of(3)
    assert rule.continues(0, 3, 0.5, unstopped=True)
    assert rule.continues(1, 2, 0.9, unstopped=False)  # before the rung nobody waits
    assert not rule.continues(1, 3, 0.9, unstopped=False)
    assert rule.verdict(record(1, 3)) is None
    assert not rule.continues(2, 3, 0.8, unstopped=False)
    assert [rule.verdict(record(number, 3)) for number in (1, 2)] == [True, False]
    assert rule.continues(1, 4, 0.9, unstopped=False)
    assert rule.verdict(record(0, 3, unstopped=True)) is True


def test_the_last_one_to_come_does_not_wait() -> None:
    rule = rule_of(3)
    rule.continues(0, 3, 0.5, unstopped=True)
    rule.continues(1, 3, 0.6, unstopped=False)
    assert rule.continues(2, 3, 0.7, unstopped=False)
    assert rule.verdict(record(1, 3)) is False


def test_one_that_diverges_before_the_rung_is_waited_for_no_longer() -> None:
    rule = rule_of(3)
    rule.continues(0, 3, 0.5, unstopped=True)
    rule.continues(1, 3, 0.6, unstopped=False)
    rule.continues(2, 1, 0.7, unstopped=False)
    rule.ended(2, 2, 0.0)
    assert rule.verdict(record(1, 3)) is True


def test_later_trials_are_judged_by_asha_with_the_scores_of_the_first() -> None:
    rule = rule_of(3)
    for number, score in enumerate((0.5, 0.6, 0.7)):
        rule.continues(number, 3, score, unstopped=number == 0)
    # Two thirds of the way between .5 and .7: .633.
    assert not rule.continues(3, 3, 0.63, unstopped=False)
    assert rule.verdict(record(3, 3)) is False
    assert rule.continues(4, 3, 0.65, unstopped=False)


def test_an_interrupted_search_knows_who_waited() -> None:
    rule = rule_of(3)
    first = [record(0, 9, unstopped=True), record(1, 3), record(2, 2)]
    first[0].status = "completed"
    first[1].checkpoint_epoch = 3
    rule.replay(first)
    assert rule.verdict(first[1]) is None
    rule.continues(2, 3, 0.4, unstopped=False)
    assert rule.verdict(first[1]) is False  # level with the defaults, which came earlier


def test_with_one_rung_nobody_waits() -> None:
    rule = build_rule("asha", Rungs(grace=3, factor=3, last=3), seed=0, together=3)
    assert rule is not None
    assert rule.continues(1, 3, 0.1, unstopped=False) or rule.verdict(record(1, 3)) is False
