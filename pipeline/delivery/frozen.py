"""The classifier on frozen features, of the stage embed, as a member of a model."""

from __future__ import annotations

import json

from safetensors.torch import load_file

from components.serving.card import Member
from pipeline.delivery.export import Part
from pipeline.stage import StageContext


def frozen_part(context: StageContext) -> Part:
    """With a weight of 1, as in a model of its own."""
    best = json.loads(context.input("embed", "embedding.json").read_text(encoding="utf-8"))["best"]
    member = Member(
        kind="frozen",
        backbone=best["backbone"],
        input_size=best["image_size"],
        mean=tuple(best["mean"]),
        std=tuple(best["std"]),
        weight=1.0,
        views=(0,),
    )
    return Part(member=member, state=load_file(context.input("embed", "frozen.safetensors")))
