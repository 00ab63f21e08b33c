"""The classifier on the features of a candidate: its scores of images that it has not seen, itself, and head starts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from components.evaluation.linear_probe import LinearClassifier, cross_fit, fit, fit_at, mean_classifier, mean_loss
from components.models.backbones import build_embedder
from components.models.forward import FrozenClassifier
from components.models.heads import HeadStart
from pipeline.embedding.features import Features
from pipeline.embedding.images import LEARN, Chosen
from pipeline.sections.recipe import ModelConfig

#: Inverse penalty of a head start. Three epochs from .001 to .003 ended at .903, .912 with views, and from no head at
#: .898, .909; eight folds of a stronger and of a weaker one were worse (ELPV, tf_efficientnet_lite0, 128 px).
HEAD_PENALTY = 3e-3


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What the classifier makes of the chosen images.

    logits: (N, K), each row by a classifier that has not seen the image and may be compared and calibrated on it: out
    of fold, or in the hold-out design of val and calibration alone, NaN elsewhere. doubts: (N, K), likewise of every
    image, also where inner folds of train were needed for it. classifier: the one to serve. penalties: inverse, chosen.
    """

    logits: np.ndarray
    doubts: np.ndarray
    classifier: LinearClassifier
    penalties: tuple[float, ...]


def judge(features: Features, chosen: Chosen, *, num_classes: int, shares: np.ndarray | None, seed: int) -> Judged:
    """Fit the classifier and score every image by one that has not seen it.

    shares: (K,), of the classes in the whole weight; None: all images weigh the same. In the cross-fit design the
    classifier is the mean of those of the folds: their log-odds averaged.
    """
    labels = chosen.images.labels
    if chosen.folds is not None:
        found = cross_fit(features.values, labels, chosen.folds, num_classes=num_classes, shares=shares)
        return Judged(
            logits=found.logits,
            doubts=found.logits,
            classifier=mean_classifier(found.classifiers),
            penalties=found.penalties,
        )
    learn = chosen.splits == LEARN
    fitted = fit(
        features.values[learn],
        labels[learn],
        chosen.groups[learn],
        num_classes=num_classes,
        shares=shares,
        seed=seed,
    )
    logits = np.where(learn[:, None], np.nan, fitted.classifier.logits(features.values))
    doubts = logits.copy()
    doubts[learn] = fitted.logits
    return Judged(logits=logits, doubts=doubts, classifier=fitted.classifier, penalties=(fitted.penalty,))


def head_starts(
    features: Features, chosen: Chosen, *, num_classes: int, shares: np.ndarray | None
) -> dict[int | None, HeadStart]:
    """By the fold that each was fitted without; None: on all images that a training without a fold learns from.

    Empty where these classifiers predict images that they have not seen no better than a constant does: they then know
    what is accidental in the others, and a training keeps it. (1,344 generated images: three networks from such starts
    had an AUROC of .894 together, and from near zero .938.) In this yes or no the fold left out has a part, too.
    """
    labels, values = chosen.images.labels, features.values[:, : features.pooled]

    def fitted(rows: np.ndarray) -> LinearClassifier:
        (made,) = fit_at(
            values[rows], labels[rows], [HEAD_PENALTY], num_classes=num_classes, shares=shares, scaling="common"
        )
        return made

    learned: dict[int | None, np.ndarray]
    if chosen.folds is None:
        learned = {None: chosen.splits == LEARN}
    else:
        learned = {int(fold): chosen.folds != fold for fold in np.unique(chosen.folds)}
        learned[None] = np.ones(len(labels), dtype=bool)
    starts = {fold: fitted(rows) for fold, rows in learned.items()}
    unseen = [(starts[fold].logits(values[~rows]), labels[~rows]) for fold, rows in learned.items() if not rows.all()]
    logits, actual = map(np.concatenate, zip(*unseen, strict=True))
    balance = np.maximum(np.bincount(labels, minlength=num_classes), 1) if shares is None else shares
    constant = np.broadcast_to(np.log(balance), logits.shape)
    if mean_loss(logits, actual, shares=shares) >= mean_loss(constant, actual, shares=shares):
        return {}
    return {
        fold: HeadStart(made.weight.astype(np.float32), made.bias.astype(np.float32)) for fold, made in starts.items()
    }


def frozen_state(
    classifier: LinearClassifier, model: ModelConfig, *, backbone: str, seed: int
) -> dict[str, torch.Tensor]:
    """The state of the classifier and its backbone as one model, on the CPU."""
    network = build_embedder(backbone=backbone, weights=model.weights, seed=seed).model
    linear = nn.Linear(classifier.weight.shape[1], classifier.weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(classifier.weight))
        linear.bias.copy_(torch.from_numpy(classifier.bias))
    return dict(FrozenClassifier(network, linear).state_dict())
