"""Batches: a function of seed, epoch and number, whoever makes them, and no process outlives its use."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch

from components.data.augment import KINDS
from components.data.file_index import digest_files
from components.data.files import Files
from components.data.framing import Framing
from components.data.loader import (
    Batch,
    ImageSet,
    TrainLoader,
    eval_batch_size,
    eval_batches,
    image_set,
    prefetched,
)
from components.data.pack.reader import open_pack
from components.data.pack.store import pack_images
from components.data.pack.workers import on_cores
from components.data.sources.listing import make_listing


@pytest.fixture
def images():
    """Ten images; the first byte of each is ten times its row in the pack."""
    pack = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    pack[:, 0, 0, 0] = np.arange(20) * 10
    return ImageSet(pack=pack, indices=np.arange(19, -1, -2), labels=np.arange(10) % 3)


def train_batches(images, *, epoch, **settings) -> Iterator[Batch]:
    with TrainLoader(images, pin_memory=False, **settings) as loader:
        yield from loader.epoch(epoch)


def train(images, *, size=4, strength=0.0, kinds=KINDS, workers=0, seed=0, epoch=0):
    settings = {"batch_size": size, "augment_strength": strength, "augment": kinds, "workers": workers, "seed": seed}
    return list(train_batches(images, **settings, epoch=epoch))


@pytest.fixture
def open_loader(images):
    """A loader of batches of two; closed with the test."""
    opened = []

    def make(workers, *, images=images):
        settings = {"augment_strength": 0.5, "augment": KINDS, "seed": 0, "pin_memory": False}
        opened.append(TrainLoader(images, batch_size=2, workers=workers, **settings))
        return opened[-1]

    yield make
    for loader in opened:
        loader.close()


def bytes_of(batches):
    return [b"".join(np.ascontiguousarray(t).tobytes() for t in (b.images, b.labels, b.index)) for b in batches]


def living_workers():
    """Processes that the fork server made; itself and the resource tracker stay for the next loader.

    The system takes a moment to collect one that has ended.
    """
    living = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if child.is_running() and child.ppid() != os.getpid():
                living.append(child.pid)
    return living


def test_an_image_set_takes_its_split_in_order_with_labels_as_positions():
    manifest = pd.DataFrame(
        {
            "split": ["train", "test", "train"],
            "label": ["pit", "good", "good"],
            "pack_index": [5, 6, 7],
        }
    )
    subset = image_set(manifest, np.zeros((8, 2, 2, 3), np.uint8), "train", ["good", "pit"])
    assert subset.indices.tolist() == [5, 7]
    assert subset.labels.tolist() == [1, 0]
    assert subset.labels.dtype == np.int64
    assert len(subset) == 2
    assert len(image_set(manifest, subset.pack, "val", ["good", "pit"])) == 0


def test_evaluation_sees_every_image_in_order(images):
    batches = list(eval_batches(images, batch_size=4))
    assert [len(batch.labels) for batch in batches] == [4, 4, 2]
    assert torch.cat([batch.index for batch in batches]).tolist() == list(range(10))
    assert torch.cat([batch.labels for batch in batches]).tolist() == images.labels.tolist()
    first = torch.cat([batch.images[:, 0, 0, 0] for batch in batches])
    assert first.tolist() == [(row * 10) % 256 for row in images.indices]


@pytest.mark.parametrize(
    ("size", "trained", "expected"),
    [(64, 8, 64), (224, 8, 64), (448, 8, 16), (1024, 2, 3), (1024, 8, 8), (96, 128, 128)],
)
def test_an_evaluation_holds_no_more_pixels_than_a_training_batch_or_64_images_of_224_px(
    size: int, trained: int, expected: int
) -> None:
    assert eval_batch_size(size, trained=trained) == expected
    assert expected * size**2 <= max(trained * size**2, 64 * 224**2)


def test_prefetched_batches_are_the_same_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: batch)  # needs a GPU
    batches = [Batch(torch.zeros(1), torch.tensor([number]), torch.zeros(1)) for number in range(5)]
    assert [batch.labels.item() for batch in prefetched(iter(batches))] == [0, 1, 2, 3, 4]
    assert list(prefetched([])) == []


def test_what_fails_while_batches_are_prefetched_is_raised_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batch, "pin_memory", lambda batch: batch)

    def failing() -> Iterator[Batch]:
        yield Batch(torch.zeros(1), torch.zeros(1), torch.zeros(1))
        raise OSError("the pack is gone")

    batches = prefetched(failing())
    assert len(next(batches)) == 1
    with pytest.raises(OSError, match="the pack is gone"):
        next(batches)


def test_batches_are_bytes_in_channels_last_memory(images):
    for batch in [next(eval_batches(images, batch_size=4)), *train(images, strength=0.5)]:
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape == (4, 3, 8, 8)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.dtype == batch.index.dtype == torch.int64


@pytest.fixture
def soft(images):
    """The same images; each target holds the image's position."""
    positions = np.arange(len(images), dtype=np.float32)
    return dataclasses.replace(images, targets=np.stack([positions, 1 - positions], axis=1))


