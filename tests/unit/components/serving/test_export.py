"""What the MLflow export needs: pins that can be installed, and a signature that MLflow reads."""

import re
from importlib.metadata import version

from mlflow.models import ModelSignature

from components.serving import export, pyfunc
from components.serving.export import MODEL_CONFIG, PYFUNC_FILE, pip_requirements, signature_fields


def test_every_requirement_is_pinned_to_what_runs_here_without_a_local_part():
    pins = dict(line.split("==") for line in pip_requirements())
    assert list(pins) == ["mlflow", "torch", "timm", "numpy", "pandas", "pillow", "safetensors"]
    assert all(re.fullmatch(r"[0-9a-z.]+", pin) for pin in pins.values())
    assert version("torch").startswith(pins["torch"])


def test_a_local_version_is_cut_off(monkeypatch):
    monkeypatch.setattr(export, "version", lambda name: "2.13.0+cpu")
    assert pip_requirements()[1] == "torch==2.13.0"


def test_the_signature_is_one_that_mlflow_reads(make_card):
    signature = ModelSignature.from_dict(signature_fields(make_card(classes=("good", "a b", "ß"))))
    assert signature.inputs is None  # MLflow would refuse lists, arrays and series
    assert signature.outputs.input_names() == [
        "label", "defect_score", "decision", "p_good", "p_a b", "p_ß", "error",
    ]  # fmt: skip


def test_the_signature_of_a_model_that_judges_tiles_names_the_tile(make_card, framing):
    signature = ModelSignature.from_dict(signature_fields(make_card(framing=framing(tile_size=20))))
    assert signature.outputs.input_names()[-2:] == ["tile", "error"]


def test_the_settings_saved_with_a_model_are_those_that_the_pyfunc_knows_and_paths_are_off():
    assert MODEL_CONFIG == pyfunc.DEFAULTS
    assert MODEL_CONFIG["allow_paths"] is False


def test_the_pyfunc_file_is_the_one_of_this_project():
    assert PYFUNC_FILE.samefile(pyfunc.__file__)
