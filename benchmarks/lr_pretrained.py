"""The pretrained network of the range test's benchmark, and the classifier from which its trainings start.

A training starts from a classifier that is fitted to the frozen features, as the pipeline's do; a ramp from one near
zero, as the pipeline's. The weights come from the package that the demo uses.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from components.evaluation.linear_probe import fit_at
from components.models.backbones import build_embedder, build_model
from components.models.heads import HeadStart, start_classifier
from pipeline.embedding.classifier import HEAD_PENALTY

BACKBONE, WEIGHTS = "tf_efficientnet_lite0", "package"
DROP_RATE, DROP_PATH_RATE = 0.2, 0.1


def pretrained_model(classes: int, seed: int) -> nn.Module:
    """The network with a classifier near zero, on the CPU in train mode. It expects pixels in [-1, 1]."""
    built = build_model(
        backbone=BACKBONE,
        weights=WEIGHTS,
        num_classes=classes,
        drop_rate=DROP_RATE,
        drop_path_rate=DROP_PATH_RATE,
        seed=seed,
    )
    return built.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def start_from_features(model: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Give the model the classifier that is fitted to the frozen features of these images.

    images: (N, 3, S, S) float32. labels: (N,) int64.
    """
    start_classifier(model, BACKBONE, _fitted(images, labels))


@functools.cache
def _fitted(images: torch.Tensor, labels: torch.Tensor) -> HeadStart:
    embedder = build_embedder(backbone=BACKBONE, weights=WEIGHTS, seed=0).model.eval()
    with torch.inference_mode():
        features = torch.cat([embedder(part) for part in images.split(128)]).numpy()
    classes = int(labels.max()) + 1
    (made,) = fit_at(
        features,
        labels.numpy(),
        [HEAD_PENALTY],
        num_classes=classes,
        shares=np.full(classes, 1 / classes),
        scaling="common",
    )
    return HeadStart(made.weight.astype(np.float32), made.bias.astype(np.float32))
