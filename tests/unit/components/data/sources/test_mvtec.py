"""The layout of MVTec AD, as published and as other sets are exported in it."""

import unicodedata
import zipfile

import pytest

from components.data.sources.catalogue import list_source
from components.errors import InputError

BOTTLE = (
    "train/good/000.png",
    "train/good/001.png",
    "train/good/002.png",
    "test/good/000.png",
    "test/crack/000.png",
    "test/crack/001.png",
    "test/missing cap/000.png",
    "ground_truth/crack/000_mask.png",
    "ground_truth/crack/001_mask.png",
    "ground_truth/missing cap/000_mask.png",
)


@pytest.fixture
def bottle(tmp_path, write_image):
    for name in BOTTLE:
        write_image(tmp_path / "bottle" / name)
    return tmp_path / "bottle"


def test_train_and_test_are_pooled_without_a_split_and_with_their_masks(bottle, options):
    listing = list_source(f"mvtec:{bottle}", options())
    assert list(listing.table.itertuples(index=False, name=None)) == [
        ("test/crack/000.png", "crack", None, None, "ground_truth/crack/000_mask.png", "test"),
        ("test/crack/001.png", "crack", None, None, "ground_truth/crack/001_mask.png", "test"),
        ("test/good/000.png", "good", None, None, None, "test"),
        ("test/missing cap/000.png", "missing cap", None, None, "ground_truth/missing cap/000_mask.png", "test"),
        ("train/good/000.png", "good", None, None, None, "train"),
        ("train/good/001.png", "good", None, None, None, "train"),
        ("train/good/002.png", "good", None, None, None, "train"),
    ]
    assert list(listing.table.columns) == ["path", "label", "group", "split", "mask", "meta_original_split"]
    assert "good and 2 defect types, 7 files, 3 masks" in listing.description


def test_the_pooling_is_said_with_counts(bottle, options):
    assert list_source(f"mvtec:{bottle}", options()).notes == (
        "train/ (3 images) holds good images only, so train/ and test/ (4 images) were pooled and are split anew.",
    )


def test_missing_and_left_over_masks_are_said_with_counts(bottle, options):
    (bottle / "ground_truth/crack/001_mask.png").rename(bottle / "ground_truth/crack/009_mask.png")
    (bottle / "ground_truth/missing cap/000_mask.png").unlink()
    listing = list_source(f"mvtec:{bottle}", options())
    assert listing.table["mask"].notna().sum() == 1
    assert listing.notes[1:] == (
        "2 defective images have no mask in ground_truth/ (crack 1, missing cap 1).",
        "1 masks in ground_truth/ belong to no image of test/.",
    )


def test_visas_export_is_read_with_its_photographs_and_masks_without_a_suffix(tmp_path, options, write_image):
    for name in ("train/good/0000.JPG", "test/good/0001.JPG", "test/bad/000.JPG", "ground_truth/bad/000.png"):
        write_image(tmp_path / name)
    table = list_source(f"mvtec:{tmp_path}", options()).table.set_index("path")
    assert table["mask"].to_dict() == {
        "train/good/0000.JPG": None,
        "test/good/0001.JPG": None,
        "test/bad/000.JPG": "ground_truth/bad/000.png",
    }


def test_a_mask_named_as_such_goes_before_a_file_of_the_images_name(bottle, options, write_image):
    write_image(bottle / "ground_truth/crack/000.png")
    table = list_source(f"mvtec:{bottle}", options()).table.set_index("path")
    assert table["mask"]["test/crack/000.png"] == "ground_truth/crack/000_mask.png"


def test_a_set_without_masks_is_taken_and_said(tmp_path, options, write_image):
    for name in ("train/good/0.png", "test/good/1.png", "test/bad/2.png"):
        write_image(tmp_path / name)
    listing = list_source(f"mvtec:{tmp_path}", options())
    assert listing.table["mask"].tolist() == [None] * 3
    assert listing.notes[1] == "1 defective images have no mask in ground_truth/ (bad 1)."


