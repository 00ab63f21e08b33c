"""Decoding of samples that are not plain 8 bits: each depth, order and meaning of zero to its pixel, or refused."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from components.data.decode import DecodeError, decode_image, decode_samples

LEVELS = np.array([[0, 15, 85, 100], [128, 200, 240, 255]], np.uint8)
COLOUR = np.stack([LEVELS, 255 - LEVELS, LEVELS[::-1]], axis=2)


def read(data, bits=None):
    return decode_image(data, significant_bits=bits).pixels


def grey(levels):
    return np.repeat(np.asarray(levels, np.uint8)[:, :, None], 3, axis=2)


def widened(levels, bits):
    """The value of `bits` bits that is as bright."""
    return np.rint(levels / 255 * (2**bits - 1)).astype(np.uint16)


def packed(values, bits):
    """Samples one behind the other, the highest bit first, each row from a whole byte on."""
    rows = ["".join(f"{value:0{bits}b}" for value in row) for row in values]
    return b"".join(int(row.ljust(-(-len(row) // 8) * 8, "0"), 2).to_bytes(-(-len(row) // 8)) for row in rows)


def tiff(planes, bits, photometric, *, order="<", samples=1, size=LEVELS.shape, **extra):
    """A TIFF by the book, uncompressed. planes: the bytes of each strip. extra: further tags, of one short each."""
    planes = planes if isinstance(planes, list) else [planes]
    tags = {256: size[1], 257: size[0], 258: [bits] * samples, 259: 1, 277: samples, 278: size[0]}
    tags |= {} if photometric is None else {262: photometric}
    tags |= {int(name[1:]): value for name, value in extra.items()}
    values = {tag: ("H", value if isinstance(value, list) else [value]) for tag, value in tags.items()}
    count = len(tags) + 2
    start = 8 + 2 + 12 * count + 4
    long = [struct.calcsize(code) * len(numbers) for code, numbers in (*values.values(), *[("I", planes)] * 2)]
    begin = start + sum(length for length in long if length > 4)
    values[273] = ("I", [begin + sum(map(len, planes[:number])) for number in range(len(planes))])
    values[279] = ("I", [len(plane) for plane in planes])
    blob, entries = b"", b""
    for tag, (code, numbers) in sorted(values.items()):
        raw = struct.pack(f"{order}{len(numbers)}{code}", *numbers)
        if len(raw) > 4:
            blob, raw = blob + raw, struct.pack(f"{order}I", start + len(blob))
        entries += struct.pack(f"{order}HHI", tag, 3 if code == "H" else 4, len(numbers)) + raw.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, count)
    return head + entries + bytes(4) + blob + b"".join(planes)


def png(values, kind, *chunks, depth=16):
    """kind: PNG's colour type. values: (H, W) or (H, W, C), or the packed rows."""
    rows = [row.astype(">u2").tobytes() for row in values] if isinstance(values, np.ndarray) else values
    header = struct.pack(">II5B", LEVELS.shape[1], LEVELS.shape[0], depth, kind, 0, 0, 0)

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    parts = [
        (b"IHDR", header),
        *chunks,
        (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, body) for name, body in parts)


@pytest.mark.parametrize("order", ["<", ">"])
def test_where_white_is_zero_no_depth_gives_a_negative(order):
    for bits in (1, 2, 4, 8, 12, 16):
        values = widened(LEVELS, bits)
        shown = grey(np.rint(values * 255.0 / (2**bits - 1)))
        turned = 2**bits - 1 - values
        body = turned.astype(f"{order}u2").tobytes() if bits == 16 else packed(turned, bits)
        np.testing.assert_array_equal(read(tiff(body, bits, 0, order=order)), shown)
        np.testing.assert_array_equal(read(tiff(body, bits, 0, order=order, t284=2)), shown)  # as one plane of many
    light = (1 - LEVELS / 255).astype(f"{order}f4").tobytes()
    if order == "<":
        np.testing.assert_array_equal(read(tiff(light, 32, 0, order=order, t339=3)), grey(LEVELS))


