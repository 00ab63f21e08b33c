"""The trials of a search in MLflow: made once, found again, and given what an interruption kept from them."""

from types import SimpleNamespace

import pytest

from components.search.trial import Suggestion, TrialRecord
from components.tracking import TAG_PARENT, TAG_ROOT, TAG_STAGE, Run
from pipeline.search.runs import EPOCH_METRIC, TAG_STATUS, TAG_TRIAL, TrialRuns
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.training.checkpoints import WEIGHTS_FILE

DEFAULT = Recipe(model=ModelConfig(), recipe=RecipeConfig(lr=0.01))


class AtOnce:
    """A queue that makes each call when it is put, and again where it is told that the server was away."""

    def __init__(self) -> None:
        self.repeats = False

    def put(self, call) -> None:
        try:
            call()
        except ConnectionError:
            assert self.repeats
            call()


class Nowhere:
    """A queue whose calls never arrive, as those of a driver that dies."""

    def put(self, call) -> None: ...


def record(number: int, scores: list[float] = (), status: str = "running", **fields) -> TrialRecord:
    return TrialRecord(
        **(
            {
                "number": number,
                "suggestion": Suggestion(point={}, overrides={"recipe.lr": 0.2} if number else {}, epochs=3),
                "unstopped": False,
                "status": status,
                "scores": dict(enumerate(scores, start=1)),
                "metrics": {epoch: {"train_loss": 1.0 / epoch} for epoch in range(1, len(scores) + 1)},
                "seconds": 2.5 * len(scores),
            }
            | fields
        )
    )


@pytest.fixture
def context(tracker) -> SimpleNamespace:
    root = tracker.start_root("root", {})
    stage = tracker.start_stage(root, "search", "fingerprint", resume=True)
    return SimpleNamespace(tracker=tracker, run=stage, root=root)


@pytest.fixture
def opened(context):
    """The runs of a session of the search; a second call goes on with it."""

    def make(retries=None) -> TrialRuns:
        return TrialRuns(context, DEFAULT, SearchConfig(), retries or AtOnce())

    return make


@pytest.fixture
def found(context):
    """The trial's only run, as the store has it."""

    def look(number: int):
        children = context.tracker.children(context.run)
        (only,) = [run for run in children if run.data.tags.get(TAG_TRIAL) == str(number)]
        return context.tracker.client.get_run(only.info.run_id)

    return look


@pytest.fixture
def history(context):
    """(step, value) of a metric, in the order in which they were logged."""

    def of(run_id: str, name: str) -> list[tuple[int, float]]:
        return [(entry.step, entry.value) for entry in context.tracker.client.get_metric_history(run_id, name)]

    return of


def reported(runs: TrialRuns, one: TrialRecord) -> None:
    runs.reported(one, {"outcome": "scored"})


def test_a_trial_gets_a_run_below_that_of_the_stage_with_all_its_settings(opened, found, context) -> None:
    runs = opened()
    runs.started(record(0))
    runs.started(record(1))
    defaults, one = found(0), found(1)
    assert (defaults.info.run_name, one.info.run_name) == ("trial-0-defaults", "trial-1")
    assert one.data.tags[TAG_PARENT] == context.run.id
    assert one.data.tags[TAG_ROOT] == context.root.id
    assert one.data.tags[TAG_STAGE] == "trial"
    assert one.info.status == "RUNNING"
    assert (one.data.params["recipe.lr"], defaults.data.params["recipe.lr"]) == ("0.2", "0.01")
    assert (one.data.params["recipe.schedule"], one.data.params["recipe.ema_decay"]) == ("fixed", "0.9")
    assert {key: value for key, value in one.data.params.items() if key.startswith("trial.")} == {
        "trial.epochs": "3", "trial.seed": "0", "trial.fold": "None", "trial.phase": "", "trial.unstopped": "False",
    }  # fmt: skip


