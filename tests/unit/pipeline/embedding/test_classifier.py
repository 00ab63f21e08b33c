"""The classifier on a candidate's features in both designs, as a model, and as the start of fine-tuning."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from components.models.backbones import build_embedder
from components.models.forward import FrozenClassifier, pooled_features
from pipeline.embedding.classifier import frozen_state, head_starts, judge
from pipeline.embedding.features import Features
from pipeline.embedding.images import Chosen, choose_images
from pipeline.sections.recipe import ModelConfig

EVEN = np.full(2, 1 / 2)


def told(chosen: Chosen, *, pooled: int = 4) -> Features:
    """The first pooled feature tells the class; the others and those of other depths are noise."""
    values = np.random.default_rng(1).normal(size=(len(chosen), pooled + 6)).astype(np.float32)
    values[:, 0] += 3 * chosen.images.labels
    return Features(values=values, pooled=pooled, mean=(0.5,) * 3, std=(0.5,) * 3, seconds=1.0, serve_ms=1.0)


def judged(data: Any, **options: Any) -> tuple[Any, Chosen]:
    chosen = choose_images(data, most=10_000, several=False, seed=0)
    return judge(told(chosen), chosen, num_classes=2, shares=EVEN, seed=0), chosen


def test_over_folds_every_image_has_a_score_of_a_classifier_that_has_not_seen_it(made) -> None:
    found, chosen = judged(made(folds=4))
    assert (found.logits.argmax(axis=1) == chosen.images.labels).mean() > 0.85
    assert found.doubts is found.logits
    assert len(found.penalties) == 4


def test_held_out_val_and_calibration_have_scores_and_train_only_doubts(made) -> None:
    found, chosen = judged(made(folds=0))
    learned = chosen.splits == "train"
    assert np.isnan(found.logits[learned]).all()
    np.testing.assert_array_equal(found.logits[~learned], found.classifier.logits(told(chosen).values)[~learned])
    assert np.isfinite(found.doubts).all()
    np.testing.assert_array_equal(found.doubts[~learned], found.logits[~learned])


@pytest.mark.parametrize("folds", [4, 0])
def test_no_head_start_has_seen_what_its_training_is_scored_on(made, folds: int) -> None:
    """Labels of a fold, or of val and calibration, are turned round: the heads that leave these out stay."""
    chosen = choose_images(made(folds=folds), most=10_000, several=False, seed=0)
    features = told(chosen)
    heads = head_starts(features, chosen, num_classes=2, shares=EVEN)
    assert set(heads) == ({0, 1, 2, 3, None} if folds else {None})
    left_out = chosen.folds == 2 if chosen.folds is not None else chosen.splits != "train"
    left_out &= np.arange(len(chosen)) % 4 == 0
    labels = np.where(left_out, 1 - chosen.images.labels, chosen.images.labels)
    other = replace(chosen, images=replace(chosen.images, labels=labels))
    turned = head_starts(features, other, num_classes=2, shares=EVEN)
    same = {fold for fold in heads if np.array_equal(heads[fold].weight, turned[fold].weight)}
    assert same == ({2} if folds else {None})
    for head in heads.values():
        assert (head.weight.shape, head.bias.shape) == ((2, features.pooled), (2,))
        assert head.weight.dtype == head.bias.dtype == np.float32


def test_a_head_start_tells_the_classes_apart(made) -> None:
    chosen = choose_images(made(folds=4), most=10_000, several=False, seed=0)
    features = told(chosen)
    head = head_starts(features, chosen, num_classes=2, shares=EVEN)[None]
    logits = features.values[:, : features.pooled] @ head.weight.T + head.bias
    assert (logits.argmax(axis=1) == chosen.images.labels).mean() > 0.85


@pytest.mark.parametrize("folds", [4, 0])
@pytest.mark.parametrize("shares", [EVEN, None])
def test_where_it_predicts_no_better_than_a_constant_there_is_no_head_start(made, folds: int, shares: Any) -> None:
    chosen = choose_images(made(folds=folds), most=10_000, several=False, seed=0)
    features = told(chosen)
    elsewhere = chosen.folds % 2 == 1 if chosen.folds is not None else chosen.splits != "train"
    turned = features.values.copy()
    turned[elsewhere, 0] *= -1
    misleading = replace(features, values=turned)
    assert head_starts(misleading, chosen, num_classes=2, shares=shares) == {}
    assert head_starts(features, chosen, num_classes=2, shares=shares)


def test_the_state_is_that_of_a_model_with_the_same_logits() -> None:
    images = torch.rand(3, 3, 32, 32)
    model = ModelConfig(backbone="test_resnet", weights="none")
    network = build_embedder(backbone="test_resnet", weights="none", seed=5).model.eval()
    with torch.inference_mode():
        features = pooled_features(network, images).numpy()
    from components.evaluation.linear_probe import LinearClassifier

    drawn = np.random.default_rng(0)
    classifier = LinearClassifier(drawn.normal(size=(3, features.shape[1])), drawn.normal(size=3))
    served = FrozenClassifier(network, torch.nn.Linear(features.shape[1], 3)).eval()
    served.load_state_dict(frozen_state(classifier, model, backbone="test_resnet", seed=5))
    with torch.inference_mode():
        np.testing.assert_allclose(served(images).numpy(), classifier.logits(features), atol=1e-3)