@pytest.mark.parametrize("workers", [0, 1])
def test_soft_targets_go_with_their_images_and_change_nothing_else(images, soft, workers):
    batches = train(soft, strength=0.5, workers=workers)
    assert bytes_of(batches) == bytes_of(train(images, strength=0.5))
    for batch in [*batches, *eval_batches(soft, batch_size=4), *eval_batches(soft.take(np.arange(3)), batch_size=4)]:
        assert batch.taught is batch.targets
        assert batch.targets.dtype == torch.float32
        assert batch.targets.tolist() == [[number, 1 - number] for number in batch.index.tolist()]


def test_a_part_of_a_batch_has_its_part_of_the_targets(soft, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)  # which needs a GPU
    (batch,) = eval_batches(soft, batch_size=10)
    assert batch[2:4].targets.tolist() == [[2, -1], [3, -2]]
    assert torch.equal(batch.to(torch.device("cpu")).targets, batch.targets)
    assert torch.equal(batch.pin_memory().targets, batch.targets)


def test_without_soft_targets_the_labels_teach(images):
    (batch,) = eval_batches(images, batch_size=10)
    assert batch.targets is batch[:3].targets is batch.to(torch.device("cpu")).targets is None
    assert batch.taught is batch.labels


def test_image_label_and_index_stay_together_in_training(images):
    for batch in train(images):
        rows = images.indices[batch.index.numpy()]
        np.testing.assert_array_equal(batch.images.permute(0, 2, 3, 1).numpy(), images.pack[rows])
        np.testing.assert_array_equal(batch.labels.numpy(), images.labels[batch.index.numpy()])


def test_the_last_short_training_batch_is_dropped(images):
    index = torch.cat([batch.index for batch in train(images)])
    assert len(index) == 8
    assert len(set(index.tolist())) == 8


@pytest.mark.parametrize("size", [10, 11, 1000])
def test_a_set_smaller_than_a_batch_is_one_batch(images, size):
    batches = train(images, size=size)
    assert len(batches) == 1
    assert sorted(batches[0].index.tolist()) == list(range(10))


def test_an_empty_set_has_no_batches(images):
    empty = ImageSet(pack=images.pack, indices=images.indices[:0], labels=images.labels[:0])
    assert train(empty) == []
    assert list(eval_batches(empty, batch_size=4)) == []


def test_an_epoch_is_a_function_of_seed_and_epoch_alone(images):
    def stream(**changes):
        return torch.cat([batch.images.flatten(1) for batch in train(images, strength=0.5, **changes)])

    # As after a resume: epoch 3 by itself equals epoch 3 after the others.
    for epoch in range(3):
        train(images, strength=0.5, epoch=epoch)
    assert torch.equal(stream(epoch=3), stream(epoch=3))
    assert not torch.equal(stream(epoch=3), stream(epoch=4))
    assert not torch.equal(stream(epoch=3), stream(epoch=3, seed=1))


def test_the_order_does_not_depend_on_the_augmentation(images):
    plain, strong = train(images), train(images, strength=1.0)
    assert [b.index.tolist() for b in plain] == [b.index.tolist() for b in strong]


def test_a_read_only_pack_gives_tensors_that_can_be_written(images):
    images.pack.setflags(write=False)
    batch = next(eval_batches(images, batch_size=2))
    batch.images.zero_()
    assert images.pack[19].any()


def test_the_number_of_workers_changes_no_byte(images):
    def epochs(workers):
        return [bytes_of(train(images, size=2, strength=1.0, workers=workers, epoch=epoch)) for epoch in range(2)]

    alone = epochs(0)
    assert len(alone[0]) == 5
    assert alone[0] != alone[1]
    assert epochs(1) == alone
    assert epochs(2) == alone


def test_no_two_batches_of_any_worker_or_epoch_are_augmented_alike(open_loader):
    """All images are the same, so that nothing but the augmentation tells the batches apart."""
    one = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), dtype=np.uint8)
    same = ImageSet(np.repeat(one, 16, axis=0), np.arange(16), np.zeros(16, np.int64))
    loader = open_loader(2, images=same)
    seen = [image.numpy().tobytes() for epoch in range(3) for batch in loader.epoch(epoch) for image in batch.images]
    # 48 draws; at this strength about one in forty is one of the eight bare orientations, and may come twice.
    assert len(set(seen)) >= 45


def test_workers_live_from_epoch_to_epoch_and_end_with_the_loader(open_loader, waiting):
    loader = open_loader(2)
    assert living_workers() == []
    first = bytes_of(loader.epoch(0))
    workers = living_workers()
    assert len(workers) == 2
    assert bytes_of(loader.epoch(1)) != first
    assert living_workers() == workers
    assert bytes_of(loader.epoch(0)) == first
    loader.close()
    waiting(lambda: living_workers() == [])
    with pytest.raises(ValueError, match="closed"):
        list(loader.epoch(2))


