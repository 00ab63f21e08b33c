"""Parquet files to cells of text: one file, or a folder of parts as Spark and pandas write it.

Each type has one text, for every column: `true` and `false`; 0 and not 0.0; 2024-01-31 for a date,
2024-01-31 08:30:00 for a time, with a fraction only where there is one.
"""

import decimal
import io
import math
import posixpath
import re
import urllib.parse
from collections.abc import Callable, Mapping, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from components.data.files import Files
from components.data.sources.cells import Cells, find_columns, other_kind
from components.errors import InputError

_SUFFIXES = (".parquet", ".parq", ".pq")
#: Formats whose folders hold rows that are deleted or replaced, too, and a log that says which.
_LOGGED = {r"_delta_log/.*\.json": "Delta", r"metadata/.*\.metadata\.json": "Iceberg"}
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
_EXACT = 2.0**53
_WITHOUT_TEXT = (
    pa.types.is_nested,
    pa.types.is_duration,
    pa.types.is_interval,
    lambda kind: isinstance(kind, pa.BaseExtensionType),
)

Column = list[str | None]


def read_parquet_file(data: bytes, wanted: Sequence[tuple[str, str]]) -> Cells:
    """The wanted columns (key and name of each). Raises ValueError, InputError as `read_parquet_folder` does."""
    columns, notes = _read_part(data, {}, wanted)
    return _joined([columns], notes)


def parquet_header(data: bytes) -> list[str]:
    """The names of the columns. Raises ValueError for what is not parquet."""
    return list(pq.read_schema(io.BytesIO(data)).names)


def read_parquet_folder(folder: Files, names: Sequence[str], wanted: Sequence[tuple[str, str]]) -> Cells:
    """The wanted columns of all parts together; those that the folders' names hold (`label=good/`) among them.

    names: all files of the folder. Raises ValueError for what is not parquet, or for cells that are no text, with the
    remedy; InputError as `find_columns` does; OSError.
    """
    for mark, kind in _LOGGED.items():
        if any(re.fullmatch(mark, name) for name in names):
            raise ValueError(
                f"it is a table of {kind}, whose files hold deleted rows, too; save it as one parquet file"
            )
    parts = sorted(name for name in names if name.endswith(_SUFFIXES) and not _is_hidden(name))
    if not parts:
        raise ValueError(f"the folder holds no file with one of the endings {', '.join(_SUFFIXES)}")
    read, notes = [], []
    for name in parts:
        try:
            columns, said = _read_part(folder.read(name), _partition(name), wanted)
        except ValueError as error:
            raise type(error)(f"{name}: {error}") from error
        read.append(columns)
        notes += said
    return _joined(read, notes)


def _is_hidden(name: str) -> bool:
    return any(part.startswith((".", "_")) and "=" not in part for part in name.split("/"))


def _partition(name: str) -> dict[str, str | None]:
    """Columns in the names of folders: {"label": "good"} of label=good/part-0.parquet."""
    pairs = [part.partition("=") for part in posixpath.dirname(name).split("/") if "=" in part]
    values = {urllib.parse.unquote(key): urllib.parse.unquote(value) for key, _, value in pairs}
    return {key: None if value == _NO_PARTITION else value for key, value in values.items()}


def _joined(parts: Sequence[Mapping[str, Column]], notes: Sequence[str]) -> Cells:
    columns = {name: [cell for part in parts for cell in part[name]] for name in parts[0]}
    count = len(next(iter(columns.values())))
    return Cells(columns, rows=range(1, count + 1), unit="data row", notes=tuple(dict.fromkeys(notes)))


def _read_part(
    data: bytes, partition: Mapping[str, str | None], wanted: Sequence[tuple[str, str]]
) -> tuple[dict[str, Column], list[str]]:
    _refuse_other(data)
    try:
        file = pq.ParquetFile(io.BytesIO(data))
        schema = file.schema_arrow
        count = file.metadata.num_rows
        beside: dict[str, Column] = {name: [value] * count for name, value in partition.items()}
        beside = {name: column for name, column in beside.items() if name not in schema.names}
        present = [*schema.names, *beside]
        places, notes = find_columns(present, wanted)
        stored = {present[place] for place in places.values() if place < len(schema)}
        for name in stored:
            _check_type(schema.field(name))
        table = file.read(columns=sorted(stored))
        read = {name: _texts(table[name], name) for name in stored} | beside
    except InputError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"{' '.join(str(error).split())}; copy it anew, or write it anew") from error
    return {name: read[present[place]] for name, place in places.items()}, notes


def _refuse_other(data: bytes) -> None:
    if not data.startswith(b"PAR1"):
        kind = other_kind(data) or ("text; write data.source: csv:…" if data else "empty; write it anew")
        raise ValueError(f"it is {kind}")
    if not data.endswith(b"PAR1"):
        raise ValueError("its end is missing; copy it anew, or write it anew")


def _check_type(field: pa.Field) -> None:
    """Raise InputError for a column whose cells are no single values with one usual text."""
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_struct(kind) and "bytes" in [inner.name for inner in kind]:
        raise InputError(
            f"data.source: the column {field.name!r} holds the pictures themselves (as Hugging Face data sets do); "
            "write each to a file and its path into the table"
        )
    if any(is_of(kind) for is_of in _WITHOUT_TEXT) and not isinstance(kind, pa.UuidType):
        raise InputError(
            f"data.source: the column {field.name!r} is of type {kind}, which has no text of its own; write one text, "
            "number or date into each cell"
        )


def _texts(column: pa.ChunkedArray, name: str) -> Column:
    """Raises InputError for cells that have no text."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        return _texts(column.cast(kind.value_type), name)
    if isinstance(kind, pa.UuidType):
        return [None if value is None else str(value) for value in column.to_pylist()]
    try:
        texts = column.cast(pa.string()).to_pylist()
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(
            f"data.source: the cells of column {name!r}, of type {kind}, cannot be taken as text ({error}); write "
            "text, in UTF-8"
        ) from error
    if pa.types.is_floating(kind):
        return [_number(text, value) for text, value in zip(texts, column.to_pylist(), strict=True)]
    shorten = next((short for is_of, short in _SHORTER if is_of(kind)), None)
    return texts if shorten is None else [None if text is None else shorten(text) for text in texts]


def _number(text: str | None, value: float | None) -> str | None:
    if text is None or value is None or math.isnan(value):
        return None
    return str(int(value)) if value.is_integer() and abs(value) < _EXACT else text


def _decimal(text: str) -> str:
    plain = format(decimal.Decimal(text), "f")
    return plain.rstrip("0").rstrip(".") if "." in plain else plain


def _time(text: str) -> str:
    """Without a fraction of zeros: Arrow writes as many digits as the type could hold.

    Raises InputError for a time that no calendar has.
    """
    if text.startswith("<"):
        raise InputError(f"data.source: the table holds a time that is none ({text[1:-1]}); correct it")
    return re.sub(r"(\.\d*?)0+(?!\d)", lambda found: found[1].rstrip("."), text)


_SHORTER: tuple[tuple[Callable[[pa.DataType], bool], Callable[[str], str]], ...] = (
    (pa.types.is_decimal, _decimal),
    (pa.types.is_timestamp, _time),
    (pa.types.is_time, _time),
    (pa.types.is_fixed_size_binary, lambda text: text.rstrip("\0")),  # zeros fill such cells up
)
