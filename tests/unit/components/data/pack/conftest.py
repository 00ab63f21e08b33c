"""A small folder of files to pack, and the call that packs it."""

from types import SimpleNamespace

import numpy as np
import pytest

from components.data.file_index import digest_files
from components.data.files import Files
from components.data.framing import Framing
from components.data.pack import workers
from components.data.pack.reader import open_pack
from components.data.pack.store import pack_images
from components.data.pack.workers import on_cores
from components.data.sources.listing import make_listing

WHOLE = Framing(size=8, region=None, fit="squash", tile_size=None, tile_overlap=0.0)


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


@pytest.fixture
def at_once(monkeypatch):
    """Processes are started even for a small job."""
    monkeypatch.setattr(workers, "_THREADS_SECONDS", 0)


@pytest.fixture
def pack_up(root, tmp_path):
    """Pack files of `root`: gives .result, .pack, .progress, and .tasks, the shards that were written now."""

    def run(paths, *, masks=None, framing=WHOLE, kind="decoded", workers=1, map_tasks=None):
        columns = {"path": list(paths), "label": ["good"] * len(paths), "mask": masks}
        listing = make_listing(Files(str(root)), columns, description="")
        digests = digest_files(
            listing, index_folder=tmp_path / "index", workers=1, on_progress=lambda done, total: None
        )
        progress, tasks = [], []

        def watched(function, work):
            tasks.extend(work)
            yield from (map_tasks or on_cores(1))(function, work)

        result = pack_images(
            listing,
            digests,
            framing=framing,
            kind=kind,
            store=tmp_path / "store",
            directory=tmp_path / "pack",
            workers=workers,
            map_tasks=watched,
            on_progress=progress.append,
        )
        pack = open_pack(tmp_path)
        return SimpleNamespace(result=result, pack=pack, progress=progress, tasks=tasks, table=result.table)

    return run


@pytest.fixture
def levels(root, write_image):
    """Flat images, of one grey level each; gives their paths."""

    def make(*values):
        for value in values:
            write_image(root / f"{value:03d}.png", value, side=8)
        return [f"{value:03d}.png" for value in values]

    return make


@pytest.fixture
def noise():
    def make(seed, height=20, width=30):
        return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)

    return make
