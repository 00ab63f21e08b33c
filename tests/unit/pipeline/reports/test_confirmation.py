"""The confirmation as a chapter of the report and as a table at the terminal."""

import json

import pytest

from pipeline.reports.confirmation import confirmation_section, console_table, scores_table

VALUES = {
    "chosen": "winner",
    "statement": "The winner is taken.",
    "difference": 0.03,
    "low": 0.01,
    "se_seeds": 0.005,
    "se_sampling": 0.0125,
    "objective": "auroc",
    "confidence": 0.9,
    "seeds": [0, 1],
    "scores": {"winner": [0.95, 0.93], "defaults": [0.9, 0.92]},
    "trainings": [
        {"recipe": "winner", "seed": 0, "epochs": 3, "best_epoch": 2, "diverged": False, "run_id": "r"},
        {"recipe": "defaults", "seed": 0, "epochs": 3, "best_epoch": 3, "diverged": False, "run_id": "s"},
    ],
}


@pytest.fixture
def section(tmp_path):
    def make(**changes):
        (tmp_path / "confirmation.json").write_text(json.dumps(VALUES | changes))
        return confirmation_section(tmp_path)

    return make


def test_the_chapter_holds_statement_tables_and_where_the_uncertainty_comes_from(section) -> None:
    chapter = section()
    assert chapter.text.endswith("The winner is taken.")
    assert "with 2 seeds, and compared by auroc on the validation split" in chapter.text
    assert [caption for caption, _ in chapter.tables] == ["Scores per seed", "Trainings"]
    assert chapter.notes == [
        "Standard error of the difference: 0.0050 from the seeds, 0.0125 from the choice of validation images."
    ]


def test_one_seed_leaves_the_spread_between_seeds_open(section) -> None:
    (note,) = section(se_seeds=None).notes
    assert note == (
        "Standard error of the difference: not known from the seeds, of which there is one, 0.0125 from the choice "
        "of validation images."
    )


def test_without_trainings_the_chapter_is_its_statement(section) -> None:
    chapter = section(trainings=[], scores={}, seeds=[], difference=None, low=None)
    assert (chapter.text, list(chapter.tables)) == ("The winner is taken.", [])


def test_a_training_that_diverged_has_no_score_and_no_difference(section) -> None:
    scores = {"winner": [None, 0.93], "defaults": [0.9, 0.92]}
    changed = VALUES | {"scores": scores, "difference": None, "low": None}
    table = scores_table(changed)
    assert table["difference"].isna().tolist() == [True, False]
    assert table["difference"][1] == pytest.approx(0.01)
    shown = console_table(changed)
    cells = [list(column.cells) for column in shown.columns]
    assert cells == [["0", "1"], ["diverged", "0.9300"], ["0.9000", "0.9200"], ["–", "+0.0100"]]
    chapter = section(scores=scores, difference=None, low=None)
    assert chapter.notes == []
