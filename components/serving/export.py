"""What an MLflow export of a bundle needs, as plain data: MLflow itself is imported by `tracking` alone.

`mlflow.pyfunc.save_model(python_model=PYFUNC_FILE, artifacts={ARTIFACT: bundle}, model_config=MODEL_CONFIG,
signature=ModelSignature.from_dict(signature_fields(card)), pip_requirements=pip_requirements())`.
"""

import json
from importlib.metadata import version
from pathlib import Path

from components.serving.bundle import ModelCard

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
    """`inputs` and `outputs` as the JSON that `mlflow.models.ModelSignature.from_dict` reads.

    The input is declared a string, not binary, as measured on MLflow 3.17: bytes in a frame pass
    under either, but with binary the scoring server decodes the base64 itself, in two of its four request
    formats only, and answers a whole request with 400 when one row is not base64. With string each row
    reaches the model, and a bad one is a row to review.
    """
    outputs = [
        _column("label", "string", required=False),
        _column("defect_score", "double", required=False),
        _column("decision", "string", required=False),
        *(_column(f"p_{name}", "double", required=False) for name in card.classes),
        *([_column("tile", "string", required=False)] if card.framing["tile_size"] else []),
        _column("error", "string", required=False),
    ]
    return {"inputs": json.dumps([_column("image", "string", required=True)]), "outputs": json.dumps(outputs)}


def _column(name: str, kind: str, *, required: bool) -> dict[str, str | bool]:
    return {"name": name, "type": kind, "required": required}
