"""What the search stage puts together by itself: the state with its limits, and what it says before it begins."""

from types import SimpleNamespace

import pytest

from components.errors import InputError
from components.search.rungs import Rungs
from components.search.trial import Suggestion, TrialRecord
from pipeline.compute.resources import TrainingShare
from pipeline.config import ComputeConfig
from pipeline.confirmation.prior import SEED_SD
from pipeline.search import run as stage
from pipeline.search.run import expected_epochs, seconds_left
from pipeline.search_space import searched_space
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import Dimension, SearchConfig

RATE = Dimension(sets="recipe.lr", bounds="range_test")
FOUND = {("resnet18", "adamw"): SimpleNamespace(lower=1e-5, suggested=1e-4, upper=1e-3)}
SHARE = TrainingShare(concurrent=3, cpus=2, gpus=0.5)


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    said: list[str] = []
    logged: dict[str, float] = {}
    (tmp_path / "unfinished").mkdir()
    return SimpleNamespace(
        work=tmp_path / "unfinished",
        compute=ComputeConfig(ray_address="auto"),
        run=SimpleNamespace(id="run-1", log_metrics=logged.update),
        console=SimpleNamespace(say=said.append, warn=said.append),
        said=said,
        logged=logged,
    )


def state(context, *, space=(RATE,), recipe=None, **settings):
    search = SearchConfig(space=space, **{"num_trials": 8, "max_epochs": 5, **settings})
    configured = Recipe(model=ModelConfig(), recipe=RecipeConfig(**{"batch_size": 32, **(recipe or {})}))
    return stage._search_state(context, searched_space(configured, search, FOUND), search, SHARE, seed=3)


# --- the state


def test_trial_0_is_the_recipe_as_configured_with_its_place_in_the_space(context) -> None:
    first = state(context).next_trial()
    assert (first.number, first.suggestion.overrides, first.unstopped) == (0, {}, True)
    assert first.suggestion == Suggestion(
        point={"recipe.lr": pytest.approx(0.5)}, overrides={}, epochs=5, phase="defaults"
    )


def test_defaults_that_the_space_does_not_hold_have_no_place(context) -> None:
    batches = Dimension(sets="recipe.batch_size", choices=(64, 128))
    assert state(context, space=(RATE, batches)).next_trial().suggestion.point == {}


def test_a_budget_of_gpu_hours_counts_the_share_of_each_trial(context) -> None:
    limited = state(context, gpu_hours=1.0)
    limited.next_trial()
    limited.scored(0, 1, 0.5, seconds=7199.0)
    assert limited.spent_budget() == ""
    limited.scored(0, 2, 0.5, seconds=7200.0)  # at half a GPU
    assert limited.spent_budget() == "the budget of 1 GPU hours is spent"


def test_a_budget_of_time_is_in_minutes(context) -> None:
    assert state(context, time_budget_minutes=2)._limits.seconds == 120
    assert state(context)._limits.seconds is None


def test_as_many_trials_run_as_the_machine_holds(context) -> None:
    some = state(context)
    assert [some.next_trial() for _ in range(4)][3] == "wait"


def test_a_search_goes_on_from_the_journal_in_its_scratch_folder(context) -> None:
    first = state(context)
    trials = [first.next_trial() for _ in range(2)]
    first.ended(0, "completed")
    again = state(context)
    assert [record.status for record in again.records] == ["completed", "running"]
    assert again.next_trial().suggestion == trials[1].suggestion


def test_the_portfolio_comes_after_the_defaults_and_before_what_is_drawn(context) -> None:
    some = state(context, num_trials=16)
    for number in range(4):
        some.next_trial()
        some.ended(number, "completed")
    phases = [record.suggestion.phase for record in some.records]
    assert phases == [
        "defaults",
        "portfolio: a third of the rate",
        "portfolio: three times the rate",
        "latin hypercube",
    ]


def test_the_least_improvement_is_half_of_the_noise_between_seeds() -> None:
    assert stage.LEAST_IMPROVEMENT == SEED_SD / 2


@pytest.mark.parametrize(
    ("settings", "ends"),
    [({}, True), ({"stop_at_noise": False}, False), ({"sampler": "random"}, False), ({"max_epochs": 18}, False)],
)
def test_a_search_ends_where_trials_at_the_first_rung_are_alike(context, settings, ends) -> None:
    some = state(context, num_trials=16, **settings)
    for number in range(5):
        some.next_trial()
        for epoch in range(1, 6):  # the first rung is at epoch 3 of 5, and 6 of 18
            some.scored(number, epoch, 0.9 + 0.001 * (number % 2), seconds=1.0)
        some.ended(number, "completed")
    assert bool(some.enough()) == ends
    assert (some.next_trial() == "done") == ends


# --- what is said


def forecast(context, records: list, *, seconds: float, **settings) -> list[str]:
    search = SearchConfig(space=(RATE,), **{"num_trials": 16, "max_epochs": 9, **settings})
    stage._say_forecast(context, SimpleNamespace(records=records), search, SHARE, seconds)
    return context.said