@pytest.mark.parametrize("order", ["<", ">"])
def test_twelve_packed_bits_are_scaled_by_twelve(order):
    np.testing.assert_array_equal(read(tiff(packed(widened(LEVELS, 12), 12), 12, 1, order=order)), grey(LEVELS))
    odd = LEVELS[:, :3]  # a row ends in mid-byte
    data = tiff(packed(widened(odd, 12), 12), 12, 1, order=order, size=odd.shape)
    np.testing.assert_array_equal(read(data, 10), grey(odd))  # the file's own word goes first


@pytest.mark.parametrize("bits", [10, 14])
def test_other_packed_depths_are_refused_with_their_number(bits):
    with pytest.raises(DecodeError, match=f"a TIFF of 1 × {bits} bits that cannot be read"):
        read(tiff(packed(widened(LEVELS, bits), bits), bits, 1))


def test_a_tiff_that_does_not_say_what_zero_is_or_is_signed_is_refused():
    with pytest.raises(DecodeError, match="whether 0 is black or white"):
        read(tiff(LEVELS.tobytes(), 8, None))
    with pytest.raises(DecodeError, match="signed pixels of 8 bits"):
        read(tiff(LEVELS.tobytes(), 8, 1, t339=2))
    with pytest.raises(DecodeError, match="64 bits, floating-point"):
        read(tiff((LEVELS / 255).tobytes(), 64, 1, t339=3))


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("order", ["<", ">"])
def test_significant_bits_make_their_largest_value_white(bits, order):
    values = widened(LEVELS, bits)
    turned = (2**bits - 1 - values).astype(f"{order}u2").tobytes()
    files = {
        "grey": (tiff(values.astype(f"{order}u2").tobytes(), 16, 1, order=order), grey(LEVELS)),
        "white is zero": (tiff(turned, 16, 0, order=order), grey(LEVELS)),
        "PNG": (png(values, 0), grey(LEVELS)),
        "PGM": (b"P5 4 2 65535\n" + values.astype(">u2").tobytes(), grey(LEVELS)),
    }
    for name, (data, shown) in files.items():
        np.testing.assert_array_equal(read(data, bits), shown, err_msg=name)
        assert decode_image(data, significant_bits=bits).peak == 2**bits - 1, name


