"""MLflow behind one narrow door: explicit run ids, never ambient state.

Runs form a tree: root (the run that `mlflow run` made, or one of ours) → a run per stage → a run per trial. A root
carries machine, pid, process start and a heartbeat, so that a run whose process died is reaped and a live one elsewhere
is not. An experiment that holds such a tree is marked, and no other is searched.
"""

from __future__ import annotations

import contextlib
import getpass
import logging
import os
import re
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import mlflow
import mlflow.artifacts
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, LoggedModelOutput, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from components.artifact_place import local_folder, misplaced
from components.errors import InputError, ModelError, redact
from components.home import check_writable
from components.liveness import HEARTBEAT_SECONDS, TAG_HEARTBEAT, TAG_HOST, is_dead, process_tags
from components.metric_writer import MetricWriter, Rows, Status, now_ms
from components.tracking_store import NO_SERVER, first_contact, first_line, open_store, resolve_uri, sqlite_file

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger(__name__)

#: What MLflow records of a data set.
DataSet = Dataset
MAX_PARAM_CHARS, MAX_NOTE_CHARS = 500, 8000
#: Of the experiment "Default", where `mlflow run` puts a run that names none.
DEFAULT_EXPERIMENT_ID = "0"
#: The names that MLflow makes up, such as `bold-carp-127`; any other was given by a person.
MADE_UP_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")
#: Marks the experiments that hold runs of ours. (`mlflow run` may have put a root into any of them.)
TAG_OURS = "escapement.runs"
#: The UI opens such an experiment at its training runs, not at its traces.
EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development", TAG_OURS: "true"}
#: Of an experiment, so many of the newest roots tell where its artifacts lie.
LOOKED_AT_ROOTS = 50

TAG_ROOT = "escapement.root"
TAG_STAGE = "escapement.stage"
TAG_FINGERPRINT = "escapement.fingerprint"
TAG_SUPERSEDED = "escapement.superseded_by"
TAG_STORAGE = "escapement.storage"
TAG_PARENT, TAG_NOTE = "mlflow.parentRunId", "mlflow.note.content"

_ROOTS = f"tags.`{TAG_STAGE}` = 'pipeline'"
#: Roots and what is below them, but no run of anybody else. Asked first, it keeps the rest of a search short.
_OURS = f"tags.`{TAG_STAGE}` LIKE '%'"
_RUNNING = f"{_OURS} AND attributes.status = 'RUNNING'"


