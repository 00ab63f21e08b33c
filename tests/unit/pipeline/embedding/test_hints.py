"""Labels that were swapped and an image that looks like no other, found in the features."""

from dataclasses import replace

import numpy as np

from pipeline.embedding.classifier import judge
from pipeline.embedding.features import Features
from pipeline.embedding.hints import find_hints
from pipeline.embedding.images import choose_images

EVEN = np.full(2, 1 / 2)


def test_swapped_labels_and_a_stranger_are_named_the_worst_first(made) -> None:
    data = made(parts=100)
    chosen = choose_images(data, most=10_000, several=False, seed=0)
    truth = chosen.images.labels.copy()
    values = np.random.default_rng(0).normal(scale=0.3, size=(len(chosen), 12)).astype(np.float32) + 2
    values[:, 0] += 3 * truth
    values[9] *= -1  # in the opposite direction of all others
    swapped = np.flatnonzero(chosen.folds == 1)[:3]  # a part of a fold
    turned = truth.copy()
    turned[swapped] ^= 1
    chosen = replace(chosen, images=replace(chosen.images, labels=turned))
    features = Features(values=values, pooled=12, mean=(0.5,) * 3, std=(0.5,) * 3, seconds=1.0, serve_ms=1.0)
    found = find_hints(features, judge(features, chosen, num_classes=2, shares=EVEN, seed=0), chosen, data)
    names = data.manifest["image_id"].to_numpy()[chosen.rows]
    # Not of every one is the classifier as sure as it is of images of that class in the mean.
    assert len(set(names[swapped]) & set(found.doubtful["image_id"].head(5))) >= 2
    assert found.doubtful["confidence"].is_monotonic_decreasing
    first = found.doubtful[found.doubtful["image_id"] == names[swapped[0]]].iloc[0]
    own = truth[swapped[0]]
    assert (first["label"], first["suggested"]) == (data.classes[1 - own], data.classes[own])
    assert found.outliers["image_id"].iloc[0] == names[9]
    np.testing.assert_array_equal(data.pack[int(found.outliers["pack_index"].iloc[0])], data.pack[int(chosen.rows[9])])
