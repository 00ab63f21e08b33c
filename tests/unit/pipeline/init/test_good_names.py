"""Which classes are good by their names: only where a name says that and nothing else."""

import pytest

from components.errors import InputError
from pipeline.init.good_names import choose_good, is_good_name


@pytest.mark.parametrize(
    "name",
    [
        *(
            "good",
            "OK",
            "i.O.",
            "ok_front",
            "01_good",
            "Good Parts",
            "OK2",
            "non_defective",
            "No defect",
            "defect-free",
        ),
        *("functional", "passed", "in Ordnung", "Gut", "良品", "ｇｏｏｄ"),
    ],
)
def test_a_name_of_a_good_part_is_known(name):
    assert is_good_name(name)


@pytest.mark.parametrize(
    "name",
    [
        *("scratch", "not ok", "NOK", "n.i.O.", "no good", "def_front", "good_with_scratch", "almost ok", "no_screw"),
        *("0", "front", "", "goods received", "class 1"),
    ],
)
def test_a_name_that_says_anything_else_is_not(name):
    assert not is_good_name(name)


def test_the_given_ones_are_taken_in_any_spelling_and_alone():
    assert choose_good(["A", "b", "good"], ["a", "A"], key="--good") == ("A",)
    assert choose_good(["A", "b", "good", "ok"], [], key="--good") == ("good", "ok")
    assert choose_good(["crack", "scratch"], [], key="--good") == ()


def test_a_given_name_that_is_no_class_is_refused():
    with pytest.raises(InputError, match=r"--good=fine: is no class of these images; they are: crack, good"):
        choose_good(["crack", "good"], ["fine"], key="--good")


@pytest.mark.parametrize(("given", "said"), [(["a", "b"], "are given as good"), ([], "have the name of a good one")])
def test_a_defect_is_left(given, said):
    labels = ["a", "b"] if given else ["good", "ok"]
    with pytest.raises(InputError, match=f"all 2 classes {said}, so that none is a defect"):
        choose_good(labels, given, key="--good")
