"""What a file is by its first bytes, whatever its name says: for the message when it is no table of the kind wanted."""

_SAVE = "open it in the program that wrote it and save it as 'CSV UTF-8'"
_UNPACK = "unpack it first"
_COPY = "fetch the file itself"

_MARKS = (
    (b"PAR1", "a parquet table; write data.source: parquet:…"),
    (b"PARE", "an encrypted parquet table; write it without encryption"),
    (b"PK\x03\x04", f"an Excel workbook (.xlsx), or another ZIP archive; {_SAVE}"),
    (b"\xd0\xcf\x11\xe0", f"an Excel workbook (.xls); {_SAVE}"),
    (b"\x1f\x8b", f"compressed with gzip; {_UNPACK}"),
    (b"BZh", f"compressed with bzip2; {_UNPACK}"),
    (b"\xfd7zXZ", f"compressed with xz; {_UNPACK}"),
    (b"\x28\xb5\x2f\xfd", f"compressed with zstd; {_UNPACK}"),
    (b"7z\xbc\xaf", f"a 7-Zip archive; {_UNPACK}"),
    (b"ARROW1", "an Arrow (Feather) file; save it as parquet"),
    (b"ORC", "an ORC table; save it as parquet"),
    (b"SQLite format 3", "an SQLite database; save the table as CSV"),
    (b"%PDF", "a PDF document; save the table as CSV"),
    (b"{\\rtf", f"a text document (RTF); {_SAVE}"),
    (b"version https://git-lfs", f"a Git LFS pointer and not the table; {_COPY} (git lfs pull)"),
    (b"<", f"a web page or XML, perhaps the answer of a server that wanted a login; {_COPY}, or {_SAVE}"),
    (b"{", "JSON; save the table as CSV"),
    (b"[", "JSON; save the table as CSV"),
)  # fmt: skip


def other_kind(data: bytes) -> str | None:
    """What the file is and what to do about it; None for one that may be text."""
    start = data[:64].removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((text for mark, text in _MARKS if start.startswith(mark)), None)
