"""The served model in process: its arithmetic by hand, its inputs, and what it refuses."""

import base64
import math
from dataclasses import asdict
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import timm
import torch
from torch import nn

from components.data.framing import Framing, iter_frames
from components.data.loader import Batch
from components.evaluation.decision import DecisionRule, Decisions, sigmoid
from components.models.forward import Ensemble, FrozenClassifier, MemberModel, Preprocessing, turned
from components.serving import bundle, pyfunc
from components.serving.card import FORMAT_VERSION
from components.serving.pyfunc import InspectionModel, ItemError, list_items, read_item, read_settings
from components.training.engine import forward_all


@pytest.fixture
def load(exported):
    def load_model(directory=exported.bundle, **model_config) -> InspectionModel:
        model = InspectionModel()
        model.load_context(
            SimpleNamespace(artifacts={"bundle": str(directory)}, model_config={"device": "cpu", **model_config})
        )
        return model

    return load_model


def hand_computed(exported, pixels) -> dict[str, float]:
    """The row of one image, written out: normalise, forward alone, softmax, sigmoid of the shifted logit."""
    (member,) = exported.card.members
    channels = [(pixels[..., c] / 255 - member.mean[c]) / member.std[c] for c in range(3)]
    with torch.no_grad():
        logits = exported.network(torch.tensor(np.stack(channels)[None], dtype=torch.float32))[0].tolist()
    weights = [math.exp(value) for value in logits]
    _, pit, scratch = (weight / sum(weights) for weight in weights)
    raw = pit + scratch
    score = 1 / (1 + math.exp(-(1.5 * math.log(raw / (1 - raw)) - 0.5)))
    return {
        "defect_score": score,
        "p_good": 1 - score,
        "p_pit": score * pit / raw,
        "p_scratch": score * scratch / raw,
    }


# -- the whole way


def test_a_prediction_equals_the_one_computed_by_hand(load, exported, pixels, images):
    out = load().predict(None, pd.DataFrame({"image": images}))
    assert list(out.columns) == [
        "label", "defect_score", "decision", "p_good", "p_pit", "p_scratch", "error",
    ]  # fmt: skip
    for (_, row), array in zip(out.iterrows(), pixels, strict=True):
        expected = hand_computed(exported, array)
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-4)
        assert row["decision"] == ("reject" if expected["defect_score"] >= 0.5 else "accept")
        assert row["label"] == max(("good", "pit", "scratch"), key=lambda name: row[f"p_{name}"])
        assert row["error"] is None
    assert out["defect_score"].dtype == np.float64


@pytest.mark.parametrize("batch_size", [1, 2, 5, 32])
def test_order_and_values_do_not_depend_on_the_batch_size(load, images, batch_size):
    whole = load(batch_size=5).predict(None, images)
    out = load(batch_size=batch_size).predict(None, images)
    np.testing.assert_allclose(out["defect_score"], whole["defect_score"], rtol=1e-4)
    assert out["label"].tolist() == whole["label"].tolist()


def test_bad_items_are_reviewed_with_a_reason_and_leave_the_others_as_they_were(load, images):
    model = load(batch_size=3)
    whole = model.predict(None, images[:3])
    mixed = [b"", images[0], None, images[1][:60], "%%%", images[2], 7, float("nan"), b"no image"]
    out = model.predict(None, mixed)
    good = out.iloc[[1, 5]]
    assert good["error"].tolist() == [None, None]
    assert good["defect_score"].tolist() == pytest.approx(whole["defect_score"].tolist()[::2], rel=1e-4)
    bad = out.drop(index=[1, 5])
    assert set(bad["decision"]) == {"review"}
    assert all(reason for reason in bad["error"])
    assert bad[["label", "defect_score", "p_good", "p_pit", "p_scratch"]].map(lambda v: v is None).all(axis=None)


def test_a_batch_of_bad_items_alone_is_answered(load):
    out = load().predict(None, [b"", "?"])
    assert out["decision"].tolist() == ["review", "review"]


def test_no_items_give_an_empty_frame_with_all_columns(load):
    out = load().predict(None, pd.DataFrame({"image": []}))
    assert len(out) == 0
    assert list(out.columns) == [
        "label", "defect_score", "decision", "p_good", "p_pit", "p_scratch", "error",
    ]  # fmt: skip


