"""The configuration: every key, its default and its rule stand here and in `pipeline/sections`, and nowhere else.

`pipeline/loading.py` reads, merges and validates; docs/configuration.md is written from these files.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pipeline.sections.base import NAME_PATTERN, Section
from pipeline.sections.data import DataConfig
from pipeline.sections.embedding import EmbedConfig
from pipeline.sections.learning_rate import CompareConfig, MonitorConfig, RangeTestConfig
from pipeline.sections.recipe import ModelConfig, RecipeConfig
from pipeline.sections.search import SearchConfig
from pipeline.sections.time import Duration


class ProjectConfig(Section):
    name: str = Field(default="escapement", pattern=NAME_PATTERN)
    """Name of what is inspected; the default name of the experiment and of the registered model."""


class TrainConfig(Section):
    epochs: int = Field(default=30, ge=1)
    """Longest length of a training of the final model; the schedule is laid out over it."""
    patience: int = Field(default=10, ge=1)
    """hold_out: stop after this many epochs without a better validation score; the best epoch's weights are kept. In
    cross_fit every training has its full length, as its fold certifies."""
    networks: int | None = Field(default=None, ge=0)
    """cross_fit: for how many of the folds a network is trained, each without its fold; null: for all. With fewer, the
    images of the other folds teach every network and certify nothing. 0, in any design: none is trained, and the
    classifier on frozen features is delivered."""


class OperatingPointConfig(Section):
    escape_budget: float = Field(default=0.05, gt=0, lt=1)
    """Largest escape rate that is acceptable."""
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    """Confidence with which images that the model has not seen must show it."""


class ServingConfig(Section):
    """What is delivered of the networks that were trained, within a latency limit (docs/serving.md)."""

    deliver: Literal["auto", "ensemble", "single"] = "auto"
    """`ensemble`: the networks of all folds, averaged in log-odds; `single`: one network, with folds trained on all
    images that are not test; `auto`: ensemble where there are folds and the limit allows it."""
    views: Literal["auto", 1, 2, 4, 8] = "auto"
    """Flips and turns of an image over which a model averages, on the line as in calibration; only those that
    `recipe.augment` shows in training. `auto`: as few as lose nothing beyond noise, within the limit."""
    blend: Literal["auto", "never"] = "auto"
    """`auto`: average with a linear classifier on features that were not trained further, where that gains on
    images that neither had seen."""
    max_latency_ms: float | None = Field(default=None, gt=0)
    """Longest time for one image, from its pixels to its score, measured on this machine; null: none."""
    num_threads: int | None = Field(default=None, ge=1)
    """CPU threads that the limit is for; null: those of `compute.num_threads`, or all cores. Without effect where
    `compute.device` gives a GPU."""


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
    trial_storage: str | None = None
    """Where trials keep their checkpoints: a folder that every node sees, or the URI of an object store
    (`s3://bucket/trials`); null: below `storage.root`, which then every node of a cluster has to see."""

    @field_validator("ray_address")
    @classmethod
    def _joined(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("ray://"):
            raise ValueError(
                "trials do not run through Ray Client; start the pipeline on a node of the cluster with its address "
                "(host:6379), or submit it as a job with `auto`"
            )
        return value


class TrackingConfig(Section):
    uri: str | None = None
    """MLflow tracking URI; null: MLFLOW_TRACKING_URI, or a SQLite file in the working directory."""
    experiment: str | None = None
    """Experiment; null: `project.name`. A run made by `mlflow run` keeps the experiment that it has."""


class StorageConfig(Section):
    root: str = "storage"
    """Folder for what the stages make, relative to the working directory; one of its own, not that of the images."""

    @field_validator("root")
    @classmethod
    def _local(cls, value: str) -> str:
        if "://" in value:
            raise ValueError("object stores are not supported here yet; give a folder, shared if need be")
        return value


class Config(Section):
    """The whole configuration; a stage receives the sections that it declares."""

    seed: int = Field(default=0, ge=0, lt=2**31)
    budget: Duration | None = None
    """Time for the whole run, with a unit: `90s`, `10min`, `2h`. The stage `budget` then chooses, by the pace that it
    measures, how many networks are trained, how long, and whether a range test precedes them; null: as configured."""
    project: ProjectConfig = ProjectConfig()
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    recipe: RecipeConfig = RecipeConfig()
    embed: EmbedConfig = EmbedConfig()
    lr_range_test: RangeTestConfig = RangeTestConfig()
    compare_lr: CompareConfig = CompareConfig()
    search: SearchConfig = SearchConfig()
    train: TrainConfig = TrainConfig()
    monitor: MonitorConfig = MonitorConfig()
    operating_point: OperatingPointConfig = OperatingPointConfig()
    serving: ServingConfig = ServingConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    promote: PromoteConfig = PromoteConfig()
    compute: ComputeConfig = ComputeConfig()
    tracking: TrackingConfig = TrackingConfig()
    storage: StorageConfig = StorageConfig()
