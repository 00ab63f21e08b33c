"""Early stopping: who goes on at which rung, by hand arithmetic, and that a search that goes on decides the same."""

import numpy as np
import pytest

from components.search.rungs import WORST_SCORE, Rungs, StoppingRule, build_rule
from components.search.trial import Suggestion, TrialRecord

RUNGS = Rungs(grace=1, factor=3, last=9)


def asha(rungs: Rungs = RUNGS) -> StoppingRule:
    rule = build_rule("asha", rungs, seed=0)
    assert rule is not None
    return rule


def median(grace: int = 1) -> StoppingRule:
    rule = build_rule("median", Rungs(grace=grace, factor=3, last=9), seed=0)
    assert rule is not None
    return rule


def told(rule: StoppingRule, epoch: int, scores: dict[int, float]) -> list[int]:
    """Tell the rule of one epoch of several trials; those that it lets go on."""
    return [number for number, score in scores.items() if rule.continues(number, epoch, score, unstopped=False)]


def record(
    number: int, scores: list[float], status: str = "stopped", *, unstopped: bool = False, **fields
) -> TrialRecord:
    return TrialRecord(
        number=number,
        suggestion=Suggestion(point={}, overrides={}, epochs=9),
        unstopped=unstopped,
        status=status,
        scores=dict(enumerate(scores, start=1)),
        **fields,
    )


# --- the rungs


@pytest.mark.parametrize(
    ("rungs", "epochs"),
    [
        (RUNGS, (1, 3, 9)),
        (Rungs(grace=1, factor=3, last=10), (1, 3, 9, 10)),
        (Rungs(grace=2, factor=2, last=9), (2, 4, 8, 9)),
        (Rungs(grace=3, factor=4, last=3), (3,)),
        (Rungs(grace=1, factor=3, last=243), (1, 3, 9, 27, 81, 243)),  # log₃ 243 is 4.999… to a computer
    ],
)
def test_rungs_are_powers_of_the_factor_and_the_last_epoch(rungs: Rungs, epochs: tuple[int, ...]) -> None:
    assert rungs.epochs == epochs


# --- ASHA


def test_at_a_rung_those_below_two_thirds_of_the_earlier_ones_are_stopped() -> None:
    """The cutoff is the 66.7th percentile of what came before: 0.5, then 0.7, then 0.8 · ⅔ + …"""
    rule = asha()
    # nothing to compare with; above 0.5; below 0.5 + ⅔ (0.8 − 0.5) = 0.7; above the third of {0.1, 0.5, 0.8}: 0.6
    assert told(rule, 1, {0: 0.5, 1: 0.8, 2: 0.1, 3: 0.65}) == [0, 1, 3]
    # of {0.1, 0.5, 0.65, 0.8} the cutoff is the third: 0.65, which is enough
    assert told(rule, 1, {4: 0.64999, 5: 0.65}) == [5]


def test_between_rungs_nobody_is_stopped() -> None:
    rule = asha()
    told(rule, 1, {0: 0.9, 1: 0.95})
    assert told(rule, 2, {0: 0.9, 1: 0.1}) == [0, 1]
    assert told(rule, 3, {0: 0.9, 1: 0.1}) == [0]


def test_each_rung_has_its_own_comparison() -> None:
    rule = asha()
    told(rule, 1, {0: 0.2, 1: 0.9, 2: 0.95})
    assert told(rule, 3, {0: 0.3}) == [0]  # the first to come that far, whatever the others had at rung 1
    assert told(rule, 3, {1: 0.29, 2: 0.31}) == [2]


def test_an_unstopped_trial_counts_for_the_others_and_goes_on() -> None:
    rule = asha()
    told(rule, 1, {0: 0.5})
    assert rule.continues(1, 1, 0.1, unstopped=True)
    assert rule.continues(1, 3, 0.1, unstopped=True)
    # with 0.1 in it the cutoff is 0.1 + ⅔ (0.5 − 0.1) = 0.367, without it 0.5
    assert told(rule, 1, {2: 0.4}) == [2]


def test_a_diverged_trial_is_held_against_the_worst_score_at_the_rung_that_it_did_not_reach() -> None:
    rule = asha()
    told(rule, 1, {0: 0.5, 1: 0.5, 2: 0.5})
    told(rule, 2, {1: 0.5, 2: 0.5})
    told(rule, 3, {0: 0.6})
    rule.ended(1, 3, WORST_SCORE)
    rule.ended(2, 3, WORST_SCORE)
    # Of {0, 0, 0.6} the cutoff is 0.2; without those two it would be 0.6.
    assert told(rule, 1, {3: 0.9}) == [3]
    assert told(rule, 3, {3: 0.25}) == [3]


