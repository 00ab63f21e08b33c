"""Files behind an address, by the drivers of fsspec; whatever a driver raises arrives as an OSError.

A connection belongs to one thread, as most drivers are not safe to share: FTP would mix up its answers, a tar file its
positions. A chain with a cache in it (`zip://::simplecache::s3://…`) is one for all threads, which take turns, because
each would fetch and keep a copy of its own.
"""

import contextlib
import ftplib
import os
import posixpath
import re
import threading
import urllib.parse
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from errno import EACCES, EIO, ENOENT
from typing import Any

import fsspec.core
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.ftp import FTPFileSystem

from components.errors import redact

_REQUESTS = 16  # at once, where each file has to be asked for
# Asking again helps against none of these; against a connection that was idle for too long, it does.
_FINAL = (FileNotFoundError, PermissionError, zipfile.BadZipFile, zlib.error, RuntimeError, ImportError, ValueError)


def check_folder(uri: str) -> None:
    """Raise OSError unless there is a folder; FileNotFoundError where there is none."""
    with _as_os_errors(uri):
        remote = _connect(uri, anew=True)
        with remote.lock:
            if remote.root.strip("/") and not is_web(uri) and not remote.system.isdir(remote.root):
                remote.system.info(remote.root)  # isdir says no whatever went wrong; this says what
                raise FileNotFoundError(ENOENT, "it is a file")


def read_file(uri: str, path: str) -> bytes:
    """The bytes of the file at `path` below `uri`. Raises OSError."""
    with _as_os_errors(uri):
        try:
            return _connect(uri, anew=False).read(path)
        except Exception as error:
            # The FTP driver calls everything "not found", a server that has hung up among it.
            if isinstance(error, _FINAL) and not isinstance(error.__cause__, ftplib.error_temp):
                raise
        return _connect(uri, anew=True).read(path)


def walk_files(uri: str) -> list[tuple[str, dict[str, Any]]]:
    """(path, what the driver tells of it) of each file below `uri`, at any depth, sorted. Raises OSError.

    Asked of the server each time, whatever was remembered. A link on the server is an OSError, as where it leads
    cannot be told from here.
    """
    with _as_os_errors(uri):
        remote = _connect(uri, anew=True)
        with remote.lock:
            remote.system.invalidate_cache()
            found = _find(remote.system, remote.root)
        links = [name for name, info in found.items() if info.get("type") == "link"]
        if links:
            raise OSError(EIO, f"{links[0]} is a link; put the file itself in its place")
    files = [(remote.path_of(name), info) for name, info in found.items() if info.get("type") != "directory"]
    return sorted(files, key=lambda file: file[0])


def file_details(uri: str, paths: Sequence[str]) -> list[dict[str, Any] | None]:
    """What the driver tells of each file, in order; None where there is none. Raises OSError."""
    if not is_web(uri):
        there = dict(walk_files(uri))
        return [there.get(path) for path in paths]
    # Its index, if there is any, tells neither size nor time.
    with ThreadPoolExecutor(max_workers=_REQUESTS) as pool:
        return list(pool.map(lambda path: _web_details(uri, path), paths))


def is_web(uri: str) -> bool:
    """Whether it is a web server, which hands out files and need not list them."""
    return re.match(r"([a-z]+cache::)*https?://", uri) is not None


@dataclass(frozen=True)
class _Remote:
    """A driver and where it starts. root: as the driver writes it. quoted: whether its names are those of a web
    address, with %20. lock: held while the driver is asked."""

    system: AbstractFileSystem
    root: str
    quoted: bool
    lock: AbstractContextManager[Any]

    def read(self, path: str) -> bytes:
        with self.lock:
            return bytes(self.system.cat_file(self.name_of(path)))

    def name_of(self, path: str) -> str:
        return self._prefix + (urllib.parse.quote(path) if self.quoted else path)

    def path_of(self, name: str) -> str:
        path = name.removeprefix(self._prefix)
        return urllib.parse.unquote(path) if self.quoted else path

    @property
    def _prefix(self) -> str:
        return self.root if not self.root or self.root.endswith("/") else f"{self.root}/"


