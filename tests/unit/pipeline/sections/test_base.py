"""What a section makes of words as they stand in a file: the type of the key decides."""

import pytest

from components.errors import InputError
from pipeline.config import Config
from pipeline.overriding import merge, validate
from pipeline.yaml_text import parse_yaml


def value_of(key: str, text: str) -> object:
    """The key's value where the file says `text`, and the override too."""
    *sections, name = key.split(".")
    nested = f"{{{name}: {text}}}"
    for section in reversed(sections):
        nested = f"{{{section}: {nested}}}"
    found: object = validate(Config, parse_yaml(nested, source="config=x"))
    for part in key.split("."):
        found = getattr(found, part)
    return found


def fault_of(key: str, text: str) -> str:
    with pytest.raises(InputError) as caught:
        value_of(key, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("data.good_labels", "[010, no, 1e3, 1_000, null]", ("010", "no", "1e3", "1_000", "null")),
        ("data.good_labels", "010", ("010",)),
        ("data.good_labels", "'010'", ("010",)),
        ("data.good_labels", "[good, 'good ', \"go\\u200bod\"]", ("good",)),
        ("data.good_labels", "['a, b']", ("a, b",)),
        ("data.stratify_columns", "off", ("off",)),
        ("data.group_column", "010", "010"),
        ("data.group_column", "null", None),
        ("data.group_column", "'null'", "null"),
        ("data.near_duplicates", "off", "off"),
        ("data.near_duplicates", "Off", "off"),
        ("data.pack", "none", "none"),
        ("data.audit", "off", False),
        ("data.audit", "True", True),
        ("data.image_size", "0100", 100),
        ("data.region", "[0, 0, 010, 10]", (0, 0, 10, 10)),
        ("model.weights", "None", "none"),
        ("model.weights", "File:/w.safetensors", "file:/w.safetensors"),
        ("recipe.lr", "1e-3", 0.001),
        ("recipe.lr", "AUTO", "auto"),
        ("recipe.optimizer", "AdamW", "adamw"),
        ("recipe.ema_decay", "None", None),
        ("recipe.augment", "Blur", ("blur",)),
        ("compare_lr.rate_factors", "2", (2.0,)),
    ],
)
def test_a_word_is_what_its_key_can_hold(key: str, text: str, value: object) -> None:
    found = value_of(key, text)
    assert found == value
    assert type(found) is type(value)


def test_an_empty_section_holds_its_defaults() -> None:
    assert validate(Config, parse_yaml("data:\nmodel: null", source="config=x")) == Config()


@pytest.mark.parametrize(
    ("key", "text", "words"),
    [
        ("data.good_labels", "null", "data.good_labels=null: input should be a valid tuple; write [] for none"),
        (
            "data.good_labels",
            "'a, b'",
            "give a list: [a, b]; a name that holds a comma or brackets is quoted within it: ['a, b']",
        ),
        ("data.good_labels", "['']", "data.good_labels.0=: is empty; give a name"),
        ("data.good_labels", "{good}", "write a list: [a, b]"),
        (
            "data.good_labels",
            "'[ok]'",
            "give a list: [ok]; a name that holds a comma or brackets is quoted within it: ['[ok]']",
        ),
        ("data.good_labels", "[[ok]]", "a name in brackets is quoted"),
        ("data.source", "null", "null has no meaning here; quote it if it is a name"),
        ("data.source", '"folder:C:\\temp"', r"data.source='folder:C:\temp': holds a control character, '\t'"),
        ("data.pack", "off", "to switch it off write none"),
        ("data.near_duplicates", "none", "to switch it off write off"),
        ("data.near_duplicates", "uprigth", "did you mean upright?"),
        ("data.audit", "nope", "write true or false"),
        ("data.max_quarantined_fraction", "'0,05'", "write 0.05"),
        ("data.max_quarantined_fraction", "0,05", "data.05: unknown key; a number takes a point, and no comma"),
        ("data.max_quarantined_fraction", "5%", "write 0.05"),
        ("data.image_size", "1e2", "write 100"),
        ("monitor.action", "off", "to switch it off write none"),
        ("model.weights", "null", "use none (a random start), pretrained, package, or file:"),
        ("recipe.lr", "yes", "input should be a valid number"),
        ("data", "[]", "write its keys below it"),
    ],
)
def test_a_word_that_a_key_cannot_hold_is_answered_with_how_to_write_it(key: str, text: str, words: str) -> None:
    assert words in fault_of(key, text)


def test_searched_and_compared_keys_hold_words_as_they_are_meant() -> None:
    text = "[{sets: recipe.optimizer, choices: [AdamW, SGD]}, {sets: recipe.ema_decay, choices: [null, 0.9]}]"
    space = validate(Config, merge({}, {"search.space": text})).search.space
    assert [dimension.choices for dimension in space] == [("AdamW", "SGD"), (None, 0.9)]


def test_of_a_key_of_several_types_the_fault_that_says_how_to_write_it_is_told_alone() -> None:
    assert len(fault_of("recipe.lr", "'0,01'").splitlines()) == 1
