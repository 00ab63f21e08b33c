"""What a search varies, and how long its trials may go on."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from pipeline.sections.base import Section


class Dimension(Section):
    """One searched key: a choice, or an interval."""

    sets: str
    """Dotted path of the key that a trial overrides, below `model` or `recipe`."""
    choices: tuple[Any, ...] | None = None
    low: float | None = None
    high: float | None = None
    log: bool = False
    bounds: Literal["range_test"] | None = None
    """`range_test`: low and high are those that the range test found for the trial's optimizer (log scale)."""

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        interval = self.low is not None or self.high is not None
        if sum([self.choices is not None, interval, self.bounds is not None]) != 1:
            raise ValueError("give exactly one of: choices, low with high, bounds")
        if self.choices is not None and not self.choices:
            raise ValueError("choices is empty; name at least one")
        if interval:
            if self.low is None or self.high is None:
                raise ValueError("an interval needs both low and high")
            if self.low >= self.high:
                raise ValueError(f"low={self.low:g} must be below high={self.high:g}")
            if self.log and self.low <= 0:
                raise ValueError(f"low={self.low:g} must be above 0 on a log scale")
        if self.bounds is not None and self.sets != "recipe.lr":
            raise ValueError("bounds: range_test exists for recipe.lr only; give low and high")
        return self


DEFAULT_SPACE = (
    Dimension(sets="recipe.optimizer", choices=("adamw", "sgd")),
    Dimension(sets="recipe.lr", bounds="range_test"),
    Dimension(sets="recipe.weight_decay", low=1e-5, high=0.1, log=True),
    Dimension(sets="recipe.layer_decay", choices=(1.0, 0.9, 0.75)),
    Dimension(sets="recipe.augment_strength", low=0.0, high=1.0),
)


class SearchConfig(Section):
    num_trials: int = Field(default=16, ge=0)
    """Trials, the defaults as trial 0 among them; 0: no search, the defaults are trained."""
    max_epochs: int = Field(default=9, ge=1)
    """Epochs of a trial that is never stopped."""
    grace_epochs: int = Field(default=1, ge=1)
    """The first rung: no trial is stopped before it."""
    reduction_factor: int = Field(default=3, ge=2)
    """At each rung one trial in this many goes on."""
    ema_decay: float = Field(default=0.9, gt=0, lt=1)
    """Trials run at a constant rate and are compared on averaged weights (see docs/architecture.md)."""
    space: tuple[Dimension, ...] = DEFAULT_SPACE
    """What trials vary: each entry `sets` a key, from `choices`, between `low` and `high`, or within `bounds`."""

    @model_validator(mode="after")
    def _rungs(self) -> SearchConfig:
        if self.grace_epochs > self.max_epochs:
            raise ValueError(f"grace_epochs={self.grace_epochs} must not exceed max_epochs={self.max_epochs}")
        return self
