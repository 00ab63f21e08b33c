"""What a search costs beside its trials: starting them, deciding, keeping the journal and the checkpoints.

    python benchmarks/search_overhead.py --json

Trials of a fixed length in seconds run through the real tuner on a Ray of this machine. They sleep, so that the cores
that are measured with do not take part in the result: what is measured is the slots' time in which no trial worked,

    (wall × slots − time in trials) / (wall × slots),

from the first order to the end, Ray's own start left out, the start of the workers counted in. In the same run, with
the same trials: Ray Tune by itself, a class trainable with the same sleep and the same checkpoint, without any of ours.
The ratio of the two is what we add.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from ray import tune
from rich.console import Console
from rich.table import Table

from components.cluster import ray_session
from components.search.journal import Journal
from components.search.rungs import Rungs
from components.search.state import Limits, SearchState
from components.search.trial import Suggestion, TrialRecord
from components.search.tuner import TuneSettings, run_trials

EPOCHS = 10
CHECKPOINT_BYTES = 20_000_000  # weights and optimizer of a small network


class Sleeper:
    """A trial that sleeps, and says when it began."""

    def __init__(self, suggestion: Suggestion, *, seconds: float) -> None:
        self._seconds, self._epoch, self._opened = seconds, 0, time.time()

    def next_epoch(self) -> dict[str, Any]:
        self._epoch += 1
        time.sleep(self._seconds)
        metrics = {"opened": self._opened, "ended": time.time()}
        return {"epoch": self._epoch, "score": 0.5, "diverged": False, "metrics": metrics}

    def save(self, folder: Path) -> None:
        (folder / "state.bin").write_bytes(os.urandom(CHECKPOINT_BYTES))

    def load(self, folder: Path) -> None:
        """Never called: no trial of this benchmark is interrupted."""

    def close(self) -> None: ...


class Plain(tune.Trainable):
    """The same for Tune alone."""

    def setup(self, config: dict[str, Any]) -> None:
        self._seconds, self._epoch, self._opened = config["seconds"], 0, time.time()

    def step(self) -> dict[str, Any]:
        self._epoch += 1
        time.sleep(self._seconds)
        done = self._epoch == EPOCHS
        return {"score": 0.5, "done": done, "opened": self._opened, "ended": time.time(), "should_checkpoint": done}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        Path(checkpoint_dir, "state.bin").write_bytes(os.urandom(CHECKPOINT_BYTES))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True


class AnyTrial:
    """A sampler that suggests the same over and over."""

    def suggest(self, number: int, history: list[TrialRecord]) -> Suggestion:
        return Suggestion(point={}, overrides={}, epochs=EPOCHS)


def ours(folder: Path, *, trials: int, slots: int, seconds: float) -> dict[str, float]:
    """Overhead and starts of trials through our tuner."""
    journal = Journal(folder / "journal.jsonl")
    state = SearchState(
        journal,
        AnyTrial(),
        Limits(num_trials=trials, seconds=None, gpu_seconds=None, failure_limit=1.0),
        defaults=Suggestion(point={}, overrides={}, epochs=EPOCHS),
        concurrent=slots,
        gpus_per_trial=0,
        unstopped_fraction=0,
        seed=0,
        clock=time.monotonic,
    )
    settings = TuneSettings(
        storage=str(folder),
        checkpoint_epochs=Rungs(1, 3, EPOCHS).epochs,
        cpus_per_trial=1,
        gpus_per_trial=0,
        timeout=600,
        quota_bytes=1e12,
    )
    started = time.time()
    opener = functools.partial(Sleeper, seconds=seconds / EPOCHS)
    run_trials(state, opener, [], settings, rule=None)
    wall = time.time() - started
    spans = [(r.metrics[1]["opened"], r.metrics[EPOCHS]["ended"]) for r in state.records]
    return figures(spans, wall, started, slots=slots, compute=trials * seconds)


def plain(folder: Path, *, trials: int, slots: int, seconds: float) -> dict[str, float]:
    """The same of Ray Tune by itself."""
    started = time.time()
    analysis = tune.run(
        Plain,
        config={"seconds": seconds / EPOCHS},
        num_samples=trials,
        resources_per_trial={"cpu": 1},
        storage_path=str(folder),
        reuse_actors=True,
        max_concurrent_trials=slots,
        verbose=0,
    )
    wall = time.time() - started
    spans = [(trial.last_result["opened"], trial.last_result["ended"]) for trial in analysis.trials]
    return figures(spans, wall, started, slots=slots, compute=trials * seconds)


def figures(
    spans: list[tuple[float, float]], wall: float, started: float, *, slots: int, compute: float
) -> dict[str, float]:
    """spans: when each trial's session was opened, and when its last epoch ended, seconds.

    A start is the time from the end of one trial to the opening of the next on a slot: the n-th opening after the first
    ones follows the n-th end.
    """
    opened, ended = sorted(begin for begin, _ in spans), sorted(end for _, end in spans)
    gaps = [begin - end for begin, end in zip(opened[slots:], ended, strict=False)]
    return {
        "overhead": (wall * slots - compute) / (wall * slots),
        "first_start_seconds": opened[0] - started,
        "median_start_seconds": statistics.median(gaps),
        "longest_start_seconds": max(gaps),
        "wall_seconds": wall,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--slots", type=int, default=2, help="trials at a time")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of a trial")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sizes = {"trials": arguments.trials, "slots": arguments.slots, "seconds": arguments.seconds}
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    with tempfile.TemporaryDirectory() as folder, ray_session(address=None, num_cpus=arguments.slots, num_gpus=0):
        sides = {}
        for name, side in (("ours", ours), ("ray tune alone", plain)):
            place = Path(folder, name.replace(" ", "-"))
            place.mkdir()
            sides[name] = side(place, **sizes)
    result = {**sizes, **sides, "wall_ratio": sides["ours"]["wall_seconds"] / sides["ray tune alone"]["wall_seconds"]}
    if arguments.json:
        print(json.dumps(result))
        return
    table = Table(title=f"{arguments.trials} trials of {arguments.seconds:g} s, {arguments.slots} at a time")
    for column in ("", "overhead", "first start", "median start", "longest start"):
        table.add_column(column, justify="right")
    for name, side in sides.items():
        starts = (
            f"{side[key]:.2f} s" for key in ("first_start_seconds", "median_start_seconds", "longest_start_seconds")
        )
        table.add_row(name, f"{side['overhead']:.1%}", *starts)
    Console().print(table)


if __name__ == "__main__":
    main()
