"""The shortcut audit finds each planted cue, words it, and raises no false alarm."""

import numpy as np
import pandas as pd
import pytest

from components.data.audit import shortcuts
from components.data.audit.cues import CUES
from components.data.audit.shortcuts import audit_shortcuts

DAY = 86_400.0


def collection(count=200, *, seed=0, classes=("crack", "good")):
    """Statistics, paths and labels that have nothing to do with each other."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.resize(np.array(classes, dtype=object), count))
    statistics = pd.DataFrame(
        {
            "bytes": generator.integers(10_000, 90_000, count),
            "width": generator.choice([640, 800], count),
            "height": 600,
            "mode": generator.choice(["RGB", "L"], count),
            "format": generator.choice(["PNG", "JPEG"], count),
            "frames": 1,
            "orientation": 1,
            "modified": generator.permutation(count) * 60.0 + 1.7e9,
            "brightness": generator.uniform(0.3, 0.6, count).astype(np.float32),
            "contrast": generator.uniform(0.1, 0.2, count).astype(np.float32),
            "sharpness": generator.uniform(1, 3, count).astype(np.float32),
            "border": generator.uniform(-0.1, 0.1, count).astype(np.float32),
            "colour": generator.uniform(0, 0.1, count).astype(np.float32),
        }
    )
    paths = [
        f"{label}/part_{number:04d}.png" for label, number in zip(labels, generator.permutation(count), strict=True)
    ]
    return statistics, paths, labels


def audit(statistics, paths, labels, *, groups=None, seed=0):
    groups = np.array([f"g{n}" for n in range(len(labels))] if groups is None else groups, dtype=object)
    return audit_shortcuts(statistics, paths, np.asarray(labels), groups, seed=seed)


def named(found, name):
    return next(shortcut for shortcut in found if shortcut.name == name)


@pytest.mark.parametrize("seed", range(20))
def test_a_collection_without_shortcuts_raises_no_alarm(seed):
    for count in (24, 200):
        found = audit(*collection(count, seed=seed))
        assert [shortcut.name for shortcut in found if shortcut.suspicious] == []
        assert sorted(shortcut.name for shortcut in found) == sorted(CUES)


PLANTED = [
    ("file format", {"format": ("PNG", "JPEG")}, "all of its images are PNG, of the others none"),
    ("file format", {"orientation": (6, 1)}, "turned (EXIF orientation 6)"),
    ("file format", {"frames": (3, 1)}, "of 3 pages"),
    ("image size", {"width": (1024, 800)}, "all of its images are 1024 × 600 px, of the others none"),
    ("colour mode", {"mode": ("RGB", "L")}, "all of its images are of mode RGB, of the others none"),
    ("colour mode", {"colour": (0.2, 0.0)}, "coloured"),
    ("file size", {"bytes": (95_000, 9_000)}, "larger: median 95 kB, of the others 9 kB"),
    ("brightness", {"brightness": (0.21, 0.48)}, "darker: median 0.21, of the others 0.48"),
    ("contrast", {"contrast": (0.3, 0.1)}, "richer in contrast: median 0.30"),
    ("sharpness", {"sharpness": (0.5, 2.5)}, "less sharp: median 0.50"),
    ("border", {"border": (-0.3, 0.0)}, "darker at the border: median −0.30"),
    ("colour", {"colour": (0.3, 0.1)}, "more coloured: median 0.30"),
]


@pytest.mark.parametrize(("name", "values", "fact"), PLANTED)
def test_a_planted_cue_is_the_only_suspicion_and_is_told_in_words(name, values, fact):
    statistics, paths, labels = collection()
    for column, (crack, good) in values.items():
        statistics[column] = np.where(labels == "crack", crack, good)
    found = audit(statistics, paths, labels)
    planted = named(found, name)
    assert planted.suspicious
    assert planted.score == 1.0
    assert planted.high == 1.0
    # 100 of 100 groups in each class: the exact limit for 200 of 200 is 0.0183 below one.
    assert planted.low == pytest.approx(0.9817, abs=1e-3)
    assert fact in planted.statement
    # What is coloured has a mode of its own, so these two come together.
    assert {shortcut.name for shortcut in found if shortcut.suspicious} - {"colour", "colour mode"} <= {name}
    assert found[0].suspicious


def test_a_measure_of_the_picture_is_said_to_be_perhaps_the_defect():
    statistics, paths, labels = collection()
    statistics["brightness"] = np.where(labels == "crack", 0.2, 0.5)
    assert (
        "may be the defect itself, or the lamp or the camera"
        in named(audit(statistics, paths, labels), "brightness").statement
    )


def test_a_weak_difference_of_the_picture_is_no_suspicion_but_one_of_the_file_is():
    statistics, paths, labels = collection(1000)
    # Half of them PNG against none: balanced accuracy .75. Brightness that overlaps by half: .75 as well.
    part = np.random.default_rng(1).random(1000)
    statistics["format"] = np.where((labels == "crack") & (part < 0.5), "PNG", "JPEG")
    statistics["brightness"] = np.where(labels == "crack", part, part + 0.5)
    found = audit(statistics, paths, labels)
    assert named(found, "file format").score == pytest.approx(0.75, abs=0.03)
    assert named(found, "brightness").score == pytest.approx(0.75, abs=0.03)
    assert named(found, "file format").suspicious
    assert not named(found, "brightness").suspicious


def test_one_class_of_seven_that_is_all_png_is_found_and_named():
    classes = ("ash", "iron", "plate", "roll", "scale", "scratch", "slag")
    statistics, paths, labels = collection(350, classes=classes)
    statistics["format"] = np.where(labels == "roll", "PNG", "JPEG")
    found = audit(statistics, paths, labels)
    assert found[0].name == "file format"
    assert found[0].label == "roll"
    assert found[0].statement.startswith("Class roll can be told by file format alone (balanced accuracy 1.00")


def test_files_numbered_class_by_class_are_an_order_that_tells():
    statistics, _, labels = collection()
    number = np.argsort(np.argsort(labels, kind="stable"))
    paths = [f"images/{n}.png" for n in number]
    order = named(audit(statistics, paths, labels), "file order")
    assert order.suspicious
    assert order.score > 0.97
    assert "between 5.png and 94.png" in order.statement  # the middle nine tenths of 0 to 99
    assert "A model never sees it" in order.statement


def test_a_class_that_comes_in_two_runs_is_found_in_the_order():
    statistics, _, labels = collection(400)
    labels = np.array(["good", "crack", "good", "crack"], dtype=object).repeat(100)
    order = named(audit(statistics, [f"cell{n:04d}.png" for n in range(400)], labels), "file order")
    assert order.suspicious
    assert "of the images are of that class, from cell" in order.statement


@pytest.mark.parametrize("pattern", ["{label}/{n:03d}.png", "{label}_{n:03d}.png", "all/{label}{n}.png"])
def test_numbers_that_count_anew_in_each_class_say_nothing(pattern):
    # The larger class has the larger numbers, which would tell it.
    labels = np.array(["crack"] * 40 + ["good"] * 160, dtype=object)
    number = np.r_[np.arange(40), np.arange(160)]
    statistics, _, _ = collection()
    paths = [pattern.format(label=label, n=n) for label, n in zip(labels, number, strict=True)]
    order = named(audit(statistics, paths, labels), "file order")
    assert (order.score, order.suspicious) == (0.5, False)
    assert "count anew in each class" in order.statement


def test_names_without_numbers_say_nothing_about_the_order():
    statistics, paths, labels = collection()
    order = named(audit(statistics, ["photo.png"] * len(paths), labels), "file order")
    assert "hold no numbers" in order.statement


def test_classes_taken_on_different_days_are_told_by_the_time_stamp():
    statistics, paths, labels = collection()
    statistics["modified"] += np.where(labels == "crack", 0.0, 30 * DAY)
    time = named(audit(statistics, paths, labels), "time stamp")
    assert time.suspicious
    assert time.score == 1.0
    assert "2023-11-1" in time.statement  # 1.7e9 s is 14 November 2023


@pytest.mark.parametrize(
    ("modified", "reason"),
    [
        (np.sort(np.random.default_rng(0).random(200)), "as copying or unpacking does"),
        (np.full(200, np.nan), "most files have no time stamp"),
        (np.full(200, 5.0), "as copying or unpacking does"),
    ],
)
def test_time_stamps_of_a_copy_or_none_are_not_informative(modified, reason):
    statistics, paths, labels = collection()
    labels = np.sort(labels)
    statistics["modified"] = modified
    time = named(audit(statistics, paths, labels), "time stamp")
    assert (time.score, time.low, time.high, time.suspicious) == (0.5, 0.5, 0.5, False)
    assert reason in time.statement


def test_a_few_missing_time_stamps_do_no_harm():
    statistics, paths, labels = collection()
    statistics["modified"] += np.where(labels == "crack", 0.0, 30 * DAY)
    statistics.loc[:20, "modified"] = np.nan
    assert named(audit(statistics, paths, labels), "time stamp").suspicious


def test_a_cue_that_never_varies_scores_chance_and_says_so():
    statistics, paths, labels = collection()
    statistics["format"], statistics["brightness"] = "PNG", 0.5
    found = audit(statistics, paths, labels)
    assert named(found, "brightness").statement == "All images are alike: 0.50."
    assert named(found, "file format").statement == "All images are alike: PNG, named .png, of one page, upright."
    assert not named(found, "file format").suspicious


def test_a_cue_that_only_tells_the_groups_apart_is_no_shortcut():
    statistics, paths, labels = collection()
    groups = np.repeat([f"lot{n}" for n in range(20)], 10)
    statistics["brightness"] = np.repeat(np.random.default_rng(3).permutation(20) / 20, 10)
    labels = np.repeat(np.random.default_rng(4).permutation(np.resize(["crack", "good"], 20)), 10)
    assert not named(audit(statistics, paths, labels, groups=groups), "brightness").suspicious


def test_many_image_sizes_are_compared_as_areas():
    statistics, paths, labels = collection()
    statistics["width"] = np.where(labels == "crack", 2000, 800) + np.arange(200)
    size = named(audit(statistics, paths, labels), "image size")
    assert size.suspicious
    assert "larger: median 1.3 megapixels" in size.statement


@pytest.mark.parametrize(
    ("labels", "groups"),
    [(["good"] * 6, "abcdef"), (["good", "crack"], "ab"), (["good"] * 5 + ["crack"], "abcdef"), ([], "")],
)
def test_less_than_two_classes_with_two_groups_are_not_tested(labels, groups):
    statistics, paths, _ = collection(6)
    found = audit(statistics.iloc[: len(labels)], paths[: len(labels)], np.array(labels, object), groups=list(groups))
    assert {shortcut.name for shortcut in found} == set(CUES)
    assert all(shortcut.statement.startswith("Not tested") and not shortcut.suspicious for shortcut in found)


def test_the_same_seed_gives_the_same_audit_whatever_the_index():
    statistics, paths, labels = collection()
    statistics["format"] = np.where(labels == "crack", "PNG", "JPEG")
    first = audit(statistics, paths, labels)
    assert first == audit(statistics.set_index(np.arange(200)[::-1]), paths, labels)
    assert first[0].name == "file format"
    assert named(first, "file format").score == 1.0


def test_each_class_against_the_others_has_its_balanced_accuracy():
    y, told = np.array([0, 0, 0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 0, 2, 2])
    # Of class 0 three of four, of the others three of four; of class 1 one of two and five of six; class 2 all.
    assert shortcuts._against_others(told, y, 3) == pytest.approx([0.75, (1 / 2 + 5 / 6) / 2, 1.0])
