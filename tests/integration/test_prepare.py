"""Preparing data as a user does: planted faults are found, what is known is not read again, a kill leaves no trace."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

pytestmark = pytest.mark.integration

FAULTY = {
    "data.source": "generated:count=360,size=256,defect_rate=0.5,faults=0.2,seed=3",
    "data.image_size": 128,
    "data.max_quarantined_fraction": 0.2,
}
MEGAPIXELS = {"data.source": "generated:count=120,size=768,defect_rate=0.5", "data.image_size": 64}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, open_workplace):
    """A prepared data set with planted faults: its manifest, its report, and the truth."""
    place = open_workplace(tmp_path_factory.mktemp("faulty"))
    folder = place.result(place.run("prepare", FAULTY), "prepare")
    truth = pd.read_csv(next(place.storage.glob("generated/*/faults.csv")), keep_default_na=False)
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
    assert set(manifest["fold"]) == {-1, 0, 1, 2, 3, 4}


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
    settings = {"data.source": f"mvtec:{workplace.folder / 'bottle'}", "data.num_folds": 0, "data.image_size": 32}
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
        "search.num_trials": 1,
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
    model = workplace.result(done, "train") / "model"
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
