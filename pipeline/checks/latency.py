"""Checks before anything starts that some model can be within the latency limit."""

from __future__ import annotations

import numpy as np
import torch

from components.display import counted
from components.models.backbones import build_model
from components.models.forward import Ensemble, MemberModel, Preprocessing
from components.serving.latency import REPEATS, Candidate, choose_delivery, latency_ms
from pipeline.checks.space import image_sizes
from pipeline.compute.device import is_timed, resolve_device
from pipeline.compute.resources import driver_compute
from pipeline.config import Config
from pipeline.sections.embedding import backbones_in_question


def check_latency(config: Config, *, threads: int) -> None:
    """Time the least that may be delivered: one network of each backbone in question, at its smallest image size.

    Which of them is trained, how many networks, at which size and, on some CPUs, in which precision is not known yet.
    Raises InputError: none is within `serving.max_latency_ms`.
    """
    compute, asked = driver_compute(config.compute), config.recipe.precision
    device = resolve_device(compute, asked)
    precisions = ("float32", "bfloat16") if is_timed(compute, asked, config.budget) else (device.precision,)
    views = 1 if config.serving.views == "auto" else config.serving.views
    candidates = []
    for backbone in backbones_in_question(config.embed, config.model):
        size = min(image_sizes(config, backbone, compared=False).values())
        built = build_model(backbone=backbone, weights="none", num_classes=2, drop_rate=0.0, drop_path_rate=0.0, seed=0)
        model = built.model.eval().to(device.target, memory_format=torch.channels_last)  # type: ignore[call-overload]
        preprocessing = Preprocessing.from_unit_scale(built.mean, built.std, size=size).to(device.target)
        for precision in precisions:
            member = MemberModel(model, preprocessing, precision, weight=1.0, views=tuple(range(views)))
            candidates.append(
                Candidate(
                    name=f"one {backbone} at {size} px, {counted(views, 'view')}",
                    passes=views,
                    scores=np.zeros(1),
                    resampled=np.zeros((1, 1)),
                    latency_ms=latency_ms(
                        Ensemble((member,)), side=config.data.image_size, threads=threads, repeats=REPEATS
                    ),
                )
            )
    choose_delivery(candidates, limit_ms=config.serving.max_latency_ms)
