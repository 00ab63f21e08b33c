"""Framing: which pixels become which square, by hand, and that grey and colour, training and line, agree."""

import ast
import itertools
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from components.data import framing as module
from components.data.framing import (
    Framing,
    FramingError,
    fitted_size,
    frame_boxes,
    iter_frames,
)


def framing(**changes):
    fields = {"size": 16, "region": None, "fit": "squash", "tile_size": None, "tile_overlap": 0.25}
    return Framing(**(fields | changes))


def frame_image(pixels, framing):
    """All squares, (T, size, size, 3)."""
    return np.stack([square for _, square in iter_frames(pixels, framing)])


def noise(height, width, *, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


# -- boxes


def test_without_region_or_tiles_the_box_is_the_image():
    assert frame_boxes(40, 30, framing()) == [(0, 0, 40, 30)]


def test_the_box_of_a_region_is_the_region_and_may_end_at_the_edge():
    assert frame_boxes(40, 30, framing(region=(5, 6, 40, 30))) == [(5, 6, 40, 30)]


@pytest.mark.parametrize("size", [(39, 30), (40, 29), (1, 1)])
def test_an_image_that_is_smaller_than_the_region_is_refused_with_both_sizes(size):
    with pytest.raises(FramingError, match=rf"{size[0]} × {size[1]} px.*region 5,6,40,30"):
        frame_boxes(*size, framing(region=(5, 6, 40, 30)))
    with pytest.raises(FramingError):
        frame_image(np.zeros((size[1], size[0], 3), np.uint8), framing(region=(5, 6, 40, 30)))


def test_tiles_are_spread_evenly_row_by_row_and_the_last_ends_at_the_edge():
    # 100 wide, tiles of 40 that share 10: steps of 30, so two gaps. 70 high: one gap of 30.
    boxes = frame_boxes(100, 70, framing(tile_size=40))
    assert boxes == [
        (0, 0, 40, 40), (30, 0, 70, 40), (60, 0, 100, 40),
        (0, 30, 40, 70), (30, 30, 70, 70), (60, 30, 100, 70),
    ]  # fmt: skip


def test_one_pixel_more_takes_one_tile_more():
    assert [box[0] for box in frame_boxes(101, 40, framing(tile_size=40))] == [0, 20, 40, 61]


def test_without_overlap_the_tiles_stand_side_by_side():
    assert frame_boxes(80, 40, framing(tile_size=40, tile_overlap=0.0)) == [(0, 0, 40, 40), (40, 0, 80, 40)]


def test_an_image_as_large_as_a_tile_is_one_tile_and_a_smaller_one_is_taken_as_it_is():
    assert frame_boxes(40, 40, framing(tile_size=40)) == [(0, 0, 40, 40)]
    assert frame_boxes(25, 12, framing(tile_size=40)) == [(0, 0, 25, 12)]
    assert frame_boxes(25, 70, framing(tile_size=40)) == [(0, 0, 25, 40), (0, 30, 25, 70)]


def test_tiles_cover_the_region_and_nothing_else():
    boxes = frame_boxes(200, 200, framing(region=(20, 30, 120, 100), tile_size=40))
    assert boxes[0] == (20, 30, 60, 70)
    assert boxes[-1] == (80, 60, 120, 100)
    assert len(boxes) == 6


@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    tile=st.integers(16, 300),
    overlap=st.floats(0, 0.5),
)
def test_tiles_miss_no_pixel_and_neighbours_share_what_was_asked(width, height, tile, overlap):
    boxes = frame_boxes(width, height, framing(tile_size=tile, tile_overlap=overlap))
    for begin, end, length in ((0, 2, width), (1, 3, height)):
        sides = sorted({(box[begin], box[end]) for box in boxes})
        assert sides[0][0] == 0
        assert sides[-1][1] == length
        assert all(stop - start == min(tile, length) for start, stop in sides)
        shared = [first[1] - second[0] for first, second in itertools.pairwise(sides)]
        assert all(pixels >= tile * overlap - 1e-6 for pixels in shared)
        gaps = [second[0] - first[0] for first, second in itertools.pairwise(sides)]
        assert not gaps or max(gaps) - min(gaps) <= 1
    assert len(boxes) == len(set(boxes))


# -- squares


def test_a_squashed_image_is_the_bilinear_resize_of_the_whole():
    pixels = noise(40, 30)
    expected = np.asarray(Image.fromarray(pixels).resize((16, 16), Image.Resampling.BILINEAR))
    squares = frame_image(pixels, framing())
    assert squares.shape == (1, 16, 16, 3)
    assert squares.dtype == np.uint8
    np.testing.assert_array_equal(squares[0], expected)


def test_an_image_of_the_right_size_comes_out_as_it_is():
    pixels = noise(16, 16)
    for fit in ("squash", "letterbox"):
        np.testing.assert_array_equal(frame_image(pixels, framing(fit=fit))[0], pixels)


def test_pixels_beyond_the_region_do_not_reach_into_it():
    pixels = np.full((60, 60, 3), 255, np.uint8)
    pixels[10:50, 20:40] = 0
    assert frame_image(pixels, framing(region=(20, 10, 40, 50))).max() == 0
    tiles = frame_image(pixels, framing(region=(20, 10, 40, 50), tile_size=20, tile_overlap=0.5))
    assert tiles.shape == (3, 16, 16, 3)
    assert tiles.max() == 0


