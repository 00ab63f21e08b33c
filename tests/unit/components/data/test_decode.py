"""Decoding: every kind of file that a line may send, and every way in which one can be broken."""

import ast
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data import decode
from components.data.decode import DecodeError, decode_image, resize_image

CORNERS = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)  # two rows, three columns


def colour(levels):
    return np.stack([levels, levels + 1, levels + 2], axis=2).astype(np.uint8)


def test_a_colour_png_comes_out_as_it_went_in(encode):
    image = decode_image(encode(colour(CORNERS)))
    assert image.pixels.dtype == np.uint8
    assert (image.mode, image.format) == ("RGB", "PNG")
    np.testing.assert_array_equal(image.pixels, colour(CORNERS))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "PPM"])
def test_grey_is_repeated_over_three_channels(encode, kind):
    pixels = decode_image(encode(CORNERS, kind)).pixels
    assert pixels.shape == (2, 3, 3)
    np.testing.assert_array_equal(pixels, np.repeat(CORNERS[:, :, None], 3, axis=2))


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, CORNERS),
        (2, CORNERS[:, ::-1]),
        (3, CORNERS[::-1, ::-1]),
        (4, CORNERS[::-1]),
        (5, CORNERS.T),
        (6, np.rot90(CORNERS, -1)),
        (7, np.rot90(CORNERS.T, 2)),
        (8, np.rot90(CORNERS)),
    ],
)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_turns_the_image_upright(encode, kind, orientation, upright):
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = decode_image(encode(CORNERS, kind, exif=exif)).pixels
    np.testing.assert_array_equal(pixels[:, :, 0], upright)


def test_a_sixteen_bit_image_is_scaled_by_the_full_range_and_not_by_its_own(encode):
    values = np.array([[0, 257, 2570, 25700, 65535]], np.uint16)
    for kind in ("PNG", "TIFF"):
        pixels = decode_image(encode(values, kind)).pixels
        np.testing.assert_array_equal(pixels[0, :, 1], [0, 1, 10, 100, 255])
    dark = np.full((4, 4), 2570, np.uint16)
    np.testing.assert_array_equal(decode_image(encode(dark)).pixels, 10)


def test_a_sixteen_bit_pgm_is_scaled_like_a_sixteen_bit_png():
    data = b"P5 2 1 65535\n" + np.array([25700, 65535], ">u2").tobytes()
    np.testing.assert_array_equal(decode_image(data).pixels[0, :, 0], [100, 255])


def test_sixteen_bit_colour_keeps_its_high_bytes():
    # Pillow cannot write this kind, so it is put together by hand: a 1 x 1 PNG, 16 bits a channel.
    def chunk(name, body):
        return len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big")

    header = (1).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    row = b"\0" + bytes([200, 7, 100, 7, 50, 7])
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(row))
    pixels = decode_image(data + chunk(b"IEND", b"")).pixels
    np.testing.assert_array_equal(pixels, [[[200, 100, 50]]])


