"""Whichever way the pixels are kept, the same ones come back."""

import pickle

import numpy as np
import pytest

from components.data.decode import DecodeError
from components.data.framing import Framing
from components.data.pack.reader import open_pack

KINDS = ["decoded", "encoded", "none"]
TILES = Framing(size=8, region=None, fit="letterbox", tile_size=12, tile_overlap=0.25)


@pytest.fixture
def files(root, encode, noise):
    """Two in colour, one grey."""
    (root / "a.png").write_bytes(encode(noise(1)))
    (root / "b.jpg").write_bytes(encode(noise(2), "JPEG"))
    (root / "c.png").write_bytes(encode(noise(3)[:, :, 0]))
    return ["a.png", "b.jpg", "c.png"]


@pytest.mark.parametrize("kind", ["encoded", "none"])
@pytest.mark.parametrize("framing", [None, TILES])
def test_every_kind_gives_the_same_pixels(pack_up, files, kind, framing):
    chosen = {} if framing is None else {"framing": framing}
    expected = pack_up(files, **chosen)
    order = expected.table["pack_index"].to_numpy()
    pixels = expected.pack[order]
    other = pack_up(files, kind=kind, **chosen)
    assert other.pack.kind == kind
    np.testing.assert_array_equal(other.pack[other.table["pack_index"].to_numpy()], pixels)
    np.testing.assert_array_equal(other.pack.thumbnails(order), expected.pack.thumbnails(order))


def test_no_pixels_are_stored_where_none_are_wanted(pack_up, files, tmp_path):
    pack_up(files, kind="none")
    assert {file.suffix for file in (tmp_path / "pack").iterdir()} == {".thumbnails", ".parquet", ".json"}


@pytest.mark.parametrize("kind", KINDS)
def test_one_number_gives_one_image_and_several_give_a_batch_of_its_own(pack_up, files, kind):
    pack = pack_up(files, kind=kind).pack
    batch = pack[np.array([2, 0, 2])]
    assert batch.shape == (3, 8, 8, 3)
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch[0], pack[2])
    np.testing.assert_array_equal(batch[1], pack[0])
    before = pack[2].copy()
    batch[:] = 0
    np.testing.assert_array_equal(pack[2], before)


@pytest.mark.parametrize("kind", KINDS)
def test_a_pickled_pack_reads_the_same(pack_up, files, kind):
    pack = pack_up(files, kind=kind).pack
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(pack))[1], pack[1])
    assert len(pickle.dumps(pack)) < 500


def test_stored_pixels_cannot_be_written_to(pack_up, files):
    with pytest.raises(ValueError, match="read-only"):
        pack_up(files).pack[0][0] = 0


@pytest.mark.parametrize("index", [3, -1])
def test_a_row_that_is_not_there_is_an_error(pack_up, files, index):
    with pytest.raises(IndexError, match="of a pack with 3"):
        pack_up(files).pack[index]


def test_thumbnails_come_in_the_order_asked_for(pack_up, files):
    packed = pack_up(files)
    all_three = packed.pack.thumbnails(np.arange(3))
    np.testing.assert_array_equal(packed.pack.thumbnails(np.array([2, 0])), all_three[[2, 0]])
    assert all_three.shape == (3, 64, 64)


def test_without_stored_pixels_a_source_that_has_gone_is_an_error(pack_up, files, root):
    pack = pack_up(files, kind="none").pack
    (root / "a.png").write_bytes(b"")
    (root / "b.jpg").unlink()
    (root / "c.png").unlink()
    raised = set()
    for number in range(3):
        with pytest.raises((OSError, DecodeError)) as caught:
            pack[number]
        raised.add(caught.type)
    assert raised == {FileNotFoundError, DecodeError}


def test_the_framing_comes_back_as_it_was(pack_up, files):
    framing = Framing(size=8, region=(1, 2, 9, 10), fit="squash", tile_size=None, tile_overlap=0.25)
    packed = pack_up(files, framing=framing)
    assert packed.pack.framing == framing
    assert open_pack(packed.pack.directory.parent).size == 8
