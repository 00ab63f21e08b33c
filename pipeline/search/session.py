"""A trial in a worker: a training that a search drives epoch by epoch, under the search's horizon.

constant, fixed: the training itself is scored. wsd: at each rung a copy of it is cooled down and scored (Hägele et al.,
arXiv 2405.18392) and thrown away; the training goes on from where it was.
"""

from __future__ import annotations

import itertools
import math
import statistics
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from components.data.loader import Batch
from components.optim.schedules import multiplier
from components.search.trial import Suggestion
from components.training.checkpoint import load_checkpoint, save_checkpoint
from components.training.engine import EpochRecord, Learner, train_epochs
from pipeline.compute.shipping import Prepared, local_folder
from pipeline.config import ComputeConfig
from pipeline.search_space import at_horizon
from pipeline.sections.recipe import Recipe
from pipeline.sections.search import SearchConfig
from pipeline.training.build import (
    TrainingData,
    fold_of,
    loader_workers,
    new_learner,
    open_data,
    predict_split,
    run_epochs,
    scores_of,
    train_loader,
    use_threads,
)
from pipeline.training.retuning import take_up

STATE_FILE, WEIGHTS_FILE, LOGITS_FILE = "session.pt", "weights.safetensors", "val_logits.npy"
#: Trials start from seeds of their own: those of the confirmation and of the final training have then chosen nothing.
TRIAL_SEEDS = 10**6
#: Of an epoch, what is worth a chart.
LOGGED = ("train_loss", "val_loss", "lr", "lr_lowest", "grad_norm", "images_per_second", "latency_ms")
#: Forward passes of one image: first some that are not timed.
LATENCY_WARMUP, LATENCY_TIMED = 5, 20


@dataclass(frozen=True)
class TrialPlan:
    """What all trials of a search share, as it is sent to the workers. rungs: epochs at which trials are compared."""

    prepared: Prepared
    default: Recipe
    search: SearchConfig
    rungs: tuple[int, ...]
    seed: int
    compute: ComputeConfig
    threads: int


def open_session(suggestion: Suggestion, overrides: Mapping[str, Any], *, plan: TrialPlan) -> TrialSession:
    """A trial, opened in a worker.

    Trials start from the same seed, so that they differ by their settings, unless the sampler asks for another.
    """
    use_threads(plan.threads)
    data = open_data(local_folder(plan.prepared))
    if suggestion.fold is not None:
        data = fold_of(data, suggestion.fold)
    return TrialSession(suggestion, overrides, data, plan)


