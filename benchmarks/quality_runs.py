"""One command of the benchmark of quality, the pipeline's or the loop's: its seconds and the measures of its scores."""

from __future__ import annotations

import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import quality_measures as measures
from quality_sets import REPOSITORY, ImageSet, Split

from components.serving.bundle import find_bundle
from components.serving.pyfunc import InspectionModel
from pipeline.loading import load
from pipeline.sections.time import seconds_of

LENGTHS = {"half": 0.5, "demo": 1.0, "three times": 3.0}
"""Of the pipeline's trainings, in those of the configuration."""
FIRST = "first model"
VIEWS = ", 8 views"
TIMED = 20
ANNOUNCED = "the first model is there"
"""In the line by which a run says so."""


class Loop(NamedTuple):
    """A setting of the loop. size: side of its images, px. within: the time that its length was chosen for."""

    size: int
    epochs: int
    within: str | None = None

    @property
    def name(self) -> str:
        return f"{self.size} px, " + (f"{self.epochs} epochs" if self.within is None else f"within {self.within}")


SIDE = 128
PACE = (Loop(SIDE, 3), Loop(SIDE, 8))
"""The two loops by which the time of another length is known."""
REFERENCE = PACE[1].name
"""The loop whose seconds, with one view, are the unit of time."""


def loop_within(budget: str, rows: list[dict[str, Any]]) -> Loop:
    """As many epochs at the reference's side as fit into the time, eight views included, but one at least.

    rows: of a seed, those of `PACE` among them.
    """
    seconds = {row["who"]: row["seconds"] for row in rows}
    short, long = (seconds[f"loop, {loop.name}{VIEWS}"] for loop in PACE)
    each = (long - short) / (PACE[1].epochs - PACE[0].epochs)
    return Loop(SIDE, max(1, math.floor(PACE[1].epochs + (seconds_of(budget) - long) / each)), budget)


def run_ours(images: ImageSet, split: Split, length: str, seed: int, place: Path) -> list[dict[str, Any]]:
    """Start the pipeline as a user does, with nothing made before; rows of the delivered and of the first model.

    length: a key of `LENGTHS`, or a time for the whole run, such as 10min.
    """
    storage = place / "storage"
    config = load(images.config, images.changes)
    changes: dict[str, Any] = {"seed": seed, "budget": length}
    if length in LENGTHS:
        changes = {"train__epochs": max(1, round(LENGTHS[length] * config.train.epochs)), "seed": seed}
    if config.data.earlier_manifest is None:  # the splits depend on the seed
        changes["data__earlier_manifest"] = split.test
    command = [sys.executable, "-m", "pipeline", "run", *images.options(storage, **changes), "--json"]
    seconds, announced, summary = _start(command, place)
    folders = {stage["name"]: storage / stage["name"] / stage["fingerprint"][:16] for stage in summary["stages"]}
    predictions = pd.read_parquet(folders["evaluate"] / "test_predictions.parquet")
    if set(predictions["sha256"]) != set(split.tested["sha256"]):
        raise SystemExit(f"{images.name}, seed {seed}: the run tested other images than the loop")
    metrics = json.loads((folders["evaluate"] / "metrics.json").read_text(encoding="utf-8"))
    served = _served(folders["deliver"] / "model")
    rows = [
        {"who": f"ours, {length}", "seconds": seconds, "stages": {s["name"]: s["seconds"] for s in summary["stages"]}}
        | _scored(predictions, metrics)
        | {"latency_ms": _latency(served, split)}
    ]
    if "budget" in folders:
        found = json.loads((folders["budget"] / "budget.json").read_text(encoding="utf-8"))
        rows[0]["planned"] = {key: found[key] for key in ("networks", "epochs", "range_test")}
    if length == "demo":
        made = first_model(folders["first_model"] / "model", split)
        rows.append({"who": f"ours, {FIRST}", "seconds": announced, **made})
    return [{"seed": seed, **row} for row in rows]


def _start(command: list[str], place: Path) -> tuple[float, float | None, dict[str, Any]]:
    """Seconds of the whole command, seconds until it announced its first model, and its summary."""
    place.mkdir(parents=True, exist_ok=True)
    announced, lines = None, []
    started = time.monotonic()
    with (place / "stdout").open("w+", encoding="utf-8") as out:
        process = subprocess.Popen(
            command, cwd=place, stdout=out, stderr=subprocess.PIPE, text=True, env=_environment()
        )
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(line)
            if announced is None and ANNOUNCED in line:
                announced = time.monotonic() - started
        code, seconds = process.wait(), time.monotonic() - started
        out.seek(0)
        printed = out.read()
    if code:
        raise SystemExit(f"{' '.join(command)} ended with {code}:\n{''.join(lines[-30:])}")
    return seconds, announced, json.loads(printed.splitlines()[-1])


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "RAY_"))}
    return {**kept, "PYTHONPATH": str(REPOSITORY)}


