"""What the training monitor finds in trainings with a planted fault, and what it claims to find in good ones.

    python benchmarks/monitor.py --json
    python benchmarks/monitor.py --grid     # how the good rates were found
    python benchmarks/monitor.py --cost     # what watching costs per step

Small real trainings go through the engine with the monitor on `observe`: a perceptron on scikit-learn's digits and a
convolutional network with batch norm on drawn parts (good, with a hole, with a scratch), each with SGD and with AdamW.
A fault is found where the monitor names its kind at least once, whatever else it names. The thresholds were chosen on
seeds from 100 on; the seeds here are others.

A run is good where nothing is planted: the rate of the lowest validation loss on a grid, a cosine to nearly 0 over as
many epochs as the validation loss keeps falling. Any verdict on it is a false alarm. That the label is honest is
checked on images that neither training nor monitor sees: the loss on them ends at most 5 % above its lowest, and below
three quarters of its value after a quarter of the training.
"""

from __future__ import annotations

import argparse
import collections
import itertools
import json
import math
import statistics
import time
from dataclasses import asdict
from typing import Any

import torch
from monitor_trainings import Outcome, Plant, make_learner, train
from rich.console import Console
from rich.table import Table

from components.data.loader import Batch
from components.evaluation.intervals import exact_rate
from components.models.backbones import build_model
from components.training.engine import Learner, train_epochs
from components.training.watch import MonitorWatcher

#: Of the lowest mean validation loss over two seeds on a grid of half decades, see `--grid`.
GOOD_RATES = {
    ("digits", "sgd"): 0.03,
    ("digits", "adamw"): 0.01,
    ("parts", "sgd"): 0.03,
    ("parts", "adamw"): 0.03,
}
KINDS = ("diverged", "oscillating", "too_slow", "plateau", "overfitting", "spike")


PLANTS = {
    "30x too high": Plant(("diverged", "oscillating"), factor=30),
    "100x too low": Plant(("too_slow",), factor=0.01),
    "plateau": Plant(("plateau",), images=320, epochs=25, schedules=("fixed",), fresh_labels=0.4),
    "overfitting": Plant(("overfitting",), images=160, epochs=40, schedules=("fixed",), wrong_labels=0.4),
    "poisoned batch": Plant(("spike",), poison="labels"),
    "good": Plant(()),
}
#: Not part of the bar: how far from the good rate the rate has to be, and other schedules.
BESIDES = {
    "batch of noise": Plant(("spike",), poison="images"),
    "10x too high": Plant(("diverged", "oscillating"), factor=10),
    "30x too low": Plant(("too_slow",), factor=1 / 30),
    "a third, other schedules": Plant((), factor=1 / 3, epochs=12, schedules=("wsd", "one_cycle", "step", "plateau")),
}


def judge(plants: dict[str, Plant], counts: dict[str, int], first_seed: int) -> dict[str, Any]:
    """Trainings of every plant, over the problems and optimizers in turn, and what the monitor made of them."""
    result: dict[str, Any] = {}
    for name, plant in plants.items():
        started = time.perf_counter()
        settings = itertools.islice(itertools.cycle(GOOD_RATES.items()), counts[name])
        runs = [(key, train(*key, plant, seed, rate=rate)) for seed, (key, rate) in enumerate(settings, first_seed)]
        result[name] = _row(plant, runs) | {"seconds_per_run": (time.perf_counter() - started) / len(runs)}
    return result


def _row(plant: Plant, runs: list[tuple[tuple[str, str], Outcome]]) -> dict[str, Any]:
    outcomes = [outcome for _, outcome in runs]
    named = sum(bool(outcome.kinds & set(plant.true)) for outcome in outcomes)
    besides = sum(bool(outcome.kinds - set(plant.true)) for outcome in outcomes)
    rates = {"detected": named, "other_verdicts": besides} if plant.true else {"false_alarms": besides}
    missed = collections.Counter(
        " ".join(key) for key, outcome in runs if bool(outcome.kinds & set(plant.true)) != bool(plant.true)
    )
    row: dict[str, Any] = {
        "runs": len(runs),
        "verdicts": {kind: sum(kind in outcome.kinds for outcome in outcomes) for kind in KINDS},
        "wrong_by_setting": dict(missed),
    }
    for rate, count in rates.items():
        row[rate] = asdict(exact_rate(count, len(runs), confidence=0.95, unit="run"))
    if not plant.true:
        row["honestly_good"] = sum(outcome.honestly_good for outcome in outcomes)
    return row


