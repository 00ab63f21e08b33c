"""The weight-decay range test (Smith, arXiv 1803.09820, section 5): the largest decay that still permits a high rate.

Weight decay and rate both regularise, so they are chosen together: of range tests under several weight decays, the
largest decay wins whose diverging rate is not reduced. Where some ramp does not diverge, the rates of lowest loss are
compared instead, for all of them, because a decoupled decay strong enough to pull the weights to zero never diverges.
If that rate is the same under all, the test abstains: a ramp of a hundred steps hardly changes under a decoupled decay
(AdamW's curves under 0.001, 0.1 and 1 were measured to be the same up to their lowest point), a long training does.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from components.optim.range_test.bounds import LrBounds

#: Decades by which a limit may lie lower without counting as reduced: the width of the median-of-5 window at 20 steps
#: per decade, which is the resolution of a divergence.
TOLERANCE = 0.25


@dataclass(frozen=True)
class DecayLimit:
    """One weight decay, the rate that it permits (None where its range test abstained), and whether that is reduced."""

    weight_decay: float
    limit: float | None
    reduced: bool


@dataclass(frozen=True, kw_only=True)
class DecayVerdict:
    """The result for one optimizer.

    recommended: a weight decay, None where the test abstained, for the `reason` given. measure: the kind of rate in
    `limits`, which rise in weight decay. note: a remark on the recommendation, or empty.
    """

    optimizer: str
    recommended: float | None
    reason: str
    measure: Literal["lr_div", "lr_min"]
    tolerance_decades: float
    limits: tuple[DecayLimit, ...]
    note: str

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)


def choose_weight_decay(tests: Mapping[float, LrBounds], *, optimizer: str) -> DecayVerdict:
    """Recommend the largest weight decay whose limit lies at most `TOLERANCE` decades below the highest limit.

    tests: the range test's result by weight decay (at least 0); those that abstained are never recommended. optimizer:
    of all of them.
    """
    readable = {decay: bounds for decay, bounds in sorted(tests.items()) if not bounds.abstained}
    diverged = bool(readable) and all(bounds.lr_div is not None for bounds in readable.values())
    measure: Literal["lr_div", "lr_min"] = "lr_div" if diverged else "lr_min"
    found = {decay: bounds.lr_div if diverged else bounds.lr_min for decay, bounds in readable.items()}
    limits = {decay: limit for decay, limit in found.items() if limit is not None}
    least = math.log10(max(limits.values())) - TOLERANCE if limits else math.inf
    kept = [decay for decay, limit in limits.items() if math.log10(limit) >= least]
    reason = _reason_to_abstain(tests, len(limits), undecided=not diverged and len(kept) == len(limits))
    return DecayVerdict(
        optimizer=optimizer,
        recommended=None if reason else kept[-1],
        reason=reason,
        measure=measure,
        tolerance_decades=TOLERANCE,
        limits=tuple(
            DecayLimit(decay, limits.get(decay), decay in limits and decay not in kept) for decay in sorted(tests)
        ),
        note="" if reason or kept[-1] < max(tests) else "it is the largest tried; larger ones may do as well",
    )


def _reason_to_abstain(tests: Mapping[float, LrBounds], readable: int, *, undecided: bool) -> str:
    if readable >= 2:
        same = "not all ramps diverged, and the rate of lowest loss is the same under all weight decays"
        return f"{same}; end the ramp higher (lr_range_test.ramp) or try larger ones" if undecided else ""
    abstained = f"{len(tests) - readable} of the {len(tests)} range tests abstained"
    remedy = "use more seeds, more steps or weaker weight decays"
    if readable == 1:
        return f"{abstained}, and a single one is no comparison; {remedy}"
    return f"{abstained}; {remedy}"
