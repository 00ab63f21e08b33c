"""Names in one form, and which of them the eye takes for the same."""

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.names import look_alikes, normal_form, normal_path, spelling, told_apart


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("good", "good"),
        (" good\t", "good"),
        ("\u00a0good\u2003", "good"),
        ("go\u200bod", "good"),
        ("\ufeffgood", "good"),
        ("g\u00adood\u200f", "good"),
        ("\u202agood\u202c", "good"),
        ("good\u200d\ufe0f", "good"),
        ("good\x00", "good"),
        ("fu\u0308r", "für"),
        ("fu\u200b\u0308r", "für"),
        ("no  defect", "no  defect"),
        ("ｇｏｏｄ", "ｇｏｏｄ"),
        ("می\u200cشود", "می\u200cشود"),
        ("👩\u200d🔬", "👩\u200d🔬"),
        ("⚠\ufe0f", "⚠\ufe0f"),
        ("\u200b \u2060", ""),
    ],
)
def test_a_name_is_composed_and_loses_what_no_eye_sees(name: str, form: str) -> None:
    assert normal_form(name) == form


@settings(deadline=None, max_examples=60)
@given(st.text(st.sampled_from("aü\u0308 \u00a0\t\u200b\u200c\u200d\ufe0f\ufeffé😀ا")))
def test_a_normal_form_is_its_own_and_the_same_for_both_forms_of_unicode(name: str) -> None:
    form = normal_form(name)
    assert normal_form(form) == form == form.strip()
    assert normal_form(unicodedata.normalize("NFD", name)) == normal_form(unicodedata.normalize("NFC", name)) == form
    assert spelling(form) == spelling(name)


def test_each_part_of_a_path_has_its_own_form() -> None:
    assert normal_path("u\u0308 /a\u200b.png") == "ü/a.png"
    assert normal_path("plain/a.png") == "plain/a.png"


@pytest.mark.parametrize(
    "other",
    [
        "Good part",
        "good  part",
        "good\u00a0part",
        "good\tpart",
        "ｇｏｏｄ part",
        "gооd part",
        "good\ufe0e part",
        "good p\u00aart",
    ],
)
def test_names_look_alike_whatever_their_case_blanks_form_or_alphabet(other: str) -> None:
    assert look_alikes(["good part", other, other, "bad"]) == [{"good part": 1, other: 2}]


@pytest.mark.parametrize(
    "names", [("good", "goods"), ("o", "0"), ("für", "fur"), ("a b", "ab"), ("1", "01"), ("a-b", "a_b")]
)
def test_names_that_the_eye_tells_apart_are_different(names: tuple[str, str]) -> None:
    assert look_alikes(names) == []


@pytest.mark.parametrize(
    "names", [("İyi", "iyi"), ("ﬁne", "fine"), ("Maß", "MASS"), ("well–done", "well-done"), ("Å", "\u212b"), ("²", "2")]
)
def test_other_spellings_of_one_word_look_alike(names: tuple[str, str]) -> None:
    assert len(look_alikes(names)) == 1


def test_names_that_look_alike_are_shown_so_that_they_differ() -> None:
    assert told_apart("good", "gооd") == ["'good'", "'g\\u043e\\u043ed'"]
    assert told_apart("Böse", "böse") == ["'Böse'", "'böse'"]
    assert told_apart("a b", "a\u00a0b") == ["'a b'", "'a\\xa0b'"]
