"""What frozen backbones are asked: which of them, at which sizes, on how many images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from pipeline.sections.base import Section
from pipeline.sections.recipe import ModelConfig


class EmbedConfig(Section):
    """A linear classifier on what each backbone makes of the images with its weights as they come."""

    backbones: tuple[str, ...] | None = None
    """Which to embed the images with; null: the model's and those in the search space."""
    keep_backbones: int = Field(default=2, ge=1)
    """Several backbones: so many go on to the range test and the search, the best by this classifier; the model's own
    is always among them."""
    image_sizes: tuple[int, ...] | None = None
    """Sides, px, at which each backbone sees the images, to compare them; null: the size that the recipe trains at.
    None may exceed `data.image_size`."""
    views: Literal["auto", 1, 2, 4, 8] = "auto"
    """Flips and turns of an image over which the features of the best candidate are averaged, for the first model and
    the blend; only those that `recipe.augment` shows in training. `auto`: with a budget as many as its time allows,
    else 1."""
    max_images: int = Field(default=20_000, ge=50)
    """Images to embed at most, drawn by class, groups whole; with `data.design: hold_out` those of train, beside all
    of val and calibration. Those of the test split are never embedded."""
    bootstrap_samples: int = Field(default=200, ge=20)
    """Resamples behind the interval of a score."""

    @field_validator("backbones")
    @classmethod
    def _each_once(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value)):
            raise ValueError("name at least one backbone, and each once; or null")
        return value

    @field_validator("image_sizes")
    @classmethod
    def _sizes(cls, value: tuple[int, ...] | None) -> tuple[int, ...] | None:
        if value is not None and (not value or len(set(value)) < len(value) or min(value) < 32):
            raise ValueError("name at least one size, each once and of 32 px at least: [128, 224]; or null")
        return value


def backbones_in_question(embed: EmbedConfig, model: ModelConfig) -> tuple[str, ...]:
    """The backbones in question, the model's own first."""
    return tuple(dict.fromkeys([model.backbone, *(embed.backbones or ())]))
