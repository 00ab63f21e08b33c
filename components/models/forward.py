"""From the pixels of an image to logits: the same steps in training, in evaluation and in the served model.

Copied verbatim into every exported model (`components/serving/bundle.py`), so it imports nothing but torch and timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import timm
import torch
from torch import nn

AUTOCAST: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
"""What each precision computes in where torch's autocast allows it; the weights are float32 in either."""


@dataclass(frozen=True)
class Preprocessing:
    """Channel means and standard deviations on the 0–255 scale, (1, 3, 1, 1) float32.

    size: side of the square that the model sees, px, at most that of the images; None: the images' own.
    """

    mean255: torch.Tensor
    std255: torch.Tensor
    size: int | None = None

    @classmethod
    def from_unit_scale(cls, mean: Iterable[float], std: Iterable[float], *, size: int | None = None) -> Preprocessing:
        """From the usual constants on the 0–1 scale."""
        mean255, std255 = (torch.tensor(list(values)).mul(255).view(1, 3, 1, 1) for values in (mean, std))
        return cls(mean255, std255, size)

    def to(self, device: torch.device) -> Preprocessing:
        """The same with its constants on the device."""
        if self.mean255.device.type == device.type:
            return self
        return Preprocessing(self.mean255.to(device), self.std255.to(device), self.size)

    def apply(self, pixels: torch.Tensor) -> torch.Tensor:
        """What the model sees, (B, 3, size, size) float32, channels last, of square images (B, 3, S, S) uint8.

        Normalised, then resized with antialiasing, on the device of the pixels, which is that of the constants.
        """
        images = pixels.float().sub_(self.mean255).div_(self.std255)
        if self.size is not None and self.size != images.shape[-1]:
            images = nn.functional.interpolate(
                images, size=(self.size, self.size), mode="bilinear", align_corners=False, antialias=True
            )
        return images.contiguous(memory_format=torch.channels_last)


def logits_of(model: nn.Module, images: torch.Tensor, precision: str) -> torch.Tensor:
    """Logits (B, K) float32 of what the model sees, computed in a precision of `AUTOCAST`."""
    dtype = AUTOCAST[precision]
    if dtype is None:
        logits: torch.Tensor = model(images)
    else:
        with torch.autocast(images.device.type, dtype=dtype):
            logits = model(images)
    return logits.float()


def restore_model(
    backbone: str, num_classes: int, state: Mapping[str, torch.Tensor], device: torch.device
) -> nn.Module:
    """A timm model with the weights of a bundle, in eval mode; no weight is fetched from anywhere."""
    model = timm.create_model(backbone, pretrained=False, num_classes=num_classes)
    model.load_state_dict(dict(state))
    return model.eval().to(device).to(memory_format=torch.channels_last)


#: Feature maps that `pooled_features` pools, the deepest ones.
FEATURE_MAPS = 3


def pooled_features(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """Features (B, F) of several depths of a timm model, for a linear classifier (Head2Toe, arXiv 2201.03529).

    First what the model's own classifier would get, then the mean and the maximum over the image of each of the last
    three feature maps. images: what the model sees, (B, 3, S, S).

    Raises ValueError: the architecture gives no feature maps.
    """
    if not hasattr(model, "forward_intermediates"):
        raise ValueError(f"{type(model).__name__} of timm has no forward_intermediates; choose another backbone")
    depth = min(FEATURE_MAPS, len(model.feature_info))  # type: ignore[arg-type]
    last, maps = model.forward_intermediates(images, indices=depth, output_fmt="NCHW")  # type: ignore[operator]
    pooled = [model.forward_head(last, pre_logits=True)]  # type: ignore[operator]
    for map_ in maps:
        pooled += [map_.mean((2, 3)), map_.amax((2, 3))]
    return torch.cat([features.flatten(1).float() for features in pooled], dim=1)


class FrozenClassifier(nn.Module):
    """A linear classifier on the pooled features of a backbone that was not trained further.

    network: a timm model without a classifier (`num_classes=0`). linear: from its features, (F,), to the logits.
    """

    def __init__(self, network: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.network = network
        self.linear = linear

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) of what the model sees, (B, 3, S, S)."""
        logits: torch.Tensor = self.linear(pooled_features(self.network, images))
        return logits
