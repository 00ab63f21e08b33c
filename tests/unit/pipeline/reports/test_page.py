"""What the reports share: numbers in words, tables cut to a length, a page with its figures."""

from types import SimpleNamespace

import pandas as pd
from matplotlib.figure import Figure

from components.report.html import Section
from components.report.style import empty_figure
from pipeline.reports.page import decimal, file_safe, first_rows, interval, share, write_page


def test_a_number_that_is_not_known_is_a_dash() -> None:
    assert (share(0.1234), share(None)) == ("12.3 %", "–")
    assert (decimal(0.12345), decimal(-0.5, 1), decimal(0.5, sign="+"), decimal(None)) == (
        "0.123", "−0.5", "+0.500", "–",
    )  # fmt: skip
    record = {"low": 0.1, "high": 0.25}
    assert (interval(record), interval(record, as_share=False)) == ("10.0 % to 25.0 %", "0.100 to 0.250")
    assert interval({"low": None, "high": None}) == "–"


def test_a_table_that_was_cut_names_the_file_with_all_rows() -> None:
    table = pd.DataFrame({"path": ["a", "b", "c"]})
    caption, rows = first_rows("Files", table, 2, "files.csv")
    assert caption == "Files: 2 of 3 rows; all of them are in files.csv"
    assert rows["path"].tolist() == ["a", "b"]
    assert first_rows("Files", table, 3, "files.csv")[0] == "Files"


def test_a_page_is_written_and_its_figures_are_logged_by_the_start_of_their_captions(tmp_path) -> None:
    logged: dict[str, Figure] = {}
    context = SimpleNamespace(directory=tmp_path, log_figure=lambda figure, name: logged.update({name: figure}))
    figure = empty_figure("Splits", "none")
    write_page(
        context,  # type: ignore[arg-type]
        "page.html",
        title="A report",
        subtitle="of something",
        headline=[("Images", "3", "")],
        sections=[Section("One", figures=[("Defect scores: on the test split", figure)])],
    )
    assert logged == {"figures/defect_scores.png": figure}
    assert "<h1>A report</h1>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_any_name_makes_a_file_name() -> None:
    assert file_safe("adamw") == "adamw"
    assert file_safe("hub:x/y z") == "hub_x_y_z"
    assert file_safe("b" * 300) != file_safe("b" * 301)
    assert len(file_safe("b" * 300)) < 120
