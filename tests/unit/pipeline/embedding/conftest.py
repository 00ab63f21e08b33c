"""Images of which a network of random weights tells the classes apart, and a stage's context around them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from packs import SIZE, Pixels

from pipeline.config import ComputeConfig
from pipeline.console import Console
from pipeline.stage import StageRecord
from pipeline.training.data import TrainingData


@dataclass(frozen=True)
class Here:
    """This process as the place of work."""

    images: TrainingData
    compute: ComputeConfig = field(default_factory=lambda: ComputeConfig(device="cpu"))
    share: None = None

    def open(self) -> TrainingData:
        return self.images


def make(*, parts: int = 40, folds: int = 4, told: bool = True) -> TrainingData:
    """Three images of each part; good ones are dark and defective ones bright, unless not told apart.

    A fifth of the parts are test; folds: of the others, or 0: half of them train, a quarter val and calibration each.
    """
    part = np.repeat(np.arange(parts), 3)
    defect = part % 2 == 1
    noise = np.random.default_rng(0).integers(0, 60, (len(part), SIZE, SIZE, 3))
    pixels = (noise + (150 * defect[:, None, None, None] if told else 0)).astype(np.uint8)
    place = part // 2 % 5  # both classes everywhere
    split = np.array(["train", "train", "val", "calibration", "test"])[place].astype(object)
    if folds:
        split = np.where(place == 4, "test", "train").astype(object)
    number = np.where(split == "test", -1, part // 2 % max(folds, 1)) if folds else np.full(len(part), -1)
    manifest = pd.DataFrame(
        {
            "image_id": [f"{name}/{row}.png" for row, name in enumerate(part)],
            "path": [f"{name}/{row}.png" for row, name in enumerate(part)],
            "label": np.where(defect, "bad", "good"),
            "is_defect": defect,
            "group": [f"part-{name}" for name in part],
            "split": split,
            "fold": number,
            "sha256": [f"{row:064x}" for row in range(len(part))],
            "pack_index": np.arange(len(part)),
        }
    )
    return TrainingData(manifest, Pixels(pixels), ("bad", "good"), ("good",))  # type: ignore[arg-type]


@pytest.fixture
def made() -> Callable[..., TrainingData]:
    return make


@pytest.fixture
def here() -> type[Here]:
    return Here


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    values = dict.fromkeys(("stage", "fingerprint", "run_id", "commit"), "")
    folder = tmp_path / "prepare" / "one"
    folder.mkdir(parents=True)
    record = StageRecord(
        **values, version=1, result_id="result", inputs={}, sections={}, headline={}, artifacts={}, seconds=0.0,
        versions={}, directory=folder,
    )  # fmt: skip
    record.write()
    return SimpleNamespace(storage=tmp_path, inputs={"prepare": record}, console=Console(quiet=True))
