"""What an MLflow export of a bundle needs, as plain data; `components.tracking` writes it.

`mlflow.pyfunc.save_model(python_model=PYFUNC_FILE, artifacts={ARTIFACT: bundle}, model_config=MODEL_CONFIG,
signature=ModelSignature.from_dict(signature_fields(card)), pip_requirements=pip_requirements())`.
"""

import json
from importlib.metadata import version
from pathlib import Path

from components.serving.card import ModelCard

PYFUNC_FILE = Path(__file__).resolve().with_name("pyfunc.py")

ARTIFACT = "bundle"
"""The name under which the pyfunc asks MLflow for its bundle."""

MODEL_CONFIG: dict[str, str | int | bool] = {"device": "auto", "batch_size": 32, "allow_paths": False}
"""Saved with the model, since MLflow lets a user override only what the saved model names."""

REQUIREMENTS = ("mlflow", "torch", "timm", "numpy", "pandas", "pillow", "safetensors")


def pip_requirements() -> list[str]:
    """The pins of this environment: `name==version`, a local part such as `+cpu` left out.

    A local version is not on the package index, so a pin on it could not be installed.
    """
    return [f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS]


def signature_fields(card: ModelCard) -> dict[str, str]:
    """`outputs` as the JSON that `mlflow.models.ModelSignature.from_dict` reads.

    The input is not declared, as measured on MLflow 3.17: with a column named `image` it refuses lists, arrays and
    series before the model sees them, and makes one row of a dict of a list; with a column without a name it hands
    over the first one of a frame, whichever that is. As it is, everything reaches the model, which says what it takes,
    and a bad row is a row to review.
    """
    outputs = [
        ("label", "string"),
        ("defect_score", "double"),
        ("decision", "string"),
        *((f"p_{name}", "double") for name in card.classes),
        *([("tile", "string")] if card.framing["tile_size"] else []),
        ("error", "string"),
    ]
    return {"outputs": json.dumps([{"name": name, "type": kind, "required": False} for name, kind in outputs])}
