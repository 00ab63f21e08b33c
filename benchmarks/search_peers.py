"""Our search against Ray Tune as it is commonly used, at the same wall-clock time, on images that no search has seen.

    python benchmarks/search_peers.py --json        # 4 1/2 minutes a run, on two idle cores; needs the `demo` extra
    python benchmarks/search_peers.py --against portfolio --json    # beside each recipe of the portfolio by itself

Three searches take turns on the same solar cells (real images, a small network from scratch), each with the same
seconds and the same two slots:

ours    the range test of the optimizer, then trial 0 the defaults, the portfolio and hybrid sampling with ASHA within
        its bounds; it uses all of its time (`stop_at_noise: false`)
random  `Tuner` with random search over four decades of the rate, every trial at full length
tpe     the same with Optuna's TPE through Ray's own OptunaSearch, no early stopping; in a minute it models after four
        trials, since its usual ten would be all that it has time for, and in more time after up to ten

They vary the same three settings and train through the same code, so that what differs is the search. Each winner is
then trained anew from some seeds with the recipe's schedule and scored (average precision) on a fold that neither its
search nor its training has seen. Runs differ in the folds and in the seed, and are compared pair by pair: Wilcoxon's
signed-rank test and the sign test, both one-sided. Ray's start is counted for nobody; the range test is ours to pay.

`--against portfolio`: instead of the peers, the defaults and each recipe of the portfolio are trained without a search,
with the same splits and seeds. Ours should not be behind the one of them that is best on average over all runs, which
nobody knows beforehand.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from optuna.samplers import TPESampler
from ray import tune
from ray.tune.search import Searcher
from ray.tune.search.optuna import OptunaSearch
from rich.console import Console as RichConsole
from rich.table import Table
from scipy import stats
from torch import nn

from components.cluster import ray_session, run_on_cluster
from components.optim.optimizers import optimizer_spec
from components.optim.range_test.bounds import LrBounds, analyse_curves
from components.search.journal import Journal
from components.search.rungs import Rungs, build_rule
from components.search.samplers import build_sampler, winner
from components.search.samplers.base import SamplerSettings
from components.search.state import Limits, SearchState
from components.search.trial import Suggestion
from components.search.tuner import TuneSettings, run_trials
from pipeline.compute.device import set_up_process
from pipeline.compute.shipping import Prepared
from pipeline.config import Config
from pipeline.console import Console
from pipeline.loading import load
from pipeline.overriding import override
from pipeline.range_test.ramps import RangeTest, measure
from pipeline.search.portfolio import PHASE
from pipeline.search.trial import TrialPlan, TrialSession
from pipeline.search_space import SearchedSpace, searched_space
from pipeline.sections.recipe import Recipe
from pipeline.training.build import (
    loss_of_constant,
    new_learner,
    predict_split,
    run_epochs,
    spread_of_constant,
    validation_score,
)
from pipeline.training.data import TrainingData, open_data
from pipeline.training.tasks import Place

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDS, SLOTS = 5, 2
#: What a second of the budget is expected to hold: trials of ours, most of them stopped early.
TRIALS_PER_SECOND = 0.4
#: One of TPE's trials at random for so many seconds, but never more than its usual ten.
SECONDS_PER_RANDOM_TRIAL = 15
SETTINGS = {
    "data.image_size": "48",
    "recipe.grow_from": "null",
    "data.splits.train": "0.7",
    "data.splits.val": "0.2",
    "data.splits.calibration": "0.05",
    "data.splits.test": "0.05",
    "model.backbone": "test_efficientnet",
    "model.weights": "none",
    "lr_range_test.num_seeds": "1",
    "lr_range_test.steps_per_decade": "10",
    "search.max_epochs": "9",
    "search.num_trials": "1000",
    "search.stop_at_noise": "false",
    "search.space": "[{sets: recipe.lr, bounds: range_test}, {sets: recipe.augment_strength, low: 0, high: 1},"
    " {sets: recipe.weight_decay, low: 1e-5, high: 0.1, log: true}]",
    "compute.device": "cpu",
    "compute.num_threads": "1",
}
QUICK = {"data.source": "generated:count=200,size=48,defect_rate=0.5,parts=60", "data.good_labels": "[good]"}
PEERS_SPACE = {
    "recipe.lr": tune.loguniform(1e-5, 1e-1),
    "recipe.weight_decay": tune.loguniform(1e-5, 0.1),
    "recipe.augment_strength": tune.uniform(0, 1),
}


def data_of(prepared: Path, run: int) -> TrainingData:
    """The images of a run: one fold that nobody sees, one for validation, the others for training."""
    data = open_data(prepared)
    fold = data.manifest["fold"]
    unseen, val = run % FOLDS, (run % FOLDS + 1 + run // FOLDS % (FOLDS - 1)) % FOLDS
    split = np.select([fold < 0, fold == unseen, fold == val], ["left out", "unseen", "val"], "train")
    return replace(data, manifest=data.manifest.assign(split=split))


def open_trial(suggestion: Suggestion, *, run: int, plan: TrialPlan) -> TrialSession:
    set_up_process(plan.threads)
    assert plan.prepared.folder is not None
    return TrialSession(suggestion, data_of(plan.prepared.folder, run), plan)


def ours(config: Config, prepared: Path, *, run: int, seconds: float, folder: Path) -> tuple[dict[str, Any], int]:
    """The overrides of the winner, and the number of trials."""
    until = time.monotonic() + seconds
    searched = space_of_run(config, prepared, run)
    rungs = Rungs(config.search.first_rung, config.search.reduction_factor, config.search.max_epochs)
    state = SearchState(
        Journal(folder / "journal.jsonl"),
        build_sampler(
            "hybrid",
            SamplerSettings(
                space=searched.space,
                num_trials=round(TRIALS_PER_SECOND * seconds),
                max_epochs=rungs.last,
                grace_epochs=rungs.grace,
                folds=0,
                startup_trials=None,
                seed=run,
                portfolio=searched.portfolio,
            ),
        ),
        Limits(num_trials=1000, seconds=until - time.monotonic(), gpu_seconds=None, failure_limit=0.5),
        defaults=Suggestion(point=searched.space.point({}) or {}, overrides={}, epochs=rungs.last),
        concurrent=SLOTS,
        gpus_per_trial=0,
        unstopped_fraction=config.search.unstopped_fraction,
        seed=run,
        clock=time.monotonic,
    )
    settings = TuneSettings(
        storage=str(folder),
        checkpoint_epochs=rungs.epochs,
        cpus_per_trial=1,
        gpus_per_trial=0,
        timeout=600,
        quota_bytes=1e12,
    )
    plan = plan_untried(config, prepared, searched.default, run)
    opener = functools.partial(open_trial, run=run, plan=plan)
    rule = build_rule("asha", rungs, seed=run, together=1 + len(searched.portfolio))
    run_trials(state, opener, [], settings, rule=rule)
    best = winner("hybrid", state.records)
    chosen = state.records[best].suggestion.overrides if best is not None else {}
    return {"recipe.lr": searched.default.recipe.lr, **chosen}, len(state.records)


def space_of_run(config: Config, prepared: Path, run: int) -> SearchedSpace:
    """The space within the bounds of the run's range test, with the portfolio."""
    recipe = Recipe(model=config.model, recipe=config.recipe)
    found = {(config.model.backbone, "adamw"): range_test(config, recipe, prepared, run)}
    return searched_space(recipe, config.search, found)


