"""What stands in a configuration file, letter by letter; and that what is written comes back."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.errors import InputError
from pipeline.overriding import validate
from pipeline.sections.base import Section
from pipeline.sections.data import DataConfig
from pipeline.sections.learning_rate import CompareEntry
from pipeline.yaml_text import Written, YamlError, parse_yaml, plain_value, read_yaml, write_yaml

NASTY = [
    "010",
    "no",
    "off",
    "null",
    "~",
    "1e3",
    "1_000",
    "12:30:45",
    "2024-01-01",
    "0x10",
    "=",
    "<<",
    ".inf",
    "- a",
    "#x",
]


def read(text: str) -> object:
    return parse_yaml(text, source="config=x")


def fault(text: str | bytes) -> str:
    with pytest.raises(InputError) as caught:
        read_yaml(text if isinstance(text, bytes) else text.encode(), source="config=x")
    return str(caught.value)


@pytest.mark.parametrize("word", ["010", "no", "off", "null", "1e3", "1_000", "12:30:45", "2024-01-01", "0x10", "1.10"])
def test_a_word_without_quotes_keeps_its_letters(word: str) -> None:
    found = read(f"a: [{word}, '{word}']")["a"]
    assert found == [word, word]
    assert [type(item) for item in found] == [Written, str]


def test_keys_are_texts_and_a_merge_key_still_merges() -> None:
    assert read("on: 1\n2: x") == {"on": "1", "2": "x"}
    assert read("a: &a {p: 1, q: 1}\nb: {<<: *a, q: 2}")["b"] == {"p": "1", "q": "2"}


def test_keys_that_stand_twice_are_all_named_with_path_and_lines() -> None:
    text = "data:\n  a: 1\nrecipe: {lr: 1}\ndata:\n  b: [{c: 1}, {c: 1, c: 2}]\n"
    assert fault(text).splitlines() == [
        "config=x: data.b.1.c stands twice, on line 5; keep one entry, with all that is meant",
        "config=x: data stands twice, on lines 1 and 4; keep one entry, with all that is meant",
    ]


@pytest.mark.parametrize(
    "data", ["a: ü".encode("utf-8-sig"), "a: ü".encode("utf-16"), "\ufeffa: ü".encode("utf-16-be")]
)
def test_marks_of_an_encoding_are_read(data: bytes) -> None:
    assert read_yaml(data, source="config=x") == {"a": "ü"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"a: 1\nb: \xfc", "line 2 is not UTF-8 (byte 0xFC); save the file as UTF-8"),
        ("a:\n\tb: 1", "line 2: found character '\\t' that cannot start any token in: b: 1; YAML takes no tabs there"),
        ("s: folder: images", "line 1: mapping values are not allowed here in: s: folder: images; quote a value"),
        ("a: x\n  b: 1", "line 2: mapping values are not allowed here in: b: 1; indent the line as its neighbours"),
        ('a: "C:\\data"', "use single quotes"),
        ("a: @b", "quote a value that starts with such a sign"),
        ("a: *b", "quote a value that starts with such a sign"),
        ("a: !b", "quote a value that starts with such a sign"),
        ("a: [1", "look at the quotes, brackets"),
        ("a: 1\n---\nb: 1", "keep one document"),
        ("a: 1\nb: \x07", "line 2 has the control character '\\x07'; remove it"),
        ("a: 1".encode("utf-16-le"), "save the file as UTF-8"),
        ("a:\n\u00a0\u00a0b: 1", "line 2: the key '\\xa0\\xa0b' has invisible characters"),
        ("a: &a [*a]", "a.0 holds itself by an alias"),
        ("[" * 400, "not valid YAML"),
    ],
)
def test_what_is_no_yaml_is_refused_in_one_line_that_says_where_and_how(text: str | bytes, words: str) -> None:
    message = fault(text)
    assert message.startswith("config=x: ")
    assert words in message
    assert "\n" not in message


def test_what_is_no_yaml_at_all_is_told_from_a_key_that_stands_twice() -> None:
    with pytest.raises(YamlError):
        read("[1")
    with pytest.raises(InputError) as caught:
        read("{a: 1, a: 2}")
    assert not isinstance(caught.value, YamlError)


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("null", None),
        ("", None),
        ("true", True),
        ("1", 1),
        ("-0.5", -0.5),
        ("1e-3", 0.001),
        ("010", "010"),
        ("off", "off"),
    ],
)
def test_where_a_key_may_hold_anything_a_word_is_read_as_in_json(word: str, value: object) -> None:
    assert plain_value(word) == value
    assert type(plain_value(word)) is type(value)


def _back(section: Section) -> Section:
    return validate(type(section), read(write_yaml(section.model_dump(mode="json"))))


@pytest.mark.parametrize("label", NASTY)
def test_a_nasty_label_survives_the_printed_configuration(label: str) -> None:
    data = validate(DataConfig, {"good_labels": [label], "group_column": label})
    assert data.good_labels == (label,)
    assert _back(data) == data


@settings(deadline=None, max_examples=40)
@given(st.lists(st.text(min_size=1), max_size=3))
def test_any_labels_survive_the_printed_configuration(labels: list[str]) -> None:
    try:
        data = validate(DataConfig, {"good_labels": labels, "metadata_columns": labels})
    except InputError:  # nothing of a label is visible
        return
    assert _back(data) == data


PLAIN = st.none() | st.booleans() | st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)


@settings(deadline=None, max_examples=40)
@given(PLAIN | st.lists(PLAIN))
def test_values_of_any_kind_come_back_where_a_key_may_hold_anything(value: object) -> None:
    entry = CompareEntry(name="a", sets={"recipe.x": value})
    assert _back(entry) == entry
