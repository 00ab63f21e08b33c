"""Reads a safetensors file of weights: refuses other files by their first bytes, and matches tensors to a model's.

Training frameworks wrap a network and save the wrapper's names (`module.`, `model.`, `backbone.`), and a failed
download leaves a web page or a pointer. All faults show before anything is trained. Nothing is ever unpickled.
"""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from timm.models import adapt_input_conv
from torch import nn

from components.errors import InputError
from components.models.catalogue import classifier_names, describe_backbone

KEY = "model.weights"
SUFFIX = ".safetensors"
#: In safetensors' names. Other types are quantised, and their values mean nothing without their scales.
FLOAT_TYPES = ("F64", "F32", "F16", "BF16")
#: torch.compile writes it before the names of what it has compiled, anywhere in a name.
COMPILED = "_orig_mod."
#: A batch norm counts them and nothing uses them; older files lack them.
COUNTER = "num_batches_tracked"
CONVERSION = (
    "convert it where you trust it: safetensors.torch.save_file(torch.load(old, weights_only=True), new), of a "
    "checkpoint its state_dict"
)
#: First bytes, in lower case, of other files that people give; what each is, and what to do.
OTHER_FILES: tuple[tuple[bytes, str, str], ...] = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights", "run `git lfs pull` where the repository lies"),
    (b"/annex/objects/", "a git-annex pointer, not the weights", "run `git annex get` where the repository lies"),
    (b"../.git/annex/", "a git-annex pointer, not the weights", "run `git annex get` where the repository lies"),
    (b"<", "a web page, not the weights", "download the file itself, with your credentials where it asks for them"),
    (b"pk\x03\x04", "a zip archive, as torch.save writes it (a pickle can run code)", CONVERSION),
    (b"\x80", "a pickle, which can run code", CONVERSION),
    (b"\x1f\x8b", "compressed (gzip)", "unpack it"),
)


@dataclass(frozen=True)
class Stored:
    """A tensor in the file's header. dtype: safetensors' name of it."""

    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Which tensor of the file fills which of the model.

    names: from the model's names to the file's, including the classifier's where they fit. widened: names of the first
    convolutions over whose input channels the file's single one is spread. notes: the changes, in words.
    """

    names: dict[str, str]
    widened: frozenset[str]
    notes: tuple[str, ...]


def check_weights_file(backbone: str, weights: str, model: nn.Module) -> str:
    """Read the file as a training would, without filling the model; return what was found, in words.

    weights: `file:/path.safetensors`. model: of the backbone, with any classifier, on any device.
    Raises InputError: no such file, no safetensors file, weights of another architecture, values that are not finite.
    """
    path = weights_path(weights)
    fit = match(read_header(path, weights), model, backbone, weights)
    _tensors(path, fit, weights)
    return "; ".join([f"{len(fit.names)} of {len(model.state_dict())} tensors from {path.name}", *fit.notes])


def load_weights_file(model: nn.Module, backbone: str, weights: str) -> None:
    """Fill the model from `file:/path.safetensors`; a classifier of another shape keeps its random start.

    Raises InputError as `check_weights_file` does.
    """
    path = weights_path(weights)
    fit = match(read_header(path, weights), model, backbone, weights)
    model.load_state_dict(_tensors(path, fit, weights), strict=False)


def weights_path(weights: str) -> Path:
    """Return the file that `file:…` names. Raises InputError where there is none that may be read."""
    path = Path(weights.removeprefix("file:"))
    try:
        path = path.expanduser()
    except RuntimeError as error:
        raise InputError(f"{KEY}={weights!r}: there is no such home folder; give the whole path") from error
    if path.is_dir():
        inside = sorted(child.name for child in path.glob(f"*{SUFFIX}"))[:5]
        hint = f"name the file in it: {', '.join(inside)}" if inside else f"name a {SUFFIX} file"
        raise InputError(f"{KEY}={weights!r} is a folder; {hint}")
    if path.suffix.lower() != SUFFIX:
        raise InputError(f"{KEY}={weights!r} must name a {SUFFIX} file (a pickle can run code); {CONVERSION}")
    if not path.is_file():
        raise InputError(f"{KEY}={weights!r}: there is no such file; give the path of an existing one")
    if not os.access(path, os.R_OK):
        raise InputError(f"{KEY}={weights!r} may not be read; give yourself the right to read it")
    return path


def read_header(path: Path, weights: str) -> dict[str, Stored]:
    """Return each tensor's type and shape. Raises InputError for anything but a complete safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(512)
    if not head.strip(b"\x00"):
        raise InputError(f"{KEY}={weights!r} is empty ({size} bytes); fetch it again")
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for magic, what, remedy in OTHER_FILES:
        if start.startswith(magic):
            raise InputError(f"{KEY}={weights!r} is {what}; {remedy}")
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        said = head[:60].decode("ascii").splitlines()[0]
        raise InputError(f"{KEY}={weights!r} is not a safetensors file but text ({said!r}); download the file itself")
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            return {name: Stored(part.get_dtype(), tuple(part.get_shape())) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{KEY}={weights!r} is not a complete safetensors file ({error}); fetch it again, or convert it first"
        ) from error


