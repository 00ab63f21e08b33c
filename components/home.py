"""The environment that libraries find: a home for their own files, or in its place a folder of temporary files.

Containers and batch systems run programs under a number without a name and a home. What is read from an existing home
(credentials, caches) still is.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from components.errors import InputError

#: The longest path that a Unix socket may have.
SOCKET_BYTES = 107
#: What Ray puts behind its folder for its longest socket.
SOCKET_NAME = "/session_2000-01-01_00-00-00_000000_{pid}/sockets/plasma_store"


def settle_home() -> str:
    """Point the environment at folders that can be written; what was done, in words, empty where all is well.

    For this process and those that it starts; to be called before libraries are imported.
    Raises InputError: no home, and temporary files cannot be written either.
    """
    try:
        home = Path.home()
    except RuntimeError:  # neither the variable nor an entry of the user
        home = None
    if home is not None and os.access(home, os.W_OK | os.X_OK):
        return ""
    named = f"HOME={'(not set)' if home is None else home}"
    try:
        folder = own_folder("escapement-home")
    except OSError as error:
        raise InputError(
            f"{named}: cannot be written, and neither can temporary files ({error.strerror}); set HOME and TMPDIR to "
            "folders that you may write"
        ) from error
    if home is None or not home.is_dir():
        os.environ["HOME"] = str(folder)
    os.environ.setdefault("MPLCONFIGDIR", str(folder / "matplotlib"))
    return f"{named} cannot be written: libraries keep their files in {folder}"


def own_folder(name: str, *, below: str | None = None) -> Path:
    """A folder of temporary files that is the user's alone; made where it is not there.

    below: None for the usual place of temporary files. Raises OSError where it cannot be written.
    """
    folder = Path(below or tempfile.gettempdir()) / f"{name}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if folder.is_symlink() or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(errno.EACCES, "it is no folder of this user alone", str(folder))
    check_writable(folder)
    return folder


def ray_folder() -> tuple[Path, str]:
    """Where a local Ray keeps its files, and why not in the folder that Ray itself would take; empty where it does.

    That is left for one below /tmp where it cannot be written, or its path is too long for sockets.

    Raises `InputError` where neither will do.
    """
    own = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray")
    fault = _folder_fault(own)
    if fault is None:
        return own, ""
    for below in (None, "/tmp"):
        with contextlib.suppress(OSError):
            place = own_folder("ray", below=below)
            if _folder_fault(place) is None:
                return place, f"Ray's files lie in {place}, since {own} {fault}"
    raise InputError(
        f"RAY_TMPDIR={os.environ.get('RAY_TMPDIR', '(not set)')}: Ray cannot start, since {own} {fault}, and /tmp "
        "cannot be used either; set it to a folder with a short path that you may write"
    )


def _folder_fault(folder: Path) -> str | None:
    """Why Ray cannot keep its sockets and files there; None where it can. Makes the folder."""
    longest = len(os.fsencode(str(folder) + SOCKET_NAME.format(pid=os.getpid())))
    if longest > SOCKET_BYTES:
        return f"is {longest - SOCKET_BYTES} characters too long for its sockets"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder)
    except OSError as error:
        return f"cannot be written ({error.strerror})"
    return None


def check_writable(folder: Path) -> None:
    """Raise OSError where nothing can be written; leaves nothing behind."""
    with tempfile.TemporaryDirectory(dir=folder):
        pass


def check_temporary_files() -> str:
    """Where temporary files go. Raises `InputError` where sockets do not fit there, or nothing can be written."""
    try:
        folder = tempfile.gettempdir()
    except OSError as error:
        raise InputError(
            "TMPDIR: there is no folder that temporary files can be written to; set it to one that you may write"
        ) from error
    longest = len(os.fsencode(folder)) + len("/pymp-01234567/listener-01234567")
    if longest > SOCKET_BYTES:
        raise InputError(
            f"TMPDIR={folder}: {longest - SOCKET_BYTES} characters too long for the sockets of worker processes; set "
            "it to a folder with a shorter path"
        )
    return folder


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Set variables for the length of a block: how MLflow and Tune take settings that no call takes."""
    before = {key: os.environ.get(key) for key in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