def test_the_index_of_the_input_is_kept(load, images):
    out = load().predict(None, pd.Series(images[:2], index=["left", "right"]))
    assert out.index.tolist() == ["left", "right"]


def test_nothing_random_is_left_in_the_network(load, images):
    model = load()
    assert not any(member.model.training for member in model.ensemble.members)
    assert model.predict(None, images).equals(model.predict(None, images))


def test_a_bundle_of_another_format_is_refused(load, exported, make_card, tmp_path):
    bundle.save_bundle(tmp_path / "b", states=[exported.network.state_dict()], card=make_card(), seen_images=[])
    path = tmp_path / "b" / "model.json"
    path.write_text(path.read_text().replace('"format_version": 6', '"format_version": 7'))
    with pytest.raises(ValueError, match=r"format_version=7.*reads 6"):
        load(tmp_path / "b")
    assert pyfunc.FORMAT_VERSION == FORMAT_VERSION


def test_weights_that_do_not_fit_the_backbone_are_refused(load, exported, make_card, tmp_path):
    state = {f"_orig_mod.{key}": value for key, value in exported.network.state_dict().items()}
    bundle.save_bundle(tmp_path / "b", states=[state], card=make_card(), seen_images=[])
    with pytest.raises(ValueError, match=r"member 0 \(test_resnet, 3 classes\): .* export the model again"):
        load(tmp_path / "b")


def test_several_members_and_views_are_served_as_the_bundle_says(
    load, exported, make_card, make_member, pixels, tmp_path
):
    """Two networks and a frozen classifier, which see images of different sizes."""
    networks = [exported.network, timm.create_model("test_resnet", pretrained=False, num_classes=3).eval()]
    frozen = FrozenClassifier(timm.create_model("test_resnet", pretrained=False, num_classes=0), nn.Linear(768, 3))
    members = (
        make_member(weight=0.5, views=(0, 4, 2, 6)),
        make_member(weight=0.3, input_size=16),
        make_member(kind="frozen", weight=0.2, mean=(0.5,) * 3),
    )
    states = [model.state_dict() for model in (*networks, frozen)]
    bundle.save_bundle(tmp_path / "b", states=states, card=make_card(members=members), seen_images=[])
    _, ensemble = bundle.load_ensemble(tmp_path / "b", torch.device("cpu"))
    batch = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2)
    served = load(tmp_path / "b")._logits(pixels)
    assert np.array_equal(served, ensemble.logits(batch).numpy())
    parts = [
        Ensemble((MemberModel(model.eval(), member.preprocessing, "float32", 1.0, (0,)),))
        for model, member in zip((*networks, frozen), ensemble.members, strict=True)
    ]
    turned_ones = torch.stack([parts[0].logits(turned(batch, view)) for view in (0, 4, 2, 6)]).mean(0)
    expected = 0.5 * turned_ones + 0.3 * parts[1].logits(batch) + 0.2 * parts[2].logits(batch)
    np.testing.assert_allclose(served, expected, rtol=1e-3, atol=1e-4)


# -- regions and tiles


@pytest.fixture
def framed(load, exported, make_card, framing, tmp_path):
    """The exported network behind another framing; input_size: None for that of the frames."""

    def make(*, batch_size=32, point=None, input_size=None, **changes) -> InspectionModel:
        frames = framing(**changes)
        card = make_card(
            framing=frames,
            input_size=input_size or frames["size"],
            operating_point=point or exported.card.operating_point,
        )
        bundle.save_bundle(tmp_path / "b", states=[exported.network.state_dict()], card=card, seen_images=[])
        return load(tmp_path / "b", batch_size=batch_size)

    return make


@pytest.fixture
def mosaic(pixels) -> np.ndarray:
    """Four images of the network's size side by side, (32, 128, 3)."""
    return np.concatenate(pixels[:4], axis=1)


def test_a_model_of_a_region_looks_at_it_alone(load, framed, images, mosaic, png):
    whole = load().predict(None, images)
    out = framed(region=(32, 0, 64, 32)).predict(None, [png(mosaic)])
    assert list(out.columns) == list(whole.columns)
    assert out["defect_score"][0] == pytest.approx(whole["defect_score"][1], rel=1e-4)


