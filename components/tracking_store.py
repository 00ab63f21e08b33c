"""Opening a tracking store: which one is meant, whether it can be used, and what to do where it cannot.

A new SQLite store is made beside its place and then linked into it: of several processes that make one at once, all
but one would die (`duplicate column name`), and one that is killed meanwhile would leave half a store.
"""

from __future__ import annotations

import contextlib
import logging
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import mlflow
import sqlalchemy
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.db.db_types import DATABASE_ENGINES

from components.errors import InputError, redact
from components.home import environment
from components.interrupts import with_whole_calls

#: How long another process may hold the lock of a SQLite file.
LOCK_SECONDS = 15
#: The first contact with a server fails within seconds; later calls keep MLflow's patience of minutes.
_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "15"}
NO_SERVER = "what answers there is no MLflow server: look the address up in a browser"


def resolve_uri(uri: str | None) -> str:
    """The URI that is meant: None is MLFLOW_TRACKING_URI, or a SQLite file in the working directory."""
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{quote(str(Path.cwd() / 'mlflow.db'))}"


def sqlite_file(uri: str) -> Path | None:
    """The file of a SQLite store; None for any other store."""
    if not uri.startswith("sqlite:"):
        return None
    database = sqlalchemy.make_url(uri).database or ""
    return None if database in ("", ":memory:") or database.startswith("file:") else Path(database).absolute()


def open_store(uri: str, *, writes: bool = True) -> MlflowClient:
    """A client for the store, which is made where it is a SQLite file that is not there yet.

    writes: False where the store is only read, which may then be one that cannot be written.
    A write to a database is never interrupted: what was torn would keep it locked.
    """
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # standard output is for results
    for noisy in ("mlflow", "alembic", "mlflow.store.db.utils", "mlflow.tracking._tracking_service.utils"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    file = sqlite_file(uri)
    if file is not None and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        _make_sqlite(uri, file)
    engine = uri.partition(":")[0].partition("+")[0]
    if engine == "sqlite":
        _check_sqlite(uri, writes=writes)
    client = MlflowClient(uri)
    return with_whole_calls(client) if engine in DATABASE_ENGINES else client


@contextlib.contextmanager
def first_contact(uri: str) -> Iterator[None]:
    """Whatever the store answers badly in the block is an `InputError` with its remedy, within seconds."""
    try:
        with environment(_IMPATIENT):
            yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"tracking.uri={redact(uri)}: the tracking store cannot be used "
            f"({first_line(error).replace(uri, redact(uri))}); {_remedy(error)}"
        ) from error


def first_line(error: Exception) -> str:
    """The kind of an error and the first line of what it says, at most 300 characters."""
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"[:300]


def _make_sqlite(uri: str, file: Path) -> None:
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    url = sqlalchemy.make_url(uri).set(database=str(draft)).render_as_string(hide_password=False)
    try:
        draft.touch()  # where that fails, MLflow would try for minutes
        SqlAlchemyStore(url, DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH).engine.dispose()
        _put_in_place(draft, file)
    finally:
        draft.unlink(missing_ok=True)


def _put_in_place(draft: Path, file: Path) -> None:
    """The first one stays."""
    try:
        os.link(draft, file)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not file.exists():
            draft.rename(file)


def _check_sqlite(uri: str, *, writes: bool) -> None:
    """Write to a SQLite file, and take it back: where that fails, MLflow would try again for minutes, or fail later.

    Into a database of something else MLflow would write its own tables.
    """
    engine = sqlalchemy.create_engine(uri, connect_args={"timeout": LOCK_SECONDS})
    with contextlib.closing(engine.raw_connection()) as connection:
        cursor = connection.cursor()
        tables = {name for (name,) in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if tables and "alembic_version" not in tables:
            raise InputError(f"tracking.uri={uri}: a database of something else than MLflow; give another file")
        if writes:
            version = cursor.execute("PRAGMA user_version").fetchone()[0]
            cursor.execute("BEGIN IMMEDIATE")
            cursor.execute(f"PRAGMA user_version = {version}")
            cursor.execute("ROLLBACK")
    engine.dispose()


def _remedy(error: Exception) -> str:
    text = str(error)
    status = error.get_http_status_code() if isinstance(error, MlflowException) else None
    if status in (401, 403) or "error code 401" in text or "error code 403" in text:
        return "give MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
    if "valid JSON" in text or "!= 200" in text:
        return NO_SERVER
    if "schema" in text:
        return (
            f"another release of MLflow made it (here: {mlflow.__version__}): use that one, or, where it is the older "
            "one, copy the database and then upgrade it with `mlflow db upgrade`"
        )
    if "locked" in text:
        return "wait for the process that writes to it, and close what has it open"
    if isinstance(error, ModuleNotFoundError):
        return f"install {error.name}, the driver of that database, or give another URI"
    if isinstance(error, OSError):
        return "give another URI: a file in a folder that you may write"
    if "readonly" in text:
        return "make the file and its folder writable, or give another URI"
    return "start the server, or give another URI (null: a SQLite file in the working directory)"
