"""Image bytes to pixels: the same code in training and on the line.

This file is copied verbatim into every exported model, so it imports the standard library, numpy and
Pillow only. What cannot be decoded in full is an error with a reason: never a black or half grey image.
"""

import functools
import io
import re
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

# An allow-list: Pillow's EPS reader, for one, would start Ghostscript on whatever a caller sends.
Image.init()  # once and here, rather than by several threads at their first image
FORMATS = tuple(
    name
    for name in ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
    if name in Image.OPEN  # some builds of Pillow leave a format out
)

_WIDE_MODES = ("I;16", "I;16L", "I;16B", "I;16N")
_ORIENTATION = 0x0112  # the EXIF tag


class DecodeError(ValueError):
    """The bytes are not a complete image of a known format; the message is the reason."""


@dataclass(frozen=True)
class DecodedImage:
    """One upright image.

    image: 8 bits, mode "L" where the file is grey and "RGB" elsewhere; grey is kept in one channel because it is
    resized in a third of the time, to the same values. mode, format: Pillow's names for what the file held, e.g.
    "I;16", "PNG". frames: how many pages or frames the file has; this is the first. orientation: the EXIF value that
    was found and undone, 1 to 8; 1 where there was none.
    """

    image: Image.Image
    mode: str
    format: str
    frames: int
    orientation: int

    @functools.cached_property
    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8, RGB."""
        return np.asarray(self.image if self.image.mode == "RGB" else self.image.convert("RGB"))


def decode_image(data: bytes) -> DecodedImage:
    """Decode the first frame, turned upright by its EXIF orientation, as 8-bit grey or RGB.

    Transparent pixels are laid over black: no light is what a camera records where there is nothing, and
    the undefined colour below a transparent pixel never shows. 16-bit values are scaled by the full range
    (65535 to 255) and not by the image's own range, so that brightness stays comparable between images; a
    camera's 10 or 12 bits have to be stored left-aligned, or they come out dark.

    Damage in the middle always shows in a PNG, which has a checksum, mostly in GIF and JPEG and often in compressed
    TIFF, whose codes can be wrong, and hardly ever in other formats. A damaged later page does not matter.

    Raises DecodeError: empty, not an image, truncated or damaged, too large (Pillow's decompression-bomb
    limit), or pixel values without a defined range.
    """
    if not data:
        raise DecodeError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            mode, kind = image.mode, str(image.format)
            if kind in ("JPEG", "MPO"):
                _refuse_hole(data)
            frames = int(getattr(image, "n_frames", 1))
            orientation = _orientation(image)  # before loading: a TIFF is turned, and forgets it, as it is loaded
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            upright = _eight_bits(image, kind)
    except (DecodeError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DecodeError(f"not an image of a known format ({', '.join(FORMATS)}), or no whole header") from error
    except Image.DecompressionBombError as error:
        raise DecodeError(f"too large: {error}") from error
    except Exception as error:  # damaged files leave Pillow's readers by nearly any exception
        raise DecodeError(f"damaged or truncated: {error or type(error).__name__}") from error
    return DecodedImage(image=upright, mode=mode, format=kind, frames=frames, orientation=orientation)


def _orientation(image: Image.Image) -> int:
    found = image.getexif().get(_ORIENTATION, 1)
    return found if found in range(1, 9) else 1


def _eight_bits(image: Image.Image, kind: str) -> Image.Image:
    """The image as "L" or "RGB"; itself where it is one of the two, as it is a copy of megabytes otherwise."""
    # Pillow opens a 16-bit PGM as "I", scaled to 65535; any other "I" is 32-bit or signed: without a white.
    if image.mode in _WIDE_MODES or (image.mode == "I" and kind == "PPM"):
        return Image.fromarray(_scale_wide(np.asarray(image)))
    if image.mode == "I":
        raise DecodeError("32-bit or signed integer pixels have no defined scale; store 8 or 16 bits, unsigned")
    if image.mode == "F":
        return Image.fromarray(_scale_float(np.asarray(image)))
    if image.has_transparency_data:
        return Image.fromarray(_over_black(image))
    if image.mode in ("L", "RGB"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _scale_wide(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _scale_float(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise DecodeError("floating-point pixels that are not finite")
    low, high = float(values.min()), float(values.max())
    if low < 0.0 or high > 1.0:
        raise DecodeError(f"floating-point pixels from {low:g} to {high:g}: only 0 to 1 has a defined scale")
    return np.rint(values * 255.0).astype(np.uint8)


def _over_black(image: Image.Image) -> np.ndarray:
    rgba = np.asarray(image.convert("RGBA"))
    alpha = rgba[:, :, 3:].astype(np.uint16)
    if not alpha.any():
        raise DecodeError("every pixel is fully transparent")
    return ((rgba[:, :, :3] * alpha + 127) // 255).astype(np.uint8)


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
