"""Trainings that have ended, without having been made."""

from types import SimpleNamespace

import pandas as pd

from components.training.engine import EpochRecord
from pipeline.delivery.members import Trained
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training.job import Ended, TrainingSpec
from pipeline.training.progress import Progress

RECIPE = Recipe(
    model=ModelConfig(backbone="net"),
    recipe=RecipeConfig(optimizer="sgd", lr=1000.0, batch_size=32, augment=("horizontal_flip",)),
)
SPEC = TrainingSpec(recipe=RECIPE, seed=7, epochs=2, patience=1)


def member(
    name: str = "whole", *, trained_in="train", ledger=(), advice=(), scores=(None, 0.5), precision="bfloat16", **store
) -> Trained:
    """A training that has ended. scores: of its epochs, None where nothing was scored."""
    end = Ended(
        reason="completed", epoch=2, precision=precision, failure=None, ledger=[*ledger], advice=[*advice], steps=[],
        groups=("head",),
    )  # fmt: skip
    history = [
        EpochRecord(
            epoch=number, step=number, train_loss=1.0, lr=0.1, lr_lowest=0.1, grad_norm=1.0, seconds=1.0,
            images_per_second=2.0, diverged=False,
            metrics={} if score is None else {"val_loss": 0.9, "val_score": score},
        )
        for number, score in enumerate(scores, start=1)
    ]  # fmt: skip
    steps = pd.DataFrame({"step": [1, 2], "lr_head": [0.1, 0.05], "loss": 1.0, "grad_norm": 1.0})
    progress = Progress(history=history, weights={2: 2}, trained=2)
    held = SimpleNamespace(ended=end, progress=progress, steps_table=lambda: steps, **store)
    given = {"fold": SPEC.fold, "seed": SPEC.seed, "trained_in": trained_in, "run_id": f"run-{name}"}
    return Trained(name=name, store=held, **given)  # type: ignore[arg-type]
