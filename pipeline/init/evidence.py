"""The escape budget that so many defective images can certify, and the gate that so many of the test split can pass."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from components.data.fixed_splits import SPLITS, given_codes
from components.data.splits import choose_design
from components.evaluation.intervals import defects_needed, upper_bound
from components.evaluation.operating_point import Evidence
from pipeline.config import Config

#: Budgets that are offered, where the default asks for more defectives than there are.
BUDGETS = (0.05, 0.10, 0.15, 0.20, 0.25, 0.30, 0.40, 0.50)


@dataclass(frozen=True)
class Certifiable:
    """unit: image, or part where several images share one. defects: defective units; certify: about how many of them
    certify in a run by the defaults; test: about how many are in the test split. budget: the least of `BUDGETS` that
    they prove without a miss, None where there is none. least: the least rate that they prove at all. gate: an upper
    bound of the escape rate that a model within the budget can show on the test split; None where it can show the
    default one. confidence: of each recipe that is compared."""

    unit: str
    defects: int
    certify: int
    test: int
    budget: float | None
    least: float
    gate: float | None
    confidence: float

    def needed(self, budget: float) -> int:
        """How many units it takes without a miss."""
        return defects_needed(budget, confidence=self.confidence)


def certifiable(table: pd.DataFrame, is_defect: np.ndarray, config: Config) -> Certifiable:
    """table: columns group and split of a listing. is_defect: (N,) bool. config: the defaults.

    The exact binomial bound without a miss (`defects_needed`), at the confidence that each of two recipes has to show
    where the better is taken on images that certify.
    """
    grouped = bool(table["group"].notna().any())
    defective = table[is_defect]
    # An image without a group is a unit of its own.
    units = defective.assign(unit=defective["group"].where(defective["group"].notna(), defective["path"]))
    codes = given_codes(units.drop_duplicates("unit")["split"])
    total, searched = len(codes), config.search.num_trials > 1
    design = choose_design(table["split"], test_fraction=config.data.splits.test)
    test = _given(codes, "test") or math.ceil(config.data.splits.test * total - 1e-9)
    if design == "hold_out":
        certify = _given(codes, "calibration") or math.floor(config.data.splits.calibration * total)
        choices = 1
    else:
        folds = config.data.num_folds
        certify, choices = math.floor((total - test) * (folds - searched) / folds), 2 if searched else 1
    evidence = Evidence("held_out" if design == "hold_out" else "out_of_fold", folds=0, choices=choices)
    confidence = evidence.confidence_each(config.operating_point.confidence)
    budget = next((one for one in BUDGETS if defects_needed(one, confidence=confidence) <= certify), None)
    return Certifiable(
        unit="part" if grouped else "image",
        defects=total,
        certify=certify,
        test=test,
        budget=budget,
        least=upper_bound(0, certify, confidence=confidence),
        gate=_gate(budget or BUDGETS[-1], test, config),
        confidence=confidence,
    )


def _gate(budget: float, test: int, config: Config) -> float | None:
    limit, tail = config.promote.gates.max_escape_rate, (1 + config.evaluate.confidence) / 2
    if limit is None or (budget <= limit and upper_bound(0, test, confidence=tail) <= limit):
        return None
    bound = upper_bound(math.ceil(budget * test), test, confidence=tail)
    return math.ceil(bound * 20) / 20  # up to the next 5 %


def _given(codes: np.ndarray, split: str) -> int:
    return int((codes == SPLITS.index(split)).sum())
