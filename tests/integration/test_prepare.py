"""Preparing data as a user does: planted faults are found, what is known is not read again, a kill leaves no trace."""

import csv
import io
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.data.sources.generated import list_generated
from components.data.sources.listing import SourceOptions
from components.data.sources.photographs import (
    Row,
    encode_jpeg,
    encode_png,
    group_name,
    image_path,
    mask_path,
    write_file,
)

pytestmark = pytest.mark.integration

FAULTS = ("duplicate", "leak", "conflict", "corrupt")

_LEAK_QUALITY = 90
_TEXT = b"This is not an image.\n"

FAULTY = {"data.image_size": 128, "data.max_quarantined_fraction": 0.2, "data.group_column": "group"}
MEGAPIXELS = {"data.source": "generated:count=120,size=768,defect_rate=0.5", "data.image_size": 64}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, open_workplace):
    """A prepared data set with planted faults: its manifest, its report, and the truth."""
    place = open_workplace(tmp_path_factory.mktemp("faulty"))
    settings = {"data.source": f"csv:{_faulty_images(place.folder / 'images')}"}
    folder = place.result(place.run("prepare", FAULTY | settings), "prepare")
    truth = pd.read_csv(place.folder / "images" / "faults.csv", keep_default_na=False)
    report = json.loads((folder / "data_report.json").read_text())
    return folder, report, truth, pd.read_parquet(folder / "manifest.parquet").set_index("image_id")


def _pairs_in_one_group(manifest, planted):
    there = planted[planted["path"].isin(manifest.index) & planted["of"].isin(manifest.index)]
    same = [manifest.loc[row.path, "group"] == manifest.loc[row.of, "group"] for row in there.itertuples()]
    return np.mean(same), len(same)


def test_corrupt_files_are_quarantined_and_no_others(faulty):
    folder, _, truth, _ = faulty
    quarantined = pd.read_csv(folder / "quarantine.csv")
    assert set(quarantined["path"]) == set(truth.loc[truth["fault"] == "corrupt", "path"])
    assert quarantined["reason"].str.len().min() > 5


def test_duplicates_and_leaks_end_in_the_group_of_their_originals(faulty):
    _, _, truth, manifest = faulty
    assert _pairs_in_one_group(manifest, truth[truth["fault"] == "duplicate"])[0] == 1
    share, count = _pairs_in_one_group(manifest, truth[truth["fault"] == "leak"])
    assert count >= 10
    assert share >= 0.9


def test_no_group_crosses_a_split_or_a_fold(faulty):
    _, _, _, manifest = faulty
    assert manifest.groupby("group")["split"].nunique().max() == 1
    assert manifest[manifest["fold"] >= 0].groupby("group")["fold"].nunique().max() == 1
    assert set(manifest["fold"]) == {-1, 0, 1, 2}


def test_unrelated_parts_are_not_joined(faulty):
    """Copies have parts of their own, so a group joins at most the copies of one part's views."""
    _, report, truth, manifest = faulty
    originals = manifest[~manifest.index.isin(truth["path"])]
    parts = originals.index.str.extract(r"(part\d+)")[0].to_numpy()
    assert pd.Series(parts).groupby(originals["group"].to_numpy()).nunique().max() == 1
    assert report["near_duplicate_pairs"] > 0


def test_planted_conflicts_are_reported(faulty):
    folder, report, truth, _ = faulty
    listed = pd.read_csv(folder / "label_conflicts.csv")["image_ids"].str.cat(sep=", ")
    planted = truth.loc[truth["fault"] == "conflict", "path"]
    found = [path in listed for path in planted]
    assert np.mean(found) >= 0.8
    assert report["label_conflicts"] >= 1
    assert any("different labels" in warning for warning in report["warnings"])


def test_a_shortcut_is_named(workplace):
    source = "generated:count=200,size=48,defect_rate=0.5,shortcut=format"
    done = workplace.run("prepare", {"data.source": source})
    report = json.loads((workplace.result(done, "prepare") / "data_report.json").read_text())
    suspicious = [cue["name"] for cue in report["shortcuts"] if cue["suspicious"]]
    assert "file format" in suspicious
    assert "PNG" in report["warnings"][0] or "JPEG" in report["warnings"][0]


def test_what_is_new_is_read_and_nothing_else(workplace):
    _class_folders(workplace.folder / "images", count=30, seed=0)
    settings = {"data.source": f"folder:{workplace.folder / 'images'}"}
    first = workplace.run("prepare", settings)
    assert first.stage("prepare")["headline"]["decoded"] == 60
    earlier = workplace.result(first, "prepare") / "manifest.parquet"
    _class_folders(workplace.folder / "images", count=4, seed=1)
    again = workplace.run("prepare", {**settings, "data.earlier_manifest": str(earlier)})
    assert again.stage("prepare")["headline"]["decoded"] == 8
    before = pd.read_parquet(earlier).set_index("sha256")["split"]
    after = pd.read_parquet(workplace.result(again, "prepare") / "manifest.parquet").set_index("sha256")["split"]
    assert len(after) == 68
    assert after.loc[before.index].equals(before)


