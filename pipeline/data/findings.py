"""What preparing found out about a data set, as one record; its summary for programs, and its warnings in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from components.data.fixed_splits import SPLITS
from components.display import counted

if TYPE_CHECKING:
    from components.data.audit.leakage import LeakageProbe
    from components.data.audit.near_duplicates import NearDuplicates
    from components.data.audit.shortcuts import Shortcut

#: Bits of usual cameras, and of 8-bit pictures that were saved in 16.
USUAL_BITS = (8, 10, 12, 14)
#: A few dark images among bright ones are no second way of storing.
FEWEST_OF_A_KIND, LEAST_SHARE = 2, 0.05
#: Shares of an image that a mask marks: more is unusual, and hardly a defect.
UNUSUAL_COVER, WHOLE_COVER = 0.5, 0.9


@dataclass(frozen=True, kw_only=True)
class DataFindings:
    """All that the data report is made from."""

    manifest: pd.DataFrame
    statistics: pd.DataFrame
    """A row for each of the manifest, in its order: image_id, path, and the columns that the file pass measured."""
    quarantine: pd.DataFrame
    """Columns path, reason."""
    listing_description: str
    root: str
    notes: tuple[str, ...]
    """Sentences about how the source was read and how splits and folds were made."""
    warnings: tuple[str, ...]
    """Sentences about what could not be done as asked, such as folds for which the groups are too few."""
    conflicts: pd.DataFrame
    """Of `components.data.groups.label_conflicts`; what was dropped for it is in no row of the manifest."""
    largest_groups: pd.DataFrame
    """Of `components.data.groups.largest_groups`."""
    left_out: pd.DataFrame
    """Columns image_id, label, pack_index: what belongs to a given split, and is in no row of the manifest."""
    near: NearDuplicates | None
    """Its pairs are pack indices; None: not looked for."""
    audited: bool
    """False: `data.audit` is off, and the two below are empty."""
    probe: LeakageProbe | None
    shortcuts: list[Shortcut]
    """The worst first."""
    min_defect_note: str | None
    """A sentence, where masks show that the model's image leaves defects too few pixels."""
    digest: str


def summarise(findings: DataFindings) -> dict[str, Any]:
    """`data_report.json`: plain JSON values."""
    manifest, near, probe = findings.manifest, findings.near, findings.probe
    return {
        "source": findings.listing_description,
        "root": findings.root,
        "digest": findings.digest,
        "images": len(manifest),
        "files": len(files_of(findings)),
        "counts": _nested(split_table(manifest)),
        "folds": _nested(fold_table(manifest)),
        "groups": int(manifest["group"].nunique()),
        "largest_groups": [_plain(group) for group in findings.largest_groups.to_dict("records")],
        "exact_duplicates": exact_duplicates(manifest),
        "near_duplicate_pairs": None if near is None else len(near.pairs),
        "near_duplicate_threshold": None if near is None else float(near.threshold),
        "label_conflicts": len(findings.conflicts),
        "left_out": findings.left_out["image_id"].tolist(),
        "leakage": None if probe is None else _plain(asdict(probe)),
        "shortcuts": [_plain(asdict(shortcut)) for shortcut in findings.shortcuts],
        "quarantined": len(findings.quarantine),
        "defect_size": _defect_size(findings),
        "warnings": warnings_of(findings),
        "notes": list(findings.notes),
    }


def warnings_of(findings: DataFindings) -> list[str]:
    """What to look at first, a sentence or two each, the worst first."""
    found = [cue.statement for cue in findings.shortcuts if cue.suspicious]
    if findings.probe is not None and findings.probe.leaks:
        found.append(findings.probe.statement)
    if len(findings.conflicts):
        images = int(findings.conflicts["image_ids"].map(len).sum())
        found.append(
            f"{counted(len(findings.conflicts), 'set')} of images that show the same thing "
            f"({images:,} images) carry different labels: a label is wrong, or a defect is all that differs."
        )
    if len(findings.quarantine):
        found.append(f"{counted(len(findings.quarantine), 'file')} could not be used and were set aside.")
    if findings.min_defect_note:
        found.append(findings.min_defect_note)
    return [*found, *findings.warnings]


