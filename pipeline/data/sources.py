"""From the data section to the images that it names, and from a prepared data set to its mark on an MLflow run."""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from components.data.file_index import content_digest, file_sha256, table_sha256
from components.data.manifest import SplitRules, check_listing, load_earlier, load_manifest
from components.data.sources.catalogue import list_source
from components.data.sources.group_names import group_by_name
from components.data.sources.listing import Listing, SourceOptions
from components.data.sources.spelling import settle_spelling
from components.errors import InputError
from pipeline.data.packing import check_readable, hash_files
from pipeline.sections.data import DataConfig
from pipeline.sections.embedding import EmbedConfig
from pipeline.sections.recipe import ModelConfig, RecipeConfig
from pipeline.storage import GENERATED_FOLDER

if TYPE_CHECKING:
    from components.tracking import DataSet, Run
    from pipeline.console import Console


def list_images(data: DataConfig, storage: Path) -> Listing:
    """What the source holds, each name in one spelling; generated images are made once, below `storage`.

    Raises `InputError`.
    """
    options = SourceOptions(
        path_column=data.path_column,
        label_column=data.label_column,
        group_column=data.group_column,
        split_column=data.split_column,
        mask_column=data.mask_column,
        confidence_column=data.confidence_column,
        metadata_columns=data.metadata_columns,
        root=data.root,
        defect_threshold=data.defect_threshold,
        cache_dir=storage / GENERATED_FOLDER,
    )
    listing = list_source(data.source, options)
    if data.group_pattern is not None:
        listing = group_by_name(listing, data.group_pattern)
    return settle_spelling(listing, good_labels=data.good_labels, labels=data.label_spelling)


def read_source(storage: Path, console: Console, *, seed: int, data: DataConfig) -> tuple[Listing, str]:
    """What the source holds, and a digest of it: labels, groups, given splits and the bytes of every file.

    What the listing alone can tell to be wrong is refused here, before any file is read. Files are read once, and again
    only when they change. Raises `InputError`.
    """
    listing = list_images(data, storage)
    for note in listing.notes:
        console.warn(note)
    if listing.left_out.text:
        say = console.warn if listing.left_out.holds_images else console.say
        say(f"left out of {listing.files.name}: {listing.left_out.text}")
    check_listing(listing, split_rules(data, seed), tiled=data.tile_size is not None)
    digests = hash_files(listing, storage, console)
    check_readable(listing, digests, data)
    earlier = pd.DataFrame(sorted(earlier_splits(data).items()), columns=["sha256", "split"])
    return listing, content_digest(listing, digests) + table_sha256(earlier)


def source_digest(storage: Path, console: Console, *, seed: int, data: DataConfig) -> str:
    """What a result of `prepare` depends on beside its hashed keys."""
    return read_source(storage, console, seed=seed, data=data)[1]


def split_rules(data: DataConfig, seed: int) -> SplitRules:
    return SplitRules(
        good_labels=data.good_labels,
        fractions=data.splits.model_dump(),
        seed=seed,
        conflict=data.split_conflict,
        spill=data.split_spill,
        strata=data.stratify_columns,
        design=data.design,
    )


def earlier_splits(data: DataConfig) -> dict[str, str]:
    """The split of each image of `data.earlier_manifest`, by sha256."""
    return {} if data.earlier_manifest is None else load_earlier(data.earlier_manifest)


def weights_digest(
    storage: Path,
    console: Console,
    *,
    seed: int,
    budget: str | None,
    model: ModelConfig,
    recipe: RecipeConfig,
    embed: EmbedConfig,
) -> str:
    """What frozen features depend on beside the hashed keys: the content of a weights file.

    Empty for weights known by name; also for what is there and cannot be read: `pipeline.checks.run` says what is wrong
    with it.
    """
    if not model.weights.startswith("file:"):
        return ""
    path = Path(os.path.expanduser(model.weights.removeprefix("file:")))  # noqa: PTH111 - bears it where there is no home
    if not path.exists():
        raise InputError(f"model.weights={model.weights!r}: there is no such file; give the path of an existing one")
    return file_sha256(path) if path.is_file() and os.access(path, os.R_OK) else ""


def log_lineage(run: Run, prepared: Path, *, used_for: str) -> None:
    """Record on a run which data set it used: schema, source and digest of the manifest."""
    report = json.loads((prepared / "data_report.json").read_text(encoding="utf-8"))
    run.log_dataset(_dataset(prepared, report["root"], report["digest"]), context=used_for)


@functools.lru_cache(maxsize=1)  # every stage asks for the same one
def _dataset(prepared: Path, root: str, digest: str) -> DataSet:
    from components.tracking import describe_dataset

    manifest = load_manifest(prepared / "manifest.parquet")
    return describe_dataset(manifest, name="manifest", source=root, digest=digest)
