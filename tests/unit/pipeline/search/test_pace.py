"""How long an epoch of the defaults takes, from the pace of a few steps."""

from types import SimpleNamespace

from pipeline.comparison.forecast import Pace
from pipeline.config import ComputeConfig
from pipeline.search import pace as module
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import SearchConfig

PLAN = SimpleNamespace(
    threads=2,
    prepared=None,
    default=Recipe(model=ModelConfig(), recipe=RecipeConfig(lr=0.1)),
    search=SearchConfig(ema_decay=0.8),
    seed=5,
)


def test_an_epoch_trains_on_all_images_of_one_split_and_scores_those_of_another(monkeypatch) -> None:
    """100 images of 20 ms and 30 of 5 ms."""
    measured = []
    monkeypatch.setattr(module, "use_threads", measured.append)
    monkeypatch.setattr(module, "local_folder", lambda prepared: None)
    monkeypatch.setattr(
        module, "open_data", lambda folder: SimpleNamespace(split=lambda name: range({"train": 100, "val": 30}[name]))
    )

    def measure(recipe: Recipe, data, *, seed: int, compute: ComputeConfig) -> Pace:
        measured.append((recipe.recipe.ema_decay, recipe.recipe.schedule, seed))
        return Pace(training=0.02, scoring=0.005, start=9.0)

    monkeypatch.setattr(module, "measure_pace", measure)
    assert module.seconds_per_epoch(PLAN, SimpleNamespace(compute=ComputeConfig())) == 2.15
    assert measured == [2, (0.8, "fixed", 5)]


def test_of_a_cluster_nothing_is_measured_here() -> None:
    assert module.seconds_per_epoch(PLAN, SimpleNamespace(compute=ComputeConfig(ray_address="auto"))) == 0.0