def test_the_result_does_not_depend_on_how_the_data_came_together(workplace, tmp_path_factory, open_workplace):
    _class_folders(workplace.folder / "images", count=30, seed=0)
    settings = {"data.source": f"folder:{workplace.folder / 'images'}"}
    workplace.run("prepare", settings)
    _class_folders(workplace.folder / "images", count=6, seed=1)
    grown = workplace.run("prepare", settings)
    elsewhere = open_workplace(tmp_path_factory.mktemp("elsewhere"))
    shutil.copytree(workplace.folder / "images", elsewhere.folder / "moved")
    at_once = elsewhere.run("prepare", {"data.source": f"folder:{elsewhere.folder / 'moved'}", "data.pack": "encoded"})
    assert grown.stage("prepare")["fingerprint"] == at_once.stage("prepare")["fingerprint"]
    reports = [
        json.loads((place.result(done, "prepare") / "data_report.json").read_text())
        for place, done in ((workplace, grown), (elsewhere, at_once))
    ]
    assert reports[0]["digest"] == reports[1]["digest"]
    assert [report["pack"] for report in reports] == ["decoded", "encoded"]


def test_a_kill_in_the_middle_of_packing_leaves_nothing_that_is_trusted(workplace, waiting, ending):
    command = workplace.pipeline("prepare", MEGAPIXELS)
    process = workplace.start(*command)
    waiting(lambda: list(workplace.storage.glob("images/*/*.tmp")) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1][-4000:]
    os.killpg(process.pid, signal.SIGKILL)
    ending(process)
    workplace.end_leftovers()
    assert not list(workplace.storage.glob("prepare/*/stage.json"))
    resumed = workplace.run("prepare", MEGAPIXELS)
    assert resumed.stage("prepare")["headline"]["images"] == 120
    assert not list(workplace.storage.rglob("*.tmp"))
    assert workplace.running() == []


def test_mvtec_is_pooled_and_split_anew(workplace):
    _mvtec(workplace.folder / "bottle")
    settings = {"data.source": f"mvtec:{workplace.folder / 'bottle'}", "data.image_size": 32}
    folder = workplace.result(workplace.run("prepare", settings), "prepare")
    report = json.loads((folder / "data_report.json").read_text())
    assert any("pooled" in note for note in report["notes"])
    manifest = pd.read_parquet(folder / "manifest.parquet")
    assert manifest[manifest["split"] == "train"]["is_defect"].any()
    assert manifest.loc[manifest["is_defect"], "mask"].str.endswith("_mask.png").all()
    # Four of 128 pixels are one of 32.
    assert report["defect_size"]["median_px"] == pytest.approx(1)
    assert any("data.image_size=32" in warning for warning in report["warnings"])


def test_tiles_are_trained_on_judged_and_served_by_the_image(workplace):
    source = {
        "data.source": "generated:count=120,size=96,defect_rate=0.5,seed=5",
        "data.tile_size": 56,
        "data.tile_overlap": 0.1,
        "search.num_trials": 0,
        "train.epochs": 1,
    }
    done = workplace.run("run", source)
    manifest = pd.read_parquet(workplace.result(done, "prepare") / "manifest.parquet")
    assert len(manifest) == 4 * 120
    assert manifest.groupby("path")["split"].nunique().max() == 1
    defective = manifest.groupby("path")["is_defect"].agg(["any", "sum"])
    assert defective["any"].sum() == pytest.approx(60, abs=8)  # of parts, not of images
    assert (defective.loc[defective["any"], "sum"] < 4).mean() > 0.2  # a small defect off the middle is in some only
    metrics = json.loads((workplace.result(done, "evaluate") / "metrics.json").read_text())
    assert metrics["per_file"]["files"] == manifest.loc[manifest["split"] == "test", "path"].nunique()
    image = next(workplace.storage.glob("generated/*/images/000/*.png"))
    model = workplace.result(done, "deliver") / "model"
    command = [sys.executable, "-m", "pipeline", "predict", "--model", model, image, "--json"]
    answered = workplace.execute(*command)
    assert answered.code == 0, answered.stderr[-2000:]
    (row,) = answered.summary["predictions"]
    assert row["decision"] in ("accept", "reject")
    left, top, right, bottom = map(int, row["tile"].split(","))
    assert (right - left, bottom - top) == (56, 56)


def _class_folders(root: Path, *, count: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    for label in ("good", "pit"):
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (48, 48), dtype=np.uint8)
            Image.fromarray(pixels).save(root / label / f"{seed}_{number:03d}.png")


def _mvtec(root: Path) -> None:
    """Forty good images and twenty with a bright square of four pixels, each of its own noise."""
    generator = np.random.default_rng(0)
    folders = {"train/good": 30, "test/good": 10, "test/spot": 20}
    for folder, count in folders.items():
        (root / folder).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 200, (128, 128), dtype=np.uint8)
            if folder.endswith("spot"):
                mask = np.zeros_like(pixels)
                mask[60:64, 60:64] = 255
                pixels[mask > 0] = 255
                target = root / "ground_truth" / "spot" / f"{number:03d}_mask.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(mask).save(target)
            Image.fromarray(pixels).save(root / folder / f"{number:03d}.png")


