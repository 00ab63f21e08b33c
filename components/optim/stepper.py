"""One face for every optimizer: its modes, the rate of every group, clipping, freezing, evaluation, checkpoint.

The stepper alone sets rates, from closed forms, so that what a step used can be read off it and a resumed training
uses the same. Schedule-Free (Defazio et al., arXiv 2405.15682) trains at one point and is evaluated at another: its
optimizer stays in train mode here but within `averaged`, because a round trip through its eval mode is not bit-exact.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from components.errors import InputError
from components.optim.averaging import recalibrate, unchanged
from components.optim.freezing import FrozenBody, norms_with_statistics
from components.optim.optimizers import ScheduleFree
from components.optim.schedules import PlateauRule, Schedule, multiplier


@dataclass(frozen=True)
class TakenStep:
    """What one step did.

    rates: effective rate of every group in it, 0 for a frozen one. grad_norm: of all trainable parameters together,
    before clipping; where it is not finite, the weights were left as they were and the step does not count.
    """

    rates: tuple[float, ...]
    grad_norm: float


class Stepper:
    """Drives one optimizer over one model.

    optimizer: as it was given. schedule: as it was given. steps: successful ones so far. scale: factor beside the
    schedule, for whoever watches the training. group_names: of the parameter groups, unique and stable. averages:
    whether `averaged` does anything.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        schedule: Schedule,
        *,
        clip_grad_norm: float | None,
        freeze_steps: int,
    ) -> None:
        """Take the rates that the groups have now as their peaks; freeze the body, where it is to be.

        Args:
            model: what the optimizer was built over.
            optimizer: of `build_optimizer`; groups without a `part` are never frozen.
            schedule: `fixed` for a schedule-free optimizer.
            clip_grad_norm: largest norm of the gradient, positive; None for no limit.
            freeze_steps: steps at the start in which the classifier alone learns.

        Raises:
            InputError: a schedule for a schedule-free optimizer, or a frozen body without a classifier.
        """
        self.averages = isinstance(optimizer, ScheduleFree)
        groups = optimizer.param_groups
        if self.averages and schedule.name != "fixed":
            raise InputError(f"recipe.schedule={schedule.name}: a schedule-free optimizer takes none; use fixed")
        if freeze_steps and all(_in_body(group) for group in groups):
            raise InputError("recipe.freeze_epochs: the classifier has nothing to train meanwhile; use 0")
        self.optimizer = optimizer
        self.schedule = schedule
        self.steps = 0
        self.scale = 1.0
        self.group_names = tuple(group.get("name", f"group_{number}") for number, group in enumerate(groups))
        self._model = model
        self._peaks = [float(group["lr"]) for group in groups]
        # Of this recipe: a checkpoint brings the groups of the training that it was taken of.
        self._ratios = [float(group.get("lr_ratio", 1.0)) for group in groups]
        self._decaying = [bool(group.get("decays", True)) for group in groups]
        self._clip = math.inf if clip_grad_norm is None else clip_grad_norm
        self._plateau = PlateauRule(
            reduction=schedule.plateau_factor, patience=schedule.plateau_patience, least=schedule.final_lr_fraction
        )
        self._freeze_steps = freeze_steps
        self._body = FrozenBody(model, [weight for group in groups if _in_body(group) for weight in group["params"]])
        self._evaluating = False
        self._match_steps()
        if isinstance(optimizer, ScheduleFree):
            optimizer.train()

    def retune(self, *, lr: float, weight_decay: float) -> None:
        """Go on at another peak rate and another weight decay; what the optimizer remembers stays.

        After `load_state_dict` it has a training go on from another's checkpoint at settings of its own. The ratios of
        the groups, and which of them decay, are those that this stepper was built with; the schedule, where it is.

        Args:
            lr: peak of a group whose ratio is 1, positive.
            weight_decay: at least 0.
        """
        self._peaks = [lr * ratio for ratio in self._ratios]
        groups = self.optimizer.param_groups
        for group, peak, ratio, decays in zip(groups, self._peaks, self._ratios, self._decaying, strict=True):
            group["lr"], group["lr_ratio"] = peak, ratio
            group["weight_decay"] = weight_decay if decays else 0.0
            if group.get("max_lr_snapshot") is not None:  # see `_build_timm`
                group["max_lr_snapshot"] = peak

    def train(self) -> None:
        """Put the model into train mode, but for the norms of a frozen body."""
        if self._evaluating:
            raise RuntimeError("leave `averaged` before training goes on")
        self._model.train()
        self._body.hold_norms()

    def rates(self) -> tuple[float, ...]:
        """Return the rate of every group in the coming step."""
        factor = multiplier(self.schedule, self.steps) * self._plateau.factor * self.scale
        return tuple(
            0.0 if self._body.frozen and _in_body(group) else peak * factor
            for peak, group in zip(self._peaks, self.optimizer.param_groups, strict=True)
        )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self) -> TakenStep:
        """Set the rates, measure and clip the gradients that are there, and move the weights.

        With a norm that is not finite nothing moves and `steps` stays.
        """
        groups, rates = self.optimizer.param_groups, self.rates()
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
        # Before the step: schedule-free overwrites the gradients.
        grad_norm = self._clipped_norm()
        if not math.isfinite(grad_norm):
            return TakenStep(rates, grad_norm)
        with _limited_to(self.optimizer, [group for group in groups if not (self._body.frozen and _in_body(group))]):
            self.optimizer.step()
        if self.averages:
            rates = tuple(group["scheduled_lr"] if rate else 0.0 for group, rate in zip(groups, rates, strict=True))
        self.steps += 1
        self._match_steps()
        return TakenStep(rates, grad_norm)

    def epoch_ended(self, val_loss: float) -> None:
        """Tell the schedule `plateau` how the epoch came out; the others do not listen."""
        if self.schedule.name == "plateau":
            self._plateau.update(val_loss)

    @contextmanager
    def averaged(self, calibration: Callable[[], Iterable[torch.Tensor]]) -> Iterator[None]:
        """Have the model hold the weights that a schedule-free optimizer is evaluated and exported with.

        Inside, the model is in eval mode with the averaged weights and the norm statistics of these on the calibration
        batches; afterwards every weight, buffer, mode and flag is as it was, bit for bit. For other optimizers nothing
        happens and `calibration` is not called.

        Args:
            calibration: gives normalised training inputs (B, 3, H, W), on the model's device and without augmentation.

        Raises:
            ValueError: no batch, for a model whose norms keep statistics.
        """
        optimizer = self.optimizer
        if self._evaluating or not isinstance(optimizer, ScheduleFree):
            yield
            return
        self._evaluating = True
        try:
            with unchanged(self._model), _eval_mode(optimizer):
                still = {id(norm) for norm in self._body.norms}
                norms = [norm for norm in norms_with_statistics(self._model) if id(norm) not in still]
                recalibrate(self._model, norms, calibration() if norms else ())
                yield
        finally:
            self._evaluating = False

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, which `torch.load(weights_only=True)` reads. The model's are not in it.

        Raises:
            RuntimeError: within `averaged`, whose weights no training can go on from.
        """
        if self._evaluating:
            raise RuntimeError("a checkpoint is taken outside of `averaged`")
        return {
            "optimizer": self.optimizer.state_dict(),
            "peaks": list(self._peaks),
            "steps": self.steps,
            "scale": self.scale,
            "plateau": self._plateau.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where that stepper was, with its peaks; the model's own state is loaded beside it."""
        # A copy: torch would share the tensors with whoever the state is of, and change them under its feet.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self._peaks = list(state["peaks"])
        self.steps, self.scale = state["steps"], state["scale"]
        self._plateau.load_state_dict(state["plateau"])
        self._match_steps()

    def _clipped_norm(self) -> float:
        """Return the norm of all gradients, and scale them down to the limit where one is given."""
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        if self._clip < math.inf:
            nn.utils.clip_grads_with_norm_(weights, self._clip, norm)
        return float(norm)

    def _match_steps(self) -> None:
        """Freeze the body, or let it go, as the number of steps has it."""
        if self.steps >= self._freeze_steps:
            self._body.release(training=self._model.training)
        elif not self._body.frozen:
            self._body.freeze()


def _in_body(group: Mapping[str, Any]) -> bool:
    return group.get("part") == "body"


@contextmanager
def _limited_to(optimizer: torch.optim.Optimizer, groups: list[dict[str, Any]]) -> Iterator[None]:
    """Hide the other groups: many optimizers count steps by group, gradients or not, and correct their bias by it."""
    everything = optimizer.param_groups
    optimizer.param_groups = groups
    try:
        yield
    finally:
        optimizer.param_groups = everything


@contextmanager
def _eval_mode(optimizer: ScheduleFree) -> Iterator[None]:
    """Have a schedule-free optimizer put its averages into the weights; give back its flags, but not the weights."""
    flags = [group["train_mode"] for group in optimizer.param_groups]
    optimizer.eval()
    try:
        yield
    finally:
        for group, flag in zip(optimizer.param_groups, flags, strict=True):
            group["train_mode"] = flag