def test_before_it_begins_it_says_what_will_be_done_and_how_long_it_takes(context) -> None:
    assert forecast(context, [], seconds=3723.0) == [
        "  16 trials of up to 9 epochs, 3 at a time (hybrid, asha), about 1 h 02 min"
    ]
    assert context.logged == {"forecast_seconds": 3723.0}


def test_where_nothing_is_foretold_nothing_is_said_of_it(context) -> None:
    assert forecast(context, [], seconds=0.0) == ["  16 trials of up to 9 epochs, 3 at a time (hybrid, asha)"]
    assert context.logged == {}


def test_a_search_that_goes_on_says_how_much_is_done(context) -> None:
    suggestion = Suggestion(point={}, overrides={}, epochs=9)
    records = [
        TrialRecord(number=number, suggestion=suggestion, unstopped=False, status=status)
        for number, status in enumerate(["completed", "failed", "running"])
    ]
    assert "16 trials of up to 9 epochs, 2 of them complete, 3 at a time" in forecast(context, records, seconds=1)[0]


def test_a_budget_that_will_end_it_is_said_beforehand(context) -> None:
    assert forecast(context, [], seconds=121.0, time_budget_minutes=2)[1:] == [
        "  search.time_budget_minutes=2 ends it before that"
    ]
    del context.said[:]
    assert forecast(context, [], seconds=119.0, time_budget_minutes=2)[1:] == []


def test_a_tracking_server_that_is_away_is_said_in_a_line(context) -> None:
    stage._say_away(context, ConnectionError("x" * 999))
    assert context.said[0].startswith("the tracking server is not available; the search continues")
    assert len(context.said[0]) <= 300


# --- where checkpoints go


@pytest.fixture
def cluster(monkeypatch):
    """A cluster of so many nodes, all of which see the folder or not."""

    def make(nodes: int, *, seen: bool) -> None:
        monkeypatch.setattr(stage, "live_nodes", lambda: [None] * nodes)
        monkeypatch.setattr(stage, "seen_by_nodes", lambda path, text: seen and path.read_text() == text)

    return make


def test_on_a_cluster_every_node_has_to_see_where_checkpoints_go(context, cluster) -> None:
    cluster(3, seen=False)
    with pytest.raises(
        InputError, match=r"compute\.trial_storage=null: not every node .*object store or a shared folder"
    ):
        stage._check_storage(context)
    cluster(3, seen=True)
    stage._check_storage(context)
    cluster(1, seen=False)
    stage._check_storage(context)


def test_a_folder_that_only_the_driver_sees_is_refused_and_left_empty(context, cluster, tmp_path) -> None:
    shared = tmp_path / "shared"
    context.compute = ComputeConfig(ray_address="auto", trial_storage=str(shared))
    cluster(3, seen=False)
    with pytest.raises(InputError, match=rf"compute\.trial_storage={shared}: not every node"):
        stage._check_storage(context)
    assert [path for path in shared.rglob("*") if path.is_file()] == []
    cluster(3, seen=True)
    stage._check_storage(context)


def test_searches_that_share_a_store_do_not_share_a_folder(context) -> None:
    assert stage._storage(context) == str(context.work)
    context.compute = ComputeConfig(trial_storage="s3://bucket/trials?region=eu")
    assert stage._storage(context) == "s3://bucket/trials/run-1?region=eu"


@pytest.mark.parametrize(
    "compute", [ComputeConfig(), ComputeConfig(ray_address="auto", trial_storage="s3://bucket/trials")]
)
def test_one_machine_sees_its_own_folder_and_a_store_has_been_checked(context, cluster, compute) -> None:
    cluster(3, seen=False)
    context.compute = compute
    stage._check_storage(context)


# --- in vain


def ended(number: int, scores: list[float], status: str, *, message: str = "") -> TrialRecord:
    suggestion = Suggestion(point={}, overrides={}, epochs=3)
    return TrialRecord(
        number=number,
        suggestion=suggestion,
        unstopped=False,
        status=status,
        scores=dict(enumerate(scores, start=1)),
        message=message,
    )


def failure_of(records: list[TrialRecord], *, failure: str = "", budget: str = "") -> str:
    with pytest.raises((RuntimeError, InputError)) as caught:
        stage.raise_if_nothing_learned(records, failure=failure, budget=budget)
    assert isinstance(caught.value, InputError) is str(caught.value).endswith(("search.space", "whichever is set"))
    return str(caught.value)


def test_a_search_in_which_something_learned_goes_on() -> None:
    records = [ended(0, [], "failed"), ended(1, [0.5], "stopped")]
    assert stage.raise_if_nothing_learned(records, failure="", budget="y") is None


def test_a_search_in_which_too_many_failed_says_what_they_have_in_common_and_how_to_go_on() -> None:
    records = [ended(0, [0.5], "completed"), *(ended(number, [], "failed", message="no lens") for number in (1, 2))]
    assert failure_of(records, failure="2 of 3 trials failed, 2 of them with: no lens") == (
        "search: 2 of 3 trials failed, 2 of them with: no lens; remove the cause and repeat the command, which resumes "
        "with the remaining trials, or raise search.failure_limit"
    )


