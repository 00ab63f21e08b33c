"""A pack of images in memory."""

import numpy as np

from components.data.framing import Framing

SIZE = 32


class Pixels:
    """A pack in memory."""

    size = SIZE
    framing = Framing(size=SIZE, region=None, fit="squash", tile_size=None, tile_overlap=0.0)

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, index):
        return self.pixels[index]
