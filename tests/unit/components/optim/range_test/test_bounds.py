"""The analysis of range-test curves, on curves whose half-drop is known, and on curves without one."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from components.data.loader import Batch
from components.optim.optimizers import OPTIMIZERS, OptimizerSpec
from components.optim.range_test.bounds import (
    FACTOR_SPREAD,
    FAMILY_FACTOR,
    LrBounds,
    _estimate,
    analyse_curves,
    factor_family,
)
from components.optim.stepper import Stepper
from components.training.engine import Device, Learner, Preprocessing
from components.training.ramp import ramp_rates, ramp_schedule, run_ramp

SPEC = OPTIMIZERS["adamw"]


@pytest.fixture
def one_thread():
    """Such small networks are slowed down by more threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def analyse(
    curves: pd.DataFrame, constant_loss: float = math.log(2), samples: int = 40, spec: OptimizerSpec = SPEC
) -> LrBounds:
    return analyse_curves(
        curves, constant_loss=constant_loss, constant_spread=0.0, spec=spec, bootstrap_samples=samples, seed=0
    )


@pytest.mark.parametrize("half_drop", [1e-4, 1e-3, 1e-2])
def test_a_planted_half_drop_is_found_without_noise(ramps, half_drop):
    lr = ramps.rates()
    bounds = analyse(ramps.record(lr, [ramps.falling(lr, half_drop=half_drop, diverging=100 * half_drop)] * 3))
    assert not bounds.abstained
    assert math.log10(bounds.lr50 / half_drop) == pytest.approx(0, abs=0.02)
    assert bounds.lr50 < bounds.centre < 100 * half_drop
    assert bounds.lr50 < bounds.suggested <= bounds.centre * FAMILY_FACTOR["adaptive"]
    assert bounds.lower < bounds.suggested < bounds.upper
    # A tenth of a logistic drop of width 0.15 is reached 0.15 · ln 9 = 0.33 decades earlier.
    assert math.log10(bounds.lower / half_drop) == pytest.approx(-0.33, abs=0.06)


def test_a_planted_half_drop_is_found_under_noise(ramps):
    lr = ramps.rates()
    loss = ramps.falling(lr)
    planted = analyse(ramps.record(lr, [loss] * 3)).centre
    errors, centres, covered = [], [], 0
    for repeat in range(20):
        bounds = analyse(ramps.record(lr, ramps.noisy(loss, seeds=3, noise=0.1, seed=repeat)))
        assert not bounds.abstained
        errors.append(math.log10(bounds.lr50 / 1e-3))
        centres.append(math.log10(bounds.centre / planted))
        covered += bounds.band[0] <= planted * FAMILY_FACTOR["adaptive"] <= bounds.band[1]
    assert abs(np.mean(errors)) < 0.05
    assert np.max(np.abs(errors)) < 0.2
    assert np.max(np.abs(centres)) < 0.2
    assert covered >= 18


def test_the_rising_tail_does_not_move_the_half_drop(ramps):
    lr = ramps.rates()
    near = analyse(ramps.record(lr, [ramps.falling(lr, diverging=0.02)] * 3))
    far = analyse(ramps.record(lr, [ramps.falling(lr, diverging=1.0)] * 3))
    assert math.log10(near.lr50 / far.lr50) == pytest.approx(0, abs=0.06)


def test_the_drop_counts_from_the_constant_prediction_not_from_the_first_loss(ramps):
    lr = ramps.rates()
    low = analyse(ramps.record(lr, [ramps.falling(lr, above=0.0)] * 3))
    high = analyse(ramps.record(lr, [ramps.falling(lr, above=2.0)] * 3))
    assert high.drop == pytest.approx(low.drop, abs=0.01)
    assert math.log10(high.lr50 / low.lr50) == pytest.approx(0, abs=0.05)


def flat(lr, ramps):
    return [np.full_like(lr, ramps.constant)] * 3


