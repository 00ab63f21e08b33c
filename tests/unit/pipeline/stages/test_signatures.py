"""The stages as they are registered: their order, and that each function takes what its record declares."""

import importlib
import inspect

import pytest

from components.errors import InputError
from pipeline.config import Config
from pipeline.loading import load
from pipeline.plan import upstream
from pipeline.stage import Stage, fingerprint, section_values
from pipeline.stages import STAGE_NAMES, STAGES

BY_NAME = {stage.name: stage for stage in STAGES}


def keyword_only(function) -> set[str]:
    parameters = inspect.signature(function).parameters.values()
    return {parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY}


def positional(function) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.POSITIONAL_OR_KEYWORD]


def test_the_stages_stand_in_the_order_in_which_they_run() -> None:
    assert STAGE_NAMES == (
        "prepare", "embed", "first_model", "budget", "lr_range_test", "compare_lr", "search", "confirm", "train",
        "deliver", "evaluate", "promote",
    )  # fmt: skip


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


def test_a_digest_of_what_lies_outside_takes_what_its_stage_declares() -> None:
    from pipeline.data.sources import source_digest, weights_digest

    for name, digest in (("prepare", source_digest), ("embed", weights_digest)):
        assert positional(digest) == ["storage", "console"]
        assert keyword_only(digest) == set(BY_NAME[name].sections)


def test_the_images_and_a_file_of_weights_are_what_lies_outside_the_configuration() -> None:
    assert [stage.name for stage in STAGES if stage.external is not None] == ["prepare", "embed", "search"]


@pytest.mark.parametrize("name", ["lr_range_test", "compare_lr", "search", "confirm", "train"])
def test_trainings_in_another_precision_are_other_results(name: str) -> None:
    configs = [load("smoke", {"recipe.precision": value}) for value in ("auto", "float32", "bfloat16")]
    stage = BY_NAME[name]
    assert len({fingerprint(stage, section_values(config, stage.sections), {}) for config in configs}) == 3


def test_all_that_trains_hangs_on_the_range_test_where_the_precision_is_chosen() -> None:
    """Else a range test that is made anew, and may choose another, would not void it."""
    for name in ("compare_lr", "search", "confirm", "train", "deliver"):
        assert "lr_range_test" in {stage.name for stage in upstream(STAGES, name)}, name


@pytest.mark.parametrize("stage", STAGES, ids=STAGE_NAMES)
def test_what_is_left_out_of_a_fingerprint_is_a_key_of_a_declared_section(stage: Stage) -> None:
    for key in stage.unhashed:
        section, _, name = key.partition(".")
        assert section in stage.sections
        assert name in getattr(Config(), section).model_dump()


def test_a_weights_file_counts_by_its_content(tmp_path) -> None:
    from pipeline.console import Console
    from pipeline.data.sources import weights_digest
    from pipeline.sections.recipe import ModelConfig

    config = Config()
    file = tmp_path / "w.safetensors"

    def digest(weights: str) -> str:
        model = ModelConfig(weights=weights)
        sections = {"model": model, "recipe": config.recipe, "embed": config.embed}
        return weights_digest(tmp_path, Console(quiet=True), seed=0, budget=None, **sections)

    file.write_bytes(b"one")
    first = digest(f"file:{file}")
    file.write_bytes(b"two")
    assert digest(f"file:{file}") != first
    assert digest("none") == ""
    with pytest.raises(InputError, match="there is no such file"):
        digest(f"file:{tmp_path}/absent.safetensors")


def test_only_what_shapes_a_classifier_on_frozen_features_makes_them_anew() -> None:
    """Else another rate would change what range test and search were made from."""
    stage = BY_NAME["embed"]

    def identity(**given: str) -> str:
        return fingerprint(stage, section_values(load("smoke", given), stage.sections), {})

    for key, value in {
        "recipe.lr": "0.1", "recipe.optimizer": "sgd", "recipe.batch_size": "8", "recipe.precision": "float32",
        "recipe.warmup_epochs": "1", "model.drop_rate": "0.1", "train.epochs": "3",
        "operating_point.confidence": "0.9", "operating_point.escape_budget": "0.01",
    }.items():  # fmt: skip
        assert identity(**{key: value}) == identity(), key
    for key, value in {
        "recipe.objective": "auroc", "recipe.class_weights": "none", "recipe.image_size": "32", "seed": "1",
        "recipe.augment": "horizontal_flip", "recipe.augment_strength": "0", "budget": "1min",
        "model.weights": "pretrained", "embed.views": "1", "embed.keep_backbones": "1", "embed.max_images": "100",
    }.items():  # fmt: skip
        assert identity(**{key: value}) != identity(), key


def test_the_comparison_of_methods_hangs_on_no_head_start_since_it_uses_none() -> None:
    stage, configs = BY_NAME["compare_lr"], [load("smoke", {"recipe.head_start": one}) for one in ("always", "never")]
    assert len({fingerprint(stage, section_values(config, stage.sections), {}) for config in configs}) == 1


def test_promote_alone_acts_outside_and_is_never_reused() -> None:
    assert [stage.name for stage in STAGES if not stage.cached] == ["promote"]


def test_the_long_stages_go_on_where_they_were_interrupted() -> None:
    assert [stage.name for stage in STAGES if stage.resumes] == ["compare_lr", "search", "confirm", "train", "deliver"]


def test_the_confirmation_hangs_on_its_own_keys_of_the_search_and_on_what_the_search_found() -> None:
    keys = {f"search.{name}" for name in Config().search.model_dump()}
    assert keys - set(BY_NAME["confirm"].unhashed) == {
        "search.confirm", "search.confirm_seeds", "search.confirm_confidence"
    }  # fmt: skip
    assert "search" in BY_NAME["confirm"].inputs


def test_what_shapes_a_training_counts_for_the_confirmation_as_it_does_for_train() -> None:
    """Or else a training would be taken over that `train` would have made otherwise."""
    assert set(BY_NAME["train"].sections) - {"budget"} < set(BY_NAME["confirm"].sections)  # with one, none is searched
    assert not BY_NAME["train"].unhashed
    assert not [key for key in BY_NAME["confirm"].unhashed if not key.startswith("search.")]


def test_nothing_goes_on_from_the_comparison_of_methods() -> None:
    assert all("compare_lr" not in stage.inputs for stage in STAGES)


def test_only_evaluate_and_promote_come_after_the_test_split_is_read() -> None:
    """Nothing that shapes the model may depend on `evaluate`."""
    for name in (
        "prepare",
        "embed",
        "first_model",
        "lr_range_test",
        "compare_lr",
        "search",
        "confirm",
        "train",
        "deliver",
    ):
        assert "evaluate" not in BY_NAME[name].inputs
