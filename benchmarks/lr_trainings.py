"""What a setting costs and earns: a whole training at one rate, a range test, a peer's range test.

A training is what the pipeline does by default: linear warmup over a tenth of the steps, then a cosine, or the
schedule-free optimizer's constant rate with its averaged weights. Its score is the validation split's balanced
accuracy, one of the pipeline's objectives: it is what a rate is chosen for, and it has the same meaning for ten classes
and for two of which one is rare. (Log loss would mostly rate how sure of itself a small network that has learned its
training set by heart is; it is reported beside.)
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from lr_pretrained import start_from_features
from lr_settings import BATCH_SIZE, Problem, Setting, forward, make_model
from sklearn.metrics import balanced_accuracy_score
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset
from torch_lr_finder import LRFinder

from components.data.loader import Batch
from components.optim.layerwise import LayerRates
from components.optim.optimizers import OPTIMIZERS, build_optimizer
from components.optim.range_test.bounds import LrBounds, analyse_curves
from components.optim.range_test.reading import valley_index
from components.optim.schedules import Schedule
from components.optim.stepper import Stepper
from components.training.engine import Device, Learner, Preprocessing
from components.training.ramp import RampStep, held_out_interval, ramp_rates, ramp_schedule, run_ramp

STEPS_PER_DECADE = 20
SEEDS = 3  # curves of a range test
WEIGHT_DECAY = 0.01
LAYERS = LayerRates(layer_decay=1.0, towards="input", head_ratio=1.0)
WARMUP = 0.1  # of the steps
CALIBRATION_BATCHES = 20


@dataclass(frozen=True)
class Score:
    """balanced_accuracy in [0, 1]; log_loss in nats. A training that diverged scores as a constant prediction."""

    balanced_accuracy: float
    log_loss: float


def train(setting: Setting, problem: Problem, *, lr: float, seed: int) -> Score:
    """Train from the seed at this peak rate and score the validation split."""
    model = make_model(setting.model, problem, seed)
    if setting.pretrained:
        start_from_features(model, problem.train, problem.train_labels)
    stepper = Stepper(
        model,
        new_optimizer(setting.optimizer, model, lr),
        _schedule(setting),
        clip_grad_norm=None,
        freeze_steps=0,
    )
    stepper.train()
    for batch in itertools.islice(problem.batches(seed, setting.batch_size), setting.steps):
        stepper.zero_grad()
        loss = problem.loss(forward(model, batch), batch.labels)
        if not math.isfinite(loss.item()):
            return _constant_score(problem)
        loss.backward()
        stepper.step()
    calibration = itertools.islice(problem.batches(seed), CALIBRATION_BATCHES)
    with stepper.averaged(lambda: (batch.images for batch in calibration)):
        return _score(model, problem)


def ramp_curves(setting: Setting, problem: Problem, *, seeds: range) -> pd.DataFrame:
    """The curves of one range test, one per seed, as the pipeline's stage records them."""
    low, high = OPTIMIZERS[setting.optimizer].ramp
    return pd.DataFrame([step for seed in seeds for step in ramp(setting, problem, seed=seed, low=low, high=high)])


class Normalised(Device):
    """The pixels are normalised already."""

    def inputs(self, batch: Batch, preprocessing: Preprocessing) -> torch.Tensor:
        return batch.images


def ramp(setting: Setting, problem: Problem, *, seed: int, low: float, high: float) -> list[RampStep]:
    """One curve from its own start and its own order of the images."""
    rates = ramp_rates(low, high, STEPS_PER_DECADE)
    model = make_model(setting.model, problem, seed)
    optimizer = new_optimizer(setting.optimizer, model, float(rates[-1]))
    learner = Learner(
        model=model,
        stepper=Stepper(model, optimizer, ramp_schedule(rates), clip_grad_norm=None, freeze_steps=0),
        loss=problem.loss,
        device=Normalised(torch.device("cpu")),
        preprocessing=Preprocessing.from_unit_scale((0.5,) * 3, (0.5,) * 3),
        seed=seed,
        averaged=None,
        calibration=lambda: (),
    )
    held_out = problem.held_out()
    classes = int(max(problem.train_labels)) + 1
    interval = held_out_interval(STEPS_PER_DECADE)
    return run_ramp(
        learner,
        lambda epoch: problem.batches(seed, setting.batch_size),
        held_out,
        rates=rates,
        interval=interval,
        num_classes=classes,
    )