def test_a_letterboxing_model_sees_bars(load, framed, pixels, png):
    wide = pixels[0][8:24]
    boxed = np.zeros_like(pixels[0])
    boxed[8:24] = wide
    expected = load().predict(None, [png(boxed)])["defect_score"][0]
    assert framed(fit="letterbox").predict(None, [png(wide)])["defect_score"][0] == pytest.approx(expected, rel=1e-4)


def test_a_model_of_twelve_bits_reads_files_as_training_did_and_reviews_those_of_more(framed, pixels, png):
    grey = pixels[0][:, :, 0].astype(np.uint16)
    files = {bits: png(grey * 2 ** (bits - 8)) for bits in (8, 12, 16)}
    served = framed(significant_bits=12).predict(None, [files[12], files[8], files[16], png(pixels[0])])
    eight_bits = np.rint(grey * (16 * 255 / 4095)).astype(np.uint8)
    trained = framed(significant_bits=None).predict(None, [png(eight_bits), files[12], png(pixels[0])])
    scores = trained["defect_score"]
    assert served["defect_score"][0] == pytest.approx(scores[0], rel=1e-5)
    assert served["defect_score"][0] != pytest.approx(scores[1], rel=1e-5)  # 16 times darker
    assert served["defect_score"][3] == pytest.approx(scores[2], rel=1e-5)  # 8 bits are what they were
    assert served["decision"][2] == "review"
    assert "4095 is white" in served["error"][2]


def test_an_image_that_is_smaller_than_the_region_is_reviewed_with_both_sizes(framed, images, mosaic, png):
    out = framed(region=(0, 0, 64, 32)).predict(None, [images[0], png(mosaic)])
    assert out["decision"][0] == "review"
    assert "32 × 32 px" in out["error"][0]
    assert out["error"][1] is None


def test_an_image_of_tiles_is_answered_as_its_worst_tile(load, framed, images, mosaic, png):
    alone = load().predict(None, images[:4])
    worst = int(alone["defect_score"].argmax())
    out = framed(tile_size=32, tile_overlap=0.0).predict(None, [png(mosaic)])
    assert list(out.columns) == [
        "label", "defect_score", "decision", "p_good", "p_pit", "p_scratch", "tile", "error",
    ]  # fmt: skip
    assert out["tile"].tolist() == [f"{32 * worst},0,{32 * worst + 32},32"]
    for name in ("defect_score", "p_good", "p_pit", "p_scratch"):
        assert out[name][0] == pytest.approx(alone[name][worst], rel=1e-4)
    assert out["label"][0] == alone["label"][worst]


def test_an_image_is_rejected_if_a_single_tile_is(load, framed, images, mosaic, png):
    scores = sorted(load().predict(None, images[:4])["defect_score"])
    between, above = (scores[2] + scores[3]) / 2, (scores[3] + 1) / 2
    for threshold, decision in ((between, "reject"), (above, "accept")):
        point = {"threshold_log_odds": math.log(threshold / (1 - threshold))}
        model = framed(tile_size=32, tile_overlap=0.0, point=point)
        assert model.predict(None, [png(mosaic)])["decision"].tolist() == [decision]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 32])
def test_tiles_fill_batches_across_images_and_leave_order_and_values(framed, images, mosaic, png, batch_size):
    items = [png(mosaic), images[4], b"", png(mosaic[:, :70]), None, png(np.flip(mosaic))]
    expected = framed(tile_size=32).predict(None, items)
    model = framed(tile_size=32, batch_size=batch_size)
    sizes = []
    judge = model._logits
    model._logits = lambda frames: sizes.append(len(frames)) or judge(frames)
    out = model.predict(None, items)
    np.testing.assert_allclose(out["defect_score"].astype(float), expected["defect_score"].astype(float), rtol=1e-4)
    assert out["tile"].tolist() == expected["tile"].tolist()
    assert [reason is None for reason in out["error"]] == [True, True, False, True, False, True]
    assert out["tile"][1] == "0,0,32,32"
    assert max(sizes) <= batch_size
    assert sum(sizes) == 5 + 1 + 3 + 5  # 128 = 32 + 4 steps of 24; 70 takes 2 of them


def test_a_tile_whose_output_is_not_finite_is_named_in_the_review(framed, mosaic, png):
    model = framed(tile_size=32, tile_overlap=0.0, point={"threshold_log_odds": 99.0})
    judge = model._logits

    def broken(frames):
        rows = judge(frames)
        rows[2] = np.nan
        return rows

    model._logits = broken
    out = model.predict(None, [png(mosaic)])
    assert (out["decision"][0], out["tile"][0]) == ("review", "64,0,96,32")
    assert "this tile is not finite" in out["error"][0]


