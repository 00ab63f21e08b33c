"""From pixels to the logits of several members and views: the arithmetic by hand, and weights that do not fit."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from components.models.forward import (
    Ensemble,
    FrozenClassifier,
    MemberModel,
    Preprocessing,
    joined,
    parted,
    pooled_features,
    turned,
)

CPU = torch.device("cpu")
BACKBONES = ("test_resnet", "test_efficientnet", "test_convnext", "test_vit")


def network(backbone: str = "test_resnet", *, num_classes: int = 3, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return timm.create_model(backbone, pretrained=False, num_classes=num_classes).eval()


def frozen(backbone: str = "test_resnet", *, features: int, num_classes: int = 3) -> FrozenClassifier:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return FrozenClassifier(network(backbone, num_classes=0), nn.Linear(features, num_classes)).eval()


def entry(**changes: object) -> dict:
    """A member as the card has it."""
    return {
        "kind": "network",
        "backbone": "test_resnet",
        "input_size": 32,
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.25, 0.3),
        "weight": 1.0,
        "views": (0,),
        **changes,
    }


def card(*members: dict, **changes: object) -> dict:
    return {"num_classes": 3, "precision": "float32", "members": members, **changes}


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (5, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def seen(pixels: torch.Tensor) -> torch.Tensor:
    """The images normalised with the constants of `entry`, written out."""
    mean, std = (torch.tensor(entry()[key]).view(3, 1, 1) for key in ("mean", "std"))
    return (pixels / 255 - mean) / std


# -- views


def test_the_views_by_hand():
    image = torch.tensor([[1, 2], [3, 4]])[None, None]
    expected = [
        [[1, 2], [3, 4]],
        [[2, 4], [1, 3]],  # a quarter to the left
        [[4, 3], [2, 1]],
        [[3, 1], [4, 2]],
        [[2, 1], [4, 3]],  # left to right
        [[1, 3], [2, 4]],  # the transpose
        [[3, 4], [1, 2]],  # upside down
        [[4, 2], [3, 1]],
    ]
    assert [turned(image, view)[0, 0].tolist() for view in range(8)] == expected


def test_the_views_leave_the_images_as_they_are(pixels):
    before = pixels.clone()
    for view in range(8):
        turned(pixels, view)
    assert torch.equal(pixels, before)


# -- members


def test_one_member_in_one_view_gives_the_logarithms_of_its_probabilities(pixels):
    model = network()
    ensemble = Ensemble.from_card(card(entry()), joined([model.state_dict()]), CPU)
    with torch.no_grad():
        expected = torch.log(torch.softmax(model(seen(pixels)), dim=1))
    torch.testing.assert_close(ensemble.logits(pixels), expected, rtol=1e-4, atol=1e-5)


def test_members_and_views_are_averaged_in_log_odds_with_the_weights(pixels):
    one, other = network(seed=1), frozen(features=pooled_features(network(num_classes=0), seen(pixels[:1])).shape[1])
    members = card(entry(weight=0.75, views=(0, 4, 2)), entry(kind="frozen", weight=0.25, views=(0, 1)))
    ensemble = Ensemble.from_card(members, joined([one.state_dict(), other.state_dict()]), CPU)
    expected = torch.zeros(5, 3)
    with torch.no_grad():
        for model, weight, views in ((one, 0.75, (0, 4, 2)), (other, 0.25, (0, 1))):
            for view in views:
                expected += weight / len(views) * model(turned(seen(pixels), view)).log_softmax(1)
    torch.testing.assert_close(ensemble.logits(pixels), expected, rtol=1e-4, atol=1e-5)


def test_the_number_of_images_does_not_change_their_logits(pixels, monkeypatch):
    ensemble = Ensemble.from_card(card(entry(views=tuple(range(8)))), joined([network().state_dict()]), CPU)
    whole = ensemble.logits(pixels)
    for stacked in (1, 7, 100):
        monkeypatch.setattr("components.models.forward.STACKED", stacked)
        torch.testing.assert_close(ensemble.logits(pixels), whole, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.cat([ensemble.logits(pixels[i : i + 1]) for i in range(5)]), whole)


def test_a_model_that_is_averaged_over_all_views_answers_alike_for_every_view_of_an_image(pixels):
    ensemble = Ensemble.from_card(card(entry(views=tuple(range(8)))), joined([network().state_dict()]), CPU)
    for view in range(8):
        torch.testing.assert_close(ensemble.logits(turned(pixels, view)), ensemble.logits(pixels), rtol=1e-3, atol=1e-4)


def test_images_are_prepared_once_for_all_members_with_the_same_constants_and_size(pixels, monkeypatch):
    calls = []
    apply = Preprocessing.apply
    monkeypatch.setattr(Preprocessing, "apply", lambda self, images: calls.append(self.size) or apply(self, images))
    members = [entry(), entry(weight=0.5), entry(input_size=16), entry(mean=(0.5, 0.5, 0.5))]
    states = [network(seed=seed).state_dict() for seed in range(4)]
    Ensemble.from_card(card(*members), joined(states), CPU).logits(pixels)
    assert calls == [32, 16, 32]


def test_a_frozen_classifier_computes_in_float32_whatever_the_networks_do(pixels):
    features = pooled_features(network(num_classes=0), seen(pixels[:1])).shape[1]
    states = joined([network().state_dict(), frozen(features=features).state_dict()])
    ensemble = Ensemble.from_card(card(entry(), entry(kind="frozen"), precision="bfloat16"), states, CPU)
    assert [member.precision for member in ensemble.members] == ["bfloat16", "float32"]
    assert ensemble.logits(pixels).dtype == torch.float32
    assert not any(member.model.training for member in ensemble.members)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_an_output_that_is_not_finite_stays_so_and_costs_no_other_image(pixels, value):
    class Broken(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            logits = images.mean((2, 3))
            logits[0, 0] = value
            return logits

    preprocessing = Preprocessing.from_unit_scale((0.5,) * 3, (0.5,) * 3)
    logits = Ensemble((MemberModel(Broken(), preprocessing, "float32", 1.0, (0,)),)).logits(pixels)
    assert np.isfinite(logits.numpy()).all(axis=1).tolist() == [False, True, True, True, True]


# -- features of several depths


@pytest.mark.parametrize("backbone", BACKBONES)
def test_pooled_features_begin_with_what_the_classifier_gets_and_hold_three_depths(backbone):
    model = network(backbone)
    size = model.pretrained_cfg["input_size"][-1]
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        features = pooled_features(model, images)
        last = model.forward_head(model.forward_features(images), pre_logits=True)
    depths = [info["num_chs"] for info in model.feature_info][-3:]
    assert features.shape == (2, last.shape[1] + 2 * sum(depths))
    torch.testing.assert_close(features[:, : last.shape[1]], last, rtol=1e-4, atol=1e-5)
    first = features[:, last.shape[1] : last.shape[1] + 2 * depths[0]]
    assert (first[:, : depths[0]] <= first[:, depths[0] :]).all()  # means, then maxima


def test_the_features_do_not_depend_on_the_classifier():
    images, bare = torch.rand(2, 3, 32, 32), network(num_classes=0)
    bare.load_state_dict({key: value for key, value in network().state_dict().items() if not key.startswith("fc.")})
    with torch.no_grad():
        assert torch.equal(pooled_features(network(), images), pooled_features(bare, images))


def test_an_architecture_without_feature_maps_is_refused_with_the_remedy():
    with pytest.raises(ValueError, match="Linear of timm has no forward_intermediates; choose another backbone"):
        pooled_features(nn.Linear(1, 1), torch.rand(1, 3, 32, 32))


# -- weights and cards that do not fit


def states(count: int = 2) -> list[dict[str, torch.Tensor]]:
    return [network(seed=seed).state_dict() for seed in range(count)]


def test_what_is_joined_can_be_parted():
    found = parted(card(entry(), entry()), joined(states()))
    assert [list(one) for one in found] == [list(one) for one in states()]
    assert all(torch.equal(found[1][key], value) for key, value in states()[1].items())


def test_a_member_without_weights_is_refused():
    with pytest.raises(ValueError, match=r"member 1 \(test_resnet\) has no weights: no key begins with '1\.'"):
        Ensemble.from_card(card(entry(), entry()), joined(states(1)), CPU)


@pytest.mark.parametrize("key", ["2.conv1.weight", "conv1.weight", "-1.conv1.weight"])
def test_weights_of_no_member_are_refused(key):
    with pytest.raises(ValueError, match=f"{key}.*names the members 0 to 1 only"):
        Ensemble.from_card(card(entry(), entry()), joined(states()) | {key: torch.zeros(1)}, CPU)


def test_a_member_with_another_number_of_outputs_is_refused_by_name():
    weights = joined([network().state_dict(), network(num_classes=4).state_dict()])
    with pytest.raises(ValueError, match=r"member 1 \(test_resnet, 3 classes\): 'fc\.bias' has the shape \(4,\)"):
        Ensemble.from_card(card(entry(), entry()), weights, CPU)


def test_a_key_too_many_or_too_few_is_refused_by_name():
    weights = joined(states())
    del weights["0.fc.bias"]
    with pytest.raises(ValueError, match=r"member 0 .*'fc\.bias' is missing; export the model again$"):
        Ensemble.from_card(card(entry(), entry()), weights, CPU)
    with pytest.raises(ValueError, match=r"member 1 .*'more' is none of its keys; export the model again$"):
        Ensemble.from_card(card(entry(), entry()), joined(states()) | {"1.more": torch.zeros(1)}, CPU)


def test_a_network_in_the_place_of_a_frozen_classifier_is_refused():
    with pytest.raises(ValueError, match=r"member 0 .*, and \d+ more; export"):
        Ensemble.from_card(card(entry(kind="frozen")), joined(states(1)), CPU)
