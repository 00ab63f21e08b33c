"""Image bytes to pixels: the same code in training and on the line.

This file is copied verbatim into every exported model, so it imports the standard library, numpy and
Pillow only. What cannot be decoded in full is an error with a reason: never a black or half grey image.
"""

import io
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


class DecodeError(ValueError):
    """The bytes are not a complete image of a known format; the message is the reason."""


@dataclass(frozen=True)
class DecodedImage:
    """One upright colour image.

    pixels: (H, W, 3) uint8, RGB. mode, format: Pillow's names for what the file held, e.g. "I;16", "PNG".
    """

    pixels: np.ndarray
    mode: str
    format: str


def decode_image(data: bytes) -> DecodedImage:
    """Decode the first frame, turned upright by its EXIF orientation, as 8-bit RGB.

    Transparent pixels are laid over black: no light is what a camera records where there is nothing, and
    the undefined colour below a transparent pixel never shows. 16-bit values are scaled by the full range
    (65535 to 255) and not by the image's own range, so that brightness stays comparable between images; a
    camera's 10 or 12 bits have to be stored left-aligned, or they come out dark.

    Raises DecodeError: empty, not an image, truncated or damaged, too large (Pillow's decompression-bomb
    limit), or pixel values without a defined range.
    """
    if not data:
        raise DecodeError("the file is empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            mode, kind = image.mode, str(image.format)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            pixels = _to_rgb(image, kind)
    except (DecodeError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise DecodeError(f"not an image of a known format ({', '.join(FORMATS)}), or no whole header") from error
    except Image.DecompressionBombError as error:
        raise DecodeError(f"too large: {error}") from error
    except Exception as error:  # damaged files leave Pillow's readers by nearly any exception
        raise DecodeError(f"damaged or truncated: {error or type(error).__name__}") from error
    return DecodedImage(pixels=pixels, mode=mode, format=kind)


def resize_image(pixels: np.ndarray, size: int) -> np.ndarray:
    """Squash to a square, antialiased (bilinear with support scaled by the reduction: no ringing at edges).

    pixels: (H, W, 3) uint8. Returns (size, size, 3) uint8.
    """
    if pixels.shape[:2] == (size, size):
        return pixels
    return np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))


def _to_rgb(image: Image.Image, kind: str) -> np.ndarray:
    # Pillow opens a 16-bit PGM as "I", scaled to 65535; any other "I" is 32-bit or signed: without a white.
    if image.mode in _WIDE_MODES or (image.mode == "I" and kind == "PPM"):
        return _grey_to_rgb(_scale_wide(np.asarray(image)))
    if image.mode == "I":
        raise DecodeError("32-bit or signed integer pixels have no defined scale; store 8 or 16 bits, unsigned")
    if image.mode == "F":
        return _grey_to_rgb(_scale_float(np.asarray(image)))
    if image.has_transparency_data:
        return _over_black(image)
    return np.asarray(image.convert("RGB"))


def _scale_wide(values: np.ndarray) -> np.ndarray:
    return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)


def _scale_float(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise DecodeError("floating-point pixels that are not finite")
    low, high = float(values.min()), float(values.max())
    if low < 0.0 or high > 1.0:
        raise DecodeError(f"floating-point pixels from {low:g} to {high:g}: only 0 to 1 has a defined scale")
    return np.rint(values * 255.0).astype(np.uint8)


def _grey_to_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def _over_black(image: Image.Image) -> np.ndarray:
    rgba = np.asarray(image.convert("RGBA"))
    alpha = rgba[:, :, 3:].astype(np.uint16)
    if not alpha.any():
        raise DecodeError("every pixel is fully transparent")
    return ((rgba[:, :, :3] * alpha + 127) // 255).astype(np.uint8)
