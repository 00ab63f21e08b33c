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
import math
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
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
from rich.console import Console
from rich.table import Table

from components.evaluation.blending import fit_blend
from components.evaluation.intervals import exact_rate
from components.evaluation.operating_point import Evidence, OperatingPoint, choose_operating_point

BUDGET, CONFIDENCE = 0.1, 0.95
SETTINGS = (
    Setting("images independent", parts=500, images_per_part=1, defective=0.3, wrong_labels=0.0),
    Setting("six images a part", parts=120, images_per_part=6, defective=0.5, wrong_labels=0.0),
    Setting("few defectives, 3 % wrong labels", parts=800, images_per_part=1, defective=0.15, wrong_labels=0.03),
)
FOLDS = (3, 5)
RECIPE, OTHER_RECIPE = Recipe(width=16, rate=0.03, epochs=10), Recipe(width=24, rate=0.03, epochs=8)
PENALTY = 3.0
VIEWS = 2
#: Share of the images that the hold-out design sets aside for the threshold.
HELD_OUT_SHARE = 0.25
FRESH_DEFECTIVE, FRESH_GOOD = 15_000, 3_000
#: Runs that are trained together.
TOGETHER = 50


@dataclass(frozen=True)
class Scored:
    """Log-odds of one run: of its images, each by a model that has not seen it, and of fresh ones by the delivered."""

    own: np.ndarray
    fresh_defective: np.ndarray
    fresh_good: np.ndarray


@dataclass(frozen=True)
class Result:
    """One run of one way. escape: share of fresh defective units; overkill: share of fresh good images."""

    certified: bool
    escape: float
    overkill: float


@dataclass(frozen=True)
class Labels:
    """Of one run."""

    is_defect: np.ndarray
    groups: np.ndarray
    fresh_groups: np.ndarray


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
    images = draw(setting, runs=runs, generator=generator)
    defective = draw_fresh(setting, runs=runs, images=FRESH_DEFECTIVE, defective=True, generator=generator)
    good = draw_fresh(setting, runs=runs, images=FRESH_GOOD, defective=False, generator=generator)
    everything = torch.ones_like(images.is_defect)[:, None]
    kept = assign_folds(images, round(1 / HELD_OUT_SHARE), generator)[:, None] != 0
    sets = [images, defective, good]
    whole = _log_odds(train(images, everything, RECIPE, generator), sets)
    whole_linear = _log_odds(train_linear(images, everything, penalty=PENALTY), sets)
    held_out = _log_odds(train(images, kept, RECIPE, generator), sets)
    labels = [
        Labels(images.is_defect[run].numpy(), images.groups.numpy(), defective.groups.numpy()) for run in range(runs)
    ]
    for run in range(runs):
        single = Scored(*(part[run][0] for part in whole))
        yield ("naive: training scores, one model", 0), _naive(single, labels[run])
        rows = ~kept[run, 0].numpy()
        yield ("hold-out", 0), _held_out(Scored(*(part[run][0] for part in held_out)), labels[run], rows)
    for folds in FOLDS:
        numbers = assign_folds(images, folds, generator)
        used = torch.stack([numbers != fold for fold in range(folds)], dim=1)
        members = train(images, used, RECIPE, generator)
        plain = _log_odds(members, sets)
        viewed = _views(members, sets, plain, generator)
        other = _log_odds(train(images, used, OTHER_RECIPE, generator), sets)
        linear = _log_odds(train_linear(images, used, penalty=PENALTY), sets)
        for run in range(runs):
            fold = numbers[run].numpy()
            one = Scored(*(part[run][0] for part in whole))
            one_linear = Scored(*(part[run][0] for part in whole_linear))
            members_of = [[part[run] for part in kind] for kind in (plain, other, viewed, linear)]
            for way, result in _cross_fitted(members_of, one, one_linear, labels[run], fold):
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


def _naive(scored: Scored, labels: Labels) -> Result:
    """The highest threshold at which no more than the budget's share of the images at hand escapes."""
    units = _lowest(scored.own[labels.is_defect], labels.groups[labels.is_defect])
    threshold = np.sort(units)[math.floor(BUDGET * units.size)]
    return _decide(float(threshold), True, scored, labels)


def _held_out(scored: Scored, labels: Labels, rows: np.ndarray) -> Result:
    point = choose_operating_point(
        scored.own[rows],
        labels.is_defect[rows],
        escape_budget=BUDGET,
        confidence=CONFIDENCE,
        groups=labels.groups[rows],
        evidence=Evidence("held_out", folds=0, choices=1),
        folds=None,
    )
    return _decide(point.threshold_log_odds, point.certified, scored, labels)


