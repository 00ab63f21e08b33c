"""What the train stage decides by itself: what is trained, what certifies, the members."""

import json
import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn
from trainings import RECIPE, SPEC, member

from components.errors import InputError
from components.evaluation.transfer import SeenScores
from components.models.forward import Preprocessing
from components.training.engine import Device
from pipeline.config import ServingConfig
from pipeline.delivery.assembly import Assembly
from pipeline.delivery.choice import ENSEMBLE, SINGLE, Choice
from pipeline.delivery.members import Kept
from pipeline.stages import train
from pipeline.training.confirmed import Confirmed


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    said: list[str] = []
    logged: list[str] = []
    return SimpleNamespace(
        directory=tmp_path,
        run=SimpleNamespace(log_artifact=lambda path: logged.append(path.name)),
        log_figure=lambda figure, name: logged.append(name),
        console=SimpleNamespace(warn=said.append),
        input=lambda stage, name: tmp_path / f"{stage}-{name}",
        compute=None,
        said=said,
        logged=logged,
    )


# --- what is trained


def plan(**heads) -> train._Plan:
    return train._Plan(spec=SPEC, heads=heads, kept=Kept(folder=None, runs={"fold-1": "c"}), known=" (known)")  # type: ignore[arg-type]


def test_without_each_fold_a_network_is_trained_or_one_on_the_split_of_its_own(context, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(train, "train_folds", lambda context, specs, kept, **given: asked.append((specs, kept, given)))
    monkeypatch.setattr(train, "train_one", lambda context, name, spec, kept, *, known: (name, spec))
    train._train(context, SimpleNamespace(folds=3), plan())
    ((specs, kept, given),) = asked
    assert [(name, spec.fold, spec.seed, spec.keep) for name, spec in specs.items()] == [
        ("fold-0", 0, 7, "last"), ("fold-1", 1, 8, "last"), ("fold-2", 2, 9, "last")
    ]  # fmt: skip
    assert kept.runs == {"fold-1": "c"}
    assert given == {"title": "training", "known": " (known)"}
    ((name, spec),) = train._train(context, SimpleNamespace(folds=0), plan())
    assert (name, spec) == ("whole", SPEC)


def test_the_network_on_all_images_is_never_one_of_the_confirmation(context, monkeypatch) -> None:
    monkeypatch.setattr(train, "train_folds", lambda context, specs, kept, **given: [(specs, kept)])
    specs, kept = train._train_whole(context, plan())
    (spec,) = specs.values()
    assert (list(specs), spec.fold, spec.patience, spec.keep) == (["all"], "all", None, "last")
    assert kept.runs == {}


@pytest.mark.parametrize(
    ("folds", "deliver", "network", "delivered"),
    [
        (3, ENSEMBLE, 0.5, ["trained"]), (3, SINGLE, 0.5, ["on all"]), (0, SINGLE, 0.5, ["trained"]),
        (3, ENSEMBLE, 0.0, []), (3, SINGLE, 0.0, []), (0, SINGLE, 0.0, []),
    ],
)  # fmt: skip
def test_networks_without_weight_are_not_in_the_model_and_no_more_are_trained(
    monkeypatch, folds, deliver, network, delivered
) -> None:
    monkeypatch.setattr(train, "_train_whole", lambda context, plan: "on all")
    choice = SimpleNamespace(deliver=deliver, assembly=SimpleNamespace(network=network))
    assert train._delivered(None, SimpleNamespace(folds=folds), plan(), ["trained"], choice) == delivered


def test_an_ensemble_of_one_split_is_refused() -> None:
    with pytest.raises(InputError, match=r"^serving\.deliver=ensemble: .*set data\.design to cross_fit"):
        train._check_deliverable(SimpleNamespace(folds=0), ServingConfig(deliver="ensemble"))
    train._check_deliverable(SimpleNamespace(folds=0), ServingConfig())
    train._check_deliverable(SimpleNamespace(folds=3), ServingConfig(deliver="ensemble"))


def test_networks_are_scored_and_served_in_the_precision_that_they_were_trained_in(context, monkeypatch) -> None:
    """As on a cluster whose nodes have GPUs, unlike the machine of the driver."""
    learner = SimpleNamespace(model=nn.Linear(2, 2), device=Device(torch.device("cpu"), "float32"))
    monkeypatch.setattr(train, "new_learner", lambda *args, **given: learner)
    monkeypatch.setattr(train, "driver_compute", lambda compute: None)
    np.save(context.input("embed", "frozen_logits.npy"), np.zeros((3, 2)))
    weights = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    one = member(best=lambda: SimpleNamespace(weights=weights))
    found = train._load(context, SimpleNamespace(), plan(), [one])
    assert found.learner.device == Device(torch.device("cpu"), "bfloat16")
    assert torch.equal(found.learner.model.weight, weights["weight"])
    assert (found.views, found.counts) == ((0, 4), (1, 2))  # of one flip
    assert found.frozen.shape == (3, 2)


# --- the decision


def test_outputs_that_are_not_finite_are_an_error_that_names_the_rate_and_what_the_range_test_found(
    context, monkeypatch
) -> None:
    found = {("net", "sgd"): SimpleNamespace(optimizer="sgd", lr_div=4.0, abstained=False, suggested=0.13, upper=0.48)}
    monkeypatch.setattr(train, "read_backbone_bounds", lambda path: found)
    known = train._range_test_says(context, RECIPE)
    with pytest.raises(InputError) as caught:
        train._check_finite(np.array([[0.1, math.nan]]), replace(plan(), known=known))
    assert str(caught.value) == (
        "recipe.lr=1000: the trained model gives outputs that are not finite on images that it had not seen; lower "
        "recipe.lr, lengthen recipe.warmup_epochs, or set recipe.clip_grad_norm (the range test of sgd found that 4 "
        "diverges and suggests 0.13, at most 0.48)"
    )
    train._check_finite(np.zeros((1, 2)), plan())
    found.clear()
    assert train._range_test_says(context, RECIPE) == ""


class Scores(SimpleNamespace):
    """Networks whose scores are known. asked: the images for which they were asked."""

    def of_split(self, split: str, count: int) -> SimpleNamespace:
        self.asked.append(split)
        return unseen(5.0)

    def on_seen(self, whole, combine, count: int, *, seed: int) -> SeenScores:
        self.asked.append((whole, seed))
        return SeenScores(combine(np.ones((1, 4, 2)), np.zeros((4, 2))), np.zeros((4, 2)))


def unseen(value: float) -> SimpleNamespace:
    return SimpleNamespace(views=np.full((2, 3, 2), value), frozen=np.ones((3, 2)), rows="rows")


@pytest.fixture
def decided(context, monkeypatch):
    """`decided(folds, deliver, compared_on)`: what the decision is asked with."""

    def ask(
        *, folds: int, deliver: str, compared_on=(), confirmed: Confirmed | None = None, delivered=("first",)
    ) -> SimpleNamespace:
        given: list = []
        monkeypatch.setattr(train, "decide", lambda *args, **options: given.append((args, options)))
        record = {"not_certifying": compared_on}
        context.input("embed", "embedding.json").write_text(json.dumps(record))
        networks = Scores(data=SimpleNamespace(folds=folds), asked=[])
        assembly = Assembly(views=1, network=0.5, frozen=2.0, logits=np.full((3, 2), 8.0), record={"score": 0.9})
        choice = Choice(deliver=deliver, assembly=assembly, latency={"delivered": 1.0})
        confirmed = confirmed or Confirmed(overrides={}, kept={})
        train._decide(context, networks, unseen(3.0), choice, delivered, confirmed, "settings", plan())
        (((_, _, logits, rows, settings), options),) = given
        assert (rows, settings) == ("rows", "settings")
        return SimpleNamespace(logits=logits, asked=networks.asked, **options)

    return ask


def test_networks_of_folds_are_certified_on_the_blend_that_was_fitted_out_of_fold(decided) -> None:
    found = decided(folds=3, deliver=ENSEMBLE)
    assert (found.logits == 8).all()
    assert (found.evidence.kind, found.evidence.folds, found.evidence.not_certifying) == ("out_of_fold", 3, ())
    assert (found.seen, found.asked) == (None, [])
    assert found.assembly == {"score": 0.9, "deliver": "ensemble", "latency_ms": {"delivered": 1.0}}


def test_one_network_on_all_images_takes_the_threshold_over_by_images_that_both_kinds_have_seen(decided) -> None:
    found = decided(folds=3, deliver=SINGLE)
    assert (found.logits == 8).all()
    assert found.evidence.kind == "transferred"
    assert found.asked == [("first", 7)]
    assert (found.seen.folds == 0.5).all()  # of the assembly: half of a network's 1


def test_where_the_networks_have_no_weight_the_scores_out_of_fold_are_the_evidence(decided) -> None:
    found = decided(folds=3, deliver=SINGLE, delivered=())
    assert (found.evidence.kind, found.seen, found.asked) == ("out_of_fold", None, [])


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


# --- the parts


@pytest.mark.parametrize(
    ("network", "frozen", "kinds", "weights"),
    [
        (0.9, 0.4, ["network", "network", "frozen"], [0.45, 0.45, 0.4]),
        (1.0, 0.0, ["network", "network"], [0.5, 0.5]),
        (0.0, 2.0, ["frozen"], [2.0]),
    ],
)
def test_the_parts_share_the_weight_of_the_networks(context, monkeypatch, network, frozen, kinds, weights) -> None:
    monkeypatch.setattr(
        train,
        "frozen_part",
        lambda context, *, weight: SimpleNamespace(member=SimpleNamespace(kind="frozen", weight=weight)),
    )
    networks = SimpleNamespace(
        learner=SimpleNamespace(preprocessing=Preprocessing.from_unit_scale((0.5,) * 3, (0.25,) * 3)),
        data=SimpleNamespace(pack=SimpleNamespace(framing=SimpleNamespace(size=48))),
        views=(0, 4, 2, 6),
    )
    assembly = Assembly(views=2, network=network, frozen=frozen, logits=np.empty((0, 2)), record={})
    choice = Choice(deliver=ENSEMBLE, assembly=assembly, latency={})
    both = [member(f"fold-{n}", best=lambda n=n: SimpleNamespace(weights={"n": n})) for n in range(2)]
    parts = train._parts(context, networks, choice, both if network else [], RECIPE)
    assert [part.member.kind for part in parts] == kinds
    assert [part.member.weight for part in parts] == weights
    if network:
        assert (parts[0].member.views, parts[0].member.input_size) == ((0, 4), 48)
        assert [part.state["n"] for part in parts[:2]] == [0, 1]


def test_the_record_of_a_member_says_where_it_was_trained() -> None:
    confirmed = Confirmed(overrides={}, kept={"fold-1": "run-fold-1"})
    kept, own = (train._member_record(member(f"fold-{n}"), confirmed) for n in (1, 0))
    assert kept == {
        "name": "fold-1", "seed": 7, "epochs": 2, "kept_epoch": 2, "trained_in": "confirm", "run_id": "run-fold-1",
    }  # fmt: skip
    assert own["trained_in"] == "train"