@pytest.mark.parametrize("workers", [0, 2])
def test_an_epoch_that_is_left_early_spoils_neither_the_next_nor_the_end(open_loader, workers, waiting):
    loader = open_loader(workers)
    whole = bytes_of(loader.epoch(1))
    left = loader.epoch(0)
    next(left)
    assert bytes_of(loader.epoch(1)) == whole
    assert list(left) == []
    held = loader.epoch(2)
    next(held)
    loader.close()
    waiting(lambda: living_workers() == [])


def test_an_interrupted_training_leaves_no_process(images, waiting):
    batches = train_batches(images, batch_size=2, augment_strength=0.5, augment=KINDS, workers=2, seed=0, epoch=0)
    next(batches)
    assert len(living_workers()) == 2
    with pytest.raises(KeyboardInterrupt):
        batches.throw(KeyboardInterrupt)
    waiting(lambda: living_workers() == [])


def test_a_dropped_iterator_leaves_no_process(images, waiting):
    """As when a trial is stopped between two batches and its session is forgotten."""
    batches = train_batches(images, batch_size=2, augment_strength=0.5, augment=KINDS, workers=1, seed=0, epoch=0)
    next(batches)
    assert len(living_workers()) == 1
    del batches
    waiting(lambda: living_workers() == [])


def test_a_fault_in_a_worker_comes_back_with_its_traceback(images, waiting):
    broken = ImageSet(images.pack, images.indices + 1000, images.labels)
    with pytest.raises(IndexError, match=r"(?s)worker process.*loader\.py.*out of bounds"):
        train(broken, workers=1)
    waiting(lambda: living_workers() == [])


@pytest.mark.parametrize("workers", [0, 1])
def test_torch_s_random_state_is_left_alone(images, workers):
    """Dropout draws from it: the training would depend on the number of workers."""
    torch.manual_seed(0)
    before = torch.get_rng_state()
    train(images, strength=0.5, workers=workers)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("kind", ["decoded", "encoded", "none"])
def test_each_worker_opens_the_pack_for_itself(tmp_path, write_image, kind):
    folder = tmp_path / "images"
    names = [f"{number}.png" for number in range(8)]
    for number, name in enumerate(names):
        write_image(folder / name, 20 * number)
    listing = make_listing(Files(str(folder)), {"path": names, "label": ["good"] * 8}, description="")
    pack_images(
        listing,
        digest_files(listing, index_folder=tmp_path / "index", workers=1, on_progress=lambda done, total: None),
        framing=Framing(size=8, region=None, fit="squash", tile_size=None, tile_overlap=0.0),
        kind=kind,
        store=tmp_path / "store",
        directory=tmp_path / "pack",
        workers=1,
        map_tasks=on_cores(1),
        on_progress=lambda done: None,
    )
    packed = ImageSet(open_pack(tmp_path), np.arange(8), np.arange(8))
    batches = train(packed, size=2, workers=2)
    levels = {int(label): int(image[0, 0, 0]) for b in batches for label, image in zip(b.labels, b.images, strict=True)}
    assert sorted(levels) == list(range(8))
    # The pack's order of the images is its own; the levels are those of the files.
    assert sorted(levels.values()) == [20 * number for number in range(8)]
    assert bytes_of(batches) == bytes_of(train(packed, size=2))


@pytest.mark.gpu
@pytest.mark.parametrize("workers", [0, 2])
def test_batches_for_a_gpu_lie_in_pinned_memory(images, workers):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    settings = {"batch_size": 2, "augment_strength": 0.5, "augment": KINDS, "seed": 0}
    with TrainLoader(images, workers=workers, pin_memory=True, **settings) as loader:
        pinned = list(loader.epoch(0))
    assert all(tensor.is_pinned() for batch in pinned for tensor in (batch.images, batch.labels, batch.index))
    assert all(batch.images.is_contiguous(memory_format=torch.channels_last) for batch in pinned)
    assert bytes_of(pinned) == bytes_of(train(images, size=2, strength=0.5))


SCRIPT = """
import sys, time
import numpy as np
from components.data.loader import ImageSet, TrainLoader

if __name__ == "__main__":
    images = ImageSet(np.zeros((64, 8, 8, 3), np.uint8), np.arange(64), np.zeros(64, np.int64))
    settings = {"batch_size": 2, "augment_strength": 0.0, "augment": (), "seed": 0}
    with TrainLoader(images, workers=2, pin_memory=False, **settings) as loader:
        for batch in loader.epoch(0):
            print("ready", flush=True)
            time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_a_killed_training_leaves_no_process(tmp_path, name):
    script = tmp_path / "training.py"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        preexec_fn=heed_interruptions,
    )
    with process:
        try:
            assert process.stdout.readline() == b"ready\n"
            family = psutil.Process(process.pid).children(recursive=True)
            assert len(family) == 4  # two workers, their server, and the keeper of shared memory
            process.send_signal(getattr(signal, name))
            process.wait(timeout=300)
            assert psutil.wait_procs(family, timeout=300)[1] == []
        finally:
            process.kill()  # leaving the block would wait for its end


def heed_interruptions() -> None:
    """What a shell starts in the background ignores SIGINT, and so would all that it starts."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
