"""The pack: complete or absent, content-addressed, and a list of what is not in it."""

import hashlib
import os

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from components.data.framing import Framing
from components.data.pack import shards
from components.data.pack import store as store_module
from components.data.pack.reader import open_pack
from components.data.pack.workers import on_cores
from components.errors import InputError


def shown(packed):
    """path → grey level of its image in the pack."""
    return {row.path: int(packed.pack[row.pack_index][0, 0, 0]) for row in packed.table.itertuples()}


@pytest.fixture
def mixed(root, write_image, encode):
    """Two good files among each kind of bad one."""
    write_image(root / "a.png", 10)
    (root / "empty.png").write_bytes(b"")
    (root / "folder.png").mkdir()
    (root / "text.png").write_text("not an image", encoding="utf-8")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    (root / "torn.jpg").write_bytes(encode(noise, "JPEG")[:900])
    (root / "z.bmp").write_bytes(encode(np.full((20, 30), 200, np.uint8), "BMP"))
    return ["a.png", "empty.png", "folder.png", "gone.png", "text.png", "torn.jpg", "z.bmp"]


def test_bad_files_are_quarantined_with_reasons(pack_up, mixed):
    packed = pack_up(mixed)
    assert shown(packed) == {"a.png": 10, "z.bmp": 200}
    reasons = packed.result.quarantine.set_index("path")["reason"].to_dict()
    assert reasons["empty.png"] == "the file is empty"
    assert reasons["folder.png"] == "cannot be read: Is a directory"
    assert reasons["gone.png"] == "cannot be read: No such file or directory"
    assert "not an image" in reasons["text.png"]
    assert "truncated" in reasons["torn.jpg"]
    assert len(reasons) == 5
    assert len(packed.pack) == 2


def test_bad_files_are_not_decoded_again_either(pack_up, mixed):
    first = pack_up(mixed)
    again = pack_up(mixed)
    assert again.tasks == []
    assert again.result.quarantine.equals(first.result.quarantine)


def test_the_table_describes_the_original(pack_up, mixed, root):
    row = pack_up(mixed).table.set_index("path").loc["z.bmp"]
    assert (row["width"], row["height"], row["mode"], row["format"]) == (30, 20, "L", "BMP")
    assert row["sha256"] == hashlib.sha256((root / "z.bmp").read_bytes()).hexdigest()
    assert row["bytes"] == (root / "z.bmp").stat().st_size
    assert row["modified"] == (root / "z.bmp").stat().st_mtime
    assert row["brightness"] == pytest.approx(200 / 255)
    assert (row["frames"], row["orientation"], row["box"]) == (1, 1, "")
    assert np.isnan(row["defect_area"])


def test_the_types_do_not_depend_on_whether_a_file_is_bad(pack_up, mixed):
    with_bad, without = pack_up(mixed).table, pack_up(["a.png", "z.bmp"]).table
    assert with_bad.dtypes.to_dict() == without.dtypes.to_dict()
    assert with_bad["width"].dtype == "int64"


def test_width_and_height_are_those_of_the_upright_image(pack_up, root, encode):
    exif = Image.Exif()
    exif[0x0112] = 6
    (root / "a.png").write_bytes(encode(np.zeros((20, 30), np.uint8), exif=exif))
    row = pack_up(["a.png"]).table.iloc[0]
    assert (row["width"], row["height"], row["orientation"]) == (20, 30, 6)


def test_nothing_decodable_is_an_error_that_shows_the_first_reason(pack_up, root):
    (root / "a.png").write_bytes(b"")
    with pytest.raises(InputError, match=r"none of 1 images .* a\.png: the file is empty"):
        pack_up(["a.png"])


def test_identical_files_share_one_row(pack_up, levels, root):
    levels(10)
    (root / "copy.png").write_bytes((root / "010.png").read_bytes())
    packed = pack_up(["010.png", "copy.png"])
    assert packed.table["pack_index"].tolist() == [0, 0]
    assert len(packed.pack) == 1


def test_only_new_and_changed_files_are_decoded(pack_up, levels, write_image, root):
    pack_up(levels(10, 20, 30))
    write_image(root / "020.png", 99)
    packed = pack_up([*levels(10, 30, 40), "020.png"])
    assert {item.path for task in packed.tasks for item in task.items} == {"020.png", "040.png"}
    assert packed.result.decoded == 2
    assert shown(packed) == {"010.png": 10, "020.png": 99, "030.png": 30, "040.png": 40}


def test_a_file_that_moved_is_not_decoded_again(pack_up, levels, root):
    pack_up(levels(10, 20))
    (root / "elsewhere").mkdir()
    (root / "010.png").rename(root / "elsewhere" / "renamed.png")
    packed = pack_up(["020.png", "elsewhere/renamed.png"])
    assert packed.tasks == []
    assert shown(packed)["elsewhere/renamed.png"] == 10


def test_another_framing_packs_anew(pack_up, levels):
    paths = levels(10)
    pack_up(paths)
    larger = Framing(size=16, region=None, fit="squash", tile_size=None, tile_overlap=0.0)
    packed = pack_up(paths, framing=larger)
    assert len(packed.tasks) == 1
    assert packed.pack[0].shape == (16, 16, 3)


