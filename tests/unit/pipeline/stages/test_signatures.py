"""The stages as they are registered: their order, and that each function takes what its record declares."""

import importlib
import inspect

import pytest

from pipeline.config import Config
from pipeline.stage import Stage
from pipeline.stages import STAGE_NAMES, STAGES

BY_NAME = {stage.name: stage for stage in STAGES}


def keyword_only(function) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def positional(function) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]


def test_the_stages_stand_in_the_order_in_which_they_run() -> None:
    assert STAGE_NAMES == ("prepare", "lr_range_test", "search", "train", "evaluate", "promote")


def test_every_stage_reads_only_stages_that_stand_before_it() -> None:
    for position, stage in enumerate(STAGES):
        assert set(stage.inputs) <= set(STAGE_NAMES[:position]), stage.name


@pytest.mark.parametrize("stage", STAGES, ids=STAGE_NAMES)
def test_a_stage_takes_exactly_the_sections_that_it_declares(stage: Stage) -> None:
    run = importlib.import_module(f"pipeline.stages.{stage.name}").run
    assert positional(run) == ["context"]
    assert keyword_only(run) == set(stage.sections)


@pytest.mark.parametrize("stage", STAGES, ids=STAGE_NAMES)
def test_a_stage_declares_only_sections_that_there_are(stage: Stage) -> None:
    assert set(stage.sections) <= set(Config.model_fields)


@pytest.mark.parametrize("stage", STAGES, ids=STAGE_NAMES)
def test_where_it_runs_and_where_it_is_tracked_shape_no_result(stage: Stage) -> None:
    assert not {"compute", "tracking", "storage", "project"} & set(stage.sections)


def test_the_digest_of_the_source_takes_what_prepare_declares() -> None:
    from pipeline.stages.prepare import source_digest

    assert positional(source_digest) == ["storage"]
    assert keyword_only(source_digest) == set(BY_NAME["prepare"].sections)


def test_only_prepare_depends_on_something_outside_the_configuration() -> None:
    assert [stage.name for stage in STAGES if stage.external is not None] == ["prepare"]


def test_promote_alone_acts_outside_and_is_never_reused() -> None:
    assert [stage.name for stage in STAGES if not stage.cached] == ["promote"]


def test_the_long_stages_go_on_where_they_were_interrupted() -> None:
    assert [stage.name for stage in STAGES if stage.resumes] == ["search", "train"]


def test_only_evaluate_and_promote_come_after_the_test_split_is_read() -> None:
    """Nothing that shapes the model may depend on `evaluate`."""
    for name in ("prepare", "lr_range_test", "search", "train"):
        assert "evaluate" not in BY_NAME[name].inputs
