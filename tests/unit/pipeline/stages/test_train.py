"""What the train stage writes by itself: the monitor's ledger, and the card of the model that leaves."""

import json
import math
from types import SimpleNamespace

import pytest
import torch

from components.data.framing import Framing
from components.evaluation.calibration import Calibration
from components.serving.bundle import ModelCard
from pipeline.final_training.training import Ended
from pipeline.sections.rates import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.stages import train


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
    return Ended(failure=None, diverged=None, ledger=ledger, advice=advice, steps=[])


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


def test_the_card_takes_its_framing_from_the_data_and_survives_json(tmp_path) -> None:
    (tmp_path / "data_report.json").write_text(json.dumps({"digest": "d"}))
    framing = Framing(size=64, region=(1, 2, 90, 80), fit="letterbox", tile_size=None, tile_overlap=0.25)
    values = torch.tensor([25.5, 51.0, 102.0])
    card = train._model_card(
        SimpleNamespace(input=lambda stage, name: tmp_path / name, run=SimpleNamespace(id="r"), commit="c", inputs={}),
        SimpleNamespace(preprocessing=SimpleNamespace(mean255=values, std255=values, size=32)),
        Recipe(model=ModelConfig(), recipe=RecipeConfig()),
        SimpleNamespace(classes=("pit", "scratch"), good_classes=(), framing=framing),
        Calibration(1.0, 0.0),
        None,
    )
    assert card.mean == (0.1, 0.2, 0.4)
    read = ModelCard.from_json(card.to_json())
    assert Framing.from_dict(read.framing) == framing
    assert read.input_size == 32
