"""The report stands alone: nothing is fetched, everything is escaped, the same input gives the same bytes."""

import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from components.report.figures_evaluation import confusion_figure
from components.report.galleries import gallery
from components.report.html import Section, figure_png, figure_uri, render_report

HOSTILE = '<script>alert("x")</script>'


@pytest.fixture
def drawing() -> Figure:
    return confusion_figure([[3, 1], [0, 4]], ["good", "pit"])


def test_the_page_asks_for_nothing_outside(drawing: Figure) -> None:
    page = _page(Section("Results", figures=[("Confusion", drawing)]))
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert sources
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "url(" not in page
    assert "default-src 'none'" in page


def test_every_text_is_escaped() -> None:
    table = pd.DataFrame({HOSTILE: [HOSTILE]})
    section = Section(HOSTILE, HOSTILE, tables=[(HOSTILE, table)], notes=[HOSTILE])
    page = render_report(HOSTILE, HOSTILE, [(HOSTILE, HOSTILE, HOSTILE)], [section])
    assert "<script" not in page
    assert "&lt;script&gt;" in page


def test_a_name_that_acts_on_the_reader_is_shown_in_escapes() -> None:
    names = ["two  blanks", "evil\u202egnp.exe", "\x1b[31m", "\udce9"]
    table = pd.DataFrame({"class": pd.Series(names, dtype=object)})
    page = _page(Section("Results", tables=[("Classes", table)]))
    for shown in ("two  blanks", r"evil\u202egnp.exe", r"\x1b[31m", r"\udce9"):
        assert f"<td>{shown}</td>" in page
    page.encode("utf-8")


def test_a_long_table_scrolls_in_a_box_of_its_own() -> None:
    rows = [("few", pd.DataFrame({"class": ["a"] * 40})), ("many", pd.DataFrame({"class": ["a"] * 41}))]
    assert re.findall('class="scroll( tall)?"', _page(Section("Results", tables=rows))) == ["", " tall"]


def test_the_same_input_gives_the_same_bytes() -> None:
    def page() -> str:
        return _page(Section("Results", figures=[("Confusion", confusion_figure([[3, 1], [0, 4]], ["a", "b"]))]))

    assert page() == page()


def test_drawings_are_svg_and_photographs_png(drawing: Figure) -> None:
    photograph = gallery([np.zeros((4, 4, 3), dtype=np.uint8)], ["one"], "Escapes")
    assert figure_uri(drawing).startswith("data:image/svg+xml;base64,")
    assert figure_uri(photograph).startswith("data:image/png;base64,")
    assert figure_png(drawing).startswith(b"\x89PNG")


def test_cells_are_written_for_reading() -> None:
    table = pd.DataFrame(
        {
            "count": [12345, 7],
            "share": [0.5, 0.9512],
            "lr": [1e-5, 0.1],
            "ok": [True, False],
            "maybe": [None, "x"],
            "gap": [np.nan, 2.5],
        }
    )
    cells = _cells(_page(Section("T", tables=[("", table)])))
    assert cells == ["12,345", "0.5000", "1e-5", "yes", "–", "–", "7", "0.9512", "0.1", "no", "x", "2.5"]


def test_a_named_index_becomes_a_column_and_a_plain_one_does_not() -> None:
    named = pd.DataFrame({"n": [1]}, index=pd.Index(["good"], name="class"))
    assert _cells(_page(Section("T", tables=[("", named)]))) == ["good", "1"]
    assert _cells(_page(Section("T", tables=[("", pd.DataFrame({"n": [1]}))]))) == ["1"]


def test_an_empty_table_and_an_empty_report_render() -> None:
    assert "<thead>" in _page(Section("T", tables=[("Quarantine", pd.DataFrame(columns=["path", "reason"]))]))
    assert "<h1>Nothing</h1>" in render_report("Nothing", "", [], [])


def test_paragraphs_split_at_blank_lines_and_units_stay_on_their_line() -> None:
    page = _page(Section("T", "At most 5 % escape.\n\nSecond."))
    assert "<p>At most 5\u00a0% escape.</p>" in page
    assert "<p>Second.</p>" in page


def test_the_contents_link_to_every_section() -> None:
    sections = [Section(name) for name in ("Data & splits", "Search", "Search")]
    page = render_report("R", "", [], sections)
    targets = re.findall(r'<a href="#([^"]+)"', page)
    assert targets == ["s1-data-splits", "s2-search", "s3-search"]
    assert all(f'id="{target}"' in page for target in targets)


def test_every_tag_is_closed(drawing: Figure) -> None:
    section = Section("T", "text", tables=[("c", pd.DataFrame({"a": [1]}))], figures=[("f", drawing)], notes=["n"])
    parser = _Balance()
    parser.feed(_page(section, section, section))
    assert parser.open == []


class _Balance(HTMLParser):
    """Keeps the stack of open tags."""

    VOID = frozenset({"meta", "img", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _page(*sections: Section) -> str:
    return render_report("Report", "sub", [("Escape rate", "1 %", "1 of 100")], list(sections))


def _cells(page: str) -> list[str]:
    return re.findall(r"<td[^>]*>([^<]*)</td>", page)
