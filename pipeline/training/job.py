"""The training job: one training as a generator of plain events. Every stage that trains a recipe uses it.

It uses no console, tracker or folder. After each epoch it yields the state to save, and the caller saves it before it
asks for the next event: so the job runs in this process, in a worker of a cluster or in a trial, and an interruption
costs at most one epoch. Resuming, early stopping, the monitor and divergence are handled only here.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from components.evaluation.objectives import decision_metrics
from components.models.heads import Heads, HeadStart
from components.models.views import allowed_views, nested_views
from components.training.checkpoint import on_cpu
from components.training.engine import EpochRecord, Learner, StepRecord
from components.training.watch import MonitorWatcher
from pipeline.compute.device import loader_workers
from pipeline.config import ComputeConfig
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import Recipe
from pipeline.training.build import loss_of_constant, new_learner, run_epochs, view_scores
from pipeline.training.data import SELECTION_FOLD, TrainingData, fold_of, for_selection, held_out_batch, steps_per_epoch
from pipeline.training.progress import Progress
from pipeline.training.tasks import Place

State = dict[str, Any]
OnSteps = Callable[[Sequence[StepRecord]], None]
#: How many images, repeats counted, a training may see and still gain by a fitted start of its classifier. In longer
#: ones it keeps to the features that this start found (docs/frozen-features.md).
HEAD_START_IMAGES = 6_000
#: Remedy for a training that diverges.
REMEDY = "lower recipe.lr, lengthen recipe.warmup_epochs, or set recipe.clip_grad_norm"


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """What to train, in values that can be sent to a worker.

    recipe: its `lr` is a number. head: the start of the classifier, fitted without the images that are scored; None for
    one near zero. fold: validate on that fold and train on the others; None: train and validate on the
    data that recipes are compared on (see `for_selection`); all: train on all that is not test, without validation, in
    the design cross_fit. score_last: score the last epoch only. views: in which the validation images
    are scored at the end (see `turned`). patience: epochs without a better validation score
    after which the training stops; None: never. keep: the epoch whose scored weights are yielded; None: none.
    decision_metrics: whether each epoch is also measured by `decision_metrics`. ends_at: see `run_epochs`.
    """

    recipe: Recipe
    seed: int
    epochs: int
    head: HeadStart | None = None
    fold: int | Literal["all"] | None = None
    score_last: bool = False
    views: tuple[int, ...] = ()
    patience: int | None = None
    monitor: MonitorConfig | None = None
    keep: Literal["best", "last"] | None = "best"
    decision_metrics: bool = False
    ends_at: float | None = None

    @property
    def monitor_action(self) -> str:
        return "none" if self.monitor is None else self.monitor.action


@dataclass(frozen=True, kw_only=True)
class Scored:
    """The scored weights on the CPU (averaged ones if there are any), and their validation logits, (N, K) float32.

    views: (V, N, K) float32 log-probabilities in the views of the spec, after its last epoch; else None.
    """

    weights: dict[str, torch.Tensor]
    val_logits: np.ndarray
    views: np.ndarray | None = None


@dataclass(frozen=True, kw_only=True)
class Saved:
    """What to save after an epoch, also after one that the monitor has rolled back.

    state: to resume from, together with the records of the epochs. In the same process its tensors are the learner's
    own: write it before asking for the next event. scored: None unless the epoch is kept. steps: those of the epoch.
    """

    state: State
    scored: Scored | None
    epoch: EpochRecord
    steps: list[StepRecord]


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a training ended, yielded last.

    epoch: the last one, or the one in which it diverged. precision: of the training's forward pass. failure: an error
    message if there is no epoch to keep, else None. ledger, advice: the monitor's. steps: those after the last complete
    epoch. groups: names of the optimizer's parameter groups, in the order of the rates of a step.
    """

    reason: Literal["completed", "patience", "monitor", "diverged"]
    epoch: int
    precision: str
    failure: str | None
    ledger: list[dict[str, Any]]
    advice: list[str]
    steps: list[StepRecord]
    groups: tuple[str, ...]


Event = Saved | Ended


def train(
    spec: TrainingSpec, place: Place, *, earlier: State | None, on_steps: OnSteps = lambda records: None
) -> Generator[Event, None, None]:
    """Train from the start or from an earlier state. A training that diverges does not raise: see `Ended`.

    earlier: a state with its `history` (see `TrainingStore.state`).
    """
    return TrainingJob(spec, place.open(), place.compute, earlier=earlier, on_steps=on_steps).run()


