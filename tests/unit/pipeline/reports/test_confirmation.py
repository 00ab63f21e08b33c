"""The confirmation as a chapter of the report and as a table at the terminal."""

import json

import pytest

from pipeline.reports.confirmation import confirmation_section, console_table, scores_table

VALUES = {
    "chosen": "winner",
    "statement": "The winner is kept.",
    "foresight": "With 2 pairs of trainings a measured difference of 0.0400 would be certain.",
    "difference": 0.03,
    "se_seeds": 0.005,
    "se_sampling": 0.0125,
    "expected": 0.02,
    "low": 0.01,
    "high": 0.03,
    "objective": "auroc",
    "confidence": 0.9,
    "replicates": ["fold-1", "fold-2"],
    "scores": {"winner": [0.95, 0.93], "defaults": [0.9, 0.92]},
    "at_rung": None,
    "trainings": [
        {"recipe": "winner", "replicate": "fold-1", "seed": 1, "epochs": 3, "kept_epoch": 3, "diverged": False},
        {"recipe": "defaults", "replicate": "fold-1", "seed": 1, "epochs": 3, "kept_epoch": 3, "diverged": False},
    ],
}
UNKNOWN = dict.fromkeys(("difference", "se_seeds", "se_sampling", "expected", "low", "high"))


@pytest.fixture
def section(tmp_path):
    def make(**changes):
        (tmp_path / "confirmation.json").write_text(json.dumps(VALUES | changes))
        return confirmation_section(tmp_path)

    return make


def rows_of(figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def test_the_chapter_holds_statement_figure_tables_and_where_the_uncertainty_comes_from(section) -> None:
    chapter = section()
    assert chapter.text.endswith("The winner is kept.")
    assert "with the same folds, and compared by auroc on the fold that each left out" in chapter.text
    ((caption, figure),) = chapter.figures
    assert caption == "The difference of the two recipes"
    assert rows_of(figure) == ["fold 1", "fold 2", "mean, with its standard error", "expected, 90 % bounds"]
    assert [caption for caption, _ in chapter.tables] == ["Scores of both recipes", "Trainings"]
    assert chapter.notes == [
        "Before the trainings: With 2 pairs of trainings a measured difference of 0.0400 would be certain.",
        "Standard error of the measured difference: 0.0050 from the seeds, 0.0125 from the choice of validation images "
        "(whole groups resampled).",
    ]


def test_the_scores_at_the_rung_stand_above_those_at_full_length(section) -> None:
    at_rung = {"epoch": 3, "winner": 0.8, "defaults": 0.7, "statement": "The order at the rung held in 2 of 2."}
    chapter = section(at_rung=at_rung)
    table = chapter.tables[0][1]
    assert table["replicate"].tolist() == ["search, epoch 3", "fold 1", "fold 2"]
    assert table["difference"].tolist() == pytest.approx([0.1, 0.05, 0.01])
    assert chapter.notes[-1] == "The order at the rung held in 2 of 2."
    assert rows_of(chapter.figures[0][1])[:2] == ["fold 1", "fold 2"]


def test_seeds_are_compared_on_the_validation_split(section) -> None:
    chapter = section(replicates=["seed-0", "seed-1"])
    assert "with the same seeds, and compared by auroc on the validation split" in chapter.text


def test_without_trainings_the_chapter_is_its_statement(section) -> None:
    chapter = section(trainings=[], scores={}, replicates=[], **UNKNOWN)
    assert (chapter.text, list(chapter.tables)) == ("The winner is kept.", [])


def test_a_training_that_diverged_has_no_score_and_no_difference(section) -> None:
    changes = {"scores": {"winner": [None, 0.93], "defaults": [0.9, 0.92]}, **UNKNOWN}
    table = scores_table(VALUES | changes)
    assert table["difference"].isna().tolist() == [True, False]
    assert table["difference"][1] == pytest.approx(0.01)
    shown = console_table(VALUES | changes)
    cells = [list(column.cells) for column in shown.columns]
    assert cells == [["fold 1", "fold 2"], ["diverged", "0.9300"], ["0.9000", "0.9200"], ["–", "+0.0100"]]
    chapter = section(**changes)
    assert len(chapter.notes) == 1
    assert rows_of(chapter.figures[0][1]) == ["fold 2"]


def test_where_every_pair_lost_one_the_figure_says_so(section) -> None:
    chapter = section(scores={"winner": [None, None], "defaults": [0.9, 0.92]}, **UNKNOWN)
    ((_, figure),) = chapter.figures
    assert any("no two trainings could be compared" in text.get_text() for text in figure.axes[0].texts + figure.texts)


def test_the_table_ends_with_the_mean_and_what_is_expected(section) -> None:
    first, *_, last = (list(column.cells) for column in console_table(VALUES).columns)
    assert first[-2:] == ["mean", "expected"]
    assert last == ["+0.0500", "+0.0100", "+0.0300", "+0.0200 (+0.0100 to +0.0300)"]
