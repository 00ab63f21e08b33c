"""Training-time augmentation for inspection images (albumentations, the MIT line 2.0).

Only what a camera over a line does to a part: other orientations, small shifts, light, focus, sensor noise. Nothing is
pasted, warped or cut out at a low strength: that would erase a small defect, or fake one.
"""

import os
import random
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import albumentations

# The library's import, here or in a process started from here, asks a server for updates unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]

KINDS = ("horizontal_flip", "vertical_flip", "quarter_turns", "shift", "light", "noise", "blur", "dropout")
#: Up to here nothing leaves the frame and nothing is smeared; above it, both happen a little.
_GENTLE = 0.5
_DROPOUT_FROM = 0.6
#: cv2.flip's code for (mirrored left to right, mirrored top to bottom).
_FLIPS = {(True, False): 1, (False, True): 0, (True, True): -1}


def build_augmentation(strength: float, kinds: Collection[str]) -> Augmentation:
    """A function of a batch (B, S, S, 3) uint8 and a generator, to a batch like it; the generator decides everything.

    strength: 0 (returns the batch itself) to 1; scales how far and how often, except for orientations, which lose
    nothing and are equally likely at any strength above 0. kinds: out of `KINDS`. Turns together with one flip make the
    other flip as well. The function keeps state while it runs: not for two threads at once.

    Measured with all kinds on one thread, images/s at strength 0.3, 0.5 and 1: 14,900, 11,300 and 4,400 at 96 px,
    11,900, 8,800 and 3,500 at 128 px.
    """
    if strength == 0.0 or not kinds:
        return lambda images, generator: images
    transform = _compose(strength, kinds)
    noise = strength if "noise" in kinds else 0.0
    light = strength if "light" in kinds else 0.0

    def augment(images: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        turned = _orient(images, kinds, generator)
        sigmas = _noise_levels(len(images), noise, generator)
        shades = _shades(len(images), light, generator)
        if transform is not None:
            # Compose(seed=…) gives every transform the same seed, and thus the same coin: whatever is blurred would
            # be brightened, too. One shared stream keeps them independent.
            transform.set_random_state(generator, random.Random(int(generator.integers(2**63))))
            turned = (transform(image=image)["image"] for image in turned)
        changed = np.empty_like(images)
        for position, (image, (corner, depth), sigma) in enumerate(zip(turned, shades, sigmas, strict=True)):
            shaded = _shade(image, corner, depth) if depth > 0 else image
            changed[position] = _add_noise(shaded, sigma, generator) if sigma > 0 else shaded
        return changed

    return augment


def _compose(strength: float, kinds: Collection[str]) -> "albumentations.Compose | None":
    """All that acts on one image at a time, in the order in which it happens to light on its way to the sensor."""
    steps: list[Any] = []
    for kind, make in (("shift", _shift), ("light", _light), ("blur", _blur), ("dropout", _dropout)):
        if kind in kinds:
            steps += make(strength)
    if not steps:
        return None
    import albumentations

    return albumentations.Compose(steps)


def _shift(strength: float) -> list[Any]:
    """A frame a little wider on each side, mirrored beyond the edge: moves and shrinks, and nothing is cut away.

    A plain shift would push a defect at the edge out of the picture.
    """
    import albumentations as library

    wider, narrower = 0.1 * strength, 0.08 * max(0.0, strength - _GENTLE)
    return [library.CropAndPad(percent=(-narrower, wider), border_mode=cv2.BORDER_REFLECT_101, p=0.8 * strength)]


def _light(strength: float) -> list[Any]:
    """Brighter, darker, flatter; each maps the whole range into itself.

    Gain and offset that saturate would erase a bright defect on a bright part.
    """
    import albumentations as library

    gamma = (100 * (1 - 0.4 * strength), 100 * (1 + 0.6 * strength))
    flatter = 0.3 * strength
    return [
        library.RandomGamma(gamma_limit=gamma, p=0.8),
        library.RandomBrightnessContrast(flatter, flatter, ensure_safe_range=True, p=0.5),
    ]


def _blur(strength: float) -> list[Any]:
    """A lens a little out of focus; above the gentle half also a part that moves. (Defocus took 640 µs an image.)"""
    import albumentations as library

    focus = library.GaussianBlur(sigma_limit=(0.1, 0.1 + 0.9 * strength), blur_limit=0, p=0.3 * strength)
    if strength <= _GENTLE:
        return [focus]
    return [focus, library.MotionBlur(blur_limit=(3, 5), allow_shifted=False, p=0.4 * (strength - _GENTLE))]


def _dropout(strength: float) -> list[Any]:
    """Up to three holes of at most 4 % of the side, filled from around them: they may hide a defect, and fake none."""
    import albumentations as library

    if strength <= _DROPOUT_FROM:
        return []
    return [
        library.CoarseDropout(
            num_holes_range=(1, 3),
            hole_height_range=(0.02, 0.04),
            hole_width_range=(0.02, 0.04),
            fill="inpaint_telea",
            p=0.5 * (strength - _DROPOUT_FROM),
        )
    ]


def _orient(images: np.ndarray, kinds: Collection[str], generator: np.random.Generator) -> Iterable[np.ndarray]:
    """Each image in an orientation that the kinds allow, all equally likely.

    Two mirrorings and a transposition make the eight symmetries of the square; those with an even number of the three
    are the rotations. By cv2, because the library turns with strided copies: 55 µs against 10 at 96 px.
    """
    flips = {"horizontal_flip", "vertical_flip"} & set(kinds)
    turns = "quarter_turns" in kinds
    across, down, diagonal = generator.integers(2, size=(3, len(images))).astype(bool)
    if not turns:
        across &= "horizontal_flip" in flips
        down &= "vertical_flip" in flips
        diagonal[:] = False
    elif not flips:
        diagonal = across ^ down
    for image, mirrored, transposed in zip(images, zip(across, down, strict=True), diagonal, strict=True):
        flipped = cv2.flip(image, _FLIPS[mirrored]) if any(mirrored) else image
        yield cv2.transpose(flipped) if transposed else flipped


def _shades(count: int, strength: float, generator: np.random.Generator) -> list[tuple[int, float]]:
    """Of each image the corner from which light falls off, and by how much at the opposite one; most by 0."""
    corners = generator.integers(4, size=count)
    depths = generator.uniform(0.01, 0.01 + 0.19 * strength, size=count)
    depths[generator.random(count) >= 0.3 * strength] = 0.0
    return list(zip(corners.tolist(), depths.tolist(), strict=True))


def _shade(image: np.ndarray, corner: int, depth: float) -> np.ndarray:
    """The corner as it is, darker with the distance from it.

    In operations that round as IEEE 754 says. (The library's Illumination uses cv2.distanceTransform, whose last bit
    depends on where in memory its result lies: two trainings from the same seed differed.)
    """
    down, across = np.arange(image.shape[0], dtype=np.float32), np.arange(image.shape[1], dtype=np.float32)
    down = down[::-1] if corner & 2 else down
    across = across[::-1] if corner & 1 else across
    distance = np.sqrt(down[:, None] ** 2 + across**2)
    field = 1 - distance * np.float32(depth / max(float(distance.max()), 1.0))
    return np.asarray(image * field[..., None] + np.float32(0.5)).astype(np.uint8)


def _noise_levels(count: int, strength: float, generator: np.random.Generator) -> np.ndarray:
    """Standard deviation of each image's noise in grey levels, (B,); most are 0."""
    levels = generator.uniform(0.0, 0.05 * 255 * strength, size=count) if strength else np.zeros(count)
    return np.where(generator.random(count) < 0.4 * strength, levels, 0.0)


def _add_noise(image: np.ndarray, sigma: float, generator: np.random.Generator) -> np.ndarray:
    """Gaussian noise, the same in all channels, so that grey stays grey.

    The library's GaussNoise does the same in floats: 140 µs against 45 at 96 px. Its source is cv2's, too, which has to
    be seeded right before use.
    """
    cv2.setRNGSeed(int(generator.integers(2**31)))
    field = np.empty(image.shape[:2], np.int16)
    cv2.randn(field, np.zeros(1), np.array([sigma]))
    return cv2.add(image, cv2.merge([field] * 3), dtype=cv2.CV_8U)
