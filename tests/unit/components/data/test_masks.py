"""Masks: areas and sides counted by hand on drawn blobs."""

import io
import math

import numpy as np
import pytest
from PIL import Image

from components.data.decode import DecodeError
from components.data.framing import Framing, frame_boxes
from components.data.masks import mask_statistics, read_mask, size_that_shows


def framing(**changes):
    fields = {"size": 50, "region": None, "fit": "squash", "tile_size": None, "tile_overlap": 0.25}
    return Framing(**(fields | changes))


def mask_of(height, width, *blobs):
    """blobs: (left, top, right, bottom), right and bottom excluded."""
    mask = np.zeros((height, width), bool)
    for left, top, right, bottom in blobs:
        mask[top:bottom, left:right] = True
    return mask


def statistics(mask, chosen):
    return mask_statistics(mask, frame_boxes(mask.shape[1], mask.shape[0], chosen), chosen)


# -- statistics


def test_a_mask_without_a_defect_has_area_zero_and_no_side():
    ((area, side),) = statistics(mask_of(100, 100), framing())
    assert area == 0.0
    assert math.isnan(side)


def test_a_mask_that_is_all_defect_has_area_one_and_the_side_of_the_square():
    assert statistics(np.ones((100, 200), bool), framing()) == [(1.0, 50.0)]


def test_area_is_a_share_and_the_side_is_that_after_resizing():
    # 20 wide and 8 high in 100 x 100 at size 50: 10 by 4.
    assert statistics(mask_of(100, 100, (10, 10, 30, 18)), framing()) == [(pytest.approx(0.016), pytest.approx(4.0))]


def test_each_axis_has_a_scale_of_its_own_when_the_image_is_squashed():
    # 200 wide, 100 high: across a quarter, down a half. 16 wide is 4, 10 high is 5.
    ((_, side),) = statistics(mask_of(100, 200, (40, 40, 56, 50)), framing())
    assert side == pytest.approx(4.0)


def test_a_letterbox_scales_both_axes_alike():
    ((_, side),) = statistics(mask_of(100, 200, (40, 40, 56, 50)), framing(fit="letterbox"))
    assert side == pytest.approx(2.5)  # 10 high, a quarter


def test_of_several_blobs_the_one_with_the_shortest_side_counts():
    # The scratch has the larger area and the shorter side.
    ((_, side),) = statistics(mask_of(100, 100, (0, 0, 90, 2), (10, 50, 20, 58)), framing())
    assert side == pytest.approx(1.0)


def test_pixels_that_touch_at_a_corner_are_one_blob():
    stairs = np.eye(100, dtype=bool)
    ((_, side),) = statistics(stairs, framing())
    assert side == pytest.approx(50.0)


def test_a_single_pixel_is_a_slip_beside_a_defect_and_a_defect_when_it_is_alone():
    alone = mask_of(100, 100, (5, 5, 6, 6))
    assert statistics(alone, framing())[0] == (pytest.approx(0.0001), pytest.approx(0.5))
    beside = mask_of(100, 100, (5, 5, 6, 6), (50, 50, 60, 60))
    assert statistics(beside, framing())[0] == (pytest.approx(0.0101), pytest.approx(5.0))


def test_what_lies_outside_of_the_region_does_not_count():
    mask = mask_of(100, 100, (0, 0, 10, 10), (50, 50, 60, 54))
    ((area, side),) = statistics(mask, framing(region=(40, 40, 90, 90)))
    assert area == pytest.approx(40 / 2500)
    assert side == pytest.approx(4.0)


def test_every_tile_has_its_own_figures():
    tiles = framing(tile_size=50, tile_overlap=0.0)
    results = statistics(mask_of(100, 100, (10, 10, 20, 30), (60, 60, 63, 70)), tiles)
    assert [area for area, _ in results] == pytest.approx([200 / 2500, 0, 0, 30 / 2500])
    assert [results[0][1], results[3][1]] == pytest.approx([10.0, 3.0])
    assert math.isnan(results[1][1])
    assert math.isnan(results[2][1])


def test_a_blob_that_a_tile_cuts_counts_in_both_with_its_whole_side():
    tiles = framing(tile_size=50, tile_overlap=0.0)
    (left, right) = statistics(mask_of(50, 100, (42, 10, 51, 30)), tiles)  # 9 wide, one column in the right tile
    assert (left[0], right[0]) == (pytest.approx(8 * 20 / 2500), pytest.approx(20 / 2500))
    assert (left[1], right[1]) == (pytest.approx(9.0), pytest.approx(9.0))


# -- reading


@pytest.mark.parametrize("marked", [1, 7, 255])
def test_every_value_but_zero_is_the_defect(encode, marked):
    mask = mask_of(6, 9, (2, 1, 5, 3))
    data = encode(mask.astype(np.uint8) * marked)
    read = read_mask(data, width=9, height=6)
    assert read.dtype == bool
    np.testing.assert_array_equal(read, mask)


def test_class_numbers_in_sixteen_bits_do_not_vanish(encode):
    mask = mask_of(6, 9, (2, 1, 5, 3))
    np.testing.assert_array_equal(read_mask(encode(mask.astype(np.uint16)), width=9, height=6), mask)


