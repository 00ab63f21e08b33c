"""What is delivered of the trained networks, within the latency limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from components.errors import InputError
from components.models.views import check_views
from pipeline.config import ServingConfig
from pipeline.delivery.assembly import Assembly, Scorer, Unseen, assemble, choose_views
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


def choose(
    networks: Networks, scored: Unseen, scorer: Scorer, frozen: Part, serving: ServingConfig, *, threads: int
) -> Choice:
    """The number of networks, the views, and whether the classifier on frozen features joins.

    The networks together are preferred to one: the log loss is convex, so that their mean is at least as good as they
    are on average, which scores out of fold cannot show; and their certificate needs no transfer.

    Raises InputError: nothing that was asked for is within the limit, or can be made of these networks.
    """
    limit, sizes, latency = serving.max_latency_ms, _sizes(networks), _latency(networks, serving, threads)
    ways = [way for way in sizes if serving.deliver in ("auto", way)]
    if not ways:
        raise InputError(
            f"serving.deliver={serving.deliver}: the design hold_out trains one network; set data.design to cross_fit, "
            "or serving.deliver to auto or single"
        )
    deliver = next((way for way in ways if limit is None or min(latency[way].values()) <= limit), ways[-1])
    views, compared = choose_views(scored, scorer, latency[deliver], limit_ms=limit)
    cost, may_blend = latency[deliver][views], serving.blend == "auto"
    if may_blend:
        member = networks.frozen_member(frozen)
        blended = networks.latency_with(member, sizes[deliver], views, threads=threads)
    too_slow = may_blend and limit is not None and blended > limit
    assembly = assemble(scored, scorer, views=views, may_blend=may_blend and not too_slow)
    if too_slow:
        reason = f"with it an image would take {blended:.3g} ms, more than serving.max_latency_ms={limit:g}"
        assembly.record["blend"] = {"taken": False, "reason": reason}
    assembly.record["compared_views"] = compared
    latency |= {
        "delivered": blended if assembly.frozen else cost,
        "threads": threads,
        "device": networks.learner.device.target.type,
        "limit": limit,
    }
    return Choice(deliver=deliver, assembly=assembly, latency=latency)


def views_asked(networks: Networks, serving: ServingConfig) -> int:
    """The largest number of views in question."""
    return networks.counts[-1] if serving.views == "auto" else serving.views


def _sizes(networks: Networks) -> dict[str, int]:
    """The number of networks by what is delivered."""
    if not networks.data.folds:
        return {SINGLE: 1}
    count = len(networks.trained)
    return {ENSEMBLE: count, SINGLE: 1} if count > 1 else {ENSEMBLE: 1}


def _latency(networks: Networks, serving: ServingConfig, threads: int) -> dict[str, Any]:
    """Milliseconds for an image, by what is delivered and the number of views."""
    counts = networks.counts if serving.views == "auto" else (serving.views,)
    check_views(counts[0], networks.counts, key="serving.views", whose="the augmentation of the recipe that was chosen")
    return {way: networks.latency(size, counts, threads=threads) for way, size in _sizes(networks).items()}
