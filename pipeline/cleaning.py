"""Which results no configuration needs any more, and their removal.

Removed is only what a run of this very project has made: a folder with its record, or with work that it has begun.
What another project uses, what an earlier version has made without naming a project, what a result that stays was made
from, what a process is working on, and whatever else lies there, stays. Links are never followed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from components.data.pack.reader import PACK_FOLDER
from components.data.pack.store import sweep_store
from components.display import listed
from pipeline.plan import INPUTS_FILE
from pipeline.stage import COMMIT_FILE, COMMIT_NAMES, WORK_FOLDER, StageRecord, read_record
from pipeline.stages import STAGE_NAMES
from pipeline.storage import IMAGES_FOLDER, KEPT_FOLDERS, KEY

#: The stage whose results hold packs.
PACKED_BY = "prepare"
IN_USE = "in use by another process"


@dataclass(frozen=True, kw_only=True)
class Result:
    """A folder of a stage, finished or not. kept: why it stays; empty where it can go. projects: that use it."""

    directory: Path
    projects: tuple[str, ...] = ()
    record: StageRecord | None = None
    inputs: tuple[str, ...] = ()
    """Ids of the results that it was made from."""
    changed: float = 0.0
    """When it was committed or begun, seconds since 1970."""
    kept: str = ""

    @property
    def name(self) -> str:
        return f"{self.directory.parent.name}/{self.directory.name}"


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """What was removed, or would be, and what stays. gone: with their bytes. shards: of packed images, and bytes."""

    gone: list[tuple[Result, int]]
    kept: list[Result]
    shards: tuple[int, int]
    beside: dict[str, int]
    """Bytes of what is kept for every project: generated images, digests of files and the like."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "folders": {str(result.directory): size for result, size in self.gone},
            "kept": {str(result.directory): result.kept for result in self.kept},
            "packed": {"shards": self.shards[0], "bytes": self.shards[1]},
            "kept_beside": self.beside,
        }

    def lines(self, verb: str) -> Iterator[str]:
        for result, size in self.gone:
            state = "" if result.record else ", unfinished"
            days = max(time.time() - result.changed, 0.0) / 86400
            told = f"{', '.join(result.projects)}{state}, {days:.1f} days old, {size / 1e6:.1f} MB"
            yield f"{verb} {result.directory} ({told})"
        shards, size = self.shards
        if shards:
            yield f"{verb} {shards} shards of packed images that no result uses ({size / 1e6:.1f} MB)"
        for reason in dict.fromkeys(result.kept for result in self.kept):
            names = [result.name for result in self.kept if result.kept == reason]
            yield f"kept, {reason}: {listed(names, most=3)}"
        if self.beside:
            told = ", ".join(f"{name} {size / 1e6:.1f} MB" for name, size in self.beside.items())
            yield f"kept for later runs: {told}"


def clean_storage(storage: Path, *, project: str, used: Collection[Path], remove: bool) -> Cleaned:
    """Remove the project's results that are not in `used`, and the packed images that no result needs; or only say so.

    used: directories of the configuration's plan.
    """
    found = find_results(storage, project=project, used=used)
    unused = [(result, _size(result.directory)) for result in found if not result.kept]
    gone = [(result, size) for result, size in unused if not remove or _remove(result)]
    kept = [result for result in found if result.kept]
    kept += [replace(result, kept=IN_USE) for result, size in unused if (result, size) not in gone]
    for result in kept if remove else ():
        _leave_to_others(result, project, used)
    # After the results, whose packs hold on to shards. What is being packed has shards and no pack yet.
    prepared = storage / PACKED_BY
    packs = set(prepared.glob(f"*/{PACK_FOLDER}")) - {result.directory / PACK_FOLDER for result, _ in gone}
    packing = any(_is_locked(lock) for lock in prepared.glob("*.lock"))
    return Cleaned(
        gone=gone,
        kept=kept,
        shards=(0, 0) if packing else sweep_store(storage / IMAGES_FOLDER, packs, remove=remove),
        beside={name: _size(storage / name) for name in KEPT_FOLDERS if _is_folder(storage / name)},
    )


