"""Scores of images that a network had not seen, on their rows; and the parity with the model that is delivered."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from torch import nn
from trainings import RECIPE, SPEC, member

from components.models.forward import Ensemble, Preprocessing, joined, logits_of
from components.training.engine import Device
from pipeline.delivery import networks as module
from pipeline.delivery.assembly import Assembly
from pipeline.delivery.export import network_member
from pipeline.delivery.frozen import frozen_part
from pipeline.delivery.networks import Networks, load_networks
from pipeline.training.build import view_scores
from pipeline.training.data import fold_of

CPU = torch.device("cpu")


@pytest.mark.parametrize(("views", "network", "frozen"), [(4, 0.75, 0.5), (2, 1.0, 0.0), (1, 0.0, 2.0)])
def test_the_delivered_model_gives_the_logits_that_it_was_judged_by(
    networks, embedded, frozen_classifier, views: int, network: float, frozen: float
) -> None:
    """Three networks, four views and the classifier on frozen features: pipeline and served model by one arithmetic."""
    three = networks()
    assembly = Assembly(views=views, network=network, frozen=frozen, logits=np.empty((0, 2)), record={})
    parts = three.parts(three.trained if network else [], assembly)
    part = frozen_part(embedded)
    parts += [replace(part, member=replace(part.member, weight=frozen))] if frozen else []
    assert [part.member.kind for part in parts] == ["network"] * (3 if network else 0) + ["frozen"] * bool(frozen)
    assert sum(part.member.weight for part in parts) == pytest.approx(network + frozen)
    card = {"num_classes": 2, "precision": "float32", "members": [vars(part.member) for part in parts]}
    served = Ensemble.from_card(card, joined([part.state for part in parts]), CPU)

    test = three.data.split("test")
    pixels = torch.from_numpy(three.data.pack[test.indices]).permute(0, 3, 1, 2)
    constants = Preprocessing.from_unit_scale((0.5, 0.4, 0.3), (0.2, 0.3, 0.4), size=24)
    with torch.no_grad():
        known = logits_of(frozen_classifier, constants.apply(pixels), "float32").numpy()
    scores = []
    for one in three.trained:
        three.learner.model.load_state_dict(one.store.best().weights)
        scores.append(view_scores(three.learner.model, test, three.learner, three.views))
    expected = assembly.combine(np.mean(scores, axis=0), log_softmax(known, axis=1))
    np.testing.assert_allclose(served.logits(pixels).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_scores_out_of_fold_lie_on_the_rows_of_their_images(networks) -> None:
    three = networks()
    found, manifest = three.out_of_fold(), three.data.manifest
    assert found.rows.index.tolist() == np.flatnonzero(manifest["split"] == "train").tolist()
    assert found.labels.tolist() == [int(label == "good") for label in found.rows["label"]]
    assert found.folds.tolist() == found.rows["fold"].tolist()
    for one in three.trained:
        own = (found.rows["fold"] == one.fold).to_numpy()
        np.testing.assert_array_equal(found.views[:, own], one.store.best().views)
        assert found.rows["pack_index"][own].tolist() == (fold_of(three.data, one.fold).split("val").indices.tolist())
    np.testing.assert_allclose(found.frozen, log_softmax(three.frozen[found.rows.index].astype(float), axis=1))
    np.testing.assert_allclose(np.exp(found.views).sum(axis=2), 1, rtol=1e-5)


def test_with_networks_of_some_folds_only_the_images_of_these_have_a_score(networks) -> None:
    three = networks()
    found = replace(three, trained=three.trained[1:]).out_of_fold()
    assert set(found.folds) == {1, 2}
    everything = three.out_of_fold()
    some = np.isin(everything.folds, (1, 2))
    np.testing.assert_array_equal(found.views, everything.views[:, some])
    assert found.rows.index.tolist() == everything.rows.index[some].tolist()


def test_a_single_image_scored_by_hand_is_found_on_its_row(networks) -> None:
    three = networks()
    found = three.out_of_fold()
    row = found.rows.iloc[5]
    three.learner.model.load_state_dict(three.trained[int(row["fold"])].store.best().weights)
    pixels = torch.from_numpy(three.data.pack[[row["pack_index"]]]).permute(0, 3, 1, 2)
    with torch.no_grad():
        seen = three.learner.preprocessing.apply(pixels)
        upside_down = torch.flip(seen, (-2,)).contiguous(memory_format=torch.channels_last)
        expected = [logits_of(three.learner.model.eval(), image, "float32") for image in (seen, upside_down)]
    for view, logits in ((0, expected[0]), (3, expected[1])):  # 0 and 6 of the views
        np.testing.assert_allclose(found.views[view, 5], logits.log_softmax(1)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("split", ["val", "calibration"])
def test_without_folds_a_split_is_scored_by_the_one_network(networks, split) -> None:
    one = networks(folds=0)
    found = one.of_split(split, len(one.views))
    assert set(found.rows["split"]) == {split}
    expected = view_scores(one.learner.model, one.data.split(split), one.learner, (0, 4, 2, 6))
    np.testing.assert_array_equal(found.views, expected)
    assert found.rows["pack_index"].tolist() == one.data.split(split).indices.tolist()
    assert np.isfinite(found.frozen).all()
    assert set(found.folds) == {0, 1, 2}  # parts by group


@pytest.mark.parametrize(("folds", "teachers"), [((0, 1, 2), {0: 1, 1: 2, 2: 0}), ((1, 2), {0: 1, 1: 2, 2: 1})])
def test_images_that_were_seen_are_scored_by_a_network_that_saw_them_and_by_the_delivered_one(
    networks, monkeypatch, folds: tuple[int, ...], teachers: dict[int, int]
) -> None:
    three = networks()
    loaded, asked = [], []
    monkeypatch.setattr(three.learner.model, "load_state_dict", loaded.append)

    def scores(model, images, learner, views):
        asked.append(images.indices)
        return np.full((len(views), len(images), 2), loaded[-1], dtype=np.float32)

    monkeypatch.setattr(module, "view_scores", scores)
    numbered = [SimpleNamespace(fold=fold, store=store_of(fold)) for fold in folds]
    given = Networks(
        data=three.data, recipe=three.recipe, trained=numbered, learner=three.learner, views=three.views,
        counts=three.counts, frozen=three.frozen,
    )  # fmt: skip
    frozen = []

    def combine(views: np.ndarray, known: np.ndarray) -> np.ndarray:
        frozen.append(known)
        return views[0]

    seen = given.on_seen(SimpleNamespace(store=store_of(9)), combine, len(given.views))
    rows = three.data.manifest[three.data.manifest["split"] == "train"]
    assert seen.folds[:, 0].tolist() == [teachers[fold] for fold in rows["fold"]]
    assert set(seen.delivered[:, 0]) == {9}
    assert asked[-1].tolist() == rows["pack_index"].tolist()
    np.testing.assert_allclose(frozen[0], log_softmax(three.frozen[rows.index].astype(float), axis=1))


def store_of(number: int) -> SimpleNamespace:
    return SimpleNamespace(best=lambda: SimpleNamespace(weights=number))


def test_of_many_images_a_share_is_enough(networks, monkeypatch) -> None:
    monkeypatch.setattr(module, "SEEN_IMAGES", 10)
    three = networks()
    seen = three.on_seen(three.trained[0], lambda views, frozen: views[0], 1)
    assert seen.folds.shape == seen.delivered.shape == (10, 2)


def test_the_cost_is_that_of_so_many_networks_and_views_and_of_the_classifier_at_its_own_size(
    networks, embedded, monkeypatch
) -> None:
    three, timed = networks(), []
    monkeypatch.setattr(module, "latency_ms", lambda ensemble, **given: timed.append((ensemble, given)) or 7.0)
    assert three.latency(3, (1, 4), threads=2) == {1: 7.0, 4: 7.0}
    assert [[len(one.views) for one in ensemble.members] for ensemble, _ in timed] == [[1, 1, 1], [4, 4, 4]]
    assert timed[0][1] == {"side": 32, "threads": 2, "repeats": module.REPEATS}
    part = frozen_part(embedded)
    assert three.latency_with(three.frozen_member(part), 2, 4, threads=2) == 7.0
    *some, last = timed[-1][0].members
    assert [one.views for one in some] == [(0, 4, 2, 6)] * 2
    assert (last.views, last.preprocessing.size, last.precision) == ((0,), 24, "float32")


def test_the_models_of_the_cost_give_logits(networks, embedded) -> None:
    three = networks()
    frozen = three.frozen_member(frozen_part(embedded))
    assert three.latency_with(frozen, 1, 2, threads=1) > 0


def test_the_entry_of_a_network_has_the_side_of_the_images_where_the_recipe_has_none(networks) -> None:
    three = networks()
    recipe = three.recipe
    given = {"side": 32, "weight": 0.5, "views": [0, 4]}
    entry = network_member(recipe, three.learner.preprocessing, **given)
    assert (entry.kind, entry.backbone, entry.input_size, entry.views) == ("network", "test_resnet", 32, (0, 4))
    constants = Preprocessing.from_unit_scale((0.1, 0.2, 0.4), (0.5, 0.25, 0.3), size=24)
    small = network_member(recipe, constants, **given)
    assert (small.input_size, small.mean, small.std) == (24, (0.1, 0.2, 0.4), (0.5, 0.25, 0.3))


def test_networks_are_scored_and_served_in_the_precision_that_they_were_trained_in(tmp_path, monkeypatch) -> None:
    """As on a cluster whose nodes have GPUs, unlike the machine of the driver."""
    learner = SimpleNamespace(model=nn.Linear(2, 2), device=Device(CPU, "float32"))
    monkeypatch.setattr(module, "new_learner", lambda *args, **given: learner)
    monkeypatch.setattr(module, "driver_compute", lambda compute: None)
    np.save(tmp_path / "embed-frozen_logits.npy", np.zeros((3, 2)))
    context = SimpleNamespace(compute=None, input=lambda stage, name: tmp_path / f"{stage}-{name}")
    weights = {"weight": torch.ones(2, 2), "bias": torch.zeros(2)}
    one = member(best=lambda: SimpleNamespace(weights=weights))
    found = load_networks(context, None, SPEC, [one])
    assert found.learner.device == Device(CPU, "bfloat16")
    assert torch.equal(found.learner.model.weight, weights["weight"])
    assert (found.recipe, found.views, found.counts) == (RECIPE, (0, 4), (1, 2))  # of one flip
    assert found.frozen.shape == (3, 2)
