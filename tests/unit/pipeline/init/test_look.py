"""A look at a folder: its layout is told or refused, with what to do, and never guessed."""

import os

import pytest

from components.errors import InputError
from pipeline.init.look import look_at


def look(folder, *good):
    return look_at(str(folder), good=good)


def refusal(folder, *good):
    with pytest.raises(InputError) as caught:
        look(folder, *good)
    return str(caught.value)


# --- layouts


def test_a_folder_per_class(castings):
    (castings / ".DS_Store").write_bytes(b"x")
    (castings / "phone.heic").write_bytes(b"x")
    found = look(castings)
    assert (found.name, found.layout, found.counts) == ("castings", "a folder per class", {"good": 20, "scratch": 12})
    assert found.data == {"source": f"folder:{castings}", "good_labels": ["good"]}
    assert (found.sizes.width, found.sizes.height, found.sizes.alike) == (40, 30, True)
    assert found.is_defect.sum() == 12
    assert found.listing.left_out.text.startswith("1 picture of kinds that are not read (.heic 1; convert")
    assert found.notes == ()


def test_split_folders_above_the_class_folders(tmp_path, draw):
    for split, count in (("train", 8), ("test", 4)):
        for label in ("ok", "crack"):
            draw(tmp_path / split / label, count)
    found = look(tmp_path)
    assert found.layout == "a folder per class in given splits"
    assert found.counts == {"crack": 12, "ok": 12}
    assert found.listing.table["split"].value_counts().to_dict() == {"train": 16, "test": 8}


def test_the_layout_of_mvtec_with_masks_or_without(tmp_path, draw):
    draw(tmp_path / "train" / "good", 8)
    draw(tmp_path / "test" / "good", 4)
    draw(tmp_path / "test" / "crack", 6)
    found = look(tmp_path)
    assert (found.layout, found.data["source"]) == ("MVTec AD's layout", f"mvtec:{tmp_path}")
    assert found.counts == {"good": 12, "crack": 6}


@pytest.mark.parametrize("below", ["", "pictures"])
def test_a_table_beside_the_images(tmp_path, draw, below):
    draw(tmp_path / below, 24)
    rows = [f"{number:03}.png;{'good' if number % 2 else 'crack'};p{number // 4}" for number in range(24)]
    (tmp_path / "list.csv").write_text("\n".join(["File;label;part", *rows]))
    found = look(tmp_path)
    assert found.layout == "images with the table list.csv"
    root = {"root": f"{tmp_path}/{below}"} if below else {}
    assert found.data == {
        "source": f"csv:{tmp_path}/list.csv",
        "path_column": "File",
        "group_column": "part",
        "good_labels": ["good"],
        **root,
    }
    assert found.listing.table["group"].nunique() == 6


def test_the_folder_is_found_from_where_one_stands(castings, monkeypatch):
    monkeypatch.chdir(castings)
    monkeypatch.setenv("HOME", str(castings.parent))
    assert look(".").data == look("../castings").data == look("~/castings").data == look(castings).data


def test_an_archive_at_an_address_is_a_folder_as_well(castings, tmp_path):
    import shutil

    archive = shutil.make_archive(str(tmp_path / "lot7"), "zip", castings)
    found = look(f"zip://::{archive}")
    assert (found.name, found.counts) == ("lot7.zip", {"good": 20, "scratch": 12})


# --- classes


def test_classes_that_look_alike_become_one(tmp_path, draw):
    for label, count in (("Good", 4), ("good", 6), ("crack", 5)):
        draw(tmp_path / label, count)
    found = look(tmp_path)
    assert found.data["label_spelling"] == "merge"
    assert found.counts == {"good": 10, "crack": 5}


def test_classes_without_a_good_name_are_kinds_of_defects_unless_one_is_given(tmp_path, draw):
    draw(tmp_path / "A", 6)
    draw(tmp_path / "b", 5)
    assert look(tmp_path).data["good_labels"] == []
    assert look(tmp_path, "a").data["good_labels"] == ["A"]
    assert "--good=c: is no class of these images; they are: A, b" in refusal(tmp_path, "c")


def test_what_a_run_would_refuse_is_said(tmp_path, draw):
    draw(tmp_path / "good", 12)
    draw(tmp_path / "crack", 1)
    (note,) = look(tmp_path).notes
    assert note.startswith("a run will refuse this: ")
    assert "crack" in note