def read(setting: Setting, problem: Problem, curves: pd.DataFrame) -> LrBounds:
    """Ours: the analysis of the curves."""
    return analyse_curves(
        curves,
        constant_loss=problem.constant_loss,
        spec=OPTIMIZERS[setting.optimizer],
        bootstrap_samples=100,
        seed=0,
        constant_spread=problem.constant_spread,
    )


def valley_rate(curve: pd.DataFrame) -> float:
    """fastai's suggestion on one raw curve: its moving average (0.98, bias corrected), its stop at four times the best.

    fastai's `Recorder` smooths so, its `LRFinder` stops so, its `lr_find` drops the first tenth and the last five
    steps.
    """
    losses, average, best = [], 0.0, math.inf
    for number, loss in enumerate(curve["loss"], start=1):
        average = 0.98 * average + 0.02 * loss
        smooth = average / (1 - 0.98**number)
        if not math.isfinite(smooth):
            break
        losses.append(smooth)
        best = min(best, smooth)
        if smooth > 4 * best:
            break
    start = len(losses) // 10
    kept = np.asarray(losses[start : max(start + 1, len(losses) - 5)])
    return float(curve["lr"].to_numpy()[start + valley_index(kept, resolution=0.0)])


def steepest_rate(setting: Setting, problem: Problem, *, seed: int) -> float:
    """torch-lr-finder's own run and its own suggestion, in its defaults but for our range and number of steps."""
    low, high = OPTIMIZERS[setting.optimizer].ramp
    model = make_model(setting.model, problem, seed)
    optimizer = new_optimizer(setting.optimizer, model, low)
    if hasattr(optimizer, "train"):
        optimizer.train()  # schedule-free: torch-lr-finder does not know of it
    finder = LRFinder(model, optimizer, problem.loss, device="cpu")
    loader = DataLoader(
        TensorDataset(problem.train, problem.train_labels),
        batch_size=BATCH_SIZE,
        shuffle=True,
        drop_last=True,
        generator=torch.Generator().manual_seed(seed),
    )
    steps = len(ramp_rates(low, high, STEPS_PER_DECADE))
    mpl.use("agg")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        finder.range_test(loader, start_lr=low, end_lr=high, num_iter=steps)
        axes, suggested = finder.plot()
    mpl.pyplot.close(axes.figure)
    return float(suggested)


def new_optimizer(name: str, model: torch.nn.Module, lr: float) -> torch.optim.Optimizer:
    return build_optimizer(model, name=name, lr=lr, weight_decay=WEIGHT_DECAY, layers=LAYERS)


def _schedule(setting: Setting) -> Schedule:
    """The pipeline's default."""
    return Schedule(
        name="fixed" if OPTIMIZERS[setting.optimizer].schedule_free else "cosine",
        warmup_steps=round(WARMUP * setting.steps),
        total_steps=setting.steps,
        final_lr_fraction=0.01,
        schedule_drops=2,
        schedule_cycles=3,
        cycle_growth=1.0,
        cycle_low=0.04,
        rise_fraction=0.3,
        cooldown_fraction=0.2,
        plateau_factor=0.3,
        plateau_patience=3,
    )


@torch.inference_mode()
def _score(model: torch.nn.Module, problem: Problem) -> Score:
    model.eval()
    logits = torch.cat([model(part) for part in problem.val.split(256)])
    if not torch.isfinite(logits).all():
        return _constant_score(problem)
    return Score(
        float(balanced_accuracy_score(problem.val_labels.numpy(), logits.argmax(dim=1).numpy())),
        float(cross_entropy(logits, problem.val_labels)),
    )


def _constant_score(problem: Problem) -> Score:
    return Score(1 / problem.classes, math.log(problem.classes))
