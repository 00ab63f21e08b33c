"""The export of a model: its card, the bundle, and the MLflow model around it."""

from __future__ import annotations

import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch

from components.evaluation.calibration import Calibration
from components.evaluation.operating_point import OperatingPoint
from components.models.forward import Preprocessing
from components.serving.bundle import save_bundle
from components.serving.card import Member, ModelCard
from components.serving.export import ARTIFACT, MODEL_CONFIG, PYFUNC_FILE, pip_requirements, signature_fields
from components.tracking import save_pyfunc
from pipeline.sections.recipe import Recipe
from pipeline.stage import StageContext
from pipeline.training.data import TrainingData


@dataclass(frozen=True, kw_only=True)
class Part:
    """A member of a model, and its state dict."""

    member: Member
    state: Mapping[str, torch.Tensor]


def network_member(
    recipe: Recipe, preprocessing: Preprocessing, *, side: int, weight: float, views: Sequence[int]
) -> Member:
    """The card's entry of a trained network. side: of the prepared images, px."""
    return Member(
        kind="network",
        backbone=recipe.model.backbone,
        input_size=preprocessing.size or side,
        mean=_triple(preprocessing.mean255),
        std=_triple(preprocessing.std255),
        weight=weight,
        views=tuple(views),
    )


def model_card(
    context: StageContext,
    data: TrainingData,
    members: Sequence[Member],
    *,
    recipe: Recipe | None,
    precision: str,
    calibration: Calibration,
    point: OperatingPoint | None,
) -> ModelCard:
    """The card of a model made by this stage. recipe: None where nothing was trained."""
    report = json.loads(context.input("prepare", "data_report.json").read_text(encoding="utf-8"))
    return ModelCard(
        name=f"{members[0].kind}-{members[0].backbone}-{context.run.id[:8]}",
        num_classes=len(data.classes),
        classes=data.classes,
        good_classes=data.good_classes,
        framing=asdict(data.pack.framing),
        members=tuple(members),
        precision=precision,
        calibration={"scale": calibration.scale, "bias": calibration.bias},
        operating_point=point.to_dict() if point else None,
        provenance={
            "run_id": context.run.id,
            "commit": context.commit,
            "versions": {"python": platform.python_version(), **dict(pin.split("==") for pin in pip_requirements())},
            "manifest_digest": report["digest"],
            "fingerprints": {name: record.fingerprint for name, record in context.inputs.items()},
            **({} if recipe is None else {"recipe": recipe.model_dump(mode="json")}),
        },
    )


def export_model(
    context: StageContext, data: TrainingData, card: ModelCard, parts: Sequence[Part], *, name: str = "model"
) -> str:
    """Write model/ and log it; its MLflow id."""
    seen = data.manifest.loc[data.manifest["split"] != "test", "sha256"].tolist()
    states = [part.state for part in parts]
    bundle = save_bundle(context.work / "bundle", states=states, card=card, seen_images=seen)
    target = context.directory / "model"
    shutil.rmtree(target, ignore_errors=True)  # left by an export that was interrupted
    save_pyfunc(
        target,
        code=PYFUNC_FILE,
        artifacts={ARTIFACT: bundle},
        requirements=pip_requirements(),
        signature_fields=signature_fields(card),
        model_config=MODEL_CONFIG,
    )
    params = {"members": card.summary, "classes": ",".join(card.classes)}
    return context.tracker.log_model(context.run, target, name=name, params=params)


def _triple(values: torch.Tensor) -> tuple[float, float, float]:
    first, second, third = (round(float(value) / 255, 6) for value in values.flatten())
    return first, second, third
