"""Soft labels: from how likely a label is right to the target that an image teaches.

Where several people label an image, or one with doubts, the share that agrees is such a probability. A target that
carries it keeps a network from being sure where nobody is (Peterson et al., "Human uncertainty makes classification
more robust", ICCV 2019).
"""

from collections.abc import Collection, Sequence

import numpy as np

from components.display import counted, listed
from components.errors import InputError


def read_confidence(texts: Sequence[str | None], images: Sequence[str], *, column: str) -> list[float]:
    """The confidence in each image's label, in [0, 1]; 1 where the text is None.

    images: how a message names each of them. Raises InputError: a text that is no number from 0 to 1.
    """
    values = [1.0 if text is None else _number(text) for text in texts]
    faulty = [
        f"{text!r} of {image}"
        for text, value, image in zip(texts, values, images, strict=True)
        if not 0 <= value <= 1  # nor is nan
    ]
    if faulty:
        raise InputError(
            f"data.confidence_column={column!r}: {counted(len(faulty), 'image')} with a confidence that is no number "
            f"from 0 to 1 ({listed(faulty)}); write the probability that the image's label is right, such as 0.8, with "
            "a point, or leave the cell empty for 1"
        )
    return values


def soft_targets(
    labels: np.ndarray, confidence: np.ndarray, *, class_counts: np.ndarray, good: Collection[int]
) -> np.ndarray:
    """The target of each image, (N, K) float32, its sum 1: the confidence on the label, and the rest on its opposite.

    The opposite of a defect is what is good, all good classes alike; that of a good class is the defects, in proportion
    to their training images, alike where they have none. Without good classes it is all other classes alike.
    labels: (N,) integers in [0, K). confidence: (N,) in [0, 1]. class_counts: (K,), training images. good: positions
    of the good classes, not all of them.
    """
    targets = (1 - confidence)[:, None] * _opposites(class_counts, good)[labels]
    targets[np.arange(len(labels)), labels] += confidence
    return np.asarray(targets, dtype=np.float32)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return np.nan


def _opposites(class_counts: np.ndarray, good: Collection[int]) -> np.ndarray:
    """What an image is if it is not of its class, (K, K): a row of shares, their sum 1, for each class."""
    count = len(class_counts)
    is_good = np.isin(np.arange(count), list(good))
    if not is_good.any():
        return np.asarray((1 - np.eye(count)) / (count - 1))
    defects = np.where(is_good, 0, class_counts)
    defects = defects if defects.any() else ~is_good
    return np.asarray(np.where(is_good[:, None], defects / defects.sum(), is_good / is_good.sum()))
