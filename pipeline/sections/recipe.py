"""What shapes one training: the model, and the recipe that range test, search and final training share."""

from __future__ import annotations

import re
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field, field_validator, model_validator

from components.errors import InputError
from pipeline.sections.base import Location, Section

#: Keys of the schedule of the final training: the range test and most searches do not use them.
SCHEDULE_KEYS = (
    "recipe.schedule",
    "recipe.final_lr_fraction",
    "recipe.schedule_drops",
    "recipe.schedule_cycles",
    "recipe.cycle_growth",
    "recipe.cycle_low",
    "recipe.rise_fraction",
    "recipe.cooldown_fraction",
    "recipe.plateau_factor",
    "recipe.plateau_patience",
    "recipe.ema_decay",
)
#: Keys of the objective, which do not change a training.
OBJECTIVE_KEYS = ("recipe.objective", "recipe.escape_budget", "recipe.escape_cost", "recipe.defect_rate")
#: Keys that only have an effect with one value of another key.
NEEDS = {
    "recipe.focal_gamma": ("recipe.loss", "focal"),
    "recipe.class_balanced_beta": ("recipe.loss", "class_balanced"),
}

Augmentation = Literal[
    "horizontal_flip", "vertical_flip", "quarter_turns", "shift", "light", "noise", "blur", "dropout"
]
ScheduleName = Literal[
    "auto",
    "fixed",
    "step",
    "exponential",
    "cosine",
    "cosine_restarts",
    "triangular",
    "triangular2",
    "exp_range",
    "one_cycle",
    "wsd",
    "plateau",
]
#: Our own optimizers, known without importing torch; a test holds them to `components/optim/optimizers.py`.
OWN_OPTIMIZERS = (
    "sgd",
    "momentum",
    "sgd_plain",
    "adam",
    "adamw",
    "rmsprop",
    "adagrad",
    "schedulefree_adamw",
    "schedulefree_sgd",
)
SCHEDULE_FREE = tuple(name for name in OWN_OPTIMIZERS if name.startswith("schedulefree_"))


def _known_optimizer(name: str) -> str:
    """One of ours, or of timm's, which is imported for no other name. Capital letters make no other name."""
    name = name.strip().lower()
    if name in OWN_OPTIMIZERS:
        return name
    from components.optim.optimizers import optimizer_spec

    try:
        optimizer_spec(name)
    except InputError as error:
        raise ValueError(str(error).partition(": ")[2]) from error
    return name


Optimizer = Annotated[str, AfterValidator(_known_optimizer)]


def _known_weights(value: object) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if text.lower() in ("none", "pretrained", "package"):
        return text.lower()
    if not re.match(r"file:.", text, re.IGNORECASE | re.DOTALL):
        raise ValueError("use none (a random start), pretrained, package, or file:/path/to/weights.safetensors")
    return f"file:{text[5:]}"