def test_a_run_is_made_once_however_often_its_trial_is_begun(opened, found) -> None:
    runs = opened()
    for _ in range(3):
        runs.started(record(1))
    assert found(1).info.status == "RUNNING"


def test_a_run_whose_settings_did_not_arrive_gets_them_when_the_call_is_repeated(opened, found, monkeypatch) -> None:
    retries = AtOnce()
    retries.repeats = True
    runs, once = opened(retries), []
    real = Run.log_params

    def unsure(self, params) -> None:
        if not once:
            once.append(1)
            raise ConnectionError("gone")
        real(self, params)

    monkeypatch.setattr(Run, "log_params", unsure)
    runs.started(record(1))
    assert found(1).data.params["recipe.lr"] == "0.2"


def test_a_run_whose_driver_died_before_its_settings_arrived_gets_them_later(opened, found, context) -> None:
    context.tracker.start_child(context.run, "trial-1", {TAG_TRIAL: "1"})
    opened().catch_up([record(0), record(1)])
    assert found(1).data.params["recipe.lr"] == "0.2"


# --- metrics


def test_an_epoch_is_logged_with_its_score(opened, found, history) -> None:
    runs = opened()
    one = record(1, [0.5])
    runs.started(one)
    reported(runs, one)
    one.scores[2], one.metrics[2] = 0.6, {"train_loss": 0.25}
    reported(runs, one)
    assert history(found(1).info.run_id, EPOCH_METRIC) == [(1, 0.5), (2, 0.6)]
    assert history(found(1).info.run_id, "train_loss") == [(1, 1.0), (2, 0.25)]


def test_an_epoch_without_a_score_is_not_logged(opened, found, history) -> None:
    runs = opened()
    runs.started(record(1))
    runs.reported(record(1), {"outcome": "diverged"})
    assert history(found(1).info.run_id, EPOCH_METRIC) == []


def test_the_stages_run_has_the_best_so_far(opened, context, history) -> None:
    runs = opened()
    for number, score in enumerate([0.5, 0.4, 0.7, 0.7]):
        one = record(number, [score])
        runs.started(one)
        reported(runs, one)
    assert history(context.run.id, "best_so_far") == [(1, 0.5), (3, 0.7)]
    assert history(context.run.id, "best_so_far_trial") == [(1, 0.0), (3, 2.0)]


def test_the_best_so_far_goes_on_rising_after_an_interruption(opened, context, history) -> None:
    first, records = opened(), [record(0, [0.5, 0.6], "completed"), record(1, [0.9], "diverged"), record(2, [0.55])]
    for one in records:
        first.started(one)
        reported(first, one)
    records[1].status = "diverged"
    again = opened()
    again.catch_up(records)
    for score in (0.58, 0.95):
        records[2].scores[records[2].epochs + 1] = score
        records[2].metrics[records[2].epochs] = {}
        reported(again, records[2])
    logged = history(context.run.id, "best_so_far")
    assert logged[-1][1] == 0.95
    assert [value for _, value in logged] == sorted(value for _, value in logged)
    assert len({step for step, _ in logged}) == len(logged)
    assert max(logged)[1] == 0.95  # the value of the latest step, which is the one that is shown


# --- ends


@pytest.mark.parametrize(
    ("status", "outcome", "pruned"),
    [
        ("completed", "FINISHED", "false"),
        ("stopped", "FINISHED", "true"),
        ("diverged", "FAILED", "false"),
        ("failed", "FAILED", "false"),
    ],
)
def test_a_run_ends_as_its_trial_did(opened, found, status: str, outcome: str, pruned: str) -> None:
    runs = opened()
    one = record(1, [0.5, 0.6])
    runs.started(one)
    one.status = status
    runs.ended(one, "")
    run = found(1)
    assert (run.info.status, run.data.tags[TAG_STATUS], run.data.tags["escapement.pruned"]) == (outcome, status, pruned)
    assert (run.data.metrics["trial_seconds"], run.data.metrics["trial_epochs"]) == (5.0, 2)
    assert "escapement.error" not in run.data.tags


