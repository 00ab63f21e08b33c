"""The checkpoints of trials in a folder or an object store, and the quota for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs

from components.search.state import SearchState
from components.search.trial import TrialRecord, best_trial


def remote_path(checkpoint: Any, storage: str) -> str:  # noqa: ANN401 - Tune's Checkpoint
    """The folder or URI of a checkpoint. Tune only gives its path within the file system of `storage`."""
    if "://" not in storage:
        return str(checkpoint.path)
    _, root = pyarrow.fs.FileSystem.from_uri(storage)
    return join_location(storage, str(checkpoint.path).removeprefix(root.rstrip("/")).lstrip("/"))


def join_location(storage: str, path: str) -> str:
    """A path below a folder or URI; the query of a URI (`?endpoint_override=…`) stays at its end."""
    location, mark, query = storage.partition("?") if "://" in storage else (storage, "", "")
    return f"{location.rstrip('/')}/{path}{mark}{query}"


def open_location(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system and the path in it of a folder or URI."""
    if "://" in path:
        system, folder = pyarrow.fs.FileSystem.from_uri(path)
        return system, str(folder)
    return pyarrow.fs.LocalFileSystem(), str(Path(path).absolute())


def trial_bytes(checkpoint: str) -> int:
    """Bytes of all files of the checkpoint's trial, earlier checkpoints included; 0 where they do not exist."""
    system, folder = _trial_folder(checkpoint)
    found = system.get_file_info(pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return sum(entry.size or 0 for entry in found if entry.is_file)


def remove_trial(checkpoint: str) -> None:
    """Remove all files of the checkpoint's trial, if they exist."""
    _remove_folder(*_trial_folder(checkpoint))


def remove_location(storage: str) -> None:
    """Remove a folder or URI with its content, if it exists."""
    _remove_folder(*open_location(storage))


def fetch(path: str, names: tuple[str, ...], target: Path) -> list[Path]:
    """Copy the named files of a checkpoint to a folder, those that exist."""
    system, folder = open_location(path)
    copied = []
    for name in names:
        if system.get_file_info(f"{folder}/{name}").is_file:
            destination = target / name
            with system.open_input_stream(f"{folder}/{name}") as source:
                destination.write_bytes(source.read())
            copied.append(destination)
    return copied


def _trial_folder(checkpoint: str) -> tuple[pyarrow.fs.FileSystem, str]:
    system, folder = open_location(checkpoint)
    return system, folder.rstrip("/").rpartition("/")[0]


def _remove_folder(system: pyarrow.fs.FileSystem, folder: str) -> None:
    if system.get_file_info(folder).type == pyarrow.fs.FileType.Directory:
        system.delete_dir(folder)


class Quota:
    """Keeps the checkpoints of ended trials below a size; it removes those of the lowest scores first.

    It never removes those of the best trial (as `best` determines it) and of the defaults: the result needs them.
    """

    def __init__(
        self, state: SearchState, most_bytes: float, *, best: Callable[[Sequence[TrialRecord]], int | None] = best_trial
    ) -> None:
        self._state, self._most, self._best = state, most_bytes, best
        self._sizes: dict[str, int] = {}

    def enforce(self) -> None:
        """Remove checkpoints until the rest is within the quota."""
        stored = [record for record in self._state.records if record.ended and record.checkpoint]
        stored.sort(key=lambda record: -1.0 if record.score is None else record.score)
        total = sum(self._size(str(record.checkpoint)) for record in stored)
        if total <= self._most:
            return
        kept = {0, self._best(self._state.records)}
        for record in stored:
            if total <= self._most:
                return
            if record.number in kept:
                continue
            path = str(record.checkpoint)
            total -= self._size(path)
            remove_trial(path)
            del self._sizes[path]
            self._state.pruned(record.number)

    def _size(self, path: str) -> int:
        if path not in self._sizes:
            self._sizes[path] = trial_bytes(path)
        return self._sizes[path]
