"""From the data section to the images that it names, and from a prepared data set to its mark on an MLflow run."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from components.data.digests import file_sha256
from components.data.manifest import load_manifest
from components.data.sources.catalogue import SourceOptions, list_source
from components.data.sources.listing import Listing
from components.data.sources.spelling import settle_spelling
from components.errors import InputError
from pipeline.checks.recipe_keys import OBJECTIVE_KEYS
from pipeline.sections.data import DataConfig
from pipeline.sections.learning_rate import RangeTestConfig, backbones_in_question
from pipeline.sections.recipe import ModelConfig, RecipeConfig
from pipeline.storage import GENERATED_FOLDER

if TYPE_CHECKING:
    from components.tracking import Run
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
        metadata_columns=data.metadata_columns,
        root=data.root,
        defect_threshold=data.defect_threshold,
        cache_dir=storage / GENERATED_FOLDER,
    )
    listing = list_source(data.source, options)
    return settle_spelling(listing, good_labels=data.good_labels, labels=data.label_spelling)


def range_test_digest(
    storage: Path,
    console: Console,
    *,
    seed: int,
    model: ModelConfig,
    recipe: RecipeConfig,
    lr_range_test: RangeTestConfig,
) -> str:
    """What the range test depends on beside its hashed keys: a weights file, and where backbones are probed, how.

    Empty for one backbone with weights known by name.
    """
    digest = _weights_digest(model.weights)
    if len(backbones_in_question(lr_range_test, model)) == 1 or model.weights == "none":
        return digest
    probe = {key: getattr(recipe, key.removeprefix("recipe.")) for key in OBJECTIVE_KEYS}
    probe |= {"keep_backbones": lr_range_test.keep_backbones, "probe_images": lr_range_test.probe_images}
    return digest + json.dumps(probe, sort_keys=True)


def _weights_digest(weights: str) -> str:
    """Digest of a weights file, whose content is not in the configuration; empty for weights known by name.

    Empty also for what is there and cannot be read: `pipeline.checks.run` says what is wrong with it.
    """
    if not weights.startswith("file:"):
        return ""
    path = Path(os.path.expanduser(weights.removeprefix("file:")))  # noqa: PTH111 - bears it where there is no home
    if not path.exists():
        raise InputError(f"model.weights={weights!r}: there is no such file; give the path of an existing one")
    return file_sha256(path) if path.is_file() and os.access(path, os.R_OK) else ""


def log_lineage(run: Run, prepared: Path, *, used_for: str) -> None:
    """Record on a run which data set it used: schema, source and digest of the manifest."""
    report = json.loads((prepared / "data_report.json").read_text(encoding="utf-8"))
    manifest = load_manifest(prepared / "manifest.parquet")
    run.log_dataset(manifest, name="manifest", source=report["root"], digest=report["digest"], context=used_for)
