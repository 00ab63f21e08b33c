"""What the train stage decides by itself: which epoch is the best, and which file holds its weights."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from components.data.framing import Framing
from components.evaluation.calibration import Calibration
from components.serving.bundle import ModelCard
from components.training.checkpoint import load_checkpoint
from components.training.engine import EpochRecord
from pipeline.config import ModelConfig, Recipe, RecipeConfig
from pipeline.stages import train


def record(epoch: int, score: float) -> EpochRecord:
    return EpochRecord(
        epoch=epoch, step=epoch, train_loss=1.0, lr=0.1, lr_lowest=0.1, grad_norm=1.0, seconds=1.0,
        images_per_second=1.0, diverged=False, metrics={"val_score": score, "val_loss": 1.0},
    )  # fmt: skip


def learner(epoch: int) -> SimpleNamespace:
    weights = {"w": torch.tensor(float(epoch))}
    return SimpleNamespace(
        epoch=epoch,
        scored=SimpleNamespace(state_dict=lambda: weights),
        state_dict=lambda: {"model": weights, "epoch": epoch},
    )


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    return SimpleNamespace(work=tmp_path)


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_of_equal_scores_the_first_epoch_is_the_best() -> None:
    assert train._best_epoch([record(1, 0.5), record(2, 0.8), record(3, 0.8)]) == 2


@pytest.mark.parametrize("scores", [(math.nan, 0.5, 0.4), (0.4, 0.5, math.nan), (0.1, 0.5, math.nan, 0.4)])
def test_a_score_that_is_nan_is_below_every_other(scores) -> None:
    assert train._best_epoch([record(epoch, score) for epoch, score in enumerate(scores, start=1)]) == 2


def test_the_file_of_the_best_weights_is_that_of_the_history(context) -> None:
    history = []
    for epoch, score, kept in [(1, 0.5, 1), (2, 0.8, 2), (3, 0.6, 2)]:
        history.append(record(epoch, score))
        train._save(context, learner(epoch), history)
        assert files(context.work) == {"last.pt", f"best-{kept}.pt"}
        weights = load_checkpoint(context.work / f"best-{kept}.pt", device=torch.device("cpu"))["weights"]
        assert float(weights["w"]) == kept


def test_an_interruption_between_the_two_files_leaves_the_weights_of_the_earlier_epoch(context, monkeypatch) -> None:
    history = [record(1, 0.5)]
    train._save(context, learner(1), history)
    save = train.save_checkpoint

    def interrupted(path: Path, state: dict) -> None:
        if path.name == "last.pt":
            raise KeyboardInterrupt
        save(path, state)

    monkeypatch.setattr(train, "save_checkpoint", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train._save(context, learner(2), [*history, record(2, 0.9)])
    state = load_checkpoint(context.work / "last.pt", device=torch.device("cpu"))
    kept = train._best_epoch([EpochRecord(**values) for values in state["history"]])
    assert train._weights_file(context, kept).is_file()
    assert kept == 1


def test_a_resumed_training_logs_the_epochs_that_its_run_lacks() -> None:
    logged = []
    client = SimpleNamespace(get_metric_history=lambda run_id, key: [SimpleNamespace(step=1), SimpleNamespace(step=2)])
    run = SimpleNamespace(client=client, id="r", log_metrics=lambda numbers, step: logged.append(step))
    train._log_missing(SimpleNamespace(run=run), [record(epoch, 0.5) for epoch in (1, 2, 3)])
    assert logged == [3]


def test_the_card_takes_its_framing_from_the_data_and_survives_json(tmp_path) -> None:
    (tmp_path / "data_report.json").write_text(json.dumps({"digest": "d"}))
    framing = Framing(size=64, region=(1, 2, 90, 80), fit="letterbox", tile_size=None, tile_overlap=0.25)
    values = torch.tensor([25.5, 51.0, 102.0])
    card = train._model_card(
        SimpleNamespace(input=lambda stage, name: tmp_path / name, run=SimpleNamespace(id="r"), commit="c", inputs={}),
        SimpleNamespace(preprocessing=SimpleNamespace(mean255=values, std255=values)),
        Recipe(model=ModelConfig(), recipe=RecipeConfig()),
        SimpleNamespace(classes=("pit", "scratch"), good_classes=(), framing=framing),
        Calibration(1.0, 0.0),
        None,
    )
    assert card.mean == (0.1, 0.2, 0.4)
    read = ModelCard.from_json(card.to_json())
    assert Framing.from_dict(read.framing) == framing