def pure_noise(lr, ramps):
    return ramps.noisy(np.full_like(lr, ramps.constant), seeds=3, noise=0.1, seed=3)


def never_falling(lr, ramps):
    return ramps.noisy(ramps.constant + 0.2 + 0.1 * (lr / 0.01), seeds=3, noise=0.02, seed=3)


def class_balance_only(lr, ramps):
    learned = 0.8 / (1 + np.exp((np.log10(lr) + 3) / 0.15))
    return ramps.noisy(ramps.constant + learned, seeds=3, noise=0.005, seed=3)


@pytest.mark.parametrize(
    ("losses", "reason"),
    [
        (flat, "% of the constant"),
        (pure_noise, "within the noise"),
        (never_falling, "never fell below"),
        (class_balance_only, "% of the constant"),
    ],
)
def test_curves_without_a_drop_make_it_abstain_with_the_defaults_and_a_reason(ramps, losses, reason):
    lr = ramps.rates()
    bounds = analyse(ramps.record(lr, losses(lr, ramps)))
    assert bounds.abstained
    assert reason in bounds.reason
    assert (bounds.lower, bounds.upper) == SPEC.default_bounds
    assert bounds.suggested == SPEC.default_lr
    assert bounds.lr50 is None


def test_pure_noise_almost_never_gets_a_suggestion(ramps):
    lr = ramps.rates()
    curves = (ramps.noisy(np.full_like(lr, ramps.constant), seeds=3, noise=0.1, seed=repeat) for repeat in range(40))
    assert sum(not analyse(ramps.record(lr, losses)).abstained for losses in curves) <= 2


def test_rare_defects_in_small_batches_do_not_look_like_learning(ramps):
    # 2 % defects in batches of 16: the constant prediction costs 0.098 in the mean and 0.020 in the median.
    lr, share = ramps.rates(), 0.02
    generator = np.random.default_rng(5)
    costs = -np.log(share), -np.log(1 - share)
    defects = generator.binomial(16, share, size=(3, len(lr)))
    losses = [(row * costs[0] + (16 - row) * costs[1]) / 16 for row in defects]
    constant = share * costs[0] + (1 - share) * costs[1]
    assert np.median(losses) < 0.25 * constant
    assert analyse(ramps.record(lr, losses), constant_loss=constant).abstained


class Vectors(Device):
    """Vectors go to the model as they are."""

    def inputs(self, batch: Batch, preprocessing: Preprocessing) -> torch.Tensor:
        return batch.images


def real_ramps(images: torch.Tensor, labels: torch.Tensor) -> pd.DataFrame:
    """Three curves of a small network over six decades, on batches of 32."""
    steps, rates = [], ramp_rates(1e-6, 1.0, 20)
    for seed in range(3):
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(labels), generator=generator)
        batches = [Batch(images[index], labels[index], index) for index in order.split(32)]
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 2))
        optimizer = torch.optim.AdamW(model.parameters(), lr=rates[-1])
        learner = Learner(
            model=model,
            stepper=Stepper(model, optimizer, ramp_schedule(rates), clip_grad_norm=None, freeze_steps=0),
            loss=nn.CrossEntropyLoss(),
            device=Vectors(torch.device("cpu")),
            preprocessing=Preprocessing.from_unit_scale((0.5,) * 3, (0.5,) * 3),
            seed=seed,
            averaged=None,
            calibration=lambda: (),
        )
        held_out = Batch(images[:32], labels[:32], torch.arange(32))
        steps += run_ramp(learner, lambda epoch, own=batches: own, held_out, rates=rates, interval=10, num_classes=2)
    return pd.DataFrame(steps)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.02])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_a_real_ramp_on_flat_images_or_on_noise_abstains_balanced_or_not(one_thread, spread, share):
    generator = torch.Generator().manual_seed(7)
    images = spread * torch.randn(4000, 8, generator=generator)
    labels = (torch.arange(4000) < share * 4000).long()
    constant = -share * math.log(share) - (1 - share) * math.log(1 - share)
    assert analyse(real_ramps(images, labels), constant_loss=constant).abstained


