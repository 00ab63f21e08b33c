"""Which image sizes a backbone takes, found out without a value of it."""

import pytest
import torch

from components.errors import InputError
from components.models import skeleton as module
from components.models.skeleton import check_feature_maps, check_input_size, skeleton


def test_nothing_of_a_skeleton_is_allocated():
    model = skeleton("test_resnet")
    assert {tensor.device.type for tensor in model.state_dict().values()} == {"meta"}
    assert not model.training


@pytest.mark.parametrize("backbone", ["test_vit", "test_vit3", "test_vit_relpos", "test_coatnet", "test_maxvit"])
def test_a_fixed_input_size_refuses_another_and_names_the_key_that_decides(backbone):
    check_input_size(backbone, 160, where="data.image_size=160")
    with pytest.raises(
        InputError, match=rf"^recipe\.image_size=96: .*'{backbone}' takes images of 160 px only; set the"
    ):
        check_input_size(backbone, 96, where="recipe.image_size=96")


@pytest.mark.parametrize(
    "backbone", ["test_convnext", "test_nfnet", "test_byobnet", "test_mambaout", "test_efficientnet", "test_resnet"]
)
def test_what_passes_a_network_without_values_passes_one_with_them(backbone):
    import timm

    check_input_size(backbone, 32, where="data.image_size=32")
    with torch.no_grad():
        assert timm.create_model(backbone, num_classes=2)(torch.zeros(2, 3, 32, 32)).shape == (2, 2)


def test_a_network_that_leaves_nothing_of_a_small_image_tells_the_sizes_that_it_takes():
    with pytest.raises(
        InputError, match=r"data\.image_size=16: .* cannot take images of 16 px; .* it takes 32, 48, 64"
    ):
        check_input_size("test_convnext", 16, where="data.image_size=16")


@pytest.mark.parametrize("backbone", ["test_efficientnet", "test_vit", "resnet18"])
def test_a_backbone_that_can_be_taken_apart_gives_feature_maps(backbone):
    check_feature_maps(backbone)


def test_a_backbone_without_feature_maps_is_refused(monkeypatch):
    monkeypatch.setattr(module, "skeleton", lambda backbone: torch.nn.Identity())
    with pytest.raises(InputError, match=r"model\.backbone='resnet18' gives no feature maps .* another backbone"):
        check_feature_maps("resnet18")
