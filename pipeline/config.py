"""The configuration's sections, typed: every key, its default and its rule stand here and nowhere else.

`pipeline/loading.py` reads, merges and validates; docs/configuration.md is written from this file.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

Optimizer = Literal["sgd", "adam", "adamw", "rmsprop", "adagrad"]
Augmentation = Literal[
    "horizontal_flip", "vertical_flip", "quarter_turns", "shift", "light", "noise", "blur", "dropout"
]
#: A name that is safe as a registered model, an experiment and a file.
NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]*$"


class Section(BaseModel):
    """Base of every section: frozen, and it refuses a key that it does not know."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        use_attribute_docstrings=True,
        coerce_numbers_to_str=True,
        allow_inf_nan=False,
    )

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_for_a_number(cls, value: Any, info: ValidationInfo) -> Any:  # noqa: ANN401 - whatever was given
        # Python counts true as 1, so `lr: yes` would train at a rate of 1.
        if isinstance(value, bool) and info.field_name and cls.model_fields[info.field_name].annotation is not bool:
            raise ValueError("true and false have no meaning here; quote it if it is a name")
        return value


class ProjectConfig(Section):
    name: str = Field(default="escapement", pattern=NAME_PATTERN)
    """Name of what is inspected; the default name of the experiment and of the registered model."""


