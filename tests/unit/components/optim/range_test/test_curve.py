"""Alignment, smoothing, noise and fit of the range-test curves."""

import math

import numpy as np
import pytest

from components.optim.range_test.curve import (
    align_seeds,
    curve_noise,
    drop_centre,
    fit_drop,
    smooth_seeds,
    smoothing_kernel,
)


def test_a_seed_is_infinite_from_its_divergence_on_and_the_others_are_not(ramps):
    lr = ramps.rates()
    loss = np.full_like(lr, 0.6)
    aligned = align_seeds(ramps.record(lr, [loss, loss[:50]]), constant_loss=0.69)
    assert np.isfinite(aligned.losses[0]).all()
    assert np.isfinite(aligned.losses[1]).sum() == 50
    assert aligned.onsets.tolist() == [math.inf, pytest.approx(math.log10(lr[49]))]


def test_half_of_the_seeds_decide_where_the_test_diverged(ramps):
    lr = ramps.rates()
    loss = np.full_like(lr, 0.6)
    one = align_seeds(ramps.record(lr, [loss, loss, loss[:50]]), constant_loss=0.69)
    two = align_seeds(ramps.record(lr, [loss, loss[:70], loss[:50]]), constant_loss=0.69)
    assert one.diverged_at is None
    assert two.diverged_at == pytest.approx(math.log10(lr[69]))


def test_a_step_that_one_seed_skipped_is_interpolated(ramps):
    lr = ramps.rates()
    curves = ramps.record(lr, [-np.log10(lr)] * 2)
    gap = curves[~((curves["seed"] == 1) & (curves["step"] == 10))]
    aligned = align_seeds(gap, constant_loss=10.0)
    assert aligned.losses[1] == pytest.approx(-np.log10(lr))


def test_the_filter_is_centred(ramps):
    x = np.log10(ramps.rates())
    step = (x > -3).astype(float)
    smooth = smooth_seeds(step[None], smoothing_kernel(x))[0]
    assert np.interp(0.5, smooth, x) == pytest.approx(-2.975, abs=1e-6)  # between the two sides of the step


def test_the_centre_weighs_each_rate_by_the_square_of_the_drop_there():
    rates = np.array([-4.0, -3.0, -2.0, -1.0])
    # Fallen by 0, 1, 2 and -1, which counts as 0: (1 · -3 + 4 · -2) / 5
    assert drop_centre(rates, np.array([[3.0, 2.0, 1.0, 4.0]]), reference=3.0) == pytest.approx(-2.2)
    # A second seed diverged behind -3, where it had fallen by 1: fallen by 1 and 1 in the mean.
    seeds = np.array([[3.0, 2.0, 1.0, 4.0], [3.0, 2.0, math.inf, math.inf]])
    assert drop_centre(rates, seeds, reference=3.0) == pytest.approx(-2.5)
    assert math.isnan(drop_centre(rates, np.array([[3.0, 4.0, 5.0, math.inf]]), reference=3.0))


def test_the_estimated_noise_is_that_of_the_smoothed_median(ramps):
    lr = ramps.rates()
    kernel = smoothing_kernel(np.log10(lr))
    generator = np.random.default_rng(0)
    curves, estimates = [], []
    for _ in range(300):
        losses = generator.normal(0, 0.1, size=(3, len(lr))) + np.linspace(3, 0, len(lr))
        curves.append(np.median(smooth_seeds(losses, kernel), axis=0)[60])
        estimates.append(curve_noise(losses, kernel, until=len(lr), window=20, least=0.0))
    assert np.mean(estimates) == pytest.approx(np.std(curves), rel=0.2)


def test_a_quiet_head_does_not_hide_the_noise_at_the_lowest_point():
    x = np.linspace(-5, 0, 101)
    kernel = smoothing_kernel(x)
    generator = np.random.default_rng(0)
    noisy = generator.normal(0, 0.1, size=(200, 3, len(x)))
    quiet_head = np.where(x < -1, 0.0, noisy)  # a network that still says the same of all images
    whole = np.mean([curve_noise(losses, kernel, until=101, window=20, least=0.0) for losses in noisy])
    last = np.mean([curve_noise(losses, kernel, until=101, window=20, least=0.0) for losses in quiet_head])
    assert last == pytest.approx(whole, rel=0.15)


def test_noise_that_is_known_to_be_there_is_not_estimated_away():
    x = np.linspace(-5, 0, 101)
    kernel = smoothing_kernel(x)
    generator = np.random.default_rng(0)
    estimates = [
        curve_noise(generator.normal(0, 0.1, (3, 101)), kernel, until=101, window=101, least=0) for _ in "1234"
    ]
    known = curve_noise(np.full((3, 101), 0.7), kernel, until=101, window=101, least=0.1)
    assert known == pytest.approx(np.mean(estimates), rel=0.15)


def test_the_curve_is_cut_at_its_lowest_point_before_the_fit():
    x = np.linspace(-5, 0, 101)
    curve = np.where(x < -2, -0.2 * (x + 5), -0.6 + 2.0 * (x + 2))
    fit = fit_drop(x, curve, reference=0.0)
    assert x[fit.cut] == pytest.approx(-2, abs=0.06)
    assert (np.diff(fit.fitted) <= 0).all()
    # drop: 0.6, half of it is reached at -5 + 0.3 / 0.2 = -3.5, up to the floor's averaging
    assert fit.crossing(0.5) == pytest.approx(-3.5, abs=0.15)


def test_the_crossing_is_linear_between_two_points():
    x = np.array([-3.0, -2.0, -1.0])
    fit = fit_drop(x, np.array([1.0, 1.0, 0.0]), reference=1.0)
    assert fit.drop == pytest.approx(1.0)
    assert fit.crossing(0.25) == pytest.approx(-1.75)


def test_the_floor_ends_where_the_loss_has_risen_and_not_where_it_wavers():
    x = np.array([-6.0, -5.0, -4.0, -3.0, -2.0, -1.0])
    fit = fit_drop(x, np.array([1.0, 0.2, 0.25, 0.2001, 0.4, 0.21]), reference=1.0)
    assert [fit.floor_end(rise) for rise in (0.0, 0.1, 0.3)] == [-5, -3, -1]
    assert fit_drop(x, np.array([1.0, 0.2, 0.25, 0.3, np.inf, np.inf]), reference=1.0).floor_end(0.2) == -3
