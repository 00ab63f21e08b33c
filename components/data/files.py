"""A folder of files, on this machine or behind any address that fsspec knows (s3://, ftp://, zip://, …).

Credentials come from where the address's driver looks for them (environment, profile). An address may hold them, too:
messages show it without.
"""

import calendar
import contextlib
import datetime
import email.utils
import os
import re
import stat
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from errno import EINVAL, ENOENT
from pathlib import Path
from typing import Any

from components.data.lookup import local_place, windows_hint
from components.data.remote import check_folder, file_details, is_web, read_file, walk_files
from components.errors import InputError, redact


@dataclass(frozen=True)
class Stamp:
    """What tells, without reading it, whether a file is still the one that it was.

    size: bytes. mark: changes whenever the content does (time of change and file number; an object's tag), empty
    where the place tells nothing of the kind. modified: seconds since 1970, NaN where unknown.
    """

    size: int
    mark: str
    modified: float


@dataclass(frozen=True)
class Files:
    """The files below one root. uri: an absolute local path, or an address with a scheme. Cheap to pickle."""

    uri: str = field(repr=False)

    @property
    def name(self) -> str:
        """The root for people to read: without user, password or signature."""
        return redact(self.uri)

    @property
    def is_local(self) -> bool:
        return "://" not in self.uri

    @property
    def is_listable(self) -> bool:
        """Whether the place can be asked for what it holds; a web server is asked for single files."""
        return not is_web(self.uri)

    def local(self, path: str) -> Path:
        """Where the file lies on this machine. Raises ValueError for a root elsewhere."""
        if not self.is_local:
            raise ValueError(f"{self.name} is not on this machine")
        return Path(self.uri, path)

    def read(self, path: str) -> bytes:
        """The file's bytes. Raises OSError: gone, not allowed, no regular file (a pipe would never end)."""
        if not self.is_local:
            return read_file(self.uri, path)
        try:
            with open(os.path.join(self.uri, path), "rb", opener=_open_without_waiting) as stream:  # noqa: PTH118
                if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                    raise OSError(EINVAL, "not a file")
                return stream.read()
        except ValueError as error:  # a name with a NUL, or one that no encoding has
            raise OSError(ENOENT, f"cannot be the path of a file: {error}") from error

    def stamps(self, paths: Sequence[str]) -> list[Stamp | None]:
        """One for each path, in order; None where there is no regular file.

        Raises InputError: a server that cannot be reached or will not list.
        """
        if self.is_local:
            return [_local_stamp(self.uri, path) for path in paths]
        try:
            details = file_details(self.uri, paths)
        except OSError as error:
            raise self._unlistable(error, "data.source") from error
        return [None if info is None else _remote_stamp(info) for info in details]

    def walk(self) -> Iterator[tuple[str, Stamp]]:
        """Every file below a remote root, with its path relative to it, sorted. Raises OSError; ValueError for a local
        root, whose links have to be looked at (`sources/tree.py`)."""
        if self.is_local:
            raise ValueError(f"{self.name} is on this machine")
        for path, info in walk_files(self.uri):
            yield path, _remote_stamp(info)

    def paths(self, *, key: str) -> list[str]:
        """Of `walk`, the paths. key: what named the root, for errors. Raises InputError where it cannot be listed."""
        try:
            return [path for path, _ in self.walk()]
        except OSError as error:
            raise self._unlistable(error, key) from error

    def _unlistable(self, error: OSError, key: str) -> InputError:
        return InputError(
            f"{key}: {self.name} cannot be listed ({error.strerror}); allow it to be read, and check that the server "
            "can be reached"
        )


def open_files(address: str, *, key: str, kind: str = "") -> Files:
    """The files below a local folder or an address. key: the configuration's key, kind: what stands before the address
    in its value; both for errors.

    Raises InputError: no such folder, an unknown scheme or one whose driver is not installed, no access.
    """
    address = _plain(address)
    setting = f"{key}={kind + redact(address)!r}"
    if "://" not in address:
        folder = Path(os.path.expanduser(address))  # noqa: PTH111  of ~nobody Path makes an error
        if not folder.is_dir():
            hint = windows_hint(address)
            raise InputError(f"{setting} is not a folder{hint}; give the one that the images lie in")
        return Files(str(folder.resolve()))
    uri = _absolute(address)
    try:
        uri = _folder_there(uri)
    except FileNotFoundError as error:
        raise InputError(f"{setting} holds no such folder; give the one that the images lie in") from error
    except OSError as error:
        raise InputError(
            f"{setting} cannot be opened ({error.strerror}); check the address, that its driver is installed, and "
            "the credentials that the driver reads from the environment"
        ) from error
    return Files(uri)


