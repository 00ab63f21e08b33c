"""One interface for every optimizer: its modes, the rate of every group, clipping, freezing, evaluation, checkpoint.

Only the stepper sets rates, from closed forms, so that the rates of a step are known and a resumed training uses
the same. Schedule-Free (Defazio et al., arXiv 2405.15682) trains at one point and is evaluated at another: its
optimizer stays in train mode here but within `averaged`, because a round trip through its eval mode is not bit-exact.
"""

import copy
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from components.errors import InputError
from components.optim.averaging import preserved, recalibrate
from components.optim.freezing import FrozenBody, norms_with_statistics
from components.optim.optimizers import ScheduleFree
from components.optim.schedules import PlateauRule, Schedule, cycled_momentum, multiplier


class Stepper:
    """Drives one optimizer over one model.

    optimizer: as it was given. schedule: as it was given. steps: successful ones so far. skipped: steps that were not
    taken, and that the schedule counts all the same. scale: factor beside the schedule, for whoever watches the
    training. group_names: of the parameter groups, unique and stable. averages: whether `averaged` does anything.
    gradients: of the backward pass that was measured last. grad_norm: () norm of all of them together, before clipping,
    on the device.
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

        model: what the optimizer was built over. optimizer: of `build_optimizer`; groups without a `part` are never
        frozen. schedule: `fixed`, or a range test's `ramp`, for a schedule-free optimizer. clip_grad_norm: largest norm
        of the gradient, positive; None for no limit. freeze_steps: steps at the start in which the classifier alone
        learns. Raises InputError: a schedule for a schedule-free optimizer, or a frozen body without a classifier.
        """
        self.averages = isinstance(optimizer, ScheduleFree)
        groups = optimizer.param_groups
        if self.averages and schedule.name not in ("fixed", "ramp"):
            raise InputError(f"recipe.schedule={schedule.name}: a schedule-free optimizer takes none; use fixed")
        if freeze_steps and all(_in_body(group) for group in groups):
            raise InputError("recipe.freeze_epochs: the classifier has nothing to train meanwhile; use 0")
        self.optimizer = optimizer
        self.schedule = schedule
        self.steps = 0
        self.skipped = 0
        self.scale = 1.0
        self.gradients: list[torch.Tensor] = []
        self.grad_norm = torch.tensor(math.nan)
        self.group_names = tuple(group.get("name", f"group_{number}") for number, group in enumerate(groups))
        self._model = model
        self._weights = [weight for group in groups for weight in group["params"]]
        self._failed: torch.Tensor | None = None
        self._peaks = [float(group["lr"]) for group in groups]
        self._clip = clip_grad_norm
        self._plateau = PlateauRule(
            reduction=schedule.plateau_factor, patience=schedule.plateau_patience, least=schedule.final_lr_fraction
        )
        self._freeze_steps = freeze_steps
        self._body = FrozenBody(model, [weight for group in groups if _in_body(group) for weight in group["params"]])
        self._evaluating = False
        self._match_steps()
        if isinstance(optimizer, ScheduleFree):
            optimizer.train()

    def train(self) -> None:
        """Put the model into train mode, but for the norms of a frozen body."""
        if self._evaluating:
            raise RuntimeError("leave `averaged` before the training continues")
        self._model.train()
        self._body.keep_norms_in_eval()

    def rates(self) -> tuple[float, ...]:
        """Return the rate of every group in the coming step."""
        factor = multiplier(self.schedule, self.steps + self.skipped) * self._plateau.factor * self.scale
        return tuple(
            0.0 if self._body.frozen and _in_body(group) else peak * factor
            for peak, group in zip(self._peaks, self.optimizer.param_groups, strict=True)
        )

    def zero_grad(self) -> None:
        """Forget all gradients."""
        self.gradients = []
        for weight in self._weights:
            weight.grad = None

    def measure_gradients(self) -> None:
        """Set `gradients` and `grad_norm` after a backward pass, before an optimizer overwrites the gradients."""
        self.gradients = [weight.grad for weight in self._weights if weight.grad is not None]
        self.grad_norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(self.gradients)))

    def step(self, batch_loss: torch.Tensor | None = None, *, on_device: bool = False) -> tuple[float, ...]:
        """Set the rates, clip the gradients that are there, and move the weights.

        Returns the effective rate of every group in the step, 0 for a frozen one. Nothing moves where `batch_loss` ()
        or the gradient norm is not finite. The host checks that, and does not count the step; or, with `on_device`, the
        device does: the host reads nothing, and the step counts. Then no later step moves anything either, until
        `uncount_steps`.
        """
        groups, rates = self.optimizer.param_groups, self.rates()
        momentum = cycled_momentum(self.schedule, self.steps + self.skipped)
        for group, rate in zip(groups, rates, strict=True):
            group["lr"] = rate
            if momentum is not None:
                _set_momentum(group, momentum)
        if not self.gradients:
            self.measure_gradients()
        checked = [self.grad_norm] if batch_loss is None else [self.grad_norm, batch_loss.detach()]
        if on_device:
            failed = ~torch.stack(checked).isfinite().all()
            self._failed = failed if self._failed is None else self._failed | failed
        elif not all(math.isfinite(value) for value in checked):
            self.gradients = []
            return rates
        if self._clip is not None:
            nn.utils.clip_grads_with_norm_(self._weights, self._clip, self.grad_norm)
        # Many optimizers count steps by group, gradients or not, and correct their bias by it.
        self.optimizer.param_groups = [group for group in groups if not (self._body.frozen and _in_body(group))]
        try:
            self._move()
        finally:
            self.optimizer.param_groups = groups
            self.gradients = []
        if self.averages:
            rates = tuple(group["scheduled_lr"] if rate else 0.0 for group, rate in zip(groups, rates, strict=True))
        self.steps += 1
        self._match_steps()
        return rates

    def uncount_steps(self, steps: int) -> None:
        """Do not count the latest steps, which moved nothing; the next one may move the weights again."""
        self._failed = None
        self.steps -= steps
        self._match_steps()

    @contextmanager
    def undone_on_failure(self, tensors: Callable[[], Iterable[torch.Tensor]]) -> Iterator[None]:
        """Undo on the device what happens to these tensors inside, if a step has failed since `uncount_steps`."""
        if self._failed is None:
            yield
            return
        before = [(tensor, tensor.detach().clone()) for tensor in tensors() if tensor.device == self._failed.device]
        yield
        with torch.no_grad():
            for tensor, earlier in before:
                tensor.copy_(torch.where(self._failed, earlier, tensor))

    def updated_norms(self) -> list[_NormBase]:
        """Norms whose running statistics the training moves: all that keep some, but for those of a frozen body."""
        frozen = {id(norm) for norm in self._body.norms}
        return [norm for norm in norms_with_statistics(self._model) if id(norm) not in frozen]

    def epoch_ended(self, val_loss: float) -> None:
        """Report the validation loss of an epoch to the schedule `plateau`; other schedules ignore it."""
        if self.schedule.name == "plateau":
            self._plateau.update(val_loss)

    @contextmanager
    def averaged(self, calibration: Callable[[], Iterable[torch.Tensor]]) -> Iterator[None]:
        """Put the averaged weights of a schedule-free optimizer into the model, for evaluation and export.

        Inside, the model is in eval mode with the averaged weights and their norm statistics on the calibration
        batches; at the end every weight, buffer, mode and flag is restored, bit for bit. For other optimizers this does
        nothing, and `calibration` is not called.

        calibration: gives normalised training inputs (B, 3, H, W), on the model's device and without augmentation.
        Raises ValueError: no batch, for a model whose norms keep statistics.
        """
        optimizer = self.optimizer
        if self._evaluating or not isinstance(optimizer, ScheduleFree):
            yield
            return
        self._evaluating = True
        try:
            with preserved(self._model), _eval_mode(optimizer):
                norms = self.updated_norms()
                recalibrate(self._model, norms, calibration() if norms else ())
                yield
        finally:
            self._evaluating = False

    def state_dict(self) -> dict[str, Any]:
        """Return tensors and plain values, which `torch.load(weights_only=True)` reads. The model's are not in it.

        Raises RuntimeError: within `averaged`, from whose weights no training can resume.
        """
        if self._evaluating:
            raise RuntimeError("a checkpoint is taken outside of `averaged`")
        return {
            "optimizer": self.optimizer.state_dict(),
            "steps": self.steps,
            "skipped": self.skipped,
            "scale": self.scale,
            "plateau": self._plateau.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where a stepper of the same recipe was; the model's own state is loaded separately."""
        # A copy: torch would share the tensors with the state, and change them.
        self.optimizer.load_state_dict(copy.deepcopy(state["optimizer"]))
        self.steps, self.skipped, self.scale = state["steps"], state["skipped"], state["scale"]
        self._plateau.load_state_dict(state["plateau"])
        self._failed = None
        self._match_steps()

    def _move(self) -> None:
        """Run the optimizer's step; after a failed step it is undone, or not taken, on the device."""
        optimizer: Any = self.optimizer
        if self._failed is None:
            optimizer.step()
        elif all(group.get("fused") for group in optimizer.param_groups):
            # What torch's GradScaler does: the fused kernels leave everything as it is where this is 1.
            optimizer.found_inf = self._failed.float()
            optimizer.step()
            del optimizer.found_inf
        else:
            with self.undone_on_failure(self._moved):
                optimizer.step()

    def _moved(self) -> Iterator[torch.Tensor]:
        """The tensors that a step changes: the weights and the optimizer's state."""
        yield from (weight for weight in self._weights if weight.grad is not None)
        for state in self.optimizer.state.values():
            yield from (value for value in state.values() if isinstance(value, torch.Tensor))

    def _match_steps(self) -> None:
        """Freeze or unfreeze the body, according to the number of steps."""
        if self.steps >= self._freeze_steps:
            self._body.release(training=self._model.training)
        elif not self._body.frozen:
            self._body.freeze()


def _set_momentum(group: dict[str, Any], momentum: float) -> None:
    """Of an optimizer that has one."""
    if "betas" in group:
        group["betas"] = (momentum, *group["betas"][1:])
    elif group.get("momentum"):
        group["momentum"] = momentum


def _in_body(group: Mapping[str, Any]) -> bool:
    return group.get("part") == "body"


@contextmanager
def _eval_mode(optimizer: ScheduleFree) -> Iterator[None]:
    """Have a schedule-free optimizer put its averages into the weights; restore its flags, but not the weights."""
    flags = [group["train_mode"] for group in optimizer.param_groups]
    optimizer.eval()
    try:
        yield
    finally:
        for group, flag in zip(optimizer.param_groups, flags, strict=True):
            group["train_mode"] = flag
