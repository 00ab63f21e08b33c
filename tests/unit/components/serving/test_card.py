"""The model card: what is written is what is read, earlier versions included, and faults are named."""

import json

import pytest

from components.data.framing import Framing
from components.errors import InputError
from components.serving.card import ModelCard


def earlier(card: ModelCard, version: int, **changes) -> dict:
    """The card of one network as an earlier version had it."""
    content = json.loads(card.to_json())
    (member,) = content.pop("members")
    network = {key: member[key] for key in ("backbone", "input_size", "mean", "std")}
    return content | network | {"format_version": version, **changes}


def test_a_card_survives_json_and_equal_cards_give_equal_bytes(make_card):
    card = make_card()
    assert ModelCard.from_json(card.to_json()) == card
    assert ModelCard.from_json(card.to_json()).to_json() == card.to_json()


def test_a_card_of_another_format_version_is_refused_with_both_versions(make_card):
    content = json.loads(make_card().to_json()) | {"format_version": 7}
    with pytest.raises(InputError, match=r"format_version=7.*reads 6"):
        ModelCard.from_json(json.dumps(content))


def test_a_card_of_the_first_version_is_read_as_one_that_squashes_the_whole_image(make_card, framing):
    content = earlier(make_card(), 1, image_size=96)
    del content["framing"], content["input_size"]
    card = ModelCard.from_json(json.dumps(content))
    assert card == make_card(framing=framing(size=96, tile_overlap=0.0))
    with pytest.raises(InputError, match="size=0"):
        ModelCard.from_json(json.dumps(content | {"image_size": 0}))


def test_the_network_of_a_card_of_the_second_version_sees_the_square_as_it_is_framed(make_card, framing):
    content = earlier(make_card(framing=framing(size=96)), 2)
    del content["input_size"]
    card = ModelCard.from_json(json.dumps(content))
    assert card == make_card(framing=framing(size=96))
    assert card.members[0].input_size == 96
    with pytest.raises(InputError, match="framing"):
        ModelCard.from_json(json.dumps(content | {"framing": {}}))


def test_a_card_of_before_there_were_significant_bits_takes_each_file_as_it_says(make_card):
    content = json.loads(make_card().to_json())
    del content["framing"]["significant_bits"]
    assert ModelCard.from_json(json.dumps(content)) == make_card()


def test_a_card_says_which_size_the_network_sees(make_card, framing):
    card = make_card(framing=framing(size=96), input_size=48)
    assert ModelCard.from_json(card.to_json()) == card
    assert json.loads(card.to_json())["members"][0]["input_size"] == 48


def test_a_framing_comes_back_from_json_as_it_went_in(make_card, framing):
    card = make_card(framing=framing(region=(1, 2, 30, 40), tile_size=20, fit="letterbox"))
    assert ModelCard.from_json(card.to_json()) == card
    assert Framing.from_dict(card.framing).region == (1, 2, 30, 40)


@pytest.mark.parametrize(("threshold", "expected"), [(0.8, 1.3863), (1.0, 36.0437), (0.0, -708.3964)])
def test_the_threshold_of_a_card_of_the_third_version_is_read_as_log_odds(make_card, threshold, expected):
    content = earlier(make_card(), 3, operating_point={"threshold": threshold})
    point = ModelCard.from_json(json.dumps(content)).operating_point
    assert point == {"threshold": threshold, "threshold_log_odds": pytest.approx(expected, abs=1e-4)}