def split_address(address: str) -> tuple[str, str]:
    """The folder of a file, as `open_files` takes it, and the file's name. The name is empty where there is none."""
    address = _plain(address)
    if "://" not in address:
        folder, name = os.path.split(address)
        return folder or ".", name
    links = address.split("::")
    first = next(number for number, link in enumerate(links) if "://" in link)  # simplecache:: has no path of its own
    scheme, _, path = links[first].partition("://")
    folder, _, name = path.rpartition("/")
    return "::".join([*links[:first], f"{scheme}://{folder}", *links[first + 1 :]]), name


def _plain(address: str) -> str:
    """file:///x is /x; a path of this machine as its disk writes it."""
    address = re.sub(r"^(file|local)://", "", address) if "::" not in address else address
    return address if "://" in address else local_place(address)


def _folder_there(uri: str) -> str:
    """The address with its names composed or decomposed, as the place holds the folder. Raises OSError: it does not."""
    *others, last = dict.fromkeys((uri, unicodedata.normalize("NFC", uri), unicodedata.normalize("NFD", uri)))
    for form in others:
        with contextlib.suppress(FileNotFoundError):
            check_folder(form)
            return form
    check_folder(last)
    return last


def _absolute(address: str) -> str:
    """One form for each place; an archive on this machine by its full path, wherever the address is used."""
    head, chained, last = address.rstrip("/").rpartition("::")
    if chained and last and "://" not in last:
        last = str(Path(os.path.expanduser(local_place(last))).resolve())  # noqa: PTH111
    whole = f"{head}{chained}{last}"
    return f"{whole}//" if whole.endswith(":") and not chained else whole  # memory://, whose slashes were the root


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer would block even the opening


def _local_stamp(root: str, path: str) -> Stamp | None:
    try:
        status = os.stat(os.path.join(root, path))  # noqa: PTH116, PTH118  a million times: Path costs more than stat
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    # The time of change cannot be set back, as the time of modification can by whoever copies a file over another.
    mark = f"{status.st_mtime_ns:x}.{status.st_ctime_ns:x}.{status.st_ino:x}"
    return Stamp(size=status.st_size, mark=mark, modified=status.st_mtime)


# As the drivers call them; the times among them are the mark of those that have no tag.
_TIMES = (
    "LastModified", "last_modified", "Last-Modified", "updated", "mtime", "modify", "modificationTime",
    "last_write_time", "date_time", "created",
)  # fmt: skip
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "CRC", "checksum", "sha", *_TIMES)


def _remote_stamp(info: dict[str, Any]) -> Stamp:
    mark = ".".join(f"{name}={info[name]}" for name in _TAGS if info.get(name))
    times = (_seconds(info[name]) for name in _TIMES if info.get(name))
    modified = next((time for time in times if time is not None), float("nan"))
    return Stamp(size=int(info.get("size") or 0), mark=mark, modified=modified)


def _seconds(time: object) -> float | None:
    """Seconds since 1970 of a time as drivers give it; one without a zone counts as UTC."""
    if isinstance(time, int | float):
        return float(time)
    try:
        if isinstance(time, tuple):  # zip: year, month, day, hour, minute, second
            time = datetime.datetime(*time)
        elif isinstance(time, str) and re.fullmatch(r"\d{14}(\.\d+)?", time):  # ftp
            time = datetime.datetime.strptime(time[:14], "%Y%m%d%H%M%S")
        elif isinstance(time, str):  # http
            time = email.utils.parsedate_to_datetime(time)
    except (ValueError, TypeError):
        return None
    if not isinstance(time, datetime.datetime):
        return None
    return time.timestamp() if time.tzinfo else float(calendar.timegm(time.timetuple()))
