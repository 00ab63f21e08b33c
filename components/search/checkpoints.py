"""Where the checkpoints of trials lie, and how few of them are kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.fs

from components.search.state import SearchState
from components.search.trial import TrialRecord, best_trial


def remote_path(checkpoint: Any, storage: str) -> str:  # noqa: ANN401 - Tune's Checkpoint
    """The folder or URI by which any worker finds a checkpoint.

    Tune knows the path within a file system alone; where `storage` is a URI, the path is put back into it.
    """
    if "://" not in storage:
        return str(checkpoint.path)
    _, root = pyarrow.fs.FileSystem.from_uri(storage)
    return below(storage, str(checkpoint.path).removeprefix(root.rstrip("/")).lstrip("/"))


def below(storage: str, path: str) -> str:
    """A path below a folder or URI; what a URI asks for (`?endpoint_override=…`) stays at its end."""
    location, mark, query = storage.partition("?") if "://" in storage else (storage, "", "")
    return f"{location.rstrip('/')}/{path}{mark}{query}"


def open_location(path: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """The file system and the path in it of a folder or URI."""
    if "://" in path:
        system, folder = pyarrow.fs.FileSystem.from_uri(path)
        return system, str(folder)
    return pyarrow.fs.LocalFileSystem(), str(Path(path).absolute())


def size_of_trial(checkpoint: str) -> int:
    """Bytes of all files of the trial that a checkpoint is of, an earlier one among them; 0 where they are gone."""
    system, folder = _trial_folder(checkpoint)
    found = system.get_file_info(pyarrow.fs.FileSelector(folder, recursive=True, allow_not_found=True))
    return sum(entry.size or 0 for entry in found if entry.is_file)


def remove_trial(checkpoint: str) -> None:
    """Remove all files of the trial that a checkpoint is of; what is gone already is no fault."""
    system, folder = _trial_folder(checkpoint)
    if system.get_file_info(folder).type == pyarrow.fs.FileType.Directory:
        system.delete_dir(folder)


def fetch(path: str, names: tuple[str, ...], target: Path) -> list[Path]:
    """Copy the named files of a checkpoint to a folder; those that it does not have are left out."""
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


def remove_all(storage: str) -> None:
    """Remove a folder or URI with all that is below it, where there is one."""
    system, folder = open_location(storage)
    if system.get_file_info(folder).type == pyarrow.fs.FileType.Directory:
        system.delete_dir(folder)


class Quota:
    """Keeps the checkpoints of ended trials below a size; those of the lowest scores go first.

    The best trial's (`best` says which it is) and the defaults' stay, whatever they take: the search's result is drawn
    from them.
    """

    def __init__(
        self, state: SearchState, most_bytes: float, *, best: Callable[[Sequence[TrialRecord]], int | None] = best_trial
    ) -> None:
        self._state, self._most, self._best = state, most_bytes, best
        self._sizes: dict[str, int] = {}

    def enforce(self) -> None:
        """Remove what is too much."""
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
            self._sizes[path] = size_of_trial(path)
        return self._sizes[path]
