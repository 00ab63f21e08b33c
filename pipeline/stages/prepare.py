"""prepare: images → a manifest with splits and folds, the pack, and a report on faults of the data.

All later stages read the manifest and the pack; only promotion opens the image files again, to judge models on them, as
in production.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from typing import Any, get_args

import numpy as np
import pandas as pd

from components.data.augment import build_augmentation
from components.data.fixed_splits import SPLITS
from components.data.manifest import (
    Manifest,
    build_manifest,
    classes_of,
    manifest_digest,
)
from components.data.pack.reader import Pack, open_pack
from components.data.pack.store import PackResult
from pipeline.data.audit import NO_AUDIT, audit_data, find_duplicates, small_defects_note
from pipeline.data.findings import DataFindings, file_warnings, summarise, warnings_of, write_tables
from pipeline.data.packing import hash_files, pack_source
from pipeline.data.sources import earlier_splits, list_images, log_lineage, split_rules
from pipeline.reports.data import write_data_report
from pipeline.sections.data import DataConfig
from pipeline.sections.recipe import Augmentation
from pipeline.stage import StageContext

NO_PAIRS = np.zeros((0, 2), dtype=np.int64)
STATISTICS = [
    "image_id", "path", "sha256", "bytes", "width", "height", "mode", "format", "frames", "orientation", "peak",
    "modified", "brightness", "contrast", "sharpness", "border", "colour", "defect_area", "defect_pixels",
]  # fmt: skip
PREVIEWED_IMAGES, PREVIEW_STRENGTHS = 4, (0.25, 0.5, 0.5, 0.75, 1.0, 1.0)


def run(context: StageContext, *, seed: int, data: DataConfig) -> dict[str, Any]:
    """Read, group, split and audit; write the manifest, the pack, the report and its tables."""
    watch = _Watch()
    with watch("listing"):
        listing = list_images(data, context.storage)
    with watch("hashing"):
        digests = hash_files(listing, context.storage, context.console)
    with watch("packing"):
        packed = pack_source(context, listing, digests, data)
    pack = open_pack(context.directory)
    near = None
    if data.near_duplicates != "off":
        with watch("near_duplicates"):
            near = find_duplicates(packed.table, pack, symmetric=data.near_duplicates == "symmetric")
    with watch("splitting"):
        manifest = build_manifest(
            listing,
            packed.table,
            pairs=NO_PAIRS if near is None else near.pairs[["first", "second"]].to_numpy(),
            rules=split_rules(data, seed),
            num_folds=data.num_folds,
            earlier=earlier_splits(data),
            label_conflicts=data.label_conflicts,
        )
        manifest.table.to_parquet(context.directory / "manifest.parquet", index=False)
    statistics = _statistics(manifest, packed)
    statistics.to_parquet(context.directory / "statistics.parquet", index=False)
    audit = NO_AUDIT
    if data.audit:
        with watch("audit"):
            audit = audit_data(manifest.table, statistics, pack, seed=seed)
    findings = DataFindings(
        manifest=manifest.table,
        statistics=statistics,
        quarantine=packed.quarantine,
        listing_description=listing.description,
        root=listing.files.name,
        notes=(*listing.notes, *manifest.notes, *audit.notes),
        warnings=(
            *manifest.shortages,
            *file_warnings(statistics, listing.table, data.good_labels, significant_bits=data.significant_bits),
        ),
        conflicts=manifest.conflicts,
        largest_groups=manifest.largest_groups,
        left_out=manifest.left_out,
        near=near,
        audited=data.audit,
        probe=audit.probe,
        shortcuts=audit.shortcuts,
        min_defect_note=small_defects_note(statistics, data.image_size),
        digest=manifest_digest(manifest.table),
    )
    with watch("report"):
        _write(context, findings, pack, seed=seed, watch=watch)
    return _headline(context, findings, packed)


def _statistics(manifest: Manifest, packed: PackResult) -> pd.DataFrame:
    """The measurements of the file pass, a row per row of the manifest, in its order."""
    measured = packed.table.drop(columns=["sha256"])
    boxes = measured["box"].where(measured["box"] == "", "#" + measured["box"])
    measured = measured.assign(image_id=measured["path"] + boxes)
    table = manifest.table[["image_id", "sha256"]].merge(measured, on="image_id", validate="one_to_one")
    return table[STATISTICS]


def _write(context: StageContext, findings: DataFindings, pack: Pack, *, seed: int, watch: _Watch) -> None:
    """Write and log the report and its tables."""
    tables = write_tables(findings, context.directory)
    write_data_report(context, findings, pack, augmented=_augmented(findings, pack, seed))
    summary = summarise(findings) | {"pack": pack.kind, "seconds": watch.seconds}
    (context.directory / "data_report.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    results = ["data_report.html", "data_report.json", "manifest.parquet", "statistics.parquet"]
    for name in (*results, *tables):
        context.run.log_artifact(context.directory / name)
    log_lineage(context.run, context.directory, used_for="prepare")


def _augmented(findings: DataFindings, pack: Pack, seed: int) -> list[list[np.ndarray]]:
    """A few images, each followed by augmented versions of rising strength."""
    rows = findings.manifest.groupby("label")["pack_index"].first().to_numpy()[:PREVIEWED_IMAGES]
    augments = {strength: build_augmentation(strength, get_args(Augmentation)) for strength in PREVIEW_STRENGTHS}
    grids = []
    for number, index in enumerate(rows):
        row = [pack[int(index)]]
        for draw, strength in enumerate(PREVIEW_STRENGTHS):
            augment, generator = augments[strength], np.random.default_rng(seed + 10 * number + draw)
            row += [*augment(row[0][None], generator)]
        grids.append(row)
    return grids


def _headline(context: StageContext, findings: DataFindings, packed: PackResult) -> dict[str, Any]:
    """Print the warnings; the figures of the run."""
    for warning in warnings_of(findings):
        context.console.warn(warning)
    manifest, probe = findings.manifest, findings.probe
    overstatement = probe.overstatement if probe is not None else None
    return {
        "images": len(manifest),
        "classes": len(classes_of(manifest)),
        "groups": int(manifest["group"].nunique()),
        "quarantined": len(findings.quarantine),
        "decoded": packed.decoded,
        "near_duplicate_pairs": 0 if findings.near is None else len(findings.near.pairs),
        "label_conflicts": len(findings.conflicts),
        "suspicious_cues": sum(cue.suspicious for cue in findings.shortcuts),
        **({} if overstatement is None else {"random_split_overstatement": overstatement}),
        **{f"images_{split}": count for split in SPLITS if (count := int((manifest["split"] == split).sum()))},
    }


class _Watch:
    """Measures how long each step takes. seconds: by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[step] = round(time.perf_counter() - started, 3)
