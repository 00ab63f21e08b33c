"""The trials that no other beats in both quality and speed."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd


def pareto_front(trials: pd.DataFrame) -> list[int]:
    """Numbers of the completed trials that no other beats in score (up) or latency (down) without losing in the other.

    trials: columns trial, status, score, epochs, latency_ms. Fastest first; trials that are alike in both are all kept.
    A trial that was stopped, or planned to be shorter than others, is left out: its score is that of an early epoch.
    """
    if "latency_ms" not in trials:
        return []
    done = trials[trials["status"] == "completed"]
    done = done[done["epochs"] == done["epochs"].max()]
    known = done[np.isfinite(done[["score", "latency_ms"]].to_numpy(dtype=float, na_value=np.nan)).all(axis=1)]
    front: list[int] = []
    best = -math.inf
    for _, alike in known.groupby("latency_ms", sort=True):
        highest = float(alike["score"].max())
        if highest > best:
            front += [int(number) for number in alike.loc[alike["score"] == highest, "trial"]]
            best = highest
    return front
