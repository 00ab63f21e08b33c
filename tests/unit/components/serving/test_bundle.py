"""The bundle: what is written is what is read, whole or not at all, and its members are those of its card."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from components.data import decode
from components.data import framing as framing_module
from components.errors import InputError
from components.evaluation import decision
from components.models import forward
from components.serving import bundle
from components.serving.bundle import SOURCES, find_bundle, load_bundle, load_ensemble, read_seen_images, save_bundle

CPU = torch.device("cpu")


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
    save_bundle(tmp_path / "bundle", states=[state], card=make_card(), seen_images=[])
    _, loaded = load_bundle(tmp_path / "bundle")
    assert loaded.keys() == {f"0.{key}" for key in state}
    for key, value in state.items():
        assert loaded[f"0.{key}"].dtype == value.dtype
        assert torch.equal(loaded[f"0.{key}"], value)


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
    save_bundle(tmp_path / "bundle", states=[{"w": torch.zeros(1)}], card=make_card(), seen_images=digests)
    text = (tmp_path / "bundle" / "seen_images.txt").read_text()
    assert text == "0" * 16 + "\n" + "a" * 16 + "\n" + "f" * 16 + "\n"
    assert read_seen_images(tmp_path / "bundle") == {"0" * 16, "a" * 16, "f" * 16}


@pytest.mark.parametrize("digest", ["abc", "A" * 64, "images/one.png and more"])
def test_a_seen_image_that_is_no_digest_is_refused_before_anything_is_written(make_card, tmp_path, digest):
    with pytest.raises(ValueError, match="not a lower-case sha256"):
        save_bundle(tmp_path / "bundle", states=[{"w": torch.zeros(1)}], card=make_card(), seen_images=[digest])
    assert list(tmp_path.iterdir()) == []


def test_a_bundle_without_the_list_of_seen_images_says_why_that_matters(make_card, tmp_path):
    save_bundle(tmp_path / "bundle", states=[{"w": torch.zeros(1)}], card=make_card(), seen_images=[])
    (tmp_path / "bundle" / "seen_images.txt").unlink()
    with pytest.raises(InputError, match="images that the model has seen"):
        read_seen_images(tmp_path / "bundle")


def test_a_save_replaces_what_is_there_and_one_that_fails_leaves_nothing_that_could_be_loaded(
    make_card, tmp_path, monkeypatch
):
    target = tmp_path / "deep" / "bundle"
    for name in ("old", "new"):
        save_bundle(target, states=[{"w": torch.zeros(1)}], card=make_card(name=name), seen_images=[])
        (target / "left over").touch()
    assert load_bundle(target)[0].name == "new"
    monkeypatch.setattr(bundle, "SOURCES", (tmp_path / "nowhere.py",))
    with pytest.raises(FileNotFoundError):
        save_bundle(target, states=[{"w": torch.ones(1)}], card=make_card(), seen_images=[])
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
    save_bundle(tmp_path / "b", states=[{"w": torch.zeros(100)}], card=make_card(), seen_images=[])
    path = tmp_path / "b" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"weights\.safetensors cannot be read"):
        load_bundle(tmp_path / "b")


def test_the_weights_of_another_number_of_members_are_not_saved(make_card, tmp_path):
    with pytest.raises(ValueError, match="2 state dicts for 1 members of the card"):
        save_bundle(tmp_path / "b", states=[{}, {}], card=make_card(), seen_images=[])
    assert list(tmp_path.iterdir()) == []


# -- members that are not those of the card


@pytest.fixture
def two(exported, make_card, make_member, tmp_path) -> Path:
    """A bundle of two networks."""
    card = make_card(members=(make_member(weight=0.5), make_member(weight=0.5, views=(0, 4))))
    states = [exported.network.state_dict()] * 2
    return save_bundle(tmp_path / "two", states=states, card=card, seen_images=[])


def change_weights(folder: Path, change) -> None:
    weights = load_file(folder / "weights.safetensors")
    change(weights)
    save_file(weights, folder / "weights.safetensors")


def test_several_members_come_back(two, exported):
    card, ensemble = load_ensemble(two, CPU)
    assert [member.views for member in ensemble.members] == [(0,), (0, 4)]
    assert card.summary == "1 network (test_resnet at 32 px, 1 view) and 1 network (test_resnet at 32 px, 2 views)"
    state = exported.network.state_dict()
    for member in ensemble.members:
        assert all(torch.equal(member.model.state_dict()[key], value) for key, value in state.items())


def test_a_member_of_the_card_without_weights_is_refused(two):
    change_weights(two, lambda weights: [weights.pop(key) for key in [*weights] if key.startswith("1.")])
    for load in (load_bundle, lambda folder: load_ensemble(folder, CPU)):
        with pytest.raises(
            InputError, match=r"weights\.safetensors: member 1 \(test_resnet\) has no .* export .* again"
        ):
            load(two)


def test_weights_of_a_member_that_the_card_does_not_name_are_refused(two):
    change_weights(two, lambda weights: weights.update({"2.fc.bias": torch.zeros(3)}))
    with pytest.raises(InputError, match=r"hold '2\.fc\.bias', and the card names the members 0 to 1 only; export"):
        load_bundle(two)


def test_a_member_with_other_outputs_or_keys_is_refused_by_number_and_key(two):
    change_weights(two, lambda weights: weights.update({"1.fc.bias": torch.zeros(4)}))
    with pytest.raises(InputError, match=r"member 1 .*3 classes\): 'fc\.bias' has the shape \(4,\) .*\(3,\); export"):
        load_ensemble(two, CPU)
    change_weights(two, lambda weights: weights.pop("1.fc.bias"))
    with pytest.raises(InputError, match=r"member 1 .*'fc\.bias' is missing; export"):
        load_ensemble(two, CPU)
    change_weights(two, lambda weights: weights.update({"1.fc.bias": torch.zeros(3), "1.ema": torch.zeros(1)}))
    with pytest.raises(InputError, match=r"member 1 .*'ema' is none of its keys; export"):
        load_ensemble(two, CPU)


def test_weights_of_a_frozen_classifier_in_one_dimension_are_refused(exported, make_card, make_member, tmp_path):
    state = {"linear.weight": torch.zeros(3), "linear.bias": torch.zeros(3)}
    folder = save_bundle(
        tmp_path / "b", states=[state], card=make_card(members=(make_member(kind="frozen"),)), seen_images=[]
    )
    change_weights(
        folder, lambda weights: weights.update({f"0.network.{k}": v for k, v in exported.network.state_dict().items()})
    )
    change_weights(folder, lambda weights: [weights.pop(key) for key in [*weights] if ".fc." in key])
    with pytest.raises(InputError, match=r"member 0 .*'linear\.weight' has the shape \(3,\) .*export the model again"):
        load_ensemble(folder, CPU)


@pytest.mark.parametrize("kind", ["network", "frozen"])
def test_a_backbone_that_timm_does_not_know_is_refused(exported, make_card, make_member, tmp_path, kind):
    card = make_card(members=(make_member(kind=kind, backbone="resnet_of_tomorrow"),))
    folder = save_bundle(tmp_path / "b", states=[exported.network.state_dict()], card=card, seen_images=[])
    with pytest.raises(InputError, match=r"member 0 \(resnet_of_tomorrow\): Unknown model .*; install the timm"):
        load_ensemble(folder, CPU)


def test_a_bundle_of_the_fifth_version_is_one_network_that_decides_as_before(exported, make_card, tmp_path):
    """Its keys have no numbers, and its card names the network itself."""
    folder = save_bundle(tmp_path / "b", states=[exported.network.state_dict()], card=make_card(), seen_images=[])
    save_file(exported.network.state_dict(), folder / "weights.safetensors")
    content = json.loads((folder / "model.json").read_text())
    ((member),) = content.pop("members")
    network = {key: member[key] for key in ("backbone", "input_size", "mean", "std")}
    (folder / "model.json").write_text(json.dumps(content | network | {"format_version": 5}))
    card, ensemble = load_ensemble(folder, CPU)
    assert card == exported.card
    pixels = torch.randint(0, 256, (7, 3, 32, 32), dtype=torch.uint8)
    (one,) = ensemble.members
    with torch.no_grad():
        before = exported.network(one.preprocessing.apply(pixels))
    rule = decision.DecisionRule.from_card(vars(card))
    as_before, now = rule.decide(before.numpy()), rule.decide(ensemble.logits(pixels).numpy())
    assert now.verdicts.tolist() == as_before.verdicts.tolist()
    assert now.log_odds == pytest.approx(as_before.log_odds, rel=1e-4, abs=1e-5)
    assert now.probabilities == pytest.approx(as_before.probabilities, abs=1e-6)
