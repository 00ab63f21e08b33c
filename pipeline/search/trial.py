"""A trial in a worker: a training job that a search runs epoch by epoch, under the search's horizon.

constant, fixed: the training itself is scored. wsd: at each rung a copy of it is cooled down, scored (Hägele et al.,
arXiv 2405.18392) and discarded; the training continues at its rate.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from components.data.loader import Batch
from components.models.forward import Ensemble, MemberModel
from components.models.heads import Heads
from components.optim.schedules import multiplier
from components.search.trial import Suggestion
from components.serving.latency import latency_ms
from components.training.checkpoint import load_checkpoint, on_cpu, save_checkpoint
from components.training.engine import EpochRecord, Learner, train_epochs
from pipeline.compute.device import set_up_process
from pipeline.compute.shipping import Prepared, local_folder
from pipeline.config import ComputeConfig
from pipeline.search_space import at_horizon
from pipeline.sections.recipe import Recipe
from pipeline.sections.search import SearchConfig
from pipeline.training.build import new_learner, predict_split, scores_of
from pipeline.training.checkpoints import STATE_FILE, save_scored
from pipeline.training.data import TrainingData, open_data, train_loader
from pipeline.training.job import Ended, Saved, Scored, TrainingJob, TrainingSpec, epoch_metrics, with_head

#: Offset of the seeds of trials: confirmation and final training use other seeds, which have selected nothing.
TRIAL_SEEDS = 10**6
#: Timed passes of one image for the latency.
LATENCY_REPEATS = 20


@dataclass(frozen=True)
class TrialPlan:
    """What all trials of a search share, sent to the workers. rungs: epochs at which trials are compared."""

    prepared: Prepared
    default: Recipe
    search: SearchConfig
    rungs: tuple[int, ...]
    seed: int
    compute: ComputeConfig
    threads: int
    heads: Heads = field(default_factory=dict)


def open_session(suggestion: Suggestion, *, plan: TrialPlan) -> TrialSession:
    """A trial, opened in a worker."""
    set_up_process(plan.threads)
    return TrialSession(suggestion, open_data(local_folder(plan.prepared)), plan)


class TrialSession:
    """A trial that Tune runs one epoch at a time.

    All trials have the same seed, so that they differ by their settings alone, unless the sampler sets another.
    """

    def __init__(self, suggestion: Suggestion, data: TrainingData, plan: TrialPlan) -> None:
        self._plan = plan
        spec = TrainingSpec(
            recipe=at_horizon(plan.default, suggestion.overrides, plan.search),
            seed=TRIAL_SEEDS + plan.seed + suggestion.seed,
            epochs=suggestion.epochs,
            fold=suggestion.fold,
            keep="last",
        )
        self._job = TrainingJob(with_head(spec, plan.heads, data), data, plan.compute)
        # One iterator for all epochs, so that its worker processes start once; it uses the loaded state.
        self._events = self._job.run()
        self._saved: Saved | None = None
        self._latency_ms: float | None = None

    def next_epoch(self) -> dict[str, Any]:
        """Train one epoch; its record. `score`: at a rung of the horizon wsd that of the cooled copy."""
        event = next(self._events)
        if isinstance(event, Ended):
            return {"epoch": event.epoch, "score": math.nan, "diverged": event.reason == "diverged", "metrics": {}}
        if self._cools_down() and event.epoch.epoch in (*self._plan.rungs, self._job.spec.epochs):
            event = self._cooled(event)
        self._saved, record = event, event.epoch
        return {
            "epoch": record.epoch,
            "score": record.metrics["val_score"],
            "diverged": False,
            "metrics": epoch_metrics(record) | self._latency(),
        }

    def save(self, folder: Path) -> None:
        """Save the state to resume from, the scored weights and their validation logits."""
        assert self._saved is not None
        assert self._saved.scored is not None
        save_checkpoint(folder / STATE_FILE, self._saved.state)
        save_scored(folder, self._saved.scored)

    def load(self, folder: Path) -> None:
        """Resume from a checkpoint; called before the first epoch."""
        self._job.load(load_checkpoint(folder / STATE_FILE, device=self._job.learner.device.target))

    def close(self) -> None:
        """End the processes that make the batches."""
        self._events.close()

    def _cools_down(self) -> bool:
        """A schedule-free optimizer needs no cooldown."""
        return self._plan.search.horizon == "wsd" and not self._job.learner.stepper.averages

    def _latency(self) -> dict[str, float]:
        """Measured once, if configured: it does not depend on the weights."""
        if not self._plan.search.measure_latency:
            return {}
        if self._latency_ms is None:
            learner, side = self._job.learner, self._job.data.split("train").side
            with learner.scoring() as model:
                one = MemberModel(model, learner.preprocessing, learner.device.precision, weight=1.0, views=(0,))
                self._latency_ms = latency_ms(
                    Ensemble((one,)), side=side, threads=torch.get_num_threads(), repeats=LATENCY_REPEATS
                )
        return {"latency_ms": self._latency_ms}

    def _cooled(self, saved: Saved) -> Saved:
        """The epoch with weights and scores of a copy whose rate was lowered to zero as 1 − √."""
        job, val = self._job, self._job.data.split("val")
        extra = max(1, round(self._plan.search.fork_fraction * saved.epoch.step))
        fork = self._fork(extra)
        scored: list[Scored] = []

        def evaluate(model: nn.Module) -> Mapping[str, float]:
            logits = predict_split(model, val, fork)
            scored.append(Scored(weights=on_cpu(model.state_dict()), val_logits=logits))
            return scores_of(logits, val.labels, fork, job.spec.recipe, job.data)

        with train_loader(job.spec.recipe, job.data, seed=fork.seed, device=fork.device, workers=0) as loader:
            batches = itertools.islice(_endless(loader.epoch, saved.epoch.epoch), extra)
            cooled: EpochRecord = next(
                train_epochs(
                    fork,
                    until=fork.epoch + 1,
                    batches=lambda epoch: batches,
                    evaluate=evaluate,
                    on_steps=lambda records: None,
                    watcher=None,
                )
            )
        metrics = cooled.metrics or {"val_score": math.nan}  # none where the copy diverged
        return replace(saved, epoch=replace(saved.epoch, metrics=metrics), scored=scored[0] if scored else saved.scored)

    def _fork(self, extra: int) -> Learner:
        """A copy of the learner whose schedule is constant so far and cools down over `extra` steps."""
        job, trunk = self._job, self._job.learner.stepper
        total = trunk.steps + extra
        schedule = replace(
            trunk.schedule,
            name="wsd",
            warmup_steps=0,
            total_steps=total,
            cooldown_fraction=extra / total,
            final_lr_fraction=0.0,
        )
        fork = new_learner(
            job.spec.recipe,
            job.data,
            total_epochs=job.spec.epochs,
            seed=job.spec.seed,
            compute=job.compute,
            schedule=schedule,
        )
        fork.load_state_dict(job.learner.state_dict())
        fork.device = job.learner.device
        fork.stepper.scale *= multiplier(trunk.schedule, trunk.steps)  # less than 1 within the warmup
        return fork


def _endless(epoch: Any, first: int) -> Iterator[Batch]:  # noqa: ANN401 - a loader's method
    for number in itertools.count(first):
        yield from epoch(number)
