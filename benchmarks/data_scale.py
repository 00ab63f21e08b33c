"""Preparing more and more images: time, peak unique memory, and a second run with 1 % new files."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil

from pipeline.data.sources import list_images
from pipeline.sections.data import DataConfig

SAMPLE_SECONDS = 0.2
NEW_SHARE = 0.01
CLASSES = ("good", "scratch", "pit", "stain", "crack")


def measure(counts: list[int], *, side: int, place: Path) -> dict[str, Any]:
    """One entry per count, smallest first, and how time and memory grow from the first to the last."""
    runs = [_measure_one(count, side=side, place=place / f"scale_{count}") for count in sorted(counts)]
    result: dict[str, Any] = {"side": side, "runs": runs}
    if len(runs) > 1:
        small, large = runs[0], runs[-1]
        factor = math.log(large["images"] / small["images"])
        result |= {
            "memory_ratio": large["peak_unique_mb"] / small["peak_unique_mb"],
            "exponent_of_time": math.log(large["seconds"] / small["seconds"]) / factor,
        }
    return result


def _measure_one(count: int, *, side: int, place: Path) -> dict[str, Any]:
    folder = place / "images"
    _class_folders(f"generated:count={count},size={side},seed=1", folder, place)
    first = _prepare(folder, side=side, place=place)
    more = max(8, round(NEW_SHARE * count))
    _class_folders(f"generated:count={more},size={side},seed=2", folder, place)
    again = _prepare(folder, side=side, place=place)
    shutil.rmtree(place)
    return {
        "images": count,
        "seconds": first["seconds"],
        "peak_unique_mb": first["peak_unique_mb"],
        "steps": first["steps"],
        "again_seconds": again["seconds"],
        "again_steps": again["steps"],
        "ratio_again": again["seconds"] / first["seconds"],
        "ratio_again_file_pass": _file_pass(again) / _file_pass(first),
    }


def _class_folders(source: str, folder: Path, place: Path) -> None:
    listing = list_images(DataConfig(source=source), place)
    for path, label in zip(listing.table["path"], listing.table["label"], strict=True):
        target = folder / str(label) / f"{Path(listing.files.uri).name[-6:]}_{Path(path).name}"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.link(listing.files.local(path), target)


def _prepare(folder: Path, *, side: int, place: Path) -> dict[str, Any]:
    """Run the stage as a user does, and watch the memory that its processes have for themselves."""
    settings = {"data.source": f"folder:{folder}", "data.image_size": side, "storage.root": place / "storage"}
    settings |= {"tracking.uri": f"sqlite:///{place / 'mlflow.db'}"}
    command = [sys.executable, "-m", "pipeline", "prepare", "--config", "smoke", "--json"]
    command += [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    started = time.perf_counter()
    with (place / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        peak = 0
        while process.poll() is None:
            peak = max(peak, _unique_memory(process.pid))
            time.sleep(SAMPLE_SECONDS)
    seconds = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError((place / "log.txt").read_text()[-3000:])
    newest = max((place / "storage" / "prepare").glob("*/data_report.json"), key=lambda path: path.stat().st_mtime)
    steps = json.loads(newest.read_text(encoding="utf-8"))["seconds"]
    return {"seconds": seconds, "peak_unique_mb": peak / 1e6, "steps": steps}


def _file_pass(run: dict[str, Any]) -> float:
    return run["steps"]["listing"] + run["steps"]["hashing"] + run["steps"]["packing"]


def _unique_memory(pid: int) -> int:
    """Bytes that no other process shares, over a process and its children."""
    total = 0
    try:
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                total += process.memory_full_info().uss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue  # it ended while we were asking
    except psutil.NoSuchProcess:
        return 0
    return total
