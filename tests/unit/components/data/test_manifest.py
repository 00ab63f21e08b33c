"""The manifest: one row per image, and the same one again from its file."""

import numpy as np
import pandas as pd
import pytest

from components.data.listing import make_listing
from components.data.manifest import (
    _check_kinds,
    build_manifest,
    classes_of,
    load_manifest,
    manifest_digest,
    save_manifest,
)
from components.data.pack import build_pack
from components.errors import InputError

FRACTIONS = {"train": 0.4, "val": 0.2, "calibration": 0.2, "test": 0.2}


@pytest.fixture
def parts(tmp_path, encode):
    """Ten good and eight defective images, two of them the same bytes, one damaged."""
    generator = np.random.default_rng(0)
    paths, labels = [], []
    for number in range(18):
        path = f"{number:02d}.png"
        (tmp_path / path).write_bytes(encode(generator.integers(0, 256, (8, 8), dtype=np.uint8)))
        paths.append(path)
        labels.append("good" if number < 10 else "crack" if number < 14 else "pit")
    (tmp_path / "01.png").write_bytes((tmp_path / "00.png").read_bytes())
    (tmp_path / "02.png").write_bytes(b"")
    listing = make_listing(
        tmp_path,
        path=paths,
        label=labels,
        group=None,
        split=None,
        metadata={"camera": ["left", None] * 9},
        description="",
    )
    return listing, build_pack(listing, size=8, directory=tmp_path / "pack", workers=2, on_progress=lambda *_: None)


def build(parts, good_labels=("good",), **changes):
    settings = {"fractions": FRACTIONS, "seed": 0, "conflict": "error"}
    return build_manifest(*parts, good_labels=good_labels, **(settings | changes))


def test_it_has_a_row_for_each_decoded_image_and_all_columns(parts):
    manifest = build(parts)
    assert list(manifest.columns) == [
        "image_id", "path", "label", "is_defect", "group", "split",
        "sha256", "width", "height", "mode", "format", "pack_index", "meta_camera",
    ]  # fmt: skip
    assert len(manifest) == 17
    assert "02.png" not in set(manifest["path"])
    assert manifest["path"].is_monotonic_increasing
    assert manifest["image_id"].tolist() == manifest["path"].tolist()
    assert manifest["pack_index"].tolist() == list(range(17))
    assert not manifest.drop(columns="meta_camera").isna().any().any()
    assert set(manifest["split"]) == {"train", "val", "calibration", "test"}


def test_is_defect_is_a_plain_bool_and_true_for_every_class_that_is_not_good(parts):
    manifest = build(parts)
    assert manifest["is_defect"].dtype == bool
    assert set(manifest.loc[manifest["is_defect"], "label"]) == {"crack", "pit"}
    both = build(parts, good_labels=("good", "pit"))
    assert set(both.loc[both["is_defect"], "label"]) == {"crack"}


def test_without_good_classes_is_defect_is_missing_throughout(parts, tmp_path):
    manifest = build(parts, good_labels=())
    assert manifest["is_defect"].isna().all()
    save_manifest(manifest, tmp_path / "m.parquet")
    assert load_manifest(tmp_path / "m.parquet")["is_defect"].isna().all()


def test_images_of_the_same_bytes_share_a_group_and_a_split(parts):
    same = build(parts).set_index("path").loc[["00.png", "01.png"]]
    assert same["group"].nunique() == 1
    assert same["split"].nunique() == 1


def test_a_round_trip_through_the_file_changes_nothing(parts, tmp_path):
    manifest = build(parts)
    save_manifest(manifest, tmp_path / "m.parquet")
    loaded = load_manifest(tmp_path / "m.parquet")
    assert loaded.equals(manifest)
    assert loaded.dtypes.equals(manifest.dtypes)
    assert manifest_digest(loaded) == manifest_digest(manifest)


def test_the_digest_follows_every_cell(parts):
    manifest = build(parts)
    digest = manifest_digest(manifest)
    assert manifest_digest(build(parts)) == digest
    assert manifest_digest(build(parts, seed=1)) != digest
    assert manifest_digest(build(parts, good_labels=("good", "pit"))) != digest


def test_good_labels_that_are_no_class_are_refused_with_the_classes_there_are(parts):
    with pytest.raises(InputError, match=r"data\.good_labels=\['ok'\].*'ok'; the classes are: crack, good, pit"):
        build(parts, good_labels=("ok",))


def test_good_labels_that_are_all_classes_are_refused(parts):
    with pytest.raises(InputError, match="names every class"):
        build(parts, good_labels=("good", "pit", "crack"))


def test_classes_are_sorted(parts):
    assert classes_of(build(parts)) == ["crack", "good", "pit"]


def test_a_given_split_without_defective_images_is_refused(tmp_path):
    table = pd.DataFrame({"label": ["good", "bad"] * 4, "is_defect": [False, True] * 4})
    table["split"] = ["train", "train", "val", "val", "calibration", "calibration", "test", "test"]
    _check_kinds(table)
    with pytest.raises(InputError, match="split val has no image of defective"):
        _check_kinds(table[~((table["split"] == "val") & table["is_defect"])])
