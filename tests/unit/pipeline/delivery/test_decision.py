"""The decision on unseen scores: which of them certify, and what is written down of it."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from components.evaluation.operating_point import Evidence
from components.evaluation.transfer import SeenScores
from pipeline.config import OperatingPointConfig
from pipeline.delivery.decision import decide

DATA = SimpleNamespace(classes=("bad", "good"), good_classes=("good",))
SETTINGS = OperatingPointConfig(escape_budget=0.2, confidence=0.9)


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    said: list[str] = []
    return SimpleNamespace(
        directory=tmp_path,
        run=SimpleNamespace(log_artifact=lambda path: said.append(path.name)),
        console=SimpleNamespace(warn=said.append),
        said=said,
    )


def rows(count: int = 120, *, parts: int = 1) -> pd.DataFrame:
    """Images that alternate between bad and good, in three folds; of each part so many images."""
    number = np.arange(count)
    bad = number // parts % 2 == 0
    return pd.DataFrame(
        {
            "image_id": [f"{n}" for n in number],
            "path": [f"{n}.png" for n in number],
            "sha256": [f"{n}" for n in number],
            "label": np.where(bad, "bad", "good"),
            "is_defect": bad,
            "group": [f"g{n // parts}" for n in number],
            "fold": number // parts // 2 % 3,
        }
    )


def logits(table: pd.DataFrame, *, noise: float = 1.0) -> np.ndarray:
    truth = np.where(table["is_defect"], 1.0, -1.0)
    odds = 2 * truth + noise * np.random.default_rng(0).normal(size=len(table))
    return np.stack([odds, np.zeros(len(table))], axis=1)


def evidence(*folds: int, kind: str = "out_of_fold") -> Evidence:
    return Evidence(kind, folds=3, choices=1, not_certifying=folds)


def test_all_images_calibrate_and_those_of_the_other_folds_certify(context) -> None:
    table = rows()
    scores = logits(table)
    every, point = decide(context, DATA, scores, table, SETTINGS, evidence=evidence())
    assert (point.defects, point.goods) == (60, 60)
    calibration, point = decide(context, DATA, scores, table, SETTINGS, evidence=evidence(0))
    assert (point.defects, point.goods) == (40, 40)
    assert calibration == every
    assert "Fold 0 does not certify" in point.statement
    assert len(pd.read_parquet(context.directory / "calibration_predictions.parquet")) == 120


def test_scores_of_a_fold_that_does_not_certify_do_not_move_the_threshold_beyond_the_calibration(context) -> None:
    """In the order of the scores, which the calibration does not change, the threshold stays where it is."""
    table = rows()
    scores = logits(table)
    places = []
    for shift in (0.0, 5.0):
        moved = scores.copy()
        moved[(table["fold"] == 2) & table["is_defect"], 0] -= shift
        calibration, point = decide(context, DATA, moved, table, SETTINGS, evidence=evidence(2))
        places.append((point.threshold_log_odds - calibration.bias) / calibration.scale)
    assert places[1] == pytest.approx(places[0])


def test_a_group_certifies_as_a_whole_or_not_at_all(context) -> None:
    table = rows(parts=4)
    decide(context, DATA, logits(table), table, SETTINGS, evidence=evidence(1))
    torn = table.assign(fold=np.arange(len(table)) % 3)
    with pytest.raises(ValueError, match="a group must certify as a whole"):
        decide(context, DATA, logits(torn), torn, SETTINGS, evidence=evidence(1))


def test_a_threshold_for_another_model_is_carried_over_by_the_scores_of_seen_images(context) -> None:
    """A model that is twice as sure has its threshold twice as far from the middle, where that is lower."""
    table = rows()
    scores = logits(table)
    given = {"evidence": evidence(kind="transferred")}
    _, own = decide(context, DATA, scores, table, SETTINGS, seen=SeenScores(scores, scores), **given)
    assert own.transfer is not None
    assert own.certified
    _, unknown = decide(context, DATA, scores, table, SETTINGS, **given)
    assert not unknown.certified
    lower = scores - [0.5, 0.0]
    calibration, moved = decide(context, DATA, scores, table, SETTINGS, seen=SeenScores(scores, lower), **given)
    assert moved.threshold_log_odds == pytest.approx(own.threshold_log_odds - 0.5 * calibration.scale)


def test_what_was_chosen_is_written_down_and_logged(context) -> None:
    table = rows()
    calibration, point = decide(context, DATA, logits(table), table, SETTINGS, evidence=evidence())
    written = json.loads((context.directory / "operating_point.json").read_text())
    assert written["calibration"] == calibration.to_dict()
    assert written["operating_point"]["threshold_log_odds"] == point.threshold_log_odds
    assert context.said == ["operating_point.json"]


def test_a_calibration_that_could_not_be_fitted_is_said(context) -> None:
    table = rows()
    decide(context, DATA, np.zeros((120, 2)), table, SETTINGS, evidence=evidence())
    assert context.said[0].startswith("calibration: all 120 scores are equal")


def test_without_a_good_class_there_is_no_threshold(context) -> None:
    data = SimpleNamespace(classes=("bad", "good"), good_classes=())
    _, point = decide(context, data, np.zeros((120, 2)), rows(), SETTINGS, evidence=evidence(0))
    assert point is None
    assert json.loads((context.directory / "operating_point.json").read_text())["operating_point"] is None