def test_a_search_in_which_all_failed_says_why() -> None:
    failed = [ended(number, [], "failed", message="no lens") for number in range(4)]
    assert failure_of(failed[:2]) == "search: all 2 trials failed, the first: no lens"
    assert "no lens" in failure_of(failed[:2], budget="the time budget of 1 minutes is spent")


def test_a_search_in_which_nothing_learned_is_said_with_the_remedy() -> None:
    failed, diverged = ended(0, [], "failed", message="no lens"), ended(1, [0.4], "diverged")
    assert failure_of([failed, diverged]) == (
        "search: none of the 2 trials learned (1 diverged); lower recipe.lr, or its bounds in search.space"
    )


def test_a_search_whose_budget_was_spent_before_any_score_asks_for_more_of_it() -> None:
    spent = "the time budget of 1 minutes is spent"
    assert failure_of([ended(0, [], "stopped")], budget=spent) == (
        f"search: none of the 1 trials learned (0 diverged; {spent}); "
        "raise search.time_budget_minutes or search.gpu_hours, whichever is set"
    )
    assert "lower recipe.lr" in failure_of([ended(0, [], "stopped"), ended(1, [], "diverged")], budget=spent)


RUNGS = Rungs(grace=1, factor=3, last=9)


def record(number: int, epochs: int, seconds: float, status: str = "completed") -> TrialRecord:
    return TrialRecord(
        number=number,
        suggestion=Suggestion(point={}, overrides={}, epochs=9),
        unstopped=False,
        status=status,
        scores=dict.fromkeys(range(1, epochs + 1), 0.5),
        seconds=seconds,
    )


def left(records: list[TrialRecord], *, num_trials: int, concurrent: int = 1, mean: float = 3.0, pace: float = 10.0):
    return seconds_left(records, num_trials=num_trials, mean_epochs=mean, seconds_per_epoch=pace, concurrent=concurrent)


@pytest.mark.parametrize(
    ("scheduler", "unstopped", "epochs"),
    [
        ("asha", 0.0, 1 + 2 / 3 + 6 / 9),  # one in three goes on from 1 to 3, one in nine from 3 to 9
        ("hyperband", 0.0, 1 + 2 / 3 + 6 / 9),
        ("asha", 0.1, 0.1 * 9 + 0.9 * (1 + 2 / 3 + 6 / 9)),
        ("asha", 1.0, 9.0),
        ("median", 0.0, 1 + 8 / 2),
        ("none", 0.0, 9.0),
    ],
)
def test_epochs_of_a_trial_by_the_scheduler(scheduler: str, unstopped: float, epochs: float) -> None:
    assert expected_epochs(RUNGS, scheduler=scheduler, unstopped=unstopped) == pytest.approx(epochs)


@pytest.mark.parametrize("scheduler", ["asha", "median", "none"])
def test_with_one_rung_every_trial_runs_to_its_end(scheduler: str) -> None:
    assert expected_epochs(Rungs(grace=4, factor=3, last=4), scheduler=scheduler, unstopped=0.1) == pytest.approx(4.0)


def test_before_it_begins_the_measured_pace_counts() -> None:
    assert left([], num_trials=8, concurrent=2) == pytest.approx(8 * 3 * 10 / 2)


def test_without_any_pace_nothing_is_foretold() -> None:
    assert left([], num_trials=8, pace=0.0) == 0.0


def test_then_its_own_pace_counts() -> None:
    """One trial of 3 epochs took 6 s: 2 s an epoch; seven are left, of 3 epochs each."""
    assert left([record(0, 3, 6.0)], num_trials=8) == pytest.approx(7 * 3 * 2)


def test_of_a_running_trial_only_the_rest_is_left() -> None:
    """Two epochs in 4 s; of the three that are expected one is left of it, and all of the other."""
    assert left([record(0, 2, 4.0, "running")], num_trials=2) == pytest.approx((1 + 3) * 2)


def test_a_trial_that_is_longer_than_expected_has_an_epoch_left() -> None:
    assert left([record(0, 7, 14.0, "running")], num_trials=1) == pytest.approx(2.0)


def test_from_four_trials_on_their_own_mean_length_counts() -> None:
    ended = [record(number, epochs, 1.0 * epochs) for number, epochs in enumerate([9, 1, 1, 1])]
    assert left(ended, num_trials=6) == pytest.approx(2 * 3.0)  # 12 epochs over four trials
    assert left(ended[:3], num_trials=6, mean=5.0) == pytest.approx(3 * 5.0)


def test_no_more_trials_run_at_a_time_than_there_are() -> None:
    ended = [record(number, 3, 3.0) for number in range(3)]
    assert left([*ended, record(3, 0, 0.0, "running")], num_trials=4, concurrent=8) == pytest.approx(3.0)


def test_when_all_is_over_nothing_is_left() -> None:
    assert left([record(0, 3, 3.0), record(1, 0, 1.0, "failed")], num_trials=2) == 0.0
