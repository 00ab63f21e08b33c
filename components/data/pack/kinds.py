"""How the pack keeps pixels: decoded, encoded, or not at all; and what there is room for."""

from typing import Literal

Kind = Literal["decoded", "encoded", "none"]

ENCODED_SHARE = 0.6
"""PNG's share of the pixels' size, on the safe side: measured on textures 0.2 (grey) to 0.5 (colour)."""
DISK_SHARE = 0.5
"""Of the free disk, the most that a pack may take without being asked for."""


def choose_kind(*, images: int, side: int, free_disk: int, memory: int) -> Kind:
    """The fastest kind that fits.

    Decoded pixels are read from the page cache, so they should fit into memory as well as on the disk; encoded ones
    are smaller and cost about as much as reading a small file; none costs decoding the original at each use.

    images: framed images. side: pixels. free_disk, memory: bytes.
    """
    pixels = images * side * side * 3
    room = DISK_SHARE * free_disk
    if pixels <= room and pixels <= memory:
        return "decoded"
    return "encoded" if ENCODED_SHARE * pixels <= room else "none"