def _cross_fitted(
    members: list[list[np.ndarray]], whole: Scored, whole_linear: Scored, labels: Labels, folds: np.ndarray
) -> Iterator[tuple[str, Result]]:
    """members: of the recipe, of another, of the first with views, of the linear model: own and fresh (M, N)."""
    plain, other, viewed, linear = ([_own(kind[0], folds), *kind[1:]] for kind in members)
    ensemble = Scored(plain[0], plain[1].mean(axis=0), plain[2].mean(axis=0))
    single = Scored(plain[0], whole.fresh_defective, whole.fresh_good)
    yield "naive: out-of-fold scores, ensemble", _naive(ensemble, labels)
    point = _point(plain[0], labels, folds, "out_of_fold", choices=1)
    yield "members, on average", _average(point, plain, labels)
    yield "ensemble", _decide(point.threshold_log_odds, point.certified, ensemble, labels)
    point = _point(plain[0], labels, folds, "transferred", choices=1)
    yield "one model on all", _decide(point.threshold_log_odds, point.certified, single, labels)
    for choices in (1, 2):
        points = [_point(kind[0], labels, folds, "out_of_fold", choices=choices) for kind in (plain, other)]
        better = min((0, 1), key=lambda index: points[index].overkills)
        chosen, point = (plain, other)[better], points[better]
        note = "with" if choices == 2 else "without"
        yield f"better of two recipes, {note} union bound: members, on average", _average(point, chosen, labels)
        both = Scored(chosen[0], chosen[1].mean(axis=0), chosen[2].mean(axis=0))
        yield (
            f"better of two recipes, {note} union bound: ensemble",
            _decide(point.threshold_log_odds, point.certified, both, labels),
        )
    yield from _blended(plain, viewed, linear, labels, folds)


def _blended(
    plain: list[np.ndarray], viewed: list[np.ndarray], linear: list[np.ndarray], labels: Labels, folds: np.ndarray
) -> Iterator[tuple[str, Result]]:
    """Views and weights of the blend are chosen on the scores that certify."""
    best = min((plain, viewed), key=lambda kind: _log_loss(kind[0], labels.is_defect))
    scores = np.stack([_log_probabilities(best[0]), _log_probabilities(linear[0])])
    blend = fit_blend(scores, labels.is_defect.astype(int), folds, groups=labels.groups)
    own = blend.blended[:, 1] - blend.blended[:, 0]
    fresh = [
        blend.weights[0] * best[kind].mean(axis=0) + blend.weights[1] * linear[kind].mean(axis=0) for kind in (1, 2)
    ]
    point = _point(own, labels, folds, "out_of_fold", choices=1)
    yield (
        "blend and views chosen: ensemble",
        _decide(point.threshold_log_odds, point.certified, Scored(own, *fresh), labels),
    )


def _point(scores: np.ndarray, labels: Labels, folds: np.ndarray, kind: Any, *, choices: int) -> OperatingPoint:  # noqa: ANN401
    return choose_operating_point(
        scores,
        labels.is_defect,
        escape_budget=BUDGET,
        confidence=CONFIDENCE,
        groups=labels.groups,
        evidence=Evidence(kind, folds=int(folds.max()) + 1, choices=choices),
        folds=folds,
    )


def _decide(threshold: float, certified: bool, scored: Scored, labels: Labels) -> Result:
    units = _lowest(scored.fresh_defective, labels.fresh_groups)
    return Result(certified, float((units < threshold).mean()), float((scored.fresh_good >= threshold).mean()))


def _average(point: OperatingPoint, kind: list[np.ndarray], labels: Labels) -> Result:
    """Of the members one by one: what the bound is for."""
    each = [
        _decide(point.threshold_log_odds, point.certified, Scored(kind[0], defective, good), labels)
        for defective, good in zip(kind[1], kind[2], strict=True)
    ]
    return Result(
        point.certified,
        float(np.mean([result.escape for result in each])),
        float(np.mean([result.overkill for result in each])),
    )


def _own(scores: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """(N,) out of fold, of (M, N)."""
    return scores[folds, np.arange(folds.size)]


def _lowest(scores: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The lowest score of each run of equal groups."""
    starts = np.flatnonzero(np.append(True, groups[1:] != groups[:-1]))
    return np.minimum.reduceat(scores, starts)


def _log_probabilities(log_odds: np.ndarray) -> np.ndarray:
    return np.stack([-np.logaddexp(0, log_odds), -np.logaddexp(0, -log_odds)], axis=1)


def _log_loss(log_odds: np.ndarray, is_defect: np.ndarray) -> float:
    return float(np.logaddexp(0, np.where(is_defect, -log_odds, log_odds)).mean())


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
    result = {"budget": BUDGET, "confidence": CONFIDENCE, "seconds": time.process_time() - started, "settings": rows}
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
