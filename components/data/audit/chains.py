"""A guard against single linkage: where each image looks like the next, whole data sets chain into one group."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def break_chains(first: np.ndarray, second: np.ndarray, strength: np.ndarray, *, largest: int) -> np.ndarray:
    """Which links stay, so that no connected component has more than `largest` nodes.

    first, second: (P,) node numbers, strength: (P,) float. In a component that is too large the weakest links go,
    up to the lowest strength at which it falls into parts that are small enough; links of equal strength go
    together. Other components are left alone. Returns (P,) bool.
    """
    stay = np.ones(len(first), dtype=bool)
    sizes, component = _components(first, second)
    for number in np.flatnonzero(sizes > largest):
        inside = np.flatnonzero(component == number)
        levels = np.unique(strength[inside])
        # The lowest level that is enough lies in [low, high]; above the last level nothing is linked.
        low, high = 0, len(levels)
        while low < high:
            middle = (low + high) // 2
            tried = inside[strength[inside] >= levels[middle]]
            if _components(first[tried], second[tried])[0].max() > largest:
                low = middle + 1
            else:
                high = middle
        stay[inside] = strength[inside] >= (levels[low] if low < len(levels) else np.inf)
    return stay


def component_sizes(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(C,) int: the images in each connected component, largest first."""
    return np.sort(_components(first, second)[0])[::-1]


def _components(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The number of nodes in each component, and (P,) the component of each link."""
    if not len(first):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    nodes, ends = np.unique(np.concatenate([first, second]), return_inverse=True)
    left, right = ends[: len(first)], ends[len(first) :]
    graph = coo_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(nodes), len(nodes)))
    _, label = connected_components(graph, directed=False)
    return np.bincount(label), label[left]
