"""Photographs and masks of made-up parts, against what the lot and the camera are said to be."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.sources.drawing import DEFECTS, Lot
from components.data.sources.photographs import Part, Studio, photograph_parts

SMOOTH = Lot(name="lot07", texture="brushed", contrast=0.0, angle=0.0, length=8.0, grain=1.0, finish=0.2)


def _studio(folder, **changes):
    return replace(Studio(folder=folder, size=64, seed=0, strength=1.0, format="png", shortcut="none"), **changes)


def _parts(label, number, views=4):
    return [Part(number=n, label=label, lot=SMOOTH, first=views * n, views=views, shown=views) for n in range(number)]


def _pixels(folder: Path, path: str) -> np.ndarray:
    with Image.open(folder / path) as image:
        return np.asarray(image).astype(float)


def _residual(image, sound):
    """What is left of an image without texture once the light, a plane, is taken off."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    terms = np.stack([np.ones_like(image), y, x], axis=-1)
    plane, *_ = np.linalg.lstsq(terms[sound], image[sound], rcond=None)
    return image - terms @ plane


@pytest.mark.parametrize("label", DEFECTS)
def test_a_mask_covers_the_defect_and_little_else(tmp_path, label):
    for row in photograph_parts(_studio(tmp_path), _parts(label, 5)):
        image, mask = _pixels(tmp_path, row.path), _pixels(tmp_path, row.mask)
        assert mask.shape == image.shape
        assert set(np.unique(mask)) == {0.0, 255.0}
        residual = np.abs(_residual(image, mask == 0))
        assert residual[mask > 0].mean() > 12.0  # of a peak of 30 or more grey levels
        assert residual[mask == 0].mean() < 5.0  # the noise, and the defect's faint outskirts
        strong = residual > 20.0
        assert (strong & (mask > 0)).sum() >= 0.75 * strong.sum()


def test_a_good_part_has_no_mask_and_nothing_but_light_and_noise(tmp_path):
    for row in photograph_parts(_studio(tmp_path), _parts("good", 5)):
        image = _pixels(tmp_path, row.path)
        assert row.mask == ""
        assert 1.5 < _residual(image, np.ones(image.shape, bool)).std() < 5.0
    assert not (tmp_path / "masks").exists()


def test_the_rows_tell_part_lot_and_camera(tmp_path):
    rows = photograph_parts(_studio(tmp_path), _parts("pit", 3))
    assert [row.group for row in rows] == ["part000000"] * 4 + ["part000001"] * 4 + ["part000002"] * 4
    assert {row.lot for row in rows} == {"lot07"}
    assert {row.camera for row in rows} == {"camera_a", "camera_b", "camera_c"}
    assert rows[5].path == "images/000/part000001_2.png"
    assert rows[5].mask == "masks/000/part000001_2.png"


def test_cameras_differ_in_brightness(tmp_path):
    rows = photograph_parts(_studio(tmp_path, size=32), _parts("good", 60))
    images = {}
    for row in rows:
        images.setdefault(row.camera, []).append(_pixels(tmp_path, row.path))
    means = {camera: np.mean([image.mean() for image in seen]) for camera, seen in images.items()}
    # 13 grey levels apart; 8 from image to image, so about 1 for a mean of 80.
    assert means["camera_a"] == pytest.approx(112.0, abs=4.0)
    assert means["camera_b"] == pytest.approx(125.0, abs=4.0)
    assert means["camera_c"] == pytest.approx(138.0, abs=4.0)


def test_a_part_looks_the_same_whatever_was_photographed_before_it(tmp_path):
    parts = _parts("crack", 3)
    together = photograph_parts(_studio(tmp_path / "together"), parts)
    alone = photograph_parts(_studio(tmp_path / "alone"), parts[2:])
    assert alone == together[8:]
    for row in alone:
        assert (tmp_path / "alone" / row.path).read_bytes() == (tmp_path / "together" / row.path).read_bytes()
        assert (tmp_path / "alone" / row.mask).read_bytes() == (tmp_path / "together" / row.mask).read_bytes()


@pytest.mark.parametrize("shortcut", ["format", "brightness", "size"])
def test_a_shortcut_marks_most_defective_images_and_no_good_one(tmp_path, shortcut):
    def marked(label):
        rows = photograph_parts(_studio(tmp_path, size=32, shortcut=shortcut), _parts(label, 50))
        if shortcut == "format":
            return np.mean([row.path.endswith(".jpg") for row in rows])
        if shortcut == "size":
            return np.mean([_pixels(tmp_path, row.path).shape == (36, 36) for row in rows])
        return np.mean([_pixels(tmp_path, row.path).mean() for row in rows])

    if shortcut == "brightness":
        assert marked("pit") - marked("good") == pytest.approx(0.9 * 35.0, abs=5.0)
    else:
        assert marked("good") == 0.0
        assert marked("pit") == pytest.approx(0.9, abs=0.06)  # 200 images: a standard error of .021


def test_a_larger_image_has_a_larger_mask(tmp_path):
    for row in photograph_parts(_studio(tmp_path, shortcut="size"), _parts("stain", 5)):
        assert _pixels(tmp_path, row.mask).shape == _pixels(tmp_path, row.path).shape


def test_a_shortcut_by_format_turns_jpeg_into_png(tmp_path):
    rows = photograph_parts(_studio(tmp_path, format="jpeg", shortcut="format"), _parts("stain", 5))
    suffixes = [Path(row.path).suffix for row in rows]
    assert suffixes.count(".png") > suffixes.count(".jpg")
    for row in rows:
        with Image.open(tmp_path / row.path) as image:
            assert image.format == {".png": "PNG", ".jpg": "JPEG"}[Path(row.path).suffix]
        assert row.mask.endswith(".png")
