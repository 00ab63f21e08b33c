"""How prepared data come to workers, with Ray's object store replaced by a dict; a real one is integration-tested."""

import json
import os
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import ray

from components.errors import InputError
from pipeline.compute import shipping
from pipeline.compute.shipping import (
    SHIP_VARIABLE,
    UNUSED_DAYS,
    Prepared,
    ShippedFile,
    local_folder,
    seen_by_nodes,
    ship,
)
from pipeline.config import ComputeConfig
from pipeline.stage import StageRecord

CLUSTER = ComputeConfig(ray_address="auto")
CONTENTS = {
    "manifest.parquet": b"rows",
    "pack/pack.json": json.dumps({"kind": "decoded", "files": "/elsewhere"}).encode(),
    "pack/ab.pixels": bytes(range(250)) * 2,
    "pack/ab.parquet": b"",
    "pack/ab.thumbnails": b"not for training",
}


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch) -> Path:
    """Where this machine keeps its copies."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(shipping.tempfile, "gettempdir", lambda: str(folder))
    return folder / (f"escapement-{os.getuid()}" if hasattr(os, "getuid") else "escapement")


@pytest.fixture(autouse=True)
def store(monkeypatch) -> dict[int, np.ndarray]:
    """Ray's object store; a file goes in parts of 100 bytes."""
    objects: dict[int, np.ndarray] = {}

    def put(chunk: np.ndarray) -> int:
        objects[len(objects)] = chunk
        return len(objects) - 1

    monkeypatch.setattr(ray, "put", put)
    monkeypatch.setattr(ray, "get", objects.__getitem__)
    monkeypatch.setattr(shipping, "CHUNK_BYTES", 100)
    return objects


@pytest.fixture
def nodes(monkeypatch):
    """Nodes that answer so, by name; this process is on `own`."""

    def answer(**answers: bool | None) -> None:
        from components import cluster

        monkeypatch.setattr(cluster, "ask_each_node", lambda function, question, *, patience: answers)
        monkeypatch.setattr(cluster, "own_node", lambda: "own")

    return answer


def prepare(folder: Path, result_id: str = "one") -> StageRecord:
    for name, content in CONTENTS.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    values = dict.fromkeys(("stage", "fingerprint", "run_id", "commit"), "")
    record = StageRecord(
        **values, version=1, result_id=result_id, inputs={}, sections={}, headline={}, artifacts={}, seconds=0.0,
        versions={}, directory=folder,
    )  # fmt: skip
    record.write()
    return record


@pytest.fixture
def shipped(tmp_path, nodes) -> Prepared:
    """Data in the object store, whose folder no worker sees."""
    nodes(own=True, other=False)
    found = ship(prepare(tmp_path / "prepared"), compute=CLUSTER)
    return Prepared(tmp_path / "elsewhere", found.result_id, found.files)


def test_on_one_machine_the_folder_itself_is_used(tmp_path, store) -> None:
    prepared = ship(prepare(tmp_path / "prepared"), compute=ComputeConfig())
    assert prepared == Prepared(tmp_path / "prepared", "one")
    assert local_folder(prepared) == tmp_path / "prepared"
    assert not store


def test_what_all_nodes_see_is_not_sent(tmp_path, nodes, store) -> None:
    nodes(own=True, other=True)
    assert ship(prepare(tmp_path / "prepared"), compute=CLUSTER).files is None
    assert not store


@pytest.mark.parametrize(
    "answers",
    [{"own": True}, {"own": True, "other": False}, {"own": True, "other": None}, {"own": False, "other": True}, {}],
    ids=["the driver's alone", "not seen", "no answer", "not seen by its own", "no node"],
)
def test_a_folder_counts_as_shared_when_every_node_and_another_than_the_drivers_sees_it(
    tmp_path, nodes, answers
) -> None:
    nodes(**answers)
    assert not seen_by_nodes(tmp_path, "")
    assert ship(prepare(tmp_path / "prepared"), compute=CLUSTER).files is not None


def test_a_node_sees_a_result_by_its_text_and_not_by_its_place(tmp_path) -> None:
    prepare(tmp_path, "one")
    assert shipping._reads((tmp_path / "stage.json", "one"))
    assert not shipping._reads((tmp_path / "stage.json", "another"))
    assert not shipping._reads((tmp_path / "absent.json", "one"))


def test_what_training_reads_is_sent_in_parts(shipped, store) -> None:
    assert shipped.files is not None
    sizes = {file.name: (file.size, len(file.chunks)) for file in shipped.files}
    assert sizes["pack/ab.pixels"] == (500, 5)
    assert sizes["pack/ab.parquet"] == (0, 0)
    assert sizes.keys() == {*CONTENTS, "stage.json"} - {"pack/ab.thumbnails"}
    assert max(map(len, store.values())) == 100


