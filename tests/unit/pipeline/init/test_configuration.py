"""The file that init writes: it loads, holds differences only, and takes any name."""

import pytest

from components.models.weights import WEIGHT_PACKAGES
from pipeline.config import Config
from pipeline.init import configuration as module
from pipeline.init import weights
from pipeline.init.configuration import configuration, image_size, next_commands, project_name, propose
from pipeline.init.look import look_at
from pipeline.loading import load
from pipeline.yaml_text import read_yaml


@pytest.fixture(autouse=True)
def one_package(monkeypatch):
    first = next(iter(WEIGHT_PACKAGES))
    monkeypatch.setattr(weights, "packages_at_hand", lambda: {first: WEIGHT_PACKAGES[first]})


@pytest.fixture
def written(tmp_path):
    """`written(folder, *good)`: the text for a folder, and the configuration that it is."""

    def make(folder, *good):
        look = look_at(str(folder), good=good)
        text = configuration(look, propose(look), next_commands(tmp_path / "x.yaml"))
        (tmp_path / "x.yaml").write_text(text, encoding="utf-8")
        return text, load(tmp_path / "x.yaml")

    return make


def differences(text):
    """(section, key) of what the file sets."""
    values = read_yaml(text.encode(), source="x") or {}
    return {(section, key) for section, keys in values.items() for key in keys}


def test_it_loads_and_holds_what_differs_from_the_defaults(castings, written):
    text, config = written(castings)
    assert (config.project.name, config.data.source) == ("castings", f"folder:{castings}")
    assert (config.data.image_size, config.data.good_labels) == (32, ("good",))
    assert config.model.weights == "package"
    defaults = Config()
    for section, key in differences(text):
        assert getattr(getattr(config, section), key) != getattr(getattr(defaults, section), key), key
    assert ("data", "good_labels") not in differences(text)
    assert "  # good_labels:\n  # - good\n" in text
    assert all(len(line) <= 120 for line in text.splitlines() if str(castings.parent) not in line)


def test_it_names_the_two_commands_to_go_on_with(castings, written, tmp_path):
    text, _ = written(castings)
    for command in next_commands(tmp_path / "x.yaml"):
        assert f"#   {command}\n" in text
    assert next_commands(tmp_path / "a b.yaml")[0].endswith("a b.yaml' --dry-run")


def test_without_a_good_class_it_loads_as_well(tmp_path, draw, written):
    draw(tmp_path / "set" / "A", 6)
    draw(tmp_path / "set" / "b", 6)
    text, config = written(tmp_path / "set")
    assert config.data.good_labels == ()
    assert config.recipe.objective == "balanced_accuracy"
    assert config.promote.gates.min_balanced_accuracy == 0.5
    assert "run init anew with --good NAME" in text
    _, config = written(tmp_path / "set", "A")
    assert (config.data.good_labels, config.recipe.objective) == (("A",), "average_precision")


def test_it_keeps_strange_names(tmp_path, draw, written):
    """Of classes and folders: what YAML reads as something else, and letters that it does not take."""
    labels = ["no", "010", "null", "a: b #c", "'q\"", "Ø>2 mm, tief", "x\ufffey"]
    folder = tmp_path / "Los #7: 'A', [x] {ß}\u202e"
    for label in labels:
        draw(folder / label, 3)
    _, config = written(folder, "no", "010")
    assert config.data.source == f"folder:{folder}"
    assert config.data.good_labels == ("no", "010")
    assert config.project.name == "Los-7-A-x"


def test_parts_are_named_by_a_pattern_and_counted_by_part(tmp_path, draw, written):
    for label, first in (("good", 0), ("crack", 8)):
        draw(tmp_path / "set" / label, 48, name=lambda n, first=first: f"part{first + n // 6:02}_{n % 6}.png")
    text, config = written(tmp_path / "set")
    assert config.data.group_pattern is not None
    assert "The names of the files tell 16 parts (one: part00)" in text
    assert "Of 8 defective parts about" in text.replace("\n  # ", " ")


def test_parts_that_given_splits_divide_are_shown_and_not_set(tmp_path, draw, written):
    for split, first in (("train", 0), ("test", 3)):
        for label in ("good", "crack"):
            draw(
                tmp_path / "set" / split / label,
                18,
                name=lambda n, first=first, label=label: f"{label}{n // 3:02}_{first + n % 3}.png",
            )
    text, config = written(tmp_path / "set")
    assert config.data.group_pattern is None
    assert "  # group_pattern: " in text
    assert "in several of the given splits" in text.replace("\n  # ", " ")


@pytest.mark.parametrize(
    ("size", "expected"),
    [((20, 20), 32), ((64, 64), 64), ((100, 60), 96), ((224, 100), 224), ((200, 223), 192), ((2448, 2048), 224)],
)
def test_the_size_is_no_larger_than_the_images_and_one_that_networks_take(tmp_path, draw, size, expected):
    for label in ("good", "crack"):
        draw(tmp_path / label, 2, size=size)
    assert image_size(look_at(str(tmp_path), good=())) == expected


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("cpu", "The images are 2000 × 1200 px, 9 of them to one of the model's: raise the size for small defects. "
         "Without a GPU 128 is about three times as fast."),
        ("cuda", "The images are 2000 × 1200 px, 9 of them to one of the model's: raise the size for small defects."),
    ],
)  # fmt: skip
def test_what_is_said_of_the_size(tmp_path, draw, monkeypatch, target, said):
    import torch

    monkeypatch.setattr(module, "resolve_target", lambda compute: torch.device(target))
    for label in ("good", "crack"):
        draw(tmp_path / label, 1, size=(2000, 1200))
    entries = {entry.key: entry for entry in propose(look_at(str(tmp_path), good=()))}
    assert entries["image_size"].comment == said
    assert not entries["image_size"].is_active


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("castings", "castings"),
        ("Gußteile 2024", "Guteile-2024"),
        ("_.hidden-", "hidden"),
        ("图像", "images"),
        ("", "images"),
        ("escapement", "escapement-images"),
        ("x" * 99, "x" * 60),
    ],
)
def test_a_folders_name_becomes_one_of_a_project(folder, name):
    assert project_name(folder) == name