# -- a network that sees less than is framed


@pytest.fixture
def photographs() -> list[np.ndarray]:
    """Images of several sizes, in mild colours, so that a reduction leaves something to see."""
    generator = np.random.default_rng(2)
    sizes = ((60, 90), (48, 48), (130, 64))
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in sizes]


def evaluated(exported, squares, size, *, precision="float32", batch=None) -> Decisions:
    """What training and evaluation say of squares: packed, through the engine, decided by the card."""
    (member,) = exported.card.members
    pixels = torch.from_numpy(squares).permute(0, 3, 1, 2)
    parts = pixels.split(batch or len(pixels))
    batches = [Batch(part, torch.zeros(len(part)), torch.zeros(len(part))) for part in parts]
    preprocessing = Preprocessing.from_unit_scale(member.mean, member.std, size=size)
    ensemble = Ensemble((MemberModel(exported.network, preprocessing, precision, 1.0, (0,)),))
    logits = forward_all(lambda batch: ensemble.logits(batch.images), batches, torch.device("cpu"))
    return DecisionRule.from_card(asdict(exported.card)).decide(logits)


def trained_scores(exported, squares, size) -> np.ndarray:
    return sigmoid(evaluated(exported, squares, size).log_odds)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_served_model_gives_the_logits_and_the_decisions_of_the_engine_in_every_precision(
    load, exported, make_card, pixels, images, tmp_path, precision
):
    """The threshold is put at the third score, so that another arithmetic would flip it."""
    expected = evaluated(exported, np.stack(pixels), None, precision=precision)
    threshold = float(np.sort(expected.log_odds)[2])
    card = make_card(precision=precision, operating_point={"threshold_log_odds": threshold})
    bundle.save_bundle(tmp_path / "b", states=[exported.network.state_dict()], card=card, seen_images=[])
    model = load(tmp_path / "b")
    logits = model._logits(pixels)
    assert np.array_equal(model.rule.decide(logits).log_odds, expected.log_odds)
    out = model.predict(None, images)
    assert out["defect_score"].tolist() == sigmoid(expected.log_odds).tolist()
    assert (out["decision"] == "reject").tolist() == (expected.log_odds >= threshold).tolist()
    assert (out["decision"] == "reject").sum() == 3


def test_another_precision_gives_other_scores(exported, pixels):
    full, half = (evaluated(exported, np.stack(pixels), None, precision=name) for name in ("float32", "bfloat16"))
    assert not np.array_equal(full.log_odds, half.log_odds)
    assert np.allclose(full.log_odds, half.log_odds, atol=0.1)


@pytest.mark.parametrize("size", [32, 40, 64])
def test_the_served_scores_are_those_of_training_at_the_size_that_the_network_sees(
    exported, framed, framing, photographs, png, size
):
    frames = Framing.from_dict(framing(size=64))
    squares = np.stack([square for pixels in photographs for _, square in iter_frames(pixels, frames)])
    expected = trained_scores(exported, squares, size)
    out = framed(size=64, input_size=size).predict(None, [png(pixels) for pixels in photographs])
    np.testing.assert_allclose(out["defect_score"], expected, rtol=1e-5)
    if size < 64:  # and it is not what the network would say of the whole square
        assert np.abs(expected - trained_scores(exported, squares, None)).max() > 1e-4


def test_tiles_are_reduced_like_images(exported, framed, framing, photographs, png):
    frames = Framing.from_dict(framing(size=64, tile_size=50))
    squares = np.stack([square for _, square in iter_frames(photographs[0], frames)])
    assert len(squares) == 6
    scores = trained_scores(exported, squares, 32)
    out = framed(size=64, tile_size=50, input_size=32).predict(None, [png(photographs[0])])
    assert out["defect_score"][0] == pytest.approx(scores.max(), rel=1e-5)


# -- items


