"""One training of the comparison of methods, kept as a file, and many of them spread over workers.

A training is a function of its recipe, its seed and its length: those of one seed start from the same weights and see
the same batches, whatever their method. What it gives is written once, whole or not at all, so that an interrupted
comparison goes on with those that are missing, and, where workers see its folder, within one from its last epoch.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from components.evaluation import scalars
from components.evaluation.decision import defect_log_odds, good_mask
from components.training.checkpoint import load_checkpoint, save_checkpoint
from components.training.engine import EpochRecord
from components.whole_files import whole_file
from pipeline.compute.spreading import Place
from pipeline.config import ComputeConfig
from pipeline.sections.recipe import Recipe
from pipeline.training.build import TrainingData, loader_workers, new_learner, run_epochs

Phase = Literal["rate", "full"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """What to train: a method at a rate (`recipe.recipe.lr`, `factor` times the suggestion), from a seed.

    phase: a short one that tries a rate, or one at full length.
    """

    phase: Phase
    entry: str
    factor: float
    seed: int
    epochs: int
    recipe: Recipe

    @property
    def key(self) -> str:
        """Names its files; the work folder belongs to one configuration, which says all the rest."""
        return f"{self.phase}-{self.entry}-x{self.factor!r}-seed{self.seed}"


@dataclass(frozen=True, kw_only=True)
class TrainingPlace(Place):
    """work: the driver's folder of results and checkpoints.

    A worker that does not see it keeps no checkpoint: when such a worker is lost, its training begins anew.
    """

    work: Path


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What a training gave.

    history: per whole epoch its number, step, train_loss, seconds and the metrics of the validation split, None where
    one has no value. rates: of every step, the rate of the fastest group. A training whose loss or whose outputs
    ceased to be finite is `diverged`.
    """

    phase: Phase
    entry: str
    factor: float
    lr: float
    seed: int
    epochs: int
    diverged: bool
    history: list[dict[str, Any]]
    rates: list[float]

    @property
    def final(self) -> dict[str, float | None]:
        """Metrics at the end, of the last epoch and no better one; empty where it diverged."""
        return {} if self.diverged else self.history[-1]

    @property
    def seconds(self) -> float:
        """Of training, without evaluation and the start of a worker."""
        return float(sum(epoch["seconds"] for epoch in self.history))


Job = tuple[Training, TrainingPlace]
Perform = Callable[[Job], Trained]
Settle = Callable[[Perform, Sequence[Job]], Iterator[tuple[Job, Trained | Exception]]]


def carry_out(
    trainings: Sequence[Training],
    place: TrainingPlace,
    *,
    perform: Perform,
    settle: Settle,
    on_done: Callable[[Training, Trained | Exception], None],
) -> list[Trained]:
    """The results of all trainings, in their order; those whose files stand are read and not made again.

    perform: makes one. settle: spreads them over workers. on_done: called for each, those that stood included. A
    training that fails stops no other; the first error is raised when all are done.
    """
    results = {training.key: kept for training in trainings if (kept := read_result(training, place.work)) is not None}
    for training in trainings:
        if training.key in results:
            on_done(training, results[training.key])
    missing = [(training, place) for training in trainings if training.key not in results]
    failed: list[tuple[Training, Exception]] = []
    for (training, _), outcome in settle(perform, missing):
        if isinstance(outcome, Exception):
            failed.append((training, outcome))
        else:
            results[training.key] = outcome
            if read_result(training, place.work) is None:  # its worker does not see the folder
                write_result(training, outcome, place.work)
        on_done(training, outcome)
    if failed:
        training, error = failed[0]
        error.add_note(
            f"{len(failed)} of {len(trainings)} trainings failed, the first of them {training.key}; the others are "
            "kept, and the same command goes on with those that failed"
        )
        raise error
    return [results[training.key] for training in trainings]


def train_and_keep(job: Job) -> Trained:
    """Train in a worker, from the last checkpoint where there is one, and write the result where the folder is seen.

    Safe to be called twice. That the worker writes it, and not the driver alone, keeps what was trained when the driver
    is killed.
    """
    training, place = job
    kept = read_result(training, place.work)
    if kept is not None:
        return kept
    data = place.open()
    if not place.work.is_dir():
        return train_once(training, data, compute=place.compute, checkpoint=None)
    checkpoint = _folder(place.work, "checkpoints") / f"{training.key}.pt"
    result = train_once(training, data, compute=place.compute, checkpoint=checkpoint)
    write_result(training, result, place.work)
    checkpoint.unlink(missing_ok=True)
    return result