@pytest.mark.parametrize("kind", ["decoded", "none"])
def test_significant_bits_scale_what_is_packed_and_set_aside_what_has_more(pack_up, root, encode, kind):
    for name, value in (("a", 4095), ("b", 0), ("c", 4096)):
        (root / f"{name}.png").write_bytes(encode(np.full((8, 8), value, np.uint16)))
    before = pack_up(["a.png", "b.png", "c.png"], kind=kind)
    assert before.table["peak"].tolist() == [4095, 0, 4096]
    assert {int(before.pack[number].max()) for number in range(3)} == {0, 16}
    twelve = Framing(size=8, region=None, fit="squash", tile_size=None, tile_overlap=0.0, significant_bits=12)
    packed = pack_up(["a.png", "b.png", "c.png"], kind=kind, framing=twelve)
    assert {int(packed.pack[number].max()) for number in range(2)} == {0, 255}
    assert packed.result.quarantine.values.tolist() == [
        ["c.png", "a pixel value of 4096, and 4095 is white by the bits that count (significant_bits)"]
    ]


def test_shards_without_an_image_of_this_data_set_are_not_taken_along(pack_up, levels, tmp_path):
    pack_up(levels(10))
    pack_up(levels(20))
    assert len(list((tmp_path / "store").glob("*/*.pixels"))) == 2
    assert len(list((tmp_path / "pack").glob("*.pixels"))) == 1


def test_a_pack_stands_when_the_store_is_emptied(pack_up, levels, tmp_path):
    packed = pack_up(levels(10, 20))
    for file in (tmp_path / "store").rglob("*"):
        if file.is_file():
            file.unlink()
    assert open_pack(tmp_path)[packed.table["pack_index"].to_numpy()].shape == (2, 8, 8, 3)


def test_without_links_the_shards_are_copied(pack_up, levels, monkeypatch):
    def refuse(source, target):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert shown(pack_up(levels(10))) == {"010.png": 10}


def test_progress_adds_up_to_all_files(pack_up, levels):
    first = pack_up(levels(10, 20))
    assert sum(first.progress) == 2
    again = pack_up(levels(10, 20, 30))
    assert again.progress[0] == 2
    assert sum(again.progress) == 3


def test_a_run_killed_while_it_packs_leaves_nothing_that_is_trusted(pack_up, levels, tmp_path, monkeypatch):
    paths = levels(10, 20)
    real, written = shards.measure, []

    def killed_at_the_second(pixels):
        written.append(1)
        if len(written) == 2:
            raise KeyboardInterrupt
        return real(pixels)

    monkeypatch.setattr(shards, "measure", killed_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        pack_up(paths)
    left = [file.name for file in (tmp_path / "store").rglob("*") if file.is_file()]
    assert [name for name in left if not name.endswith(".tmp") and name != ".lock"] == []
    monkeypatch.undo()
    packed = pack_up(paths)
    assert packed.result.decoded == 2
    assert shown(packed) == {"010.png": 10, "020.png": 20}
    assert not list((tmp_path / "store").rglob("*.tmp"))


@pytest.mark.parametrize("last", [".pixels", ".thumbnails"])
def test_a_shard_without_its_table_is_not_there(pack_up, levels, tmp_path, last):
    paths = levels(10)
    pack_up(paths)
    for file in (tmp_path / "store").glob("*/*"):
        if file.suffix not in (last, ".lock"):
            file.unlink()
    assert pack_up(paths).result.decoded == 1


def test_a_file_that_changes_between_hashing_and_packing_stops_the_run(pack_up, levels, root, monkeypatch):
    paths = levels(10)
    real = store_module._missing_items

    def change_then_list(wanted, packed):
        (root / paths[0]).write_bytes(b"something else")
        return real(wanted, packed)

    monkeypatch.setattr(store_module, "_missing_items", change_then_list)
    with pytest.raises(InputError, match="changed while it was read"):
        pack_up(paths)


def test_workers_that_write_elsewhere_are_found_out(pack_up, levels):
    with pytest.raises(InputError, match=r"storage\.root.*every node shares"):
        pack_up(levels(10), map_tasks=lambda function, tasks: iter([len(task.items) for task in tasks]))


def test_many_files_become_several_shards_and_each_image_is_found(pack_up, levels, monkeypatch):
    monkeypatch.setattr(store_module, "_FEWEST_FILES", 3)
    paths = levels(*range(50))
    packed = pack_up(paths, workers=2)
    assert len(packed.tasks) == 8  # 50 files over 2 workers and 4 shards each: 7 files a shard
    assert shown(packed) == {path: int(path[:3]) for path in paths}


@pytest.mark.slow
def test_processes_give_the_same_pack_as_one(pack_up, levels, monkeypatch, tmp_path, at_once):
    monkeypatch.setattr(store_module, "_FEWEST_FILES", 5)
    paths = levels(*range(20))
    alone = pack_up(paths)
    pixels = alone.pack[alone.table["pack_index"].to_numpy()]
    for file in (tmp_path / "store").rglob("*.parquet"):
        file.unlink()
    spread = pack_up(paths, workers=1, map_tasks=on_cores(2))
    assert spread.table.equals(alone.table)
    np.testing.assert_array_equal(spread.pack[spread.table["pack_index"].to_numpy()], pixels)


def test_a_mask_gives_the_defects_share_and_size(pack_up, root, encode):
    (root / "a.png").write_bytes(encode(np.full((20, 40), 90, np.uint8)))
    mask = np.zeros((20, 40), np.uint8)
    mask[5:10, 10:30] = 255
    (root / "m.png").write_bytes(encode(mask))
    row = pack_up(["a.png"], masks=["m.png"]).table.iloc[0]
    assert row["defect_area"] == pytest.approx(5 * 20 / 800)
    assert row["defect_pixels"] == pytest.approx(5 * 8 / 20)  # five of twenty rows, on eight


@pytest.mark.parametrize(
    ("mask", "reason"),
    [(np.zeros((9, 9), np.uint8), "its mask: the mask is 9 × 9 px"), (b"", "its mask: the file is empty")],
)
def test_a_mask_that_does_not_fit_quarantines_the_image(pack_up, root, encode, levels, mask, reason):
    (root / "a.png").write_bytes(encode(np.full((20, 40), 90, np.uint8)))
    (root / "m.png").write_bytes(mask if isinstance(mask, bytes) else encode(mask))
    packed = pack_up(["a.png", *levels(10)], masks=["m.png", None])
    assert reason in packed.result.quarantine.set_index("path").loc["a.png", "reason"]


def test_a_mask_that_is_gone_quarantines_the_image(pack_up, levels):
    packed = pack_up(levels(10, 20), masks=["gone.png", None])
    assert packed.result.quarantine["path"].tolist() == ["010.png"]


def test_tiles_are_rows_of_their_own(pack_up, root, encode):
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, 16:] = 200
    (root / "wide.png").write_bytes(encode(pixels))
    tiles = Framing(size=8, region=None, fit="squash", tile_size=16, tile_overlap=0.0)
    table = pack_up(["wide.png"], framing=tiles).table
    assert table["box"].tolist() == ["0,0,16,16", "16,0,32,16"]
    assert table["pack_index"].tolist() == [0, 1]


