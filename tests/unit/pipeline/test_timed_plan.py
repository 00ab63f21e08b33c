"""The plan of a run with a budget, before and after the stage that spends it."""

import json
import uuid

import pytest

from components.errors import InputError
from pipeline import timed_plan
from pipeline.config import Config
from pipeline.loading import load
from pipeline.plan import PlannedStage
from pipeline.stage import StageRecord, list_artifacts
from pipeline.stages import STAGES

BEFORE = ["prepare", "embed", "first_model", "budget"]
AFTER = ["lr_range_test", "search", "confirm", "train", "deliver", "evaluate", "promote"]
CHANGES = {"search.num_trials": 0, "train.networks": 1, "train.epochs": 3}


@pytest.fixture
def timed(tmp_path, monkeypatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return load("smoke", {"budget": "5min", "storage.root": str(tmp_path / "storage")})


def make(plan: list[PlannedStage]) -> None:
    """The results of these stages, as if they had run."""
    made: dict[str, str] = {}
    for item in plan:
        item.directory.mkdir(parents=True)
        if item.stage.name == "budget":
            found = {"afterwards": 20.0, "changes": CHANGES}
            (item.directory / "budget.json").write_text(json.dumps(found))
        made[item.stage.name] = uuid.uuid4().hex
        StageRecord(
            stage=item.stage.name, fingerprint=item.fingerprint, version=item.stage.version,
            result_id=made[item.stage.name], inputs={name: made[name] for name in item.stage.inputs},
            sections=item.sections, headline={}, artifacts=list_artifacts(item.directory), seconds=1.0, run_id="r",
            commit="c", versions={}, directory=item.directory,
        ).write()  # fmt: skip


def names(plan: list[PlannedStage]) -> list[str]:
    return [item.stage.name for item in plan]


def test_before_the_budget_has_a_result_the_plan_ends_with_it_and_then_goes_on(timed) -> None:
    plan = timed_plan.whole_plan(timed, until="promote")
    assert names(plan) == BEFORE
    make(plan)
    whole = timed_plan.whole_plan(timed, until="promote")
    assert names(whole) == [*BEFORE, *AFTER]
    assert [item.action for item in whole[:4]] == ["reused"] * 4
    found = timed_plan.later(timed, whole[:4], until="promote", force=(), ends_at=300.0)
    assert (names(found.plan), found.ends_at) == (AFTER, 280.0)
    assert (found.config.train.epochs, found.config.train.networks, found.config.search.num_trials) == (3, 1, 0)
    (train,) = (item for item in found.plan if item.stage.name == "train")
    assert train.sections["budget"] == "5min"  # another result than that of a run without a clock


def test_up_to_the_first_model_and_without_a_budget_nothing_differs(timed) -> None:
    assert names(timed_plan.whole_plan(timed, until="first_model")) == BEFORE[:3]
    assert timed_plan.plan_until(timed, "embed") == "embed"
    assert timed_plan.plan_until(timed, "train") == "budget"
    assert names(timed_plan.whole_plan(load("smoke"), until="promote")) == [*BEFORE[:3], *AFTER]


def test_neither_one_more_network_on_all_images_nor_a_comparison_goes_with_a_budget(timed) -> None:
    timed_plan.check_budget(timed, "promote")
    with pytest.raises(InputError, match=r"^serving\.deliver=single: with a budget the networks of the folds"):
        timed_plan.check_budget(load("smoke", {"budget": "5min", "serving.deliver": "single"}), "promote")
    with pytest.raises(InputError, match=r"^budget: a comparison has lengths of its own"):
        timed_plan.check_budget(timed, "compare_lr")


def test_every_stage_before_the_budget_is_needed_by_it() -> None:
    assert next(stage for stage in STAGES if stage.name == "budget").inputs == ("prepare", "embed", "first_model")
