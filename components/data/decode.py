"""Image bytes to pixels: the same code in training and on the line.

This file is copied verbatim into every exported model, so it imports the standard library, numpy and
Pillow only. What cannot be decoded in full is an error with a reason: never a black, negative or half grey image.
"""

import contextlib
import ctypes
import functools
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from PIL import Image, ImageFile, ImageOps, ImagePalette, TiffImagePlugin, UnidentifiedImageError

# An allow-list: Pillow's EPS reader, for one, would start Ghostscript on whatever a caller sends.
Image.init()  # once and here, rather than by several threads at their first image
FORMATS = tuple(
    name
    for name in ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
    if name in Image.OPEN  # some builds of Pillow leave a format out
)
# Metadata that Pillow cannot read are no fault of the pixels, and what is one becomes a DecodeError.
warnings.filterwarnings("ignore", module=r"PIL\.")
logging.getLogger("PIL").setLevel(logging.CRITICAL)
for _library in Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*"):  # the copy that Pillow has loaded
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(str(_library)).TIFFSetErrorHandler(None)  # it writes to the terminal what Pillow raises, too

_ORIENTATION = 0x0112  # the EXIF tag
_BITS, _PHOTOMETRIC, _SAMPLES, _PLANES, _COLOURS, _SAMPLE_FORMAT = 258, 262, 277, 284, 320, 339  # TIFF's tags
_SIGNED = 2
for _order, _mode in ((b"II", "I;16"), (b"MM", "I;16B")):  # kinds of grey that Pillow unpacks and does not list
    TiffImagePlugin.OPEN_INFO.setdefault((_order, 0, (1,), 1, (16,), ()), (_mode, _mode))
    for _white in (0, 1):  # zero is white, or black
        TiffImagePlugin.OPEN_INFO.setdefault((_order, _white, (1,), 1, (12,), ()), ("I;16", "I;12"))


class DecodeError(ValueError):
    """The bytes are not a complete image of a known format; the message is the reason."""


@dataclass(frozen=True)
class DecodedImage:
    """One upright image.

    image: 8 bits, mode "L" where the file is grey and "RGB" elsewhere; grey is kept in one channel because it is
    resized in a third of the time, to the same values. mode, format: Pillow's names for what the file held, e.g.
    "I;16", "PNG". frames: how many pages or frames the file has; this is the first. orientation: the EXIF value that
    was found and undone, 1 to 8; 1 where there was none. peak: the largest sample of a file of 16 bits that does not
    say how many of them count (of colour, up to 255 more); None for any other file.
    """

    image: Image.Image
    mode: str
    format: str
    frames: int
    orientation: int
    peak: int | None

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        return np.asarray(self.image if self.image.mode == "RGB" else self.image.convert("RGB"))


def decode_image(data: bytes, *, significant_bits: int | None) -> DecodedImage:
    """Decode the first frame, turned upright by its EXIF orientation, as 8-bit grey or RGB.

    Transparent pixels are laid over black: no light is what a camera records where there is nothing, and
    the undefined colour below a transparent pixel never shows. A BMP whose alpha is 0 throughout has none.

    Samples of more than 8 bits are scaled by their full range and not by the image's own, so that brightness stays
    comparable between images. A file may say what its range is: a TIFF of 12 bits, the largest value of a PGM, the
    significant bits of a PNG. Where it does not, the range is that of `significant_bits` (8 to 16: values that are
    right-aligned in 16 or 32 bits, 4095 is white for 12), or else of all 16.

    The PNG standard wants significant bits left-aligned, and cameras write them right-aligned. They are taken as such
    where no value has more bits, and the low bits that an alignment to the left would leave empty are used.

    Damage in the middle always shows in a PNG, which has a checksum, mostly in GIF and JPEG and often in compressed
    TIFF, whose codes can be wrong, and hardly ever in other formats. A damaged later page does not matter.

    Raises DecodeError: empty, not an image, truncated or damaged, too large (Pillow's decompression-bomb
    limit), or pixel values without a defined range or beyond it.
    """
    with _reasons(data):
        loaded = _load(data)
        image, peak = _eight_bits(loaded, data, significant_bits)
    return DecodedImage(image, loaded.mode, loaded.format, loaded.frames, loaded.orientation, peak)


