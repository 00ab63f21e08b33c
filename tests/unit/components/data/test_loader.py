"""Batches: a function of seed and epoch, and nothing lost where it counts."""

import numpy as np
import pandas as pd
import pytest
import torch

from components.data.loader import ImageSet, eval_batches, image_set, train_batches


@pytest.fixture
def images():
    """Ten images; the first byte of each is ten times its row in the pack."""
    pack = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    pack[:, 0, 0, 0] = np.arange(20) * 10
    return ImageSet(pack=pack, indices=np.arange(19, -1, -2), labels=np.arange(10) % 3)


def train(images, *, size=4, strength=0.0, seed=0, epoch=0):
    return list(train_batches(images, batch_size=size, augment_strength=strength, seed=seed, epoch=epoch))


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


def test_batches_are_bytes_in_channels_last_memory(images):
    for batch in [next(eval_batches(images, batch_size=4)), *train(images, strength=0.5)]:
        assert batch.images.dtype == torch.uint8
        assert batch.images.shape == (4, 3, 8, 8)
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert batch.labels.dtype == batch.index.dtype == torch.int64


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
