"""Where a store keeps its artifacts: MLflow notes absolute paths, which a moved or copied folder leaves behind.

A path whose run lies in the same place beside the store was carried along; `relocate` then has the store name that.
MLflow itself has no call for it: the columns of its tables are rewritten, in one transaction.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import sqlite3
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import sqlalchemy

from components.errors import InputError, redact
from components.tracking_store import first_contact, sqlite_file

#: Table → its columns that name a place, and the column that names the row.
PLACES = {
    "experiments": (("artifact_location",), "experiment_id"),
    "runs": (("artifact_uri",), "run_uuid"),
    "logged_models": (("artifact_location",), "model_id"),
    "model_versions": (("source", "storage_location"), "rowid"),
}
#: Of an artifact's path at least this much has to be the same: a run's or a model's id, and `artifacts`.
FEWEST_PARTS = 2


def local_folder(uri: str) -> Path | None:
    """The folder that an artifact URI names on this machine; None where it names another place."""
    if uri.startswith("file:"):
        return Path(unquote(urlsplit(uri).path))
    return Path(uri) if uri.startswith("/") else None  # a plain path, in which # and ? are letters


def misplaced(uri: str, location: str, artifacts: Callable[[], list[str]], *, writes: bool) -> str | None:
    """What is wrong with the place to which an experiment's artifacts go, and the remedy; None where it is right.

    location: of the experiment. artifacts: places of some of its runs. writes: whether it has to be writable, too.
    """
    folder, file = local_folder(location), sqlite_file(uri)
    if folder is None:
        return None
    command = f"escapement relocate --tracking-uri {shlex.quote(uri)}"
    if file is not None and folder.parent != file.parent / "mlruns":
        places = [place for entry in artifacts() if (place := local_folder(entry)) is not None]
        move = _move(file, places)
        if move is not None:
            return (
                f"the store was moved or copied: it keeps its artifacts in {move[0]}, and they lie in {move[1]}; "
                f"`{command}` has it use these"
            )
        other = _original(file, folder, places)
        if other is not None:
            return (
                f"the store is a copy of {other}, in whose folder it keeps its artifacts too; "
                f"`{command}` has it use {file.parent / 'mlruns'}"
            )
        if not folder.parent.parent.exists():
            return (
                f"the store was moved or copied: it keeps its artifacts in {folder.parent}, which is gone; put them "
                f"into {file.parent / 'mlruns'}, and then (or where they are lost) "
                f"`{command}` has it use that"
            )
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not writes or (nearest.is_dir() and os.access(nearest, os.W_OK)):
        return None
    return f"its artifacts go to {folder}, where you may not write; make that writable, or give another experiment"


def relocate(uri: str) -> list[tuple[Path, Path]]:
    """Have a SQLite store name the places where its artifacts lie now; (old, new) folders.

    A run whose artifacts are only in the old place goes on to name that. Raises `InputError` where there is no such
    store.
    """
    file = sqlite_file(uri)
    if file is None or not file.is_file():
        raise InputError(f"tracking.uri={redact(uri)}: no SQLite file; only such a store can be relocated")
    engine = sqlalchemy.create_engine(uri)
    with first_contact(uri), contextlib.closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        cursor.execute("SELECT name FROM sqlite_master")
        if not PLACES.keys() <= {name for (name,) in cursor.fetchall()}:
            raise InputError(f"tracking.uri={redact(uri)}: no store of this release of MLflow; give another file")
        cursor.execute("SELECT artifact_location FROM experiments")
        homes = _folders(cursor.fetchall())
        cursor.execute("SELECT artifact_uri FROM runs UNION SELECT artifact_location FROM logged_models")
        left = dict(_moves(file, homes, _folders(cursor.fetchall())))
        moves = dict(left.values())
        for table, (columns, key) in PLACES.items():
            for column in columns:
                cursor.execute(f"SELECT {key}, {column} FROM {table}")  # noqa: S608 - names of PLACES
                changes = [
                    (place, row) for row, entry in cursor.fetchall() if (place := _new_place(entry, moves, left))
                ]
                cursor.executemany(f"UPDATE {table} SET {column} = ? WHERE {key} = ?", changes)  # noqa: S608
        connection.commit()
    engine.dispose()
    return sorted(moves.items())


def _folders(rows: Sequence[Sequence[str | None]]) -> list[Path]:
    return [folder for (entry,) in rows if entry and (folder := local_folder(entry)) is not None]


def _moves(file: Path, homes: Sequence[Path], artifacts: Sequence[Path]) -> Iterable[tuple[Path, tuple[Path, Path]]]:
    """Each experiment's folder that was left behind, and from where to where it was carried."""
    for home in homes:
        if home.parent == file.parent / "mlruns":
            continue
        below = [place for place in artifacts if place.is_relative_to(home)]
        move = _move(file, below)
        if move is not None:
            yield home, move
        elif home.parent.name == "mlruns" and (
            _original(file, home, below) is not None or not home.parent.parent.exists()
        ):
            yield home, (home.parent.parent, file.parent)


def _move(file: Path, artifacts: Sequence[Path]) -> tuple[Path, Path] | None:
    """From where to where the first of the artifacts that lies elsewhere was carried."""
    bases = dict.fromkeys((file.parent, file.parent.parent, Path.cwd()))
    for place in artifacts:
        for start in range(1, len(place.parts) - FEWEST_PARTS):
            tail = Path(*place.parts[start:])
            for base in bases:
                now = base / tail
                if now.is_dir() and not (place.is_dir() and now.samefile(place)):
                    return Path(*place.parts[:start]), base
    return None


def _original(file: Path, home: Path, artifacts: Sequence[Path]) -> Path | None:
    """The store that has stayed where the artifacts are, with some run of this one's, its copy."""
    other = home.parent.parent / file.name
    if not other.is_file() or other.samefile(file):
        return None
    try:
        with contextlib.closing(sqlite3.connect(f"{other.as_uri()}?mode=ro", uri=True)) as store:
            theirs = {entry for (entry,) in store.execute("SELECT artifact_uri FROM runs")}
    except sqlite3.DatabaseError:  # no store of MLflow
        return None
    return other if theirs & {*map(str, artifacts), *(place.as_uri() for place in artifacts)} else None


def _new_place(entry: str | None, moves: Mapping[Path, Path], left: Collection[Path]) -> str | None:
    """What a column has to say now; None where it is right as it is. left: folders that nothing may go to any more."""
    folder = local_folder(entry) if entry else None
    for old, new in moves.items():
        if folder is not None and folder.is_relative_to(old):
            now = new / folder.relative_to(old)
            if now.is_dir() or not folder.is_dir() or folder in left:
                return now.as_uri() if str(entry).startswith("file:") else str(now)
    return None
