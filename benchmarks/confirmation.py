"""Which recipe a confirmation should keep: the regret of our rule on recorded trainings, beside simpler ones.

    python benchmarks/confirmation.py --json
    python benchmarks/confirmation.py --fit     # the constants of pipeline/confirmation/prior.py

Searches and confirmations are put together from recorded trainings (`confirmation_cases.py`). Regret: how much the kept
recipe scores below the better of the two, in truth. Each set is judged with the constants fitted on the others. The
rules: always the defaults; always the winner; the lower bound of the difference above 0 (t distribution, 90 %); the
higher expected quality, always confirmed; the same, confirmed where that could detect what the winner may gain.
A few seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from confirmation_cases import Case, cases
from rich.console import Console
from rich.table import Table
from scipy import stats

from components.evaluation.expected_difference import (
    Normal,
    detectable_difference,
    difference_variance,
    moderated_variance,
    score_variance,
    shrink,
)
from pipeline.confirmation.prior import SEED_FREEDOM, possible_gain

CONFIDENCE = 0.9
RULES = ("defaults", "winner", "lower bound", "expected", "auto")
REPLICATES = (2, 3)
#: Two trainings of each recipe that were reported of parts imaged about six times, 143 validation images: the winner
#: was far ahead, with two seeds far apart, and its gain in the search was 0.69 − 0.46.
REPORTED = {"winner": (0.79, 0.71), "defaults": (0.55, 0.66), "gain": 0.23, "se_sampling": 0.05}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--fit", action="store_true", help="fit the constants on all sets, and judge nothing")
    arguments = parser.parse_args()
    every = cases()
    constants = fit(every)
    result: dict[str, Any] = {"constants": asdict(constants)}
    if not arguments.fit:
        result["sets"] = judge_sets(every)
        result["mean"] = mean_over_sets(result["sets"])
        result["reported"] = reported(constants)
    if arguments.json or arguments.fit:
        print(json.dumps(result))
    else:
        show(result)


@dataclass(frozen=True)
class Constants:
    """As in pipeline/confirmation/prior.py."""

    gain_share: float
    selection: float
    gain_sd: float
    seed_sd: float
    correlation: float


def fit(every: Sequence[Case]) -> Constants:
    """Least squares; each set and objective counts the same.

    The share of the gain is the slope of the true difference on the gain in the search, over all recipes of each set:
    an expectation given the gain needs no allowance for having selected by it (Senn 2008, American Statistician 62:45).
    What winners fall behind it nevertheless is the constant, at least 0. The spread between seeds is the median of each
    set, since one training in many fails, and the geometric mean over sets.
    """
    sets: dict[tuple[str, str], list[Case]] = {}
    for case in every:
        sets.setdefault((case.set, case.objective), []).append(case)
    moments = np.array([_moments(own) for own in sets.values()])
    share = max(float(moments[:, 0].sum() / moments[:, 1].sum()), 0.0)
    weights = np.array([case.weight for case in every])
    behind = np.array([case.truth - share * case.gain for case in every])
    constant = min(float(np.average(behind, weights=weights)), 0.0)
    seeds = [float(np.median([_seed_variance(case) for case in own])) for own in sets.values()]
    sampled = [case for case in every if case.alone]
    shared = sum(case.weight * sum(case.sampling) for case in sampled)
    own = sum(case.weight * sum(case.alone) for case in sampled)
    return Constants(
        gain_share=share,
        selection=-constant,
        gain_sd=math.sqrt(np.average((behind - constant) ** 2, weights=weights)),
        seed_sd=math.exp(np.mean(np.log(seeds)) / 2),
        correlation=1 - shared / (2 * own),
    )


def _moments(own: Sequence[Case]) -> tuple[float, float]:
    """Covariance of truth and gain, and variance of the gain, in one set."""
    gains, truths = np.array([case.gain for case in own]), np.array([case.truth for case in own])
    return float(np.cov(gains, truths, bias=True)[0, 1]), float(gains.var())


def _seed_variance(case: Case) -> float:
    """Of one replicate's difference: of fold models on the same test split, or of seeds on the same images."""
    return float(np.var((*case.truths, *(() if case.counts else case.differences)), ddof=1))


def judge_sets(every: Sequence[Case]) -> list[dict[str, Any]]:
    """A record per set, objective and number of replicates, with the constants of the other sets."""
    records = []
    for name in dict.fromkeys(case.set for case in every):
        constants = fit([case for case in every if case.set != name])
        for objective in dict.fromkeys(case.objective for case in every if case.set == name):
            own = [case for case in every if (case.set, case.objective) == (name, objective) and case.weight]
            records += [judge(own, constants, count) for count in REPLICATES if own]
    return records


