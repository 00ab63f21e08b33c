"""The section `search`: the space, the sampler, the scheduler, the limits and the confirmation."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.sections.base import Section

SamplerName = Literal["random", "grid", "tpe", "hybrid", "lipschitz", "hierarchical"]
SchedulerName = Literal["auto", "asha", "hyperband", "median", "none"]

#: Epochs before the first rung, with `grace_epochs: auto`. Over trials that were never stopped the score after one
#: epoch had a rank correlation of .04 with the final one, after three of .37.
LEAST_GRACE = 3
#: Samplers that bring a stopping rule of their own, or that compare trials of full length alone.
UNSTOPPED_SAMPLERS = ("grid", "lipschitz", "hierarchical")
#: Samplers that go on as long as it pays.
ADAPTIVE_SAMPLERS = ("tpe", "hybrid")


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
    when: dict[str, Any] = Field(default_factory=dict)
    """Searched only where each of these keys has the value, or one of the list of values, that is given."""

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        interval = self.low is not None or self.high is not None
        if sum([self.choices is not None, interval, self.bounds is not None]) != 1:
            raise ValueError("give exactly one of: choices, low with high, bounds")
        if self.choices is not None and not self.choices:
            raise ValueError("choices is empty; name at least one")
        if self.choices is not None and any(self.choices.count(choice) > 1 for choice in self.choices):
            raise ValueError("choices names a value twice; name each once")
        if interval:
            if self.low is None or self.high is None:
                raise ValueError("an interval needs both low and high")
            if self.low >= self.high:
                raise ValueError(f"low={self.low:g} must be below high={self.high:g}")
            if self.log and self.low <= 0:
                raise ValueError(f"low={self.low:g} must be above 0 on a log scale")
        if self.bounds is not None and self.sets != "recipe.lr":
            raise ValueError("bounds: range_test exists for recipe.lr only; give low and high")
        if self.sets in self.when:
            raise ValueError(f"when: {self.sets} cannot depend on itself")
        return self

    def conditions(self) -> dict[str, tuple[Any, ...]]:
        """`when`, each key with all its values."""
        return {key: tuple(value) if isinstance(value, list | tuple) else (value,) for key, value in self.when.items()}


DEFAULT_SPACE = (
    Dimension(sets="recipe.optimizer", choices=("adamw", "sgd")),
    Dimension(sets="recipe.lr", bounds="range_test"),
    Dimension(sets="recipe.weight_decay", low=1e-5, high=0.1, log=True),
    Dimension(sets="recipe.layer_decay", choices=(1.0, 0.9, 0.75)),
    Dimension(sets="recipe.augment_strength", low=0.0, high=1.0),
)


class SearchConfig(Section):
    space: tuple[Dimension, ...] = DEFAULT_SPACE
    """What trials vary: each entry `sets` a key, from `choices`, between `low` and `high`, or within `bounds`; with
    `when`, only where other keys have certain values."""
    num_trials: int = Field(default=7, ge=0)
    """Trials, the defaults as trial 0 among them; 0: no search, the defaults are trained. Seven are the defaults and
    the portfolio."""
    sampler: SamplerName = "hybrid"
    """`random` (a Latin hypercube), `grid` (coarse to fine, cross-validated where `folds` are given), `tpe` (Optuna's
    Tree-structured Parzen Estimator), `hybrid` (a portfolio of recipes, a Latin hypercube, then TPE), `lipschitz` (a
    bandit over the rate alone), `hierarchical` (rate and batch size coarsely, then the best more finely, then the
    layers)."""
    startup_trials: int | None = Field(default=None, ge=1)
    """tpe, hybrid: trials before it adapts, drawn at random but for the portfolio's; null: ten; hybrid: at most two
    thirds of the trials."""
    folds: int = Field(default=0, ge=0, le=20)
    """grid: folds on which the best of the last level are cross-validated; 0: trials are scored on the first fold
    alone, or on val. With `data.design: cross_fit` those beyond the first still certify, which costs confidence, and
    nothing is confirmed on any of them. Their classifiers start from random weights in `hold_out`, where frozen
    features are fitted on all of train."""
    scheduler: SchedulerName = "auto"
    """What stops a trial early: `auto` (`asha`; `none` for grid, lipschitz and hierarchical), `asha`, `hyperband` (ASHA
    from several first rungs), `median` (below the median of the others), `none`."""
    horizon: Literal["constant", "wsd", "fixed"] = "constant"
    """How trials of different length are made comparable: `constant` (a constant rate, averaged weights), `wsd` (at
    each rung a copy is cooled down and scored, the trial itself continues), `fixed` (the recipe's schedule over
    `max_epochs`)."""
    max_epochs: int = Field(default=9, ge=1)
    """Epochs of a trial that is never stopped."""
    grace_epochs: int | Literal["auto"] = "auto"
    """The first rung: no trial is stopped before it. `auto`: a third of `max_epochs`, and three epochs at least (the
    score after one says nothing of the final one)."""
    stop_at_noise: bool = True
    """tpe, hybrid: end the search where the remaining trials are expected to raise the best score by less than half of
    the noise between seeds, but not before the portfolio has been tried."""
    reduction_factor: int = Field(default=3, ge=2)
    """At each rung one trial in this many continues."""
    unstopped_fraction: float = Field(default=0.1, ge=0, le=1)
    """Share of the trials, drawn at random, that are never stopped: how well a rung predicts the final score is
    measured on them. None is drawn where they would be fewer than four."""
    ema_decay: float = Field(default=0.9, gt=0, lt=1)
    """constant: decay of the averaged weights that trials are compared on (see docs/search.md)."""
    fork_fraction: float = Field(default=0.15, gt=0, lt=1)
    """wsd: length of the cooldown at a rung, as a share of the steps so far."""
    confirm: Literal["auto", "always", "never"] = "auto"
    """Whether winner and defaults are compared at full length: `auto` where that could detect the possible
    gain. The recipe of the higher expected quality is kept. Without a comparison that is the winner only where it
    gained more than .20 in the search (see docs/search.md)."""
    confirm_seeds: int = 3
    """Pairs of trainings of a comparison, each from another seed. With `data.design: cross_fit` there is instead one
    for each fold on which the search has compared nothing: none of the first, or of the first `folds`."""
    confirm_confidence: float = Field(default=0.9, gt=0.5, lt=1)
    """Confidence at which a difference is called certain, and could be detected: with `confirm: auto` whether recipes
    are compared depends on it, but not which is kept then."""
    time_budget_minutes: float | None = Field(default=None, gt=0)
    """No trial runs beyond it; null: none."""
    gpu_hours: float | None = Field(default=None, gt=0)
    """Budget over all trials, each counted by the share of a GPU that it asks for; null: none."""
    epoch_timeout_minutes: float = Field(default=60, gt=0)
    """A trial that needs longer for one epoch is taken for hanging, and ended."""
    failure_limit: float = Field(default=0.5, gt=0, le=1)
    """The search stops when more than this share of the trials (of four at least) has failed."""
    checkpoint_quota_gb: float = Field(default=10.0, gt=0)
    """Checkpoints of ended trials that are kept; the lowest scores go first."""
    measure_latency: bool = False
    """Measure how long each trial's model takes for one image, and report the Pareto front of quality and latency."""

    @field_validator("grace_epochs")
    @classmethod
    def _at_least_one(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 1:
            raise ValueError("give at least 1, or auto")
        return value

    @field_validator("confirm_seeds")
    @classmethod
    def _a_pair(cls, value: int) -> int:
        if value < 1:
            raise ValueError("nothing would be compared; give at least 1, or set search.confirm to never")
        return value

    @field_validator("folds")
    @classmethod
    def _several(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one fold holds nothing out; give 0, or at least 2")
        return value

    @model_validator(mode="after")
    def _rungs(self) -> SearchConfig:
        if self.first_rung > self.max_epochs:
            raise ValueError(f"grace_epochs={self.grace_epochs} must not exceed max_epochs={self.max_epochs}")
        return self

    @model_validator(mode="after")
    def _sensible_pair(self) -> SearchConfig:
        if self.sampler in UNSTOPPED_SAMPLERS and self.scheduler not in ("auto", "none"):
            raise ValueError(
                f"sampler={self.sampler} compares trials of full length, and scheduler={self.scheduler} ends "
                "them early; use the scheduler none, or the sampler random, tpe or hybrid"
            )
        if self.folds and self.sampler != "grid":
            raise ValueError(f"folds={self.folds}: only the sampler grid cross-validates; use it, or set folds to 0")
        if self.scheduler_name == "median" and self.horizon == "wsd":
            raise ValueError(
                "scheduler=median compares trials after every epoch, and horizon=wsd cools them down at the rungs "
                "alone; use the scheduler asha, or the horizon constant"
            )
        if self.horizon == "fixed" and self.scheduler_name in ("asha", "hyperband", "median"):
            least = -(-self.max_epochs // 4)
            if self.first_rung < least:
                raise ValueError(
                    f"horizon=fixed compares trials in the midst of their schedule; grace_epochs={self.grace_epochs} "
                    f"must be a quarter of max_epochs={self.max_epochs} at least: {least}"
                )
        return self

    @property
    def first_rung(self) -> int:
        """The epoch of the first rung, with `auto` resolved."""
        if isinstance(self.grace_epochs, int):
            return self.grace_epochs
        return min(self.max_epochs, max(LEAST_GRACE, -(-self.max_epochs // 3)))

    @property
    def scheduler_name(self) -> str:
        """The scheduler, with `auto` resolved."""
        if self.scheduler != "auto":
            return self.scheduler
        return "none" if self.sampler in UNSTOPPED_SAMPLERS else "asha"
