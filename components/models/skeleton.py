"""A backbone on torch's meta device: its tensors' names and shapes, and the image sizes that it takes.

Nothing is allocated or computed, so that faults which would stop a training show before it.
"""

import functools

import timm
import torch
from torch import nn

from components.errors import InputError
from components.models.catalogue import KEY, describe_backbone

#: Sizes that are tried for the remedy, beside the one that the backbone was made for.
USUAL_SIZES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320, 384, 512)


@functools.lru_cache(maxsize=4)
def skeleton(backbone: str) -> nn.Module:
    """Return the model in evaluation mode with a classifier of two classes, all of it on the meta device."""
    describe_backbone(backbone)
    with torch.device("meta"):
        return timm.create_model(backbone, pretrained=False, num_classes=2).eval()


def check_input_size(backbone: str, size: int, *, where: str) -> None:
    """Refuse an image size that the architecture cannot take.

    Most vision transformers have a fixed size; in other networks too small an image vanishes after some layers.
    size: side of the square image, pixels. where: the key that decides and its value, for the message.

    Raises InputError: the backbone has a fixed input size, and it is another one; or such an image does not pass it.
    """
    record = describe_backbone(backbone)
    own = record.input_size[-1]
    if record.fixed_input_size and own != size:
        raise InputError(
            f"{where}: {KEY}={backbone!r} takes images of {own} px only; set the size to {own}, or choose a backbone "
            "that takes any"
        )
    if record.fixed_input_size or _passes(backbone, size) or not _passes(backbone, own):
        return  # a network that does not pass its own size cannot be tried without values
    taken = [f"{other}" for other in sorted({*USUAL_SIZES, own}) if _passes(backbone, other)]
    raise InputError(
        f"{where}: {KEY}={backbone!r} cannot take images of {size} px; of the usual sizes it takes "
        f"{', '.join(taken)}: set one of these, or choose another backbone"
    )


def check_feature_maps(backbone: str) -> None:
    """Refuse an architecture that gives no feature maps, which a classifier on frozen features pools.

    Raises InputError: timm cannot take this one apart.
    """
    if not hasattr(skeleton(backbone), "forward_intermediates"):
        raise InputError(
            f"{KEY}={backbone!r} gives no feature maps (timm has no forward_intermediates for it), from which the "
            "first model and the start of the classifier are made; choose another backbone"
        )


@functools.lru_cache(maxsize=256)
def _passes(backbone: str, size: int) -> bool:
    try:
        with torch.no_grad():
            skeleton(backbone)(torch.empty(1, 3, size, size, device="meta"))
    except (RuntimeError, AssertionError, ValueError, IndexError, ZeroDivisionError):
        return False
    return True
