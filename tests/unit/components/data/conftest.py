"""Files made for the tests of the data folder."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from components.data.sources.listing import SourceOptions


@pytest.fixture
def options(tmp_path):
    def make(**changes):
        values = {
            "path_column": "path",
            "label_column": "label",
            "group_column": None,
            "split_column": None,
            "mask_column": None,
            "confidence_column": None,
            "metadata_columns": (),
            "root": None,
            "defect_threshold": 0.5,
            "cache_dir": tmp_path / "cache",
        }
        return SourceOptions(**(values | changes))

    return make


@pytest.fixture
def encode():
    """Pixels or an image to the bytes of a file."""

    def make(pixels, kind="PNG", **settings):
        image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(np.asarray(pixels))
        buffer = io.BytesIO()
        image.save(buffer, kind, **settings)
        return buffer.getvalue()

    return make


@pytest.fixture
def write_image(encode):
    """Write a PNG of one grey level, with its parent folders."""

    def make(path: Path, level=128, side=8):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(np.full((side, side), level, np.uint8)))
        return path

    return make