@pytest.mark.parametrize("live", [True, False], ids=["as it happens", "after an interruption"])
def test_a_trial_that_diverges_at_once_counts_at_the_first_rung(live: bool) -> None:
    rule = asha()
    told(rule, 1, {0: 0.6})
    if live:
        rule.ended(1, 1, WORST_SCORE)
        rule.ended(2, 1, WORST_SCORE)
    else:
        rule.replay([record(1, [], "diverged"), record(2, [], "failed")])
    assert told(rule, 1, {3: 0.25, 4: 0.1}) == [3]


def test_the_numpy_generator_of_everybody_decides_nothing() -> None:
    def decisions(seed: int) -> list[int]:
        np.random.seed(seed)  # noqa: NPY002 - it is what must not matter
        rule = build_rule("hyperband", Rungs(grace=1, factor=3, last=27), seed=5)
        assert rule is not None
        scores = np.random.default_rng(0).random(60)
        return told(rule, 1, dict(enumerate(scores))) + told(rule, 3, dict(enumerate(scores)))

    state = np.random.get_state()  # noqa: NPY002
    try:
        assert decisions(0) == decisions(1)
    finally:
        np.random.set_state(state)  # noqa: NPY002


# --- Hyperband


def members_of(rule: StoppingRule, count: int) -> list[int]:
    """Which bracket each trial is in."""
    return [rule._members.index(rule._member(number)) for number in range(count)]


def test_hyperband_has_a_bracket_for_each_rung_but_the_last() -> None:
    rule = build_rule("hyperband", Rungs(grace=1, factor=3, last=27), seed=0)
    assert rule is not None
    firsts = [member._brackets[0]._rungs[-1][0] for member in rule._members]
    assert firsts == [1, 3, 9]
    # 3² / 3 : 3¹ / 2 : 3⁰ / 1 = 3 : 1.5 : 1
    assert rule._shares.tolist() == pytest.approx([3 / 5.5, 1.5 / 5.5, 1 / 5.5])
    shares = np.bincount(members_of(rule, 2000)) / 2000
    assert shares == pytest.approx(rule._shares, abs=0.03)


def test_a_trial_stays_in_its_bracket_and_the_seed_draws_it() -> None:
    def members(seed: int) -> list[int]:
        rule = build_rule("hyperband", RUNGS, seed=seed)
        assert rule is not None
        return members_of(rule, 30)

    assert members(0) == members(0)
    assert members(0) != members(1)


def test_a_bracket_with_a_later_first_rung_stops_nobody_before_it() -> None:
    rule = build_rule("hyperband", RUNGS, seed=0)
    assert rule is not None
    late = [number for number, member in enumerate(members_of(rule, 40)) if member == 1][:4]
    falling = {number: 0.9 - 0.1 * place for place, number in enumerate(late)}
    assert told(rule, 1, falling) == late
    assert told(rule, 2, falling) == late
    assert told(rule, 3, falling) == late[:1]


def test_with_one_rung_hyperband_stops_nobody() -> None:
    rule = build_rule("hyperband", Rungs(grace=3, factor=3, last=3), seed=0)
    assert rule is not None
    assert told(rule, 1, {0: 0.9, 1: 0.1}) == told(rule, 2, {0: 0.9, 1: 0.1}) == [0, 1]


# --- the median rule


def test_below_the_median_of_the_running_means_of_three_others_a_trial_is_stopped() -> None:
    rule = median()
    for epoch, scores in enumerate([{0: 0.2, 1: 0.4, 2: 0.6}, {0: 0.4, 1: 0.6, 2: 0.8}], start=1):
        assert told(rule, epoch, scores) == [0, 1, 2]  # each has two others, which say nothing yet
    assert told(rule, 1, {3: 0.39, 4: 0.4}) == [4]  # the median after epoch 1 is 0.4; of four, 0.395
    # after epoch 2 the means are 0.3, 0.5 and 0.7, and a trial's own best score is held against them
    assert told(rule, 2, {4: 0.1}) == []
    assert told(rule, 1, {5: 0.55}) == [5]
    assert told(rule, 2, {5: 0.1}) == [5]


def test_the_median_rule_says_nothing_in_the_grace_epochs() -> None:
    rule = median(grace=2)
    assert told(rule, 1, {0: 0.9, 1: 0.9, 2: 0.9, 3: 0.1}) == [0, 1, 2, 3]
    assert told(rule, 2, {0: 0.9, 1: 0.9, 2: 0.9, 3: 0.1}) == [0, 1, 2]


def test_an_unstopped_trial_goes_on_under_the_median_rule_and_counts() -> None:
    rule = median()
    told(rule, 1, {0: 0.5, 1: 0.5})
    for epoch in (1, 2, 3):
        assert rule.continues(2, epoch, 0.1, unstopped=True)
    assert told(rule, 1, {3: 0.2, 4: 0.6}) == [4]  # against {0.1, 0.5, 0.5}, and not against two of 0.5 alone