def grid(seeds: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Mean validation loss at the end over a grid of half decades, per problem and optimizer."""
    result = {}
    for problem, optimizer in GOOD_RATES:
        losses = {}
        for rate in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3):
            runs = [train(problem, optimizer, PLANTS["good"], seed, rate=rate) for seed in seeds]
            losses[f"{rate:g}"] = statistics.fmean(run.val_losses[-1] if run.val_losses else math.inf for run in runs)
        result[f"{problem} {optimizer}"] = losses
    return result


def cost(steps: int, repeats: int) -> dict[str, Any]:
    """CPU seconds per step of the engine, watched and not, in turn: tf_efficientnet_lite0 at 96 px, batches of 32."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (64, 3, 96, 96), generator=generator, dtype=torch.uint8)
    batch = Batch(pixels[:32], torch.arange(32) % 2, torch.arange(32))
    probe = Batch(pixels, torch.arange(64) % 2, torch.arange(64))
    watcher = MonitorWatcher(
        probe, action="observe", max_rollbacks=1, probe_every=10, total_steps=10_000, chance_loss=math.log(2)
    )
    loops = {"bare": None, "watched": watcher}
    learners = {name: _large_learner() for name in loops}
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(repeats + 1):
        for name, learner in learners.items():
            records = train_epochs(
                learner,
                until=learner.epoch + 1,
                batches=lambda epoch: itertools.repeat(batch, steps),
                evaluate=lambda model: {},
                on_steps=lambda records: None,
                watcher=loops[name],
            )
            started = time.process_time()
            next(records)
            seconds[name].append((time.process_time() - started) / steps)
    ratios = [watched / bare for bare, watched in zip(*(values[1:] for values in seconds.values()), strict=True)]
    spread = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {name: statistics.median(values[1:]) for name, values in seconds.items()} | {"ratio": spread}


def _large_learner() -> Learner:
    built = build_model(
        backbone="tf_efficientnet_lite0", weights="none", num_classes=2, drop_rate=0, drop_path_rate=0, seed=0
    )
    model = built.model.to(memory_format=torch.channels_last)
    return make_learner(model, "adamw", 1e-4, "cosine", 10_000, 0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--planted", type=int, default=20, help="trainings per planted fault")
    parser.add_argument("--good", type=int, default=60, help="good trainings")
    parser.add_argument("--first-seed", type=int, default=5000)
    parser.add_argument("--besides", action="store_true", help="also faults and schedules beside the bar")
    parser.add_argument("--quick", action="store_true", help="one training of each kind")
    parser.add_argument("--grid", action="store_true", help="measure the grid behind the good rates instead")
    parser.add_argument("--cost", action="store_true", help="measure what watching costs instead")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    if arguments.grid or arguments.cost:
        print(json.dumps(grid((100, 101)) if arguments.grid else cost(steps=10, repeats=5)))
        return
    plants = PLANTS | (BESIDES if arguments.besides else {})
    counts = dict.fromkeys(plants, 1 if arguments.quick else arguments.planted)
    if not arguments.quick:
        counts["good"] = arguments.good
    result = judge(plants, counts, arguments.first_seed)
    if arguments.json:
        print(json.dumps(result))
        return
    _show(result)


def _show(result: dict[str, Any]) -> None:
    table = Table("planted", "runs", *KINDS, "found", "false alarms", "s per run")
    for name, row in result.items():
        rates = [_percent(row[rate]) if rate in row else "" for rate in ("detected", "false_alarms")]
        counts = [str(row["verdicts"][kind]) for kind in KINDS]
        table.add_row(name, str(row["runs"]), *counts, *rates, f"{row['seconds_per_run']:.1f}")
    console = Console(width=160)
    console.print(table)
    for name, row in result.items():
        if row["wrong_by_setting"]:
            console.print(f"{name}: wrong {row['wrong_by_setting']}")
    console.print(f"good runs whose label was confirmed: {result['good']['honestly_good']} of {result['good']['runs']}")


def _percent(rate: dict[str, Any]) -> str:
    return f"{rate['value']:.0%} ({rate['low']:.0%} to {rate['high']:.0%})"


if __name__ == "__main__":
    main()
