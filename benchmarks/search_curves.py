"""Learning curves of real trainings over a grid of learning rates and seeds, recorded for `search_simulation.py`.

    python benchmarks/search_curves.py --setting generated    # a small network from scratch on generated images
    python benchmarks/search_curves.py --setting elpv         # a pretrained one on solar cells (the `demo` extra)

Each training goes the way of a search's trial: the recipe's warmup, then a constant rate, scored after each epoch on
averaged weights. Seeds change the start of the network and the order of the images; the splits stay. The result,
`benchmarks/data/curves_<setting>.json`, says how it was made; a second call goes on with what is missing. Twelve
minutes of one core for both.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "benchmarks" / "data"
#: What the search's default horizon adds to a recipe, and what keeps a training the same on any machine.
HORIZON = {"recipe.schedule": "fixed", "recipe.ema_decay": 0.9}
MACHINE = {"compute.device": "cpu", "compute.num_threads": 1}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained. config: a shipped configuration, changed by `data` for the images and by `training`."""

    name: str
    config: str
    data: dict[str, Any]
    training: dict[str, Any] = field(default_factory=dict)
    epochs: int
    rates: tuple[float, ...]
    seeds: int


THREE_DECADES = tuple(float(f"{rate:.3g}") for rate in np.geomspace(3e-5, 3e-2, 16))
SETTINGS = {
    setting.name: setting
    for setting in (
        Setting(
            name="generated",
            config="smoke",
            data={
                "data.source": "generated:count=600,size=48,defect_rate=0.5,parts=200",
                "data.splits.train": 0.3,
                "data.splits.val": 0.4,
                "data.splits.calibration": 0.15,
                "data.splits.test": 0.15,
            },
            epochs=9,
            rates=THREE_DECADES,
            seeds=8,
        ),
        Setting(
            name="elpv",
            config="demo",
            data={
                "data.image_size": 48,
                "data.splits.train": 0.12,
                "data.splits.val": 0.2,
                "data.splits.calibration": 0.34,
                "data.splits.test": 0.34,
                "recipe.grow_from": None,
            },
            training={"recipe.batch_size": 16},
            epochs=3,
            rates=THREE_DECADES,
            seeds=6,
        ),
    )
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=sorted(SETTINGS), required=True)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the result goes")
    parser.add_argument("--trainings", type=int, default=None, help="make at most so many of the missing ones")
    arguments = parser.parse_args()
    setting = SETTINGS[arguments.setting]
    path = arguments.folder / f"curves_{setting.name}.json"
    curves = json.loads(path.read_text(encoding="utf-8"))["curves"] if path.exists() else []
    done = {(curve["lr"], curve["seed"]) for curve in curves}
    missing = [(lr, seed) for seed in range(setting.seeds) for lr in setting.rates if (lr, seed) not in done]
    with tempfile.TemporaryDirectory(prefix="escapement-bench-") as place:
        prepared = prepare(setting, Path(place)) if missing else None
        for number, (lr, seed) in enumerate(missing[: arguments.trainings], start=1):
            assert prepared is not None
            started = time.perf_counter()
            scores = train(setting, prepared, lr=lr, seed=seed)
            curves.append({"lr": lr, "seed": seed, "scores": scores})
            write(path, setting, curves)
            seconds = time.perf_counter() - started
            print(f"{number}/{len(missing)}: lr {lr:.2e}, seed {seed}: {scores} in {seconds:.1f} s", flush=True)


def prepare(setting: Setting, place: Path) -> Path:
    """The stage's result, made by the command that a user would give, in a process and a store of its own."""
    values = {**setting.data, "storage.root": place / "storage", "tracking.uri": f"sqlite:///{place / 'mlflow.db'}"}
    sets = [f"--set={key}={value}" for key, value in values.items()]
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "prepare", "--config", setting.config, *sets, "--json"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    (stage,) = json.loads(done.stdout.splitlines()[-1])["stages"]
    return place / "storage" / "prepare" / stage["fingerprint"][:16]


def train(setting: Setting, prepared: Path, *, lr: float, seed: int) -> list[float | None]:
    """The validation score after each epoch; None from the epoch on in which the training diverged."""
    from pipeline.compute.device import set_up_process
    from pipeline.loading import load
    from pipeline.sections.recipe import Recipe
    from pipeline.training.build import new_learner, open_data, run_epochs

    changes = {**setting.data, **setting.training, **HORIZON, **MACHINE, "recipe.lr": lr, "search.num_trials": 0}
    config = load(setting.config, changes)
    recipe = Recipe(model=config.model, recipe=config.recipe)
    set_up_process(1)
    data = open_data(prepared)
    learner = new_learner(recipe, data, total_epochs=setting.epochs, seed=seed, compute=config.compute)
    scores: list[float | None] = []
    for record in run_epochs(learner, recipe, data, until=setting.epochs, workers=0):
        score = record.metrics.get("val_score", math.nan)
        if record.diverged or not math.isfinite(score):
            break
        scores.append(round(score, 4))
    return [*scores, *[None] * (setting.epochs - len(scores))]


def write(path: Path, setting: Setting, curves: list[dict[str, Any]]) -> None:
    """A curve a line, after what they are; in place of the file that was there."""
    header = {
        "made_by": f"python benchmarks/search_curves.py --setting {setting.name}",
        "what": "validation score (average precision) after each epoch, null once diverged; adamw at a constant rate "
        "after warmup, averaged weights",
        "config": setting.config,
        "changes": {**setting.data, **setting.training, **HORIZON},
        "epochs": setting.epochs,
    }
    head = json.dumps(header, indent=1)[1:-2]
    lines = ",\n".join(f"  {json.dumps(curve)}" for curve in sorted(curves, key=lambda c: (c["lr"], c["seed"])))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f'{{{head},\n "curves": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    main()