def single_recipes(config: Config, prepared: Path, *, run: int) -> dict[str, dict[str, Any]]:
    """The overrides of the defaults and of each recipe of the portfolio, by name."""
    searched = space_of_run(config, prepared, run)
    rate = {"recipe.lr": searched.default.recipe.lr}
    named = {one.phase.removeprefix(PHASE): rate | dict(one.overrides) for one in searched.portfolio}
    return {"defaults": rate} | named


def range_test(config: Config, recipe: Recipe, prepared: Path, run: int) -> LrBounds:
    """Of AdamW, on the training images of the run, in this process."""
    data = data_of(prepared, run)

    class Here(Place):
        def open(self) -> TrainingData:
            set_up_process(self.threads)
            return data

    place = Here(prepared=Prepared(prepared, ""), compute=config.compute, threads=SLOTS, share=None)
    test = RangeTest(recipe=recipe, optimizer="adamw", settings=config.lr_range_test, seed=run)
    curve = next(iter(measure([test], place, Console(quiet=True))))
    return analyse_curves(
        curve.steps,
        constant_loss=loss_of_constant(recipe, data),
        constant_spread=spread_of_constant(recipe, data),
        spec=optimizer_spec("adamw"),
        bootstrap_samples=config.lr_range_test.bootstrap_samples,
        seed=run,
    )


class PeerTrial(tune.Trainable):
    """A trial of the peers: the same training, reported after each epoch, at full length."""

    def setup(self, config: dict[str, Any], *, run: int, plan: TrialPlan) -> None:  # type: ignore[override]
        self._run, self._plan = run, plan
        self._open(config)

    def step(self) -> dict[str, Any]:
        told = self._session.next_epoch()
        score = 0.0 if told["diverged"] else told["score"]
        return {"score": score, "done": told["diverged"] or told["epoch"] >= self._plan.search.max_epochs}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        self._session.save(Path(checkpoint_dir))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._open(new_config)
        return True

    def _open(self, config: dict[str, Any]) -> None:
        suggestion = Suggestion(point={}, overrides=config, epochs=self._plan.search.max_epochs)
        self._session = open_trial(suggestion, config, run=self._run, plan=self._plan)


