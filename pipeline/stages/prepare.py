"""prepare: images → a manifest with splits, the pack, a data report.

Everything later reads the manifest and the pack; no stage opens an image file again, except promotion, which judges
models on the files themselves, as the line will.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from components.data.duplicates import label_conflicts
from components.data.manifest import build_manifest, check_listing, classes_of, manifest_digest, save_manifest
from components.data.pack import PackResult, build_pack, open_pack
from components.data.sources import Listing, content_digest
from components.data.splits import SPLITS
from components.errors import InputError
from components.report.figures import sample_grid, split_counts
from components.report.html import Section, render_report
from pipeline.config import DataConfig
from pipeline.machine import cpu_count
from pipeline.sources import list_images, log_lineage
from pipeline.stage import StageContext

SAMPLES_PER_CLASS = 8


def source_digest(storage: Path, *, seed: int, data: DataConfig) -> str:
    """Digest of what the source holds: labels, groups, given splits and the bytes of every file.

    What the listing alone can tell to be wrong is refused here, before any file is read.
    """
    listing = list_images(data, storage)
    check_listing(
        listing,
        good_labels=data.good_labels,
        fractions=data.splits.model_dump(),
        seed=seed,
        conflict=data.split_conflict,
    )
    return content_digest(listing)


def run(context: StageContext, *, seed: int, data: DataConfig) -> dict[str, Any]:
    """Decode, quarantine, group, split; write manifest.parquet, the pack, quarantine.csv and the report."""
    listing = list_images(data, context.storage)
    with context.console.bar("decoding", len(listing.table)) as advance:
        state = {"done": 0}

        def on_progress(done: int, total: int) -> None:
            advance(done - state["done"])
            state["done"] = done

        pack = build_pack(
            listing, size=data.image_size, directory=context.directory, workers=cpu_count(), on_progress=on_progress
        )
    pack.quarantine.to_csv(context.directory / "quarantine.csv", index=False)
    _check_quarantine(pack, len(listing.table), data, context)
    manifest = build_manifest(
        listing,
        pack,
        good_labels=data.good_labels,
        fractions=data.splits.model_dump(),
        seed=seed,
        conflict=data.split_conflict,
    )
    digest = manifest_digest(manifest)
    save_manifest(manifest, context.directory / "manifest.parquet")
    conflicts = label_conflicts(manifest)
    summary = _summary(manifest, listing, pack, conflicts, digest)
    (context.directory / "data_report.json").write_text(json.dumps(summary, indent=2), encoding="utf-8")
    _write_report(context, manifest, pack, conflicts, summary)
    _track(context)
    return {
        "images": len(manifest),
        "classes": len(classes_of(manifest)),
        "quarantined": len(pack.quarantine),
        **{f"images_{split}": int((manifest["split"] == split).sum()) for split in SPLITS},
    }


def _check_quarantine(pack: PackResult, total: int, data: DataConfig, context: StageContext) -> None:
    bad = len(pack.quarantine)
    first = "; ".join(f"{row.path}: {row.reason}" for row in pack.quarantine.head(3).itertuples())
    if bad / total > data.max_quarantined_fraction:
        raise InputError(
            f"data.max_quarantined_fraction={data.max_quarantined_fraction:g}: {bad} of {total} files "
            f"({bad / total:.1%}) cannot be decoded, for instance {first}; repair or remove them, or raise the fraction"
        )
    if bad:
        context.console.warn(f"{bad} of {total} files cannot be decoded and were set aside: {first}")


def _summary(
    manifest: pd.DataFrame, listing: Listing, pack: PackResult, conflicts: pd.DataFrame, digest: str
) -> dict[str, Any]:
    counts = pd.crosstab(manifest["label"], manifest["split"]).reindex(columns=list(SPLITS), fill_value=0)
    sizes = manifest["width"].astype(str) + "×" + manifest["height"].astype(str)
    return {
        "source": listing.description,
        "root": str(listing.root),
        "digest": digest,
        "images": len(manifest),
        "counts": {str(label): {str(k): int(v) for k, v in row.items()} for label, row in counts.iterrows()},
        "groups": int(manifest["group"].nunique()),
        "exact_duplicates": int(manifest["sha256"].duplicated().sum()),
        "label_conflicts": len(conflicts),
        "quarantined": len(pack.quarantine),
        "image_sizes": {str(size): int(count) for size, count in sizes.value_counts().head(10).items()},
        "modes": {str(mode): int(count) for mode, count in manifest["mode"].value_counts().items()},
    }


def _write_report(
    context: StageContext,
    manifest: pd.DataFrame,
    pack: PackResult,
    conflicts: pd.DataFrame,
    summary: dict[str, Any],
) -> None:
    pixels = open_pack(context.directory)
    samples: dict[str, list[np.ndarray]] = {}
    for label in classes_of(manifest):
        rows = manifest.loc[manifest["label"] == label, "pack_index"].head(SAMPLES_PER_CLASS)
        samples[label] = [np.asarray(pixels[index]) for index in rows]
    counts = pd.DataFrame(summary["counts"]).T
    figures = {"samples": sample_grid(samples), "splits": split_counts(counts)}
    for name, figure in figures.items():
        context.run.log_figure(figure, f"figures/{name}.png")
    tables = {"Files set aside": pack.quarantine, "Identical images with different labels": conflicts}
    faults = [(caption, table) for caption, table in tables.items() if len(table)]
    notes = []
    if len(conflicts):
        notes.append(f"{len(conflicts)} sets of byte-identical images carry different labels; see the table.")
    html = render_report(
        title="Data report",
        subtitle=summary["source"],
        headline=[
            ("Images", f"{summary['images']:,}", f"{summary['groups']:,} groups"),
            ("Classes", str(len(counts)), ", ".join(counts.index)),
            ("Exact duplicates", str(summary["exact_duplicates"]), "kept together in one split"),
            ("Quarantined", str(summary["quarantined"]), "files that do not decode"),
        ],
        sections=[
            Section("Splits", "Images per class and split; groups never cross a split.", tables=[("", counts)],
                    figures=[("", figures["splits"])]),
            Section("Samples", "As the model sees them, after resizing.", figures=[("", figures["samples"])]),
            Section("Faults", "" if faults else "None was found.", notes=notes, tables=faults),
        ],
    )  # fmt: skip
    (context.directory / "data_report.html").write_text(html, encoding="utf-8")


def _track(context: StageContext) -> None:
    for name in ("data_report.html", "data_report.json", "quarantine.csv", "manifest.parquet"):
        context.run.log_artifact(context.directory / name)
    log_lineage(context.run, context.directory, used_for="prepare")
