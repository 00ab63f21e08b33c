"""The loss, its class weights, and the best constant prediction, found here by numeric minimisation."""

import math

import numpy as np
import pytest
import torch

from components.errors import InputError
from components.models.losses import build_loss, class_weights, constant_predictor_loss, constant_predictor_spread


def minimised(counts: list[int], weights: torch.Tensor | None, smoothing: float) -> float:
    """The lowest loss of constant logits, by gradient descent on the very loss that is trained on."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    logits = torch.zeros(len(counts), dtype=torch.float64, requires_grad=True)
    loss = build_loss(None if weights is None else weights.double(), smoothing)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(logits.expand(len(labels), -1), labels)
        value.backward()
        return value

    optimizer.step(closure)
    return float(closure().detach())


@pytest.mark.parametrize("counts", [[50, 50], [95, 5], [70, 20, 10]])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_no_constant_prediction_does_better(counts, weighted, smoothing):
    weights = torch.linspace(0.3, 2.5, len(counts)) if weighted else None
    assert constant_predictor_loss(counts, weights, smoothing) == pytest.approx(
        minimised(counts, weights, smoothing), abs=1e-6
    )


def test_without_weights_and_smoothing_it_is_the_entropy_of_the_class_balance():
    assert constant_predictor_loss([50, 50], None, 0.0) == pytest.approx(math.log(2))
    expected = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert constant_predictor_loss([90, 10], None, 0.0) == pytest.approx(expected)


def test_balanced_weights_make_it_the_entropy_of_equal_classes():
    labels = np.repeat([0, 1, 2], [80, 15, 5])
    weights = class_weights(labels, 3, "balanced")
    assert constant_predictor_loss([80, 15, 5], weights, 0.0) == pytest.approx(math.log(3), rel=1e-6)


def test_a_class_without_images_adds_nothing():
    assert constant_predictor_loss([50, 50, 0], None, 0.0) == pytest.approx(math.log(2))


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 3.0, 1.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_spread_of_a_constant_prediction_is_that_over_drawn_batches(weights, smoothing):
    counts, batch_size = [70, 20, 10], 64
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor(counts, dtype=torch.float32), 4000 * batch_size, True, generator=generator)
    weight = torch.ones(3) if weights is None else weights
    targets = (1 - smoothing) * weight * torch.tensor(counts) + smoothing / 3 * weight * 100
    logits = targets.log().expand(batch_size, 3)
    loss = build_loss(weights, smoothing)
    drawn = torch.stack([loss(logits, batch) for batch in labels.split(batch_size)])
    expected = constant_predictor_spread(counts, weights, smoothing, batch_size=batch_size)
    assert float(drawn.std()) == pytest.approx(expected, rel=0.05)


def test_with_balanced_weights_a_constant_prediction_costs_the_same_on_every_batch():
    weights = class_weights(np.repeat([0, 1], [98, 2]), 2, "balanced")
    assert constant_predictor_spread([98, 2], weights, 0.0, batch_size=16) == pytest.approx(0, abs=1e-6)


def test_the_spread_without_weights_is_that_of_the_surprise():
    surprise = 0.98 * math.log(0.98) ** 2 + 0.02 * math.log(0.02) ** 2
    entropy = -(0.98 * math.log(0.98) + 0.02 * math.log(0.02))
    expected = math.sqrt((surprise - entropy**2) / 16)
    assert constant_predictor_spread([98, 2], None, 0.0, batch_size=16) == pytest.approx(expected)


def test_balanced_weights_give_every_class_the_same_total():
    labels = np.array([0] * 8 + [1] * 2)
    # 10 / (2 · 8) and 10 / (2 · 2)
    assert class_weights(labels, 2, "balanced").tolist() == pytest.approx([0.625, 2.5])
    assert class_weights(labels, 2, "none") is None


def test_balanced_weights_of_an_empty_class_are_refused():
    with pytest.raises(InputError, match="classes 2 "):
        class_weights(np.array([0, 1]), 3, "balanced")


def test_an_unknown_scheme_is_refused_with_the_known_ones():
    with pytest.raises(InputError, match="none or balanced"):
        class_weights(np.array([0, 1]), 2, "focal")
