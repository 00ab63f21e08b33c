"""From the decisions on tiles to those on image files, which are what the line acts on."""

from __future__ import annotations

import numpy as np
import pandas as pd


def worst_per_file(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row per image file, by path: what the served model answers where an image is judged in tiles.

    predictions: test_predictions.parquet. Score and log-odds are the highest of the file's tiles, rejected if any tile
    is, defective if any is; group and sha256 are the file's. Columns: path, sha256, group, is_defect, defect_score,
    log_odds, decision.
    """
    rejected = predictions["decision"] == "reject"
    files = (
        predictions.assign(rejected=rejected)
        .groupby("path", as_index=False)
        .agg(
            sha256=("sha256", "first"),
            group=("group", "first"),
            is_defect=("is_defect", "any"),
            defect_score=("defect_score", "max"),
            log_odds=("log_odds", "max"),
            rejected=("rejected", "any"),
        )
    )
    files["decision"] = np.where(files["rejected"], "reject", "accept")
    return files.drop(columns="rejected")
