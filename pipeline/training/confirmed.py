"""What `confirm` leaves to `train`: the recipe, trainings of it, and on what it was chosen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Folder of the result of `confirm` with the trainings that `train` takes over, a folder for each member.
KEPT = "kept"
#: The member of a model without folds.
WHOLE = "whole"


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """overrides: of the confirmed recipe. kept: member (`fold-<k>`, or `whole` without folds) → MLflow run of its
    training. choices: recipes that were compared on the folds that certify. selection_folds: those on which the search
    chose, which do not certify.
    """

    overrides: dict[str, Any]
    kept: dict[str, str]
    choices: int = 1
    selection_folds: tuple[int, ...] = ()


def read_confirmed(path: Path) -> Confirmed:
    """What a training needs of confirmation.json."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return Confirmed(
        overrides=values["overrides"],
        kept=values["kept"],
        choices=values["choices"],
        selection_folds=tuple(values["selection_folds"]),
    )
