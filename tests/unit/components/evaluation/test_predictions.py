"""From tiles to files: rejected if any tile is, defective if any tile is."""

import pandas as pd

from components.evaluation.predictions import worst_per_file


def predictions(*rows) -> pd.DataFrame:
    """rows: (path, is_defect, defect_score, decision)."""
    table = pd.DataFrame(rows, columns=["path", "is_defect", "defect_score", "decision"])
    return table.assign(
        log_odds=2 * table["defect_score"],
        sha256=table["path"] + "-sha",
        group=table["path"].str[0],
        image_id=range(len(table)),
    )


def test_a_file_is_as_bad_as_its_worst_tile() -> None:
    files = worst_per_file(
        predictions(
            ("b.png", False, 0.2, "accept"),
            ("a.png", False, 0.1, "accept"),
            ("b.png", True, 0.4, "accept"),
            ("a.png", False, 0.9, "reject"),
            ("a.png", False, 0.3, "accept"),
        )
    )
    assert files.to_dict("list") == {
        "path": ["a.png", "b.png"],
        "sha256": ["a.png-sha", "b.png-sha"],
        "group": ["a", "b"],
        "is_defect": [False, True],
        "defect_score": [0.9, 0.4],
        "log_odds": [1.8, 0.8],
        "decision": ["reject", "accept"],
    }


def test_without_tiles_each_image_is_a_file_of_its_own() -> None:
    table = predictions(("a.png", True, 0.7, "reject"), ("b.png", False, 0.1, "accept"))
    files = worst_per_file(table)
    pd.testing.assert_frame_equal(files, table[list(files.columns)])


def test_no_predictions_give_no_files() -> None:
    assert len(worst_per_file(predictions())) == 0