def test_a_trial_that_ended_counts_with_its_last_score_once() -> None:
    """Stopped at epoch 2 with 0.2 and 0.8, its running mean is 0.5, and not (0.2 + 0.8 + 0.8) / 3 = 0.6."""
    rule = median()
    for number in range(3):
        rule.continues(number, 1, 0.2, unstopped=True)
        rule.continues(number, 2, 0.8, unstopped=True)
        rule.ended(number, 2, 0.8)
    rule.continues(3, 1, 0.3, unstopped=True)
    assert rule.continues(3, 2, 0.55, unstopped=False)


def test_an_epoch_that_is_told_again_after_a_worker_was_lost_changes_nothing() -> None:
    """The means of the others are 0.2, 0.5 and 0.9; with its second epoch told twice, the middle one would be 0.633."""
    rule = median()
    told(rule, 1, {0: 0.9, 1: 0.2, 2: 0.1})
    told(rule, 2, {0: 0.9, 1: 0.2, 2: 0.9})
    assert rule.continues(2, 2, 0.9, unstopped=False)
    rule.continues(3, 1, 0.3, unstopped=True)
    assert told(rule, 2, {3: 0.6}) == [3]


# --- none


def test_without_a_scheduler_nothing_is_stopped() -> None:
    assert build_rule("none", RUNGS, seed=0) is None


# --- a search that goes on


def play(rule: StoppingRule, number: int, scores: list[float], *, unstopped: bool, diverges: bool) -> TrialRecord:
    """Train a trial to where the rule, or its divergence, ends it; its record."""
    for epoch, score in enumerate(scores, start=1):
        if epoch == 9:
            rule.ended(number, epoch, score)
            return record(number, scores, "completed", unstopped=unstopped)
        if not rule.continues(number, epoch, score, unstopped=unstopped):
            rule.ended(number, epoch, score)
            return record(number, scores[:epoch], "stopped", unstopped=unstopped)
        if diverges and epoch == 2:
            rule.ended(number, epoch + 1, WORST_SCORE)
            return record(number, scores[:epoch], "diverged", unstopped=unstopped)
    raise AssertionError("nine epochs are the most")


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
@pytest.mark.parametrize("seed", range(3))
def test_a_replayed_rule_decides_as_the_one_that_saw_it_all(name: str, seed: int) -> None:
    generator = np.random.default_rng(seed)
    curves = np.sort(generator.random((60, 9)), axis=1).tolist()
    fates = [{"unstopped": number % 10 == 0, "diverges": number % 7 == 3} for number in range(60)]
    first, records = build_rule(name, RUNGS, seed=seed), []
    assert first is not None
    for number in range(30):
        records.append(play(first, number, curves[number], **fates[number]))
    second = build_rule(name, RUNGS, seed=seed)
    assert second is not None
    second.replay(records)
    for number in range(30, 60):
        undisturbed = play(first, number, curves[number], **fates[number])
        assert play(second, number, curves[number], **fates[number]) == undisturbed, number
    assert {entry.status for entry in records} == {"completed", "stopped", "diverged"}


def test_what_a_trial_that_goes_on_will_tell_again_is_not_taken_in_before() -> None:
    running = record(0, [0.9, 0.9, 0.9], "running", checkpoint="there", checkpoint_epoch=1)
    rule = asha()
    rule.replay([running])
    assert told(rule, 1, {1: 0.5}) == []  # the score up to the checkpoint counts
    assert told(rule, 3, {2: 0.5}) == [2]  # the later one does not, until it comes again
    assert told(rule, 3, {0: 0.6}) == [0]
    without = asha()
    without.replay([record(0, [0.9], "running")])
    assert told(without, 1, {1: 0.5}) == [1]


@pytest.mark.parametrize("name", ["asha", "hyperband", "median"])
def test_trials_that_ended_without_a_score_can_be_replayed(name: str) -> None:
    rule = build_rule(name, RUNGS, seed=0)
    assert rule is not None
    rule.replay([record(0, []), record(1, [], "failed"), record(2, [], "running"), record(3, [0.5] * 9, "completed")])
    assert told(rule, 1, {4: 0.6}) == [4]


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_trial_that_was_told_to_stop_and_is_asked_about_again_is_still_to_stop(name: str) -> None:
    """Its worker was lost while it was saved, and trained the epoch again."""
    rule = build_rule(name, Rungs(grace=1, factor=3, last=9), seed=0)
    assert rule is not None
    for number in range(1, 6):
        assert rule.continues(number, 1, 0.8, unstopped=True)
    assert not rule.continues(0, 1, 0.1, unstopped=False)
    assert not rule.continues(0, 1, 0.1, unstopped=False)