def _scored(predictions: pd.DataFrame, metrics: dict[str, Any]) -> dict[str, Any]:
    """The measures of a model with a threshold, or of one of classes alone."""
    if "log_odds" not in predictions:
        return {"balanced_accuracy": metrics["class_metrics"]["balanced_accuracy"]["value"], "threshold": "none"}
    is_defect = predictions["is_defect"].to_numpy(dtype=bool)
    at_budget, budget = metrics["operating_points"]["escape_budget"], metrics["budget"]
    escape_rate = at_budget["escape_rate"]["value"]
    return {
        **measures.ranking(predictions["log_odds"].to_numpy(), is_defect),
        "balanced_accuracy": metrics["operating_points"]["balanced"]["balanced_accuracy"]["value"],
        "threshold": "its own",
        "budget": budget["escape_budget"],
        "certified": budget["certified"],
        "overkill_at_budget": at_budget["overkill_rate"]["value"],
        "escape_rate": escape_rate,
        "kept": escape_rate <= budget["escape_budget"],
    }


def first_model(folder: Path, split: Split) -> dict[str, Any]:
    """The measures of the model that a run announces first, which the pipeline does not test: it is served here."""
    served, tested = _served(folder), split.tested
    answers = served.predict(None, pd.DataFrame({"image": [f"{split.root}/{path}" for path in tested["path"]]}))
    if answers["error"].notna().any():
        raise SystemExit(f"{folder}: {answers['error'].dropna().iloc[0]}")
    latency = {"latency_ms": _latency(served, split)}
    if not split.has_good:
        positions = {name: number for number, name in enumerate(split.classes)}
        actual, predicted = (table["label"].map(positions).to_numpy() for table in (tested, answers))
        found = measures.class_balanced_accuracy(actual, predicted, len(positions))
        return {"balanced_accuracy": found, "threshold": "none", **latency}
    scores, is_defect = answers["defect_score"].to_numpy(dtype=float), tested["is_defect"].to_numpy(dtype=bool)
    return {
        **measures.ranking(scores, is_defect),
        "balanced_accuracy": measures.best_balanced_accuracy(scores, is_defect),
        "threshold": "the test's best",
        **latency,
    }


def _served(folder: Path) -> InspectionModel:
    model = InspectionModel()
    settings = {"device": "cpu", "allow_paths": True}
    model.load_context(SimpleNamespace(artifacts={"bundle": str(find_bundle(folder))}, model_config=settings))
    return model


def _latency(model: InspectionModel, split: Split) -> float:
    """Median milliseconds from an image's file to the answer, one image at a time, on all cores."""
    times = []
    for path in split.tested["path"].head(TIMED):
        started = time.perf_counter()
        model.predict(None, pd.DataFrame({"image": [f"{split.root}/{path}"]}))
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def run_loop(split: Split, loop: Loop, seed: int, place: Path, *, lr: float) -> list[dict[str, Any]]:
    """Start the loop; rows of its scores with one view and with eight.

    Where there is a good class it learns good and defective, which is what it is scored by.
    """
    place.mkdir(parents=True)
    labels = {name: number for number, name in enumerate(split.classes)}
    target = split.table["is_defect"].astype(int) if split.has_good else split.table["label"].map(labels)
    split.table.assign(target=target)[["path", "split", "target"]].to_parquet(place / "images.parquet")
    setting = {"size": loop.size, "epochs": loop.epochs, "lr": lr, "seed": seed}
    task = {"root": split.root, "framing": split.framing, **setting}
    (place / "task.json").write_text(json.dumps(task), encoding="utf-8")
    command = [sys.executable, str(REPOSITORY / "benchmarks" / "quality_loop.py"), str(place)]
    subprocess.run(command, check=True, env=_environment())
    with np.load(place / "scores.npz") as found:
        scores = {"": found["one_view"], VIEWS: found["eight_views"]}
        seconds, latency = found["seconds"].tolist(), found["latency"].tolist()
    return [
        {"seed": seed, "who": f"loop, {loop.name}{views}", "epochs": loop.epochs, "seconds": seconds[number]}
        | {"latency_ms": latency[number]}
        | _loop_scored(log_probabilities, split)
        for number, (views, log_probabilities) in enumerate(scores.items())
    ]


def _loop_scored(log_probabilities: np.ndarray, split: Split) -> dict[str, Any]:
    tested = split.tested
    if not split.has_good:
        actual = tested["label"].map({name: number for number, name in enumerate(split.classes)}).to_numpy()
        found = measures.class_balanced_accuracy(actual, log_probabilities.argmax(axis=1), len(split.classes))
        return {"balanced_accuracy": found, "threshold": "none"}
    log_odds, is_defect = log_probabilities[:, 1] - log_probabilities[:, 0], tested["is_defect"].to_numpy(dtype=bool)
    return {
        **measures.ranking(log_odds, is_defect),
        "balanced_accuracy": measures.best_balanced_accuracy(log_odds, is_defect),
        "threshold": "the test's best",
    }
