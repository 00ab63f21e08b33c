"""Images in memory in a shuffled manifest, small networks of random weights, and what the stage embed leaves."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from components.data.framing import Framing
from components.evaluation.objectives import Objective
from components.models.forward import FrozenClassifier, pooled_features
from pipeline.config import ComputeConfig
from pipeline.delivery.assembly import Scorer, Unseen
from pipeline.delivery.members import Trained
from pipeline.delivery.networks import Networks
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training.build import new_learner, view_scores
from pipeline.training.data import TrainingData, fold_of

SIZE, CLASSES = 32, ("bad", "good")
#: All flips, and so up to four views.
RECIPE = Recipe(
    model=ModelConfig(backbone="test_resnet", weights="none"),
    recipe=RecipeConfig(lr=0.1, batch_size=4, augment=("horizontal_flip", "vertical_flip"), precision="float32"),
)
VIEWS, COUNTS = (0, 4, 2, 6), (1, 2, 4)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Pixels:
    """A pack in memory."""

    size = SIZE
    framing = Framing(size=SIZE, region=None, fit="squash", tile_size=None, tile_overlap=0.0)

    def __init__(self, pixels: np.ndarray) -> None:
        self.pixels = pixels

    def __getitem__(self, index):
        return self.pixels[index]


@pytest.fixture
def images() -> Callable[..., TrainingData]:
    """`images(folds=3)`: 24 parts of two images, a quarter of them test; folds=0: in the design hold_out."""

    def make(*, folds: int = 3) -> TrainingData:
        part = np.repeat(np.arange(24), 2)
        defect, place = part % 2 == 1, part // 2 % 4
        split = np.array([*(["train"] * 3 if folds else ["train", "val", "calibration"]), "test"], dtype=object)[place]
        generator = np.random.default_rng(0)
        manifest = pd.DataFrame(
            {
                "image_id": [f"{row}.png" for row in range(48)],
                "path": [f"{row}.png" for row in range(48)],
                "label": np.where(defect, "bad", "good"),
                "is_defect": defect,
                "group": [f"part-{name}" for name in part],
                "split": split,
                "fold": np.where(split == "test", -1, place) if folds else -1,
                "sha256": [f"{row:064x}" for row in range(48)],
                "pack_index": np.arange(48),
            }
        )
        shuffled = manifest.sample(frac=1, random_state=3).reset_index(drop=True)
        pixels = generator.integers(0, 256, (48, SIZE, SIZE, 3), dtype=np.uint8)
        return TrainingData(shuffled, Pixels(pixels), CLASSES, ("good",))  # type: ignore[arg-type]

    return make


def network(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model("test_resnet", pretrained=False, num_classes=2).eval()


@pytest.fixture
def frozen_classifier() -> FrozenClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(9)
        body = timm.create_model("test_resnet", pretrained=False, num_classes=0).eval()
        features = pooled_features(body, torch.zeros(1, 3, SIZE, SIZE)).shape[1]
        return FrozenClassifier(body, nn.Linear(features, 2)).eval()


@pytest.fixture
def embedded(tmp_path, frozen_classifier) -> SimpleNamespace:
    """The context of a stage after embed: the classifier sees the images at 24 px, with constants of its own."""
    folder = tmp_path / "embed"
    folder.mkdir()
    best = {
        "backbone": "test_resnet", "image_size": 24, "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4], "views": [0]
    }  # fmt: skip
    (folder / "embedding.json").write_text(json.dumps({"best": best}))
    save_file(dict(frozen_classifier.state_dict()), folder / "frozen.safetensors")
    return SimpleNamespace(input=lambda stage, name: tmp_path / stage / name)


@pytest.fixture
def networks(images) -> Callable[..., Networks]:
    """`networks(folds=3)`: of random weights, with their scores, as trainings leave them."""

    def make(*, folds: int = 3) -> Networks:
        data = images(folds=folds)
        compute = ComputeConfig(device="cpu", num_threads=1)
        learner = new_learner(RECIPE, data, total_epochs=2, seed=0, compute=compute)
        trained = []
        for number in range(folds or 1):
            model = network(number)
            views = None
            if folds:
                views = view_scores(model, fold_of(data, number).split("val"), learner, VIEWS)
            scored = SimpleNamespace(weights=model.state_dict(), views=views)
            store = SimpleNamespace(best=lambda scored=scored: scored)
            name, fold = (f"fold-{number}", number) if folds else ("whole", None)
            trained.append(Trained(name=name, fold=fold, seed=0, trained_in="train", run_id="r", store=store))  # type: ignore[arg-type]
        learner.model.load_state_dict(trained[0].store.best().weights)
        frozen = np.random.default_rng(1).normal(size=(48, 2)).astype(np.float32)
        frozen[data.manifest["split"] == "test"] = np.nan
        return Networks(
            data=data, recipe=RECIPE, trained=trained, learner=learner, views=VIEWS, counts=COUNTS, frozen=frozen
        )

    return make


@pytest.fixture
def scorer() -> Scorer:
    objective = Objective(name="auroc", escape_budget=None, escape_cost=1.0, defect_rate=None)
    return Scorer(objective=objective, classes=CLASSES, good_classes=("good",), seed=0)


@pytest.fixture
def unseen() -> Callable[..., Unseen]:
    """`unseen(views, frozen)`: log-odds of the class bad, (V, N) and (N,), of images that alternate between bad and
    good, as log-probabilities; each image a group, in three folds.
    """

    def both(log_odds: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):  # NaN where there is no score
            return -np.logaddexp(0, np.stack([-log_odds, log_odds], axis=-1))

    def make(views: np.ndarray, frozen: np.ndarray, **columns: object) -> Unseen:
        count = views.shape[1]
        labels = np.arange(count) % 2
        rows: Mapping[str, object] = {
            "label": np.array(CLASSES)[labels],
            "group": [f"g{number}" for number in range(count)],
            "fold": np.arange(count) // 2 % 3,
        }
        return Unseen(rows=pd.DataFrame({**rows, **columns}), labels=labels, views=both(views), frozen=both(frozen))

    return make


@pytest.fixture
def folder(tmp_path) -> Callable[[str], Path]:
    """`folder(name)`: a new one with a file in it."""

    def make(name: str) -> Path:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "ended.pt").write_text(name)
        return tmp_path / name

    return make
