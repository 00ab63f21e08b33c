"""Plans, one after another: what is suggested, when to wait, and when it is done."""

from components.search.samplers.levels import next_suggestion, plan_untried, ranked, trials_by_identity
from components.search.trial import Suggestion


def at(u: float, **changes) -> Suggestion:
    return Suggestion(point={"x": u}, overrides={}, **{"epochs": 9, **changes})


def plan(*suggestions: Suggestion):
    return plan_untried(suggestions, planned={}, most=100)


def test_a_plan_is_worked_off_in_its_order_and_the_next_begins_when_all_has_ended(lab) -> None:
    plans = [plan(at(0.1), at(0.2)), plan(at(0.3))]
    history = []
    assert next_suggestion(plans, trials_by_identity(history)) == at(0.1)
    history.append(lab.record(1, {"x": 0.1}, status="running"))
    assert next_suggestion(plans, trials_by_identity(history)) == at(0.2)
    history.append(lab.record(2, {"x": 0.2}, 0.5))
    assert next_suggestion(plans, trials_by_identity(history)) == "wait"
    history[0].status = "failed"
    assert next_suggestion(plans, trials_by_identity(history)) == at(0.3)
    history.append(lab.record(3, {"x": 0.3}, status="running"))
    assert next_suggestion(plans, trials_by_identity(history)) == "wait"
    history[2].status = "stopped"
    assert next_suggestion(plans, trials_by_identity(history)) == "done"


def test_no_plan_is_computed_before_the_one_before_it_has_ended(lab) -> None:
    def plans():
        yield plan(at(0.1))
        raise AssertionError("too early")

    assert next_suggestion(plans(), trials_by_identity([lab.record(1, {"x": 0.1}, status="running")])) == "wait"


def test_length_seed_and_fold_make_another_trial_of_the_same_point() -> None:
    same = [at(0.1), at(0.1 + 1e-12, phase="again"), at(0.1, epochs=3), at(0.1, seed=1), at(0.1, fold=0)]
    assert list(plan(*same).values()) == [same[0], *same[2:]]


def test_a_plan_leaves_out_what_was_planned_before_and_ends_at_its_limit() -> None:
    suggestions = [at(0.1), at(0.2), at(0.3), at(0.4)]
    assert list(plan_untried(suggestions, planned=plan(at(0.2)), most=2).values()) == [at(0.1), at(0.3)]
    assert plan_untried(suggestions, planned={}, most=0) == {}
    assert plan_untried(suggestions, planned={}, most=-1) == {}


def test_only_what_was_planned_and_ran_to_its_end_is_ranked(lab) -> None:
    history = [
        lab.record(0, {"x": 0.5}, 0.99),
        lab.record(1, {"x": 0.1}, 0.7),
        lab.record(2, {"x": 0.2}, 0.8),
        lab.record(3, {"x": 0.3}, 0.8),
        lab.record(4, {"x": 0.4}, 0.9, status="stopped", at=3),
        lab.record(5, {"x": 0.6}, 0.9, status="diverged"),
    ]
    planned = plan(*(at(u) for u in (0.1, 0.2, 0.3, 0.4, 0.6, 0.7)))
    assert [record.number for record in ranked(planned, trials_by_identity(history))] == [2, 3, 1]