class ModelConfig(Section):
    backbone: str = "resnet18"
    """Any timm model."""
    weights: Annotated[Location, BeforeValidator(_known_weights)] = "pretrained"
    """`pretrained` (timm's hub), `package` (an installed weight package), `file:/path.safetensors`, or `none`.
    Of a file, prefixes such as `module.` are taken off, one input channel is spread over three, any float type read."""
    drop_rate: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the classifier."""
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1)
    """Stochastic depth."""


class RecipeConfig(Section):
    objective: Literal["average_precision", "auroc", "balanced_accuracy", "overkill_at_budget", "cost"] = (
        "average_precision"
    )
    """Metric, on images that a training has not seen, that compares recipes, views and epochs; all but
    balanced_accuracy need a good class.
    `overkill_at_budget`: 1 − the overkill rate at the threshold that keeps the escape budget; `cost`: 1 − the expected
    cost of a part at the best threshold, as a share of the cost of accepting all or of rejecting all, whichever is
    less."""
    escape_budget: float | None = Field(default=None, gt=0, lt=1)
    """overkill_at_budget: largest escape rate on the images that are scored; null: that of the operating point. It
    limits the counted rate, not its upper bound: few defectives could not meet a bound, and every model would score
    alike."""
    escape_cost: float = Field(default=10.0, gt=0)
    """cost: what an escape costs, an overkill costing 1."""
    defect_rate: float | None = Field(default=None, gt=0, lt=1)
    """cost: share of defective parts on the line; null: that of the images that are scored."""
    optimizer: Optimizer = "adamw"
    """`sgd` (Nesterov, momentum 0.9), `momentum` (without Nesterov), `sgd_plain` (without momentum), `adam`, `adamw`,
    `rmsprop`, `adagrad`, `schedulefree_adamw`, `schedulefree_sgd`, or any of timm's by its name (`lamb`, `lion`, …)."""
    lr: float | Literal["auto"] = "auto"
    """Peak learning rate; `auto`: the suggestion of the optimizer's range test."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """Not applied to biases and norms."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Ratio of the rates of neighbouring layer groups; 1: the same rate everywhere, 0.75 to 0.95 is usual."""
    layer_decay_towards: Literal["input", "output"] = "input"
    """The end whose layers get the smaller rates. `input` keeps early features; `output` is for experiments."""
    head_lr_ratio: float = Field(default=1.0, gt=0)
    """Rate of the new classifier as a multiple of that of the backbone; above 1 it learns faster."""
    head_start: Literal["auto", "always", "never"] = "auto"
    """Start the classifier from the linear one that the stage embed fits to the backbone's frozen features, instead of
    near zero; not with random weights (model.weights=none), nor where it predicts no better than a constant. `auto`: in
    trainings that see up to 6,000 images, repeats counted."""
    freeze_epochs: float = Field(default=0.0, ge=0)
    """Epochs at the start in which only the classifier learns; the backbone and its norm statistics are frozen."""
    batch_size: int | Literal["auto"] = "auto"
    """Images per optimizer step. `auto`: 32, and fewer where fewer than 1,600 images teach, down to 8: the epochs then
    have more steps in the same time."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What the model computes in, in training and on the line (autocast; the weights stay float32). `auto`: bfloat16 on
    a GPU that has units for it (NVIDIA Ampere or later), and on a CPU that has it where a few timed steps of training
    take at most 0.85 of their time in float32; float32 elsewhere."""
    image_size: int | None = Field(default=None, ge=32)
    """Side, px, to which images are resized before the model sees them, in training and on the line; null:
    `data.image_size`, which it must not exceed."""
    grow_from: int | None = Field(default=None, ge=32)
    """Side, px, to which images are resized in the first part of a training, which then costs less; null: they have
    their full size from the start. Evaluation is always at full size."""
    grow_share: float = Field(default=0.6, gt=0, lt=1)
    """Share of the steps that are taken at that size."""
    schedule: ScheduleName = "auto"
    """How the rate changes over a training of full length, after warmup: `fixed`, `step`, `exponential`, `cosine`,
    `cosine_restarts`, `triangular`, `triangular2`, `exp_range`, `one_cycle`, `wsd` or `plateau`. `auto`: cosine, and
    fixed for the schedule-free optimizers, which take no other."""
    final_lr_fraction: float = Field(default=0.01, gt=0, lt=1)
    """The rate at the end as a share of the peak: of the training, of each restart, of the amplitude of exp_range; for
    plateau the lowest."""
    schedule_drops: int = Field(default=2, ge=1)
    """step: number of equal drops from the peak to the end."""
    schedule_cycles: int = Field(default=3, ge=1)
    """cosine_restarts, triangular, triangular2, exp_range: cycles over the training."""
    cycle_growth: float = Field(default=1.0, ge=1, le=10)
    """cosine_restarts: how much longer each cycle is than the one before."""
    cycle_low: float = Field(default=0.25, gt=0, lt=1)
    """triangular, triangular2, exp_range: the low rate as a share of the peak."""
    rise_fraction: float = Field(default=0.3, gt=0, lt=1)
    """one_cycle: share of the training in which the rate rises, from a 25th of the peak."""
    cooldown_fraction: float = Field(default=0.2, gt=0, le=1)
    """wsd: share of the training over which the stable rate falls at the end, as 1 − √."""
    plateau_factor: float = Field(default=0.3, gt=0, lt=1)
    """plateau: factor by which the rate is multiplied when the validation loss has stopped falling;
    `data.design: hold_out` only."""
    plateau_patience: int = Field(default=2, ge=0)
    """plateau: epochs without a lower validation loss after which the rate is still kept."""
    warmup_epochs: float = Field(default=0.5, ge=0)
    """Length of the linear warmup, in epochs."""
    loss: Literal["cross_entropy", "focal", "class_balanced"] = "cross_entropy"
    """`focal`: images that are classified well count for less (Lin et al. 2017); `class_balanced`: cross-entropy with
    classes weighted by their effective number of images (Cui et al. 2019), instead of `class_weights`."""
    focal_gamma: float = Field(default=2.0, ge=0, le=10)
    """focal: exponent of 1 − p; 0 is cross-entropy."""
    class_balanced_beta: float = Field(default=0.999, ge=0, lt=1)
    """class_balanced: 0 weights all images alike; towards 1 it becomes `class_weights: balanced`."""
    class_weights: Literal["none", "balanced"] = "balanced"
    """`balanced`: the good classes have half of the loss's weight and the defects half, each kind of them the same;
    without a good class, or with `objective: balanced_accuracy`, all classes the same."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    augment_strength: float = Field(default=0.5, ge=0, le=1)
    """0: none; 1: the strongest policy."""
    augment: tuple[Augmentation, ...] = get_args(Augmentation)
    """What may happen to an image in training. Leave out what changes a part's class: flips for one with a right and a
    left side, `dropout` for tiny defects."""
    clip_grad_norm: float | None = Field(default=None, gt=0)
    """Largest norm of the gradient; null: not clipped."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """Average the weights over steps with this decay and score the average; null: off. Schedule-free optimizers average
    by themselves."""

    @field_validator("lr")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value <= 0:
            raise ValueError("must be greater than 0, or auto")
        if isinstance(value, float) and value > 1e3:
            raise ValueError("every training diverges at such a rate; give at most 1000, or auto")
        return value

    @field_validator("batch_size")
    @classmethod
    def _several_images(cls, value: int | str) -> int | str:
        if isinstance(value, int) and value < 2:
            raise ValueError("batch norm needs more than one image; give at least 2, or auto")
        return value

    @model_validator(mode="after")
    def _schedule_free_alone(self) -> RecipeConfig:
        if self.optimizer not in SCHEDULE_FREE:
            return self
        if self.schedule not in ("auto", "fixed"):
            raise ValueError(
                f"optimizer={self.optimizer} takes no schedule, and schedule={self.schedule}; use fixed or auto, or "
                f"the optimizer {self.optimizer.removeprefix('schedulefree_')}"
            )
        if self.ema_decay is not None:
            raise ValueError(
                f"optimizer={self.optimizer} averages the weights by itself, and ema_decay={self.ema_decay:g}; "
                "set ema_decay to null"
            )
        return self

    @model_validator(mode="after")
    def _one_class_weighting(self) -> RecipeConfig:
        if self.loss == "class_balanced" and self.class_weights == "none":
            raise ValueError(
                "loss=class_balanced weights the classes, and class_weights=none asks for no weights; set "
                "class_weights to balanced, which it replaces, or loss to cross_entropy"
            )
        return self

    @property
    def loss_gamma(self) -> float:
        """The focal exponent of the loss; 0 for cross-entropy."""
        return self.focal_gamma if self.loss == "focal" else 0.0

    @property
    def images_per_step(self) -> int:
        """The batch size, where it is a number (see `with_batch_size`)."""
        assert not isinstance(self.batch_size, str)
        return self.batch_size

    @property
    def schedule_name(self) -> str:
        """The schedule, with `auto` resolved."""
        if self.schedule != "auto":
            return self.schedule
        return "fixed" if self.optimizer in SCHEDULE_FREE else "cosine"


class Recipe(Section):
    """What makes one training: the sections that a search trial overrides."""

    model: ModelConfig
    recipe: RecipeConfig
