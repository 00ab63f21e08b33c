"""How good the range test's suggestion is, beside its peers' rules, and when it abstains.

    python benchmarks/lr_range_test.py --json

On each setting (model, optimizer, data; see `lr_settings`) a 13-point log grid is trained for real, its best trained
again on fresh seeds, and the regret of each rule's suggestion told in standard deviations of the seeds (`lr_regret`):
our suggestion, torch-lr-finder's steepest descent, fastai's valley. Then: whether it abstains where there is nothing to
learn, how the suggestion scatters, and what a curve costs over a bare loop (`lr_cost`). The settings of a pretrained
network have a smaller plan, without the peers. Fifty minutes on one core that nobody shares; `--quick` ends in seconds
and says nothing about quality; `--folder PATH` keeps each finished setting, so that a second call goes on.

`--fit` prints the factors per optimizer family that the settings marked `fit` ask for (`FAMILY_FACTOR` in
components/optim/range_test/bounds.py); the others judge them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lr_cost import measure_cost
from lr_regret import RULES, Plan, measure_abstention, measure_regret
from lr_settings import COST_SETTINGS, PRETRAINED_SETTINGS, SETTINGS, UNLEARNABLE, Setting, make_problem
from lr_verdicts import fit_factors, verdicts
from rich.console import Console
from rich.table import Table

FULL = Plan(grid_points=13, grid_seeds=3, tests=10, fresh=6)
PRETRAINED = Plan(grid_points=6, grid_seeds=2, tests=3, fresh=3, peers=False)
QUICK = Plan(grid_points=4, grid_seeds=1, tests=2, fresh=2)
QUICK_STEPS = 20


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="escapement-bench-") as name:
        result = _measure(arguments, arguments.folder or Path(name))
    result["verdicts"] = verdicts(result)
    if arguments.fit:
        result["fit"] = fit_factors(result["learnable"])
    if arguments.json:
        print(json.dumps(result))
    else:
        _show(result)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="two settings and tiny trainings: does it run")
    parser.add_argument("--fit", action="store_true", help="also fit the factors per family")
    parser.add_argument("--only", default="", help="settings whose name contains this")
    parser.add_argument("--folder", type=Path, help="where finished settings are kept and taken from")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def _measure(arguments: argparse.Namespace, place: Path) -> dict[str, Any]:
    plan = QUICK if arguments.quick else FULL
    learnable, unlearnable, cost = _chosen(arguments)

    def measured(kind: str, setting: Setting, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        kept = place / f"{kind} {setting.name.replace('/', '-')}.json"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps(measure()), encoding="utf-8")
        return json.loads(kept.read_text(encoding="utf-8"))

    def problem(setting: Setting):  # noqa: ANN202 - a Problem
        return make_problem(setting.data, place)

    return {
        "plan": vars(plan),
        "learnable": [
            measured("regret", s, lambda s=s: measure_regret(s, problem(s), PRETRAINED if s.pretrained else plan))
            for s in learnable
        ],
        "unlearnable": [
            measured("abstention", s, lambda s=s: measure_abstention(s, problem(s), repeats=plan.tests))
            for s in unlearnable
        ],
        "cost": [measured("cost", s, lambda s=s: measure_cost(s, problem(s), repeats=plan.tests)) for s in cost],
    }


def _chosen(arguments: argparse.Namespace) -> list[tuple[Setting, ...]]:
    """Learnable, unlearnable and cost settings."""
    kinds = [(*SETTINGS, *PRETRAINED_SETTINGS), UNLEARNABLE, COST_SETTINGS]
    if arguments.quick:
        kinds = [tuple(s.shortened(QUICK_STEPS) for s in SETTINGS if s.model == "mlp")[:2]] + [k[:1] for k in kinds[1:]]
    return [tuple(setting for setting in kind if arguments.only in setting.name) for kind in kinds]


def _show(result: dict[str, Any]) -> None:
    console = Console()
    table = Table("setting", "half", "grid's best", "seed sd", "ours", "spread", "abstained", *RULES)
    for found in result["learnable"]:
        ours = found["rules"]["ours"]
        table.add_row(
            found["setting"],
            found["half"],
            f"{found['best']['rate']:.1e}: {found['best']['score']:.3f}",
            f"{found['best']['seed_sd']:.4f}",
            f"{_geometric_mean(ours['rates']):.1e}",
            f"{ours['spread_decades']:.2f}",
            f"{found['abstained']}/{found['tests']}",
            *(f"{found['rules'][rule]['regret']:+.2f}" if rule in found["rules"] else "" for rule in RULES),
        )
    console.print(table)
    console.print(
        "The last columns: regret in standard deviations of the seeds. Spread: standard deviation in decades."
    )
    for found in result["unlearnable"]:
        console.print(f"{found['setting']}: abstained {found['abstained']}/{found['tests']}")
    for found in result["cost"]:
        spread = found["ratio"]
        console.print(
            f"{found['setting']}: curve / bare loop {spread['median']:.3f} ({spread['min']:.3f} to {spread['max']:.3f})"
        )
    for name, verdict in result["verdicts"].items():
        console.print(f"{'met' if verdict['met'] else 'NOT MET'}: {name}: {verdict['measured']}")
    for family, factor in result.get("fit", {}).items():
        console.print(f"fit: {family}: {factor}")


def _geometric_mean(rates: list[float]) -> float:
    return float(torch.tensor(rates, dtype=torch.float64).log().mean().exp())


if __name__ == "__main__":
    main()
