"""Names: images, pictures that are not read, clutter; and how what was left out is said."""

from collections import Counter

import pytest
from PIL import Image

from components.data.decode import FORMATS
from components.data.image_files import IMAGE_SUFFIXES, UNREAD_SUFFIXES, LeftOut, is_clutter, is_image


@pytest.mark.parametrize("name", ["a.png", "A.JPG", "b.Tif", "c.jfif", "d.e.jp2", "photo.webp"])
def test_an_image_is_told_by_its_extension_in_any_case(name):
    assert is_image(name)


@pytest.mark.parametrize("name", ["a", "a.png.bak", "a.heic", "png", "a.txt", ".png"])
def test_other_files_are_no_images(name):
    assert not is_image(name)


CLUTTER = (
    "._a.png", ".thumbs", ".AppleDouble", ".Trash-1000", ".ipynb_checkpoints", "@eaDir", "@EADIR", "#snapshot", "@tmp",
    "$Recycle.Bin", "THUMBS.DB", "Desktop.ini", "system volume information", "lost+found", "mlruns",
)  # fmt: skip


@pytest.mark.parametrize("name", CLUTTER)
def test_what_a_system_leaves_is_clutter_in_any_case(name):
    assert is_clutter(name)


@pytest.mark.parametrize("name", ["good", "recycled", "tmp", "eaDir", "lost", "thumbs", "a.png", "snapshot"])
def test_what_a_person_may_call_a_class_is_no_clutter(name):
    assert not is_clutter(name)


def test_every_extension_that_counts_is_of_a_kind_that_can_be_decoded():
    kinds = {suffix: kind for suffix, kind in Image.registered_extensions().items() if suffix in IMAGE_SUFFIXES}
    assert {kind for kind in kinds.values() if kind not in FORMATS} <= {"DIB", "MPO"}  # as BMP and JPEG are read
    assert not IMAGE_SUFFIXES & UNREAD_SUFFIXES


def test_nothing_left_out_is_nothing_to_say():
    assert LeftOut().text == ""
    assert not LeftOut().holds_images


def test_long_lists_are_cut_to_the_most_frequent():
    others = Counter({f".x{number}": number for number in range(1, 8)})
    text = LeftOut(others=others, empty=[f"c{number}" for number in range(7)]).text
    assert text == (
        "7 class folders without images (c0, c1, c2, c3, c4 and 2 others), "
        "28 files without an image extension (.x3 3, .x4 4, .x5 5, .x6 6, .x7 7, …)"
    )
