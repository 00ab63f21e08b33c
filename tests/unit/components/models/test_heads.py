"""Head starts on their way through a file, and into a network."""

import numpy as np
import pytest
import torch
from torch import nn

from components.models import heads
from components.models.backbones import build_model
from components.models.heads import HeadStart, read_heads, save_heads, start_classifier


def head(value: float, *, features: int = 3) -> HeadStart:
    return HeadStart(np.full((2, features), value, np.float32), np.array([value, -value], np.float32))


def test_each_is_found_by_its_backbone_and_the_fold_that_it_leaves_out(tmp_path) -> None:
    saved = {("a.b/c", 0): head(1), ("a.b/c", 1): head(2), ("a.b/c", None): head(3), ("d", None): head(4)}
    save_heads(tmp_path, saved)
    found = read_heads(tmp_path)
    assert found.keys() == saved.keys()
    for key, start in saved.items():
        np.testing.assert_array_equal(found[key].weight, start.weight)
        np.testing.assert_array_equal(found[key].bias, start.bias)


def test_without_a_file_there_is_none(tmp_path) -> None:
    assert read_heads(tmp_path) == {}


def test_a_network_starts_with_the_logits_of_the_head() -> None:
    given = {"weights": "none", "num_classes": 2, "drop_rate": 0.0, "drop_path_rate": 0.0, "seed": 0}
    model = build_model(backbone="test_efficientnet", **given).model.eval()
    images = torch.rand(2, 3, 32, 32)
    with torch.inference_mode():
        features = model.forward_head(model.forward_features(images), pre_logits=True).numpy()
    start = head(0.5, features=features.shape[1])
    start_classifier(model, "test_efficientnet", start)
    with torch.inference_mode():
        np.testing.assert_allclose(model(images).numpy(), features @ start.weight.T + start.bias, atol=1e-4)
    with pytest.raises(ValueError, match="the classifier is"):
        start_classifier(model, "test_efficientnet", head(0.5, features=3))


@pytest.mark.parametrize("classifier", [nn.Linear(3, 2), nn.Conv2d(3, 2, 1)], ids=["linear", "convolution"])
def test_a_classifier_of_either_kind_takes_the_weights_as_they_are(monkeypatch, classifier: nn.Module) -> None:
    model = nn.Sequential(nn.Identity(), classifier)
    monkeypatch.setattr(heads, "classifier_names", lambda backbone: ("1",))
    start = HeadStart(np.array([[1, 2, 3], [4, 5, 6]], np.float32), np.array([7, 8], np.float32))
    start_classifier(model, "net", start)
    assert classifier.weight.flatten().tolist() == [1, 2, 3, 4, 5, 6]
    assert classifier.bias.tolist() == [7, 8]
    for wrong in (head(1, features=4), HeadStart(np.ones((3, 2), np.float32), np.ones(3, np.float32))):
        with pytest.raises(ValueError, match="net: the classifier is"):
            start_classifier(model, "net", wrong)
    assert classifier.bias.tolist() == [7, 8]


def test_what_is_no_classifier_with_a_bias_stays_as_it_is(monkeypatch) -> None:
    model = nn.Sequential(nn.Linear(3, 2, bias=False), nn.Identity())
    before = model[0].weight.clone()
    monkeypatch.setattr(heads, "classifier_names", lambda backbone: ("0", "1", "2"))
    start_classifier(model, "net", head(1))
    assert torch.equal(model[0].weight, before)
