"""Decoding: every kind of file that a line may send, and every way in which one can be broken."""

import ast
import functools
import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data import decode
from components.data.decode import DecodeError

decode_image = functools.partial(decode.decode_image, significant_bits=None)

CORNERS = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)  # two rows, three columns


def colour(levels):
    return np.stack([levels, levels + 1, levels + 2], axis=2).astype(np.uint8)


def picture(height, width, *, seed=0):
    """Soft shapes with a little noise, as a camera gives; (H, W, 3) uint8."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(60, 200, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    return (soft + generator.normal(0, 4, soft.shape).round()).clip(0, 255).astype(np.uint8)


def png(header, rows, *chunks):
    """A PNG put together by hand. header: after width and height, 5 bytes. chunks: (name, body), before the pixels."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in parts)


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
    image = decode_image(encode(CORNERS, kind, exif=exif))
    np.testing.assert_array_equal(image.pixels[:, :, 0], upright)
    assert image.orientation == orientation


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_exif_orientation_is_undone_in_lossy_formats_too(encode, kind):
    exif = Image.Exif()
    exif[0x0112] = 6
    dark_left = np.zeros((16, 32, 3), np.uint8)
    dark_left[:, 16:] = 200
    image = decode_image(encode(dark_left, kind, exif=exif, quality=95))
    assert image.pixels.shape == (32, 16, 3)
    assert image.pixels[:14].mean() < 20 < 180 < image.pixels[18:].mean()
    assert image.orientation == 6


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_orientation_that_exif_does_not_know_turns_nothing(encode, value):
    exif = Image.Exif()
    exif[0x0112] = value
    image = decode_image(encode(CORNERS, exif=exif))
    assert image.orientation == 1
    np.testing.assert_array_equal(image.pixels[:, :, 0], CORNERS)


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
    data = png(struct.pack(">II5B", 1, 1, 16, 2, 0, 0, 0), b"\0" + bytes([200, 7, 100, 7, 50, 7]))
    np.testing.assert_array_equal(decode_image(data).pixels, [[[200, 100, 50]]])


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


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PNG", "WEBP"])
def test_of_several_pages_the_first_is_taken_and_the_number_is_told(encode, kind):
    pages = [Image.fromarray(np.full((4, 4, 3), level, np.uint8)) for level in (10, 200, 90)]
    lossless = {"lossless": True} if kind == "WEBP" else {}
    image = decode_image(encode(pages[0], kind, save_all=True, append_images=pages[1:], **lossless))
    np.testing.assert_array_equal(image.pixels, 10)
    assert image.frames == 3


def test_a_camera_file_with_a_second_picture_behind_the_first_is_a_jpeg_of_two_pages(encode):
    first, second = (Image.fromarray(np.full((16, 16, 3), level, np.uint8)) for level in (10, 200))
    image = decode_image(encode(first, "MPO", save_all=True, append_images=[second]))
    assert abs(image.pixels.astype(int) - 10).max() <= 2
    assert (image.format, image.frames) == ("MPO", 2)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM", "JPEG2000"])
def test_a_file_of_one_page_says_so(encode, kind):
    image = decode_image(encode(colour(CORNERS), kind))
    assert (image.frames, image.orientation) == (1, 1)


@pytest.mark.parametrize("kind", ["TIFF", "GIF"])
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_is_torn_behind_its_first_page_gives_that_page_whole_or_nothing(encode, kind):
    pages = [Image.fromarray(np.full((4, 4, 3), level, np.uint8)) for level in (10, 200)]
    data = encode(pages[0], kind, save_all=True, append_images=pages[1:])
    whole = 0
    for end in range(len(data) // 2, len(data)):
        try:
            np.testing.assert_array_equal(decode_image(data[:end]).pixels, 10)
            whole += 1
        except DecodeError:
            continue
    assert whole > 0


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (1, 999), (333, 2), (13, 17)])
@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM", "GIF"])
def test_odd_sizes_come_out_as_they_are(encode, kind, shape):
    levels = (np.arange(shape[0] * shape[1]) % 251).reshape(shape).astype(np.uint8)
    image = decode_image(encode(levels, kind))
    assert image.image.size == (shape[1], shape[0])
    np.testing.assert_array_equal(image.pixels[:, :, 1], levels)


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1)])
def test_a_jpeg_of_a_single_line_comes_out_with_its_size(encode, shape):
    assert decode_image(encode(np.full((*shape, 3), 90, np.uint8), "JPEG")).pixels.shape == (*shape, 3)


@pytest.mark.parametrize(("kind", "suffix"), [("JPEG", ".png"), ("PNG", ".jpg"), ("TIFF", ".bmp"), ("GIF", ".txt")])
def test_a_wrong_extension_changes_nothing_because_the_content_decides(encode, tmp_path, kind, suffix):
    path = tmp_path / f"part{suffix}"
    path.write_bytes(encode(colour(CORNERS), kind))
    assert decode_image(path.read_bytes()).format == kind


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "PPM"])
def test_grey_and_colour_files_of_the_same_levels_give_the_same_pixels(encode, kind):
    grey, rgb = decode_image(encode(CORNERS, kind)), decode_image(encode(np.stack([CORNERS] * 3, axis=2), kind))
    assert (grey.image.mode, rgb.image.mode) == ("L", "RGB")
    np.testing.assert_array_equal(grey.pixels, rgb.pixels)


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "CMYK", "YCbCr", "LAB"])
def test_eight_bit_modes_come_out_as_pillow_converts_them(encode, mode):
    image = Image.fromarray(picture(20, 30)).convert(mode) if mode != "LAB" else Image.new("LAB", (30, 20), (99, 5, 7))
    data = encode(image, "TIFF")
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(decode_image(data).pixels, expected)


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