@dataclass(frozen=True)
class Run(MetricWriter):
    """A handle on one MLflow run; every call names the run, so that any thread may log."""

    client: MlflowClient
    id: str
    experiment_id: str

    def log_params(self, params: Mapping[str, Any]) -> None:
        """Log parameters; values are cut at MLflow's limit of length.

        A resumed run keeps those that it has: MLflow changes none, and refuses all where one would change.
        """
        known = self.client.get_run(self.id).data.params
        entries = [Param(key, str(value)[:MAX_PARAM_CHARS]) for key, value in params.items() if key not in known]
        for start in range(0, len(entries), 100):
            self.client.log_batch(self.id, params=entries[start : start + 100])

    def log_history(self, rows: Rows, *, time_ms: int | None = None) -> None:
        time_ms = time_ms or now_ms()
        entries = [
            Metric(key, float(value), time_ms, step)
            for step, metrics in rows
            for key, value in metrics.items()
            if value is not None
        ]
        for start in range(0, len(entries), 1000):
            self.client.log_batch(self.id, metrics=entries[start : start + 1000])

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        self.client.log_batch(self.id, tags=[RunTag(key, str(value)) for key, value in tags.items()])

    def set_note(self, markdown: str) -> None:
        """The text that the UI shows as the run's description; cut at MLflow's limit of length."""
        self.set_tags({TAG_NOTE: markdown[:MAX_NOTE_CHARS]})

    def link_model(self, model_id: str) -> None:
        """Show a logged model as an output of this run, too."""
        self.client.log_outputs(self.id, [LoggedModelOutput(model_id=model_id, step=0)])

    def log_artifact(self, path: Path, folder: str | None = None) -> None:
        self.client.log_artifact(self.id, str(path), folder)

    def log_text(self, text: str, name: str) -> None:
        self.client.log_text(self.id, text, name)

    def log_image(self, data: bytes, name: str) -> None:
        """Log the bytes of an image file under a name with its extension."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, Path(name).name)
            file.write_bytes(data)
            self.client.log_artifact(self.id, str(file), Path(name).parent.as_posix())

    def log_table(self, table: pd.DataFrame, name: str) -> None:
        """Log a table that the MLflow UI can show, in place of an earlier one; `name` ends in `.json`."""
        if name in {item.path for item in self.client.list_artifacts(self.id, str(PurePosixPath(name).parent))}:
            # `log_table` would append to it
            self.client.log_text(self.id, table.to_json(orient="split", index=False), name)
        else:
            self.client.log_table(self.id, table, name)

    def log_dataset(self, dataset: DataSet, *, context: str) -> None:
        """Record which data set the run used."""
        tags = [InputTag("mlflow.data.context", context)]
        self.client.log_inputs(self.id, [DatasetInput(dataset, tags)])

    def finish(self, status: Status = "FINISHED") -> None:
        self.client.set_terminated(self.id, status)

    def has_finished(self) -> bool:
        return bool(self.client.get_run(self.id).info.status == "FINISHED")

    def logged_steps(self, metric: str) -> set[int]:
        return {entry.step for entry in self.client.get_metric_history(self.id, metric)}

    @contextlib.contextmanager
    def system_metrics(self) -> Iterator[None]:
        """Log processor, memory and GPU load of this machine to the run while the block runs."""
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        monitor = SystemMetricsMonitor(self.id, sampling_interval=5, samples_before_logging=1)
        monitor.start()
        try:
            yield
        finally:
            monitor.finish()


class Tracker:
    """A connection to one tracking store and one experiment."""

    def __init__(self, client: MlflowClient, uri: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.experiment_id = experiment_id

    @classmethod
    def connect(cls, uri: str | None, *, experiment: str) -> Tracker:
        """Open the store and find or make the experiment.

        `uri` None means MLFLOW_TRACKING_URI, or a SQLite file in the working directory. A run made by `mlflow run`
        (MLFLOW_RUN_ID) decides the experiment. Raises `InputError` when the store cannot be used, the experiment was
        deleted, or its artifacts are not where the store has them.
        """
        uri = resolve_uri(uri)
        with first_contact(uri):
            client = open_store(uri)
            found = _find_experiment(client, experiment)
            if found is None:
                found = _make_experiment(client, experiment)
            _check_experiment(client, uri, found)
        mlflow.set_tracking_uri(uri)
        return cls(client, uri, found.experiment_id)

    @staticmethod
    def check(uri: str | None, *, experiment: str) -> None:
        """Raise what `connect` would, and make neither a store nor an experiment."""
        uri = resolve_uri(uri)
        with first_contact(uri):
            file = sqlite_file(uri)
            if file is not None and not file.exists():
                _check_creatable(file)
                return
            client = open_store(uri)
            found = _find_experiment(client, experiment)
            if found is not None:
                _check_experiment(client, uri, found)

    @property
    def shown_uri(self) -> str:
        """The URI without a user's name and password."""
        return redact(self.uri)

    def local_artifacts(self) -> Path | None:
        """The folder of the experiment's artifacts, where there is one on this machine."""
        folder = local_folder(self.client.get_experiment(self.experiment_id).artifact_location)
        return folder if folder is not None and folder.is_dir() else None

    def run(self, run_id: str) -> Run:
        return Run(self.client, run_id, self.experiment_id)

    def exists(self, run_id: str) -> bool:
        """Whether the store holds the run (another store, or a deleted run, does not)."""
        return self._active(run_id) is not None

    def _active(self, run_id: str) -> Any:  # noqa: ANN401 - an MLflow run, or None
        run = _unless_missing(lambda: self.client.get_run(run_id))
        return run if run is not None and run.info.lifecycle_stage == "active" else None

    def holds_model(self, model_id: str) -> bool:
        """Whether the store holds the logged model (another store does not)."""
        return _unless_missing(lambda: self.client.get_logged_model(model_id)) is not None

    def start_root(self, name: str, tags: Mapping[str, str]) -> Run:
        """The root of this invocation: the run that `mlflow run` made, or a new one.

        A run that `mlflow run` made takes the name, unless a person gave it one.
        The variable by which `mlflow run` hands over its run is taken out of the environment, since every Ray worker
        would otherwise resume that run.
        """
        adopted = os.environ.pop("MLFLOW_RUN_ID", None)
        if adopted is None:
            made = self.client.create_run(self.experiment_id, run_name=name, tags=_user_tags())
            adopted = made.info.run_id
        elif MADE_UP_NAME.fullmatch(self.client.get_run(adopted).info.run_name or ""):
            self.client.update_run(adopted, name=name)
        run = self.run(adopted)
        self.client.set_experiment_tag(self.experiment_id, TAG_OURS, "true")  # before there is something to find
        run.set_tags({**tags, **process_tags(), TAG_ROOT: run.id, TAG_STAGE: "pipeline"})
        return run

    def start_child(self, parent: Run, name: str, tags: Mapping[str, str]) -> Run:
        tags = {TAG_PARENT: parent.id, TAG_STAGE: name, **tags, **_user_tags()}
        made = self.client.create_run(parent.experiment_id, run_name=name, tags=tags)
        return Run(self.client, made.info.run_id, parent.experiment_id)

    def start_stage(self, root: Run, stage: str, fingerprint: str, *, resume: bool) -> Run:
        """The run of a stage. `resume`: an interrupted one of the same fingerprint resumes under `root`.

        Otherwise, or where there is none, a new run, which supersedes the interrupted ones.
        """
        found = self._search(
            f"tags.`{TAG_STAGE}` = '{stage}' AND tags.`{TAG_FINGERPRINT}` = '{fingerprint}' "
            "AND attributes.status != 'FINISHED' AND attributes.status != 'RUNNING'"
        )
        unfinished = [run for run in found if TAG_SUPERSEDED not in run.data.tags]
        if resume and unfinished:
            return self._reopen(unfinished[0], root)
        tags = {TAG_FINGERPRINT: fingerprint, TAG_ROOT: root.id}
        started = self.start_child(root, stage, tags)
        for old in unfinished:
            self.run(old.info.run_id).set_tags({TAG_SUPERSEDED: started.id})
        return started

    def _reopen(self, old: Any, root: Run) -> Run:  # noqa: ANN401 - an MLflow run, as a search returns it
        """Go on with an ended run under another root. It stays in its own experiment."""
        run = Run(self.client, old.info.run_id, old.info.experiment_id)
        # The parent comes first: what is RUNNING below an ended root would be reaped.
        run.set_tags({TAG_PARENT: root.id, TAG_ROOT: root.id})
        self.client.update_run(run.id, status="RUNNING")
        old_root = old.data.tags.get(TAG_ROOT)
        if old_root and old_root != root.id and self.exists(old_root):
            self.run(old_root).set_tags({TAG_SUPERSEDED: root.id})
        return run

    def unfinished(self, run_id: str) -> Run | None:
        """The run, where the store holds it and it has not ended well."""
        found = self._active(run_id)
        if found is None or found.info.status == "FINISHED":
            return None
        return Run(self.client, run_id, found.info.experiment_id)

    def children(self, run: Run) -> list[Any]:
        """The MLflow runs directly below a run."""
        return self._search(f"{_OURS} AND tags.`{TAG_PARENT}` = '{run.id}'")

    def reap(self) -> int:
        """End the runs whose process is gone; the number of runs ended."""
        reaped, running = 0, {run.info.run_id: run for run in self._search(_RUNNING)}
        for run_id, run in running.items():
            tags = run.data.tags
            if TAG_HOST in tags:
                gone = is_dead(tags)
            else:
                # Below a root that its launcher had already ended, the children of a killed process stay RUNNING.
                parent = tags.get(TAG_PARENT)
                above = self._active(parent) if parent is not None and parent not in running else None
                gone = above is not None and above.info.status != "RUNNING"
            reaped += self.end_tree(run_id, "KILLED") if gone else 0
        return reaped

    def running_roots(self, *, storage: Path | None = None) -> list[str]:
        """Ids of the root runs whose process lives; those that write into `storage`, where it is given."""
        alive = [run for run in self._search(_RUNNING) if TAG_HOST in run.data.tags and not is_dead(run.data.tags)]
        return [run.info.run_id for run in alive if storage is None or run.data.tags.get(TAG_STORAGE) == str(storage)]

    def end_tree(self, run_id: str, status: Status) -> int:
        """End a run and all that is RUNNING below it; the number of runs ended."""
        ended = sum(self.end_tree(child.info.run_id, status) for child in self.children(self.run(run_id)))
        if self.client.get_run(run_id).info.status == "RUNNING":
            self.client.set_terminated(run_id, status)
            ended += 1
        return ended

    @contextlib.contextmanager
    def heartbeat(self, run: Run) -> Iterator[None]:
        """Say every half minute that the process behind `run` lives."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(HEARTBEAT_SECONDS):
                try:
                    run.set_tags({TAG_HEARTBEAT: f"{time.time():.0f}"})
                except Exception as error:  # noqa: BLE001 - a missed beat is not a reason to stop a training
                    logger.warning("heartbeat not written: %s", first_line(error))

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def lost_files(self, model_id: str, directory: Path) -> list[str]:
        """Of the files that were logged from a model folder: those that the store lacks, or has in another size."""
        kept: dict[str, int | None] = {}
        folders: list[str | None] = [None]
        while folders:
            for entry in self.client.list_logged_model_artifacts(model_id, folders.pop()):
                if entry.is_dir:
                    folders.append(entry.path)
                else:
                    kept[entry.path] = entry.file_size
        files = {path.relative_to(directory).as_posix(): path for path in directory.rglob("*") if path.is_file()}
        return sorted(name for name, path in files.items() if kept.get(name) != path.stat().st_size)

    def restore_model(self, model_id: str, directory: Path) -> None:
        """Put the files of a model folder into a logged model that has lost some."""
        self.client.log_model_artifacts(model_id, str(directory))

    def log_model(self, run: Run, directory: Path, *, name: str, params: Mapping[str, Any]) -> str:
        """Log a saved MLflow model folder as an output of the run; its model id."""
        model = self.client.create_logged_model(
            run.experiment_id,
            name,
            source_run_id=run.id,
            params={key: str(value) for key, value in params.items()},
            model_type="escapement",
        )
        self.client.log_model_artifacts(model.model_id, str(directory))
        self.client.finalize_logged_model(model.model_id, "READY")
        run.link_model(model.model_id)
        return model.model_id

    def download(self, uri: str) -> Path:
        """A local folder with what a model's URI names (the store's own folder, where that is local).

        Raises `ModelError` where there is nothing.
        """
        try:
            return Path(mlflow.artifacts.download_artifacts(uri))
        except (MlflowException, OSError) as error:
            if is_away(error):
                raise
            raise ModelError(f"{uri}: its files cannot be read ({first_line(error)})") from error

    def write_and_remove(self) -> str:
        """Write to the store and to the artifacts' place of the experiment, take it away again; that place.

        Raises `InputError` where either cannot be written.
        """
        place = self.client.get_experiment(self.experiment_id).artifact_location
        try:
            probe = f"escapement.probe.{uuid.uuid4().hex}"
            self.client.set_experiment_tag(self.experiment_id, probe, "")
            self.client.delete_experiment_tag(self.experiment_id, probe)
        except Exception as error:
            raise InputError(
                f"tracking.uri={self.shown_uri}: cannot be written ({first_line(error)}); give a store that you may "
                "write"
            ) from error
        name = f"escapement-probe-{uuid.uuid4().hex}.txt"
        try:
            artifacts = get_artifact_repository(place)
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder, name)
                file.write_text("", encoding="utf-8")
                artifacts.log_artifact(str(file))
            artifacts.delete_artifacts(name)
        except Exception as error:
            raise InputError(
                f"tracking.experiment: the artifacts' place {redact(place)} of experiment {self.experiment_id} cannot "
                f"be written ({first_line(error)}); allow it, or give tracking.experiment another name, which gets a "
                "place of its own"
            ) from error
        return redact(place)

    def _search(self, filter_string: str) -> list[Any]:
        """Runs of the experiments that hold runs of ours, the newest first."""
        ours = _all_pages(
            lambda token: self.client.search_experiments(filter_string=f"tags.`{TAG_OURS}` = 'true'", page_token=token)
        )
        experiments = list({self.experiment_id, *(entry.experiment_id for entry in ours)})
        newest_first = ["attributes.start_time DESC"]
        return _all_pages(
            lambda token: self.client.search_runs(experiments, filter_string, order_by=newest_first, page_token=token)
        )


class ChildRuns:
    """The runs below a run, each found again by tags that no other has, so that what resumes makes no second one.

    keys: of these tags. found: the MLflow runs that were there at the beginning, by the values of their tags.
    """

    def __init__(self, tracker: Tracker, parent: Run, *keys: str) -> None:
        self._tracker, self._parent, self._keys = tracker, parent, keys
        parent_tags = parent.client.get_run(parent.id).data.tags
        self._root = parent_tags.get(TAG_ROOT, parent_tags.get(TAG_PARENT, parent.id))
        self.found = self._children()
        self._runs = {identity: self._handle(child) for identity, child in self.found.items()}
        self._asked_for: set[tuple[str, ...]] = set()

    def _children(self) -> dict[tuple[str, ...], Any]:
        children = self._tracker.children(self._parent)
        ours = [child for child in children if all(key in child.data.tags for key in self._keys)]
        return {tuple(child.data.tags[key] for key in self._keys): child for child in ours}

    def _handle(self, child: Any) -> Run:  # noqa: ANN401 - an MLflow run, as a search returns it
        return Run(self._tracker.client, child.info.run_id, child.info.experiment_id)

    def open(self, *identity: str, name: str, stage: str, params: Mapping[str, Any]) -> Run:
        """The run of these tags, made where there is none. One that was cut short is set to running again."""
        if identity not in self._runs:
            # A repeated call makes no second run. It looks for one, since only the answer may have been lost.
            made = self._children().get(identity) if identity in self._asked_for else None
            self._asked_for.add(identity)
            tags = {**dict(zip(self._keys, identity, strict=True)), TAG_STAGE: stage, TAG_ROOT: self._root}
            self._runs[identity] = self._handle(made) if made else self._tracker.start_child(self._parent, name, tags)
        run = self._runs[identity]
        if identity in self.found:
            run.set_tags({TAG_ROOT: self._root})
            if self.found[identity].info.status != "FINISHED":
                run.client.update_run(run.id, status="RUNNING")
        run.log_params(params)
        return run


def is_away(error: Exception) -> bool:
    """Whether a call failed because the server could not be reached, or could not answer for now."""
    if isinstance(error, ConnectionError | TimeoutError):
        return True
    if not isinstance(error, MlflowException) or error.error_code in ("UNAUTHENTICATED", "PERMISSION_DENIED"):
        return False
    # MLflow's own words, after all its attempts: of a connection that failed, or of answers such as 503; and what it
    # says of a database that is locked or gone.
    return "API request to" in str(error) or error.error_code == "TEMPORARILY_UNAVAILABLE"


def describe_dataset(table: pd.DataFrame, *, name: str, source: str, digest: str) -> DataSet:
    """The schema, the source and the digest of a data set (at most 36 characters of it); looks at every value."""
    dataset = mlflow.data.from_pandas(table, source=source, name=name, digest=digest[:36])  # type: ignore[attr-defined]
    described: DataSet = dataset._to_mlflow_entity()
    return described


def save_pyfunc(
    directory: Path,
    *,
    code: Path,
    artifacts: Mapping[str, Path],
    requirements: Sequence[str],
    signature_fields: dict[str, Any],
    model_config: Mapping[str, Any],
) -> None:
    """Write an MLflow model folder: models-from-code, so nothing is pickled."""
    mlflow.pyfunc.save_model(
        str(directory),
        python_model=str(code),
        artifacts={name: str(path) for name, path in artifacts.items()},
        pip_requirements=list(requirements),
        signature=ModelSignature.from_dict(signature_fields),
        model_config=dict(model_config),
    )


def use_store(uri: str | None) -> str | None:
    """Point MLflow at a store for `models:/` URIs; None: MLFLOW_TRACKING_URI, or the working directory's file.

    What is wrong with the places of its artifacts, and the remedy. Raises `InputError` where it cannot be used.
    """
    uri = resolve_uri(uri)
    with first_contact(uri):
        file = sqlite_file(uri)
        if file is not None and not file.exists():
            raise InputError(f"tracking.uri={uri}: there is no such file; give the store that the model is in")
        client = open_store(uri, writes=False)
        mlflow.set_tracking_uri(uri)
        client.search_registered_models(max_results=1)
        found = client.search_experiments() if file is not None else []
        faults = (_misplaced(client, uri, experiment, writes=False) for experiment in found)
        return next((fault for fault in faults if fault is not None), None)


def load_pyfunc(uri: str, *, model_config: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Load a model folder or `models:/name@alias`; its `predict` takes a table.

    Raises `ModelError` where there is no such model, or its files are damaged.
    """
    try:
        return mlflow.pyfunc.load_model(uri, model_config=dict(model_config))
    except Exception as error:  # a damaged model raises whatever its code does
        if is_away(error):
            raise
        store = mlflow.get_tracking_uri()
        raise ModelError(
            f"model={uri}: cannot be loaded ({first_line(error).replace(store, redact(store))}); "
            f"give models:/name@alias of a model registered in {redact(store)}, or a model folder"
        ) from error


