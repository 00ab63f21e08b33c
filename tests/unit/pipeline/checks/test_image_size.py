"""Which image sizes a configuration may ask for, and which of them a backbone is asked about."""

import pytest

from components.errors import InputError
from pipeline.checks.image_size import image_sizes
from pipeline.loading import load

CHOICES = "[{sets: recipe.image_size, choices: [null, 32, 64]}, {sets: recipe.weight_decay, choices: [0, 0.1]}]"


def faults_of(overrides: dict) -> list[str]:
    with pytest.raises(InputError) as caught:
        load("smoke", {"data.image_size": "64", **overrides})
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("text", "size"), [("32", 32), ("64", 64), ("null", None)])
def test_a_size_up_to_that_of_the_packed_images_is_taken(text: str, size: int | None) -> None:
    assert load("smoke", {"data.image_size": "64", "recipe.image_size": text}).recipe.image_size == size


def test_a_larger_size_is_refused_with_the_remedy() -> None:
    assert faults_of({"recipe.image_size": "65"}) == [
        "recipe.image_size=65: must not exceed data.image_size=64, the size of the packed images; "
        "use 64 at most, or raise data.image_size"
    ]


def test_a_size_below_what_networks_can_take_is_refused() -> None:
    assert faults_of({"recipe.image_size": "31"})[0].startswith("recipe.image_size=31: ")
    assert load("smoke", {"data.image_size": "16"}).recipe.image_size is None  # the pack's own size may be as small


def test_every_searched_size_is_looked_at() -> None:
    faults = faults_of({"search.space": "[{sets: recipe.image_size, choices: [32, 65, '80', null]}]"})
    assert [fault.partition(": must")[0] for fault in faults] == [
        "search.space.0.sets=recipe.image_size: 65",
        "search.space.0.sets=recipe.image_size: 80",
    ]
    assert load("smoke", {"data.image_size": "64", "search.space": CHOICES}).search.space[0].choices[1] == 32


def test_a_searched_size_that_is_pinned_is_none_of_the_space() -> None:
    space = "[{sets: recipe.image_size, choices: [32, 96]}, {sets: recipe.weight_decay, choices: [0, 0.1]}]"
    given = {"data.image_size": "64", "search.space": space, "recipe.image_size": "32"}
    assert image_sizes(load("smoke", given), "any", compared=True) == {"recipe.image_size=32": 32}


def test_the_methods_of_a_comparison_are_looked_at() -> None:
    entries = "[{name: large, sets: {recipe.image_size: 96}}, {name: small, sets: {recipe.image_size: 32}}]"
    (fault,) = faults_of({"compare_lr.entries": entries})
    assert fault.startswith("compare_lr.entries.0 (large): recipe.image_size=96: must not exceed")


def test_a_backbone_is_asked_about_all_sizes_that_it_will_see() -> None:
    entries = "[{name: small, sets: {recipe.image_size: 40}}]"
    given = {"data.image_size": "64", "compare_lr.entries": entries}
    asked = {"data.image_size=64": 64}
    assert image_sizes(load("smoke", given), "any", compared=False) == asked
    assert image_sizes(load("smoke", given), "any", compared=True) == asked | {
        "compare_lr.entries.0 (small): recipe.image_size=40": 40
    }
    own = load("smoke", {**given, "recipe.image_size": "48"})
    assert image_sizes(own, "any", compared=False) == {"recipe.image_size=48": 48}
    searched = image_sizes(load("smoke", {**given, "search.space": CHOICES}), "any", compared=False)
    assert set(searched.values()) == {32, 64}


def test_a_size_that_is_searched_for_one_backbone_alone_is_not_asked_of_another() -> None:
    space = (
        "[{sets: model.backbone, choices: [test_resnet, test_vit]}, "
        "{sets: recipe.image_size, choices: [96], when: {model.backbone: test_resnet}}]"
    )
    config = load("smoke", {"data.image_size": "160", "search.space": space})
    assert set(image_sizes(config, "test_vit", compared=False).values()) == {160}
    assert image_sizes(config, "test_resnet", compared=False) == {
        "data.image_size=160": 160,
        "search.space.1.sets=recipe.image_size: 96": 96,
    }
