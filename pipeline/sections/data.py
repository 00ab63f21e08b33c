"""Where the images come from, what of them the model sees, and how they are split."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from components.data.names import normal_form, spelling
from pipeline.sections.base import Location, Section


def _name(value: str) -> str:
    name = normal_form(value)
    if not name:
        raise ValueError("is empty; give a name")
    return name


def _groups_in(pattern: str) -> int:
    try:
        return re.compile(pattern).groups
    except re.error as error:
        raise ValueError(f"is no regular expression ({error}); write it as Python's re takes it") from error


#: A label or a column, as labels and columns of a source are read.
Name = Annotated[str, AfterValidator(_name)]


class SplitFractions(Section):
    """Share of the images in each split, per class and whole groups at a time; the four sum to 1. In the design
    cross_fit all but test is train, and val and calibration are not used."""

    train: float = Field(default=0.60, gt=0, lt=1)
    """What the weights are fitted on."""
    val: float = Field(default=0.15, gt=0, lt=1)
    """hold_out: what trials and epochs are compared on."""
    calibration: float = Field(default=0.10, gt=0, lt=1)
    """hold_out: what the score's scale and bias and the threshold are fitted on; seen by nothing before."""
    test: float = Field(default=0.15, gt=0, lt=1)
    """What is read once, by evaluate."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> SplitFractions:
        total = self.train + self.val + self.calibration + self.test
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the four fractions sum to {total:.4g}; they must sum to 1")
        return self


class DataConfig(Section):
    source: Location = "folder:images"
    """`folder:/path` (a class per folder), `csv:/path`, `parquet:/path`, `mvtec:/path` (MVTec-AD's layout), `elpv`, or
    `generated:key=value,...`. A path may be any address that fsspec knows, such as `folder:s3://bucket/castings`."""
    label_spelling: Literal["error", "merge", "keep"] = "error"
    """Labels that differ only in case, blanks, Unicode form or look-alike letters: stop, take them for one class
    (spelt as in `good_labels`, else as most images have it), or keep them as different classes."""
    good_labels: tuple[Name, ...] = ("good",)
    """The classes that are good parts; every other class is a defect. Empty: defect types only, no escapes."""
    image_size: int = Field(default=224, ge=16, le=2048)
    """Side of the square, in pixels, that the model sees."""
    significant_bits: int | None = Field(default=None, ge=8, le=16)
    """Bits that count in files of 16 bits, where a camera's 10, 12 or 14 are right-aligned: 12 makes 4095 white. null:
    as each file says, or all 16. An image with a larger value is refused."""
    region: tuple[int, int, int, int] | None = None
    """Left, top, right and bottom, in pixels of the upright image, of the part that is looked at; null: all of it."""
    fit: Literal["squash", "letterbox"] = "squash"
    """How what is not square becomes so: squashed, or whole between black bars."""
    tile_size: int | None = Field(default=None, ge=16)
    """Cut each image into overlapping tiles of this side, in pixels, and judge each; labels come from masks."""
    tile_overlap: float = Field(default=0.25, ge=0, le=0.5)
    """Share of a tile's side that neighbouring tiles have in common at least."""
    design: Literal["auto", "cross_fit", "hold_out"] = "auto"
    """`cross_fit`: all images but test are cut into `num_folds` folds; each training leaves one out, which then scores
    it, so that every image teaches and, but for a fold on which something was chosen, certifies. `hold_out`: splits for
    train, val and calibration.
    `auto`: hold_out with more than 20,000 images beside test, or where val or calibration is given."""
    splits: SplitFractions = SplitFractions()
    split_conflict: Literal["error", "train", "majority"] = "error"
    """What to do when a given split tears a group apart: stop, put the group into train, or into its majority."""
    split_spill: Literal["drop", "move"] = "drop"
    """Images without a split that show the same thing or share a part with one of a given val, calibration or test
    split: leave them out, so that the split stays as given, or move them into it with their whole group."""
    stratify_columns: tuple[Name, ...] = ()
    """Metadata columns that are to be spread over the splits evenly, too, as far as the groups allow."""
    num_folds: int = Field(default=5, ge=0, le=20)
    """Folds: cross_fit trains a model without each of them; hold_out cross-validates on those of train and val where
    `search.folds` asks for it (0: none)."""
    earlier_manifest: Location | None = None
    """A manifest.parquet of earlier: its images keep their split, and new groups fill up the shares."""
    near_duplicates: Literal["off", "upright", "symmetric"] = "upright"
    """Group images that show the same thing: as they stand, or also turned and mirrored. Off: identical files only."""
    label_conflicts: Literal["keep", "drop", "stop"] = "keep"
    """Images that show the same thing under different labels: keep and report them, drop them all, or stop."""
    audit: bool = True
    """Probe for leakage and shortcuts, for the report; nothing later depends on it."""
    max_quarantined_fraction: float = Field(default=0.01, ge=0, lt=1)
    """The run stops when a larger share of the files cannot be decoded."""
    pack: Literal["auto", "decoded", "encoded", "none"] = "auto"
    """How resized images are kept: as pixels, as lossless PNG, or not at all (read from the source each time). `auto`:
    the first of them that disk and memory have room for. The pixels are the same, so it shapes no result."""
    path_column: Name = "path"
    """csv/parquet: the column with the image's path, relative to `data.root`."""
    label_column: Name = "label"
    """csv/parquet: the column with the class."""
    group_column: Name | None = None
    """csv/parquet: the column naming the part, lot or board; images of a group never cross a split."""
    group_pattern: str | None = None
    """The part in an image's path, where no column names it: a regular expression with one group that holds it, such as
    `(part[0-9]+)_` for part012_1.png; images of a group never cross a split."""
    split_column: Name | None = None
    """csv/parquet: the column with a given split, which is honoured."""
    mask_column: Name | None = None
    """csv/parquet: the column with the path of a mask, a picture that is not black where the defect is."""
    confidence_column: Name | None = None
    """csv/parquet, and `confidence` of elpv: the column with the probability, from 0 to 1, that the label is right, or
    the share of the labellers who agree; empty: 1. Networks learn from targets softened by it."""
    metadata_columns: tuple[Name, ...] = ()
    """csv/parquet: further columns to keep (camera, lighting, product)."""
    root: Location | None = None
    """csv/parquet: folder or address of the images; default: the table's own folder."""
    defect_threshold: float = Field(default=0.5, gt=0, le=1)
    """elpv: a cell is defective when its defect probability is at least this."""

    @field_validator("good_labels")
    @classmethod
    def _each_once(cls, value: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        key = spelling if info.data.get("label_spelling") == "merge" else str
        return tuple({key(label): label for label in reversed(value)}.values())[::-1]

    @field_validator("group_pattern")
    @classmethod
    def _has_one_group(cls, value: str | None) -> str | None:
        if value is not None and _groups_in(value) != 1:
            raise ValueError("put what names the part, and nothing else, into ( ), such as (part[0-9]+)_")
        return value

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
