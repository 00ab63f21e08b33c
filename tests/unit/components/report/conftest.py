"""What the tests of figures share: the words of a figure, texts that lie on each other, trials that are made up."""

from itertools import combinations
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

#: Pixels that two boxes may share: a box is a little larger than its letters.
TOLERANCE = 2.0


@pytest.fixture
def words():
    """The texts of a figure."""
    return lambda figure: {text.get_text() for text in figure.findobj(Text) if text.get_text()}


@pytest.fixture
def overlaps():
    """Pairs of texts of a drawn figure that lie on each other, and texts beyond its edges."""
    return _overlaps


def _overlaps(figure: Figure) -> list[tuple[str, ...]]:
    drawn: list[Text] = []
    draw = Text.draw

    def remember(text: Text, *args, **kwargs) -> None:
        if text.get_visible() and text.get_text().strip():
            drawn.append(text)
        draw(text, *args, **kwargs)

    canvas = FigureCanvasAgg(figure)
    with patch.object(Text, "draw", remember):
        canvas.draw()
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in drawn]
    width, height = canvas.get_width_height()
    found: list[tuple[str, ...]] = [
        (name, "the edge")
        for name, box in boxes
        if min(box.x0, box.y0) < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    for (one, a), (two, b) in combinations(boxes, 2):
        wide, high = min(a.x1, b.x1) - max(a.x0, b.x0), min(a.y1, b.y1) - max(a.y0, b.y0)
        if min(wide, high) > TOLERANCE:
            found.append((one, two))
    return found


@pytest.fixture
def search_trials():
    """A search of so many trials: trial 0 the defaults, most stopped early, one in twenty diverged."""
    return _search_trials


def _search_trials(count: int, *, backbones: tuple[str, ...] = ("resnet18",)) -> pd.DataFrame:
    generator = np.random.default_rng(count)
    fate = generator.random(count)
    status = np.select([fate < 0.05, fate < 0.07, fate < 0.6], ["diverged", "failed", "stopped"], "completed")
    status[:1] = "completed"
    optimizer = generator.choice(["adamw", "sgd"], count)
    rate = 10.0 ** generator.uniform(-4, -2, count) * np.where(optimizer == "sgd", 30, 1)
    epochs = np.select([status == "completed", status == "stopped"], [9, 3], 0)
    score = 0.9 - 0.02 * (np.log10(rate) + 3) ** 2 + 0.01 * generator.normal(size=count)
    return pd.DataFrame(
        {
            "trial": np.arange(count),
            "status": status.astype(object),
            "score": np.where(epochs > 0, score - 0.1 * (epochs < 9), np.nan),
            "epochs": epochs,
            "seconds": 20.0 * epochs + 5 + generator.random(count),
            "gpu_seconds": 0.0,
            "unstopped": generator.random(count) < 0.1,
            "optimizer": optimizer.astype(object),
            "backbone": np.resize(np.array(backbones, dtype=object), count),
            "lr": rate,
            "recipe.weight_decay": 10.0 ** generator.uniform(-5, -1, count),
            "recipe.layer_decay": generator.choice([1.0, 0.9, 0.75], count),
            "recipe.momentum": np.where(optimizer == "sgd", generator.uniform(0.8, 0.99, count), np.nan),
            "latency_ms": 4 + 0.1 * generator.random(count) + 3 * (np.arange(count) % len(backbones)),
        }
    )
