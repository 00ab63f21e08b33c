"""Values that are put at dotted paths: merged, read, validated once. Faults are told in test_config.py."""

import pytest

from components.errors import InputError
from pipeline.config import Config
from pipeline.overriding import merge, override, parsed_value
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig

RECIPE = Recipe(model=ModelConfig(), recipe=RecipeConfig())


def test_a_value_goes_where_its_path_leads_and_its_neighbours_stay() -> None:
    before = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert merge(before, {"a.c.d": 5, "a.x.y": 6, "e": 7}) == {"a": {"b": 1, "c": {"d": 5}, "x": {"y": 6}}, "e": 7}
    assert before == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}


def test_a_path_through_a_value_puts_a_section_in_its_place() -> None:
    assert merge({"a": 1}, {"a.b": 2}) == {"a": {"b": 2}}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, a]", ["1", "a"]),
        ("{a: 1}", {"a": "1"}),
        ("'010'", "010"),
        ("[1, 2", "[1, 2"),
        ("folder:/lots #2", "folder:/lots #2"),
        ("null", "null"),
        ("", ""),
        (5, 5),
        (None, None),
    ],
)
def test_a_text_is_read_as_yaml_where_it_holds_a_list_a_map_or_quotes(text: object, value: object) -> None:
    assert merge({}, {"a": text}) == {"a": value}


def test_a_key_that_stands_twice_in_an_override_is_refused() -> None:
    with pytest.raises(InputError, match=r"data\.splits: train stands twice, on line 1"):
        merge({}, {"data.splits": "{train: 0.5, train: 0.6}"})


def test_what_a_section_holds_has_the_type_of_its_key() -> None:
    assert parsed_value(RECIPE, "recipe.weight_decay", "1e-3") == 0.001
    assert parsed_value(RECIPE, "recipe.batch_size", "16") == 16
    assert parsed_value(RECIPE, "recipe.clip_grad_norm", "null") is None
    assert parsed_value(RECIPE, "recipe.lr", "auto") == "auto"
    assert parsed_value(RECIPE, "recipe.augment", ("blur",)) == ["blur"]
    assert parsed_value(Config(), "promote.gates.min_auroc", "0.9") == 0.9


@pytest.mark.parametrize(("key", "value"), [("recipe.weight_decay", "much"), ("recipe.nothing", 1), ("recipe", 1)])
def test_what_it_cannot_hold_is_refused(key: str, value: object) -> None:
    with pytest.raises(InputError, match=key):
        parsed_value(RECIPE, key, value)


def test_overrides_of_a_trial_are_validated_together() -> None:
    """Neither would do without the other."""
    both = {"recipe.optimizer": "schedulefree_sgd", "recipe.schedule": "fixed"}
    assert override(override(RECIPE, {"recipe.schedule": "cosine"}), both).recipe.schedule_name == "fixed"
