"""The pack made by a Ray cluster of several nodes on this machine."""

import numpy as np
import pytest
from PIL import Image

from components.cluster import cluster_cores, map_on_cluster, ray_session
from components.data.file_index import digest_files
from components.data.files import Files
from components.data.framing import Framing
from components.data.pack.reader import open_pack
from components.data.pack.store import pack_images
from components.data.pack.workers import on_cores
from components.data.sources.listing import make_listing

pytestmark = pytest.mark.integration

FRAMING = Framing(size=16, region=None, fit="squash", tile_size=None, tile_overlap=0.0)
COUNT = 200


@pytest.fixture
def listing(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, 20, 20), dtype=np.uint8)
    names = [f"{number:03d}.png" for number in range(COUNT)]
    for name, pixels in zip(names, noise, strict=True):
        Image.fromarray(pixels).save(folder / name)
    (folder / "007.png").write_bytes(b"")
    return make_listing(Files(str(folder)), {"path": names, "label": ["good"] * COUNT}, description="")


def pack(listing, place, *, workers, map_tasks):
    return pack_images(
        listing,
        digest_files(listing, index_folder=place / "index", workers=1, on_progress=lambda done, total: None),
        framing=FRAMING,
        kind="decoded",
        store=place / "store",
        directory=place / "pack",
        workers=workers,
        map_tasks=map_tasks,
        on_progress=lambda done: None,
    )


def test_a_cluster_makes_the_same_pack_as_one_process(nodes, listing, tmp_path):
    alone = pack(listing, tmp_path / "alone", workers=3, map_tasks=on_cores(1))
    with ray_session(address=nodes.address, num_cpus=1, num_gpus=0):
        assert cluster_cores() == 2
        spread = pack(listing, tmp_path / "spread", workers=cluster_cores(), map_tasks=map_on_cluster)
    assert len(list((tmp_path / "spread" / "store").glob("*/*.parquet"))) > 1
    assert spread.table.equals(alone.table)
    assert spread.quarantine["path"].tolist() == ["007.png"]
    order = alone.table["pack_index"].to_numpy()
    np.testing.assert_array_equal(open_pack(tmp_path / "spread")[order], open_pack(tmp_path / "alone")[order])