def test_a_value_beyond_the_significant_bits_is_refused_with_both():
    with pytest.raises(DecodeError, match="a pixel value of 4096, and 4095 is white"):
        read(png(widened(LEVELS, 12) + np.uint16(1), 0), 12)


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_bytes_of_wide_colour_are_read_where_the_low_one_counts(order):
    values = widened(COLOUR, 12)
    planes = [values[:, :, channel].astype(f"{order}u2").tobytes() for channel in range(3)]
    alpha = np.full((*LEVELS.shape, 1), 4095, np.uint16)
    alpha[0, 0] = 0
    over = np.where(alpha > 0, COLOUR, 0)
    written = cv2.imencode(".tif", values[:, :, ::-1], [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()
    files = [
        (tiff(values.astype(f"{order}u2").tobytes(), 16, 2, order=order, samples=3), COLOUR),
        (tiff(planes, 16, 2, order=order, samples=3, t284=2), COLOUR),
        (png(values, 2), COLOUR),
        (png(np.concatenate([values, alpha], axis=2), 6), over),
        (
            png(np.concatenate([widened(LEVELS, 12)[:, :, None], alpha], axis=2), 4),
            np.where(alpha > 0, grey(LEVELS), 0),
        ),
        (written, COLOUR),
    ]
    for data, shown in files:
        np.testing.assert_array_equal(read(data, 12), shown)
        assert read(data).max() <= 15
        assert decode_image(data, significant_bits=None).peak == 4095


def test_wide_colour_in_planes_is_no_garbage():
    planes = [(COLOUR[:, :, channel].astype("<u2") * 257).tobytes() for channel in range(3)]
    np.testing.assert_array_equal(read(tiff(planes, 16, 2, samples=3, t284=2)), COLOUR)


def test_what_keeps_no_low_bytes_is_refused_where_they_count():
    with pytest.raises(DecodeError, match="only the high bytes can be read"):
        read(b"P6 4 2 65535\n" + widened(COLOUR, 12).astype(">u2").tobytes(), 12)


def test_colour_jpeg_2000_of_sixteen_bits_is_refused_because_its_white_would_be_black():
    wide = np.kron(COLOUR.astype(np.uint16) * 257, np.ones((16, 16, 1), np.uint16))
    with pytest.raises(DecodeError, match="colour JPEG 2000 of 16 bits"):
        read(cv2.imencode(".jp2", wide)[1].tobytes())


@pytest.mark.parametrize("shape", ["grey", "colour"])
def test_a_png_names_its_significant_bits_and_cameras_do_not_shift_them(shape):
    levels, kind = (LEVELS, 0) if shape == "grey" else (COLOUR, 2)
    named = (b"sBIT", bytes([12] * (1 if kind == 0 else 3)))
    values = widened(levels, 12)
    shown = grey(levels) if kind == 0 else levels
    for stored in (values, values << 4, values << 4 | values >> 8, np.rint(values * (65535 / 4095)).astype(np.uint16)):
        np.testing.assert_allclose(read(png(stored, kind, named)).astype(int), shown, atol=1)
    dark = values >> 5  # left-aligned and dark: no value needs more than 12 bits, and it stays dark
    np.testing.assert_allclose(read(png(dark << 4, kind, named)).astype(int), shown / 32, atol=1)
    assert decode_image(png(values, kind, named), significant_bits=8).peak is None  # the file's own word


@pytest.mark.parametrize("body", [b"", b"\0", bytes([17])])
def test_nonsense_about_significant_bits_says_nothing(body):
    np.testing.assert_array_equal(read(png(widened(LEVELS, 16), 0, (b"sBIT", body))), grey(LEVELS))


@pytest.mark.parametrize(("largest", "bits"), [(4095, None), (4095, 10), (1000, None), (65535, None)])
def test_a_pgm_is_scaled_by_the_largest_value_that_it_names(largest, bits):
    values = np.rint(LEVELS / 255 * largest).astype(">u2")
    np.testing.assert_array_equal(read(b"P5 4 2 %d\n" % largest + values.tobytes(), bits), grey(LEVELS))


def test_integers_of_32_bits_have_a_white_once_their_bits_are_said():
    data = tiff(widened(LEVELS, 16).astype("<u4").tobytes(), 32, 1)
    np.testing.assert_array_equal(read(data, 16), grey(LEVELS))
    negative = tiff((LEVELS.astype("<i2") - 1).tobytes(), 16, 1, t339=2)
    with pytest.raises(DecodeError, match="no defined scale"):
        read(negative)
    with pytest.raises(DecodeError, match="a pixel value of -1"):
        read(negative, 8)


@pytest.mark.parametrize("depth", [2, 4, 16])
def test_the_transparent_level_of_a_grey_png_is_black_at_every_depth(depth):
    values = widened(np.array([[0, 255, 85, 170]] * 2), depth)
    rows = values if depth == 16 else [packed(values[:1], depth)] * 2
    key = (b"tRNS", struct.pack(">H", 2**depth - 1))
    np.testing.assert_array_equal(read(png(rows, 0, key, depth=depth))[0, :, 0], [0, 0, 85, 170])


def test_the_transparent_colour_of_a_wide_png_is_compared_in_full():
    values = np.array([[[257, 0, 0], [256, 0, 0], [65535, 0, 0], [0, 0, 0]]] * 2, np.uint16)
    shown = read(png(values, 2, (b"tRNS", struct.pack(">3H", 65535, 0, 0))))
    np.testing.assert_array_equal(shown[0, :, 0], [1, 1, 0, 0])


def test_a_palette_of_eight_bit_numbers_is_not_black():
    palette = [10, 20, 30, 40] * 3
    shown = read(tiff(packed(np.array([[0, 1, 2, 3]] * 2), 2), 2, 3, t320=palette))
    np.testing.assert_array_equal(shown[0, :, 0], [10, 20, 30, 40])


def test_premultiplied_grey_is_already_over_black():
    alpha = np.where(LEVELS > 100, 255, 0).astype(np.uint8)
    body = np.stack([LEVELS * (alpha > 0), alpha], axis=2).astype(np.uint8).tobytes()
    np.testing.assert_array_equal(read(tiff(body, 8, 1, samples=2, t338=1)), grey(LEVELS * (alpha > 0)))


@pytest.mark.parametrize("header", [40, 108])
def test_the_fourth_byte_of_a_bmp_is_no_alpha_where_it_is_zero_throughout(header):
    body = np.concatenate([COLOUR[::-1, :, ::-1], np.zeros((2, 4, 1), np.uint8)], axis=2).tobytes()
    head = struct.pack("<IiiHHIIiiII", header, 4, 2, 1, 32, 3 if header == 108 else 0, len(body), 0, 0, 0, 0)
    if header == 108:
        head += struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000) + b"BGRs" + bytes(48)
    start = 14 + len(head)
    np.testing.assert_array_equal(
        read(b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start) + head + body), COLOUR
    )


