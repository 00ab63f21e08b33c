"""Whether the order of two recipes at the search's first rung held at full length, under the final schedule.

That is what early stopping relies on. The search itself cannot tell: its trials are compared at a constant rate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.confirmation.verdict import DEFAULTS, WINNER


def order_at_rung(
    at_rung: Mapping[str, Any] | None, scores: Mapping[str, Sequence[float | None]], replicates: Sequence[str]
) -> dict[str, Any] | None:
    """How often it held, and a sentence; None where a recipe has no score at the rung, or no pair at full length.

    at_rung: epoch and scores of winner and defaults in the search. scores: at full length, by recipe, a number for each
    replicate, None where it diverged. A difference of 0 holds no order.
    """
    if at_rung is None or not scores:
        return None
    early = at_rung[WINNER] - at_rung[DEFAULTS]
    rows = zip(replicates, scores[WINNER], scores[DEFAULTS], strict=True)
    late = {name: winner - defaults for name, winner, defaults in rows if winner is not None and defaults is not None}
    if not late:
        return None
    held = sum(early * difference > 0 for difference in late.values())
    told = f"winner less defaults was {early:+.4f} after epoch {at_rung['epoch']} of the search"
    listed = ", ".join(f"{difference:+.4f} ({name.replace('-', ' ')})" for name, difference in late.items())
    return {
        **at_rung,
        "held": held,
        "compared": len(late),
        "statement": f"The order at the rung held in {held} of {len(late)}: {told}, and at full length under the final "
        f"schedule {listed}.",
    }
