"""The bytes of a CSV file to cells of text, as the eye sees them: what would be read as something else is refused.

The csv module splits lines and cells. pandas would drop cells that are too many, fill in those that are missing, take
a first column for an index, and name columns that stand there twice.
"""

import codecs
import csv
import io
import itertools
import re
from collections.abc import Callable, Sequence

from components.data.sources.cells import Cells, find_columns, has_columns, other_kind
from components.errors import InputError

_SEPARATORS = ",;\t|"
_LINE_END = re.compile(r"\r\n|\r|\n")
#: Excel's own first line, which names the separator.
_SEPARATOR_LINE = re.compile(r'\s*"?sep=([^"\s]|\t)"?[,;\t|\s]*', re.IGNORECASE)
#: How far down a header is looked for, in lines.
_HEAD = 30
_SHOWN_LINES = 3
_SHOWN_TEXT = 60
# That of UTF-32 begins with that of UTF-16, so it has to be looked for first.
_ENCODINGS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

#: Number of the first line, and the cells.
Row = tuple[int, tuple[str, ...]]


def read_csv(data: bytes, wanted: Sequence[tuple[str, str]]) -> Cells:
    """The wanted columns (key and name of each) of a table of text: UTF-8, or UTF-16 as Excel writes it.

    Cells are separated by comma, semicolon, tab or |. Remarks above the header and lines without content are left out.
    Raises ValueError for what is no such table, with the line and the remedy; InputError as `find_columns` does.
    """
    kind, line = other_kind(data), data.partition(b"\n")[0].decode(errors="replace")
    # The letters of a format's mark may begin a name of a column, too.
    if kind is not None and not any(has_columns(_split(line, separator), wanted) for separator in _SEPARATORS):
        raise ValueError(f"it is {kind}")
    text = _decode(data)
    skipped, separator, remarks = _find_header(text, wanted)
    (first, header), *rows = _rows(text, skipped, separator)
    if len(header) == 1 and not has_columns(header, wanted):
        raise ValueError(
            f"its header, line {first}, is a single cell ({_short(header[0])}); put a comma, a semicolon, a tab or | "
            "between the names of the columns, and between the cells"
        )
    places, notes = find_columns(header, wanted)
    again = [number for number, cells in rows if cells == header]
    filled = [(number, cells) for number, cells in rows if "".join(cells).strip() and cells != header]
    _refuse_shifted(header, filled)
    columns = {name: [cells[place] or None for _, cells in filled] for name, place in places.items()}
    _refuse_line_breaks(columns, filled)
    if remarks:
        notes.append(f"The table's header is line {first}; the remarks above it are left out: {_short(remarks[0])}.")
    if again:
        notes.append(
            f"The table's header stands again in line {again[0]}, and is left out ({len(again)} of {len(rows)} rows)."
        )
    if len(filled) < len(rows) - len(again):
        empty = len(rows) - len(again) - len(filled)
        notes.append(f"Rows of the table that hold nothing but separators are left out: {empty}.")
    return Cells(columns, rows=[number for number, _ in filled], unit="line", notes=tuple(notes))


def csv_header(data: bytes, accepts: Callable[[Sequence[str]], bool]) -> list[str] | None:
    """The cells of the first of the upper lines that `accepts` takes for a header, split by any of the separators; None
    where it takes none. Raises ValueError as `read_csv` does for the encoding."""
    for line in itertools.islice(io.StringIO(_decode(data), newline=""), _HEAD):
        found = next((cells for separator in _SEPARATORS if accepts(cells := _split(line, separator))), None)
        if found is not None:
            return found
    return None


def _decode(data: bytes) -> str:
    marked = next((encoding for mark, encoding in _ENCODINGS if data.startswith(mark)), None)
    # A header begins with a letter of ASCII, of whose two bytes in UTF-16 one is zero.
    unmarked = {(False, True): "utf-16-le", (True, False): "utf-16-be"}.get((data[:1] == b"\0", data[1:2] == b"\0"))
    encoding = marked or unmarked or "utf-8"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = _line(data[: error.start].decode(encoding, errors="replace"))
        raise ValueError(
            f"line {line} is not {encoding.removesuffix('-sig').upper()}; save the table as 'CSV UTF-8' (in Excel: "
            "Save As, file type 'CSV UTF-8')"
        ) from error
    before, zero, _ = text.partition("\0")
    if zero:
        raise ValueError(f"line {_line(before)} holds a zero byte, so the file is damaged; write it anew")
    return text