def test_a_one_bit_image_is_black_and_white(encode):
    image = decode_image(encode(Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1")))
    assert image.mode == "1"
    np.testing.assert_array_equal(image.pixels, [[[0] * 3, [255] * 3]])


def test_a_palette_is_looked_up_and_not_read_as_grey(encode):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    image.putpalette([255, 0, 0, 0, 255, 0, 9, 8, 7])
    decoded = decode_image(encode(image))
    assert decoded.mode == "P"
    np.testing.assert_array_equal(decoded.pixels, [[[255, 0, 0], [0, 255, 0], [9, 8, 7]]])


def test_transparency_is_laid_over_black(encode):
    rgba = np.array([[[200, 100, 50, 255], [200, 100, 50, 0], [200, 100, 50, 51]]], np.uint8)
    pixels = decode_image(encode(rgba)).pixels
    np.testing.assert_array_equal(pixels, [[[200, 100, 50], [0, 0, 0], [40, 20, 10]]])


def test_a_transparent_palette_entry_is_laid_over_black(encode):
    image = Image.fromarray(np.array([[0, 1]], np.uint8), mode="P")
    image.putpalette([255, 255, 255, 10, 20, 30])
    np.testing.assert_array_equal(decode_image(encode(image, transparency=0)).pixels, [[[0, 0, 0], [10, 20, 30]]])


def test_a_wholly_transparent_image_is_refused_rather_than_black(encode):
    with pytest.raises(DecodeError, match="transparent"):
        decode_image(encode(np.full((4, 4, 4), [200, 100, 50, 0], np.uint8)))


def test_cmyk_becomes_rgb(encode):
    white = Image.new("CMYK", (4, 4), (0, 0, 0, 0))
    image = decode_image(encode(white, "JPEG"))
    assert image.mode == "CMYK"
    np.testing.assert_array_equal(image.pixels, 255)


def test_of_several_pages_the_first_is_taken(encode):
    first, second = (Image.fromarray(np.full((4, 4), level, np.uint8)) for level in (10, 200))
    for kind in ("TIFF", "GIF"):
        data = encode(first, kind, save_all=True, append_images=[second])
        np.testing.assert_array_equal(decode_image(data).pixels, 10)


def test_floating_point_is_read_from_zero_to_one_and_refused_elsewhere(encode):
    unit = Image.fromarray(np.array([[0.0, 0.2, 1.0]], np.float32))
    np.testing.assert_array_equal(decode_image(encode(unit, "TIFF")).pixels[0, :, 0], [0, 51, 255])
    for values in ([[0.0, 255.0]], [[-0.1, 0.5]], [[np.nan, 0.5]]):
        with pytest.raises(DecodeError, match="floating-point"):
            decode_image(encode(Image.fromarray(np.array(values, np.float32)), "TIFF"))


def test_thirty_two_bit_integers_are_refused_because_they_have_no_white(encode):
    with pytest.raises(DecodeError, match="no defined scale"):
        decode_image(encode(Image.fromarray(np.array([[0, 100]], np.int32)), "TIFF"))


def test_an_empty_file_says_so():
    with pytest.raises(DecodeError, match="the file is empty"):
        decode_image(b"")


@pytest.mark.parametrize("data", [b"GOOD", b"<html>404</html>", b"\0" * 4096, b"%PDF-1.7 nothing"])
def test_what_is_no_image_is_refused(data):
    with pytest.raises(DecodeError, match="not an image"):
        decode_image(data)


def test_postscript_is_refused_without_being_run(encode):
    with pytest.raises(DecodeError, match="not an image"):
        decode_image(encode(colour(CORNERS), "EPS"))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM", "JPEG2000"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(encode, kind, kept):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(noise, kind)
    with pytest.raises(DecodeError):
        decode_image(data[: int(kept * len(data))])


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP"])
@pytest.mark.filterwarnings("ignore")
def test_flipped_bytes_give_an_image_or_a_decode_error_and_nothing_else(encode, kind):
    generator = np.random.default_rng(1)
    clean = encode(generator.integers(0, 256, (24, 24, 3), dtype=np.uint8), kind)
    for _ in range(100):
        data = bytearray(clean)
        for position in generator.integers(0, len(data), 4):
            data[position] = generator.integers(256)
        try:
            assert decode_image(bytes(data)).pixels.shape[2] == 3
        except DecodeError:
            continue


def test_a_decompression_bomb_is_refused(encode, monkeypatch):
    data = encode(np.zeros((64, 64), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DecodeError, match="too large"):
        decode_image(data)


def test_resizing_averages_instead_of_skipping_pixels():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 200
    shrunk = resize_image(stripes, 8).astype(int)
    assert abs(shrunk - 100).max() <= 5  # at the edges half of the support is cut off
    assert abs(shrunk[:, 1:-1] - 100).max() <= 1


def test_resizing_squashes_to_a_square_and_leaves_the_right_size_alone():
    wide = np.zeros((10, 40, 3), np.uint8)
    assert resize_image(wide, 16).shape == (16, 16, 3)
    square = np.zeros((16, 16, 3), np.uint8)
    assert resize_image(square, 16) is square


def test_the_file_stands_alone_because_every_exported_model_carries_a_copy(tmp_path, encode):
    source = Path(decode.__file__)
    tree = ast.parse(source.read_text(encoding="utf-8"))
    roots = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots |= {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert roots - set(sys.stdlib_module_names) == {"numpy", "PIL"}
    (tmp_path / "copied_decode.py").write_bytes(source.read_bytes())
    (tmp_path / "image.png").write_bytes(encode(CORNERS))
    code = "import copied_decode as d; print(d.decode_image(open('image.png','rb').read()).pixels.sum())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 3 * int(CORNERS.sum())
