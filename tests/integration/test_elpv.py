"""The demo's real images: solar cells from the `demo` extra."""

import importlib.util

import pandas as pd
import pytest

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="the demo extra is not installed"),
]


def test_the_demo_has_all_cells_in_test_and_three_folds_and_tears_no_group(workplace):
    command = [part for part in workplace.pipeline("prepare") if not part.startswith("--set=")]
    command[command.index("smoke")] = "demo"
    done = workplace.execute(*command)
    assert done.code == 0, done.stderr[-4000:]
    headline = done.summary["headline"]
    assert (headline["images"], headline["classes"], headline["quarantined"]) == (2624, 2, 0)
    manifest = pd.read_parquet(workplace.result(done, "prepare") / "manifest.parquet")
    assert len(manifest) == 2624
    assert set(manifest["label"]) == {"functional", "defective"}
    assert set(manifest.loc[manifest["split"] == "test", "fold"]) == {-1}
    for fold in (-1, 0, 1, 2):
        for label, total in manifest["label"].value_counts().items():
            count = ((manifest["fold"] == fold) & (manifest["label"] == label)).sum()
            assert count == pytest.approx(0.25 * total, abs=3)  # duplicates are groups of several images
    assert (manifest.groupby("group")["split"].nunique() == 1).all()
    assert (manifest.groupby("group")["fold"].nunique() == 1).all()
    assert (manifest.groupby("sha256")["split"].nunique() == 1).all()
    assert set(manifest["meta_type"]) == {"mono", "poly"}