def test_shards_that_no_pack_uses_are_swept_and_no_others(pack_up, levels, tmp_path):
    pack_up(levels(10))
    packed = pack_up(levels(20))  # takes the place of the first pack
    packs = [tmp_path / "pack", tmp_path / "of an unfinished result"]
    shards, size = store_module.sweep_store(tmp_path / "store", packs, remove=False)
    assert (shards, size > 8 * 8 * 3) == (1, True)
    assert len(list((tmp_path / "store").glob("*/*.parquet"))) == 2
    assert store_module.sweep_store(tmp_path / "store", packs, remove=True) == (shards, size)
    assert store_module.sweep_store(tmp_path / "store", packs, remove=True) == (0, 0)
    assert len(list((tmp_path / "store").glob("*/*.parquet"))) == 1
    assert pack_up(levels(20)).tasks == []
    assert shown(packed) == {"020.png": 20}
    assert pack_up(levels(10)).result.decoded == 1


def test_a_store_in_use_is_not_swept(pack_up, levels, tmp_path):
    pack_up(levels(10))
    pack_up(levels(20))
    (folder,) = (tmp_path / "store").iterdir()
    with FileLock(folder / ".lock"):
        assert store_module.sweep_store(tmp_path / "store", [], remove=True) == (0, 0)


def test_a_shard_is_kept_by_the_pack_of_its_own_framing(pack_up, levels, tmp_path):
    small = Framing(size=4, region=None, fit="squash", tile_size=None, tile_overlap=0.0)
    pack_up(levels(10), framing=small)
    pack_up(levels(10))  # the same file, so a shard of the same name, in another folder of the store
    assert store_module.sweep_store(tmp_path / "store", [tmp_path / "pack"], remove=True)[0] == 1
    assert pack_up(levels(10)).tasks == []


def test_the_sweep_touches_nothing_of_a_persons(pack_up, levels, tmp_path):
    pack_up(levels(10))
    (shards,) = (tmp_path / "store").iterdir()
    (tmp_path / "store/good").mkdir()
    (tmp_path / "store/good/a.parquet").write_bytes(b"x")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/b.parquet").write_bytes(b"x")
    (tmp_path / "store" / ("0" * 16)).symlink_to(tmp_path / "elsewhere")
    assert store_module.sweep_store(tmp_path / "store", [], remove=True)[0] == 1
    assert sorted(path.name for path in (tmp_path / "store").glob("*/*.parquet")) == ["a.parquet", "b.parquet"]
    assert [path.name for path in (tmp_path / "store/good").iterdir()] == ["a.parquet"]  # no lock file, either
    assert list(shards.glob("*.parquet")) == []