def test_every_container_gives_the_same_items(images):
    items = images[:2]
    as_objects = np.empty(2, dtype=object)
    as_objects[:] = items
    containers = [
        pd.DataFrame({"image": items, "camera": ["a", "b"]}),
        pd.DataFrame({"anything": items}),
        pd.Series(items),
        items,
        tuple(items),
        as_objects,
        as_objects[:, None],
        {"image": items},
        {"image": as_objects},
        {"image": tuple(items)},
        {"image": pd.Series(items)},
        [{"image": item} for item in items],
        [np.array(item, dtype=object) for item in items],
    ]
    for container in containers:
        assert list_items(container)[0] == items
    for one in (items[0], {"image": items[0]}, {"image": items[:1]}, [items[0]]):
        assert list_items(one)[0] == [items[0]]


def test_an_image_in_an_array_of_bytes_keeps_its_end():
    end = list_items(np.array([b"BM\x01\x00\x00", b"BM"]))[0]
    assert end == [b"BM\x01\x00\x00", b"BM\x00\x00\x00"]  # numpy itself would cut all zeros off


@pytest.mark.parametrize(
    ("container", "fault"),
    [
        (pd.DataFrame({"a": [b"1"], "b": [b"2"]}), r"columns \['a', 'b'\]"),
        (pd.DataFrame([[b"1", b"2"]], columns=["image", "image"]), "one 'image' is needed"),
        (np.empty((1, 0), dtype=object), r"shape \(1, 0\)"),
        ({"picture": [b"1"]}, r"keys \['picture'\]"),
        (np.zeros((2, 4, 4, 3), np.uint8), r"shape \(2, 4, 4, 3\)"),
    ],
)
def test_a_container_without_a_clear_image_column_is_refused(container, fault):
    with pytest.raises(ValueError, match=fault):
        list_items(container)


def test_bytes_and_base64_in_all_its_dresses_give_the_same_image(images):
    text = base64.b64encode(images[0]).decode()
    dresses = [
        images[0],
        bytearray(images[0]),
        memoryview(images[0]),
        text,
        f"data:image/png;base64,{text}",
        f"data:image/png;charset=x;base64,{text}",
        base64.encodebytes(images[0]).decode(),
    ]
    for item in dresses:
        assert read_item(item, allow_paths=False) == images[0]
        assert read_item(item, allow_paths=True) == images[0]


@pytest.mark.parametrize("item", [None, float("nan"), pd.NA, 3, ["x"], np.zeros(3), "", "  ", "not base64!"])
@pytest.mark.parametrize("allow_paths", [False, True])
def test_what_is_no_image_is_refused_with_a_reason(item, allow_paths):
    with pytest.raises(ItemError, match=r"give image bytes|is not base64"):
        read_item(item, allow_paths=allow_paths)


def test_a_path_is_read_only_where_it_is_allowed(images, tmp_path):
    path = tmp_path / "part 1.png"
    path.write_bytes(images[0])
    for item in (path, str(path)):
        assert read_item(item, allow_paths=True) == images[0]
        with pytest.raises(ItemError, match="only with model_config allow_paths"):
            read_item(item, allow_paths=False)


def test_a_path_is_not_even_looked_up_where_it_is_not_allowed(monkeypatch):
    monkeypatch.setattr(pyfunc, "is_file", lambda text: pytest.fail("the file system was asked"))
    with pytest.raises(ItemError):
        read_item("/no/such/file.png", allow_paths=False)


def test_a_missing_file_says_that_it_is_none(tmp_path):
    with pytest.raises(ItemError, match="no file either"):
        read_item(str(tmp_path / "gone.png"), allow_paths=True)


def test_a_request_cannot_open_paths_by_its_parameters(load, images, tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(images[0])
    out = load().predict(None, [str(path)], {"allow_paths": True})
    assert out["decision"].tolist() == ["review"]
    assert load(allow_paths=True).predict(None, [str(path)])["error"].tolist() == [None]


# -- settings


def test_all_faulty_settings_are_reported_at_once():
    with pytest.raises(ValueError, match=r"unknown key 'batchsize'.*device='tpu'.*batch_size=0.*allow_paths='false'"):
        read_settings({"batchsize": 1, "device": "tpu", "batch_size": 0, "allow_paths": "false"})


def test_without_settings_the_defaults_hold_and_paths_are_off():
    settings = read_settings(None)
    assert (settings.batch_size, settings.allow_paths) == (32, False)


def test_a_gpu_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert read_settings({"device": "auto"}).device == torch.device("cpu")
    with pytest.raises(ValueError, match="no GPU is available"):
        read_settings({"device": "cuda"})