def decode_samples(data: bytes) -> np.ndarray:
    """(H, W, C) the samples of the first frame, upright, as they are stored: black is 0, and white whatever it is.

    For pictures that hold marks or class numbers rather than light. Transparent pixels are 0, also where all are.
    Raises DecodeError: as `decode_image`, but for the range.
    """
    with _reasons(data):
        loaded = _load(data)
        if loaded.depth is None:
            return np.atleast_3d(np.asarray(_flat(loaded, allow_empty=True)))
        values = np.atleast_3d(_wide_samples(loaded, data))
        if loaded.depth.inverted:
            values = (loaded.depth.white or values.max()) - values
        return values if values.shape[2] != 4 else values[:, :, :3] * (values[:, :, 3:] > 0)


@contextlib.contextmanager
def _reasons(data: bytes) -> Iterator[None]:
    if not data:
        raise DecodeError("the file is empty")
    try:
        yield
    except (DecodeError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DecodeError(_why_unknown(data)) from error
    except Image.DecompressionBombError as error:
        raise DecodeError(f"too large: {error}") from error
    except Exception as error:  # damaged files leave Pillow's readers by nearly any exception
        raise DecodeError(f"damaged or truncated: {error or type(error).__name__}") from error


def _why_unknown(data: bytes) -> str:
    """For bytes that no reader takes: what the one says whose mark they begin with."""
    for name in FORMATS:
        reader, accepts = Image.OPEN[name]
        if accepts is None or accepts(data[:16]) is not True:
            continue
        try:
            reader(io.BytesIO(data), "")
        except Exception as error:  # noqa: BLE001 - it is all that is wanted of the reader
            kind = _tiff_kind(data) if name == "TIFF" else ""
            return f"a {name}{kind} that cannot be read, of a rare kind or without a whole header: {error}"
    return f"not an image of a known format ({', '.join(FORMATS)}), or no whole header"


@dataclass(frozen=True)
class _Depth:
    """Of samples of more than 8 bits.

    white: the largest value, by the bits that are stored or that the file names; None: there is no defined one.
    named: by the file, so that `significant_bits` does not apply. inverted: 0 is white, and Pillow leaves it so.
    png_bits: the significant bits that a PNG names.
    """

    white: int | None
    named: bool
    inverted: bool = False
    png_bits: int = 16


@dataclass(frozen=True)
class _Loaded:
    """An upright image as Pillow has it. depth: None for 8 bits and fewer."""

    image: Image.Image
    mode: str
    format: str
    frames: int
    orientation: int
    depth: _Depth | None


def _load(data: bytes) -> _Loaded:
    try:
        return _load_all(data)
    except OSError:
        if data.startswith(_JPEG) and (loaded := _load_without_end(data)):
            return loaded
        raise


def _load_all(data: bytes, *, low_bytes: bool = False) -> _Loaded:
    """low_bytes: of colour in 16 bits, of which Pillow keeps the high bytes, load the low ones."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        mode, kind = image.mode, str(image.format)
        if kind in ("JPEG", "MPO"):
            _refuse_hole(data)
        elif isinstance(image, TiffImagePlugin.TiffImageFile):
            _mend_tiff(image)
        elif kind == "PNG" and mode == "L" and isinstance(image.info.get("transparency"), int):
            image.info["transparency"] *= 255 // (2 ** data[_PNG_BITS] - 1)  # the pixels of 2 and 4 bits are scaled
        depth = _depth(image, data)
        if low_bytes:
            image.tile = [tile._replace(args=_other_byte(tile.args)) for tile in image.tile]
        frames = int(getattr(image, "n_frames", 1))
        turned = image.getexif().get(_ORIENTATION, 1)  # before loading: a TIFF is turned, and forgets it, as it loads
        orientation = turned if turned in range(1, 9) else 1
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
    return _Loaded(image, mode, kind, frames, orientation, depth)


def _eight_bits(loaded: _Loaded, data: bytes, significant_bits: int | None) -> tuple[Image.Image, int | None]:
    """The image as "L" or "RGB", itself where it is one of the two (it is a copy of megabytes otherwise); its peak."""
    if loaded.depth is None:
        return _flat(loaded, allow_empty=False), None
    if loaded.mode == "F":
        return Image.fromarray(_scale_float(np.asarray(loaded.image), inverted=loaded.depth.inverted)), None
    return _narrow(loaded, loaded.depth, data, significant_bits)


def _flat(loaded: _Loaded, *, allow_empty: bool) -> Image.Image:
    """Of 8 bits and fewer: "L" or "RGB", over black. allow_empty: an image may be transparent throughout."""
    image = loaded.image
    if not image.has_transparency_data:
        wanted = "L" if image.mode in ("1", "L") else "RGB"
        return image if image.mode == wanted else image.convert(wanted)
    rgba = np.asarray((image.convert("LA") if image.mode == "La" else image).convert("RGBA"))
    alpha = rgba[:, :, 3:]
    if loaded.format == "BMP" and not alpha.any():
        return Image.fromarray(rgba[:, :, :3].copy())
    return Image.fromarray(_over_black(rgba[:, :, :3], alpha, allow_empty=allow_empty))


def _over_black(colour: np.ndarray, alpha: np.ndarray, *, allow_empty: bool = False) -> np.ndarray:
    if not allow_empty and not alpha.any():
        raise DecodeError("every pixel is fully transparent")
    return ((colour * alpha.astype(np.uint16) + 127) // 255).astype(np.uint8)


def _scale_float(values: np.ndarray, *, inverted: bool) -> np.ndarray:
    if not np.isfinite(values).all():
        raise DecodeError("floating-point pixels that are not finite")
    low, high = float(values.min()), float(values.max())
    if low < 0.0 or high > 1.0:
        raise DecodeError(
            f"floating-point pixels from {low:g} to {high:g}: only 0 to 1 has a defined scale; store that, or 8 or 16 "
            "bits, unsigned"
        )
    return np.rint((1.0 - values if inverted else values) * 255.0).astype(np.uint8)


# -- Samples of more than 8 bits.


def _depth(image: ImageFile.ImageFile, data: bytes) -> _Depth | None:
    """Of an image that is not loaded yet, as Pillow knows its tags and tiles only until then."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        bits, signed = _first(image, _BITS), _first(image, _SAMPLE_FORMAT) == _SIGNED
        white = None if signed or bits > 16 else 2**bits - 1
        inverted = _first(image, _PHOTOMETRIC) == 0
        return _Depth(white, named=bits < 16, inverted=inverted) if bits > 8 else None
    if image.format == "PNG" and data[_PNG_BITS] == 16:
        bits = _significant_png_bits(data)
        return _Depth(65535, named=bits < 16, png_bits=bits)
    if image.format == "JPEG2000":
        bits = (data[data.find(_CODESTREAM) + 42] & 127) + 1
        if bits > 8 and image.mode != "I;16":
            raise DecodeError(f"colour JPEG 2000 of {bits} bits, whose white Pillow reads as black; store PNG or TIFF")
        # Pillow shifts the samples to the left end of 16 bits.
        return _Depth((2**bits - 1) << (16 - bits), named=bits < 16) if 8 < bits <= 16 else None
    if image.mode == "F":
        return _Depth(None, named=False)
    if image.format == "PPM" and image.mode in ("I", "RGB"):
        arguments: Any = image.tile[0].args
        if isinstance(arguments, str):  # taken as it is; Pillow scales by any other largest value
            return _Depth(65535, named=False) if image.mode == "I" else None
        return _Depth(65535, named=arguments[-1] < 65535) if arguments[-1] > 255 else None
    return None


def _narrow(
    loaded: _Loaded, depth: _Depth, data: bytes, significant_bits: int | None
) -> tuple[Image.Image, int | None]:
    image, grey = loaded.image, loaded.image.mode.startswith("I")
    stated = significant_bits if not depth.named else None
    white = depth.white if stated is None else 2**stated - 1
    if white is None:
        raise DecodeError(
            "32-bit or signed integer pixels have no defined scale; store 8 or 16 bits, unsigned, or give "
            "significant_bits"
        )
    if not grey and stated in (None, 16) and "transparency" not in image.info:
        peak = int(np.asarray(image)[:, :, :3].max()) * 256 + 255
        if depth.png_bits == 16 or peak >= 2**depth.png_bits:  # the high bytes will do
            return _flat(loaded, allow_empty=False), None if depth.named else peak
    samples = _wide_samples(loaded, data)
    colour = samples if samples.ndim == 2 else samples[:, :, :3]
    if depth.png_bits < 16 and _right_aligned(colour, depth.png_bits):
        white = 2**depth.png_bits - 1
    pixels = _scale(colour, white, inverted=depth.inverted)
    if (key := image.info.get("transparency")) is not None:
        pixels[(np.atleast_3d(colour) == key).all(axis=2)] = 0
    if samples.ndim == 3 and samples.shape[2] == 4:
        alpha = samples[:, :, 3:]
        pixels = _over_black(pixels, _scale(alpha, white if alpha.max() <= white else 65535, inverted=False))
    unnamed = depth.white == 65535 and not depth.named
    return Image.fromarray(pixels), int(colour.max()) if unnamed else None


def _wide_samples(loaded: _Loaded, data: bytes) -> np.ndarray:
    """(H, W), or (H, W, C) of colour, as they are stored: whole numbers of 16 or 32 bits, or floating-point."""
    image = loaded.image
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    low = np.asarray(_load_all(data, low_bytes=True).image)
    if loaded.format == "PNG" and data[_PNG_COLOUR] == _GREY_ALPHA:
        low = low[:, :, [1, 1, 1, 3]]  # both bytes of grey, and both of alpha
    return np.asarray(np.asarray(image).astype(np.uint16) << 8 | low)


def _other_byte(arguments: Any) -> Any:  # noqa: ANN401 - Pillow's own
    """What has Pillow load the low byte of each sample, where `arguments` load the high one."""
    kind, *rest = (arguments,) if isinstance(arguments, str) else arguments
    mode, _, order = str(kind).partition(";16")
    little = order == "L" or (order == "N" and sys.byteorder == "little")
    if kind == "LA;16B":
        return "RGBA"  # of the same 4 bytes
    if mode not in ("RGB", "RGBX", "RGBA", "R", "G", "B", "A") or not order:
        raise DecodeError(
            "of colour in 16 bits of this kind only the high bytes can be read; store it as PNG, or as TIFF in one "
            "plane with straight alpha"
        )
    other = f"{mode};16{'B' if little else 'L'}"
    return other if isinstance(arguments, str) else (other, *rest)


def _right_aligned(values: np.ndarray, bits: int) -> bool:
    """Whether values are written without the alignment to the left that the PNG standard asks for.

    Left-aligned, what is below 2**bits is a multiple of 2**(16 - bits), or one beside it where it was multiplied.
    """
    step = 2 ** (16 - bits)
    return bool(values.max() < 2**bits and ((values + 1) % step > 2).any())


def _scale(values: np.ndarray, white: int, *, inverted: bool) -> np.ndarray:
    low, high = int(values.min()) if values.dtype.kind == "i" else 0, int(values.max())
    if low < 0 or high > white:
        raise DecodeError(
            f"a pixel value of {low if low < 0 else high}, and {white} is white by the bits that count "
            "(significant_bits)"
        )
    levels = (white - values if inverted else values).astype(np.uint32)
    return ((levels * 255 + white // 2) // white).astype(np.uint8)


_PNG_BITS, _PNG_COLOUR, _GREY_ALPHA = 24, 25, 4
_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000's two first markers


def _significant_png_bits(data: bytes) -> int:
    """Of the colour channels; 16 where a PNG of 16 bits says nothing, or nonsense."""
    position = 8
    while (name := data[position + 4 : position + 8]) not in (b"IDAT", b""):
        if name == b"sBIT":
            bits = max(data[position + 8 : position + (11 if data[_PNG_COLOUR] & 2 else 9)], default=16)
            return bits if 1 <= bits <= 16 else 16
        position += 12 + int.from_bytes(data[position : position + 4])
    return 16


# -- TIFF: what Pillow takes to the letter, or not at all, and other readers do not.


def _tiff_kind(data: bytes) -> str:
    """For one that Pillow does not open, where its tags can be read: what may be the reason."""
    with contextlib.suppress(Exception):
        tags = TiffImagePlugin.ImageFileDirectory_v2(data[: 16 if 43 in data[2:4] else 8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        form = {_SIGNED: ", signed", 3: ", floating-point"}.get(tags.get(_SAMPLE_FORMAT, (1,))[0], "")
        return f" of {len(tags[_BITS])} × {tags[_BITS][0]} bits{form}"
    return ""


def _first(image: TiffImagePlugin.TiffImageFile, tag: int, default: int = 1) -> int:
    found = image.tag_v2.get(tag, default)
    return int(found[0] if isinstance(found, tuple) else found)


def _mend_tiff(image: TiffImagePlugin.TiffImageFile) -> None:
    tags, planes = image.tag_v2, _first(image, _PLANES)
    if _PHOTOMETRIC not in tags and image.mode not in ("1", "RGB"):
        raise DecodeError("a TIFF that does not say whether 0 is black or white (tag 262)")
    if image.mode == "L" and _first(image, _SAMPLE_FORMAT) == _SIGNED:
        raise DecodeError("signed pixels of 8 bits; store them unsigned")
    if planes == 2 and _first(image, _SAMPLES) == 1:  # a single plane: no way to separate anything
        tags[_PLANES] = 1
        image._setup()
    elif planes == 2 and _first(image, _BITS) == 16 and image.tile[0].codec_name == "raw":
        order = "L" if tags.prefix == b"II" else "B"
        image.tile = [tile._replace(args=_sixteen_bits(tile.args, order)) for tile in image.tile]
    if image.mode == "P" and max(tags[_COLOURS]) < 256:  # 8 bits where the standard has 16: black throughout
        image.palette = ImagePalette.raw("RGB;L", tags[_COLOURS])


def _sixteen_bits(arguments: Any, order: str) -> tuple[Any, ...]:  # noqa: ANN401 - Pillow's own
    """How to load a plane of 16 bits; Pillow takes it for one of 8."""
    band, *rest = arguments
    return (f"{band[0]};16{order}", *rest)


# -- JPEG: a lost block of the file leaves zeros, which decode to a picture, so nothing else would notice.

_HOLE = bytes(64)
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")  # neither a stuffed 255, nor a restart, nor a fill byte
_END, _SCAN, _TABLES, _SEQUENTIAL = 0xD9, 0xDA, 0xC4, (0xC0, 0xC1)  # ITU-T T.81, table B.1


def _refuse_hole(data: bytes) -> None:
    """Raise DecodeError for a JPEG with a hole of zeros in its picture, unless a flat picture may give one.

    Measured with 64, 512 and 4096 zeros in the middle of a file: libjpeg takes all of them for a picture, and this
    refuses all, except in progressive files, whose codes are others.
    """
    if _HOLE not in data:
        return
    position, sequential = 2, False
    first_codes: dict[int, int] = {}
    while found := _MARKER.search(data, position):
        start, kind = found.start(), data[found.start() + 1]
        position = start + 2 + int.from_bytes(data[start + 2 : start + 4])
        body = data[start + 4 : position]
        if kind == _END:
            return
        if kind in _SEQUENTIAL:
            sequential = True
        elif kind == _TABLES:
            first_codes |= _first_codes(body)
        elif kind == _SCAN and sequential and any(first_codes.get(table & 15) for table in body[2:-3:2]):
            end = _MARKER.search(data, position)
            hole = data.find(_HOLE, position, end.start() if end else len(data))
            if hole >= 0:
                raise DecodeError(f"damaged: a hole of zeros in the JPEG's picture, at byte {hole}")


def _first_codes(tables: bytes) -> dict[int, int]:
    """What the first code, all zeros in bits, of each table for coefficients means; 0 is "the rest is zero".

    Where it means anything else, a run of zeros is block after block of the same 63 coefficients: no picture has that.
    """
    codes: dict[int, int] = {}
    position = 0
    while position + 17 < len(tables):
        if tables[position] >> 4 == 1:
            codes[tables[position] & 15] = tables[position + 17]
        position += 17 + sum(tables[position + 1 : position + 17])
    return codes


# -- JPEG without its last marker: some recorders leave it out, and nothing of the picture is missing.

_JPEG, _JPEG_END = b"\xff\xd8", b"\xff\xd9"
_NOISE = bytes(range(200, 10, -1))


def _load_without_end(data: bytes) -> _Loaded | None:
    """The picture, where it is the same whatever would follow; None where something is missing that would."""
    try:
        first, second = (_load_all(data.rstrip(b"\xff") + tail + _JPEG_END) for tail in (b"", _NOISE))
    except OSError:
        return None
    whole = not first.image.info.get("progressive") and first.image.tobytes() == second.image.tobytes()
    return first if whole else None
