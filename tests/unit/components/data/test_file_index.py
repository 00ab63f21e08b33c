"""Hashing once, and again whenever there may be a reason."""

import hashlib
import os
import time

import numpy as np
import pandas as pd
import pytest

from components.data import file_index
from components.data.file_index import UNREADABLE, content_digest, digest_files, file_sha256, table_sha256
from components.data.files import Files
from components.data.sources.listing import make_listing


def listing_of(root, paths, masks=None):
    columns = {"path": paths, "label": ["good"] * len(paths), "mask": masks}
    return make_listing(Files(str(root)), columns, description="")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("a", "b", "c"):
        (folder / f"{name}.png").write_bytes(name.encode())
        make_old(folder / f"{name}.png")
    return folder


def make_old(file):
    os.utime(file, (1_600_000_000, 1_600_000_000))


@pytest.fixture
def digest(root, tmp_path):
    """Digest the three files; returns the table and how many were read."""

    def run(paths=("a.png", "b.png", "c.png"), masks=None):
        read = []
        table = digest_files(
            listing_of(root, list(paths), masks),
            index_folder=tmp_path / "index",
            workers=2,
            on_progress=lambda done, total: read.append(total),
        )
        return table, len(read)

    return run


def test_the_digest_is_that_of_the_bytes(digest):
    table, read = digest()
    assert table.loc["b.png", "sha256"] == hashlib.sha256(b"b").hexdigest()
    assert table.loc["b.png", "size"] == 1
    assert table.loc["b.png", "modified"] == 1_600_000_000
    assert read == 3


def test_a_second_time_nothing_is_read(digest):
    first, _ = digest()
    again, read = digest()
    assert read == 0
    assert again.equals(first)


def test_a_file_of_another_size_is_read_again(digest, root):
    digest()
    (root / "b.png").write_bytes(b"longer")
    make_old(root / "b.png")
    table, read = digest()
    assert read == 1
    assert table.loc["b.png", "sha256"] == hashlib.sha256(b"longer").hexdigest()


def test_another_content_of_the_same_size_and_time_is_seen_by_its_time_of_change(digest, root):
    digest()
    (root / "b.png").write_bytes(b"X")
    make_old(root / "b.png")
    table, read = digest()
    assert read == 1
    assert table.loc["b.png", "sha256"] == hashlib.sha256(b"X").hexdigest()


def test_a_file_that_changed_a_moment_ago_is_not_relied_on(digest, root):
    now = time.time()
    os.utime(root / "c.png", (now, now))
    digest()
    _, read = digest()
    assert read == 1


def test_a_file_that_is_gone_is_said_to_be_unreadable_and_read_once_it_is_back(digest, root):
    (root / "b.png").rename(root / "elsewhere")
    table, _ = digest()
    assert table.loc["b.png", "sha256"] == UNREADABLE
    assert table.loc["b.png", "size"] == -1
    assert np.isnan(table.loc["b.png", "modified"])
    (root / "elsewhere").rename(root / "b.png")
    table, read = digest()
    assert read == 1
    assert table.loc["b.png", "sha256"] == hashlib.sha256(b"b").hexdigest()


def test_what_is_listed_anew_is_added_and_what_was_left_out_is_no_longer_known(digest):
    assert digest(["a.png"])[1] == 1
    assert digest()[1] == 2


def test_the_content_digest_knows_no_place(root, tmp_path, digest):
    table, _ = digest()
    moved = tmp_path / "moved"
    root.rename(moved)
    listing = listing_of(moved, ["a.png", "b.png", "c.png"])
    elsewhere = digest_files(listing, index_folder=tmp_path / "other", workers=1, on_progress=lambda *_: None)
    assert content_digest(listing, elsewhere) == content_digest(listing, table)


def test_the_content_digest_changes_with_an_image_and_with_a_mask(root, digest):
    masks = [None, "c.png", None]
    listing = listing_of(root, ["a.png", "b.png"], masks[:2])
    before = content_digest(listing, digest(["a.png", "b.png"], masks[:2])[0])
    (root / "c.png").write_bytes(b"another mask")
    after = content_digest(listing, digest(["a.png", "b.png"], masks[:2])[0])
    (root / "a.png").write_bytes(b"another image")
    last = content_digest(listing, digest(["a.png", "b.png"], masks[:2])[0])
    assert len({before, after, last}) == 3


def test_a_run_that_is_killed_while_it_hashes_leaves_the_old_index(digest, root, tmp_path, monkeypatch):
    digest(["a.png"])

    def stop(files, path):
        raise KeyboardInterrupt

    monkeypatch.setattr("components.data.file_index._sha256", stop)
    with pytest.raises(KeyboardInterrupt):
        digest()
    monkeypatch.undo()
    _, read = digest()
    assert read == 2


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, (1 << 20) + 1])
def test_a_file_has_the_digest_of_its_bytes(tmp_path, size):
    data = bytes(range(256)) * (size // 256 + 1)
    (tmp_path / "x").write_bytes(data[:size])
    assert file_sha256(tmp_path / "x") == hashlib.sha256(data[:size]).hexdigest()


def test_missing_values_of_every_kind_count_as_the_same():
    digests = {
        table_sha256(pd.DataFrame({"a": pd.Series(values, dtype=kind)}))
        for values in (["x", None], ["x", np.nan], ["x", pd.NA])
        for kind in (object, "str")
    }
    assert len(digests) == 1


def test_the_order_of_columns_does_not_matter_but_names_and_rows_do():
    table = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    digest = table_sha256(table)
    assert table_sha256(table[["b", "a"]]) == digest
    assert table_sha256(table.iloc[::-1]) != digest
    assert table_sha256(table.rename(columns={"a": "c"})) != digest
    assert table_sha256(table.astype({"a": "int32"})) == digest
    assert table_sha256(table.set_index(np.array([7, 7]))) == digest


def test_cells_do_not_run_into_one_another():
    tables = [{"a": ["x", "y"], "b": ["z", ""]}, {"a": ["x", ""], "b": ["y", "z"]}, {"a": ["x, y", "z"], "b": ["", ""]}]
    assert len({table_sha256(pd.DataFrame(table)) for table in tables}) == 3
    assert table_sha256(pd.DataFrame({"a": []})) != table_sha256(pd.DataFrame({"a": [None]}))


def test_text_numbers_and_truth_differ():
    values = ["1", 1, True, "null", None, "true", "nan"]
    assert len({table_sha256(pd.DataFrame({"a": pd.Series([value], dtype=object)})) for value in values}) == 7


def test_numpy_scalars_count_as_plain_ones_and_what_has_no_plain_form_is_an_error():
    mixed = pd.DataFrame({"a": pd.Series([np.int64(3), np.float32(0.5), np.bool_(True)], dtype=object)})
    assert table_sha256(mixed) == table_sha256(pd.DataFrame({"a": pd.Series([3, 0.5, True], dtype=object)}))
    with pytest.raises(AttributeError, match="set"):
        table_sha256(pd.DataFrame({"a": [{1}]}))


def test_the_digest_of_a_long_table_does_not_depend_on_how_it_is_worked_through(monkeypatch):
    table = pd.DataFrame({"a": range(100), "b": [None, "x"] * 50})
    digest = table_sha256(table)
    monkeypatch.setattr(file_index, "_ROWS", 7)
    assert table_sha256(table) == digest