def test_a_card_of_the_fourth_version_is_one_of_a_model_that_is_served_in_float32(make_card):
    content = earlier(make_card(precision="bfloat16"), 4)
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
    del content["members"], content["classes"]
    with pytest.raises(InputError, match="lacks classes, members"):
        ModelCard.from_json(json.dumps(content))
    content = earlier(make_card(), 5)
    del content["std"], content["backbone"]
    with pytest.raises(InputError, match="a member lacks backbone, std"):
        ModelCard.from_json(json.dumps(content))


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"num_classes": 2}, "num_classes=2 for 3 classes"),
        ({"classes": ("good", "pit", "pit")}, "classes repeat"),
        ({"good_classes": ("fine",)}, "'fine'.* are not classes"),
        ({"good_classes": ("good", "pit", "scratch")}, "no defect class"),
        ({"calibration": {"scale": 1.0}}, "scale and bias"),
        ({"operating_point": None}, "need an operating point"),
        ({"operating_point": {"threshold_log_odds": float("nan")}}, "need an operating point"),
        ({"good_classes": ()}, "defect types alone have none"),
        ({"framing": {"size": 32}}, "has to have the keys"),
        ({"precision": "auto"}, "precision='auto' is none of float32, bfloat16"),
    ],
)
def test_a_contradictory_card_cannot_be_made(make_card, changes, fault):
    with pytest.raises(ValueError, match=fault):
        make_card(**changes)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"kind": "forest"}, "kind='forest' is none of network, frozen"),
        ({"backbone": ""}, "backbone='' is no name"),
        ({"mean": (0.5, 0.5)}, "mean and std need three finite channels"),
        ({"mean": (0.5, float("nan"), 0.5)}, "mean and std need three finite channels"),
        ({"std": (0.2, float("inf"), 0.2)}, "mean and std need three finite channels"),
        ({"std": (0.2, 0.0, 0.2)}, "std must be positive"),
        ({"input_size": 33}, "input_size=33 for squares of 32 px"),
        ({"input_size": 0}, "input_size=0"),
        ({"input_size": None}, "input_size=None"),
        ({"weight": -0.1}, "weight=-0.1 is no finite number from 0"),
        ({"weight": float("nan")}, "weight=nan"),
        ({"weight": float("inf")}, "weight=inf"),
        ({"weight": True}, "weight=True"),
        ({"views": ()}, r"views=\(\) are not different numbers from 0 to 7 with 0 first"),
        ({"views": (4, 0)}, r"views=\(4, 0\)"),
        ({"views": (0, 8)}, r"views=\(0, 8\)"),
        ({"views": (0, 4, 4)}, r"views=\(0, 4, 4\)"),
        ({"views": (0, 1.0)}, r"views=\(0, 1.0\)"),
    ],
)
def test_a_contradictory_member_is_named_by_its_number(make_card, make_member, changes, fault):
    with pytest.raises(ValueError, match=f"member 1: {fault}"):
        make_card(members=(make_member(), make_member(**changes)))


def test_a_model_needs_a_member_that_counts(make_card, make_member):
    with pytest.raises(ValueError, match="there is no member"):
        make_card(members=())
    with pytest.raises(ValueError, match=r"weights of the members are \[0.0, 0\], and one has to be above 0"):
        make_card(members=(make_member(weight=0.0), make_member(weight=0)))
    assert make_card(members=(make_member(weight=0.0), make_member(weight=2.5))).members[1].weight == 2.5


def test_a_card_says_in_words_what_the_model_is_made_of(make_card, make_member):
    assert make_card().summary == "1 network (test_resnet at 32 px, 1 view)"
    network, frozen = make_member(views=(0, 2, 4, 6)), make_member(kind="frozen", input_size=16)
    assert make_card(members=(network, network, frozen, network)).summary == (
        "3 networks (test_resnet at 32 px, 4 views) and 1 frozen classifier (test_resnet at 16 px, 1 view)"
    )
    other = make_member(backbone="test_vit")
    assert make_card(members=(other, network, frozen)).summary.count(" at ") == 3


def test_tiles_without_a_good_class_have_no_worst_one(make_card, framing):
    with pytest.raises(ValueError, match="worst tile, which needs good classes"):
        make_card(framing=framing(tile_size=20), good_classes=(), operating_point=None)


def test_a_contradictory_card_in_a_file_is_the_users_to_mend(make_card):
    content = json.loads(make_card().to_json()) | {"num_classes": 7}
    with pytest.raises(InputError, match="num_classes=7"):
        ModelCard.from_json(json.dumps(content))


@pytest.mark.parametrize("key", ["classes", "members", "framing", "calibration", "operating_point"])
def test_a_value_of_another_kind_is_refused(make_card, key):
    content = json.loads(make_card().to_json()) | {key: 7.5}
    with pytest.raises(InputError, match="export the model again"):
        ModelCard.from_json(json.dumps(content))


@pytest.mark.parametrize("key", ["backbone", "mean", "std", "input_size", "weight", "views"])
def test_a_value_of_another_kind_in_a_member_is_refused(make_card, key):
    content = json.loads(make_card().to_json())
    content["members"][0][key] = "?" if key == "weight" else 7.5
    with pytest.raises(InputError, match="export the model again"):
        ModelCard.from_json(json.dumps(content))


def test_a_problem_of_defect_types_needs_no_operating_point(make_card):
    assert make_card(good_classes=(), operating_point=None).good_classes == ()
