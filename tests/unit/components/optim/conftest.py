"""Synthetic range-test curves with a half-drop that is planted at a known rate."""

import math
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

CONSTANT = math.log(2)  # loss of the constant prediction with two equally frequent classes


def rates(low: float = 1e-6, high: float = 1.0, steps_per_decade: int = 20) -> np.ndarray:
    return np.geomspace(low, high, round(math.log10(high / low) * steps_per_decade) + 1)


def falling(
    lr: np.ndarray,
    *,
    half_drop: float = 1e-3,
    drop: float = 0.4,
    diverging: float = 0.1,
    above: float = 0.05,
) -> np.ndarray:
    """A loss that starts above the constant prediction, comes down to it, falls by `drop` and explodes."""
    x = np.log10(lr)
    head = above / (1 + np.exp((x - math.log10(half_drop) + 0.8) / 0.15))
    fall = drop / (1 + np.exp(-(x - math.log10(half_drop)) / 0.15))
    return CONSTANT + head - fall + 0.3 * (lr / diverging) ** 2


def record(lr: np.ndarray, losses: list[np.ndarray], heldout: np.ndarray | None = None) -> pd.DataFrame:
    """One row per seed and step; a seed may be shorter than the rates."""
    return pd.concat(
        [
            pd.DataFrame(
                {
                    "seed": seed,
                    "step": np.arange(len(loss)),
                    "lr": lr[: len(loss)],
                    "loss": loss,
                    "grad_norm": 1.0,
                    "heldout_loss": math.nan if heldout is None else heldout[: len(loss)],
                }
            )
            for seed, loss in enumerate(losses)
        ],
        ignore_index=True,
    )


def noisy(loss: np.ndarray, *, seeds: int, noise: float, seed: int) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [loss + generator.normal(0, noise, len(loss)) for _ in range(seeds)]


@pytest.fixture
def ramps():
    return SimpleNamespace(constant=CONSTANT, rates=rates, falling=falling, record=record, noisy=noisy)
