"""Freezes the body of a model while a new classifier is trained (ULMFiT, arXiv 1801.06146), then unfreezes it.

The weights of a frozen body get no gradient, and its norms keep their statistics: otherwise the features would change
although no weight does.
"""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from components.optim.layerwise import head_modules


class FrozenBody:
    """Freezes and unfreezes the body of a model, any number of times."""

    def __init__(self, model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
        """Freeze nothing yet.

        model: its classifier's norms are never touched. parameters: the body's; those that are not trainable now stay
        so.
        """
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        in_head = {id(module) for head in head_modules(model) for module in head.modules()}
        self._norms = [module for module in norms_with_statistics(model) if id(module) not in in_head]
        self.frozen = False

    @property
    def norms(self) -> list[_NormBase]:
        """Norms whose statistics do not change now: the body's while it is frozen."""
        return self._norms if self.frozen else []

    def freeze(self) -> None:
        """Stop the training of the body."""
        self.frozen = True
        for parameter in self._parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        self.keep_norms_in_eval()

    def release(self, *, training: bool) -> None:
        """Train the body again, if it was frozen. training: the new mode of its norms."""
        if not self.frozen:
            return
        self.frozen = False
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        for norm in self._norms:
            norm.train(training)

    def keep_norms_in_eval(self) -> None:
        """Set the frozen norms to eval mode; call it after each `model.train()`."""
        for norm in self.norms:
            norm.eval()


def norms_with_statistics(model: nn.Module) -> list[_NormBase]:
    """Return the norms with running statistics, in the model's order."""
    return [module for module in model.modules() if isinstance(module, _NormBase) and module.running_mean is not None]