_own = threading.local()
_shared: dict[tuple[int, str], _Remote] = {}
_sharing = threading.Lock()


def _connect(uri: str, *, anew: bool) -> _Remote:
    """This thread's connection, or everybody's where one caches. anew: not one that may be broken or out of date."""
    key = (os.getpid(), uri)  # a forked process must not speak on its parent's connection
    if "cache::" in uri:
        with _sharing:
            if key not in _shared:
                _shared[key] = _open(uri, threading.Lock())
            return _shared[key]
    mine: dict[tuple[int, str], _Remote]
    mine = _own.connections = getattr(_own, "connections", {})
    if anew or key not in mine:
        mine[key] = _open(uri, contextlib.nullcontext())
    return mine[key]


def _open(uri: str, lock: AbstractContextManager[Any]) -> _Remote:
    system, root = fsspec.core.url_to_fs(uri)
    root = str(root)
    return _Remote(system=system, root=root.rstrip("/") or system.root_marker, quoted=is_web(uri), lock=lock)


def _find(system: AbstractFileSystem, root: str) -> dict[str, dict[str, Any]]:
    """Names and details of everything below. A folder that cannot be listed is an error, and not an empty one."""
    driver = getattr(system, "fs", system)  # of a cache, what it caches
    is_stepwise = type(driver).find is AbstractFileSystem.find or (
        isinstance(driver, AsyncFileSystem) and type(driver)._find is AsyncFileSystem._find
    )
    if not is_stepwise:  # archives and object stores list all at once
        return dict(system.find(root, detail=True))
    # Folder by folder, as fsspec's own find passes over those below the first that cannot be listed.
    found: dict[str, dict[str, Any]] = {}
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        for info in system.ls(folder, detail=True):
            name = str(info["name"]).rstrip("/")
            if name != folder and name not in found:
                found[name] = info
                if info.get("type") == "directory" and posixpath.basename(name) not in (".", ".."):
                    waiting.append(name)
        # The FTP driver takes a folder that it may not list for an empty one, but does not remember it.
        if isinstance(driver, FTPFileSystem) and f"/{folder.strip('/')}" not in driver.dircache:
            raise PermissionError(EACCES, f"{folder} cannot be listed")
    return found


def _web_details(uri: str, path: str) -> dict[str, Any] | None:
    with _as_os_errors(uri):
        remote = _connect(uri, anew=False)
        with remote.lock:
            try:
                return dict(remote.system.info(remote.name_of(path)))
            except Exception as error:
                # Its driver calls everything "not found", a server that does not answer among it.
                status = getattr(error.__cause__ or error, "status", 0 if error.__cause__ else 404)
                if isinstance(error, FileNotFoundError) and 400 <= status < 500:
                    return None
                raise


@contextlib.contextmanager
def _as_os_errors(uri: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001  drivers raise what they like: botocore's, aiohttp's, zipfile's errors
        told = f"{error} {error.__cause__} {error.__context__}"
        # The error itself, for the traceback, unless that would show a secret.
        raise _failure(error, uri) from error if _without_secrets(told, uri) == told else None


def _failure(error: Exception, uri: str) -> OSError:
    """The same as an OSError that says what it was, and no secret."""
    text = _without_secrets(error.strerror if isinstance(error, OSError) and error.strerror else str(error), uri)
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(ENOENT, f"no such file or folder ({text})")
    number = error.errno if isinstance(error, OSError) and error.errno else EIO
    return OSError(number, text if isinstance(error, OSError) and text else f"{type(error).__name__}: {text}")


def _without_secrets(text: str, uri: str) -> str:
    users = re.findall(r"://([^/\s]*)@", uri)
    queries = re.findall(r"https?://[^\s?]*\?(\S+)", uri)
    secrets = [part for user in users for part in (user, user.partition(":")[2]) if part] + queries
    for secret in sorted({*secrets, *map(urllib.parse.unquote, secrets)}, key=len, reverse=True):
        text = text.replace(secret, "…")
    return redact(text)
