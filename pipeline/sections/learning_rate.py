"""How the learning rate is found, watched and compared: the range test, the monitor, the comparison of methods."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from pipeline.sections.base import NAME_PATTERN, Section
from pipeline.sections.recipe import Optimizer


class RangeTestConfig(Section):
    optimizers: tuple[Optimizer, ...] | None = None
    """Which to test; null: the recipe's and those in the search space."""
    backbones: tuple[str, ...] | None = None
    """On which backbones, if `embed` keeps them; always on the model's own; null: also on those that are searched."""
    ramp: tuple[float, float] | None = None
    """Lowest and highest rate of the ramp, for every optimizer tested; null: six decades that suit each optimizer."""
    num_seeds: int = Field(default=3, ge=0)
    """Curves per optimizer; the analysis takes their median. 0: no test, and the usual rates of each optimizer."""
    steps_per_decade: int = Field(default=20, ge=5)
    """Optimizer steps while the rate rises tenfold; the ramp sweeps about six decades."""
    weight_decays: tuple[float, ...] = ()
    """Weight decays to repeat the test under; the largest that still permits as high a rate is recommended. Empty: the
    recipe's alone."""
    held_out_images: int = Field(default=32, ge=8)
    """Size of the fixed held-out batch, taken from the first fold, or from val; at most the batch size."""
    bootstrap_samples: int = Field(default=200, ge=20)
    """Resamples behind the confidence band of a suggestion."""

    @field_validator("ramp")
    @classmethod
    def _rising(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] < value[1]:
            raise ValueError("give the lowest rate, then the highest, both above 0: [1e-6, 1]")
        if value is not None and value[1] < 10 * value[0]:
            raise ValueError("spans less than a decade, in which no drop shows; give five or six: [1e-6, 1]")
        return value

    @field_validator("weight_decays")
    @classmethod
    def _decays(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(not 0 <= decay <= 1 for decay in value) or len(set(value)) < len(value):
            raise ValueError("each must be in [0, 1], and given once: [0.001, 0.01, 0.1]")
        if len(value) == 1:
            raise ValueError("one weight decay is no comparison; give two or more, or none")
        return value

    @model_validator(mode="after")
    def _tested(self) -> RangeTestConfig:
        if self.weight_decays and not self.num_seeds:
            raise ValueError("num_seeds=0 tests nothing, and weight_decays are to be compared; leave one of them out")
        return self


class MonitorConfig(Section):
    """Watches the trainings of the final model for a rate that is too high or too low."""

    action: Literal["none", "observe", "stop", "rollback"] = "observe"
    """What a rate that is too high brings about: nothing is watched; it is noted, with advice at the end; the training
    stops and keeps its best epoch; it goes back to its best epoch and on with half the rate. Raising a rate is advised,
    never done. Stopping and going back need `data.design: hold_out`."""
    max_rollbacks: int = Field(default=2, ge=1)
    """rollback: how often at most; then the training stops."""
    probe_images: int = Field(default=64, ge=8)
    """Size of the fixed batch of images whose loss is followed: of the fold that is left out, or of val."""
    probe_every: int = Field(default=10, ge=1)
    """Optimizer steps from one look at that batch to the next, at least; a training has at most 100 looks."""


class CompareEntry(Section):
    """One method of the comparison."""

    name: str = Field(pattern=NAME_PATTERN)
    """What it is called in the table."""
    sets: dict[str, Any] = Field(min_length=1)
    """Keys below `recipe` that make the method, by their dotted path; all others are the recipe's."""

    @field_validator("sets")
    @classmethod
    def _not_the_rate(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in value:
            if not key.startswith("recipe."):
                raise ValueError(f"{key} is not below recipe; methods differ in their recipes alone")
            if key == "recipe.precision":
                raise ValueError("recipe.precision is not given: rates are measured, and methods compared, in one")
            if key == "recipe.lr":
                raise ValueError("recipe.lr is not given: each method gets its own, see compare_lr.rate_factors")
        return value


def _entry(name: str, optimizer: str, schedule: str, **more: Any) -> CompareEntry:  # noqa: ANN401
    sets = {"recipe.optimizer": optimizer, "recipe.schedule": schedule}
    return CompareEntry(name=name, sets=sets | {f"recipe.{key}": value for key, value in more.items()})


DEFAULT_ENTRIES = (
    _entry("fixed", "sgd", "fixed"),
    _entry("step", "sgd", "step"),
    _entry("exponential", "sgd", "exponential"),
    _entry("cosine", "sgd", "cosine"),
    _entry("one-cycle", "sgd", "one_cycle", warmup_epochs=0.0),
    _entry("cyclic", "sgd", "triangular"),
    _entry("wsd", "sgd", "wsd"),
    _entry("plateau", "sgd", "plateau", plateau_patience=0),  # with more it is `fixed` in a short comparison
    _entry("adam", "adam", "cosine"),
    _entry("adamw", "adamw", "cosine"),
    _entry("rmsprop", "rmsprop", "cosine"),
    _entry("adagrad", "adagrad", "cosine"),
    _entry("schedule-free-adamw", "schedulefree_adamw", "fixed", ema_decay=None),  # whatever the recipe says
    _entry("cosine-layer-decay", "sgd", "cosine", layer_decay=0.9),
    _entry("adamw-layer-decay", "adamw", "cosine", layer_decay=0.9),
)


class CompareConfig(Section):
    """`escapement compare-lr`: the same model from the same start under several methods, each at its own rate."""

    entries: tuple[CompareEntry, ...] = Field(default=DEFAULT_ENTRIES, min_length=1)
    """The methods: each has a `name` and `sets` keys of the recipe; those listed here may be given by name alone."""
    epochs: int = Field(default=10, ge=1)
    """Length of every training of the comparison, in epochs."""
    num_seeds: int = Field(default=3, ge=1)
    """Trainings of each method at its rate, each from another start and in another order of the images."""
    rate_factors: tuple[float, ...] = (0.3333, 1.0, 3.0)
    """Multiples of the range test's suggestion that are tried for each method; the best on validation is its rate."""
    rate_epochs: float = Field(default=0.25, gt=0, le=1)
    """Length of these trials as a share of `epochs`, one epoch at least."""
    target_val_loss: float | None = Field(default=None, gt=0)
    """The validation loss to which steps are counted; null: the median of the lowest ones that the methods reach."""

    @field_validator("entries", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:  # noqa: ANN401 - whatever was given
        value = [value] if isinstance(value, str | dict) else value
        if not isinstance(value, list | tuple):
            return value
        known = {entry.name: entry for entry in DEFAULT_ENTRIES}
        unknown = [name for name in value if isinstance(name, str) and name not in known]
        if unknown:
            raise ValueError(f"{', '.join(unknown)} is unknown; known by name: {', '.join(known)}; others need `sets`")
        return [known[entry] if isinstance(entry, str) else entry for entry in value]

    @field_validator("rate_factors")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if not value or any(factor <= 0 for factor in value):
            raise ValueError("name at least one factor, each above 0: [0.3333, 1, 3]")
        return value

    @model_validator(mode="after")
    def _named_once(self) -> CompareConfig:
        names = [entry.name for entry in self.entries]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"entries: {', '.join(twice)} is there twice; each needs a name of its own")
        return self