class TrainingJob:
    """One training in progress. Use `train`, unless the learner itself is needed between epochs."""

    def __init__(
        self,
        spec: TrainingSpec,
        data: TrainingData,
        compute: ComputeConfig,
        *,
        earlier: State | None = None,
        on_steps: OnSteps = lambda records: None,
    ) -> None:
        self.spec, self.compute = spec, compute
        self.data = data_of(spec.fold, data)
        self.learner = new_learner(
            spec.recipe, self.data, total_epochs=spec.epochs, seed=spec.seed, compute=compute, head=spec.head
        )
        self.progress = Progress()
        self._monitor = new_monitor(spec, self.data, self.learner)
        self._on_steps = on_steps
        self._steps: list[StepRecord] = []
        self._scored: Scored | None = None
        self._decisions: dict[str, float] = {}
        if earlier is not None:
            self.load(earlier)

    def load(self, state: State) -> None:
        """Resume from the state of an earlier event, which is not changed."""
        self.learner.load_state_dict(state["learner"])
        # Also on a machine where `auto` means another precision.
        self.learner.device = replace(self.learner.device, precision=state["precision"])
        if self._monitor is not None:
            self._monitor.load_state_dict(state["monitor"])
        self.progress = Progress.from_state(state)

    def run(self) -> Generator[Event, None, None]:
        """The epochs, and the end."""
        diverged: EpochRecord | None = None
        if self._end_reason() is None:
            epochs = run_epochs(
                self.learner,
                self.spec.recipe,
                self.data,
                until=self.spec.epochs,
                workers=loader_workers(self.compute),
                score_from=self.spec.epochs if self.spec.score_last else 1,
                on_steps=self._add_steps,
                on_scored=self._add_scored,
                watcher=self._monitor,
                ends_at=self.spec.ends_at,
            )
            with contextlib.closing(epochs):
                for record in epochs:
                    if self._is_diverged(record):
                        diverged = record
                        break
                    yield self._saved(replace(record, metrics=record.metrics | self._decisions))
                    if self._end_reason() is not None:
                        break
        yield self._ended(diverged)

    def _add_steps(self, records: Sequence[StepRecord]) -> None:
        """Add steps; steps that are repeated after a rollback replace the earlier ones and those after them."""
        while self._steps and self._steps[-1].step >= records[0].step:
            self._steps.pop()
        self._steps += records
        self._on_steps(records)

    def _add_scored(self, model: nn.Module, logits: np.ndarray) -> None:
        """Copy the scored weights, which the model has only during the call."""
        if self.spec.keep is not None:
            views = None
            if self.spec.views and self.learner.epoch == self.spec.epochs:
                views = view_scores(model, self.data.split("val"), self.learner, self.spec.views)
            self._scored = Scored(weights=on_cpu(model.state_dict()), val_logits=logits, views=views)
        if self.spec.decision_metrics:
            data = self.data
            self._decisions = decision_metrics(
                logits, data.split("val").labels, classes=data.classes, good_classes=data.good_classes
            )

    def _is_diverged(self, record: EpochRecord) -> bool:
        """Whether loss, gradient or a validation output (then `val_score` is NaN) is not finite, without a rollback."""
        finite = all(math.isfinite(record.metrics.get(name, 0.0)) for name in ("val_loss", "val_score"))
        return record.diverged or (not finite and self.learner.epoch == record.epoch)

    def _end_reason(self) -> Literal["completed", "patience", "monitor"] | None:
        """Why the training is over; None while it is not."""
        if self._monitor is not None and any(entry["action"] == "stop" for entry in self._monitor.ledger):
            return "monitor"
        if self.learner.epoch >= self.spec.epochs:
            return "completed"
        if self.spec.patience is not None and self.progress.epochs_without_gain() >= self.spec.patience:
            return "patience"
        return None

    def _saved(self, record: EpochRecord) -> Saved:
        """What to save after an epoch. With rollbacks, earlier best epochs are kept too: the best one may be undone."""
        progress = self.progress
        before = progress.cut(record.epoch - 1).steps_done()
        progress.history.append(record)
        progress.trained += 1
        scored, self._scored = self._scored, None
        if scored is not None and (self.spec.keep == "last" or progress.best.epoch == record.epoch):
            if self.spec.monitor_action != "rollback":
                progress.weights.clear()
            progress.weights[record.epoch] = progress.trained
        progress.cut(self.learner.epoch)
        steps, self._steps = [step for step in self._steps if before < step.step <= record.step], []
        state = {
            "learner": self.learner.state_dict(),
            "monitor": self._monitor.state_dict() if self._monitor else None,
            "precision": self.learner.device.precision,
            "epoch": self.learner.epoch,
        }
        return Saved(
            state=state | progress.state_dict(),
            scored=scored if record.epoch in progress.weights else None,
            epoch=record,
            steps=steps,
        )

    def _ended(self, diverged: EpochRecord | None) -> Ended:
        # A rollback within the last epoch may have undone epochs that were handed out.
        progress = self.progress.cut(self.learner.epoch if diverged is None else diverged.epoch - 1)
        advice = self._monitor.advice() if self._monitor else []
        reason = "diverged" if diverged is not None else self._end_reason()
        assert reason is not None
        return Ended(
            reason=reason,
            epoch=diverged.epoch if diverged is not None else progress.epochs_done(),
            precision=self.learner.device.precision,
            failure=self._failure(diverged, advice),
            ledger=list(self._monitor.ledger) if self._monitor else [],
            advice=advice,
            steps=[step for step in self._steps if step.step > progress.steps_done()],
            groups=self.learner.stepper.group_names,
        )

    def _failure(self, diverged: EpochRecord | None, advice: list[str]) -> str | None:
        """An error message if there is no epoch to keep, or the training diverged without an active monitor."""
        acts = self.spec.monitor_action in ("stop", "rollback")
        if self.progress.history and (diverged is None or acts):
            return None
        if diverged is not None:
            what = f"training diverged in epoch {diverged.epoch}"
        else:
            what = "the monitor stopped the training in its first epoch"
        lr = self.spec.recipe.recipe.lr
        shown = lr if isinstance(lr, str) else f"{lr:.2e}"
        return f"recipe.lr={shown}: {what}; " + " ".join([REMEDY + ("." if advice else ""), *advice])


