"""What the evaluation measures: on the framed images, and on the files where these are tiles."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy import special

from components.evaluation.decision import DecisionRule
from components.evaluation.predictions import prediction_table
from pipeline.config import EvaluateConfig
from pipeline.stages import evaluate

POINT = {
    "threshold_log_odds": special.logit(0.5), "balanced_threshold_log_odds": special.logit(0.25),
    "escape_budget": 0.05, "confidence": 0.95, "certified": False, "statement": "none",
    "evidence": {"kind": "held_out", "folds": 0, "choices": 1, "not_certifying": []},
}  # fmt: skip
CARD = SimpleNamespace(
    classes=("good", "pit"), good_classes=("good",), calibration={"scale": 1.0, "bias": 0.0}, operating_point=POINT
)
SETTINGS = EvaluateConfig(bootstrap_samples=100)

#: Four files of two tiles each: (path, is_defect, score).
TILES = [
    ("a", True, 0.9), ("a", False, 0.1),  # caught
    ("b", True, 0.2), ("b", True, 0.3),  # escaped, with both tiles
    ("c", False, 0.6), ("c", False, 0.1),  # overkill
    ("d", False, 0.1), ("d", False, 0.1),
]  # fmt: skip


def manifest_of(rows) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["path", "is_defect", "score"])
    return table.assign(
        image_id=[f"{path}#{number}" for number, path in enumerate(table["path"])],
        label=np.where(table["is_defect"], "pit", "good"),
        sha256=table["path"],
        group=table["path"],
        meta_camera="left",
    )


def measured(rows, card=CARD):
    manifest = manifest_of(rows)
    scores = manifest["score"].to_numpy()
    decided = DecisionRule.from_card(vars(card)).decide(np.log(np.stack([1 - scores, scores], axis=1)))
    table = prediction_table(manifest, decided, card.classes)
    return table, evaluate._measure(table, decided.probabilities, card, SETTINGS, 0)


def test_a_prediction_tells_the_file_of_its_tile() -> None:
    table, _ = measured(TILES)
    assert table["path"].tolist() == list("aabbccdd")
    assert table["image_id"].tolist()[:2] == ["a#0", "a#1"]
    assert table["decision"].tolist() == ["reject"] + 3 * ["accept"] + ["reject"] + 3 * ["accept"]
    assert set(table["meta_camera"]) == {"left"}


def test_tiles_are_measured_one_by_one_and_their_files_as_wholes() -> None:
    _, metrics = measured(TILES)
    tiles = metrics["operating_points"]["escape_budget"]
    assert (tiles["total"], tiles["escape_rate"]["value"]) == (8, pytest.approx(2 / 3))
    assert tiles["overkill_rate"]["value"] == pytest.approx(1 / 5)
    files = metrics["per_file"]
    assert files["files"] == 4
    point = files["operating_points"]["escape_budget"]
    assert (point["total"], point["escape_rate"]["value"], point["overkill_rate"]["value"]) == (4, 0.5, 0.5)
    # Highest scores 0.9 and 0.3 of the defective, 0.6 and 0.1 of the good: 3 of 4 pairs in the right order.
    assert files["ranking"]["auroc"]["value"] == pytest.approx(0.75)
    assert files["operating_points"]["balanced"]["escape_rate"]["value"] == 0.0


def test_the_headline_has_the_rates_of_the_files_where_there_are_tiles() -> None:
    _, metrics = measured(TILES)
    headline = evaluate._headline(metrics)
    assert (headline["escape_rate"], headline["escape_rate_per_file"]) == (pytest.approx(2 / 3), 0.5)
    assert (headline["overkill_rate"], headline["overkill_rate_per_file"]) == (pytest.approx(1 / 5), 0.5)


def test_without_tiles_nothing_is_rolled_up() -> None:
    _, metrics = measured([(f"{number}", defect, score) for number, (_, defect, score) in enumerate(TILES)])
    assert metrics["per_file"] is None
    assert not [name for name in evaluate._headline(metrics) if name.endswith("_per_file")]


def test_without_a_good_class_there_is_no_decision_to_roll_up() -> None:
    card = SimpleNamespace(**vars(CARD) | {"classes": ("crack", "pit"), "good_classes": (), "operating_point": None})
    table, metrics = measured([("a", True, 0.9), ("b", True, 0.2)], card=card)
    assert "decision" not in table
    assert metrics["per_file"] is None
    assert metrics["ranking"] is None