def test_sixteen_bit_samples_keep_their_own_values_where_they_are_marks():
    values = widened(COLOUR, 16) // 999
    np.testing.assert_array_equal(decode_samples(png(values, 2)), values)
    np.testing.assert_array_equal(decode_samples(png(values[:, :, 0], 0))[:, :, 0], values[:, :, 0])
    white = tiff((65535 - values[:, :, 0]).astype("<u2").tobytes(), 16, 0)
    np.testing.assert_array_equal(decode_samples(white)[:, :, 0], values[:, :, 0])


# -- JPEG without an end


def picture(encode, **settings):
    noise = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return encode(Image.fromarray(noise).resize((64, 48)), "JPEG", quality=90, **settings)


@pytest.mark.parametrize("settings", [{}, {"optimize": True}, {"subsampling": 0}, {"restart_marker_blocks": 3}])
def test_a_jpeg_without_its_last_marker_is_whole_and_one_without_more_is_not(encode, settings):
    data = picture(encode, **settings)
    for missing in (1, 2):
        np.testing.assert_array_equal(read(data[:-missing]), read(data))
    for missing in (6, 10, 40, 400):
        with pytest.raises(DecodeError, match="truncated"):
            read(data[:-missing])


def test_a_progressive_jpeg_without_its_end_is_refused_because_passes_may_be_missing(encode):
    with pytest.raises(DecodeError, match="truncated"):
        read(picture(encode, progressive=True)[:-2])


def test_a_jpeg_of_twelve_bits_says_that_it_is_one(encode):
    data = picture(encode)
    place = data.index(b"\xff\xc0") + 4
    with pytest.raises(DecodeError, match=r"a JPEG that cannot be read.*12-bit"):
        read(data[:place] + b"\x0c" + data[place + 1 :])


# -- silence


def test_no_library_writes_to_the_terminal(encode, capfd, recwarn):
    corrupt_exif = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"
    data = picture(encode)
    read(data[:2] + b"\xff\xe1" + struct.pack(">H", len(corrupt_exif) + 2) + corrupt_exif + data[2:])
    torn = bytearray(encode(np.random.default_rng(0).integers(0, 256, (48, 64, 3)).astype(np.uint8), "TIFF"))
    buffer = io.BytesIO()
    Image.open(io.BytesIO(torn)).save(buffer, "TIFF", compression="tiff_lzw")
    lossless = bytearray(buffer.getvalue())
    lossless[2000:2300] = bytes(300)
    with pytest.raises(DecodeError):
        read(bytes(lossless))
    with pytest.raises(DecodeError):
        read(tiff(bytes(9), 8, 1, samples=TiffImagePlugin.MAX_SAMPLESPERPIXEL + 1))
    assert capfd.readouterr() == ("", "")