def test_one_bit_palette_and_colour_masks_are_read_alike(encode):
    mask = mask_of(6, 9, (2, 1, 5, 3))
    palette = Image.fromarray(mask.astype(np.uint8), mode="P")
    palette.putpalette([0, 0, 0, 0, 0, 200])
    blue = np.stack([np.zeros_like(mask), np.zeros_like(mask), mask], axis=2).astype(np.uint8) * 9
    for picture in (Image.fromarray(mask.astype(np.uint8) * 255).convert("1"), palette, Image.fromarray(blue)):
        np.testing.assert_array_equal(read_mask(encode(picture), width=9, height=6), mask)


def test_the_ringing_of_a_jpeg_is_no_defect(encode):
    mask = mask_of(64, 64, (13, 13, 41, 41))
    data = encode(mask.astype(np.uint8) * 255, "JPEG", quality=60)
    assert (np.asarray(Image.open(io.BytesIO(data))) > 0).sum() > mask.sum()
    assert abs(int(read_mask(data, width=64, height=64).sum()) - int(mask.sum())) <= 24


@pytest.mark.parametrize(
    ("kind", "settings"),
    [("JPEG", {}), ("WEBP", {"quality": 60}), ("TIFF", {"compression": "jpeg"}), ("JPEG2000", {"irreversible": True})],
)
@pytest.mark.parametrize("marked", [128, 255])
def test_a_lossy_mask_is_cut_at_half_of_what_it_marks_with(encode, kind, settings, marked):
    mask = mask_of(128, 128, (29, 29, 83, 83))
    data = encode(mask.astype(np.uint8) * marked, kind, **settings)
    assert abs(int(read_mask(data, width=128, height=128).sum()) - int(mask.sum())) <= 60  # of a border of 216
    empty = encode(mask_of(128, 128).astype(np.uint8), kind, **settings)
    assert not read_mask(empty, width=128, height=128).any()


@pytest.mark.parametrize(("kind", "settings"), [("WEBP", {"lossless": True}), ("JPEG2000", {}), ("TIFF", {})])
def test_class_numbers_of_a_lossless_mask_count_whatever_its_format(encode, kind, settings):
    mask = mask_of(64, 64, (13, 13, 41, 41))
    data = encode(mask.astype(np.uint8) * 3, kind, **settings)
    np.testing.assert_array_equal(read_mask(data, width=64, height=64), mask)


def test_what_is_painted_on_a_transparent_layer_is_the_defect_and_an_empty_layer_is_none(encode):
    mask = mask_of(6, 9, (2, 1, 5, 3))
    layer = np.stack([np.full_like(mask, 1), mask, mask, mask], axis=2).astype(np.uint8) * 255
    np.testing.assert_array_equal(read_mask(encode(layer), width=9, height=6), mask)
    assert not read_mask(encode(layer * 0), width=9, height=6).any()


def test_masks_of_whole_or_floating_point_numbers_of_32_bits_are_read(encode):
    mask = mask_of(6, 9, (2, 1, 5, 3))
    for values in (mask.astype(np.int32) * 70000, mask.astype(np.float32) * 0.5, mask.astype(np.float32) * 255):
        np.testing.assert_array_equal(read_mask(encode(Image.fromarray(values), "TIFF"), width=9, height=6), mask)


def test_a_mask_is_turned_upright_as_its_image_is(encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    mask = mask_of(6, 9, (2, 1, 5, 3))
    for values in (mask.astype(np.uint8), mask.astype(np.uint16)):
        np.testing.assert_array_equal(read_mask(encode(values, exif=exif), width=6, height=9), np.rot90(mask, -1))


def test_a_mask_of_another_size_is_refused_with_both_sizes(encode):
    with pytest.raises(DecodeError, match="mask is 9 × 6 px, and the image 6 × 9"):
        read_mask(encode(mask_of(6, 9)), width=6, height=9)


def test_a_mask_that_is_no_image_is_refused():
    with pytest.raises(DecodeError, match="not an image"):
        read_mask(b"nothing", width=6, height=9)


# -- the size that would do


def test_the_size_is_scaled_to_the_smallest_defect_and_rounded_up_to_thirty_two():
    assert size_that_shows(np.array([2.0, 9.0]), 128, 3.0) == 192  # 128 * 3 / 2
    assert size_that_shows(np.array([2.1, 9.0]), 128, 3.0) == 192  # 182.9
    assert size_that_shows(np.array([1.9]), 128, 3.0) == 224  # 202.1


def test_one_defect_in_twenty_may_be_smaller():
    sides = np.array([0.1] + [4.0] * 19)
    assert size_that_shows(sides, 128, 4.0) == 128
    assert size_that_shows(sides[:-1], 128, 4.0) == 5120  # one in nineteen is more than 5 %


def test_missing_sides_are_left_out_and_without_any_the_size_stays():
    assert size_that_shows(np.array([math.nan, 2.0]), 64, 4.0) == 128
    assert size_that_shows(np.array([math.nan]), 100, 4.0) == 100
    assert size_that_shows(np.array([]), 100, 4.0) == 100
