"""The data, the range test and the probe on a Ray cluster of two nodes, none of which sees the prepared folder.

They are nodes of this machine, each with a folder of its own for temporary files, as separate machines have.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pandas as pd
import pytest
import ray
import torch
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from safetensors.torch import save_file

from components.cluster import live_nodes, ray_session
from components.errors import InputError
from components.models.backbones import build_model
from components.optim.range_test.bounds import read_backbone_bounds, read_bounds
from pipeline.compute import shipping
from pipeline.compute.resources import check_compute
from pipeline.compute.shipping import SHIP_VARIABLE, Prepared, local_folder, seen_by_nodes, ship
from pipeline.config import ComputeConfig
from pipeline.console import Console
from pipeline.embedding.features import Candidate, embed_all
from pipeline.embedding.images import choose_images
from pipeline.range_test.ramps import RangeTest, measure
from pipeline.sections.learning_rate import RangeTestConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stage import StageContext, StageRecord, read_record
from pipeline.stages import lr_range_test
from pipeline.training.data import open_data
from pipeline.training.tasks import task_placement

pytestmark = pytest.mark.integration

NODES = 2


@dataclass(frozen=True)
class Context:
    """What of a stage's context the parts of the range test read."""

    inputs: dict
    compute: ComputeConfig
    storage: Path
    console: Console


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    # A folder right below the system's: the path of a Unix socket is cut at 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="esc-"))
    (folder / "ray").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_TMPDIR", str(folder))
        cluster = Cluster()
        for number in range(NODES):
            own = folder / f"node-{number}"
            own.mkdir()
            patch.setenv("TMPDIR", str(own))  # of the node's workers
            cluster.add_node(num_cpus=1)
        patch.delenv("TMPDIR")
        try:
            yield cluster.address
        finally:
            cluster.shutdown()
            shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def record(finished) -> StageRecord:
    """The prepared images of the shared run."""
    workplace, done = finished
    found = read_record(workplace.result(done, "prepare"))
    assert found is not None
    return found


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """What is done here takes as many threads as a worker does."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def session(address) -> Iterator[ComputeConfig]:
    with ray_session(address=address, num_cpus=1, num_gpus=0):
        yield ComputeConfig(device="cpu", num_threads=1, ray_address=address)


def test_what_the_cluster_cannot_give_is_refused_before_it_is_joined(address) -> None:
    check_compute(ComputeConfig(ray_address=address, concurrent_trials=NODES))
    with pytest.raises(InputError, match=rf"compute\.concurrent_trials={NODES + 1}: the cluster at .* holds {NODES}"):
        check_compute(ComputeConfig(ray_address=address, concurrent_trials=NODES + 1))


@dataclass(frozen=True)
class Opened:
    """What a worker got: where, when its files were written, and what is in them."""

    node: str
    folder: str
    written: tuple[int, ...]
    mode: int
    image_ids: list[str]
    pixels: np.ndarray


def open_prepared(prepared: Prepared) -> Opened:
    """What a worker does, and then looks at."""
    folder = local_folder(prepared)
    data = open_data(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return Opened(
        node=ray.get_runtime_context().get_node_id(),
        folder=str(folder),
        written=tuple(path.stat().st_mtime_ns for path in files),
        mode=folder.parent.stat().st_mode & 0o777,
        image_ids=list(data.manifest["image_id"]),
        pixels=data.pack[data.manifest["pack_index"].to_numpy()],
    )


def on_each_node(prepared: Prepared, *, times: int) -> list[Opened]:
    """Several workers of each node, at the same time."""
    task = ray.remote(num_cpus=0)(open_prepared)
    places = [NodeAffinitySchedulingStrategy(node.name, soft=False) for node in live_nodes()] * times
    return ray.get([task.options(scheduling_strategy=place).remote(prepared) for place in places])


def test_a_node_that_does_not_see_the_folder_fetches_the_data_once(session, record, monkeypatch) -> None:
    monkeypatch.setenv(SHIP_VARIABLE, "always")
    monkeypatch.setattr(shipping, "CHUNK_BYTES", 100_000)  # so that a file is several objects
    prepared = ship(record, compute=session)
    assert prepared.files is not None
    assert max(len(file.chunks) for file in prepared.files) > 3
    here = open_data(record.directory)
    opened = on_each_node(prepared, times=2)
    for one in opened:
        assert one.image_ids == list(here.manifest["image_id"])
        np.testing.assert_array_equal(one.pixels, here.pack[here.manifest["pack_index"].to_numpy()])
        assert one.mode == 0o700
    by_node = {one.node: {other.written for other in opened if other.node == one.node} for one in opened}
    assert len({one.folder for one in opened}) == len(by_node) == NODES
    assert [len(written) for written in by_node.values()] == [1] * NODES
    # A later task finds them there, also when they are no longer in the object store.
    later = on_each_node(replace(prepared, files=tuple(replace(f, chunks=()) for f in prepared.files)), times=1)
    assert {one.written for one in later} == {one.written for one in opened}


def test_nodes_that_see_the_folder_are_sent_nothing(session, record, tmp_path) -> None:
    assert ship(record, compute=session) == Prepared(record.directory, record.result_id)
    assert not seen_by_nodes(tmp_path / "absent", "")
    assert {one.folder for one in on_each_node(ship(record, compute=session), times=1)} == {str(record.directory)}


def test_a_folder_that_is_gone_is_a_fault_that_says_where(session, record, tmp_path) -> None:
    with pytest.raises(ray.exceptions.RayTaskError, match=r"storage\.root: .* does not see") as raised:
        on_each_node(Prepared(tmp_path, record.result_id), times=1)
    assert isinstance(raised.value.cause, InputError)


def test_the_range_test_on_a_cluster_gives_what_it_gives_here(session, record, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv(SHIP_VARIABLE, "always")
    sections = {
        "model": ModelConfig(backbone="test_efficientnet", weights="none"),
        "recipe": RecipeConfig(optimizer="sgd", batch_size=16, precision="float32"),
        "lr_range_test": RangeTestConfig(optimizers=("sgd",), num_seeds=2, steps_per_decade=5, bootstrap_samples=20),
    }
    embedded = tmp_path / "embed"
    embedded.mkdir()
    (embedded / "embedding.json").write_text('{"kept": ["test_efficientnet", "test_resnet"]}')
    folders = []
    for name, compute in (("here", ComputeConfig(device="cpu", num_threads=1)), ("cluster", session)):
        folders.append(tmp_path / name / "lr_range_test" / "result")
        folders[-1].mkdir(parents=True)
        context = StageContext(
            directory=folders[-1], inputs={"prepare": record, "embed": replace(record, directory=embedded)},
            run=MagicMock(), tracker=MagicMock(), compute=compute, console=Console(quiet=True), commit="",
        )  # fmt: skip
        headline = lr_range_test.run(context, seed=0, **sections)
        assert headline.keys() == {"lr_suggested_sgd", "lr_suggested_test_resnet_sgd", "range_tests_abstained"}
    here, there = (pd.read_parquet(folder / "curves.parquet") for folder in folders)
    assert set(zip(there["backbone"], there["seed"], strict=True)) == {
        (backbone, seed) for backbone in ("test_efficientnet", "test_resnet") for seed in (0, 1)
    }
    pd.testing.assert_frame_equal(there, here)
    for name in ("lr_bounds.json", "backbone_bounds.json"):
        assert (folders[1] / name).read_text() == (folders[0] / name).read_text()
    bounds = read_backbone_bounds(folders[1] / "backbone_bounds.json")
    assert bounds.keys() == {("test_efficientnet", "sgd"), ("test_resnet", "sgd")}
    assert read_bounds(folders[1] / "lr_bounds.json") == {"sgd": bounds["test_efficientnet", "sgd"]}


def test_what_a_ramp_raises_on_a_cluster_is_raised_as_its_own(session, record, tmp_path) -> None:
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"none")
    model = ModelConfig(backbone="test_efficientnet", weights=f"file:{broken}")
    test = RangeTest(
        recipe=Recipe(model=model, recipe=RecipeConfig(batch_size=32)),
        optimizer="sgd",
        settings=RangeTestConfig(),
        seed=0,
    )
    console = Console(quiet=True)
    with (
        task_placement(Context({"prepare": record}, session, tmp_path, console)) as place,
        pytest.raises(InputError, match=r"is not a safetensors file"),
    ):
        list(measure([test], place, console))


def test_features_from_a_cluster_are_those_from_here(session, record, tmp_path) -> None:
    weights = tmp_path / "w.safetensors"
    names = {"num_classes": 2, "drop_rate": 0.0, "drop_path_rate": 0.0, "seed": 3}
    save_file(build_model(backbone="test_efficientnet", weights="none", **names).model.state_dict(), weights)
    backbones = ("test_efficientnet", "test_efficientnet.r160_in1k")  # one architecture under two names
    model = ModelConfig(backbone=backbones[0], weights=f"file:{weights}")
    data = open_data(record.directory)
    chosen, candidates = (
        choose_images(data, most=1000, several=False, seed=0),
        [Candidate(name, 48) for name in backbones],
    )
    made = []
    for compute in (ComputeConfig(device="cpu", num_threads=1), session):
        storage = tmp_path / f"storage-{len(made)}"
        (storage / "prepare").mkdir(parents=True)
        context = Context({"prepare": record}, compute, storage, Console(quiet=True))
        with task_placement(context) as place:
            found = dict(embed_all(context, candidates, data, chosen, model, place, seed=0))
        assert list(found) == candidates
        assert len(list((storage / "features").glob("*.npz"))) == 0  # of data that are not in this storage
        made.append([features.values for features in found.values()])
    np.testing.assert_array_equal(made[0][0], made[1][0])
    np.testing.assert_array_equal(made[0][0], made[0][1])


def test_this_process_keeps_its_place_for_temporary_files() -> None:
    assert "node-" not in os.environ.get("TMPDIR", "")