def peer(
    config: Config, prepared: Path, *, run: int, seconds: float, folder: Path, search_alg: Searcher | None
) -> tuple[dict[str, Any], int]:
    """Ray's Tuner, as its documentation has it: the best of the last scores."""
    recipe = Recipe(model=config.model, recipe=config.recipe)
    default = override(recipe, {"recipe.lr": 1e-3})
    plan = plan_untried(config, prepared, default, run)
    np.random.seed(run)  # noqa: NPY002 - random search of Ray Tune draws from it
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(PeerTrial, run=run, plan=plan), {"cpu": 1}),
        param_space=PEERS_SPACE,
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max",
            num_samples=1000,
            search_alg=search_alg,
            max_concurrent_trials=SLOTS,
            time_budget_s=seconds,
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(storage_path=str(folder), name="peer", verbose=0),
    )
    told = [result for result in tuner.fit() if "score" in (result.metrics or {})]
    if not told:  # the time was too short for any: what stands without a search
        return {"recipe.lr": 1e-3}, 0
    best = max(told, key=lambda result: result.metrics["score"])
    return dict(best.config or {}), len(told)


def plan_untried(config: Config, prepared: Path, default: Recipe, run: int) -> TrialPlan:
    return TrialPlan(
        prepared=Prepared(prepared, ""),
        default=default,
        search=config.search,
        rungs=(config.search.max_epochs,),
        seed=run,
        compute=config.compute,
        threads=1,
    )


def retrain(task: tuple[dict[str, Any], int, int], *, config: Config, prepared: Path) -> float:
    """Train a winner with the recipe's schedule, keep its best epoch on validation, score it on the unseen fold."""
    overrides, run, seed = task
    set_up_process(1)
    data = data_of(prepared, run)
    recipe = override(Recipe(model=config.model, recipe=config.recipe), overrides)
    epochs = config.train.epochs
    learner = new_learner(recipe, data, total_epochs=epochs, seed=1000 + seed, compute=config.compute)
    unseen = data.split("unseen")
    best = (-np.inf, 0.0)
    scored: list[float] = []

    def score(model: nn.Module, logits: np.ndarray) -> None:
        ours = predict_split(model, unseen, learner)
        scored.append(validation_score(ours, unseen.labels, recipe, data))

    for record in run_epochs(learner, recipe, data, until=epochs, workers=0, on_scored=score):
        if record.diverged:
            break
        best = max(best, (record.metrics["val_score"], scored[-1]))
    return float(best[1])


def one_run(
    config: Config, prepared: Path, *, run: int, seconds: float, retrainings: int, against: str
) -> dict[str, Any]:
    """The searches, in an order that changes from run to run, then their winners anew.

    against: `peers`, or `portfolio`: its recipes without a search.
    """
    at_random = max(1, min(10, round(seconds / SECONDS_PER_RANDOM_TRIAL)))
    sampler = TPESampler(n_startup_trials=at_random, seed=100 + run)
    sides = {
        "ours": ours,
        "random": functools.partial(peer, search_alg=None),
        "tpe": functools.partial(peer, search_alg=OptunaSearch(metric="score", mode="max", sampler=sampler)),
    }
    found: dict[str, tuple[dict[str, Any], int, float]] = {}
    if against == "portfolio":
        sides = {"ours": ours}
    turn = run % len(sides)
    for name in [*list(sides)[turn:], *list(sides)[:turn]]:
        with tempfile.TemporaryDirectory() as folder:
            started = time.monotonic()
            overrides, trials = sides[name](config, prepared, run=run, seconds=seconds, folder=Path(folder))
            found[name] = overrides, trials, time.monotonic() - started
    if against == "portfolio":
        recipes = single_recipes(config, prepared, run=run)
        found |= {name: (overrides, 0, 0.0) for name, overrides in recipes.items()}
    names = sorted(found, key=lambda name: name != "ours")
    tasks = [(found[name][0], run, seed) for name in names for seed in range(retrainings)]
    scores: dict[str, list[float]] = {name: [] for name in names}

    def again(task: tuple[dict[str, Any], int, int]) -> float:
        return retrain(task, config=config, prepared=prepared)

    for task, outcome in run_on_cluster(again, tasks, cores=1, gpus=0, at_once=SLOTS):
        if isinstance(outcome, Exception):
            raise outcome
        name = next(name for name in names if found[name][0] is task[0])
        scores[name].append(outcome)
    return {
        name: {
            "unseen_score": float(np.mean(scores[name])),
            "trials": found[name][1],
            "seconds": found[name][2],
            "overrides": found[name][0],
        }
        for name in names
    }


