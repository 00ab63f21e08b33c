"""Views that training does not show are refused before anything starts."""

import pytest

from components.errors import InputError
from pipeline.config import Config
from pipeline.loading import load


def loaded(**overrides) -> Config:
    return load("smoke", {key.replace("__", "."): value for key, value in overrides.items()})


def faults(**overrides) -> list[str]:
    with pytest.raises(InputError) as caught:
        loaded(**overrides)
    return str(caught.value).splitlines()


@pytest.mark.parametrize("views", ["auto", 1, 2, 4, 8])
def test_all_flips_and_turns_allow_every_number_of_views(views) -> None:
    assert loaded(serving__views=views).serving.views == views


def test_a_number_in_an_override_is_a_number() -> None:
    assert loaded(serving__views="4").serving.views == 4


@pytest.mark.parametrize("views", ["3", "0", "many", None, "true"])
def test_another_number_is_refused_with_those_that_there_are(views) -> None:
    (fault,) = faults(serving__views=views)
    assert fault.startswith("serving.views")


def test_views_that_the_augmentation_does_not_show_are_refused_with_those_it_does() -> None:
    (fault,) = faults(serving__views=8, recipe__augment=["horizontal_flip", "light"])
    assert fault == (
        "serving.views=8: recipe.augment=horizontal_flip, light allows 1, 2 only; give one of these or auto, or "
        "augment by horizontal_flip, vertical_flip and quarter_turns, where a part may lie in any of these ways"
    )
    (fault,) = faults(serving__views=2, recipe__augment=[])
    assert "recipe.augment=[] allows 1 only" in fault
    assert loaded(serving__views=2, recipe__augment=["vertical_flip"]).serving.views == 2


def test_without_augmentation_there_is_one_view() -> None:
    (fault,) = faults(serving__views=4, recipe__augment_strength=0)
    assert "recipe.augment_strength=0 allows 1 only" in fault
    assert loaded(serving__views=1, recipe__augment_strength=0).serving.views == 1
    assert loaded(serving__views="auto", recipe__augment_strength=0).serving.views == "auto"


def test_every_augmentation_that_is_searched_has_to_allow_the_views() -> None:
    rate = {"sets": "recipe.lr", "bounds": "range_test"}
    flips = {"sets": "recipe.augment", "choices": [["horizontal_flip"], ["horizontal_flip", "vertical_flip"]]}
    (fault,) = faults(serving__views=4, search__space=[rate, flips])
    assert "recipe.augment=horizontal_flip allows 1, 2 only" in fault
    assert loaded(serving__views=2, search__space=[rate, flips]).serving.views == 2
    strength = {"sets": "recipe.augment_strength", "choices": [0, 0.5, 1]}
    (fault,) = faults(serving__views=2, search__space=[rate, strength])
    assert "recipe.augment_strength=0 allows 1 only" in fault
    between = {"sets": "recipe.augment_strength", "low": 0.0, "high": 1.0}
    assert loaded(serving__views=2, search__space=[rate, between]).serving.views == 2


def test_a_pinned_key_is_not_searched() -> None:
    rate = {"sets": "recipe.lr", "bounds": "range_test"}
    flips = {"sets": "recipe.augment", "choices": [["horizontal_flip"], ["blur"]]}
    both = ["horizontal_flip", "vertical_flip"]
    assert loaded(serving__views=4, search__space=[rate, flips], recipe__augment=both).serving.views == 4
