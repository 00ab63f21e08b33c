"""How good and how fast a search is, simulated: our samplers, stopping rules and journal over learning curves.

    python benchmarks/search_simulation.py --json
    python benchmarks/search_simulation.py --part stopping --figure curves.png    # regret against epochs
    python benchmarks/search_simulation.py --part bandit
    python benchmarks/search_simulation.py --part speed

1 to 1,000 simulated workers run what the real state orders (`search_workers`), on problems with a known best and on
curves of real trainings (`search_landscapes`, `search_curves`). Regret: how much the chosen recipe scores, on average
over trainings, below the best one. The parts:

- stopping: the epochs that ASHA needs for the regret of the same search without stopping, at 16 to 500 trials
  (`search_stopping`); hyperband and the median rule beside it, and how long searches take by the number of workers; at
  up to 64 trials on three times as many seeds;
- bandit: the Lipschitz bandit beside random, TPE, hybrid and grid, at 8 and 20 trials of the rate alone
  (`search_bandit`), on 16 and 4 times as many seeds;
- portfolio: hybrid with and without the portfolio and the stop below the noise, at 7, 16 and 32 trials
  (`search_portfolio`), on three times as many seeds;
- speed: decisions per second of each sampler, and one search of 10,000 trials (`search_speed`).

All of it takes a quarter of an hour on one core. `--quick` ends in seconds and says nothing about quality.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import search_bandit
import search_portfolio
import search_speed
import search_stopping
from rich.console import Console
from rich.table import Table

PARTS = ("stopping", "bandit", "portfolio", "speed")
SEEDS = 60
QUICK_SEEDS, QUICK_LARGE = 2, 200


def main() -> None:
    arguments = _arguments()
    parts = PARTS if arguments.part is None else (arguments.part,)
    seeds = QUICK_SEEDS if arguments.quick else arguments.seeds
    result: dict[str, Any] = {"seeds": seeds, "verdicts": {}}
    if "stopping" in parts:
        studies = search_stopping.studies()
        if arguments.quick:
            studies = [study.shrunk() for study in studies[2:]]
        result["stopping"] = [search_stopping.measure(study, seeds=seeds) for study in studies]
        result["verdicts"] |= search_stopping.verdicts(result["stopping"])
        if arguments.figure is not None:
            search_stopping.draw_curves(result["stopping"], arguments.figure)
    if "bandit" in parts:
        result["bandit"] = [
            search_bandit.measure(name, problem, trials=trials, seeds=seeds * (1 if arguments.quick else times))
            for name, problem in search_bandit.problems().items()
            for trials, times in search_bandit.BUDGETS.items()
        ]
        result["verdicts"] |= search_bandit.verdicts(result["bandit"])
    if "portfolio" in parts:
        result["portfolio"] = [
            row
            for trials in search_portfolio.TRIALS
            for row in search_portfolio.measure(trials, seeds=seeds * (1 if arguments.quick else 3))
        ]
    if "speed" in parts:
        trials = search_speed.TRIALS[:1] if arguments.quick else search_speed.TRIALS
        large = QUICK_LARGE if arguments.quick else search_speed.LARGE.trials
        result["speed"] = {
            "samplers": [search_speed.measure(name, count) for name in search_speed.SAMPLERS for count in trials],
            "large": search_speed.measure_large(large),
        }
    if arguments.json:
        print(json.dumps(result))
    else:
        _show(result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", choices=PARTS, help="one part alone")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, help=f"problems, and searches of the largest kind ({SEEDS})"
    )
    parser.add_argument("--quick", action="store_true", help="two seeds and small searches: does it run")
    parser.add_argument("--figure", type=Path, help="stopping: draw regret against epochs into this file")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _show(result: dict[str, Any]) -> None:
    console = Console()
    for study in result.get("stopping", []):
        console.print(_stopping_table(study))
    if "bandit" in result:
        console.print(_bandit_table(result["bandit"]))
    if "portfolio" in result:
        console.print(_portfolio_table(result["portfolio"]))
    if "speed" in result:
        console.print(_speed_table([*result["speed"]["samplers"], result["speed"]["large"]]))
        console.print(f"the last one: {result['speed']['large']['peak_megabytes_more']:.0f} MB of memory")
    for name, verdict in result["verdicts"].items():
        console.print(f"{'met' if verdict['met'] else 'NOT MET'}: {name}: {verdict['measured']}")


def _stopping_table(study: dict[str, Any]) -> Table:
    table = Table(
        "trials", "workers", "rule", "needed", "in all", "least", "regret's difference", "time",
        title=f"{study['study']}, {study['seeds']} seeds: shares of the epochs of the search without stopping",
        caption="*: a tenth of the trials is never stopped. needed: for the same regret. least: by the rungs' "
        "arithmetic. time: simulated, in epochs, with the rule / without",
    )  # fmt: skip
    for row in study["compared"]:
        table.add_row(
            str(row["trials"]),
            str(row["workers"]),
            row["rule"].replace(", a tenth unstopped", "*"),
            search_stopping.shown(row),
            f"{row['share_of_epochs']:.2f}",
            "" if row["least_share"] is None else f"{row['least_share']:.2f}",
            f"{row['regret_difference']:+.4f} ± {row['regret_difference_error']:.4f}",
            f"{row['simulated_seconds']:.0f} / {row['simulated_seconds_without']:.0f}",
        )
    return table


def _bandit_table(results: list[dict[str, Any]]) -> Table:
    table = Table("problem", "trials", "seeds", *search_bandit.SAMPLERS, title="mean regret")
    for found in results:
        means = [f"{found['regret'][sampler]['mean']:.4f}" for sampler in search_bandit.SAMPLERS]
        table.add_row(found["problem"], str(found["trials"]), str(found["seeds"]), *means)
    return table


def _portfolio_table(results: list[dict[str, Any]]) -> Table:
    table = Table(
        "hybrid, ASHA", "trials", "regret", "more than with the portfolio", "epochs", "begun", "of six went on"
    )
    for found in results:
        more = found["more_regret"]
        table.add_row(
            found["variant"],
            str(found["trials"]),
            f"{found['regret']['mean']:.4f}",
            f"{more['mean']:+.4f} ({more['low']:+.4f} to {more['high']:+.4f})",
            f"{found['epochs']:.0f}",
            f"{found['trials_begun']:.1f}",
            f"{found['of_the_first_six_went_on']:.1f}",
        )
    return table


def _speed_table(results: list[dict[str, Any]]) -> Table:
    table = Table("sampler, scheduler", "trials", "workers", "decisions/s", "ms per trial", "wall", "journal")
    for found in results:
        table.add_row(
            f"{found['sampler']}, {found['scheduler']}",
            str(found["trials"]),
            str(found["workers"]),
            f"{found['decisions_per_second']:.0f}",
            f"{found['milliseconds_per_trial']:.2f}",
            f"{found['wall_seconds']:.1f} s",
            f"{found['journal_megabytes']:.1f} MB",
        )
    return table


if __name__ == "__main__":
    main()
