"""Small folders of images, each image of another grey."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def draw():
    """`draw(folder, count, size=…, name=…)`: PNG files below a folder; name: from a number to a file's name."""
    greys = itertools.count()

    def make(folder: Path, count, *, size=(40, 30), name="{:03}.png".format):
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            Image.fromarray(np.full(size[::-1], next(greys) % 256, np.uint8)).save(folder / name(number))
        return folder

    return make


@pytest.fixture
def castings(tmp_path, draw):
    """A folder of 20 good images and 12 with scratches."""
    draw(tmp_path / "castings" / "good", 20)
    draw(tmp_path / "castings" / "scratch", 12)
    return tmp_path / "castings"