class SplitFractions(Section):
    """Share of the images in each split, per class and whole groups at a time; the four sum to 1."""

    train: float = Field(default=0.60, gt=0, lt=1)
    """What the weights are fitted on."""
    val: float = Field(default=0.15, gt=0, lt=1)
    """What trials and epochs are compared on."""
    calibration: float = Field(default=0.10, gt=0, lt=1)
    """What the score's scale and bias and the threshold are fitted on; seen by nothing before."""
    test: float = Field(default=0.15, gt=0, lt=1)
    """What is read once, by evaluate."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> SplitFractions:
        total = self.train + self.val + self.calibration + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the four fractions sum to {total:.4g}; they must sum to 1")
        return self


class DataConfig(Section):
    source: str = "folder:images"
    """`folder:/path` (a class per folder), `csv:/path`, `parquet:/path`, `mvtec:/path` (MVTec-AD's layout), `elpv`, or
    `generated:key=value,...`. A path may be any address that fsspec knows, such as `folder:s3://bucket/castings`."""
    good_labels: tuple[str, ...] = ("good",)
    """The classes that are good parts; every other class is a defect. Empty: defect types only, no escapes."""
    image_size: int = Field(default=224, ge=16, le=2048)
    """Side of the square, in pixels, that the model sees."""
    region: tuple[int, int, int, int] | None = None
    """Left, top, right and bottom, in pixels of the upright image, of the part that is looked at; null: all of it."""
    fit: Literal["squash", "letterbox"] = "squash"
    """How what is not square becomes so: squashed, or whole between black bars."""
    tile_size: int | None = Field(default=None, ge=16)
    """Cut each image into overlapping tiles of this side, in pixels, and judge each; labels come from masks."""
    tile_overlap: float = Field(default=0.25, ge=0, le=0.5)
    """Share of a tile's side that neighbouring tiles have in common at least."""
    splits: SplitFractions = SplitFractions()
    split_conflict: Literal["error", "train", "majority"] = "error"
    """What to do when a given split tears a group apart: stop, put the group into train, or into its majority."""
    stratify_columns: tuple[str, ...] = ()
    """Metadata columns that are to be spread over the splits evenly, too, as far as the groups allow."""
    num_folds: int = Field(default=5, ge=0, le=20)
    """Folds for cross-validation within train and val, beside the splits; 0: none."""
    earlier_manifest: str | None = None
    """A manifest.parquet of earlier: its images keep their split, and new groups fill up the shares."""
    near_duplicates: Literal["off", "upright", "symmetric"] = "upright"
    """Group images that show the same thing: as they stand, or also turned and mirrored. Off: identical files only."""
    label_conflicts: Literal["keep", "drop", "stop"] = "keep"
    """Images that show the same thing under different labels: keep and report them, drop them all, or stop."""
    audit: bool = True
    """Probe for leakage, shortcuts and doubtful labels, for the report; nothing later depends on it."""
    max_quarantined_fraction: float = Field(default=0.01, ge=0, lt=1)
    """The run stops when a larger share of the files cannot be decoded."""
    pack: Literal["auto", "decoded", "encoded", "none"] = "auto"
    """How resized images are kept: as pixels, as lossless PNG, or not at all (read from the source each time). `auto`:
    the first of them that disk and memory have room for. The pixels are the same, so it shapes no result."""
    path_column: str = "path"
    """csv/parquet: the column with the image's path, relative to `data.root`."""
    label_column: str = "label"
    """csv/parquet: the column with the class."""
    group_column: str | None = None
    """csv/parquet: the column naming the part, lot or board; images of a group never cross a split."""
    split_column: str | None = None
    """csv/parquet: the column with a given split, which is honoured."""
    mask_column: str | None = None
    """csv/parquet: the column with the path of a mask, a picture that is not black where the defect is."""
    metadata_columns: tuple[str, ...] = ()
    """csv/parquet: further columns to keep (camera, lighting, product)."""
    root: str | None = None
    """csv/parquet: folder or address of the images; default: the table's own folder."""
    defect_threshold: float = Field(default=0.5, gt=0, le=1)
    """elpv: a cell is defective when its defect probability is at least this."""

    @field_validator("num_folds")
    @classmethod
    def _not_one(cls, value: int) -> int:
        if value == 1:
            raise ValueError("one fold holds nothing out; give 0, or at least 2")
        return value

    @field_validator("region")
    @classmethod
    def _has_area(cls, value: tuple[int, int, int, int] | None) -> tuple[int, int, int, int] | None:
        if value is not None and not (0 <= value[0] < value[2] and 0 <= value[1] < value[3]):
            raise ValueError("give left, top, right, bottom in pixels, with left < right and top < bottom")
        return value

    @model_validator(mode="after")
    def _tiles_need_a_good_class(self) -> DataConfig:
        if self.tile_size is not None and not self.good_labels:
            raise ValueError("tile_size needs good_labels: a tile that the mask leaves free takes the first of them")
        return self


class ModelConfig(Section):
    backbone: str = "resnet18"
    """Any timm model."""
    weights: str = Field(default="pretrained", pattern=r"^(none|pretrained|package|file:.+)$")
    """`pretrained` (timm's hub), `package` (an installed weight package), `file:/path.safetensors`, or `none`."""
    drop_rate: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the classifier."""
    drop_path_rate: float = Field(default=0.0, ge=0, lt=1)
    """Stochastic depth."""


class RecipeConfig(Section):
    objective: Literal["average_precision", "auroc", "balanced_accuracy"] = "average_precision"
    """Validation metric that picks the best epoch and the best trial; the first two need a good class."""
    optimizer: Optimizer = "adamw"
    """`sgd` (Nesterov, momentum 0.9), `adam`, `adamw`, `rmsprop` or `adagrad`."""
    lr: float | Literal["auto"] = "auto"
    """Peak learning rate; `auto`: the suggestion of the optimizer's range test."""
    weight_decay: float = Field(default=0.01, ge=0, le=1)
    """Not applied to biases and norms."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Learning-rate ratio from one layer group to the next one nearer the input; 1 means the same rate."""
    batch_size: int = Field(default=32, ge=2)
    """Images per optimizer step."""
    schedule: Literal["fixed", "step", "exponential", "cosine"] = "cosine"
    """How the rate falls over the final training, after warmup."""
    final_lr_fraction: float = Field(default=0.01, gt=0, lt=1)
    """step, exponential, cosine: the rate at the end as a share of the peak."""
    schedule_drops: int = Field(default=2, ge=1)
    """step: number of equal drops on the way from the peak to the end."""
    warmup_epochs: float = Field(default=0.5, ge=0)
    """Length of the linear warmup, in epochs."""
    class_weights: Literal["none", "balanced"] = "balanced"
    """`balanced`: the loss weighs each class by the inverse of its frequency."""
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
    """Average the weights over steps with this decay and score the average; null: off."""

    @field_validator("lr")
    @classmethod
    def _positive(cls, value: float | str) -> float | str:
        if isinstance(value, float) and value <= 0:
            raise ValueError("must be greater than 0, or auto")
        return value


class RangeTestConfig(Section):
    optimizers: tuple[Optimizer, ...] | None = None
    """Which to test; null: the recipe's and those in the search space."""
    num_seeds: int = Field(default=3, ge=1)
    """Curves per optimizer; the analysis takes their median."""
    steps_per_decade: int = Field(default=20, ge=5)
    """Optimizer steps while the rate rises tenfold; the ramp sweeps about six decades."""
    held_out_images: int = Field(default=64, ge=8)
    """Size of the fixed held-out batch, taken from the validation split."""
    bootstrap_samples: int = Field(default=200, ge=20)
    """Resamples behind the suggestion's confidence band."""


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


class TrainConfig(Section):
    epochs: int = Field(default=30, ge=1)
    """Longest length of the final training; the schedule is laid out over it."""
    patience: int = Field(default=10, ge=1)
    """Stop after this many epochs without a better validation score; the best epoch's weights are restored."""


class OperatingPointConfig(Section):
    escape_budget: float = Field(default=0.05, gt=0, lt=1)
    """Largest escape rate that is acceptable."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence with which the calibration split must show it."""


class EvaluateConfig(Section):
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of every interval in metrics.json."""
    bootstrap_samples: int = Field(default=1000, ge=100)
    """Resamples behind the intervals that are not exact."""
    gallery_size: int = Field(default=16, ge=0)
    """Pictures of the worst escapes and of the worst overkills in the report; 0: none."""


class Gates(Section):
    """A bound that a model has to meet to be promoted; null: not asked."""

    min_auroc: float | None = Field(default=0.8, ge=0, le=1)
    """The lower confidence bound of AUROC must reach this."""
    max_escape_rate: float | None = Field(default=0.10, ge=0, le=1)
    """The upper confidence bound of the escape rate must not exceed this."""
    max_overkill_rate: float | None = Field(default=0.30, ge=0, le=1)
    """The upper confidence bound of the overkill rate must not exceed this."""
    min_balanced_accuracy: float | None = Field(default=None, ge=0, le=1)
    """The lower confidence bound of balanced accuracy; the gate for a problem without a good class."""


class PromoteConfig(Section):
    model_name: str | None = Field(default=None, pattern=NAME_PATTERN)
    """Registered model; null: `project.name`."""
    gates: Gates = Gates()
    escape_margin: float = Field(default=0.03, ge=0, lt=1)
    """Non-inferiority: by how much the escape rate may exceed the champion's."""
    overkill_margin: float = Field(default=0.05, ge=0, lt=1)
    """Non-inferiority: by how much the overkill rate may exceed the champion's."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Of the one-sided bounds in the comparison with the champion."""
    bootstrap_samples: int = Field(default=1000, ge=100)
    """Resamples behind that comparison."""


class ComputeConfig(Section):
    """Where it runs. Not part of any fingerprint: another machine does not make it another result."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto`: CUDA where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 autocast on CUDA, float32 elsewhere."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads to use; null: all cores."""
    loader_workers: int | None = Field(default=None, ge=0)
    """Processes that augment ahead of a training; null: none on a CPU, up to eight of the cores beside a GPU. The
    batches are the same for any number."""
    concurrent_trials: int | None = Field(default=None, ge=1)
    """Trials at a time; null: as many as the GPUs hold, or one per two cores on a CPU."""
    gpus_per_trial: float | None = Field(default=None, ge=0)
    """GPUs that a trial asks for, a fraction is allowed; null: one where there are GPUs."""
    ray_address: str | None = None
    """Address of a Ray cluster (`auto` inside a Ray job); null: Ray runs locally."""


class TrackingConfig(Section):
    uri: str | None = None
    """MLflow tracking URI; null: MLFLOW_TRACKING_URI, or a SQLite file in the working directory."""
    experiment: str | None = None
    """Experiment; null: `project.name`. A run made by `mlflow run` keeps the experiment that it has."""


class StorageConfig(Section):
    root: str = "storage"
    """Folder for what the stages make, relative to the working directory."""

    @field_validator("root")
    @classmethod
    def _local(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("object stores are not supported here yet; give a folder, shared if need be")
        return value


class Config(Section):
    """The whole configuration; a stage receives the sections that it declares."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    project: ProjectConfig = ProjectConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    recipe: RecipeConfig = RecipeConfig()
    lr_range_test: RangeTestConfig = RangeTestConfig()
    search: SearchConfig = SearchConfig()
    train: TrainConfig = TrainConfig()
    operating_point: OperatingPointConfig = OperatingPointConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    promote: PromoteConfig = PromoteConfig()
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: StorageConfig = StorageConfig()


class Recipe(Section):
    """What makes one training: the sections that a search trial overrides."""

    model: ModelConfig
    recipe: RecipeConfig