def match(stored: Mapping[str, Stored], model: nn.Module, backbone: str, weights: str) -> Fit:
    """Find each tensor of the model in the file, under the names that a wrapper has given them.

    A classifier that the file lacks, or has in another shape, keeps its random start.
    Raises InputError: the file holds another architecture, several networks, or numbers that are quantised.
    """
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    plain = {name.replace(COMPILED, ""): name for name in stored}
    prefix = _prefix(plain, own, weights)
    inside = {name.removeprefix(prefix): whole for name, whole in plain.items() if name.startswith(prefix)}
    head = tuple(f"{name}." for name in classifier_names(backbone))
    fresh = {name for name in own if name.startswith(head)}
    if all(name in inside and stored[inside[name]].shape == own[name] for name in fresh):
        fresh = set()
    body = {name: whole for name, whole in inside.items() if name in own and name not in fresh}
    first_conv = describe_backbone(backbone).first_conv or ()
    stems = {f"{name}.weight" for name in ((first_conv,) if isinstance(first_conv, str) else first_conv)}
    widened = frozenset(  # of grey images, and fit otherwise
        name
        for name in stems & body.keys()
        if own[name][1:2] == (3,) and stored[body[name]].shape == (own[name][0], 1, *own[name][2:])
    )
    missing = sorted(name for name in own if name not in body and name not in fresh and not name.endswith(COUNTER))
    surplus = sorted(name for name in inside if name not in own and not name.startswith(head))
    unlike = sorted(name for name, whole in body.items() if stored[whole].shape != own[name] and name not in widened)
    if missing or surplus or unlike:
        matching = len(body) - len(unlike)
        first = [*missing, *surplus, *unlike][0]
        if first in unlike:
            first += f", {_shape(stored[inside[first]].shape)} where the backbone has {_shape(own[first])}"
        raise InputError(
            f"{KEY}={weights!r}: its tensors do not fit the backbone {backbone}: of {len(own)}, {matching} are there; "
            f"{len(missing)} missing, {len(surplus)} surplus, {len(unlike)} of another shape "
            f"(first: {first}); give the backbone they were trained with"
        )
    for name, whole in body.items():
        if stored[whole].dtype not in FLOAT_TYPES and not name.endswith((COUNTER, "index")):
            raise InputError(
                f"{KEY}={weights!r}: {name} is {stored[whole].dtype}, which is quantised; give the weights in float32, "
                "float16 or bfloat16"
            )
    outside = len(stored) - len(inside)
    types = {stored[whole].dtype for whole in body.values()} & {"F64", "F16", "BF16"}
    notes = [
        *([f"the prefix {prefix} taken off its names"] if prefix else []),
        *([f"{outside} tensors without that prefix left out"] if outside else []),
        *(["its one input channel spread over three"] if widened else []),
        *([f"{', '.join(sorted(types))} read as float32"] if types else []),
    ]
    return Fit(names=body, widened=widened, notes=tuple(notes))


def _prefix(names: Iterable[str], own: Mapping[str, object], weights: str) -> str:
    """Return the prefix that most of the model's names have in the file, often an empty one.

    Raises InputError where two prefixes are equally frequent, as in a file of a student and a teacher.
    """
    names = set(names)
    # Short names (`weight`) end many others; long ones are specific.
    anchors = [*sorted(own, key=len)[-20:], next(iter(own))]
    found = {""} | {name.removesuffix(anchor) for anchor in anchors for name in names if name.endswith(f".{anchor}")}
    counts = {prefix: sum(f"{prefix}{name}" in names for name in own) for prefix in found}
    most = max(counts.values())
    best = sorted(prefix for prefix, count in counts.items() if count == most)
    if most == 0 or "" in best:
        return ""
    if len(best) > 1:
        raise InputError(
            f"{KEY}={weights!r} holds {len(best)} networks of this kind ({', '.join(best)}); keep the tensors of one"
        )
    return best[0]


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "a single number"


def _tensors(path: Path, fit: Fit, weights: str) -> dict[str, torch.Tensor]:
    """Return them by the model's names. Raises InputError for values that are not finite in float32."""
    tensors = {}
    with safe_open(path, framework="pt") as file:
        for name, whole in fit.names.items():
            tensor = file.get_tensor(whole)
            if tensor.is_floating_point():
                tensor = tensor.float()
                bad = int((~torch.isfinite(tensor)).sum())
                if bad:
                    raise InputError(
                        f"{KEY}={weights!r}: {bad} of {tensor.numel()} values of {whole} are not finite, so that its "
                        "training had diverged; give weights from before that"
                    )
            tensors[name] = adapt_input_conv(3, tensor, base_chans=1) if name in fit.widened else tensor
    return tensors
