"""From the pixels of an image to logits: the same steps in training, in evaluation and in the served model.

Copied verbatim into every exported model (`components/serving/bundle.py`), so it imports nothing but torch and timm.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import nn

AUTOCAST: dict[str, torch.dtype | None] = {"float32": None, "bfloat16": torch.bfloat16}
"""What each precision computes in where torch's autocast allows it; the weights are float32 in either."""
KINDS = ("network", "frozen")
"""What a member of a model can be."""
FEATURE_MAPS = 3
"""Of how many depths a frozen classifier takes its features."""
REMEDY = "export the model again"
STACKED = 32
"""Images in one pass: few images go through in all their views at once, which a processor or GPU does faster."""


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


def turned(pixels: torch.Tensor, view: int) -> torch.Tensor:
    """The square images (B, C, S, S) in a view: one of the eight symmetries of the square, 0 to 7.

    From 4 on they are mirrored left to right first; then they turn left by `view % 4` quarters. 0: as they are.
    """
    mirrored = pixels.flip(-1) if view >= 4 else pixels
    return torch.rot90(mirrored, view % 4, (-2, -1)) if view % 4 else mirrored


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


@dataclass(frozen=True)
class MemberModel:
    """One of the models that an `Ensemble` averages, in eval mode. precision: of `AUTOCAST`."""

    model: nn.Module
    preprocessing: Preprocessing
    precision: str
    weight: float
    views: tuple[int, ...]

    def log_probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """(B, K) float32: the mean over the views of the logarithms of the probabilities.

        images: what the model sees in view 0. Views are stacked up to `STACKED` images at a time.
        """
        count = len(images)
        at_once = max(1, STACKED // count)
        parts = []
        for start in range(0, len(self.views), at_once):
            stack = [turned(images, view) for view in self.views[start : start + at_once]]
            seen = torch.cat(stack).contiguous(memory_format=torch.channels_last)
            parts.append(logits_of(self.model, seen, self.precision).log_softmax(dim=1).view(len(stack), count, -1))
        return torch.cat(parts).mean(dim=0)


@dataclass(frozen=True)
class Ensemble:
    """The model of a card: its members, averaged in log-odds with their weights."""

    members: tuple[MemberModel, ...]

    @classmethod
    def from_card(cls, card: Mapping[str, Any], state: Mapping[str, torch.Tensor], device: torch.device) -> Ensemble:
        """The members on the device, in eval mode; no weight is fetched from anywhere.

        card: has `num_classes`, `precision` and `members` (see `components/serving/card.py`). state: the weights of all
        members, as `joined` gives them.

        Raises ValueError: the weights are not those of the card's members.
        """
        found: dict[tuple[Any, ...], Preprocessing] = {}
        members = []
        for number, (member, weights) in enumerate(zip(card["members"], parted(card, state), strict=True)):
            constants = (*member["mean"], *member["std"], member["input_size"])
            if constants not in found:
                found[constants] = Preprocessing.from_unit_scale(
                    member["mean"], member["std"], size=member["input_size"]
                ).to(device)
            members.append(
                MemberModel(
                    model=restore_member(member, card["num_classes"], weights, device, where=f"member {number}"),
                    preprocessing=found[constants],
                    precision=card["precision"] if member["kind"] == "network" else "float32",
                    weight=member["weight"],
                    views=tuple(member["views"]),
                )
            )
        return cls(tuple(members))

    @property
    def device(self) -> torch.device:
        """Where the members are."""
        return self.members[0].preprocessing.mean255.device

    def logits(self, pixels: torch.Tensor) -> torch.Tensor:
        """Logits (B, K) float32 of framed images, (B, 3, S, S) uint8 on the device of the members.

        The sum over the members of their weight times their mean log-probability.
        """
        seen: dict[int, torch.Tensor] = {}  # once per normalisation and size
        total: torch.Tensor | None = None
        with torch.inference_mode():
            for member in self.members:
                key = id(member.preprocessing)
                if key not in seen:
                    seen[key] = member.preprocessing.apply(pixels)
                part = member.weight * member.log_probabilities(seen[key])
                total = part if total is None else total + part
        assert total is not None
        return total


def joined(states: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The state dicts of all members as one: `0.conv.weight` is the `conv.weight` of the first."""
    return {f"{number}.{key}": value for number, state in enumerate(states) for key, value in state.items()}


def parted(card: Mapping[str, Any], state: Mapping[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The state dict of each member of the card, of what `joined` made.

    Raises ValueError: a member has no weights, or there are weights of no member.
    """
    states: list[dict[str, torch.Tensor]] = [{} for _ in card["members"]]
    for key, value in state.items():
        prefix, _, name = key.partition(".")
        if not prefix.isdecimal() or int(prefix) >= len(states):
            raise ValueError(
                f"the weights hold {key!r}, and the card names the members 0 to {len(states) - 1} only; {REMEDY}"
            )
        states[int(prefix)][name] = value
    for number, (member, own) in enumerate(zip(card["members"], states, strict=True)):
        if not own:
            raise ValueError(
                f"member {number} ({member['backbone']}) has no weights: no key begins with '{number}.'; {REMEDY}"
            )
    return states


def restore_member(
    member: Mapping[str, Any],
    num_classes: int,
    state: Mapping[str, torch.Tensor],
    device: torch.device,
    *,
    where: str,
) -> nn.Module:
    """The network or frozen classifier of a member, with its weights, in eval mode.

    Raises ValueError: the weights are not those of such a member.
    """
    backbone, network = member["backbone"], member["kind"] == "network"
    try:
        model: nn.Module = timm.create_model(backbone, pretrained=False, num_classes=num_classes if network else 0)
    except RuntimeError as error:  # timm's for a name that it does not know
        raise ValueError(f"{where} ({backbone}): {error}; install the timm that the model was made with") from error
    if not network:
        weight = state.get("linear.weight")
        features = weight.shape[1] if weight is not None and weight.ndim == 2 else 1
        model = FrozenClassifier(model, nn.Linear(features, num_classes))
    own = model.state_dict()
    faults = [f"{key!r} is missing" for key in own.keys() - state.keys()]
    faults += [f"{key!r} is none of its keys" for key in state.keys() - own.keys()]
    faults += [
        f"{key!r} has the shape {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
        for key in own.keys() & state.keys()
        if state[key].shape != own[key].shape
    ]
    if faults:
        more = f", and {len(faults) - 1} more" if len(faults) > 1 else ""
        raise ValueError(f"{where} ({backbone}, {num_classes} classes): {min(faults)}{more}; {REMEDY}")
    model.load_state_dict(dict(state))
    return model.eval().to(device).to(memory_format=torch.channels_last)