def test_a_real_ramp_on_what_can_be_learned_does_not_abstain(one_thread):
    images = torch.randn(4000, 8, generator=torch.Generator().manual_seed(7))
    bounds = analyse(real_ramps(images, (images[:, 0] > 0).long()))
    assert not bounds.abstained
    assert 1e-3 < bounds.suggested < 3e-1  # Adam moves a weight by the rate at each step; they are of order 0.1


def test_rules_that_disagree_by_more_than_a_decade_make_it_abstain(ramps):
    lr = ramps.rates()
    x = np.log10(lr)
    # A long slow fall, in whose middle the valley rule looks, then a late sharp drop, which holds the half-drop.
    loss = ramps.constant - 0.1 * np.clip((x + 6) / 4.5, 0, 1) - 0.3 / (1 + np.exp(-(x + 0.7) / 0.02))
    bounds = analyse(ramps.record(lr, [loss] * 3))
    assert bounds.abstained
    assert "decades apart" in bounds.reason


def test_a_long_fall_to_the_class_balance_is_not_the_valley_of_the_drop(ramps):
    lr = ramps.rates()
    # 0.4 nats down to the constant prediction over four decades, then a drop of 0.2: 10 % defects do this.
    slow = 0.4 * np.clip((-2 - np.log10(lr)) / 4, 0, 1)
    loss = ramps.constant + slow - 0.2 / (1 + np.exp(-(np.log10(lr) + 1.5) / 0.05)) + 1e-3 * lr
    bounds = analyse(ramps.record(lr, [loss] * 3))
    assert not bounds.abstained
    assert abs(math.log10(bounds.valley) + 1.5) < 0.5


def test_seeds_that_diverge_at_different_steps_are_read_together(ramps):
    lr = ramps.rates()
    loss = ramps.falling(lr, diverging=0.05)
    losses = [loss[: np.searchsorted(lr, end)] for end in (0.06, 0.1, 0.2)]
    bounds = analyse(ramps.record(lr, losses))
    assert not bounds.abstained
    assert math.log10(bounds.lr50 / 1e-3) == pytest.approx(0, abs=0.05)
    assert 0.05 < bounds.lr_div <= 0.2
    assert bounds.upper <= bounds.lr_div / 2 * (1 + 1e-9)


def test_one_early_divergence_of_three_does_not_decide(ramps):
    lr = ramps.rates()
    loss = ramps.falling(lr)
    unlucky = loss.copy()
    unlucky[np.searchsorted(lr, 1e-4) :] = np.nan
    bounds = analyse(ramps.record(lr, [loss, loss, unlucky]))
    assert math.log10(bounds.lr50 / 1e-3) == pytest.approx(0, abs=0.05)
    assert any("seeds diverged" in warning for warning in bounds.warnings)


def test_a_tail_of_nan_is_a_divergence(ramps):
    lr = ramps.rates()
    loss = ramps.falling(lr, diverging=10.0)
    end = int(np.searchsorted(lr, 0.03))
    loss[end:] = np.nan
    bounds = analyse(ramps.record(lr, [loss] * 3))
    assert not bounds.abstained
    assert bounds.lr_div == pytest.approx(lr[end])
    assert bounds.upper == pytest.approx(min(lr[end] / 2, 3 * bounds.lr_min))


def test_a_gradient_that_is_not_finite_is_a_divergence_too(ramps):
    lr = ramps.rates()
    curves = ramps.record(lr, [ramps.falling(lr, diverging=10.0)] * 3)
    end = int(np.searchsorted(lr, 0.03))
    curves.loc[curves["step"] == end, "grad_norm"] = np.inf
    assert analyse(curves).lr_div == pytest.approx(lr[end])


