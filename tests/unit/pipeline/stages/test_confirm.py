"""confirm: what it trains, decides and keeps, on noise and a tiny network, with runs in a store."""

import contextlib
import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from components.errors import InputError
from pipeline.config import ComputeConfig, TrainConfig
from pipeline.confirmation import trainings as confirmation_trainings
from pipeline.delivery import members
from pipeline.delivery.members import train_one
from pipeline.overriding import override
from pipeline.sections.learning_rate import MonitorConfig
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.stage import StageContext
from pipeline.stages import confirm
from pipeline.training import placement
from pipeline.training.checkpoints import TrainingStore
from pipeline.training.confirmed import WHOLE, read_confirmed
from pipeline.training.data import TrainingData
from pipeline.training.job import TrainingSpec
from pipeline.training.runs import TAG_ENTRY, TAG_SEED

COMPUTE = ComputeConfig(device="cpu", num_threads=1)
MODEL = ModelConfig(backbone="test_efficientnet", weights="none")
RECIPE = RecipeConfig(batch_size=8, augment_strength=0.0, objective="auroc", warmup_epochs=0.0)
TRAIN = TrainConfig(epochs=2, patience=2)
MONITOR = MonitorConfig(action="none")
BEST = {
    "trial": 3,
    "overrides": {"recipe.lr": 0.01, "recipe.optimizer": "sgd"},
    "defaults": {"recipe.lr": 0.001},
    "schedule": [],
}


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def noise(*, split: list[str], fold: list[int]) -> TrainingData:
    """Forty images of noise, the defective ones darker, in groups of two."""
    generator = np.random.default_rng(0)
    label = np.where(np.arange(40) % 4 < 2, "good", "dent")
    manifest = pd.DataFrame(
        {
            "split": split,
            "fold": fold,
            "label": label,
            "is_defect": label != "good",
            "pack_index": np.arange(40),
            "group": [f"g{n // 2}" for n in range(40)],
        }
    )
    pixels = generator.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    pixels[label == "dent"] //= 2
    return TrainingData(manifest, pixels, ("dent", "good"), ("good",))


