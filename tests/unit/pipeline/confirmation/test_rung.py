"""Whether the order at the rung held at full length."""

import pytest

from pipeline.confirmation.rung import order_at_rung

AT_RUNG = {"epoch": 3, "winner": 0.75, "defaults": 0.5}
REPLICATES = ["fold-1", "fold-2", "fold-3"]


def test_it_is_said_how_often_the_order_held_with_the_differences() -> None:
    found = order_at_rung(AT_RUNG, {"winner": [0.9, 0.8, None], "defaults": [0.8, 0.85, 0.9]}, REPLICATES)
    assert found == {
        **AT_RUNG,
        "held": 1,
        "compared": 2,
        "statement": "The order at the rung held in 1 of 2: winner less defaults was +0.2500 after epoch 3 of the "
        "search, and at full length under the final schedule +0.1000 (fold 1), -0.0500 (fold 2).",
    }


@pytest.mark.parametrize(("winner", "held"), [(0.4, 2), (0.5, 0), (0.6, 1)])
def test_the_winner_may_have_been_behind_or_level_at_the_rung(winner: float, held: int) -> None:
    scores = {"winner": [0.7, 0.7, 0.9], "defaults": [0.8, 0.8, 0.8]}
    assert order_at_rung({**AT_RUNG, "winner": winner}, scores, REPLICATES)["held"] == held


def test_without_scores_at_the_rung_or_a_pair_at_full_length_nothing_is_said() -> None:
    assert order_at_rung(None, {"winner": [0.7], "defaults": [0.8]}, ["fold-1"]) is None
    assert order_at_rung(AT_RUNG, {}, []) is None
    assert order_at_rung(AT_RUNG, {"winner": [None], "defaults": [0.8]}, ["fold-1"]) is None
