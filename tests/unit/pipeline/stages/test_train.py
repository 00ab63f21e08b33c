"""What the train stage writes by itself: the monitor's ledger, and the card of the model that leaves."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from components.data.framing import Framing
from components.errors import InputError
from components.evaluation.calibration import Calibration
from components.serving.card import ModelCard
from components.training.engine import Device
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stages import train
from pipeline.training.job import Ended


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    said: list[str] = []
    logged: list[str] = []
    return SimpleNamespace(
        directory=tmp_path,
        run=SimpleNamespace(log_artifact=lambda path: logged.append(path.name)),
        console=SimpleNamespace(warn=said.append),
        said=said,
        logged=logged,
    )


def entry(kind: str, action: str = "none", **evidence: float) -> dict:
    return {"step": 3, "epoch": 1, "kind": kind, "action": action, "evidence": evidence, "advice": "a"}


def ended(ledger: list[dict], advice: list[str]) -> Ended:
    return Ended(
        reason="completed", epoch=1, precision="bfloat16", failure=None, ledger=ledger, advice=advice, steps=[]
    )


def test_the_ledger_is_json_that_any_reader_takes_and_its_advice_is_said(context) -> None:
    found = [entry("diverged", "rollback", loss=math.inf, slope=0.5)]
    ledger = train._write_ledger(context, ended(found, ["the rate is too high"]), MonitorConfig(action="rollback"))
    written = json.loads((context.directory / "monitor.json").read_text())
    assert written == {"action": "rollback", "advice": ["the rate is too high"], "ledger": ledger}
    assert ledger[0]["evidence"] == {"loss": None, "slope": 0.5}
    assert context.said == ["the rate is too high"]
    assert context.logged == ["monitor.json"]


def test_without_a_monitor_there_is_an_empty_ledger(context) -> None:
    assert train._write_ledger(context, ended([], []), MonitorConfig(action="none")) == []
    assert json.loads((context.directory / "monitor.json").read_text())["ledger"] == []
    assert context.said == []


def test_the_headline_counts_verdicts_by_kind() -> None:
    ledger = [entry("spike"), entry("oscillating", "rollback"), entry("spike")]
    assert train._monitor_counts(ledger) == {
        "monitor_verdicts": 3,
        "monitor_rollbacks": 1,
        "monitor_oscillating": 1,
        "monitor_spike": 2,
    }
    assert train._monitor_counts([]) == {"monitor_verdicts": 0, "monitor_rollbacks": 0}


def test_a_model_is_calibrated_and_served_in_the_precision_that_its_worker_trained_in() -> None:
    """As on a cluster whose nodes have GPUs, unlike the machine of the driver."""
    kept = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    store = SimpleNamespace(ended=ended([], []), best=lambda: SimpleNamespace(weights=kept))
    learner = SimpleNamespace(model=torch.nn.Linear(2, 2), device=Device(torch.device("cpu"), "float32"))
    train._load_trained(learner, store)
    assert learner.device == Device(torch.device("cpu"), "bfloat16")
    assert torch.equal(learner.model.weight, kept["weight"])


def test_the_card_takes_its_framing_from_the_data_and_survives_json(tmp_path) -> None:
    (tmp_path / "data_report.json").write_text(json.dumps({"digest": "d"}))
    framing = Framing(size=64, region=(1, 2, 90, 80), fit="letterbox", tile_size=None, tile_overlap=0.25)
    values = torch.tensor([25.5, 51.0, 102.0])
    card = train._model_card(
        SimpleNamespace(input=lambda stage, name: tmp_path / name, run=SimpleNamespace(id="r"), commit="c", inputs={}),
        SimpleNamespace(
            preprocessing=SimpleNamespace(mean255=values, std255=values, size=32),
            device=SimpleNamespace(precision="bfloat16"),
        ),
        Recipe(model=ModelConfig(), recipe=RecipeConfig()),
        SimpleNamespace(classes=("pit", "scratch"), good_classes=(), pack=SimpleNamespace(framing=framing)),
        Calibration(1.0, 0.0),
        None,
    )
    read = ModelCard.from_json(card.to_json())
    (member,) = read.members
    assert (member.mean, member.input_size) == ((0.1, 0.2, 0.4), 32)
    assert Framing.from_dict(read.framing) == framing
    assert read.precision == "bfloat16"


def test_outputs_that_are_not_finite_are_an_error_that_names_the_rate_and_what_the_range_test_found(
    monkeypatch,
) -> None:
    found = {("net", "sgd"): SimpleNamespace(optimizer="sgd", lr_div=4.0, abstained=False, suggested=0.13, upper=0.48)}
    monkeypatch.setattr(train, "read_backbone_bounds", lambda path: found)
    monkeypatch.setattr(train, "predict_split", lambda *args: np.array([[0.1, math.nan]]))
    recipe = Recipe(model=ModelConfig(backbone="net"), recipe=RecipeConfig(optimizer="sgd", lr=1000.0))
    data = SimpleNamespace(manifest=pd.DataFrame({"split": ["calibration"]}), split=lambda name: None)
    context = SimpleNamespace(input=lambda stage, name: None)
    with pytest.raises(InputError) as caught:
        train._calibrate(context, SimpleNamespace(model=None), recipe, data, None)
    assert str(caught.value) == (
        "recipe.lr=1000: the trained model gives outputs that are not finite on the calibration split; lower "
        "recipe.lr, lengthen recipe.warmup_epochs, or set recipe.clip_grad_norm (the range test of sgd found that 4 "
        "diverges and suggests 0.13, at most 0.48)"
    )
    found.clear()
    assert train._range_test_says(context, recipe) == ""
