"""The pack: complete or absent, and a list of what is not in it."""

import hashlib
import threading

import numpy as np
import pytest
from PIL import Image

from components.data import pack as pack_module
from components.data.listing import make_listing
from components.data.pack import build_pack, open_pack
from components.errors import InputError


def listing_of(root, paths):
    labels = ["good"] * len(paths)
    return make_listing(root, path=paths, label=labels, group=None, split=None, metadata={}, description="")


def build(root, paths, directory, **changes):
    settings = {"size": 8, "directory": directory, "workers": 3, "on_progress": lambda *_: None}
    return build_pack(listing_of(root, paths), **(settings | changes))


@pytest.fixture
def mixed(tmp_path, write_image, encode):
    """Two good files among each kind of bad one."""
    root = tmp_path / "images"
    write_image(root / "a.png", 10)
    (root / "empty.png").write_bytes(b"")
    (root / "folder.png").mkdir()
    (root / "text.png").write_text("not an image", encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    (root / "torn.jpg").write_bytes(encode(noise, "JPEG")[:900])
    (root / "z.bmp").write_bytes(encode(np.full((20, 30), 200, np.uint8), "BMP"))
    return root, ["a.png", "empty.png", "folder.png", "gone.png", "text.png", "torn.jpg", "z.bmp"]


def test_bad_files_are_quarantined_with_reasons_and_the_pack_is_trimmed(mixed, tmp_path):
    root, paths = mixed
    result = build(root, paths, tmp_path / "pack")
    assert result.table["path"].tolist() == ["a.png", "z.bmp"]
    assert result.table["pack_index"].tolist() == [0, 1]
    reasons = result.quarantine.set_index("path")["reason"].to_dict()
    assert reasons["empty.png"] == "the file is empty"
    assert reasons["folder.png"] == "not a file"
    assert reasons["gone.png"] == "cannot be read: No such file or directory"
    assert "not an image" in reasons["text.png"]
    assert "truncated" in reasons["torn.jpg"]
    pack = open_pack(tmp_path / "pack")
    assert pack.shape == (2, 8, 8, 3)
    np.testing.assert_array_equal(pack[0], 10)
    np.testing.assert_array_equal(pack[1], 200)
    size = (tmp_path / "pack" / "images.npy").stat().st_size
    assert size % (8 * 8 * 3) == 128  # a header of 128 bytes, then two images and nothing else
    assert size == 128 + 2 * 8 * 8 * 3


def test_the_table_describes_the_original(mixed, tmp_path):
    root, paths = mixed
    row = build(root, paths, tmp_path / "pack").table.iloc[1]
    assert (row["width"], row["height"], row["mode"], row["format"]) == (30, 20, "L", "BMP")
    assert row["sha256"] == hashlib.sha256((root / "z.bmp").read_bytes()).hexdigest()


def test_width_and_height_are_those_of_the_upright_image(tmp_path, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.png").write_bytes(encode(np.zeros((20, 30), np.uint8), exif=exif))
    row = build(tmp_path, ["a.png"], tmp_path / "pack").table.iloc[0]
    assert (row["width"], row["height"]) == (20, 30)


def test_without_bad_files_the_quarantine_is_an_empty_table(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    quarantine = build(tmp_path, ["a.png"], tmp_path / "pack").quarantine
    assert list(quarantine.columns) == ["path", "reason"]
    assert len(quarantine) == 0


def test_rows_follow_the_listing_whichever_thread_is_first(tmp_path, write_image):
    paths = [f"{number:03d}.png" for number in range(100)]
    for number, path in enumerate(paths):
        write_image(tmp_path / path, number, side=4 if number % 2 else 200)
    result = build(tmp_path, paths, tmp_path / "pack", workers=4)
    assert result.table["path"].tolist() == paths
    np.testing.assert_array_equal(open_pack(tmp_path / "pack")[:, 0, 0, 0], np.arange(100))


def test_progress_is_told_for_each_image_from_the_calling_thread(mixed, tmp_path):
    root, paths = mixed
    calls = []
    build(
        root,
        paths,
        tmp_path / "pack",
        on_progress=lambda done, total: calls.append((done, total, threading.current_thread())),
    )
    assert calls == [(number, 7, threading.main_thread()) for number in range(1, 8)]


def test_nothing_decodable_is_an_error_that_shows_the_first_reason(tmp_path):
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"none of 1 images .* a\.png: the file is empty"):
        build(tmp_path, ["a.png"], tmp_path / "pack")
    assert list((tmp_path / "pack").iterdir()) == []


def test_an_interrupted_build_leaves_the_former_pack_and_no_remains(tmp_path, write_image):
    write_image(tmp_path / "a.png", 10)
    build(tmp_path, ["a.png"], tmp_path / "pack")
    write_image(tmp_path / "a.png", 99)

    def interrupt(*_args):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, ["a.png"], tmp_path / "pack", on_progress=interrupt)
    assert [path.name for path in (tmp_path / "pack").iterdir()] == ["images.npy"]
    np.testing.assert_array_equal(open_pack(tmp_path / "pack"), 10)
    build(tmp_path, ["a.png"], tmp_path / "pack")
    np.testing.assert_array_equal(open_pack(tmp_path / "pack"), 99)


def test_only_a_few_images_per_worker_are_in_memory(tmp_path, write_image, monkeypatch):
    paths = [f"{number:03d}.png" for number in range(64)]
    for path in paths:
        write_image(tmp_path / path)
    decoded, consumed, most = [], [], []
    decode_file = pack_module._decode_file

    def counting(path, size):
        decoded.append(path)
        return decode_file(path, size)

    monkeypatch.setattr(pack_module, "_decode_file", counting)

    def progress(*_args):
        consumed.append(1)
        most.append(len(decoded) - len(consumed))

    build(tmp_path, paths, tmp_path / "pack", workers=2, on_progress=progress)
    assert max(most) <= 4 * 2


def test_the_pack_is_a_read_only_memory_map(tmp_path, write_image):
    write_image(tmp_path / "a.png")
    build(tmp_path, ["a.png"], tmp_path / "pack")
    pack = open_pack(tmp_path / "pack")
    assert isinstance(pack, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        pack[0] = 0


def test_the_header_has_the_same_length_for_any_count():
    lengths = {len(pack_module._header(count, 128)) for count in (0, 1, 99_999, 10**9)}
    assert len(lengths) == 1