def _faulty_images(folder: Path) -> Path:
    """306 images of parts, 18 of them corrupt, and 18 copies of each other kind of fault; the table that lists them."""
    options = SourceOptions(
        path_column="path",
        label_column="label",
        group_column=None,
        split_column=None,
        mask_column=None,
        confidence_column=None,
        metadata_columns=(),
        root=None,
        defect_threshold=0.5,
        cache_dir=folder.parent / "drawn",
    )
    listing = list_generated("count=306,size=256,defect_rate=0.5,seed=3", options)
    shutil.copytree(listing.files.uri, folder)
    table = listing.table.rename(columns=lambda name: name.removeprefix("meta_")).fillna("")
    rows = [Row(**row) for row in table[list(Row._fields)].to_dict("records")]
    labels, generator = sorted(set(table["label"])), np.random.default_rng(3)
    rows = _plant_faults(folder, rows, each=18, parts=table["group"].nunique(), labels=labels, generator=generator)
    pd.DataFrame(rows).to_csv(folder / "labels.csv", index=False)
    return folder / "labels.csv"


class _Fault(NamedTuple):
    """A line of faults.csv. fault: one of FAULTS; of: the image that it is a copy of, or empty."""

    path: str
    fault: str
    of: str


def _plant_faults(
    folder: Path, rows: Sequence[Row], *, each: int, parts: int, labels: Sequence[str], generator: np.random.Generator
) -> list[Row]:
    """Plant `each` of every kind of fault; write faults.csv; return the lines of all files, the copies' last.

    rows: of the sound images, at least 4 × each. parts: how many there are of these. labels: all that occur.

    duplicate: the same bytes under another part. leak: the same view under another part, encoded as JPEG, shifted by 1
    or 2 pixels, up to 6 % brighter or darker. conflict: a duplicate or a leak, by turns, with another label. corrupt:
    a file cut in half, empty or of text, by turns. No image is the origin of two faults. Raises OSError.
    """
    origins = [rows[number] for number in generator.permutation(len(rows))[: len(FAULTS) * each]]
    copies, faults = [], []
    for number, origin in enumerate(origins[: 3 * each]):
        kind, turn = FAULTS[number // each], number % each
        label = _other_label(origin.label, labels, generator) if kind == "conflict" else origin.label
        changed = kind == "leak" or (kind == "conflict" and turn % 2 == 1)
        copy = _copy(folder, origin, label, len(rows) + number, parts + number, generator if changed else None)
        copies.append(copy)
        faults.append(_Fault(copy.path, kind, origin.path))
    for turn, row in enumerate(origins[3 * each :]):
        _corrupt(folder / row.path, turn)
        faults.append(_Fault(row.path, "corrupt", ""))
    with (folder / "faults.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(_Fault._fields)
        writer.writerows(sorted(faults))
    return [*rows, *copies]


def _other_label(label: str, labels: Sequence[str], generator: np.random.Generator) -> str:
    others = [other for other in labels if other != label]
    return others[int(generator.integers(len(others)))]


def _copy(folder: Path, origin: Row, label: str, image: int, part: int, changing: np.random.Generator | None) -> Row:
    """Copy an image and, where the label still calls for it, its mask. changing: draws how, if not byte by byte."""
    group = group_name(part)
    content = (folder / origin.path).read_bytes()
    mask = (folder / origin.mask).read_bytes() if origin.mask and label != "good" else None
    path = image_path(image, group, 1, ".jpg" if changing else Path(origin.path).suffix)
    if changing:
        shift = _draw_shift(changing)
        light = changing.uniform(0.94, 1.06)
        pixels = np.clip(_shifted(_decoded(content), shift) * light + 0.5, 0, 255).astype(np.uint8)
        content = encode_jpeg(pixels, quality=_LEAK_QUALITY)
        mask = encode_png(_shifted(_decoded(mask), shift)) if mask else None
    write_file(folder, path, content)
    if mask:
        write_file(folder, mask_path(path), mask)
    return origin._replace(path=path, label=label, group=group, mask=mask_path(path) if mask else "")


def _draw_shift(generator: np.random.Generator) -> tuple[int, int]:
    """Rows and columns: 1 or 2 pixels along at least one of them."""
    shifts = [(down, right) for down in range(-2, 3) for right in range(-2, 3) if (down, right) != (0, 0)]
    return shifts[int(generator.integers(len(shifts)))]


def _shifted(pixels: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
    """The same size; what comes in at the edge repeats the edge."""
    padded = np.pad(pixels, 2, mode="edge")
    top, left = 2 - shift[0], 2 - shift[1]
    return padded[top : top + pixels.shape[0], left : left + pixels.shape[1]]


def _decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


def _corrupt(path: Path, turn: int) -> None:
    content = path.read_bytes()
    path.write_bytes((content[: len(content) // 2], b"", _TEXT)[turn % 3])