def judge(own: Sequence[Case], constants: Constants, count: int) -> dict[str, Any]:
    """Mean regret of each rule, over the cases and every choice of replicates."""
    regrets, winners = dict.fromkeys(RULES, 0.0), dict.fromkeys(RULES, 0.0)
    confirmed = gain = 0.0
    for case in own:
        choices = list(itertools.combinations(range(len(case.differences)), count))
        for chosen in choices:
            weight = case.weight / len(choices)
            takes, trained = decisions(case, chosen, constants)
            for rule, winner in takes.items():
                regrets[rule] += weight * (max(case.truth, 0.0) - (case.truth if winner else 0.0))
                winners[rule] += weight * winner
            confirmed += weight * trained
        gain += case.weight * case.truth
    return {
        "set": own[0].set,
        "objective": own[0].objective,
        "replicates": count,
        "winners": len(own),
        "winner_gains": gain,
        "regret": regrets,
        "takes_winner": winners,
        "auto_confirms": confirmed,
    }


def decisions(case: Case, chosen: Sequence[int], constants: Constants) -> tuple[dict[str, bool], bool]:
    """Whether each rule takes the winner, and whether the last one confirms. chosen: replicates that are trained."""
    count = len(chosen)
    differences = np.array([case.differences[number] for number in chosen])
    sampling = sum(case.sampling[number] for number in chosen) / count**2
    between = float(differences.var(ddof=1)) if count > 1 else 0.0
    own = max(between - count * sampling, 0.0)
    moderated = moderated_variance(own, count - 1, expected=constants.seed_sd**2, expected_freedom=SEED_FREEDOM)
    prior = Normal(constants.gain_share * case.gain - constants.selection, constants.gain_sd)
    expected = shrink(float(differences.mean()), math.sqrt(moderated / count + sampling), prior).mean > 0
    low = differences.mean() - stats.t.ppf(CONFIDENCE, max(count - 1, 1)) * math.sqrt(between / count)
    foreseen = 0.0
    if case.counts:
        alone = [score_variance(case.objective, case.score, case.counts[number]) for number in chosen]
        foreseen = sum(alone) / count**2
    variance = difference_variance(
        foreseen, correlation=constants.correlation, seed_variance=constants.seed_sd**2, replicates=count
    )
    trains = detectable_difference(math.sqrt(variance), confidence=CONFIDENCE) <= possible_gain(prior)
    return {
        "defaults": False,
        "winner": True,
        "lower bound": bool(low > 0),
        "expected": expected,
        "auto": expected if trains else prior.mean > 0,
    }, trains


def mean_over_sets(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean over sets and objectives, for each number of replicates."""
    return [
        {
            "replicates": count,
            "regret": {
                rule: float(np.mean([one["regret"][rule] for one in records if one["replicates"] == count]))
                for rule in RULES
            },
            "auto_confirms": float(np.mean([one["auto_confirms"] for one in records if one["replicates"] == count])),
        }
        for count in REPLICATES
    ]


def reported(constants: Constants) -> dict[str, bool]:
    """Which rules take the winner of the reported case; it has to be taken."""
    differences = np.subtract(REPORTED["winner"], REPORTED["defaults"])
    case = Case(
        set="reported", objective="auroc", weight=1.0, gain=REPORTED["gain"], score=0.5,
        differences=tuple(differences), sampling=(2 * REPORTED["se_sampling"] ** 2,) * 2, alone=(), truths=(),
        truth=0.0, counts=((40, 100),) * 2,
    )  # fmt: skip
    return decisions(case, (0, 1), constants)[0]


def show(result: dict[str, Any]) -> None:
    console = Console()
    console.print("fitted on all sets:", {name: round(value, 4) for name, value in result["constants"].items()})
    table = Table(
        "set", "objective", "replicates", "winner gains", *RULES, "auto confirms", title="Regret, thousandths"
    )
    for one in [*result["sets"], *({"set": "mean", "objective": "", **mean} for mean in result["mean"])]:
        gains = f"{1000 * one['winner_gains']:+.1f}" if "winner_gains" in one else ""
        regrets = [f"{1000 * one['regret'][rule]:.1f}" for rule in RULES]
        confirms = f"{100 * one['auto_confirms']:.0f} %"
        table.add_row(one["set"], one["objective"], str(one["replicates"]), gains, *regrets, confirms)
    console.print(table)
    console.print(
        "the reported case, the winner taken by:", [rule for rule, takes in result["reported"].items() if takes]
    )


if __name__ == "__main__":
    main()