def train_once(training: Training, data: TrainingData, *, compute: ComputeConfig, checkpoint: Path | None) -> Trained:
    """Train from the start, or from the checkpoint, which is written after every epoch but the last; None: without."""
    recipe = training.recipe
    learner = new_learner(recipe, data, total_epochs=training.epochs, seed=training.seed, compute=compute)
    history: list[dict[str, Any]] = []
    rates: list[float] = []
    if checkpoint is not None and checkpoint.is_file():
        state = load_checkpoint(checkpoint, device=learner.device.target)
        learner.load_state_dict(state["learner"])
        history, rates = state["history"], state["rates"]
    labels = data.split("val").labels
    scored: dict[str, float | None] = {}

    def score(_: nn.Module, logits: np.ndarray) -> None:
        scored.update(decision_metrics(logits, labels, classes=data.classes, good_classes=data.good_classes))

    epochs = run_epochs(
        learner,
        recipe,
        data,
        until=training.epochs,
        workers=loader_workers(compute),
        on_step=lambda record: rates.append(record.lr),
        on_scored=score,
    )
    diverged = False
    for record in epochs:
        diverged = record.diverged or not math.isfinite(record.metrics["val_loss"])
        if diverged:
            break
        history.append(_row(record, scored))
        if checkpoint is not None and learner.epoch < training.epochs:
            save_checkpoint(checkpoint, {"learner": learner.state_dict(), "history": history, "rates": rates})
    return _trained(training, diverged=diverged, history=history, rates=rates)


def decision_metrics(
    logits: np.ndarray, labels: np.ndarray, *, classes: Sequence[str], good_classes: Sequence[str]
) -> dict[str, float | None]:
    """Metrics of the likeliest class, and AUROC of the defect score; None where the images or the logits give none.

    logits: (N, K) float. labels: (N,) int positions in `classes`. sensitivity: share of the defective images whose
    likeliest class is one of the defects, be it the right one. Without good or without defect classes there are
    accuracy and balanced accuracy only.
    """
    inspects = 0 < len(good_classes) < len(classes)
    names = ("accuracy", "balanced_accuracy", *(("sensitivity", "specificity", "auroc") if inspects else ()))
    if not np.isfinite(logits).all():
        return dict.fromkeys(names)
    predicted = logits.argmax(axis=1)
    counts = scalars.tally(labels, predicted, len(classes))
    values = [float((predicted == labels).mean()) if labels.size else math.nan, scalars.balanced_accuracy(counts)]
    if inspects:
        is_good = good_mask(classes, good_classes)
        is_defect, rejected = ~is_good[labels], ~is_good[predicted]
        scores = defect_log_odds(logits, is_good)
        values += [_share(rejected[is_defect]), _share(~rejected[~is_defect]), scalars.auroc(scores, is_defect)]
    return {name: _known(value) for name, value in zip(names, values, strict=True)}


def read_result(training: Training, work: Path) -> Trained | None:
    """The result that stands, or None."""
    path = work / "results" / f"{training.key}.json"
    return Trained(**json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def write_result(training: Training, result: Trained, work: Path) -> None:
    """Write the result beside its place and rename it."""
    path = _folder(work, "results") / f"{training.key}.json"
    with whole_file(path) as draft:
        draft.write_text(json.dumps(asdict(result), allow_nan=False), encoding="utf-8")


def _row(record: EpochRecord, scored: Mapping[str, float | None]) -> dict[str, Any]:
    measured = {"train_loss": record.train_loss, **record.metrics}
    return {
        "epoch": record.epoch,
        "step": record.step,
        "seconds": record.seconds,
        **{name: _known(value) for name, value in measured.items()},
        **scored,
    }


def _trained(training: Training, *, diverged: bool, history: list[dict[str, Any]], rates: list[float]) -> Trained:
    lr = training.recipe.recipe.lr
    assert not isinstance(lr, str)
    return Trained(
        phase=training.phase,
        entry=training.entry,
        factor=training.factor,
        lr=lr,
        seed=training.seed,
        epochs=training.epochs,
        diverged=diverged,
        history=history,
        rates=rates,
    )


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if hits.size else math.nan


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _folder(work: Path, name: str) -> Path:
    folder = work / name
    folder.mkdir(exist_ok=True)
    return folder
