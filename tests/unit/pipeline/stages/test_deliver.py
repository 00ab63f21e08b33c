"""What the stage deliver decides by itself: which networks leave, what certifies."""

import contextlib
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from trainings import RECIPE, SPEC

from components.errors import InputError
from components.evaluation.transfer import SeenScores
from pipeline.config import ComputeConfig, ServingConfig
from pipeline.delivery import members
from pipeline.delivery.assembly import Assembly
from pipeline.delivery.choice import ENSEMBLE, SINGLE, Choice
from pipeline.stages import deliver as stage
from pipeline.training.confirmed import Confirmed


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    return SimpleNamespace(input=lambda stage, name: tmp_path / f"{stage}-{name}")


# --- which networks leave


@pytest.mark.parametrize(
    ("folds", "deliver", "delivered"), [(3, ENSEMBLE, ["trained"]), (3, SINGLE, ["on all"]), (0, SINGLE, ["trained"])]
)
def test_a_single_network_is_trained_on_the_images_of_all_folds(monkeypatch, folds, deliver, delivered) -> None:
    monkeypatch.setattr(stage, "_train_on_all", lambda context, data, spec: ["on all"])
    choice = SimpleNamespace(deliver=deliver)
    networks = SimpleNamespace(data=SimpleNamespace(folds=folds), trained=["trained"])
    assert stage._delivered(None, networks, choice, SPEC) == delivered


def test_the_network_on_all_images_is_never_one_of_the_confirmation(monkeypatch) -> None:
    asked, written = [], []
    monkeypatch.setattr(stage, "read_heads", lambda folder: {})
    monkeypatch.setattr(stage, "train_members", lambda context, *args, **given: asked.append((args, given)) or ["all"])
    monkeypatch.setattr(stage, "write_training", lambda context, trained, spec: written.append(trained))
    run = SimpleNamespace(system_metrics=contextlib.nullcontext)
    context = SimpleNamespace(inputs={"embed": SimpleNamespace(directory=None)}, run=run)
    assert stage._train_on_all(context, None, SPEC) == ["all"]
    (((specs, kept), given),) = asked
    (spec,) = specs.values()
    assert (list(specs), spec.fold, spec.patience, spec.keep) == (["all"], "all", None, "last")
    assert (kept, given, written) == ({}, {"stage": "deliver"}, [["all"]])


def test_networks_without_weight_leave_the_classifier_alone_which_certifies_on_the_images_of_all_folds(
    context, monkeypatch
) -> None:
    asked = []
    context.directory = context.input("deliver", "folder")
    context.run = SimpleNamespace(log_artifact=lambda path: None)
    context.console = SimpleNamespace(say=lambda text: None)
    context.input("embed", "embedding.json").write_text(json.dumps({"best": {"score": 0.7, "views": [0, 4]}}))
    context.directory.mkdir()
    point = SimpleNamespace(threshold=0.4, certified=True, statement="certified")
    monkeypatch.setattr(
        stage, "export_frozen", lambda *args, name: asked.append(name) or ("id", SimpleNamespace(summary="f"), point)
    )
    monkeypatch.setattr(stage, "load_ensemble", lambda folder, target: (None, None))
    monkeypatch.setattr(stage, "latency_ms", lambda ensemble, **given: 0.5)
    context.compute = ComputeConfig(device="cpu")
    chosen = {
        "views": 4, "score": 0.4, "deliver": ENSEMBLE, "blend": {"taken": True}, "compared_views": [{"views": 4}],
        "latency_ms": {ENSEMBLE: {"4": 12.0}, "delivered": 12.5},
    }  # fmt: skip
    data = SimpleNamespace(pack=SimpleNamespace(size=32))
    said = stage._deliver_frozen(context, data, "settings", ServingConfig(num_threads=2), chosen=chosen)
    assert asked == ["model"]
    assert said == {
        "unseen_score": 0.7, "views": 2, "latency_ms": 0.5, "threshold": 0.4, "budget_certified": True
    }  # fmt: skip
    record = json.loads((context.directory / "delivery.json").read_text())
    assert (record["deliver"], record["networks"], record["blend"]) == ("frozen", [], {"taken": True})
    assert record["latency_ms"] == {
        ENSEMBLE: {"4": 12.0}, "delivered": 0.5, "threads": 2, "device": "cpu", "limit": None
    }  # fmt: skip


# --- the decision


