"""Trainings of search trials and of confirmations, recorded for `confirmation.py`.

    python benchmarks/confirmation_trainings.py --setting surfaces    # generated images, half of the parts defective
    python benchmarks/confirmation_trainings.py --setting digits      # scikit-learn's digits: the eights are defective
    python benchmarks/confirmation_trainings.py --setting cells       # solar cells, a pretrained network (`demo` extra)

Each goes the way of the pipeline: prepare and range test, then the defaults and a Latin hypercube of recipes from the
configuration's space, each trained briefly as a trial on fold 0 (with two seeds), and at full length without each of
the other folds. Recorded are the defect scores of each fold's own images, and the score of each fold model on a large
test split, which stands for the truth. The result, `benchmarks/data/confirmation_<setting>.json`, says how it was made;
a second call goes on with what is missing. About half an hour of one core for all.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from sklearn.datasets import load_digits

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "benchmarks" / "data"
MACHINE = {"compute.device": "cpu", "compute.num_threads": 1}
FOLDS, TRIAL_SEEDS = 4, 2
SPLITS = {"train": 0.26, "val": 0.07, "calibration": 0.07, "test": 0.60}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained: a shipped configuration with changes. epochs: of a trial, and at full length."""

    config: str
    changes: dict[str, Any] = field(default_factory=dict)
    epochs: tuple[int, int] = (3, 8)
    recipes: int = 8