def in_every_run(runs: list[dict[str, Any]]) -> list[str]:
    return [name for name in runs[0] if all(name in run for run in runs)]


def compared(runs: list[dict[str, Any]], peer_name: str) -> dict[str, float]:
    """Our unseen scores against a peer's, pair by pair."""
    gaps = np.array([run["ours"]["unseen_score"] - run[peer_name]["unseen_score"] for run in runs])
    wins, losses = int((gaps > 0).sum()), int((gaps < 0).sum())
    return {
        "mean_gap": float(gaps.mean()),
        "median_gap": float(np.median(gaps)),
        "wins": wins,
        "losses": losses,
        "wilcoxon_p": float(stats.wilcoxon(gaps, alternative="greater").pvalue) if np.any(gaps) else 1.0,
        "sign_p": float(stats.binomtest(wins, wins + losses, alternative="greater").pvalue) if wins + losses else 1.0,
    }


def prepare(folder: Path, settings: Mapping[str, str]) -> Path:
    """The solar cells at 48 px, through the stage itself."""
    command = [sys.executable, "-m", "pipeline", "prepare", "--config", "demo"]
    command += [*(f"--set={key}={value}" for key, value in settings.items()), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    (stage,) = json.loads(done.stdout.splitlines()[-1])["stages"]
    return folder / "storage" / "prepare" / stage["fingerprint"][:16]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=22)
    parser.add_argument("--first", type=int, default=0, help="number of the first run: its folds and its seed")
    parser.add_argument("--seconds", type=float, default=60.0, help="wall-clock time of each search")
    parser.add_argument("--epochs", type=int, default=12, help="length of the trainings of the winners")
    parser.add_argument("--retrainings", type=int, default=2, help="seeds that each winner is trained anew from")
    parser.add_argument(
        "--against",
        choices=("peers", "portfolio"),
        default="peers",
        help="Ray Tune, or single recipes without a search",
    )
    parser.add_argument("--quick", action="store_true", help="few generated images, one short run: does it run")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    settings = SETTINGS
    if arguments.quick:
        settings = SETTINGS | QUICK
        arguments.runs, arguments.seconds, arguments.epochs, arguments.retrainings = 1, 6.0, 1, 1
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare(Path(folder), settings)
        config = load("demo", settings | {"train.epochs": str(arguments.epochs), "recipe.batch_size": "32"})
        with ray_session(address=None, num_cpus=SLOTS, num_gpus=0):
            for run in range(arguments.first, arguments.first + arguments.runs):
                found = one_run(
                    config,
                    prepared,
                    run=run,
                    seconds=arguments.seconds,
                    retrainings=arguments.retrainings,
                    against=arguments.against,
                )
                runs.append(found)
                line = {name: (round(side["unseen_score"], 4), side["trials"]) for name, side in runs[-1].items()}
                print(f"run {run}: {line}", file=sys.stderr, flush=True)
    result = {
        "runs": runs,
        "seconds": arguments.seconds,
        "mean_unseen_score": {
            name: float(np.mean([run[name]["unseen_score"] for run in runs])) for name in in_every_run(runs)
        },
        "median_trials": {name: float(np.median([run[name]["trials"] for run in runs])) for name in in_every_run(runs)},
        # A recipe that lies outside of the bounds in some run is compared in no run.
        "against": {name: compared(runs, name) for name in in_every_run(runs) if name != "ours"},
    }
    if arguments.against == "portfolio":
        singles = {name: score for name, score in result["mean_unseen_score"].items() if name != "ours"}
        result["best_single_recipe"] = max(singles, key=singles.__getitem__)
    if arguments.json:
        print(json.dumps(result))
        return
    table = Table(title=f"{arguments.runs} paired runs of {arguments.seconds:g} s each")
    for column in ("search", "unseen AP", "trials", "we are ahead by", "wins", "Wilcoxon p", "sign p"):
        table.add_column(column, justify="right")
    for name, score in result["mean_unseen_score"].items():
        pair = result["against"].get(name)
        more = ("", "", "", "")
        if pair:
            won = f"{pair['wins']} of {pair['wins'] + pair['losses']}"
            more = (f"{pair['mean_gap']:+.4f}", won, f"{pair['wilcoxon_p']:.3f}", f"{pair['sign_p']:.3f}")
        table.add_row(name, f"{score:.4f}", f"{result['median_trials'][name]:g}", *more)
    RichConsole().print(table)


if __name__ == "__main__":
    main()