class TrialSession:
    """A training that can be driven an epoch at a time, saved, and gone on with."""

    def __init__(
        self, suggestion: Suggestion, overrides: Mapping[str, Any], data: TrainingData, plan: TrialPlan
    ) -> None:
        self._data, self._plan, self._overrides = data, plan, dict(overrides)
        self._recipe = at_horizon(plan.default, overrides, plan.search)
        self._epochs_in_all = suggestion.epochs
        seed = TRIAL_SEEDS + plan.seed + suggestion.seed
        self._learner = new_learner(self._recipe, data, total_epochs=suggestion.epochs, seed=seed, compute=plan.compute)
        self._changes: list[dict[str, Any]] = [{"epoch": 0, "overrides": self._overrides}]
        self._scored: dict[str, torch.Tensor] = {}
        self._logits: np.ndarray | None = None
        self._latency_ms: float | None = None
        # One iterator for all epochs, so that its worker processes start once; it follows the learner that is loaded.
        self._epochs = run_epochs(
            self._learner,
            self._recipe,
            data,
            until=suggestion.epochs,
            workers=loader_workers(plan.compute),
            on_scored=self._keep,
        )

    def next_epoch(self) -> dict[str, Any]:
        """Train one epoch; its record, and `score`: that of the cooled copy where the horizon asks for one."""
        record = next(self._epochs)
        if self._cools_down() and record.epoch in (*self._plan.rungs, self._epochs_in_all) and not record.diverged:
            record = replace(record, metrics=self._cooled(record))
        told = asdict(record) | record.metrics | self._latency()
        return {
            "epoch": record.epoch,
            "score": record.metrics.get("val_score", math.nan),
            "diverged": record.diverged,
            "metrics": {key: float(told[key]) for key in LOGGED if key in told and math.isfinite(told[key])},
            "changes": self._told_changes(),
        }

    def save(self, folder: Path) -> None:
        """What the trial goes on from; beside it the weights and the validation logits that were scored."""
        state = {"learner": self._learner.state_dict(), "changes": self._changes}
        save_checkpoint(folder / STATE_FILE, state)
        save_file(self._scored, folder / WEIGHTS_FILE)
        if self._logits is not None:
            np.save(folder / LOGITS_FILE, self._logits, allow_pickle=False)

    def load(self, folder: Path) -> None:
        """Go on from a checkpoint; population-based training may bring that of another trial."""
        state = load_checkpoint(folder / STATE_FILE, device=self._learner.device.target)
        self._learner.load_state_dict(state["learner"])
        self._changes = list(state["changes"])
        if self._changes[-1]["overrides"] != self._overrides:
            self._changes.append({"epoch": self._learner.epoch, "overrides": self._overrides})
            take_up(self._learner, self._recipe, self._data)

    def close(self) -> None:
        """End the processes that make the batches."""
        self._epochs.close()  # type: ignore[attr-defined]  # a generator

    def _cools_down(self) -> bool:
        """A schedule-free optimizer's average needs no cooldown, and takes none."""
        return self._plan.search.horizon == "wsd" and not self._learner.stepper.averages

    def _told_changes(self) -> list[dict[str, Any]]:
        return self._changes if self._plan.search.scheduler_name == "pbt" else []

    def _keep(self, model: nn.Module, logits: np.ndarray) -> None:
        """Copies of the weights and logits that were scored: they are these only during the call."""
        self._logits = logits
        state = model.state_dict().items()
        self._scored = {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in state}

    def _latency(self) -> dict[str, float]:
        """Measured once, where it is asked for: it depends on the model, not on what it has learned."""
        if not self._plan.search.measure_latency:
            return {}
        if self._latency_ms is None:
            pack, train = self._data.pack, self._data.split("train")
            image = torch.from_numpy(pack[train.indices[:1]]).permute(0, 3, 1, 2)
            batch = Batch(image, torch.from_numpy(train.labels[:1]), torch.zeros(1, dtype=torch.int64))
            self._latency_ms = latency_ms(self._learner, batch)
        return {"latency_ms": self._latency_ms}

    def _cooled(self, record: EpochRecord) -> dict[str, float]:
        """The validation metrics of a copy whose rate was taken down to nothing as 1 − √."""
        extra = max(1, round(self._plan.search.fork_fraction * record.step))
        fork = self._fork(extra)
        with train_loader(self._recipe, self._data, seed=fork.seed, device=fork.device, workers=0) as loader:
            batches = itertools.islice(_endless(loader.epoch, record.epoch), extra)
            cooled = next(
                train_epochs(
                    fork,
                    until=fork.epoch + 1,
                    batches=lambda epoch: batches,
                    evaluate=lambda model: self._evaluate(model, fork),
                    on_step=lambda step: None,
                    watcher=None,
                )
            )
        return cooled.metrics

    def _fork(self, extra: int) -> Learner:
        """A copy of the learner whose schedule holds the rate up to here, and takes it down over `extra` steps."""
        trunk = self._learner.stepper
        total = trunk.steps + extra
        schedule = replace(
            trunk.schedule, name="wsd", warmup_steps=0, total_steps=total, cooldown=extra / total, final_fraction=0.0
        )
        fork = new_learner(
            self._recipe,
            self._data,
            total_epochs=self._epochs_in_all,
            seed=self._learner.seed,
            compute=self._plan.compute,
            schedule=schedule,
        )
        fork.load_state_dict(self._learner.state_dict())
        fork.stepper.scale *= multiplier(trunk.schedule, trunk.steps)  # less than 1 within the warmup
        return fork

    def _evaluate(self, model: nn.Module, learner: Learner) -> Mapping[str, float]:
        val = self._data.split("val")
        logits = predict_split(model, val, learner)
        self._keep(model, logits)
        return scores_of(logits, val.labels, learner, self._recipe, self._data)


def latency_ms(learner: Learner, batch: Batch) -> float:
    """Median milliseconds for one image, from bytes on this machine to logits, on the learner's device."""
    with learner.scoring() as model, torch.inference_mode():
        for _ in range(LATENCY_WARMUP):
            learner.device.forward(model, batch, learner.preprocessing).cpu()
        times = []
        for _ in range(LATENCY_TIMED):
            started = time.perf_counter()
            learner.device.forward(model, batch, learner.preprocessing).cpu()
            times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def _endless(epoch: Any, first: int) -> Iterator[Batch]:  # noqa: ANN401 - a loader's method
    for number in itertools.count(first):
        yield from epoch(number)
