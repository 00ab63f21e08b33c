"""The image sizes of the trainings of a configuration: the recipe's own, searched ones, and those of a comparison.

Images are resized on the device, batch by batch. A size above that of the packed images is an error.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pydantic import ValidationError

from pipeline.config import Config
from pipeline.sections.learning_rate import CompareEntry
from pipeline.sections.recipe import RecipeConfig
from pipeline.sections.search import Dimension

KEY = "recipe.image_size"
BACKBONE = "model.backbone"


def image_size_faults(config: Config, space: Iterable[Dimension]) -> list[str]:
    """One line for each size that exceeds that of the packed images. space: what is searched."""
    packed = config.data.image_size
    own = {f"{KEY}={config.recipe.image_size}": config.recipe.image_size}
    return [
        f"{where}: must not exceed data.image_size={packed}, the size of the packed images; "
        f"use {packed} at most, or raise data.image_size"
        for where, size in (own | _searched(space) | _compared(config.compare_lr.entries)).items()
        if size is not None and size > packed
    ]


def image_sizes(config: Config, backbone: str, *, compared: bool) -> dict[str, int]:
    """All sizes that a backbone must accept, by key. compared: whether those of the comparison count as well."""
    asked = {f"{KEY}={config.recipe.image_size}": config.recipe.image_size} | _searched(config.search.space, backbone)
    if compared:
        asked |= _compared(config.compare_lr.entries)
    packed = config.data.image_size
    return {
        f"data.image_size={packed}" if size is None else where: packed if size is None else size
        for where, size in asked.items()
    }


def _searched(space: Iterable[Dimension], backbone: str | None = None) -> dict[str, int | None]:
    """The searched sizes by key (whole numbers have no intervals). backbone: only those it can have."""
    return {
        f"search.space.{index}.sets={KEY}: {size}": size
        for index, dimension in enumerate(space)
        if dimension.sets == KEY and backbone in (None, *dimension.conditions().get(BACKBONE, (backbone,)))
        for size in _sizes(dimension.choices or ())
    }


def _compared(entries: Iterable[CompareEntry]) -> dict[str, int | None]:
    return {
        f"compare_lr.entries.{index} ({entry.name}): {KEY}={size}": size
        for index, entry in enumerate(entries)
        if KEY in entry.sets
        for size in _sizes([entry.sets[KEY]])
    }


def _sizes(values: Iterable[object]) -> Iterator[int | None]:
    """The valid sizes, parsed; other checks report the invalid ones."""
    for value in values:
        try:
            yield RecipeConfig.model_validate({"image_size": value}).image_size
        except ValidationError:
            continue
