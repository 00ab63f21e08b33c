"""The journal of a search: one line of JSON per event, from which the records of its trials are rebuilt.

It is the only stored state of the search. After the driver was killed, every trial has its number, settings and scores
again; only the last line may be incomplete, and is then ignored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from components.search.trial import Suggestion, TrialRecord


class Journal:
    """Appends events to a file, and keeps the records that result from them.

    path: None keeps the events in memory only, for a simulation. elapsed: running time of the search in seconds at the
    last event, without interruptions. sessions: how often the journal was opened, this time included.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.records: list[TrialRecord] = []
        self.elapsed = 0.0
        self.sessions = 0
        if path is not None and path.is_file():
            self._read(path)
        self._write({"event": "opened"}, self.elapsed)

    def append(self, event: str, trial: int, values: Mapping[str, Any], *, elapsed: float) -> None:
        """Record an event of a trial, and the running time of the search in seconds.

        Values by event: began (of the next number): suggestion, unstopped. scored: epoch, score, seconds (of all epochs
        of the trial so far), metrics. saved: epoch, checkpoint. pruned (its checkpoint was removed): none. ended:
        status, message, seconds.
        """
        self._write({"event": event, "trial": trial, **values}, elapsed)

    def _write(self, event: dict[str, Any], elapsed: float) -> None:
        event["elapsed"] = round(elapsed, 3)
        self._apply(event)
        if self._path is None:
            return
        with self._path.open("a", encoding="utf-8") as file:  # closed at once, so that the line survives a kill
            file.write(json.dumps(event, allow_nan=False) + "\n")

    def _read(self, path: Path) -> None:
        whole = 0
        with path.open("rb") as file:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._apply(json.loads(line))
                whole += len(line)
        if whole < path.stat().st_size:  # killed while writing: remove the incomplete line
            with path.open("r+b") as file:
                file.truncate(whole)

    def _apply(self, event: Mapping[str, Any]) -> None:
        self.elapsed = event["elapsed"]
        if event["event"] == "opened":
            self.sessions += 1
            return
        if event["event"] == "began":
            suggestion = Suggestion(**event["suggestion"])
            self.records.append(TrialRecord(number=event["trial"], suggestion=suggestion, unstopped=event["unstopped"]))
            return
        record = self.records[event["trial"]]
        if event["event"] == "scored":
            # A trial that resumes from a checkpoint replaces its earlier reports of the epochs after it.
            record.scores = {epoch: score for epoch, score in record.scores.items() if epoch < event["epoch"]}
            record.scores[event["epoch"]] = event["score"]
            record.seconds_at = {epoch: at for epoch, at in record.seconds_at.items() if epoch < event["epoch"]}
            record.seconds_at[event["epoch"]] = event["seconds"]
            record.seconds = event["seconds"]
            record.metrics = {epoch: values for epoch, values in record.metrics.items() if epoch < event["epoch"]}
            record.metrics[event["epoch"]] = event["metrics"]
        elif event["event"] == "saved":
            record.checkpoint, record.checkpoint_epoch = event["checkpoint"], event["epoch"]
        elif event["event"] == "pruned":
            record.checkpoint, record.checkpoint_epoch = None, 0
        else:
            record.status, record.message = event["status"], event["message"]
            record.seconds = event["seconds"]