def write_tables(findings: DataFindings, directory: Path) -> list[str]:
    """Write near_duplicates.csv and label_conflicts.csv; the names of the files."""
    pairs = findings.near.pairs if findings.near is not None else _NO_PAIRS
    names = shown_images(findings)["image_id"]
    columns = {side: names.loc[pairs[side]].to_numpy() for side in ("first", "second")}
    pairs.assign(**columns).to_csv(directory / "near_duplicates.csv", index=False)
    readable = {column: findings.conflicts[column].map(joined) for column in ("image_ids", "labels")}
    conflicts = findings.conflicts.drop(columns="pack_index").assign(**readable)
    conflicts.to_csv(directory / "label_conflicts.csv", index=False)
    return ["near_duplicates.csv", "label_conflicts.csv"]


def shown_images(findings: DataFindings) -> pd.DataFrame:
    """Columns image_id and label by pack_index: of identical files the first; what was dropped is among them."""
    dropped = findings.conflicts[["pack_index", "image_ids", "labels"]].explode(["pack_index", "image_ids", "labels"])
    dropped = dropped.rename(columns={"image_ids": "image_id", "labels": "label"})
    images = pd.concat([findings.manifest[["pack_index", "image_id", "label"]], dropped, findings.left_out])
    return images.astype({"pack_index": "int64"}).drop_duplicates("pack_index").set_index("pack_index")


def files_of(findings: DataFindings) -> pd.DataFrame:
    """The statistics with one row per file: the tiles of a file share its size, mode and pages."""
    return findings.statistics.drop_duplicates("path")


def split_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images per label (rows) and split (columns)."""
    table = pd.crosstab(manifest["label"], manifest["split"])
    return table[[split for split in SPLITS if split in table.columns]]


def fold_table(manifest: pd.DataFrame) -> pd.DataFrame:
    """Images per label (rows) and fold (columns, from "0"); without columns where there are no folds."""
    inside = manifest[manifest["fold"] >= 0]
    return pd.crosstab(inside["label"], inside["fold"]).rename(columns=str)


def exact_duplicates(manifest: pd.DataFrame) -> int:
    """Files whose bytes another file has, too: a file's tiles share its digest and are none."""
    return int(manifest.drop_duplicates("path")["sha256"].duplicated().sum())


def near_duplicate_groups(findings: DataFindings) -> int:
    """Groups that hold at least one pair of near duplicates."""
    if findings.near is None or findings.near.pairs.empty:
        return 0
    paired = findings.manifest["pack_index"].isin(findings.near.pairs["first"])
    return int(findings.manifest.loc[paired, "group"].nunique())


def joined(values: object) -> str:
    return values if isinstance(values, str) else ", ".join(str(value) for value in values)  # type: ignore[attr-defined]


_NO_PAIRS = pd.DataFrame({"first": [], "second": [], "correlation": [], "symmetry": []})


def _defect_size(findings: DataFindings) -> dict[str, Any] | None:
    """Shortest side of the smallest defect of each image with a mask, in pixels of what the model sees."""
    known = findings.statistics["defect_pixels"].dropna()
    if known.empty:
        return None
    return {
        "images": len(known),
        "smallest_px": float(known.min()),
        "median_px": float(known.median()),
        "note": findings.min_defect_note,
    }


def _nested(table: pd.DataFrame) -> dict[str, dict[str, int]]:
    return {str(label): {str(name): int(count) for name, count in row.items()} for label, row in table.iterrows()}


def _plain(record: dict[Any, Any]) -> dict[str, Any]:
    """numpy's numbers as Python's, which JSON can hold."""
    return {
        str(key): value.item() if isinstance(value, np.generic) else list(value) if isinstance(value, tuple) else value
        for key, value in record.items()
    }


