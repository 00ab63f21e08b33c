"""A sample of images by class: so many in all, and none so few of a rare class that nothing could be learned of it."""

import numpy as np


def draw_by_class(labels: np.ndarray, *, size: int, rare: int, seed: int) -> np.ndarray:
    """Positions (M,) int64, rising, of `size` images at most; all of them where there are no more.

    labels: (N,) int. rare: of each class so many at least, or all that it has; the size has room for that. What is left
    of the size goes to the classes by what they have left. It is drawn image by image, and the same for a seed.
    """
    if len(labels) <= size:
        return np.arange(len(labels))
    _, label, counts = np.unique(labels, return_inverse=True, return_counts=True)
    sure = np.minimum(counts, rare)
    left = counts - sure
    quota = sure + (max(size - sure.sum(), 0) * left) // max(left.sum(), 1)
    order = np.random.default_rng(seed).permutation(len(labels))
    chosen = [order[label[order] == number][:count] for number, count in enumerate(quota)]
    return np.sort(np.concatenate(chosen))