# --- groups


def test_parts_in_the_names_of_files_are_groups(tmp_path, draw):
    draw(tmp_path / "good", 36, name=lambda number: f"part{number // 6:02}_{number % 6}.png")
    draw(tmp_path / "crack", 36, name=lambda number: f"part{6 + number // 6:02}_{number % 6}.png")
    found = look(tmp_path)
    assert found.groups is not None
    assert found.data["group_pattern"] == found.groups.pattern
    assert found.listing.table["group"].nunique() == found.groups.groups == 12


def test_parts_that_the_given_splits_divide_are_no_groups(tmp_path, draw):
    for split, first in (("train", 0), ("test", 3)):
        for label in ("good", "crack"):
            draw(
                tmp_path / split / label,
                18,
                name=lambda number, first=first, label=label: f"{label}{number // 3:02}_{first + number % 3}.png",
            )
    found = look(tmp_path)
    assert found.torn
    assert "group_pattern" not in found.data
    assert found.listing.table["group"].isna().all()


# --- what is refused


def test_a_folder_that_is_none(tmp_path):
    (tmp_path / "x.png").write_bytes(b"x")
    assert "FOLDER='" in refusal(tmp_path / "x.png")
    assert "x.png' is not a folder; give the one that the images lie in" in refusal(tmp_path / "x.png")
    assert "none' is not a folder" in refusal(tmp_path / "none")


def test_a_folder_without_images(tmp_path):
    assert f"FOLDER={tmp_path}: holds no images (of " in refusal(tmp_path)
    (tmp_path / "good").mkdir()
    (tmp_path / "good" / "notes.txt").write_text("x")
    (tmp_path / "good" / "a.heic").write_bytes(b"x")
    assert "left out: 1 picture of kinds that are not read" in refusal(tmp_path)


def test_files_that_are_no_images(tmp_path):
    for label in ("good", "crack"):
        (tmp_path / label).mkdir()
        (tmp_path / label / "a.png").write_bytes(b"x")
    assert "none of 2 images that were looked at is one (crack/a.png: not an image" in refusal(tmp_path)


def test_images_in_no_class_folder_and_no_table(tmp_path, draw):
    draw(tmp_path, 5)
    said = refusal(tmp_path)
    assert "5 images lie in no class folders, and no table beside them names their classes; put" in said


def test_images_of_one_class(tmp_path, draw):
    draw(tmp_path / "good", 5)
    assert "all 5 images are of one class, good; a model needs" in refusal(tmp_path)


def test_classes_that_lie_deeper(tmp_path, draw):
    for line in ("line1", "line2"):
        for label in ("good", "scratch"):
            draw(tmp_path / line / label, 3)
    said = refusal(tmp_path)
    assert "its classes seem to lie deeper, in line1, line2; give the folder whose sub-folders are the classes" in said
    assert look(tmp_path, "line1").counts == {"line1": 6, "line2": 6}  # as it is told


def test_folders_of_folders_of_folders(tmp_path, draw):
    for place in ("a/b/c", "a/d/e", "f/g/h"):
        draw(tmp_path / place, 3)
    said = refusal(tmp_path)
    assert "holds folders of folders (the first image: a/b/c/000.png), and which of them are the classes" in said
    assert "if a, f are the classes, name the good ones with --good" in said


def test_the_categories_of_mvtec_are_tasks_of_their_own(tmp_path, draw):
    for category in ("bottle", "cable"):
        for place in ("train/good", "test/good", "test/crack", "ground_truth/crack"):
            draw(tmp_path / category / place, 3)
    assert f"write data.source=mvtec:{tmp_path}/bottle" in refusal(tmp_path)


def test_an_address_with_a_password(tmp_path):
    said = refusal("s3://key:secret@bucket/castings")
    assert "the configuration would hold the password" in said
    assert "secret" not in said


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="needs folders that cannot be read")
def test_a_folder_that_cannot_be_read(castings):
    (castings / "good").chmod(0)
    try:
        assert "castings/good cannot be listed (Permission denied); allow it to be read" in refusal(castings)
    finally:
        (castings / "good").chmod(0o700)
