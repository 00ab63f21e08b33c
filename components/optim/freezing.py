"""The body stands still while a new classifier finds its feet (ULMFiT, arXiv 1801.06146): frozen, then let go.

A frozen body's weights get no gradient and its norms no new statistics: otherwise the features would move under the
classifier although no weight does.
"""

from collections.abc import Iterable

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from components.optim.layerwise import head_modules


class FrozenBody:
    """Freezes and frees the body of a model, any number of times."""

    def __init__(self, model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
        """Freeze nothing yet.

        Args:
            model: its classifier's norms are never touched.
            parameters: the body's; those that are not trainable now stay so.
        """
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        in_head = {id(module) for head in head_modules(model) for module in head.modules()}
        self._norms = [module for module in norms_with_statistics(model) if id(module) not in in_head]
        self.frozen = False

    @property
    def norms(self) -> list[_NormBase]:
        """Norms whose statistics stand still now: the body's while it is frozen."""
        return self._norms if self.frozen else []

    def freeze(self) -> None:
        """Take the body out of training."""
        self.frozen = True
        for parameter in self._parameters:
            parameter.requires_grad_(False)
            parameter.grad = None
        self.hold_norms()

    def release(self, *, training: bool) -> None:
        """Let the body learn; training: the mode that its norms go back to, if it was frozen."""
        if not self.frozen:
            return
        self.frozen = False
        for parameter in self._parameters:
            parameter.requires_grad_(True)
        for norm in self._norms:
            norm.train(training)

    def hold_norms(self) -> None:
        """Put the frozen norms in eval mode, again after each `model.train()`."""
        for norm in self.norms:
            norm.eval()


def norms_with_statistics(model: nn.Module) -> list[_NormBase]:
    """Return the modules that keep running averages of what passes through them, in the model's order."""
    return [module for module in model.modules() if isinstance(module, _NormBase) and module.running_mean is not None]
