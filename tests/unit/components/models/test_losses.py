"""The loss, its class weights, and the best constant prediction, found here by numeric minimisation."""

import math

import numpy as np
import pytest
import torch

from components.errors import InputError
from components.models.losses import (
    FocalLoss,
    build_loss,
    class_shares,
    class_weights,
    constant_predictor_loss,
    constant_predictor_spread,
    effective_number_weights,
)

GAMMAS = [0.0, 0.3, 1.0, 2.0, 5.0]

EVEN = np.full(3, 1 / 3)


@pytest.fixture(autouse=True)
def one_thread():
    """For a few numbers, more threads only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def minimised(counts: list[int], weights: torch.Tensor | None, smoothing: float, gamma: float) -> float:
    """The lowest loss of constant logits, by gradient descent on the very loss that is trained on."""
    labels = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    logits = torch.zeros(len(counts), dtype=torch.float64, requires_grad=True)
    loss = build_loss(None if weights is None else weights.double(), smoothing, focal_gamma=gamma)
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
@pytest.mark.parametrize("gamma", GAMMAS)
def test_no_constant_prediction_does_better(counts, weighted, smoothing, gamma):
    weights = torch.linspace(0.3, 2.5, len(counts)) if weighted else None
    found = constant_predictor_loss(counts, weights, smoothing, focal_gamma=gamma)
    assert found == pytest.approx(minimised(counts, weights, smoothing, gamma), abs=1e-8)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_of_two_classes_no_prediction_on_a_fine_grid_does_better(gamma, smoothing):
    p = np.linspace(1e-6, 1 - 1e-6, 400_001)
    share = (1 - smoothing) * 0.95 + smoothing / 2
    losses = share * (1 - p) ** gamma * -np.log(p) + (1 - share) * p**gamma * -np.log(1 - p)
    found = constant_predictor_loss([95, 5], None, smoothing, focal_gamma=gamma)
    assert losses.min() - 1e-10 < found <= losses.min() + 1e-12


def test_a_focal_loss_of_equal_classes_is_lowest_at_the_uniform_prediction():
    assert constant_predictor_loss([30, 30], None, 0.0, focal_gamma=2.0) == pytest.approx(0.25 * math.log(2))
    expected = (2 / 3) ** 3 * math.log(3)
    assert constant_predictor_loss([7, 7, 7], None, 0.0, focal_gamma=3.0) == pytest.approx(expected)


def test_one_class_alone_costs_nothing():
    for gamma in (0.0, 2.0):
        assert constant_predictor_loss([9, 0], None, 0.0, focal_gamma=gamma) == 0
        assert constant_predictor_spread([9, 0], None, 0.0, focal_gamma=gamma, batch_size=4) == 0


@pytest.mark.parametrize("gamma", [0.1, 2.0, 10.0])
def test_a_class_of_one_image_in_a_million_has_a_best_prediction_too(gamma):
    q = np.geomspace(1e-9, 0.5, 400_001)  # of the rare class
    losses = (10**6 * q**gamma * -np.log1p(-q) + (1 - q) ** gamma * -np.log(q)) / (10**6 + 1)
    found = constant_predictor_loss([10**6, 1], None, 0.0, focal_gamma=gamma)
    assert found == pytest.approx(losses.min(), rel=1e-8)


def test_without_weights_and_smoothing_it_is_the_entropy_of_the_class_balance():
    assert constant_predictor_loss([50, 50], None, 0.0, focal_gamma=0.0) == pytest.approx(math.log(2))
    expected = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    assert constant_predictor_loss([90, 10], None, 0.0, focal_gamma=0.0) == pytest.approx(expected)


def test_balanced_weights_make_it_the_entropy_of_equal_classes():
    labels = np.repeat([0, 1, 2], [80, 15, 5])
    weights = class_weights(labels, EVEN)
    assert constant_predictor_loss([80, 15, 5], weights, 0.0, focal_gamma=0.0) == pytest.approx(math.log(3), rel=1e-6)


def test_a_class_without_images_adds_nothing():
    assert constant_predictor_loss([50, 50, 0], None, 0.0, focal_gamma=0.0) == pytest.approx(math.log(2))
    assert constant_predictor_loss([50, 50, 0], None, 0.0, focal_gamma=2.0) == pytest.approx(math.log(2) / 4)


def best_constant(counts: list[int], weights: torch.Tensor, smoothing: float, gamma: float) -> torch.Tensor:
    """The logits of the lowest loss, by a search over a grid that grows finer."""
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    loss = build_loss(weights.double(), smoothing, focal_gamma=gamma)
    best, step = torch.zeros(3, dtype=torch.float64), 1.0
    while step > 1e-5:
        moves = step * torch.tensor([[0, a, b] for a in (-1, 0, 1) for b in (-1, 0, 1)], dtype=torch.float64)
        losses = torch.stack([loss((best + move).expand(len(labels), 3), labels) for move in moves])
        lowest = int(losses.argmin())
        best, step = best + moves[lowest], step if lowest != 4 else step / 2
    return best.float()


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 3.0, 1.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_spread_of_a_constant_prediction_is_that_over_drawn_batches(weights, smoothing, gamma):
    counts, batch_size = [70, 20, 10], 64
    generator = torch.Generator().manual_seed(0)
    labels = torch.multinomial(torch.tensor(counts, dtype=torch.float32), 4000 * batch_size, True, generator=generator)
    logits = best_constant(counts, torch.ones(3) if weights is None else weights, smoothing, gamma)
    loss = build_loss(weights, smoothing, focal_gamma=gamma)
    drawn = torch.stack([loss(logits.expand(batch_size, 3), batch) for batch in labels.split(batch_size)])
    expected = constant_predictor_spread(counts, weights, smoothing, focal_gamma=gamma, batch_size=batch_size)
    assert float(drawn.std()) == pytest.approx(expected, rel=0.05)


def test_with_balanced_weights_a_constant_prediction_costs_the_same_on_every_batch():
    weights = class_weights(np.repeat([0, 1], [98, 2]), class_shares(2, ()))
    for gamma in (0.0, 2.0):
        found = constant_predictor_spread([98, 2], weights, 0.0, focal_gamma=gamma, batch_size=16)
        assert found == pytest.approx(0, abs=1e-6)


def test_the_spread_without_weights_is_that_of_the_surprise():
    surprise = 0.98 * math.log(0.98) ** 2 + 0.02 * math.log(0.02) ** 2
    entropy = -(0.98 * math.log(0.98) + 0.02 * math.log(0.02))
    expected = math.sqrt((surprise - entropy**2) / 16)
    found = constant_predictor_spread([98, 2], None, 0.0, focal_gamma=0.0, batch_size=16)
    assert found == pytest.approx(expected)


def test_balanced_weights_give_every_class_the_same_total():
    labels = np.array([0] * 8 + [1] * 2)
    # 10 / (2 · 8) and 10 / (2 · 2)
    assert class_weights(labels, class_shares(2, ())).tolist() == pytest.approx([0.625, 2.5])


def test_defects_of_all_kinds_together_weigh_as_much_as_what_is_good():
    assert class_shares(5, [1]).tolist() == [0.125, 0.5, 0.125, 0.125, 0.125]
    assert class_shares(3, [0, 2]).tolist() == [0.25, 0.5, 0.25]
    assert class_shares(4, []).tolist() == class_shares(4, range(4)).tolist() == [0.25] * 4
    labels = np.repeat([0, 1, 2], [80, 15, 5])
    assert (class_weights(labels, class_shares(3, [0]))[labels]).mean() == pytest.approx(1)


def test_balanced_weights_of_an_empty_class_are_refused():
    with pytest.raises(InputError, match="classes 2 "):
        class_weights(np.array([0, 1]), EVEN)


# --- weights by the effective number of images


def test_an_effective_number_counts_what_does_not_repeat():
    """Of beta 0.5, three images are worth 1 + 0.5 + 0.25 = 1.75, and one is worth 1."""
    weights = effective_number_weights(np.array([0, 0, 0, 1]), 2, 0.5)
    mean = (3 / 1.75 + 1) / 4
    assert weights.tolist() == pytest.approx([1 / 1.75 / mean, 1 / mean])


def test_beta_goes_from_no_weights_to_balanced_ones():
    labels = np.repeat([0, 1, 2], [80, 15, 5])
    assert effective_number_weights(labels, 3, 0.0).tolist() == pytest.approx([1, 1, 1])
    balanced = class_weights(labels, EVEN).tolist()
    assert effective_number_weights(labels, 3, 1 - 1e-9).tolist() == pytest.approx(balanced, rel=1e-5)
    between = effective_number_weights(labels, 3, 0.9)
    assert 1 < between[2] / between[0] < balanced[2] / balanced[0]


def test_the_weights_of_the_images_have_the_mean_one():
    labels = np.repeat([0, 1, 2], [800, 15, 5])
    for beta in (0.0, 0.9, 0.999):
        assert float(effective_number_weights(labels, 3, beta)[labels].mean()) == pytest.approx(1)


def test_an_effective_number_of_no_image_is_refused():
    with pytest.raises(InputError, match=r"recipe\.loss=class_balanced: classes 1 .*use cross_entropy"):
        effective_number_weights(np.array([0, 2]), 3, 0.9)


# --- soft targets


PROBABILITIES = torch.tensor([[0.8, 0.2], [0.75, 0.25]])
TARGETS = torch.tensor([[0.75, 0.25], [0.0, 1.0]])
OWN, OTHER = (math.log(1.25), math.log(5)), (math.log(4 / 3), math.log(4))  # of each class, of either image


def test_a_loss_of_soft_targets_by_hand():
    found = build_loss(None, 0.0, focal_gamma=0.0)(PROBABILITIES.log(), TARGETS)
    assert float(found) == pytest.approx((0.75 * OWN[0] + 0.25 * OWN[1] + OTHER[1]) / 2)


def test_a_weighted_loss_of_soft_targets_is_divided_by_their_weights():
    """Class 1 has the weight 3: 0.75 + 0.75 of the first image, 3 of the second."""
    found = build_loss(torch.tensor([1.0, 3.0]), 0.0, focal_gamma=0.0)(PROBABILITIES.log(), TARGETS)
    assert float(found) == pytest.approx((0.75 * OWN[0] + 0.75 * OWN[1] + 3 * OTHER[1]) / 4.5)


def test_smoothing_comes_on_top_of_soft_targets():
    """Of 0.2, a tenth goes to each class: 0.7 and 0.3 are left of the first target, 0.1 and 0.9 of the second."""
    found = build_loss(torch.tensor([1.0, 3.0]), 0.2, focal_gamma=0.0)(PROBABILITIES.log(), TARGETS)
    expected = 0.7 * OWN[0] + 3 * 0.3 * OWN[1] + 0.1 * OTHER[0] + 3 * 0.9 * OTHER[1]
    assert float(found) == pytest.approx(expected / 4.5)


def test_a_focal_loss_of_soft_targets_by_hand():
    found = build_loss(torch.tensor([1.0, 3.0]), 0.0, focal_gamma=2.0)(PROBABILITIES.log(), TARGETS)
    expected = 0.75 * 0.2**2 * OWN[0] + 0.75 * 0.8**2 * OWN[1] + 3 * 0.75**2 * OTHER[1]
    assert float(found) == pytest.approx(expected / 4.5)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 3.0, 1.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_labels_give_torchs_own_bits_and_targets_of_one_class_the_same_loss(weights, smoothing):
    logits, labels = (torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 3)
    loss = build_loss(weights, smoothing, focal_gamma=0.0)
    own = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)
    assert torch.equal(loss(logits, labels), own(logits, labels))
    certain = torch.eye(3)[labels]
    for gamma in (0.0, 2.0):
        loss = build_loss(weights, smoothing, focal_gamma=gamma)
        assert float(loss(logits, certain)) == pytest.approx(float(loss(logits, labels)), rel=1e-6)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 3.0, 1.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("gamma", [0.0, 2.0])
def test_the_best_constant_of_soft_targets_is_that_of_their_sum(weights, smoothing, gamma):
    targets = torch.tensor([[1, 0, 0]] * 60 + [[0.5, 0.3, 0.2]] * 20 + [[0.4, 0.6, 0]] * 15 + [[0, 0, 1.0]] * 5)
    sums = targets.sum(0).tolist()
    loss = build_loss(None if weights is None else weights.double(), smoothing, focal_gamma=gamma)
    logits = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, tolerance_grad=1e-12, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = loss(logits.expand(100, 3), targets.double())
        value.backward()
        return value

    optimizer.step(closure)
    best = logits.detach()
    found = constant_predictor_loss(sums, weights, smoothing, focal_gamma=gamma)
    assert found == pytest.approx(float(loss(best.expand(100, 3), targets.double())), abs=1e-7)
    drawn = targets.double()[torch.randint(100, (4000, 64), generator=torch.Generator().manual_seed(0))]
    losses = torch.stack([loss(best.expand(64, 3), batch) for batch in drawn])
    spread = constant_predictor_spread(
        sums, weights, smoothing, focal_gamma=gamma, batch_size=64, targets=targets.numpy()
    )
    assert spread == pytest.approx(float(losses.std()), rel=0.05)


def test_the_spread_of_targets_of_one_class_is_that_of_the_labels():
    settings = {"label_smoothing": 0.1, "focal_gamma": 0.0, "batch_size": 16}
    targets = np.eye(2)[np.repeat([0, 1], [80, 20])]
    found = constant_predictor_spread([80, 20], None, **settings, targets=targets)
    assert found == pytest.approx(constant_predictor_spread([80, 20], None, **settings))


# --- the focal loss


def drawn() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(40, 3, generator=generator, dtype=torch.float64)
    return logits, torch.randint(3, (40,), generator=generator)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 3.0, 1.0])])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_without_gamma_a_focal_loss_is_torchs_cross_entropy(weights, smoothing):
    logits, labels = drawn()
    weights = None if weights is None else weights.double()
    torch_loss = torch.nn.CrossEntropyLoss(weight=weights, label_smoothing=smoothing)
    assert float(FocalLoss(weights, smoothing, 0.0)(logits, labels)) == pytest.approx(float(torch_loss(logits, labels)))
    assert isinstance(build_loss(weights, smoothing, focal_gamma=0.0), torch.nn.CrossEntropyLoss)
    assert isinstance(build_loss(weights, smoothing, focal_gamma=0.5), FocalLoss)


def test_a_focal_loss_by_hand():
    """Probabilities 0.8 and 0.25 of the labels, whose weights are 1 and 3; 0.2² and 0.75² are left of the terms."""
    logits = torch.tensor([[0.8, 0.2], [0.75, 0.25]]).log()
    loss = build_loss(torch.tensor([1.0, 3.0]), 0.0, focal_gamma=2.0)
    expected = (0.04 * math.log(1.25) + 3 * 0.5625 * math.log(4)) / 4
    assert float(loss(logits, torch.tensor([0, 1]))) == pytest.approx(expected)


def test_a_smoothed_focal_loss_by_hand():
    """A tenth of the target is spread: 0.95 of it is the label's, 0.05 the other's."""
    loss = build_loss(None, 0.1, focal_gamma=1.0)
    expected = 0.95 * 0.2 * math.log(1.25) + 0.05 * 0.8 * math.log(5)
    assert float(loss(torch.tensor([[0.8, 0.2]]).log(), torch.tensor([0]))) == pytest.approx(expected)


@pytest.mark.parametrize("gamma", [0.3, 1.0, 2.0])
def test_certain_predictions_have_finite_gradients(gamma):
    logits = torch.tensor([[200.0, 0.0], [0.0, 200.0], [0.0, 0.0], [9.0, -9.0]], requires_grad=True)
    loss = build_loss(None, 0.0, focal_gamma=gamma)(logits, torch.tensor([0, 0, 1, 0]))
    loss.backward()
    # The second is as wrong as can be: 200, of four images.
    assert float(loss.detach()) == pytest.approx((200 + 0.5**gamma * math.log(2)) / 4, rel=1e-4)
    assert torch.isfinite(logits.grad).all()
    assert logits.grad[1].tolist() == pytest.approx([-0.25, 0.25])


@pytest.mark.parametrize("gamma", [0.3, 2.0])
def test_the_gradient_is_that_of_the_loss(gamma):
    logits, labels = drawn()
    loss = build_loss(torch.tensor([0.5, 3.0, 1.0], dtype=torch.float64), 0.1, focal_gamma=gamma)
    assert torch.autograd.gradcheck(lambda values: loss(values, labels), logits.requires_grad_())


def test_the_weights_go_with_the_loss_to_its_device_and_are_copied_with_it():
    loss = build_loss(torch.tensor([1.0, 2.0]), 0.0, focal_gamma=2.0)
    assert loss.to(torch.float64).weight.dtype == torch.float64
    assert list(loss.parameters()) == []
