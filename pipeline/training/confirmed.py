"""What `confirm` leaves to `train`: the recipe, and one training of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Folder of the result of `confirm` with the training that `train` takes over.
KEPT = "kept"


@dataclass(frozen=True, kw_only=True)
class Confirmed:
    """overrides: of the confirmed recipe. kept_run: MLflow run of the training to take over, None for none."""

    overrides: dict[str, Any]
    kept_run: str | None


def read_confirmed(path: Path) -> Confirmed:
    """What a training needs of confirmation.json."""
    values = json.loads(path.read_text(encoding="utf-8"))
    return Confirmed(overrides=values["overrides"], kept_run=values["kept_run"])
