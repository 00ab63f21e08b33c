"""What can be learned from the trials of a search: whether rungs predict final scores, survival, the Pareto front.

Early stopping assumes that trials which are ahead early are ahead late. That is measured on trials that were drawn at
random to be never stopped. Survivors alone would give a biased answer: all of them were among the best at each rung, so
that the range of their scores there is cut, which changes a rank correlation; and a good trial that a rung stopped has
no final score.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

#: With fewer trials a rank correlation says nothing.
MIN_TRIALS = 4
#: Below this, a rung stops good trials too often.
LOW_RHO = 0.6


def rung_agreement(
    scores: pd.DataFrame, rungs: Sequence[int], final_epoch: int, *, unstopped: Collection[int]
) -> list[dict[str, Any]]:
    """Spearman's rho between the scores at each rung before the final epoch and the final scores.

    scores: columns trial, epoch, score. unstopped: the trials that could not be stopped, whatever they scored; all of
    them where nothing stops trials. A record has rung, count (trials with both scores), rho (None below MIN_TRIALS, and
    where either score is the same throughout) and low (whether rho is known and below LOW_RHO).
    """
    measured = scores[scores["trial"].isin(list(unstopped))]
    by_epoch = measured.pivot(index="trial", columns="epoch", values="score")
    records = []
    for rung in sorted(set(rungs)):
        if rung >= final_epoch:
            break
        pairs = by_epoch.reindex(columns=[rung, final_epoch]).dropna().to_numpy(dtype=float)
        known = len(pairs) >= MIN_TRIALS and bool((np.ptp(pairs, axis=0) > 0).all())
        rho = float(stats.spearmanr(pairs[:, 0], pairs[:, 1]).statistic) if known else None
        records.append({"rung": rung, "count": len(pairs), "rho": rho, "low": rho is not None and rho < LOW_RHO})
    return records


def agreement_warning(agreements: Sequence[Mapping[str, Any]]) -> str | None:
    """A sentence with a remedy where a rung misjudges trials; None where none does, or nothing could be measured."""
    low = [record for record in agreements if record["low"]]
    if not low:
        return None
    worst = min(low, key=lambda record: record["rho"])
    beyond = [r["rung"] for r in agreements if not r["low"] and r["rho"] is not None and r["rung"] > low[-1]["rung"]]
    remedy = f"raise search.grace_epochs to {beyond[0]}" if beyond else "raise search.grace_epochs"
    return (
        f"The score after epoch {worst['rung']} predicts the final one poorly: Spearman's rho is {worst['rho']:.2f} "
        f"over {worst['count']} trials that were never stopped, and below {LOW_RHO:g} good trials are stopped too "
        f"often; {remedy}, or set search.scheduler to none."
    )


def survival(trials: pd.DataFrame, rungs: Sequence[int]) -> list[dict[str, int]]:
    """How the trials ended between each rung and the next, lowest first; rung 0 is the start.

    trials: columns status and epochs (the last epoch with a score). A trial reaches a rung if it has a score at that
    epoch or later. A record has rung, reached, continued (reached the next rung), stopped, diverged, failed and
    completed; the last five add up to `reached`.
    """
    levels = [0, *sorted(set(rungs))]
    epochs, statuses = trials["epochs"].to_numpy(dtype=int), trials["status"].to_numpy(dtype=object)
    found = []
    for level, following in zip(levels, [*levels[1:], math.inf], strict=True):
        ended = statuses[(epochs >= level) & (epochs < following)]
        counts = {name: int((ended == name).sum()) for name in ("stopped", "diverged", "failed", "completed")}
        reached, continued = int((epochs >= level).sum()), int((epochs >= following).sum())
        found.append({"rung": level, "reached": reached, "continued": continued, **counts})
    return found


def pareto_front(trials: pd.DataFrame) -> list[int]:
    """Numbers of the completed trials on the Pareto front of score (higher is better) and latency (lower is better).

    trials: columns trial, status, score, epochs, latency_ms. Fastest first; trials with equal values are all kept.
    Trials that were stopped, or planned to be shorter, are excluded: their scores are of an earlier epoch.
    """
    if "latency_ms" not in trials:
        return []
    done = trials[trials["status"] == "completed"]
    done = done[done["epochs"] == done["epochs"].max()]
    known = done[np.isfinite(done[["score", "latency_ms"]].to_numpy(dtype=float, na_value=np.nan)).all(axis=1)]
    highest = known.groupby("latency_ms")["score"].max()
    front = highest[highest > highest.cummax().shift(fill_value=-math.inf)]
    best = known[known["score"] == known["latency_ms"].map(front)]
    return [int(number) for number in best.sort_values("latency_ms", kind="stable")["trial"]]
