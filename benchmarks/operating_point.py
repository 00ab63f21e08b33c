"""How often a certified escape budget is broken on fresh images, by how the threshold was found and what is delivered.

    python benchmarks/operating_point.py --json
    python benchmarks/operating_point.py --runs 200 --setting "six images a part"

In each run small real models are trained on a few hundred drawn images (`operating_point_trainings`), the product's
code chooses the threshold, and what is delivered decides on fresh images. A budget is broken where more than its share
of fresh defective units escape. Of runs whose threshold is certified at 95 %, no more than 5 % may break it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from operating_point_trainings import (
    VIEW_NOISE,
    Images,
    Networks,
    Recipe,
    Setting,
    assign_folds,
    draw,
    draw_fresh,
    train,
    train_linear,
)
from operating_point_ways import BUDGET, CONFIDENCE, Labels, Result, Scored, cross_fitted, held_out, naive
from rich.console import Console
from rich.table import Table

from components.evaluation.intervals import exact_rate

SHORT = "short trainings, 3 % wrong labels"
SETTINGS = (
    Setting("images independent", parts=500, images_per_part=1, defective=0.3, wrong_labels=0.0),
    Setting("six images a part", parts=120, images_per_part=6, defective=0.5, wrong_labels=0.0),
    Setting(SHORT, parts=500, images_per_part=1, defective=0.3, wrong_labels=0.03),
)
FOLDS = (3, 5)
#: With which recipes are compared, and views and a blend chosen.
CHOOSING_FOLDS = 3
RECIPE, OTHER_RECIPE = Recipe(width=16, rate=0.03, epochs=10), Recipe(width=24, rate=0.03, epochs=8)
#: Far from the end: more images, and so more steps, make it surer of itself.
SHORT_RECIPE = Recipe(width=16, rate=0.01, epochs=5)
PENALTY = 3.0
VIEWS = 2
#: Share of the images that the hold-out design sets aside for the threshold.
HELD_OUT_SHARE = 0.25
FRESH_DEFECTIVE, FRESH_GOOD = 15_000, 3_000
#: Runs that are trained together.
TOGETHER = 50


def measure(setting: Setting, *, runs: int, seed: int) -> list[dict[str, Any]]:
    """A row for each way and number of folds."""
    generator = torch.Generator().manual_seed(seed)
    found: dict[tuple[str, int], list[Result]] = defaultdict(list)
    for first in range(0, runs, TOGETHER):
        count = min(TOGETHER, runs - first)
        for key, result in _together(setting, count, generator):
            found[key].append(result)
    return [_row(way, folds, results) for (way, folds), results in found.items()]


def _together(setting: Setting, runs: int, generator: torch.Generator) -> Iterator[tuple[tuple[str, int], Result]]:
    recipe = SHORT_RECIPE if setting.name == SHORT else RECIPE
    images = draw(setting, runs=runs, generator=generator)
    defective = draw_fresh(setting, runs=runs, images=FRESH_DEFECTIVE, defective=True, generator=generator)
    good = draw_fresh(setting, runs=runs, images=FRESH_GOOD, defective=False, generator=generator)
    everything = torch.ones_like(images.is_defect)[:, None]
    kept = assign_folds(images, round(1 / HELD_OUT_SHARE), generator)[:, None] != 0
    sets = [images, defective, good]
    whole = _log_odds(train(images, everything, recipe, generator), sets)
    apart = _log_odds(train(images, kept, recipe, generator), sets)
    labels = [
        Labels(images.is_defect[run].numpy(), images.groups.numpy(), defective.groups.numpy()) for run in range(runs)
    ]
    for run in range(runs):
        single = Scored(*(part[run][0] for part in whole))
        yield ("naive: training scores, one model", 0), naive(single, labels[run])
        rows = ~kept[run, 0].numpy()
        yield ("hold-out", 0), held_out(Scored(*(part[run][0] for part in apart)), labels[run], rows)
    for folds in FOLDS:
        numbers = assign_folds(images, folds, generator)
        used = torch.stack([numbers != fold for fold in range(folds)], dim=1)
        members = train(images, used, recipe, generator)
        kinds = [_log_odds(members, sets)]
        if folds == CHOOSING_FOLDS:
            kinds.append(_log_odds(train(images, used, OTHER_RECIPE, generator), sets))
            kinds.append(_views(members, sets, kinds[0], generator))
            kinds.append(_log_odds(train_linear(images, used, penalty=PENALTY), sets))
        for run in range(runs):
            fold = numbers[run].numpy()
            one = Scored(*(part[run][0] for part in whole))
            members_of = [[part[run] for part in kind] for kind in kinds]
            for way, result in cross_fitted(members_of, one, labels[run], fold):
                yield (way, folds), result


def _log_odds(networks: Networks, sets: list[Images]) -> list[list[np.ndarray]]:
    """For each set of images and run: (M, N)."""
    runs = range(len(networks.bias))
    slices = [Networks(*(value[run : run + 1] for value in vars(networks).values())) for run in runs]
    return [[slices[run].log_odds(part.features[run : run + 1])[0].numpy() for run in runs] for part in sets]


def _views(
    networks: Networks, sets: list[Images], plain: list[list[np.ndarray]], generator: torch.Generator
) -> list[list[np.ndarray]]:
    """The mean over the plain image and noisy copies."""
    total = [[values.copy() for values in part] for part in plain]
    for _ in range(VIEWS - 1):
        noisy = [
            Images(
                part.features + VIEW_NOISE * torch.randn(part.features.shape, generator=generator),
                part.is_defect,
                part.groups,
            )
            for part in sets
        ]
        for sums, values in zip(total, _log_odds(networks, noisy), strict=True):
            for run, value in enumerate(values):
                sums[run] += value
    return [[values / VIEWS for values in part] for part in total]


def _row(way: str, folds: int, results: list[Result]) -> dict[str, Any]:
    kept = [result for result in results if result.certified]
    broken = sum(result.escape > BUDGET for result in kept)
    rate = exact_rate(broken, len(kept), confidence=0.95, unit="run")
    means = {
        name: float(np.mean([getattr(result, name) for result in kept])) if kept else None
        for name in ("escape", "overkill")
    }
    return {
        "way": way,
        "folds": folds,
        "runs": len(results),
        "certified": len(kept) / len(results),
        "broken": asdict(rate),
        "mean_escape_rate": means["escape"],
        "mean_overkill_rate": means["overkill"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="of each setting")
    parser.add_argument("--setting", choices=[setting.name for setting in SETTINGS], help="one alone")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    rows = {
        setting.name: measure(setting, runs=arguments.runs, seed=arguments.seed)
        for setting in SETTINGS
        if arguments.setting in (None, setting.name)
    }
    result = {
        "made_by": "python benchmarks/operating_point.py --json",
        "budget": BUDGET,
        "confidence": CONFIDENCE,
        "seconds": time.process_time() - started,
        "settings": rows,
    }
    print(json.dumps(result)) if arguments.json else _show(result)


def _show(result: dict[str, Any]) -> None:
    console = Console(width=160)
    for name, rows in result["settings"].items():
        table = Table("way", "folds", "certified", "broken", "mean escape", "mean overkill", title=name)
        for row in rows:
            broken = row["broken"]
            shown = [""] * 3
            if broken["denominator"]:
                shown = [
                    f"{broken['value']:.1%} ({broken['low']:.1%} to {broken['high']:.1%})",
                    f"{row['mean_escape_rate']:.1%}",
                    f"{row['mean_overkill_rate']:.1%}",
                ]
            table.add_row(row["way"], str(row["folds"] or ""), f"{row['certified']:.0%}", *shown)
        console.print(table)
    console.print(f"{result['seconds']:.0f} s of one core")


if __name__ == "__main__":
    main()
