"""Tables of predictions: one row per image or tile, and one per image file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from components.evaluation.decision import Decisions, sigmoid, worst_rows

COLUMNS = ["image_id", "path", "sha256", "label", "is_defect", "group"]


def prediction_table(rows: pd.DataFrame, decided: Decisions, classes: Sequence[str]) -> pd.DataFrame:
    """The label and the prediction of each image or tile.

    rows: of the manifest, in the order of the decisions. Columns: COLUMNS, the metadata, predicted (the likeliest
    class), p_<class>; and, where there is a good class, defect_score (to read), log_odds (which rank and decide) and
    decision.
    """
    metadata = [name for name in rows.columns if name.startswith("meta_")]
    table = rows[[*COLUMNS, *metadata]].reset_index(drop=True)
    table["predicted"] = np.asarray(classes)[decided.probabilities.argmax(axis=1)]
    table = table.join(pd.DataFrame(decided.probabilities, columns=[f"p_{name}" for name in classes]))
    if np.isnan(decided.log_odds).all():
        return table
    return table.assign(
        defect_score=sigmoid(decided.log_odds), log_odds=decided.log_odds, decision=decided.verdicts.astype(str)
    )


def worst_per_file(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row per image file, by path: the answer of the served model, for which the worst tile decides.

    predictions: of `prediction_table`, with decisions. A file is defective if any tile is.
    Columns: path, sha256, group, is_defect, defect_score, log_odds, decision.
    """
    keys, log_odds, verdicts = (predictions[name].to_numpy() for name in ("path", "log_odds", "decision"))
    files = predictions.iloc[worst_rows(keys, log_odds, verdicts)].reset_index(drop=True)
    files["is_defect"] = predictions.groupby("path")["is_defect"].any().to_numpy()
    return files[["path", "sha256", "group", "is_defect", "defect_score", "log_odds", "decision"]]