@pytest.mark.parametrize(
    ("shape", "rows", "columns"),
    [
        ((20, 40), (4, 12), (0, 16)),  # twice as wide as high: 8 of 16 rows
        ((40, 20), (0, 16), (4, 12)),
        ((10, 160), (7, 8), (0, 16)),  # a sixteenth
        ((1, 999), (7, 8), (0, 16)),  # never less than one row
        ((5, 10), (4, 12), (0, 16)),  # enlarged, too
    ],
)
def test_a_letterbox_keeps_the_shape_between_black_bars(shape, rows, columns):
    square = frame_image(np.full((*shape, 3), 200, np.uint8), framing(fit="letterbox"))[0]
    expected = np.zeros((16, 16, 3), np.uint8)
    expected[rows[0] : rows[1], columns[0] : columns[1]] = 200
    np.testing.assert_array_equal(square, expected)


def test_a_letterboxed_image_is_resampled_as_a_squashed_one():
    pixels = noise(20, 40)
    square = frame_image(pixels, framing(fit="letterbox"))[0]
    expected = Image.fromarray(pixels).resize((16, 8), Image.Resampling.BILINEAR)
    np.testing.assert_array_equal(square[4:12], np.asarray(expected))


def test_a_tile_is_what_cropping_and_resizing_gives_in_the_order_of_the_boxes():
    pixels, tiled = noise(70, 100), framing(tile_size=40)
    squares = frame_image(pixels, tiled)
    for square, (left, top, right, bottom) in zip(squares, frame_boxes(100, 70, tiled), strict=True):
        part = Image.fromarray(pixels[top:bottom, left:right])
        np.testing.assert_array_equal(square, np.asarray(part.resize((16, 16), Image.Resampling.BILINEAR)))


def test_the_last_tile_of_a_narrow_image_is_fitted_as_the_fit_says():
    pixels = np.full((40, 20, 3), 200, np.uint8)
    squashed = frame_image(pixels, framing(tile_size=40))
    boxed = frame_image(pixels, framing(tile_size=40, fit="letterbox"))
    assert squashed.min() == 200
    assert boxed[0][:, :4].max() == 0
    assert boxed[0][:, 4:12].min() == 200


def test_squares_come_one_at_a_time_with_their_boxes():
    pixels, tiled = noise(70, 100), framing(tile_size=40)
    pairs = list(iter_frames(pixels, tiled))
    assert [box for box, _ in pairs] == frame_boxes(100, 70, tiled)
    np.testing.assert_array_equal(np.stack([square for _, square in pairs]), frame_image(pixels, tiled))


@pytest.mark.parametrize("shape", [(100, 100), (1, 1), (1, 50), (333, 17), (16, 16), (500, 400)])
@pytest.mark.parametrize("fit", ["squash", "letterbox"])
def test_grey_resized_in_one_channel_is_grey_resized_in_three(shape, fit):
    levels = noise(*shape)[:, :, 0]
    chosen = framing(fit=fit, tile_size=40)
    in_one = frame_image(Image.fromarray(levels), chosen)
    in_three = frame_image(np.repeat(levels[:, :, None], 3, axis=2), chosen)
    np.testing.assert_array_equal(in_one, in_three)


def test_the_squares_are_fresh_and_the_image_stays_as_it_was():
    pixels = noise(16, 16)
    before = pixels.copy()
    frame_image(pixels, framing())[:] = 0
    np.testing.assert_array_equal(pixels, before)


def test_the_fitted_size_is_that_within_the_square():
    assert fitted_size(40, 20, framing()) == (16, 16)
    assert fitted_size(40, 20, framing(fit="letterbox")) == (16, 8)
    assert fitted_size(7, 21, framing(fit="letterbox")) == (5, 16)  # 16 / 3 = 5.33


# -- resizing


def test_resizing_averages_instead_of_skipping_pixels():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    shrunk = frame_image(stripes, framing(size=8))[0].astype(int)
    assert abs(shrunk - 100).max() <= 5  # at the edges half of the support is cut off
    assert abs(shrunk[:, 1:-1] - 100).max() <= 1


# -- the record


def test_a_framing_survives_json():
    chosen = framing(region=(1, 2, 30, 40), tile_size=20)
    assert Framing.from_dict(json.loads(json.dumps(asdict(chosen)))) == chosen
    assert Framing.from_dict(asdict(framing())) == framing()


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 0},
        {"size": 16.0},
        {"size": True},
        {"fit": "stretch"},
        {"region": (5, 0, 5, 10)},
        {"region": (-1, 0, 5, 10)},
        {"region": (0, 0, 5)},
        {"region": (0, 0, 5, 9.5)},
        {"tile_size": 1},
        {"tile_size": "40"},
        {"tile_overlap": 0.6},
        {"tile_overlap": -0.1},
        {"significant_bits": 7},
        {"significant_bits": 17},
        {"significant_bits": 12.0},
    ],
)
def test_a_value_out_of_its_rule_is_refused_by_name(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"framing: {name}="):
        framing(**changes)


@pytest.mark.parametrize("values", [{"size": 16}, {**asdict(framing()), "zoom": 2}, "x", 7])
def test_missing_and_unknown_keys_are_refused(values):
    with pytest.raises(
        ValueError, match="has to have the keys fit, region, significant_bits, size, tile_overlap, tile_size"
    ):
        Framing.from_dict(values)


def test_a_framing_of_before_there_were_significant_bits_takes_each_file_as_it_says():
    earlier = asdict(framing())
    del earlier["significant_bits"]
    assert Framing.from_dict(earlier) == framing(significant_bits=None)


def test_the_file_stands_alone_because_every_exported_model_carries_a_copy():
    tree = ast.parse(Path(module.__file__).read_text(encoding="utf-8"))
    roots = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots |= {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert roots - set(sys.stdlib_module_names) == {"numpy", "PIL"}