HOLD_OUT = noise(split=["train"] * 24 + ["val"] * 16, fold=[-1] * 40)
#: Groups of two, good and defective in turn, in three folds; the last four images are the test's.
CROSS_FIT = noise(split=["train"] * 36 + ["test"] * 4, fold=[n // 4 % 3 for n in range(36)] + [-1] * 4)


class Console:
    def __init__(self) -> None:
        self.said: list[str] = []
        self.epochs = self.total = 0

    @contextlib.contextmanager
    def bar(self, description, total, *, done=0):
        self.epochs, self.total = done, total

        def advance(n=1, note=None) -> None:
            self.epochs += n

        yield advance

    def say(self, line, style="") -> None:
        self.said.append(line)

    def warn_once(self, subject, message) -> None:
        """Which letters no font has depends on the machine."""

    def table(self, table) -> None:
        self.said.append(str(table.title))

    warn = say


@pytest.fixture
def context(tmp_path, tracker, monkeypatch):
    """`context(best, stage, data)`: of a stage in a folder of its own, below a root run."""
    place = SimpleNamespace(open=lambda: place.data, compute=COMPUTE, share=None)
    monkeypatch.setattr(confirmation_trainings, "placement_of_trainings", lambda *a, **k: contextlib.nullcontext(place))
    monkeypatch.setattr(placement, "task_placement", lambda context: contextlib.nullcontext(place))
    for module in (confirm, placement):
        monkeypatch.setattr(module, "open_data", lambda folder: place.data)
    monkeypatch.setattr(confirm, "log_lineage", lambda *a, **k: None)
    monkeypatch.setattr(members, "range_test_says", lambda *a: "")
    root = tracker.start_root("test", {})

    def make(best: dict, stage: str = "confirm", data: TrainingData = HOLD_OUT) -> StageContext:
        place.data = data
        (tmp_path / "search").mkdir(exist_ok=True)
        (tmp_path / "search" / "best.json").write_text(json.dumps(best))
        (tmp_path / stage).mkdir(exist_ok=True)
        records = {
            name: SimpleNamespace(directory=tmp_path / name) for name in ("prepare", "embed", "search", "confirm")
        }
        run = tracker.start_stage(root, stage, f"print-of-{stage}", resume=True)
        return StageContext(
            directory=tmp_path / stage, inputs=records, run=run, tracker=tracker, compute=COMPUTE, console=Console(),
            commit="c",
        )  # fmt: skip

    return make


def carry_out(context: StageContext, *, seed: int = 5, networks: int | None = None, **search) -> dict:
    settings = SearchConfig(**{"confirm": "always", "confirm_seeds": 2, **search})
    train = TRAIN.model_copy(update={"networks": networks})
    return confirm.run(context, seed=seed, model=MODEL, recipe=RECIPE, search=settings, train=train, monitor=MONITOR)


def confirmation(context: StageContext) -> dict:
    return json.loads((context.directory / "confirmation.json").read_text())


def runs(context: StageContext) -> dict:
    return {(run.data.tags[TAG_ENTRY], run.data.tags[TAG_SEED]): run for run in context.tracker.children(context.run)}


def test_both_recipes_are_trained_from_the_same_seeds_each_with_a_run_of_its_own(context) -> None:
    here = context(BEST)
    headline = carry_out(here)
    values = confirmation(here)
    assert values["replicates"] == ["seed-5", "seed-6"]
    assert [(one["recipe"], one["seed"], one["epochs"]) for one in values["trainings"]] == [
        ("winner", 5, 2), ("defaults", 5, 2), ("winner", 6, 2), ("defaults", 6, 2)
    ]  # fmt: skip
    scores = values["scores"]
    assert values["difference"] == pytest.approx(np.mean(scores["winner"]) - np.mean(scores["defaults"]))
    assert values["low"] < values["expected"] < values["high"]
    assert values["detectable_difference"] > 0
    assert any("a measured difference of" in line for line in here.console.said)
    assert values["se_sampling"] > 0
    assert headline["confirmation_trainings"] == 4
    assert (here.console.epochs, here.console.total) == (8, 8)
    assert here.console.said[-1] == f"  {values['statement']}"
    found = runs(here)
    assert found.keys() == {("winner", "5"), ("defaults", "5"), ("winner", "6"), ("defaults", "6")}
    for (label, seed), run in found.items():
        assert run.info.status == "FINISHED"
        assert run.data.params["seed"] == seed
        assert run.data.params["recipe.lr"] == {"winner": "0.01", "defaults": "0.001"}[label]
        steps = here.tracker.client.get_metric_history(run.info.run_id, "val_score")
        assert [point.step for point in steps] == [1, 2]
    artifacts = {item.path for item in here.tracker.client.list_artifacts(here.run.id)}
    assert "confirmation.json" in artifacts


def test_the_training_of_the_configured_seed_is_kept_and_its_recipe_goes_on(context) -> None:
    here = context(BEST)
    carry_out(here)
    values = confirmation(here)
    (run,) = [one for key, one in runs(here).items() if key == (values["chosen"], "5")]
    assert values["kept"] == {"whole": run.info.run_id}
    assert (values["choices"], values["selection_folds"]) == (1, [])
    assert values["overrides"] == BEST["overrides" if values["chosen"] == "winner" else "defaults"]
    kept = {path.name for path in (here.directory / "kept" / "whole").iterdir()}
    best = next(one["kept_epoch"] for one in values["trainings"] if one["run_id"] == run.info.run_id)
    assert kept == {
        "state.pt", "ended.pt", "epoch-1.pt", "epoch-2.pt", f"epoch-{best}-weights.safetensors",
        f"epoch-{best}-val_logits.npy",
    }  # fmt: skip


def test_an_interrupted_confirmation_goes_on_in_its_runs_and_repeats_no_training(context, monkeypatch) -> None:
    whole = context(BEST, "whole")
    carry_out(whole)

    here = context(BEST)
    steps, train_one = [], placement.train

    def cut(spec, place, *, earlier, on_steps):
        steps.append(spec.seed)
        if len(steps) == 3:
            raise KeyboardInterrupt
        return train_one(spec, place, earlier=earlier, on_steps=on_steps)

    monkeypatch.setattr(placement, "train", cut)
    with pytest.raises(KeyboardInterrupt):
        carry_out(here)
    here.tracker.end_tree(here.run.id, "KILLED")
    begun = {key: run.info.run_id for key, run in runs(here).items()}
    assert len(begun) == 3

    steps.clear()
    monkeypatch.setattr(
        placement, "train", lambda *args, **options: train_one(*args, **{**options, "on_steps": steps.extend})
    )
    again = context(BEST)
    carry_out(again)
    assert len(steps) == 2 * 2 * 3  # the last two trainings, of two epochs of three steps
    found = runs(again)
    assert {key: run.info.run_id for key, run in found.items()}.items() >= begun.items()
    assert {run.info.status for run in found.values()} == {"FINISHED"}
    assert len(found) == 4
    timeless = ("scores", "difference", "expected", "chosen", "statement")
    assert {key: confirmation(again)[key] for key in timeless} == {key: confirmation(whole)[key] for key in timeless}
    assert again.console.epochs == again.console.total == 8


@pytest.mark.parametrize(
    ("best", "search", "chosen"),
    [
        (BEST | {"gain": 0.5, "score": 0.9, "score_of_defaults": 0.4}, {"confirm": "never"}, "winner"),
        (BEST | {"gain": 0.001, "score": 0.9, "score_of_defaults": 0.899}, {"confirm": "never"}, "defaults"),
        (BEST | {"gain": 0.001, "score": 0.9, "score_of_defaults": 0.899}, {"confirm": "auto"}, "defaults"),
        (BEST | {"trial": 0}, {}, "defaults"),
        (BEST | {"trial": None}, {}, "defaults"),
    ],
)
def test_where_there_is_nothing_to_compare_nothing_is_trained(context, monkeypatch, best, search, chosen) -> None:
    monkeypatch.setattr(confirm, "train_candidates", None)
    here = context(best)
    headline = carry_out(here, **search)
    values = confirmation(here)
    assert (values["chosen"], values["trainings"], values["kept"]) == (chosen, [], {})
    assert values["overrides"] == best["overrides" if chosen == "winner" else "defaults"]
    assert values["statement"] in here.console.said[-1]
    assert headline["confirmation_trainings"] == 0
    assert headline["confirmed_recipe"] == chosen
    assert not (here.directory / "kept").exists()


def wild(monkeypatch, *labels: str) -> None:
    """Trainings of these recipes are at a rate beyond what a configuration may say."""
    real = confirmation_trainings.open_job

    def opened(runs, label, spec, folder, **options):
        return real(runs, label, diverging(spec) if label in labels else spec, folder, **options)

    monkeypatch.setattr(confirmation_trainings, "open_job", opened)


def diverging(spec: TrainingSpec) -> TrainingSpec:
    settings = spec.recipe.recipe.model_copy(update={"lr": 1e30, "optimizer": "sgd_plain"})
    return dataclasses.replace(spec, recipe=spec.recipe.model_copy(update={"recipe": settings}))


def test_a_winner_that_diverges_at_full_length_leaves_the_defaults(context, monkeypatch) -> None:
    wild(monkeypatch, "winner")
    here = context(BEST)
    carry_out(here)
    values = confirmation(here)
    assert values["chosen"] == "defaults"
    assert "the winner diverged at full length with seed 5, seed 6" in values["statement"]
    assert values["scores"]["winner"] == [None, None]
    assert all(0 <= score <= 1 for score in values["scores"]["defaults"])
    assert values["kept"].keys() == {"whole"}
    assert {key: run.info.status for key, run in runs(here).items()} == {
        ("winner", "5"): "FAILED", ("winner", "6"): "FAILED", ("defaults", "5"): "FINISHED",
        ("defaults", "6"): "FINISHED",
    }  # fmt: skip
    assert any("winner, seed 5: recipe.lr=" in line and "diverged in epoch 1" in line for line in here.console.said)


def test_defaults_that_diverge_at_full_length_leave_the_winner(context, monkeypatch) -> None:
    wild(monkeypatch, "defaults")
    here = context(BEST)
    carry_out(here)
    assert confirmation(here)["chosen"] == "winner"
    assert "the defaults diverged" in confirmation(here)["statement"]


def test_where_both_diverge_there_is_no_training_to_take_over(context, monkeypatch) -> None:
    wild(monkeypatch, "winner", "defaults")
    here = context(BEST)
    carry_out(here)
    assert confirmation(here)["chosen"] == "defaults"
    assert confirmation(here)["kept"] == {}
    assert not (here.directory / "kept").exists()


# --- with folds


def test_both_recipes_are_trained_without_the_same_folds_on_none_of_which_the_search_has_chosen(context) -> None:
    here = context(BEST, data=CROSS_FIT)
    carry_out(here, num_trials=4)
    values = confirmation(here)
    assert values["replicates"] == ["fold-1", "fold-2"]
    assert [(one["recipe"], one["seed"], one["kept_epoch"]) for one in values["trainings"]] == [
        ("winner", 6, 2), ("defaults", 6, 2), ("winner", 7, 2), ("defaults", 7, 2)
    ]  # fmt: skip
    assert (values["choices"], values["selection_folds"]) == (2, [0])
    own = {one["replicate"]: one["run_id"] for one in values["trainings"] if one["recipe"] == values["chosen"]}
    assert values["kept"] == own
    logits = TrainingStore(here.directory / "kept" / "fold-2").best().val_logits
    assert len(logits) == 12


def test_a_fold_on_which_nothing_was_chosen_is_compared_on_too(context) -> None:
    here = context(BEST, data=CROSS_FIT)
    carry_out(here, num_trials=1)
    assert confirmation(here)["replicates"] == ["fold-0", "fold-1", "fold-2"]
    assert confirmation(here)["selection_folds"] == []


def test_recipes_are_compared_on_the_folds_of_the_networks_alone(context) -> None:
    here = context(BEST, data=CROSS_FIT)
    carry_out(here, num_trials=4, networks=1)
    assert confirmation(here)["replicates"] == ["fold-2"]


GRID = {"num_trials": 4, "sampler": "grid", "scheduler": "none"}


def test_where_the_search_has_chosen_on_every_fold_its_own_scores_decide(context) -> None:
    here = context(BEST | {"gain": 0.5}, data=CROSS_FIT)
    carry_out(here, **GRID, folds=3)
    values = confirmation(here)
    assert (values["chosen"], values["trainings"], values["selection_folds"]) == ("winner", [], [0])
    assert values["choices"] == 3  # two candidates and the defaults
    assert "Not confirmed: the search has chosen on every fold (search.folds=3), none is left." in values["statement"]
    assert (values["detectable_difference"], values["foresight"]) == (None, None)


def test_folds_on_which_the_search_has_cross_validated_are_not_compared_on_again(context) -> None:
    here = context(BEST, data=CROSS_FIT)
    carry_out(here, **GRID, folds=2)
    values = confirmation(here)
    assert (values["replicates"], values["selection_folds"], values["choices"]) == (["fold-2"], [0], 3)


def test_what_is_left_out_compares_nothing_on_the_folds_that_certify(context) -> None:
    here = context(BEST | {"gain": 0.01, "score_of_defaults": 0.7, "score": 0.71}, data=CROSS_FIT)
    carry_out(here, confirm="auto")
    values = confirmation(here)
    assert values["trainings"] == []
    assert values["choices"] == 1
    assert values["detectable_difference"] > values["possible_gain"]
    assert "Not confirmed, since not even the winner's possible gain would be certain." in values["statement"]


# --- what train makes of it


def spec_of(seed: int, overrides: dict) -> TrainingSpec:
    recipe = override(Recipe(model=MODEL, recipe=RECIPE), overrides)
    return TrainingSpec(recipe=recipe, seed=seed, epochs=TRAIN.epochs, patience=TRAIN.patience, monitor=MONITOR)


def test_train_takes_the_kept_training_over_and_trains_no_step(context, monkeypatch) -> None:
    here = context(BEST)
    carry_out(here)
    values = confirmation(here)
    after = context(BEST, "train")
    confirmed = read_confirmed(here.directory / "confirmation.json")
    monkeypatch.setattr(placement, "train", None)
    taken = train_one(after, WHOLE, spec_of(5, confirmed.overrides), confirmed.kept)
    assert taken.ended.failure is None
    assert taken.run_id == values["kept"]["whole"]
    store = taken.store
    assert f"of the stage confirm (run {values['kept']['whole']})" in after.console.said[0]
    client = after.tracker.client
    for metric in ("val_score", "step/loss"):
        mine, theirs = ([(p.step, p.value) for p in client.get_metric_history(run, metric)]
                        for run in (after.run.id, values["kept"]["whole"]))  # fmt: skip
        assert mine == theirs
    theirs = TrainingStore(here.work / f"{values['chosen']}-seed-5").best().weights
    assert all(torch.equal(store.best().weights[name], value) for name, value in theirs.items())


def test_what_train_would_have_trained_is_what_was_kept(context) -> None:
    """The same weights, bit for bit, as a training that the stage makes by itself."""
    here = context(BEST)
    carry_out(here)
    values = confirmation(here)
    alone = context(BEST, "train")
    store = train_one(alone, WHOLE, spec_of(5, values["overrides"]), {}).store
    kept = TrainingStore(Path(here.directory / "kept" / "whole"))
    assert kept.steps() == store.steps()
    mine, theirs = store.best(), kept.best()
    assert np.array_equal(mine.val_logits, theirs.val_logits)
    assert all(torch.equal(mine.weights[name], value) for name, value in theirs.weights.items())


def test_what_diverged_in_confirm_is_an_error_in_train(context) -> None:
    alone = context(BEST, "train")
    with pytest.raises(InputError, match=r"recipe\.lr=.*diverged in epoch 1; lower recipe\.lr"):
        train_one(alone, WHOLE, diverging(spec_of(5, {})), {})