SETTINGS = {
    "surfaces": Setting(
        config="smoke",
        changes={"data.source": "generated:count=1500,size=48,defect_rate=0.5,parts=500,seed=11"},
    ),
    "digits": Setting(
        config="smoke",
        changes={"data.source": "folder:digits", "data.image_size": 32, "data.near_duplicates": "off"},
    ),
    "cells": Setting(
        config="demo",
        changes={
            "data.image_size": 48,
            "data.splits.train": 0.15,
            "data.splits.val": 0.05,
            "data.splits.calibration": 0.4,
            "data.splits.test": 0.4,
            "recipe.grow_from": None,
            "recipe.batch_size": 16,
        },
        epochs=(2, 5),
        recipes=6,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setting", choices=sorted(SETTINGS), required=True)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the result goes")
    arguments = parser.parse_args()
    path = arguments.folder / f"confirmation_{arguments.setting}.json"
    earlier = json.loads(path.read_text(encoding="utf-8")) if path.exists() else None
    with tempfile.TemporaryDirectory(prefix="escapement-bench-") as place:
        record(arguments.setting, Path(place), path, earlier)


def record(name: str, place: Path, path: Path, earlier: dict[str, Any] | None) -> None:
    """Prepare, then make the trainings that are missing, writing the file after each recipe."""
    from components.optim.range_test.bounds import read_backbone_bounds
    from components.search.samplers.spread import latin_hypercube
    from pipeline.compute.device import set_up_process
    from pipeline.loading import load
    from pipeline.overriding import override
    from pipeline.search_space import at_horizon, searched_space
    from pipeline.sections.recipe import Recipe
    from pipeline.training.build import fold_of, open_data

    setting = SETTINGS[name]
    prepared, tested = prepare(setting, place)
    changes = {**_splits(), **setting.changes, **MACHINE}
    config = load(setting.config, changes)
    configured = Recipe(model=config.model, recipe=config.recipe)
    searched = searched_space(configured, config.search, read_backbone_bounds(tested / "backbone_bounds.json"))
    points = latin_hypercube(searched.space, setting.recipes, seed=0)
    overrides = [{}, *(searched.space.overrides(searched.space.from_cube(point)) for point in points)]
    set_up_process(1)
    data = open_data(prepared)
    short, long = setting.epochs
    recipes = [] if earlier is None else earlier["recipes"]
    for number, changed in enumerate(overrides[len(recipes) :], start=len(recipes)):
        trial = at_horizon(searched.default, changed, config.search)
        full = override(searched.default, changed)
        entry = {
            "overrides": changed,
            "trials": [
                train(trial, data, config, fold=0, seed=1000 + seed, epochs=short) for seed in range(TRIAL_SEEDS)
            ],
            "folds": [train(full, data, config, fold=fold, seed=fold, epochs=long) for fold in range(1, FOLDS)],
        }
        recipes.append(entry)
        images = {}
        for fold in range(FOLDS):
            held_out = fold_of(data, fold).manifest.query("split == 'val'")
            images[str(fold)] = {
                "is_defect": held_out["is_defect"].astype(int).tolist(),
                "group": np.unique(held_out["group"], return_inverse=True)[1].tolist(),
            }
        write(path, name, setting, images, recipes)
        tests = [one["test_auroc"] for one in entry["folds"]]
        print(f"{name} {number + 1}/{len(overrides)}: {changed} test AUROC {tests}", flush=True)


def train(recipe: Any, data: Any, config: Any, *, fold: int, seed: int, epochs: int) -> dict[str, Any] | None:  # noqa: ANN401
    """The defect scores of the fold's images, in the manifest's order, and AUROC and average precision on the test
    split; None if the training diverged.
    """
    from components.evaluation import scalars
    from components.evaluation.decision import defect_log_odds, good_mask
    from pipeline.training.build import predict_split
    from pipeline.training.job import Ended, TrainingJob, TrainingSpec

    spec = TrainingSpec(recipe=recipe, seed=seed, epochs=epochs, fold=fold, keep="last")
    job = TrainingJob(spec, data, config.compute)
    scored = None
    for event in job.run():
        if isinstance(event, Ended):
            if event.failure is not None or event.reason == "diverged":
                return None
        else:
            scored = event.scored
    assert scored is not None
    is_good = good_mask(data.classes, data.good_classes)
    test = data.split("test")
    with job.learner.scoring() as model:
        tested = defect_log_odds(predict_split(model, test, job.learner), is_good)
    is_defect = ~is_good[test.labels]
    return {
        "scores": [round(float(value), 3) for value in defect_log_odds(scored.val_logits, is_good)],
        "test_auroc": round(scalars.auroc(tested, is_defect), 4),
        "test_average_precision": round(scalars.average_precision(tested, is_defect), 4),
    }


def prepare(setting: Setting, place: Path) -> tuple[Path, Path]:
    """The folders of prepare and range test, made by the command in a process and a store of its own."""
    if setting.changes.get("data.source") == "folder:digits":
        write_digits(place / "digits")
    values = {**_splits(), **setting.changes, "storage.root": place / "storage"}
    values["tracking.uri"] = f"sqlite:///{place / 'mlflow.db'}"
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "lr-range-test", "--config", setting.config]
        + [f"--set={key}={value}" for key, value in {**values, **MACHINE}.items()]
        + ["--json"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    stages = json.loads(done.stdout.splitlines()[-1])["stages"]
    folders = {stage["name"]: place / "storage" / stage["name"] / stage["fingerprint"][:16] for stage in stages}
    return folders["prepare"], folders["lr_range_test"]


def write_digits(folder: Path) -> None:
    """1,797 handwritten digits of 8 pixels, drawn at 32: the eights are defective, the others good."""
    digits = load_digits()
    for label in ("good", "eight"):
        (folder / label).mkdir(parents=True)
    for number, (image, digit) in enumerate(zip(digits.images, digits.target, strict=True)):
        pixels = cv2.resize((image * 255 / 16).astype(np.uint8), (32, 32), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / ("eight" if digit == 8 else "good") / f"{number}.png"), pixels)


def _splits() -> dict[str, Any]:
    shares = {f"data.splits.{name}": share for name, share in SPLITS.items()}
    return {"data.design": "hold_out", **shares, "data.num_folds": FOLDS}


def write(path: Path, name: str, setting: Setting, images: dict[str, Any], recipes: list[dict[str, Any]]) -> None:
    """A recipe a line, in place of the file that was there."""
    header = {
        "made_by": f"python benchmarks/confirmation_trainings.py --setting {name}",
        "what": "recipes[0]: the defaults. trials: on fold 0, of few epochs at a constant rate with averaged weights; "
        "folds: on folds 1 to 3 at full length; null: diverged. scores: defect log-odds of the fold's images",
        "config": setting.config,
        "changes": {**_splits(), **setting.changes},
        "epochs": list(setting.epochs),
        "images": images,
    }
    lines = ",\n".join(f"  {json.dumps(recipe)}" for recipe in recipes)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(f'{{{json.dumps(header)[1:-1]},\n "recipes": [\n{lines}\n ]\n}}\n', encoding="utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    main()
