"""How good the pipeline's models are for the time that they take, beside a bare training loop.

    python benchmarks/quality.py --json

On each set (`quality_sets`) the pipeline is started as a user does, in a new storage, with the demo's configuration of
that set and with half and three times its training's length; the loop (`quality_loop`, plain, without search or
certificate) takes turns with it, at four sides and lengths. Both have the same weights and the same test
images. Reported are medians over the seeds, and seconds as multiples of the loop's eight epochs at 128 px of the same
sitting; those of the first model count from the start of the command. `--budgets 1min 10min` adds runs with such a
`--budget`, each beside a loop of as many epochs as that time allows, and the best of the loops within it.

A machine that does nothing else needs four hours for two sets; `--folder PATH` keeps each finished command, so that a
second call with the same settings goes on. `--output PATH` writes the results, `--results PATH` takes them from there
and measures nothing, and `--figure PATH` draws quality over time.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import quality_measures as measures
from quality_figure import draw
from quality_runs import LENGTHS, PACE, REFERENCE, SIDE, VIEWS, Loop, loop_within, run_loop, run_ours
from quality_sets import X_SDD, ImageSet, Split, find_sets, make_split
from rich.console import Console
from rich.table import Table

from pipeline.cli import parse_overrides
from pipeline.compute.resources import cpu_count
from pipeline.loading import load
from pipeline.sections.time import seconds_of

LOOPS = (Loop(128, 3), Loop(128, 8), Loop(176, 6), Loop(224, 8))
MEASURES = ("auroc", "average_precision", "balanced_accuracy", "overkill", "overkill_at_budget", "escape_rate")
TOLD = (*MEASURES, "seconds", "ratio", "latency_ms")

Rows = list[dict[str, Any]]


def main() -> None:
    arguments = _arguments()
    if arguments.results is not None:
        result = json.loads(arguments.results.read_text(encoding="utf-8"))
    else:
        with tempfile.TemporaryDirectory(prefix="escapement-bench-") as name:
            result = _measure(arguments, arguments.folder or Path(name))
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if arguments.figure is not None:
        draw(result).savefig(arguments.figure, dpi=200)
    if arguments.json:
        print(json.dumps(result))
    else:
        _show(result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sets",
        nargs="+",
        default=["elpv", "x_sdd", "parts", "small"],
        metavar="SET",
        help="elpv, x_sdd, parts, small, a shipped configuration or one of your own, or the manifest.parquet of a run",
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument(
        "--ours", nargs="*", choices=LENGTHS, default=list(LENGTHS), help="lengths of the pipeline's run"
    )
    parser.add_argument("--budgets", nargs="*", default=[], metavar="TIME", help="runs of ours with such a budget")
    parser.add_argument(
        "--loop", nargs="*", type=_loop, default=LOOPS, metavar="SIDExEPOCHS", help="settings of the loop"
    )
    parser.add_argument("--loop-lr", type=float, default=1e-3, help="the loop's highest learning rate")
    parser.add_argument("--set", action="append", default=[], help="override of each set's configuration, as key=value")
    parser.add_argument("--x-sdd", type=Path, default=X_SDD, help="folder of X-SDD's class folders")
    parser.add_argument("--folder", type=Path, help="where finished commands are kept and taken from")
    parser.add_argument("--results", type=Path, help="show the results in this file")
    parser.add_argument("--output", type=Path, help="write the results to this file")
    parser.add_argument("--figure", type=Path, help="draw quality over time into this file")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _loop(text: str) -> Loop:
    size, _, epochs = text.partition("x")
    return Loop(int(size), int(epochs))


def _measure(arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    chosen = find_sets(arguments.sets, x_sdd=arguments.x_sdd, changes=parse_overrides(arguments.set))
    return {
        "cores": cpu_count(),
        "reference": REFERENCE,
        "sets": {one.name: _measure_set(one, arguments, (place / one.name).resolve()) for one in chosen},
    }


def _measure_set(images: ImageSet, arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    split, digest = make_split(images, place), settings_digest(images, loop_lr=arguments.loop_lr)
    rows: Rows = []

    def add(name: str, seed: int, run: Callable[[Path], Rows]) -> None:
        kept = place / f"{name} {seed} {digest}.json"
        if not kept.exists():
            with tempfile.TemporaryDirectory(prefix="escapement-bench-") as work:
                found = run(Path(work) / "run")
            kept.write_text(json.dumps(found), encoding="utf-8")
        rows.extend(json.loads(kept.read_text(encoding="utf-8")))

    for seed in arguments.seeds:
        for name, run in _turns(images, split, seed, arguments):
            add(name, seed, run)
        for budget in arguments.budgets:
            loop = loop_within(budget, [row for row in rows if row["seed"] == seed])
            add(f"ours {budget}", seed, lambda at, it=budget, s=seed: run_ours(images, split, it, s, at))
            add(f"loop {loop.name}", seed, lambda at, it=loop, s=seed: run_loop(split, it, s, at, lr=arguments.loop_lr))
    tested, medians = split.tested, summarise(rows)
    return {
        "images": len(split.table),
        "tested": len(tested),
        "tested_defective": int(tested["is_defect"].sum()) if split.has_good else None,
        "rows": rows,
        "medians": medians,
        "budgets": [beside_loops(budget, medians, ranks=split.has_good) for budget in arguments.budgets],
    }


def settings_digest(images: ImageSet, *, loop_lr: float) -> str:
    """Of all that a result depends on beside the name and the seed of its command."""
    config = load(images.config, images.changes).model_dump(mode="json")
    return hashlib.sha256(json.dumps([config, loop_lr], sort_keys=True).encode()).hexdigest()[:12]


def _turns(
    images: ImageSet, split: Split, seed: int, arguments: argparse.Namespace
) -> list[tuple[str, Callable[[Path], Rows]]]:
    """Name and command of each measurement of a seed, the pipeline's and the loop's in turn."""
    ours = [
        (f"ours {length}", lambda at, it=length: run_ours(images, split, it, seed, at)) for length in arguments.ours
    ]
    loops = dict.fromkeys([*arguments.loop, *(PACE if arguments.budgets else ())])
    loop = [
        (f"loop {one.name}", lambda at, it=one: run_loop(split, it, seed, at, lr=arguments.loop_lr)) for one in loops
    ]
    both = [pair for pair in zip(ours, loop, strict=False) for pair in pair]
    return both + ours[len(loop) :] + loop[len(ours) :]


def summarise(rows: Rows) -> dict[str, dict[str, Any]]:
    """Medians over the seeds, by what was run. ratio: of its seconds to those of the reference of the same seed."""
    unit = {row["seed"]: row["seconds"] for row in rows if row["who"] == f"loop, {REFERENCE}"}
    for row in rows:
        row["ratio"] = row["seconds"] / unit[row["seed"]] if row["seed"] in unit else None
    found: dict[str, dict[str, Any]] = {}
    for who in dict.fromkeys(row["who"] for row in rows):
        own = [row for row in rows if row["who"] == who]
        found[who] = {key: measures.median([row.get(key) for row in own]) for key in TOLD}
        found[who] |= {"seeds": len(own), "threshold": own[0]["threshold"]}
        if "certified" in own[0]:
            found[who] |= {key: sum(bool(row[key]) for row in own) for key in ("certified", "kept")}
            found[who]["budget"] = own[0]["budget"]
    return found


def beside_loops(budget: str, medians: dict[str, dict[str, Any]], *, ranks: bool) -> dict[str, Any]:
    """A run of ours with a budget, and the best of the loops that took no longer than it, with one view or with eight.

    kept: seconds of ours as a share of the budget. ranks: whether models are compared by AUROC, else by balanced
    accuracy. A loop that was made for this time counts, though it may have taken a little longer.
    """
    seconds, key = seconds_of(budget), "auroc" if ranks else "balanced_accuracy"
    ours = medians[f"ours, {budget}"]
    own = {f"loop, {Loop(SIDE, 0, budget).name}{views}" for views in ("", VIEWS)}
    within = {
        who: row[key]
        for who, row in medians.items()
        if who.startswith("loop, ") and (row["seconds"] <= seconds or who in own)
    }
    best = max(within, key=lambda who: within[who])
    return {
        "budget": budget,
        "measure": key,
        "ours": ours[key],
        "loop": within[best],
        "loops_setting": best.removeprefix("loop, "),
        "kept": ours["seconds"] / seconds,
    }


def _show(result: dict[str, Any]) -> None:
    console = Console()
    for name, found in result["sets"].items():
        defective = "" if found["tested_defective"] is None else f", {found['tested_defective']} of them defective"
        table = Table(
            "", "seconds", "of the loop's", "AUROC", "average precision", "balanced accuracy",
            f"overkill at {measures.ESCAPES:.0%} escapes", "overkill at the budget", "certified, kept", "ms an image",
            title=f"{name}: {found['images']:,} images, {found['tested']} for the test{defective}",
        )  # fmt: skip
        for who, row in found["medians"].items():
            table.add_row(who, *_cells(row))
        console.print(table)
        for row in found["budgets"]:
            console.print(
                f"{row['budget']}: {row['measure']} {row['ours']:.3f} in {row['kept']:.2f} of the time; the best loop "
                f"within it {row['loop']:.3f} ({row['loops_setting']})"
            )
    console.print(
        "Medians of the seeds. Balanced accuracy with * is at the threshold that suits the test best. Kept: no more of "
        "the test's defectives escaped than the budget allows."
    )


def _cells(row: dict[str, Any]) -> Sequence[str]:
    def number(key: str, form: str = ".3f") -> str:
        return "–" if row[key] is None else format(row[key], form)

    mark = "*" if row["threshold"] == "the test's best" else ""
    seeds = row["seeds"]
    budget = f"{row['certified']}, {row['kept']} of {seeds}, at {row['budget']:.0%}" if "certified" in row else "–"
    return (
        number("seconds", ".0f"), number("ratio", ".2f"), number("auroc"), number("average_precision"),
        number("balanced_accuracy") + mark, number("overkill"), number("overkill_at_budget"), budget,
        number("latency_ms", ".1f"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