def _line(before: str) -> int:
    return len(_LINE_END.findall(before)) + 1


def _find_header(text: str, wanted: Sequence[tuple[str, str]]) -> tuple[int, str, list[str]]:
    """How many lines stand above the header, the separator, and the remarks among those lines.

    The header is the first line that has all wanted columns, if above it are only remarks; otherwise the first line
    that is no comment, with the separator that it has most of.
    """
    lines = list(itertools.islice(io.StringIO(text, newline=""), _HEAD))
    named = _SEPARATOR_LINE.fullmatch(lines[0]) if lines else None
    separators = named[1] if named else _SEPARATORS
    start = 1 if named else 0
    for number, line in enumerate(lines[start:], start=start):
        for separator in separators:
            header = _split(line, separator)
            above = [_split(other, separator) for other in lines[start:number] if not _is_comment(other)]
            if has_columns(header, wanted) and all(_filled(cells) < _filled(header) for cells in above):
                return number, separator, _remarks(lines[start:number])
    content = (number for number, line in enumerate(lines) if number >= start and not _is_comment(line))
    first = next(content, None)
    if first is None:
        raise ValueError("it is empty; write a header and a row for each image")
    return first, max(separators, key=lines[first].count), _remarks(lines[start:first])


def _is_comment(line: str) -> bool:
    return not _content(line) or line.lstrip().startswith("#")


def _remarks(lines: Sequence[str]) -> list[str]:
    return [_content(line) for line in lines if _content(line)]


def _content(line: str) -> str:
    return line.strip(f"{_SEPARATORS}\"' \r\n")


def _split(line: str, separator: str) -> list[str]:
    line = line.rstrip("\r\n")[: csv.field_size_limit()]
    return next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _filled(cells: Sequence[str]) -> int:
    return sum(bool(cell.strip()) for cell in cells)


def _rows(text: str, skipped: int, separator: str) -> list[Row]:
    """The header and what follows, each with the number of its first line, without empty lines."""
    lines = io.StringIO(text, newline="")
    for _ in range(skipped):
        next(lines)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    rows: list[Row] = []
    line = skipped + 1
    usual = csv.field_size_limit(max(len(text), csv.field_size_limit()))  # a column that nobody asked for may be long
    try:
        for cells in reader:
            if cells:
                rows.append((line, tuple(cells)))  # lists would keep the garbage collector busy
            line = skipped + reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"a double quote in the row that begins in line {line} has no counterpart ({error}); quote cells as a "
            'whole, and write "" for one within a text'
        ) from error
    finally:
        csv.field_size_limit(usual)
    return rows


def _refuse_shifted(header: Sequence[str], rows: list[Row]) -> None:
    """Raise ValueError for rows with more or fewer cells than the header. That all have the same empty cells at the
    end, or lack those that have no name, shifts nothing."""
    named = max((place for place, name in enumerate(header, start=1) if name.strip()), default=0)
    wrong = [(number, cells) for number, cells in rows if len(cells) != len(header)]
    alike = len(wrong) == len(rows) and len({len(cells) for _, cells in rows}) == 1
    if wrong and not (
        alike and len(wrong[0][1]) >= named and not any(_filled(cells[len(header) :]) for _, cells in wrong)
    ):
        shown = "; ".join(
            f"line {n} has {len(cells)}: {_short(' | '.join(cells))}" for n, cells in wrong[:_SHOWN_LINES]
        )
        raise ValueError(
            f"the header has {len(header)} cells, and rows that have not: {len(wrong)} ({shown}); put a text that "
            "holds the separator into double quotes, and write empty cells, too"
        )


def _refuse_line_breaks(columns: dict[str, list[str | None]], rows: list[Row]) -> None:
    for name, cells in columns.items():
        for (number, _), cell in zip(rows, cells, strict=True):
            if cell is not None and ("\n" in cell or "\r" in cell):
                raise InputError(
                    f"data.source: in the row that begins in line {number} of the table, the cell of column {name!r} "
                    f"runs over several lines ({_short(cell)}); remove the line break, or the quote that was not closed"
                )


def _short(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_TEXT else f"{text[: _SHOWN_TEXT - 1]}…")