def _all_pages(search: Callable[[str | None], Any]) -> list[Any]:
    """Everything that a search finds; `search(token)` returns one page."""
    found: list[Any] = []
    token = None
    while True:
        page = search(token)
        found += page
        token = page.token
        if not token:
            return found


def _find_experiment(client: MlflowClient, name: str) -> Experiment | None:
    """The experiment of the run that `mlflow run` made, or the one of that name."""
    adopted = os.environ.get("MLFLOW_RUN_ID")
    if adopted:
        return client.get_experiment(client.get_run(adopted).info.experiment_id)
    return client.get_experiment_by_name(name)


def _make_experiment(client: MlflowClient, name: str) -> Experiment:
    try:
        return client.get_experiment(client.create_experiment(name, tags=EXPERIMENT_TAGS))
    except MlflowException:
        found = client.get_experiment_by_name(name)
        if found is None:
            raise
        return found  # another process was first


def _check_experiment(client: MlflowClient, uri: str, found: Experiment) -> None:
    """Raise `InputError` for an experiment that takes no runs, or no artifacts."""
    if not found.experiment_id:
        raise InputError(f"tracking.uri={redact(uri)}: {NO_SERVER}")
    if found.lifecycle_stage == "deleted":
        raise InputError(
            f"tracking.experiment={found.name}: deleted in this store; restore it "
            f"(`mlflow experiments restore -x {found.experiment_id}`) or give another name"
        )
    fault = _misplaced(client, uri, found, writes=True)
    if fault is not None:
        raise InputError(f"tracking.uri={redact(uri)}, experiment {found.name}: {fault}")


def _misplaced(client: MlflowClient, uri: str, found: Experiment, *, writes: bool) -> str | None:
    def places() -> list[str]:
        roots = client.search_runs([found.experiment_id], _ROOTS, max_results=LOOKED_AT_ROOTS)
        return [root.info.artifact_uri for root in roots]

    return misplaced(uri, found.artifact_location, places, writes=writes)


def _check_creatable(file: Path) -> None:
    nearest = next(parent for parent in file.parents if parent.exists())
    try:
        check_writable(nearest)
    except OSError as error:
        raise InputError(
            f"tracking.uri: {file} cannot be made: {nearest} cannot be written ({error.strerror}); give another URI"
        ) from error


def _unless_missing(read: Callable[[], Any]) -> Any:  # noqa: ANN401 - what it reads
    """What is read, or None where the store holds no such thing. Raises where the store does not answer."""
    try:
        return read()
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            return None
        raise


def _user_tags() -> dict[str, str]:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name, as in containers
        user = "unknown"
    return {"mlflow.user": user, "mlflow.source.name": "pipeline", "mlflow.source.type": "LOCAL"}