def test_a_ramp_that_diverges_at_once_makes_it_abstain(ramps):
    lr = ramps.rates()
    bounds = analyse(ramps.record(lr, [np.array([0.7, np.nan])] * 3))
    assert bounds.abstained
    assert "start it lower" in bounds.reason
    assert bounds.fit == {"lr": [], "loss": []}


def test_the_bounds_stay_inside_the_ramp_and_in_order(ramps):
    lr = ramps.rates(1e-4, 1e-2)
    bounds = analyse(ramps.record(lr, [ramps.falling(lr, half_drop=1.2e-3, diverging=10.0)] * 3))
    assert lr[0] <= bounds.lower < bounds.suggested < bounds.upper <= lr[-1]
    assert bounds.upper == pytest.approx(lr[-1])


def test_a_drop_just_before_the_divergence_still_leaves_room_for_a_search(ramps):
    lr = ramps.rates()
    loss = ramps.falling(lr, half_drop=1e-2, diverging=1e9)
    loss[lr > 2.5e-2] = np.nan
    bounds = analyse(ramps.record(lr, [loss] * 3))
    assert bounds.lower <= bounds.suggested <= bounds.upper
    assert bounds.upper <= bounds.lr_div / 2 * (1 + 1e-9)
    assert math.log10(bounds.upper / bounds.lower) >= 0.5 - 1e-9


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(6e-4, 1.0, "start the ramp lower"), (1e-6, 2e-3, "end it higher")],
)
def test_a_ramp_that_misses_an_end_of_the_drop_is_said(ramps, low, high, said):
    lr = ramps.rates(low, high)
    bounds = analyse(ramps.record(lr, [ramps.falling(lr, above=0.0)] * 3))
    assert any(said in warning for warning in bounds.warnings)


def test_a_start_below_the_constant_prediction_counts_the_drop_from_there(ramps):
    lr = ramps.rates()
    bounds = analyse(ramps.record(lr, [ramps.falling(lr, above=0.0) - 0.2] * 3))
    assert bounds.drop == pytest.approx(0.4, abs=0.02)
    assert math.log10(bounds.lr50 / 1e-3) == pytest.approx(0, abs=0.05)
    assert any("counted from there" in warning for warning in bounds.warnings)


def test_a_thin_plan_is_said(ramps):
    lr = ramps.rates(1e-5, 3e-3, steps_per_decade=10)
    warnings = " ".join(analyse(ramps.record(lr, [ramps.falling(lr)])).warnings)
    assert "1 seed:" in warnings
    assert "10 steps per decade" in warnings
    assert "spans 2.5 decades" in warnings


def test_a_held_out_loss_that_never_falls_is_said(ramps):
    lr = ramps.rates()
    loss = ramps.falling(lr)
    agreeing = analyse(ramps.record(lr, [loss] * 3, heldout=loss + 0.01))
    assert not [warning for warning in agreeing.warnings if "held-out" in warning]
    stuck = analyse(ramps.record(lr, [loss] * 3, heldout=np.full_like(lr, ramps.constant + 0.05)))
    assert any("memorising" in warning for warning in stuck.warnings)


@pytest.mark.parametrize(
    ("optimizer", "family"),
    [
        ("sgd", "sgd"),
        ("schedulefree_sgd", "sgd"),
        ("rmsprop", "adaptive"),
        ("adagrad", "adagrad"),
        ("lamb", "adaptive"),
    ],
)
def test_every_optimizer_has_the_factor_of_its_family(optimizer, family):
    assert factor_family(optimizer) == family
    assert FAMILY_FACTOR[family] >= 1


def test_the_factor_stops_at_half_the_diverging_rate(ramps):
    lr = ramps.rates()
    loss = ramps.falling(lr, diverging=1e9)
    loss[lr > 4e-3] = np.nan  # half of it is 2e-3, the half-drop of 1e-3 times the factor 6e-3
    bounds = analyse(ramps.record(lr, [loss] * 3))
    assert bounds.suggested == bounds.upper == pytest.approx(bounds.lr_div / 2)
    assert bounds.lower <= bounds.band[0] <= bounds.suggested <= bounds.band[1] <= bounds.upper


