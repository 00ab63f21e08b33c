"""From the data section to the images that it names."""

from __future__ import annotations

from pathlib import Path

from components.data.listing import Listing
from components.data.sources import SourceOptions, list_source
from pipeline.config import DataConfig


def list_images(data: DataConfig, storage: Path) -> Listing:
    """What the source holds. Raises `InputError`; generated images are made once, below `storage`."""
    options = SourceOptions(
        path_column=data.path_column,
        label_column=data.label_column,
        group_column=data.group_column,
        split_column=data.split_column,
        metadata_columns=data.metadata_columns,
        root=data.root,
        defect_threshold=data.defect_threshold,
        cache_dir=storage / "generated",
    )
    return list_source(data.source, options)