@pytest.mark.parametrize(
    ("kind", "least", "settings"),
    [("PNG", 20, {}), ("GIF", 16, {}), ("JPEG", 12, {}), ("TIFF", 16, {"compression": "tiff_lzw"})],
)
def test_a_file_damaged_in_the_middle_is_refused_where_its_format_can_tell(encode, kind, least, settings):
    clean = encode(picture(256, 256), kind, **settings)
    generator = np.random.default_rng(3)
    refused = 0
    for start in np.linspace(len(clean) // 3, 2 * len(clean) // 3 - 512, 20).astype(int):
        data = clean[:start] + generator.bytes(512) + clean[start + 512 :]
        try:
            decode_image(data)
        except DecodeError:
            refused += 1
    assert refused >= least


def test_a_single_wrong_bit_in_the_pixels_of_a_png_is_noticed_even_where_nothing_is_compressed(encode):
    clean = encode(picture(16, 16), compress_level=0)
    for position in range(100, len(clean) - 100, 50):
        data = bytearray(clean)
        data[position] ^= 1
        with pytest.raises(DecodeError, match="damaged"):
            decode_image(bytes(data))


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("length", [64, 512, 2000])
def test_a_jpeg_with_a_lost_block_is_refused_and_not_half_grey(encode, grey, optimize, length):
    pixels = picture(200, 200)
    clean = encode(pixels[:, :, 0] if grey else pixels, "JPEG", quality=90, optimize=optimize)
    for start in (len(clean) // 3, len(clean) // 2, len(clean) - length - 50):
        data = bytearray(clean)
        data[start : start + length] = bytes(length)
        with pytest.raises(DecodeError, match="damaged"):
            decode_image(bytes(data))


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("quality", [5, 75, 100])
def test_a_flat_picture_is_no_lost_block(encode, level, progressive, optimize, quality):
    flat = np.full((500, 500, 3), level, np.uint8)
    flat[:100] = picture(100, 500)
    settings = {"progressive": progressive, "optimize": optimize, "quality": quality}
    for pixels in (flat, flat[:, :, 0]):
        data = encode(pixels, "JPEG", **settings)
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        np.testing.assert_array_equal(decode_image(data).pixels, expected)


def test_zeros_outside_of_the_picture_of_a_jpeg_are_no_lost_block(encode):
    exif = Image.Exif()
    exif[0x010E] = "\0" * 4000
    assert decode_image(encode(picture(64, 64), "JPEG", exif=exif) + bytes(5000)).pixels.shape == (64, 64, 3)


def test_a_few_bytes_that_claim_gigapixels_are_refused_before_any_memory_is_taken():
    claim = png(struct.pack(">II5B", 60000, 60000, 8, 0, 0, 0, 0), b"")
    with pytest.raises(DecodeError, match=r"too large: .*3600000000 pixels"):
        decode_image(claim)
    gif = b"GIF89a" + struct.pack("<HHBBB", 65535, 65535, 0x80, 0, 0) + bytes(6) + b"," + bytes(4)
    gif += struct.pack("<HHB", 65535, 65535, 0) + b"\x02\x02\x4c\x01\x00;"
    with pytest.raises(DecodeError, match="too large"):
        decode_image(gif)


def test_a_text_chunk_that_unpacks_to_gigabytes_is_refused():
    text = b"comment\0\0" + zlib.compress(bytes(80_000_000))
    data = png(struct.pack(">II5B", 1, 1, 8, 0, 0, 0, 0), b"\0\0", (b"zTXt", text))
    with pytest.raises(DecodeError, match=r"damaged or truncated: .*too large"):
        decode_image(data)


def test_a_decompression_bomb_is_refused(encode, monkeypatch):
    data = encode(np.zeros((64, 64), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DecodeError, match="too large"):
        decode_image(data)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM", "JPEG2000"])
@pytest.mark.parametrize("grey", [False, True])
def test_the_decoded_image_can_be_resized_and_cropped_after_its_file_is_closed(encode, kind, grey):
    pixels = picture(40, 30)
    decoded = decode_image(encode(pixels[:, :, 0] if grey else pixels, kind))
    expected = Image.fromarray(decoded.pixels)
    assert np.array_equal(decoded.image.resize((9, 9)).convert("RGB"), expected.resize((9, 9)))
    assert np.array_equal(decoded.image.crop((3, 4, 20, 30)).convert("RGB"), expected.crop((3, 4, 20, 30)))


def test_the_file_stands_alone_because_every_exported_model_carries_a_copy(tmp_path, encode):
    source = Path(decode.__file__)
    tree = ast.parse(source.read_text(encoding="utf-8"))
    roots = {node.module.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    roots |= {a.name.split(".")[0] for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
    assert roots - set(sys.stdlib_module_names) == {"numpy", "PIL"}
    (tmp_path / "copied_decode.py").write_bytes(source.read_bytes())
    (tmp_path / "image.png").write_bytes(encode(CORNERS))
    read = "decode_image(open('image.png','rb').read(), significant_bits=None)"
    code = f"import copied_decode as d; print(d.{read}.pixels.sum())"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert int(done.stdout) == 3 * int(CORNERS.sum())
