"""The rate at another batch size."""

import pytest

from components.errors import InputError
from components.optim.optimizers import batch_factor


@pytest.mark.parametrize(
    ("optimizer", "batch_size", "expected"),
    [
        ("sgd", 64, 4.0),
        ("schedulefree_sgd", 8, 0.5),
        ("adamw", 64, 2.0),
        ("lamb", 4, 0.5),
        ("rmsprop", 16, 1.0),
    ],
)
def test_sgd_follows_in_proportion_and_the_adaptive_ones_by_the_root(optimizer, batch_size, expected) -> None:
    assert batch_factor(optimizer, batch_size=batch_size, measured=16) == expected


def test_an_unknown_optimizer_has_no_factor() -> None:
    with pytest.raises(InputError, match="adamq"):
        batch_factor("adamq", batch_size=16, measured=16)
