"""Which images belong together: the same part, or the very same bytes.

Public inspection sets hold dozens of byte-identical files across their official splits; linked images never
cross a split here.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def link_groups(sha256: Sequence[str], group: Sequence[str | None]) -> np.ndarray:
    """Join images that share a user's group or the same bytes, transitively.

    sha256: N hex digests. group: N names, None or nan where there is none. Returns (N,) str: the
    alphabetically first user's group of the component, else "image:" and the first 16 digits of its smallest
    digest: names that do not depend on the order of the rows.
    """
    if len(sha256) != len(group):
        raise ValueError(f"{len(sha256)} digests, but {len(group)} groups")
    if not len(sha256):
        return np.array([], dtype=object)
    component = _components(sha256, group)
    best: dict[int, tuple[bool, str]] = {}
    for number, digest, name in zip(component, sha256, group, strict=True):
        # False sorts first: a user's name goes before a digest.
        candidate = (True, digest) if pd.isna(name) else (False, str(name))
        best[number] = min(best.get(number, candidate), candidate)
    names = {n: f"image:{value[:16]}" if digest else value for n, (digest, value) in best.items()}
    return np.array([names[number] for number in component], dtype=object)


def label_conflicts(table: pd.DataFrame) -> pd.DataFrame:
    """Byte-identical files that carry different labels.

    table: columns sha256, path, label. Returns one row per digest, columns sha256, paths and labels (the
    distinct values, sorted, joined by ", "); empty when there is none.
    """
    distinct = table.groupby("sha256")["label"].nunique()
    rows = []
    for digest in sorted(distinct.index[distinct > 1]):
        same = table[table["sha256"] == digest]
        rows.append((digest, ", ".join(sorted(same["path"])), ", ".join(sorted(set(same["label"])))))
    return pd.DataFrame(rows, columns=["sha256", "paths", "labels"])


def _components(sha256: Sequence[str], group: Sequence[str | None]) -> np.ndarray:
    """(N,) component numbers of the graph whose nodes are images, digests and user's groups."""
    count = len(sha256)
    digests, _ = pd.factorize(np.asarray(sha256, dtype=object))
    groups, _ = pd.factorize(np.asarray(group, dtype=object), use_na_sentinel=True)
    images = np.arange(count)
    grouped = groups >= 0
    rows = np.concatenate([images, images[grouped]])
    columns = np.concatenate([count + digests, 2 * count + groups[grouped]])
    graph = coo_array((np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(3 * count, 3 * count))
    _, labels = connected_components(graph, directed=False)
    return labels[:count]