def test_outputs_that_are_not_finite_are_an_error_that_names_the_rate_and_what_the_range_test_found(
    context, monkeypatch
) -> None:
    found = {("net", "sgd"): SimpleNamespace(optimizer="sgd", lr_div=4.0, abstained=False, suggested=0.13, upper=0.48)}
    monkeypatch.setattr(members, "read_backbone_bounds", lambda path: found)
    networks = SimpleNamespace(recipe=RECIPE)
    with pytest.raises(InputError) as caught:
        stage._check_finite(context, networks, SimpleNamespace(views=np.array([[0.1, math.nan]])))
    assert str(caught.value) == (
        "recipe.lr=1000: the trained model gives outputs that are not finite on images that it had not seen; lower "
        "recipe.lr, lengthen recipe.warmup_epochs, or set recipe.clip_grad_norm (the range test of sgd found that 4 "
        "diverges and suggests 0.13, at most 0.48)"
    )
    stage._check_finite(context, networks, SimpleNamespace(views=np.zeros((1, 2))))
    found.clear()
    assert members.range_test_says(context, RECIPE) == ""


class Scores(SimpleNamespace):
    """Networks whose scores are known. asked: the images for which they were asked."""

    def of_split(self, split: str, count: int) -> SimpleNamespace:
        self.asked.append(split)
        return unseen(5.0)

    def on_seen(self, whole, combine, count: int) -> SeenScores:
        self.asked.append(whole)
        return SeenScores(combine(np.ones((1, 4, 2)), np.zeros((4, 2))), np.zeros((4, 2)))


def unseen(value: float) -> SimpleNamespace:
    return SimpleNamespace(views=np.full((2, 3, 2), value), frozen=np.ones((3, 2)), rows="rows")


@pytest.fixture
def decided(context, monkeypatch):
    """`decided(folds, deliver, compared_on)`: what the decision is asked with."""

    def ask(*, folds: int, deliver: str, compared_on=(), confirmed: Confirmed | None = None) -> SimpleNamespace:
        given: list = []
        monkeypatch.setattr(stage, "decide", lambda *args, **options: given.append((args, options)))
        monkeypatch.setattr(stage, "read_confirmed", lambda path: confirmed or Confirmed(overrides={}, kept={}))
        record = {"not_certifying": compared_on}
        context.input("embed", "embedding.json").write_text(json.dumps(record))
        networks = Scores(data=SimpleNamespace(folds=folds), trained=[None] * folds, asked=[])
        assembly = Assembly(views=1, network=0.5, frozen=2.0, logits=np.full((3, 2), 8.0), record={"score": 0.9})
        choice = Choice(deliver=deliver, assembly=assembly, latency={"delivered": 1.0})
        stage._decide(context, networks, unseen(3.0), choice, ["first"], "settings")
        (((_, _, logits, rows, settings), options),) = given
        assert (rows, settings) == ("rows", "settings")
        return SimpleNamespace(logits=logits, asked=networks.asked, **options)

    return ask


def test_networks_of_folds_are_certified_on_the_blend_that_was_fitted_out_of_fold(decided) -> None:
    found = decided(folds=3, deliver=ENSEMBLE)
    assert (found.logits == 8).all()
    assert (found.evidence.kind, found.evidence.folds, found.evidence.not_certifying) == ("out_of_fold", 3, ())
    assert (found.seen, found.asked) == (None, [])


def test_one_network_on_all_images_takes_the_threshold_over_by_images_that_both_kinds_have_seen(decided) -> None:
    found = decided(folds=3, deliver=SINGLE)
    assert (found.logits == 8).all()
    assert found.evidence.kind == "transferred"
    assert found.asked == ["first"]
    assert (found.seen.folds == 0.5).all()  # of the assembly: half of a network's 1


def test_without_folds_the_calibration_split_alone_decides(decided) -> None:
    confirmed = Confirmed(overrides={}, kept={}, choices=2)
    found = decided(folds=0, deliver=SINGLE, compared_on=(0,), confirmed=confirmed)
    assert found.asked == ["calibration"]
    assert (found.logits == 0.5 * 5 + 2 * 1).all()
    assert (found.evidence.kind, found.evidence.choices, found.evidence.not_certifying) == ("held_out", 1, ())


def test_folds_on_which_something_was_chosen_do_not_certify(decided) -> None:
    searched = Confirmed(overrides={}, kept={}, choices=2, selection_folds=(1, 0))
    found = decided(folds=3, deliver=ENSEMBLE, confirmed=searched)
    assert (found.evidence.not_certifying, found.evidence.choices) == ((0, 1), 2)
    assert decided(folds=3, deliver=ENSEMBLE, compared_on=(0,)).evidence.not_certifying == (0,)
