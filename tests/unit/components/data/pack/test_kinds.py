"""What is kept depends on the room."""

import pytest

from components.data.pack.store import choose_kind

SIDE = 100  # 30,000 bytes an image


@pytest.mark.parametrize(
    ("free_disk", "memory", "kind"),
    [
        (60_000_000, 30_000_000, "decoded"),
        (59_999_999, 30_000_000, "encoded"),  # it would take more than half of the disk
        (60_000_000, 29_999_999, "encoded"),  # it would not stay in memory
        (36_000_000, 30_000_000, "encoded"),  # 0.6 of 30 MB is half of it
        (35_999_999, 30_000_000, "none"),
    ],
)
def test_the_fastest_kind_that_fits_is_taken(free_disk, memory, kind):
    assert choose_kind(images=1000, side=SIDE, free_disk=free_disk, memory=memory) == kind