def find_results(storage: Path, *, project: str, used: Collection[Path]) -> list[Result]:
    """Every folder where results are, in order, and whether it stays."""
    places = [storage / stage for stage in STAGE_NAMES]
    folders = [path for place in places if _is_folder(place) for path in sorted(place.iterdir()) if path.is_dir()]
    found = [_judged(_read(folder), project, used) for folder in folders]
    while True:  # what a kept result was made from is kept, and so on
        needed = {name for result in found if result.kept for name in result.inputs}
        spared = [result for result in found if not result.kept and result.record and result.record.result_id in needed]
        if not spared:
            return found
        reason = "what a result that stays was made from"
        found = [replace(result, kept=reason) if result in spared else result for result in found]


def _remove(result: Result) -> bool:
    """Remove what the run has made, unless a process is working on it or has made it anew. Whether it went.

    Files that a person has put beside stay. So does the lock file: another process may be about to take it.
    """
    try:
        with FileLock(f"{result.directory}.lock").acquire(timeout=0):
            if _read(result.directory) != result:
                return False
            if result.record is None:
                shutil.rmtree(result.directory)
            else:
                _remove_files(result.directory, result.record.artifacts)
    except Timeout:
        return False
    return True


def _leave_to_others(result: Result, project: str, used: Collection[Path]) -> None:
    """Take this project off a result that it shares and uses no more: the last one to clean removes it."""
    if result.directory in used or result.record is None or project not in result.projects:
        return
    with contextlib.suppress(Timeout), FileLock(f"{result.directory}.lock").acquire(timeout=0):
        others = [name for name in result.projects if name != project]
        if others and _read(result.directory) == replace(result, kept=""):
            replace(result.record, projects=others).write()


def _is_locked(lock: Path) -> bool:
    """Whether a process is making the result of this lock file."""
    if not lock.exists():
        return False
    with contextlib.suppress(Timeout), FileLock(lock).acquire(timeout=0):
        return False
    return True


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _read(directory: Path) -> Result:
    """What made the folder; `kept` says so where no run did."""
    foreign = Result(directory=directory, kept="no record of a run")
    if directory.is_symlink() or not KEY.fullmatch(directory.name):
        return foreign
    record = read_record(directory)
    if record is not None:
        if record.stage != directory.parent.name or record.fingerprint[:16] != directory.name:
            return foreign
        return Result(
            directory=directory,
            projects=tuple(record.projects),
            record=record,
            inputs=tuple(record.inputs.values()),
            changed=(directory / COMMIT_FILE).stat().st_mtime,
        )
    begun = directory / WORK_FOLDER / INPUTS_FILE
    try:
        told = json.loads(begun.read_text(encoding="utf-8"))
        project, inputs = str(told["project"]), tuple(map(str, told["inputs"].values()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):  # absent, or written by someone else
        return foreign
    if begun.parent.is_symlink() or begun.is_symlink():
        return foreign
    return Result(directory=directory, projects=(project,), inputs=inputs, changed=begun.stat().st_mtime)


def _judged(result: Result, project: str, used: Collection[Path]) -> Result:
    if result.kept:
        return result
    others = [name for name in result.projects if name != project]
    if result.directory in used:
        return replace(result, kept="used by this configuration")
    if others:
        return replace(result, kept=f"used by {', '.join(others)}")
    if not result.projects:
        return replace(result, kept="made by an earlier version, which named no project")
    return replace(result, kept=IN_USE) if _is_locked(Path(f"{result.directory}.lock")) else result


def _remove_files(directory: Path, names: Collection[str]) -> None:
    (directory / COMMIT_FILE).unlink()  # first: half of a result must not look like a whole one
    for path in _files(directory):
        name = path.relative_to(directory).as_posix()
        if name in names or name.startswith((f"{WORK_FOLDER}/", *COMMIT_NAMES)):
            path.unlink()
    for folder, _, _ in os.walk(directory, topdown=False):
        with contextlib.suppress(OSError):  # something of a person's is left in it
            Path(folder).rmdir()


def _files(folder: Path) -> list[Path]:
    """Every file below it, and every link, which is not followed."""
    return [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]


def _size(folder: Path) -> int:
    """Bytes; a link counts for itself."""
    return sum(path.lstat().st_size for path in _files(folder))