def test_a_worker_that_does_not_see_the_folder_gets_the_same_bytes(shipped, place) -> None:
    folder = local_folder(shipped)
    assert folder == place / "one"
    for name, content in CONTENTS.items():
        assert (folder / name).exists() == (not name.endswith(".thumbnails"))
        if (folder / name).exists():
            assert (folder / name).read_bytes() == content
    assert not list(place.glob("*.tmp"))


def test_the_copy_is_made_once(shipped, store) -> None:
    folder = local_folder(shipped)
    store.clear()
    assert local_folder(shipped) == folder


def test_a_worker_that_sees_the_folder_reads_there(tmp_path, shipped, place) -> None:
    prepare(tmp_path / "elsewhere", "one")
    assert local_folder(shipped) == tmp_path / "elsewhere"
    prepare(tmp_path / "elsewhere", "made anew since")
    assert local_folder(shipped) == place / "one"


def test_a_copy_of_which_a_file_was_cleared_away_is_made_again(shipped) -> None:
    (local_folder(shipped) / "pack" / "ab.pixels").unlink()
    assert (local_folder(shipped) / "pack" / "ab.pixels").read_bytes() == CONTENTS["pack/ab.pixels"]


def test_what_a_killed_worker_left_is_made_anew(shipped, place) -> None:
    (place / "one.tmp" / "pack").mkdir(parents=True)
    place.chmod(0o700)
    (place / "one.tmp" / "pack" / "stray").write_bytes(b"half")
    assert not (local_folder(shipped) / "pack" / "stray").exists()


def test_copies_that_nobody_has_opened_for_a_week_go_when_another_is_made(shipped, place) -> None:
    now = time.time()
    for name, days in (("recent", UNUSED_DAYS - 1), ("old", UNUSED_DAYS + 1)):
        (place / name).mkdir(parents=True)
        os.utime(place / name, (now, now - 86400 * days))
    place.chmod(0o700)
    folder = local_folder(shipped)
    assert {path.name for path in place.iterdir() if path.is_dir()} == {"recent", "one"}
    os.utime(folder, (now, now - 86400 * 30))
    local_folder(shipped)
    assert time.time() - folder.stat().st_mtime < 60  # opening it is using it


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="no owners or modes of files here")
def test_copies_are_private(shipped, place, tmp_path) -> None:
    local_folder(shipped)
    assert place.stat().st_mode & 0o777 == 0o700
    place.chmod(0o755)
    with pytest.raises(InputError, match=r"TMPDIR=.* is no folder of this user alone; remove it, or point TMPDIR"):
        local_folder(shipped)
    place.rename(tmp_path / "mine")
    (tmp_path / "mine").chmod(0o700)
    place.symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="no folder of this user alone"):
        local_folder(shipped)


def test_too_little_room_is_a_fault_that_says_how_much_is_needed(shipped, monkeypatch) -> None:
    monkeypatch.setattr(shipping.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(InputError, match=r"TMPDIR=.*: the prepared images need .* GB, and 0\.0 GB are free; make room"):
        local_folder(shipped)


def test_a_pack_without_pixels_needs_its_images_on_every_node(tmp_path, shipped, store) -> None:
    def with_images_at(root: str) -> Prepared:
        text = json.dumps({"kind": "none", "files": root}).encode()
        pack = ShippedFile("pack/pack.json", len(text), (len(store),))
        store[len(store)] = np.frombuffer(text, np.uint8)
        files = tuple(file for file in shipped.files or () if file.name != pack.name)
        return Prepared(None, shipped.result_id, (*files, pack))

    with pytest.raises(InputError, match=r"data\.pack=none: workers read the images themselves, and .* does not see"):
        local_folder(with_images_at(str(tmp_path / "absent")))
    assert local_folder(with_images_at(str(tmp_path))).is_dir()
    assert local_folder(with_images_at("s3://bucket/castings")).is_dir()


def test_a_shared_folder_that_a_node_does_not_see_is_a_fault(tmp_path) -> None:
    with pytest.raises(InputError, match=r"storage\.root: .* does not see .*share it with every node, or with none"):
        local_folder(Prepared(tmp_path / "absent", "one"))


def test_workers_can_be_made_to_fetch_what_they_see(tmp_path, nodes, monkeypatch, place) -> None:
    nodes(own=True, other=True)
    monkeypatch.setenv(SHIP_VARIABLE, "always")
    prepared = ship(prepare(tmp_path / "prepared"), compute=CLUSTER)
    assert prepared.folder is None
    assert local_folder(prepared) == place / "one"
