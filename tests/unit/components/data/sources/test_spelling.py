"""Labels and groups that differ in their spelling alone, from any source."""

import unicodedata

import pytest

from components.data.files import Files
from components.data.sources.catalogue import list_source
from components.data.sources.listing import make_listing
from components.data.sources.spelling import settle_spelling
from components.errors import InputError


def listing(labels, *, groups=None, paths=None, splits=None, metadata=None):
    paths = paths or [f"{number:02}.png" for number in range(len(labels))]
    columns = {"path": paths, "label": labels, "group": groups, "split": splits}
    columns |= {f"meta_{name}": values for name, values in (metadata or {}).items()}
    return make_listing(Files("/images"), columns, description="images")


def settled(labels, *, policy="error", good_labels=("good",), **columns):
    return settle_spelling(listing(labels, **columns), good_labels=good_labels, labels=policy)


@pytest.mark.parametrize("other", ["good\u200b", "\u00a0good", "good ", "\ufeffgood"])
def test_what_no_eye_sees_makes_no_other_class_and_is_told(other):
    found = settled(["good", other, other, "bad"])
    assert found.table["label"].tolist() == ["good", "good", "good", "bad"]
    (note,) = found.notes
    assert note.startswith("The label of 2 images had ")
    assert note.endswith("; read as: good 2.")


def test_blanks_around_every_label_are_a_habit_and_not_told():
    found = settled([" good", " bad"])
    assert found.table["label"].tolist() == ["good", "bad"]
    assert found.notes == ()


def test_groups_splits_and_metadata_are_read_in_the_same_form():
    form = unicodedata.normalize("NFD", "Köln")
    found = settled(
        ["good", "bad"],
        groups=["L01", "L01\u200b"],
        splits=["train", "train\u200b"],
        metadata={"site": ["Köln", form]},
    )
    assert found.table["group"].tolist() == ["L01", "L01"]
    assert found.table["split"].tolist() == ["train", "train"]
    assert found.table["meta_site"].tolist() == ["Köln", "Köln"]
    assert [note.split(" of ")[0] for note in found.notes] == ["The group", "The split", "The site"]
    assert "another Unicode form; read as: Köln 1." in found.notes[2]


def test_a_label_of_which_nothing_is_visible_is_refused_and_a_group_is_none():
    with pytest.raises(InputError, match=r"1 images have a label of which nothing is visible \(the first: 01\.png\)"):
        listing(["good", "\u200b"])
    assert listing(["good"], groups=["\u200b"]).table["group"].tolist() == [None]


def test_labels_that_look_alike_are_refused_with_their_counts_and_the_remedy():
    with pytest.raises(InputError) as caught:
        settled(["good", "Good", "good", "bad"])
    assert "('good' 2, 'Good' 1)" in str(caught.value)
    assert "set data.label_spelling to merge (one class) or keep (different classes)" in str(caught.value)


def test_merged_labels_are_spelt_as_most_images_have_them():
    found = settled(["Bad", "Bad", "bad", "good"], policy="merge")
    assert found.table["label"].tolist() == ["Bad", "Bad", "Bad", "good"]
    assert found.notes == ("Labels that look alike count as one: 'bad' as 'Bad' (1).",)


@pytest.mark.parametrize("labels", [["Good", "Good", "good", "bad"], ["GOOD", "GOOD", "GOOD", "bad"]])
def test_merged_labels_are_spelt_as_the_good_labels_are(labels):
    assert settled(labels, policy="merge").table["label"].tolist() == ["good", "good", "good", "bad"]


def test_kept_labels_are_told():
    found = settled(["a", "A", "good"], policy="keep")
    assert found.table["label"].tolist() == ["a", "A", "good"]
    assert found.notes == ("Labels that look alike stay different classes: 'a' 1, 'A' 1.",)


def test_groups_that_look_alike_are_one_group():
    found = settled(["good"] * 3 + ["bad"], groups=["L01", "L01", "l01", None])
    assert found.table["group"].tolist() == ["L01", "L01", "L01", None]
    assert found.notes == ("Groups that look alike count as one: 'l01' as 'L01' (1).",)


def test_files_of_one_name_in_two_forms_stay_apart_and_are_told():
    paths = ["ö.png", unicodedata.normalize("NFD", "ö.png"), "x.png"]
    found = settled(["good", "good", "bad"], paths=paths)
    assert sorted(found.table["path"]) == sorted(paths)
    assert found.notes[0].endswith("count as images of their own: ö.png.")


def test_class_folders_of_one_name_in_two_forms_are_one_class(tmp_path, options, write_image):
    for name in ("für", unicodedata.normalize("NFD", "für"), "bad"):
        write_image(tmp_path / name / "1.png")
    found = list_source(f"folder:{tmp_path}", options())
    assert sorted(found.table["label"]) == ["bad", "für", "für"]
    assert "2 classes" in found.description