def file_warnings(
    statistics: pd.DataFrame, listed: pd.DataFrame, good_labels: Sequence[str], *, significant_bits: int | None
) -> tuple[str, ...]:
    """Sentences on 16-bit files whose range is not used, on labels that are more likely wrong than right, and on masks
    that are inverted, empty or on good images.

    statistics: a row per framed image: path, peak (see `DecodedImage`) and defect_area. listed: path, label, mask and,
    where there is such, confidence of each file, as its source names them.
    """
    found = [
        bit_depth_warning(statistics.drop_duplicates("path")["peak"].dropna(), significant_bits),
        _confidence_warning(listed),
        *_mask_warnings(statistics, listed, good_labels),
    ]
    return tuple(sentence for sentence in found if sentence)


def bit_depth_warning(peaks: pd.Series, significant_bits: int | None) -> str | None:
    """Peaks: the largest sample of each file of 16 bits. significant_bits: how many of them were taken to count."""
    if significant_bits and not len(peaks):
        return (
            f"data.significant_bits={significant_bits} has no effect: all files have 8 bits, or say themselves how "
            "many count."
        )
    taken = significant_bits or 16
    for bits in (bits for bits in USUAL_BITS if bits < taken and len(peaks)):
        low = peaks[peaks < 2**bits]
        files = counted(len(peaks), "file")
        if len(low) == len(peaks):
            return (
                f"no pixel above {2**bits - 1} in {files} of 16 bits, of which {taken} count: where they hold "
                f"{bits} bits, right-aligned, set data.significant_bits: {bits}; with the present setting "
                f"the images are {2 ** (taken - bits)} times too dark."
            )
        few = len(low) < max(FEWEST_OF_A_KIND, LEAST_SHARE * len(peaks))
        # Two ways of storing leave a gap between them; dark and bright images of one camera do not.
        if not few and low.max() >= 2 ** (bits - 1) and peaks[peaks >= 2**bits].min() >= 2 ** (bits + 1):
            return (
                f"{len(low):,} of {files} of 16 bits have no pixel above {2**bits - 1}, and the others reach "
                f"{int(peaks[peaks >= 2**bits].min())} and more: values seem to be stored in two ways, and the former "
                f"images are far too dark; data.significant_bits: {bits} is for all files, so store them in one way."
            )
    return None


def _confidence_warning(listed: pd.DataFrame) -> str | None:
    """Of two classes the other one is then the likely one; of more, none may be."""
    if "confidence" not in listed or listed["label"].nunique() != 2:
        return None
    doubtful = listed[listed["confidence"] < 0.5]
    if doubtful.empty:
        return None
    return (
        f"{counted(len(doubtful), 'image')} with a confidence below 0.5, whose label is less likely right than wrong "
        f"(the first: {doubtful['path'].iloc[0]}): correct the labels, or data.confidence_column if it does not hold "
        "the probability that the label is right."
    )


def _mask_warnings(statistics: pd.DataFrame, listed: pd.DataFrame, good_labels: Sequence[str]) -> list[str]:
    cover = statistics.groupby("path")["defect_area"].mean().dropna()
    labels = listed.set_index("path")["label"].astype("str").loc[cover.index]
    good = labels.isin(list(good_labels))
    sentences = []
    unusual = cover[cover > UNUSUAL_COVER]
    if len(unusual) > len(cover) / 2 or (cover > WHOLE_COVER).any():
        sentences.append(
            f"{len(unusual):,} of {counted(len(cover), 'mask')} mark more than half of their image as defective (the "
            f"first: that of {unusual.index[0]}): a mask has to be white where the defect is and black elsewhere; "
            "invert those that are not."
        )
    empty = cover[~good & (cover == 0)]
    if len(empty):
        sentences.append(
            f"{counted(len(empty), 'defective image')} with a mask that marks nothing of what the model sees (the "
            f"first: {empty.index[0]})."
        )
    marked = cover[good & (cover > 0)]
    if len(marked):
        sentences.append(
            f"{counted(len(marked), 'image')} of a good label with a mask that marks a defect (the first: "
            f"{marked.index[0]})."
        )
    return sentences
