"""timm's record of a backbone, read before anything is built.

Names, constants and input sizes are timm's (github.com/huggingface/pytorch-image-models). The error for an unknown name
lists similar ones.
"""

import difflib

import timm
from timm.models import PretrainedCfg

from components.errors import InputError

KEY = "model.backbone"


def describe_backbone(backbone: str) -> PretrainedCfg:
    """Return timm's record of the backbone: mean, std, input size, classifier names, where its weights are.

    Raises InputError: timm has no such architecture, or the architecture has no such weights tag.
    """
    if not timm.is_model(backbone):
        known = timm.list_models()
        close = difflib.get_close_matches(architecture(backbone), known, n=5, cutoff=0.6)
        hint = f"did you mean {', '.join(close)}?" if close else "timm.list_models() lists the names it knows."
        raise InputError(f"{KEY}={backbone!r} is not one of the {len(known)} timm models; {hint}")
    try:
        record = timm.models.get_pretrained_cfg(backbone)
    except RuntimeError as error:
        tags = timm.list_pretrained(f"{architecture(backbone)}.*")
        remedy = f"use one of {', '.join(tags)}" if tags else "leave the tag out"
        raise InputError(f"{KEY}={backbone!r} names weights that timm does not have; {remedy}") from error
    return record if record is not None else PretrainedCfg()


def is_known(backbone: str) -> bool:
    """Whether timm has such an architecture, with or without the weights of its tag."""
    return timm.is_model(backbone)


def classifier_names(backbone: str) -> tuple[str, ...]:
    """Return the module paths of the classifier: one, more in distilled models, none if timm names none."""
    names = describe_backbone(backbone).classifier or ()
    return (names,) if isinstance(names, str) else tuple(names)


def architecture(backbone: str) -> str:
    """Return the name without its weights tag: `resnet18` for `resnet18.a1_in1k`."""
    return backbone.split(".", 1)[0]
