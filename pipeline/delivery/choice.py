"""What is delivered of the trained networks, within the latency limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from components.display import counted
from components.errors import InputError
from components.models.forward import restore_member
from components.serving.latency import beyond_limit
from pipeline.config import ServingConfig
from pipeline.delivery.assembly import Assembly, Judge, Unseen, assemble, choose_views
from pipeline.delivery.export import Part
from pipeline.delivery.networks import Networks

#: The first is taken that the limit allows.
ENSEMBLE, SINGLE = "ensemble", "single"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """deliver: all networks (ensemble), or one (single). latency: milliseconds for an image, by deliver and views, and
    that of what is delivered; JSON-ready.
    """

    deliver: str
    assembly: Assembly
    latency: dict[str, Any]

    @property
    def record(self) -> dict[str, Any]:
        """What it was chosen by, JSON-ready."""
        return self.assembly.record | {"deliver": self.deliver, "latency_ms": self.latency}


def check_limit(networks: Networks, serving: ServingConfig, *, threads: int) -> None:
    """Raise InputError before a training where nothing that may be delivered will be within the latency limit."""
    sizes, counts, ways = _ways(networks, serving)
    if serving.max_latency_ms is None:
        return
    smallest = min(ways, key=lambda way: sizes[way])
    latency = networks.latency(sizes[smallest], counts[:1], threads=threads)[counts[0]]
    if latency > serving.max_latency_ms:
        raise InputError(beyond_limit(serving.max_latency_ms, counted(counts[0], "view"), latency))


def choose(
    networks: Networks, scored: Unseen, judge: Judge, frozen: Part, serving: ServingConfig, *, threads: int
) -> Choice:
    """The number of networks, the views, and whether the classifier on frozen features joins.

    The networks together are preferred to one: averaged they are better on every set of `benchmarks/quality.py`, which
    scores out of fold cannot show, and their certificate needs no transfer. Raises InputError: nothing is within the
    limit.
    """
    limit, device = serving.max_latency_ms, networks.learner.device.target
    sizes, counts, ways = _ways(networks, serving)
    latency: dict[str, Any] = {way: networks.latency(size, counts, threads=threads) for way, size in sizes.items()}
    fits = [way for way in ways if limit is None or min(latency[way].values()) <= limit]
    deliver = fits[0] if fits else ways[-1]
    views, compared = choose_views(scored, judge, latency[deliver], limit_ms=limit)
    cost, may_blend = latency[deliver][views], serving.blend == "auto" and bool(np.isfinite(scored.frozen).all())
    if may_blend:
        model = restore_member(
            vars(frozen.member), len(networks.data.classes), frozen.state, device, where="the frozen classifier"
        )
        blended = networks.latency_with(model, sizes[deliver], views, threads=threads)
        may_blend = limit is None or blended <= limit
    assembly = assemble(scored, judge, views=views, may_blend=may_blend)
    if not assembly.network:  # the classifier on frozen features alone
        blended = networks.latency_with(model, 0, views, threads=threads)
    assembly.record["compared_views"] = compared
    latency |= {
        "delivered": blended if assembly.frozen else cost,
        "threads": threads,
        "device": device.type,
        "limit": limit,
    }
    return Choice(deliver=deliver, assembly=assembly, latency=latency)


def _ways(networks: Networks, serving: ServingConfig) -> tuple[dict[str, int], tuple[int, ...], list[str]]:
    """How many networks each way delivers, the numbers of views in question, and the ways in question, the preferred
    one first. Raises InputError: the augmentation does not allow the views.
    """
    counts = networks.counts if serving.views == "auto" else (serving.views,)
    if counts[0] not in networks.counts:
        raise InputError(
            f"serving.views={counts[0]}: the augmentation of the recipe that was chosen allows "
            f"{', '.join(map(str, networks.counts))} only; give one of these or auto"
        )
    folds = networks.data.folds
    sizes = {ENSEMBLE: folds, SINGLE: 1} if folds else {SINGLE: 1}
    return sizes, counts, [way for way in sizes if serving.deliver in ("auto", way)]
