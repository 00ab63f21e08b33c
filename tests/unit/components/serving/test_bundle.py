"""The bundle: what is written is what is read, whole or not at all."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from components.data import decode
from components.data import framing as framing_module
from components.data.framing import Framing
from components.errors import InputError
from components.evaluation import decision
from components.models import forward
from components.serving import bundle
from components.serving.bundle import SOURCES, ModelCard, find_bundle, load_bundle, read_seen_images, save_bundle


def test_a_card_survives_json_and_equal_cards_give_equal_bytes(make_card):
    card = make_card()
    assert ModelCard.from_json(card.to_json()) == card
    assert ModelCard.from_json(card.to_json()).to_json() == card.to_json()


def test_a_card_of_another_format_version_is_refused_with_both_versions(make_card):
    content = json.loads(make_card().to_json()) | {"format_version": 6}
    with pytest.raises(InputError, match=r"format_version=6.*reads 5"):
        ModelCard.from_json(json.dumps(content))


def test_a_card_of_the_first_version_is_read_as_one_that_squashes_the_whole_image(make_card, framing):
    content = json.loads(make_card().to_json()) | {"format_version": 1, "image_size": 96}
    del content["framing"], content["input_size"]
    card = ModelCard.from_json(json.dumps(content))
    assert card == make_card(framing=framing(size=96, tile_overlap=0.0))
    with pytest.raises(InputError, match="size=0"):
        ModelCard.from_json(json.dumps(content | {"image_size": 0}))


def test_the_network_of_a_card_of_the_second_version_sees_the_square_as_it_is_framed(make_card, framing):
    content = json.loads(make_card(framing=framing(size=96)).to_json()) | {"format_version": 2}
    del content["input_size"]
    card = ModelCard.from_json(json.dumps(content))
    assert card == make_card(framing=framing(size=96))
    assert card.input_size == 96
    with pytest.raises(InputError, match="framing"):
        ModelCard.from_json(json.dumps(content | {"framing": {}}))


def test_a_card_of_before_there_were_significant_bits_takes_each_file_as_it_says(make_card):
    content = json.loads(make_card().to_json())
    del content["framing"]["significant_bits"]
    assert ModelCard.from_json(json.dumps(content)) == make_card()


def test_a_card_says_which_size_the_network_sees(make_card, framing):
    card = make_card(framing=framing(size=96), input_size=48)
    assert ModelCard.from_json(card.to_json()) == card
    assert json.loads(card.to_json())["input_size"] == 48


def test_a_framing_comes_back_from_json_as_it_went_in(make_card, framing):
    card = make_card(framing=framing(region=(1, 2, 30, 40), tile_size=20, fit="letterbox"))
    assert ModelCard.from_json(card.to_json()) == card
    assert Framing.from_dict(card.framing).region == (1, 2, 30, 40)


@pytest.mark.parametrize(("threshold", "expected"), [(0.8, 1.3863), (1.0, 36.0437), (0.0, -708.3964)])
def test_the_threshold_of_a_card_of_the_third_version_is_read_as_log_odds(make_card, threshold, expected):
    content = json.loads(make_card().to_json()) | {"format_version": 3, "operating_point": {"threshold": threshold}}
    point = ModelCard.from_json(json.dumps(content)).operating_point
    assert point == {"threshold": threshold, "threshold_log_odds": pytest.approx(expected, abs=1e-4)}


def test_a_card_of_the_fourth_version_is_one_of_a_model_that_is_served_in_float32(make_card):
    content = json.loads(make_card(precision="bfloat16").to_json()) | {"format_version": 4}
    del content["precision"]
    assert ModelCard.from_json(json.dumps(content)) == make_card(precision="float32")


def test_a_card_without_a_format_version_is_refused():
    with pytest.raises(InputError, match="format_version=None"):
        ModelCard.from_json("{}")


@pytest.mark.parametrize("text", ["", "not json", '{"name": '])
def test_a_card_that_is_not_json_is_refused(text):
    with pytest.raises(InputError, match="is not JSON"):
        ModelCard.from_json(text)


def test_a_card_that_is_no_object_is_refused():
    with pytest.raises(InputError, match="format_version"):
        ModelCard.from_json("[1]")


def test_all_missing_keys_are_named_at_once(make_card):
    content = json.loads(make_card().to_json())
    del content["std"], content["backbone"]
    with pytest.raises(InputError, match="lacks backbone, std"):
        ModelCard.from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"num_classes": 2}, "num_classes=2 for 3 classes"),
        ({"classes": ("good", "pit", "pit")}, "classes repeat"),
        ({"good_classes": ("fine",)}, "'fine'.* are not classes"),
        ({"good_classes": ("good", "pit", "scratch")}, "no defect class"),
        ({"mean": (0.5, 0.5)}, "three channels"),
        ({"std": (0.2, 0.0, 0.2)}, "std must be positive"),
        ({"calibration": {"scale": 1.0}}, "scale and bias"),
        ({"operating_point": None}, "need an operating point"),
        ({"operating_point": {"threshold_log_odds": float("nan")}}, "need an operating point"),
        ({"good_classes": ()}, "defect types alone have none"),
        ({"framing": {"size": 32}}, "has to have the keys"),
        ({"input_size": 33}, "input_size=33 for squares of 32 px"),
        ({"input_size": 0}, "input_size=0"),
        ({"input_size": None}, "input_size=None"),
        ({"precision": "auto"}, "precision='auto' is none of float32, bfloat16"),
    ],
)
def test_a_contradictory_card_cannot_be_made(make_card, changes, fault):
    with pytest.raises(ValueError, match=fault):
        make_card(**changes)


def test_tiles_without_a_good_class_have_no_worst_one(make_card, framing):
    with pytest.raises(ValueError, match="worst tile, which needs good classes"):
        make_card(framing=framing(tile_size=20), good_classes=(), operating_point=None)


def test_a_contradictory_card_in_a_file_is_the_users_to_mend(make_card):
    content = json.loads(make_card().to_json()) | {"num_classes": 7}
    with pytest.raises(InputError, match="num_classes=7"):
        ModelCard.from_json(json.dumps(content))


@pytest.mark.parametrize("key", ["classes", "mean", "framing", "calibration", "operating_point", "input_size"])
def test_a_value_of_another_kind_is_refused(make_card, key):
    content = json.loads(make_card().to_json()) | {key: 7.5}
    with pytest.raises(InputError, match="export the model again"):
        ModelCard.from_json(json.dumps(content))


def test_a_problem_of_defect_types_needs_no_operating_point(make_card):
    assert make_card(good_classes=(), operating_point=None).good_classes == ()


def test_weights_come_back_bit_for_bit_whatever_their_memory_layout(make_card, tmp_path):
    shared = torch.arange(6.0)
    state = {
        "conv": torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last),
        "half": torch.randn(5).half(),
        "steps": torch.tensor(7),
        "tied": shared,
        "tied_too": shared,
        "grad": torch.nn.Parameter(torch.ones(2)),
    }
    save_bundle(tmp_path / "bundle", state_dict=state, card=make_card(), seen_images=[])
    _, loaded = load_bundle(tmp_path / "bundle")
    assert loaded.keys() == state.keys()
    for key, value in state.items():
        assert loaded[key].dtype == value.dtype
        assert torch.equal(loaded[key], value)


def test_the_bundle_holds_no_more_than_its_files(exported):
    names = {path.name for path in exported.bundle.iterdir() if path.name != "__pycache__"}
    assert names == {"weights.safetensors", "model.json", "seen_images.txt", *(source.name for source in SOURCES)}
    with safe_open(exported.bundle / "weights.safetensors", "pt") as weights:
        assert weights.metadata() == {"format": "pt"}


@pytest.mark.parametrize("module", [decode, framing_module, forward, decision])
def test_the_way_from_a_file_to_a_decision_is_that_of_training_verbatim(exported, module):
    source = Path(module.__file__)
    assert (exported.bundle / source.name).read_bytes() == source.read_bytes()


def test_seen_images_are_sorted_prefixes_without_repeats(make_card, tmp_path):
    digests = ["f" * 64, "0" * 63 + "1", "0" * 16, "a" * 16]
    save_bundle(tmp_path / "bundle", state_dict={}, card=make_card(), seen_images=digests)
    text = (tmp_path / "bundle" / "seen_images.txt").read_text()
    assert text == "0" * 16 + "\n" + "a" * 16 + "\n" + "f" * 16 + "\n"
    assert read_seen_images(tmp_path / "bundle") == {"0" * 16, "a" * 16, "f" * 16}


@pytest.mark.parametrize("digest", ["abc", "A" * 64, "images/one.png and more"])
def test_a_seen_image_that_is_no_digest_is_refused_before_anything_is_written(make_card, tmp_path, digest):
    with pytest.raises(ValueError, match="not a lower-case sha256"):
        save_bundle(tmp_path / "bundle", state_dict={}, card=make_card(), seen_images=[digest])
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_the_list_of_seen_images_says_why_that_matters(make_card, tmp_path):
    save_bundle(tmp_path / "bundle", state_dict={}, card=make_card(), seen_images=[])
    (tmp_path / "bundle" / "seen_images.txt").unlink()
    with pytest.raises(InputError, match="images that the model has seen"):
        read_seen_images(tmp_path / "bundle")


def test_a_save_replaces_what_is_there_and_one_that_fails_leaves_nothing_that_could_be_loaded(
    make_card, tmp_path, monkeypatch
):
    target = tmp_path / "deep" / "bundle"
    for name in ("old", "new"):
        save_bundle(target, state_dict={"w": torch.zeros(1)}, card=make_card(name=name), seen_images=[])
        (target / "left over").touch()
    assert load_bundle(target)[0].name == "new"
    monkeypatch.setattr(bundle, "SOURCES", (tmp_path / "nowhere.py",))
    with pytest.raises(FileNotFoundError):
        save_bundle(target, state_dict={"w": torch.ones(1)}, card=make_card(), seen_images=[])
    with pytest.raises(InputError, match="holds 0 model bundles"):
        load_bundle(target)


def test_a_bundle_is_found_inside_an_exported_model(exported, tmp_path):
    (tmp_path / "artifacts").mkdir()
    (tmp_path / "artifacts" / "anything").symlink_to(exported.bundle)
    assert find_bundle(tmp_path) == tmp_path / "artifacts" / "anything"
    assert load_bundle(tmp_path)[0] == exported.card


def test_a_folder_without_a_bundle_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds 0 model bundles"):
        load_bundle(tmp_path)


def test_truncated_weights_are_refused_with_the_file_named(make_card, tmp_path):
    save_bundle(tmp_path / "b", state_dict={"w": torch.zeros(100)}, card=make_card(), seen_images=[])
    path = tmp_path / "b" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be read"):
        load_bundle(tmp_path / "b")