def test_what_a_trial_failed_of_is_kept_with_its_run(opened, found, context) -> None:
    runs = opened()
    runs.started(record(1))
    runs.ended(record(1, status="failed", message="RuntimeError: out"), "Traceback: all of it")
    run = found(1)
    assert run.data.tags["escapement.error"] == "RuntimeError: out"
    assert context.tracker.client.list_artifacts(run.info.run_id)[0].path == "error.txt"


def test_a_run_has_its_status_last_so_that_a_half_ended_one_is_ended_again(opened, found, monkeypatch) -> None:
    runs = opened()
    runs.started(record(1))
    monkeypatch.setattr(Run, "finish", lambda self, status: (_ for _ in ()).throw(OSError("died")))
    with pytest.raises(OSError, match="died"):
        runs.ended(record(1, [0.5], "completed"), "")
    monkeypatch.undo()
    opened().catch_up([record(0, [0.5], "completed"), record(1, [0.5], "completed")])
    assert (found(1).info.status, found(1).data.tags[TAG_STATUS]) == ("FINISHED", "completed")


# --- going on


def test_a_search_that_goes_on_finds_its_runs_by_their_tags(opened, found, history) -> None:
    first = opened()
    done, open_one = record(0, [0.5], "completed"), record(1, [0.6])
    for one in (done, open_one):
        first.started(one)
        reported(first, one)
    first.ended(done, "")
    again = opened()
    again.catch_up([done, open_one])
    again.started(open_one)
    open_one.scores[2], open_one.metrics[2] = 0.7, {}
    reported(again, open_one)
    assert history(found(1).info.run_id, EPOCH_METRIC) == [(1, 0.6), (2, 0.7)]
    assert (found(0).info.status, found(1).info.status) == ("FINISHED", "RUNNING")


def test_epochs_that_the_store_lacks_are_logged_once(opened, found, history) -> None:
    one = record(1, [0.5, 0.6])
    first = opened()
    first.started(record(1))
    reported(first, record(1, [0.5]))
    lost = opened(Nowhere())
    reported(lost, one)
    for _ in range(2):
        opened().catch_up([record(0), one])
    assert history(found(1).info.run_id, EPOCH_METRIC) == [(1, 0.5), (2, 0.6)]
    assert history(found(1).info.run_id, "train_loss") == [(1, 1.0), (2, 0.5)]


def test_a_trial_of_which_the_store_knows_nothing_is_made_up_for(opened, found, history) -> None:
    ended = record(1, [0.5, 0.6], "stopped", message="the time budget of 1 minutes is spent")
    for retries in (Nowhere(), AtOnce(), AtOnce()):
        opened(retries).catch_up([record(0), ended])
    run = found(1)
    assert (run.info.status, run.data.tags[TAG_STATUS]) == ("FINISHED", "stopped")
    assert history(run.info.run_id, EPOCH_METRIC) == [(1, 0.5), (2, 0.6)]


def test_a_run_that_has_ended_is_left_alone(opened, found) -> None:
    one = record(1, [0.5], "completed")
    runs = opened()
    runs.started(one)
    runs.ended(one, "")
    before = found(1)
    opened().catch_up([record(0), one])
    assert found(1).info.end_time == before.info.end_time


# --- the weights


def test_the_weights_of_a_trial_become_an_artifact_of_its_run(opened, found, context, tmp_path) -> None:
    kept = tmp_path / "checkpoint"
    kept.mkdir()
    (kept / WEIGHTS_FILE).write_bytes(b"weights")
    (kept / "state.pt").write_bytes(b"much more")
    runs = opened()
    runs.started(record(1))
    runs.keep_checkpoint(record(1, [0.5], "completed", checkpoint=str(kept)), tmp_path / "scratch")
    files = context.tracker.client.list_artifacts(found(1).info.run_id, "checkpoint")
    assert [file.path for file in files] == [f"checkpoint/{WEIGHTS_FILE}"]