def left_out(spec: TrainingSpec, fold: int) -> TrainingSpec:
    """The training without a fold in the design cross_fit, with a seed of its own.

    Nothing is stopped or picked on the fold, since it then certifies. It is scored in all views that the augmentation
    allows.
    """
    settings = spec.recipe.recipe
    views = nested_views(allowed_views(settings.augment, settings.augment_strength))
    return replace(on_all(spec), fold=fold, seed=spec.seed + fold, views=views)


def on_all(spec: TrainingSpec) -> TrainingSpec:
    """The training on all that is not test in the design cross_fit, without validation."""
    return replace(spec, fold="all", patience=None, keep="last", score_last=True)


def with_head(spec: TrainingSpec, heads: Heads, data: TrainingData) -> TrainingSpec:
    """The training with the start of its classifier among the heads, if its recipe wants one and there is one."""
    wanted, backbone = spec.recipe.recipe.head_start, spec.recipe.model.backbone
    fold = None if spec.fold == "all" else spec.fold
    if spec.fold is None and (backbone, SELECTION_FOLD) in heads:
        fold = SELECTION_FOLD
    head = heads.get((backbone, fold))
    if head is None or wanted == "never":
        return spec
    if wanted == "auto" and spec.epochs * len(data_of(spec.fold, data).split("train")) > HEAD_START_IMAGES:
        return spec
    return replace(spec, head=head)


def data_of(fold: int | Literal["all"] | None, data: TrainingData) -> TrainingData:
    """The images that a training uses as train and as val. fold: of its spec."""
    if fold is None:
        return for_selection(data)
    return data if fold == "all" else fold_of(data, fold)


def new_monitor(spec: TrainingSpec, data: TrainingData, learner: Learner) -> MonitorWatcher | None:
    """The monitor that the spec asks for. Its probe is drawn by the training's seed."""
    settings = spec.monitor
    if settings is None or settings.action == "none":
        return None
    return MonitorWatcher(
        held_out_batch(data, size=settings.probe_images, seed=learner.seed),
        action=settings.action,
        max_rollbacks=settings.max_rollbacks,
        probe_every=settings.probe_every,
        total_steps=steps_per_epoch(spec.recipe, data) * spec.epochs,
        chance_loss=loss_of_constant(spec.recipe, data),
    )


def epoch_metrics(record: EpochRecord) -> dict[str, float]:
    """The metrics of an epoch, as every stage logs them; `lr` is that of its last step."""
    values: Mapping[str, Any] = asdict(record) | record.metrics
    return {
        key: float(value)
        for key, value in values.items()
        if key not in ("epoch", "diverged", "metrics") and math.isfinite(value)
    }
