"""What the features say about single images: labels to look at again, and images that look like no other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.evaluation.decision import softmax
from components.evaluation.label_doubts import doubtful_labels
from components.evaluation.outliers import neighbour_distances, robust_z
from pipeline.embedding.classifier import Judged
from pipeline.embedding.features import Features
from pipeline.embedding.images import Chosen
from pipeline.training.data import TrainingData

MOST = 200
#: Neighbours whose distance counts, and how many robust standard deviations above the median make an outlier
#: (Iglewicz & Hoaglin 1993).
NEIGHBOURS, OUTLYING = 5, 3.5
#: Outliers are sought among so many images: every one is compared with every other.
MOST_COMPARED = 10_000


@dataclass(frozen=True)
class Hints:
    """doubtful: columns image_id, label, suggested, confidence, pack_index. outliers: image_id, label, z, pack_index.

    Both the worst first, MOST at most.
    """

    doubtful: pd.DataFrame
    outliers: pd.DataFrame


NO_HINTS = Hints(
    pd.DataFrame(columns=["image_id", "label", "suggested", "confidence", "pack_index"]),
    pd.DataFrame(columns=["image_id", "label", "z", "pack_index"]),
)


def find_hints(features: Features, judged: Judged, chosen: Chosen, data: TrainingData) -> Hints:
    manifest, names = data.manifest.iloc[chosen.rows], np.array(data.classes, dtype=object)
    finite = np.isfinite(judged.doubts).all(axis=1)
    probabilities = np.full_like(judged.doubts, np.nan)
    probabilities[finite] = softmax(judged.doubts[finite])
    doubts = doubtful_labels(probabilities, chosen.images.labels, limit=MOST)
    rows = manifest.iloc[doubts["row"].to_numpy(dtype=np.int64)]
    doubtful = pd.DataFrame(
        {
            "image_id": rows["image_id"].to_numpy(),
            "label": names[doubts["label"].to_numpy(dtype=np.int64)],
            "suggested": names[doubts["suggested"].to_numpy(dtype=np.int64)],
            "confidence": doubts["confidence"].to_numpy().round(4),
            "pack_index": rows["pack_index"].to_numpy(),
        }
    )
    return Hints(doubtful, _outliers(features, chosen, manifest))


def _outliers(features: Features, chosen: Chosen, manifest: pd.DataFrame) -> pd.DataFrame:
    count = min(len(chosen), MOST_COMPARED)
    within = np.linspace(0, len(chosen) - 1, count).astype(np.int64)
    distances = neighbour_distances(features.values[within, : features.pooled], chosen.groups[within], k=NEIGHBOURS)
    with np.errstate(divide="ignore"):
        z = robust_z(np.log(distances))
    outlying = np.flatnonzero(z > OUTLYING)
    worst = outlying[np.argsort(-z[outlying], kind="stable")[:MOST]]
    rows = manifest.iloc[within[worst]]
    return pd.DataFrame(
        {
            "image_id": rows["image_id"].to_numpy(),
            "label": rows["label"].to_numpy(),
            "z": z[worst].round(2),
            "pack_index": rows["pack_index"].to_numpy(),
        }
    )
