"""confirmation.json: what is written is what a training reads."""

import json
import math
from types import SimpleNamespace

import pytest

from components.evaluation.expected_difference import Normal
from pipeline.confirmation.foresight import Foresight
from pipeline.confirmation.record import Conclusion, write_confirmation
from pipeline.confirmation.trainings import repeated_over_folds, repeated_over_seeds
from pipeline.confirmation.verdict import Verdict
from pipeline.training.confirmed import Confirmed, read_confirmed

OVERRIDES = {"recipe.lr": 0.02, "recipe.ema_decay": None}
FORESIGHT = Foresight(expected=Normal(0.01, 0.03), detectable=0.02, statement="0.02 would be certain.")


def written(path, *, replicates=(), kept=(), score=0.5, foresight=FORESIGHT, cross_validated=1):
    results = [
        SimpleNamespace(label=label, replicate=replicate, score=score, record=lambda label=label: {"recipe": label})
        for replicate in replicates
        for label in ("winner", "defaults")
    ]
    return write_confirmation(
        path,
        Conclusion(objective="auroc", confidence=0.9, selection_folds=[0], cross_validated=cross_validated),
        Verdict(chosen="winner", statement="The winner is kept."),
        OVERRIDES,
        foresight=foresight,
        at_rung={"epoch": 3, "winner": 0.7, "defaults": 0.6},
        results=results,
        kept=dict(kept),
    )


def test_what_is_written_is_what_a_training_reads(tmp_path) -> None:
    path = tmp_path / "confirmation.json"
    values = written(path, replicates=repeated_over_folds(0, [1, 2]), kept={"fold-1": "r", "fold-2": "s"})
    assert json.loads(path.read_text()) == values
    assert (values["chosen"], values["replicates"], values["confidence"]) == ("winner", ["fold-1", "fold-2"], 0.9)
    assert (values["detectable_difference"], values["possible_gain"]) == (0.02, pytest.approx(0.07))
    assert read_confirmed(path) == Confirmed(
        overrides=OVERRIDES, kept={"fold-1": "r", "fold-2": "s"}, choices=2, selection_folds=(0,)
    )


def test_recipes_compared_beside_the_calibration_split_cost_the_certificate_nothing(tmp_path) -> None:
    assert written(tmp_path / "seeds.json", replicates=repeated_over_seeds(0, 2))["choices"] == 1
    assert written(tmp_path / "none.json", foresight=None)["choices"] == 1


def test_recipes_that_the_search_has_compared_on_all_folds_count_trained_again_or_not(
    tmp_path,
) -> None:
    path = tmp_path / "confirmation.json"
    assert written(path, cross_validated=3)["choices"] == 3
    assert written(path, cross_validated=3, replicates=repeated_over_folds(0, [1, 2]))["choices"] == 3


@pytest.mark.parametrize("score", [None, math.nan])
def test_a_training_without_a_score_has_none_in_the_file(tmp_path, score) -> None:
    values = written(tmp_path / "confirmation.json", replicates=repeated_over_seeds(3, 1), score=score)
    assert values["scores"] == {"winner": [None], "defaults": [None]}
    assert values["at_rung"] is None