def test_no_rate_is_suggested_at_which_the_loss_has_risen_again(ramps):
    lr = ramps.rates()
    loss = ramps.falling(lr, half_drop=1e-3, diverging=1e9)
    loss[lr > 2e-3] += 0.5
    curves = ramps.record(lr, ramps.noisy(loss, seeds=3, noise=0.01, seed=0))
    bounds = analyse(curves)
    assert bounds.lr_min <= bounds.suggested < bounds.centre * FAMILY_FACTOR["adaptive"]
    assert bounds.lower < bounds.suggested <= bounds.upper
    assert bounds.band[0] <= bounds.suggested <= bounds.band[1] <= bounds.upper


def test_a_rise_does_not_limit_adagrad_whose_steps_shrink(ramps):
    lr = ramps.rates()
    loss = ramps.falling(lr, half_drop=1e-3, diverging=1e9)
    loss[lr > 3e-3] += 0.3
    bounds = analyse(ramps.record(lr, [loss] * 3), spec=OPTIMIZERS["adagrad"])
    assert bounds.suggested == pytest.approx(bounds.centre * FAMILY_FACTOR["adagrad"], rel=0.01)
    assert bounds.suggested > bounds.lr_min


def test_centres_that_scatter_give_the_default_rate_a_part():
    # Centres of -3.3 and -2.7: variance .09, and .09 / (.09 + 1) of the way from -2 to the default's -4.
    suggested, (low, high) = _estimate(-3.0, np.array([-3.3, -2.7]), factor=10.0, prior=1e-4)
    assert suggested == pytest.approx(-2.0 - 2.0 * 0.09 / 1.09)
    # 5 % and 95 % of two values lie .27 from their middle; the factor adds 1.645 · .2 in quadrature.
    assert suggested - low == high - suggested == pytest.approx(math.hypot(0.27, 1.645 * FACTOR_SPREAD))


def test_centres_that_agree_leave_the_default_rate_out():
    suggested, (low, high) = _estimate(-3.0, np.array([-3.0, -3.0]), factor=10.0, prior=1e-4)
    assert (suggested, high - low) == pytest.approx((-2.0, 2 * 1.645 * FACTOR_SPREAD))


def test_the_centre_hardly_depends_on_the_steps_per_decade(ramps):
    found = []
    for density in (10, 20, 40):
        lr = ramps.rates(steps_per_decade=density)
        found.append(math.log10(analyse(ramps.record(lr, [ramps.falling(lr)] * 3)).centre))
    assert max(found) - min(found) < 0.02


def test_the_same_curves_and_seed_give_the_same_bounds(ramps):
    lr = ramps.rates()
    curves = ramps.record(lr, ramps.noisy(ramps.falling(lr), seeds=3, noise=0.1, seed=1))
    shuffled = curves.sample(frac=1, random_state=1)
    assert analyse(curves) == analyse(shuffled)


def test_the_record_survives_json(ramps):
    lr = ramps.rates()
    for losses in ([ramps.falling(lr)] * 3, flat(lr, ramps), [np.array([np.nan])] * 3):
        bounds = analyse(ramps.record(lr, losses))
        text = json.dumps(bounds.to_dict(), allow_nan=False)
        assert LrBounds.from_dict(json.loads(text)) == bounds


def test_seeds_of_different_ramps_are_refused(ramps):
    lr = ramps.rates()
    curves = ramps.record(lr, [ramps.falling(lr)] * 2)
    curves.loc[curves["seed"] == 1, "lr"] *= 2
    with pytest.raises(ValueError, match="different ramps"):
        analyse(curves)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="no step"):
        analyse(pd.DataFrame(columns=["seed", "step", "lr", "loss", "grad_norm", "heldout_loss"]))