def test_a_root_of_several_categories_names_them_and_says_to_give_one(bottle, options, write_image):
    for name in BOTTLE:
        write_image(bottle.parent / "cable" / name)
    with pytest.raises(InputError, match=r"2 categories \(bottle, cable\); give one.*data\.source=mvtec:.*/bottle$"):
        list_source(f"mvtec:{bottle.parent}", options())


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (("good/a.png", "crack/b.png"), "is not laid out as MVTec AD.*it has: crack, good"),
        (("train/good/a.png",), "is not laid out as MVTec AD.*it has: train"),
        (("train/good/a.png", "test/readme.txt"), "is not laid out as MVTec AD.*it has: test, train"),
        (("train/good/a.png", "test/crack/notes.txt"), r"no images in test; left out: 1 without an image extension"),
        (("train/good/a.txt", "test/crack/a.png"), "no images in train/good; left out"),
        (("train/good/a.png", "train/crack/b.png", "test/good/a.png"), "train/crack beside train/good"),
    ],
)
def test_another_layout_is_refused_and_said_to_be_so(tmp_path, options, write_image, names, reason):
    for name in names:
        write_image(tmp_path / name)
    with pytest.raises(InputError, match=reason):
        list_source(f"mvtec:{tmp_path}", options())


def test_an_empty_folder_and_a_missing_one_are_refused(tmp_path, options):
    with pytest.raises(InputError, match="it has: no folder"):
        list_source(f"mvtec:{tmp_path}", options())
    with pytest.raises(InputError, match=r"data\.source='mvtec:/nowhere/at/all' is not a folder"):
        list_source("mvtec:/nowhere/at/all", options())


def test_what_is_not_of_the_layout_is_counted(bottle, options, write_image):
    (bottle / "license.txt").write_text("x", encoding="utf-8")
    write_image(bottle / "train/good/.hidden.png")
    write_image(bottle / "extra/x/a.png")
    description = list_source(f"mvtec:{bottle}", options()).description
    assert "7 files" in description
    assert "1 hidden, 2 outside class folders" in description


def test_a_mask_that_is_a_link_out_of_the_folder_is_refused(bottle, options, write_image):
    outside = write_image(bottle.parent / "outside.png")
    (bottle / "ground_truth/crack/005_mask.png").symlink_to(outside)
    with pytest.raises(InputError, match=r"005_mask\.png is a link that leaves"):
        list_source(f"mvtec:{bottle}", options())


def test_an_archive_is_read_like_a_folder(bottle, options):
    archive = bottle.parent / "mvtec.zip"
    with zipfile.ZipFile(archive, "w") as stream:
        for name in BOTTLE:
            stream.write(bottle / name, f"bottle/{name}")
    inside = list_source(f"mvtec:zip://bottle::{archive}", options())
    assert inside.table.equals(list_source(f"mvtec:{bottle}", options()).table)
    with pytest.raises(InputError, match=r"1 categories \(bottle\); give one"):
        list_source(f"mvtec:zip://::{archive}", options())


def test_columns_that_the_layout_has_not_are_refused(bottle, options):
    with pytest.raises(InputError, match=r"data\.mask_column='mask'.*columns are: original_split"):
        list_source(f"mvtec:{bottle}", options(mask_column="mask"))
    assert len(list_source(f"mvtec:{bottle}", options(metadata_columns=("original_split",))).table) == 7


def test_masks_belong_to_images_whose_names_have_another_unicode_form(tmp_path, options, write_image):
    kind = "Blöße"
    for name in ("train/good/0.png", "test/good/0.png", f"test/{kind}/ä.png"):
        write_image(tmp_path / name)
    mask = unicodedata.normalize("NFD", f"ground_truth/{kind}/ä_mask.png")
    write_image(tmp_path / mask)
    table = list_source(f"mvtec:{tmp_path}", options()).table
    assert table["mask"].dropna().tolist() == [mask]
