"""The manifest: one row per image or tile, and the same one again from its file."""

import dataclasses

import fsspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.data.files import Files
from components.data.fixed_splits import SPLITS
from components.data.manifest import (
    SplitRules,
    _check_kinds,
    build_manifest,
    check_listing,
    classes_of,
    load_earlier,
    load_manifest,
    manifest_digest,
)
from components.data.sources.listing import make_listing
from components.errors import InputError

FRACTIONS = {"train": 0.4, "val": 0.2, "calibration": 0.2, "test": 0.2}
SETTINGS = {
    "good_labels": ("good",),
    "fractions": FRACTIONS,
    "seed": 0,
    "conflict": "error",
    "spill": "drop",
    "strata": (),
    "design": "hold_out",
}
PAIRS = np.zeros((0, 2), dtype=np.int64)


def listing_of(label, *, path=None, group=None, split=None, mask=None, confidence=None, metadata=None):
    path = [f"{number:02d}.png" for number in range(len(label))] if path is None else path
    columns = {"path": path, "label": label, "group": group, "split": split, "mask": mask}
    columns |= {f"meta_{name}": values for name, values in (metadata or {}).items()}
    return make_listing(Files("/images"), columns, confidences=confidence, description="")


def files_of(path, *, sha256=None, box=None, defect_area=None, pack_index=None):
    """What the pass over the files tells of each framed image; each file has bytes of its own unless said."""
    count = len(path)
    return pd.DataFrame(
        {
            "path": path,
            "box": [""] * count if box is None else box,
            "sha256": [f"sha-of-{name}" for name in path] if sha256 is None else sha256,
            "width": 64,
            "height": 48,
            "mode": "RGB",
            "format": "PNG",
            "defect_area": np.nan if defect_area is None else defect_area,
            "pack_index": np.arange(count) if pack_index is None else pack_index,
            "brightness": np.float32(0.5),
        }
    )


def check(listing, *, tiled=False, **changes):
    check_listing(listing, SplitRules(**{**SETTINGS, **changes}), tiled=tiled)


def build(listing, files_table, **changes):
    rules = SplitRules(**{name: changes.pop(name, value) for name, value in SETTINGS.items()})
    arguments = {"pairs": PAIRS, "num_folds": 2, "earlier": {}, "label_conflicts": "keep", **changes}
    return build_manifest(listing, files_table, rules=rules, **arguments)


@pytest.fixture
def parts():
    """Ten good and eight defective images; the first two have the same bytes, the third was set aside."""
    label = ["good"] * 10 + ["crack"] * 4 + ["pit"] * 4
    listing = listing_of(label, metadata={"camera": ["left", None] * 9})
    path = [name for name in listing.table["path"] if name != "02.png"]
    return listing, files_of(path, sha256=["same", "same", *(f"sha-of-{name}" for name in path[2:])])


def test_it_has_a_row_for_each_image_that_was_read_and_all_columns(parts):
    manifest = build(*parts).table
    assert list(manifest.columns) == [
        "image_id", "path", "label", "is_defect", "group", "split", "fold",
        "sha256", "width", "height", "mode", "format", "pack_index", "meta_camera",
    ]  # fmt: skip
    assert len(manifest) == 17
    assert "02.png" not in set(manifest["path"])
    assert manifest["path"].is_monotonic_increasing
    assert manifest["image_id"].tolist() == manifest["path"].tolist()
    assert manifest["pack_index"].tolist() == list(range(17))
    assert manifest["fold"].dtype == manifest["width"].dtype == np.int64
    assert not manifest.drop(columns="meta_camera").isna().any().any()
    assert set(manifest["split"]) == {"train", "val", "calibration", "test"}
    assert ((manifest["fold"] >= 0) == manifest["split"].isin(["train", "val"])).all()


def test_a_confidence_is_a_number_in_the_manifest_and_told_in_its_notes(parts, tmp_path):
    label, files_table = parts[0].table["label"].tolist(), parts[1]
    listing = listing_of(label, confidence=[2 / 3, 1.0] + [0.25] + [1.0] * 15)
    manifest = build(listing, files_table)
    assert manifest.table["confidence"].dtype == np.float64
    assert manifest.table["confidence"].tolist() == [2 / 3] + [1.0] * 16  # the third was set aside
    said = "1 image of 17 with a confidence below 1 in the label (on average over all 0.980): networks learn from soft"
    assert manifest.notes[-1].startswith(said)
    manifest.table.to_parquet(tmp_path / "manifest.parquet", index=False)
    pd.testing.assert_frame_equal(load_manifest(tmp_path / "manifest.parquet"), manifest.table)
    other = build(listing_of(label, confidence=[0.5] + [1.0] * 17), files_table)
    assert manifest_digest(other.table) != manifest_digest(manifest.table)


def test_is_defect_is_a_plain_bool_and_true_for_every_class_that_is_not_good(parts):
    manifest = build(*parts).table
    assert manifest["is_defect"].dtype == bool
    assert set(manifest.loc[manifest["is_defect"], "label"]) == {"crack", "pit"}
    both = build(*parts, good_labels=("good", "pit")).table
    assert set(both.loc[both["is_defect"], "label"]) == {"crack"}


def test_without_good_classes_is_defect_is_missing_throughout(parts, tmp_path):
    manifest = build(*parts, good_labels=()).table
    assert manifest["is_defect"].isna().all()
    manifest.to_parquet(tmp_path / "m.parquet", index=False)
    assert load_manifest(tmp_path / "m.parquet")["is_defect"].isna().all()


def test_the_same_bytes_and_near_duplicates_share_a_group_and_a_split(parts):
    # The pack holds its images in another order than the table: pairs are of pack indices.
    listing, files_table = parts
    shuffled = files_table.assign(pack_index=np.arange(17)[::-1])
    manifest = build(listing, shuffled, pairs=np.array([[16 - 3, 16 - 5]])).table.set_index("path")
    same, alike = manifest.loc[["00.png", "01.png"]], manifest.loc[["04.png", "06.png"]]
    assert same["group"].nunique() == alike["group"].nunique() == 1
    assert same["split"].nunique() == alike["split"].nunique() == 1
    assert manifest["group"].nunique() == 15


def test_masks_are_kept_where_the_source_has_them(parts):
    assert "mask" not in build(*parts).table
    listing = listing_of(["good"] * 10 + ["crack"] * 8, mask=[None] * 10 + [f"m{n}.png" for n in range(8)])
    mask = build(listing, files_of(listing.table["path"])).table["mask"]
    assert mask.isna().tolist() == [True] * 10 + [False] * 8
    assert mask[17] == "m7.png"


def test_a_round_trip_through_the_file_changes_nothing(parts, tmp_path):
    manifest = build(*parts).table
    manifest.to_parquet(tmp_path / "m.parquet", index=False)
    loaded = load_manifest(tmp_path / "m.parquet")
    assert loaded.equals(manifest)
    assert loaded.dtypes.equals(manifest.dtypes)
    assert manifest_digest(loaded) == manifest_digest(manifest)


def test_the_digest_follows_every_cell_but_the_place_in_the_pack(parts):
    listing, files_table = parts
    digest = manifest_digest(build(*parts).table)
    assert manifest_digest(build(*parts).table) == digest
    assert manifest_digest(build(*parts, seed=1).table) != digest
    assert manifest_digest(build(*parts, good_labels=("good", "pit")).table) != digest
    assert manifest_digest(build(*parts, num_folds=0).table) != digest
    assert manifest_digest(build(listing, files_table.assign(pack_index=np.arange(17)[::-1])).table) == digest


def test_neither_the_order_of_the_files_nor_that_of_the_pairs_matters(parts):
    listing, files_table = parts
    pairs = np.array([[3, 5], [8, 9]])
    order = np.random.default_rng(0).permutation(17)
    again = build(listing, files_table.iloc[order], pairs=pairs[::-1, ::-1]).table
    assert again.equals(build(*parts, pairs=pairs).table)


def test_good_labels_that_are_no_class_are_refused_with_the_classes_there_are(parts):
    with pytest.raises(InputError, match=r"data\.good_labels=\['ok'\].*'ok'; the classes are: crack, good, pit"):
        build(*parts, good_labels=("ok",))


def test_good_labels_that_are_spelt_otherwise_are_answered_with_the_class_that_was_meant(parts):
    with pytest.raises(InputError, match=r"'good' is spelt otherwise: write it so, or set data\.label_spelling"):
        build(*parts, good_labels=["Good"])


def test_good_labels_that_are_all_classes_are_refused(parts):
    with pytest.raises(InputError, match="names every class"):
        build(*parts, good_labels=("good", "pit", "crack"))


def test_classes_are_sorted(parts):
    assert classes_of(build(*parts).table) == ["crack", "good", "pit"]


def test_a_given_split_without_defective_images_is_refused(tmp_path):
    table = pd.DataFrame({"label": ["good", "bad"] * 4, "is_defect": [False, True] * 4})
    table["split"] = ["train", "train", "val", "val", "calibration", "calibration", "test", "test"]
    _check_kinds(table, SPLITS)
    with pytest.raises(InputError, match="split val has no image of defective"):
        _check_kinds(table[~((table["split"] == "val") & table["is_defect"])], SPLITS)


@pytest.mark.parametrize(("policy", "images"), [("keep", 18), ("drop", 16)])
def test_conflicting_labels_are_reported_and_handled_as_configured(policy, images):
    listing = listing_of(["good"] * 10 + ["crack"] * 8)
    files_table = files_of(listing.table["path"])
    found = build(listing, files_table, pairs=np.array([[9, 10]]), label_conflicts=policy)
    assert len(found.table) == images
    assert found.conflicts["image_ids"].tolist() == [("09.png", "10.png")]
    assert found.notes[0].startswith("1 set of images that show the same thing carries different labels (2 images)")
    with pytest.raises(InputError, match=r"data\.label_conflicts='stop'"):
        build(listing, files_table, pairs=np.array([[9, 10]]), label_conflicts="stop")


def test_the_largest_groups_are_those_of_the_table_that_is_left():
    listing = listing_of(["good"] * 10 + ["crack"] * 8, group=["p1"] * 3 + [None] * 15)
    found = build(listing, files_of(listing.table["path"]), pairs=np.array([[4, 5], [9, 10]]), label_conflicts="drop")
    assert found.largest_groups[["images", "labels", "reason"]].to_numpy().tolist() == [
        [3, "good 3", "part"],
        [2, "good 2", "near duplicates"],
    ]


def test_notes_of_splits_and_folds_are_handed_on():
    listing = listing_of(["good"] * 40 + ["crack"] * 4)
    earlier = {f"sha-of-{n:02d}.png": "train" for n in range(20)}
    built = build(listing, files_of(listing.table["path"]), earlier=earlier, num_folds=5)
    assert "20 images keep the split of data.earlier_manifest; 24 are new." in built.notes
    assert built.shortages == ("Class crack has 2 groups outside test: 3 of 5 folds go without it.",)


def given_test(count=10, rest=60, **more):
    """`count` given test images, and `rest` without a split, good and defective by turns: 00.png, 01.png, …"""
    label = ["good", "crack"] * ((count + rest) // 2)
    listing = listing_of(label, split=["test"] * count + [None] * rest, **more)
    return listing, files_of(listing.table["path"])


def splits_of(found):
    counts = found.table["split"].value_counts()
    return [int(counts.get(name, 0)) for name in ("train", "val", "calibration", "test")]


def test_a_given_test_set_stays_and_what_is_tied_to_it_is_left_out_and_counted():
    # Of the 60 without a split: 10 ~ 0, 11 ~ 10 (a chain), 12 has the bytes of 1, 13 and 14 share the part of 2;
    # 15 ~ 16 are tied to each other alone.
    part = [None] * 70
    part[2] = part[13] = part[14] = "part A"
    listing, files_table = given_test(group=part)
    files_table.loc[12, "sha256"] = files_table.loc[1, "sha256"]
    pairs = np.array([[10, 0], [10, 11], [15, 16]])
    found = build(listing, files_table, pairs=pairs, good_labels=("good",))
    # 56 of 60 are left: 0.4, 0.2 and 0.2 of 0.8 of them.
    assert splits_of(found) == [28, 14, 14, 10]
    assert found.left_out["image_id"].tolist() == ["10.png", "12.png", "13.png", "14.png"]
    assert found.shortages == (
        "4 images without a split left out: each shows the same thing, or shares a part, with images of a given "
        "split (test 4), the first: 10.png; data.split_spill=move puts such images into that split.",
    )
    rows = found.table.set_index("image_id")
    assert rows.loc["11.png", "group"] != rows.loc["00.png", "group"]
    assert rows.loc["15.png", "split"] == rows.loc["16.png", "split"] != "test"


def test_a_given_test_set_takes_whole_groups_in_where_the_key_says_so_and_says_how_large_it_is():
    found = build(*given_test(), pairs=np.array([[10, 0], [10, 11]]), spill="move")
    assert splits_of(found) == [30, 14, 14, 12]
    assert len(found.left_out) == 0
    assert found.shortages == (
        "test has 12 images, and only 10 were given: 2 without a split show the same thing or share a part with them; "
        "data.split_spill=drop leaves such images out.",
    )


def test_images_tied_to_a_given_train_image_join_it():
    listing = listing_of(["good", "crack"] * 20, split=["train", "test"] * 5 + ["test"] * 4 + [None] * 26)
    found = build(listing, files_of(listing.table["path"]), pairs=np.array([[0, 20]]), label_conflicts="keep")
    assert found.table.set_index("image_id").loc["20.png", "split"] == "train"
    assert (len(found.table), found.shortages) == (40, ())


def test_a_class_that_would_be_left_out_whole_is_refused_from_the_listing_on():
    listing, files_table = given_test(group=["p" if n % 2 else None for n in range(70)])
    wanted = r"data\.split_spill='drop': all images without a split of class crack"
    with pytest.raises(InputError, match=wanted):
        check(listing)
    with pytest.raises(InputError, match=wanted):
        build(listing, files_table)


def test_what_was_left_out_is_told_where_too_little_is_left():
    # Each of the ten test images stands for one of ten lots of seven.
    listing, _ = given_test(group=[f"lot {n % 10}" for n in range(70)])
    spread = listing_of(
        ["good", "crack"] * 35, group=[f"lot {n % 10}" if n < 62 else None for n in range(70)],
        split=["test"] * 10 + [None] * 60,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"split_spill='drop': all images without a split of class crack, good"):
        check(listing)
    check(spread)
    few = spread.table.assign(group=[f"lot {n % 10}" if n < 68 else None for n in range(70)])
    with pytest.raises(InputError, match=r"class crack has 1 group.*; before that, 58 images without a split left out"):
        check(dataclasses.replace(spread, table=few))


def test_all_tiles_of_an_image_are_left_out_together():
    listing = listing_of(["good", "crack"] * 20, split=["test"] * 8 + [None] * 32, mask=[None, "m.png"] * 20)
    path = np.repeat(listing.table["path"], 2).tolist()
    area = np.tile([np.nan, np.nan, 0.5, 0.5], 20)
    files_table = files_of(path, box=["a", "b"] * 40, defect_area=area)
    found = build(listing, files_table, pairs=np.array([[0, 21]]))  # a tile of 00.png, and one of 10.png
    assert found.left_out["image_id"].tolist() == ["10.png#a", "10.png#b"]
    assert found.shortages[0].startswith("1 image without a split left out")
    assert "10.png" not in set(found.table["path"])


@pytest.fixture
def tiles():
    """Sixteen images of two tiles; in each of the eight with a crack, the mask lies in the second tile."""
    label = ["good"] * 8 + ["crack"] * 8
    listing = listing_of(label, mask=[None] * 8 + ["m.png"] * 8)
    path = np.repeat(listing.table["path"], 2)
    area = np.repeat([np.nan] * 8 + [0.0] * 8, 2)
    area[17::2] = 0.01
    return listing, files_of(path.tolist(), box=["8,0,16,8", "16,0,24,8"] * 16, defect_area=area)


def test_a_tile_of_a_defective_image_is_as_its_mask_says(tiles):
    manifest = build(*tiles).table
    assert len(manifest) == 32
    assert manifest["image_id"].tolist()[:2] == ["00.png#16,0,24,8", "00.png#8,0,16,8"]
    assert manifest["image_id"].is_unique
    cracked = manifest[manifest["label"] == "crack"]
    assert cracked["image_id"].tolist() == [f"{n:02d}.png#16,0,24,8" for n in range(8, 16)]
    assert (manifest["is_defect"] == (manifest["label"] == "crack")).all()


def test_a_tile_that_the_mask_leaves_free_is_certainly_good(tiles):
    listing, files_table = tiles
    doubted = listing_of(listing.table["label"], mask=listing.table["mask"], confidence=[0.8] * 16)
    table = build(doubted, files_table).table.set_index("image_id")["confidence"]
    assert table["15.png#8,0,16,8"] == 1.0
    assert table["15.png#16,0,24,8"] == table["00.png#8,0,16,8"] == table["00.png#16,0,24,8"] == 0.8


def test_tiles_of_one_image_are_never_torn_apart_nor_called_contradictory(tiles):
    found = build(*tiles)
    assert (found.table.groupby("path")[["group", "split", "fold"]].nunique() == 1).all().all()
    assert found.table["group"].nunique() == 16
    assert len(found.conflicts) == len(found.largest_groups) == 0


def test_good_tiles_of_defective_images_are_of_the_first_good_class():
    listing = listing_of(["fine"] * 4 + ["good"] * 4 + ["crack"] * 8)
    path = np.repeat(listing.table["path"], 2).tolist()
    files_table = files_of(path, box=["a", "b"] * 16, defect_area=[np.nan] * 16 + [0.0, 0.5] * 8)
    counts = build(listing, files_table, good_labels=("good", "fine")).table["label"].value_counts()
    assert counts.to_dict() == {"good": 16, "fine": 8, "crack": 8}


def test_a_mask_that_hits_no_tile_makes_all_of_them_good_and_is_told(tiles):
    listing, files_table = tiles
    black = files_table.assign(defect_area=files_table["defect_area"].where(files_table["path"] != "15.png", 0.0))
    found = build(listing, black)
    assert set(found.table.loc[found.table["path"] == "15.png", "label"]) == {"good"}
    assert found.notes == (
        "No tile shows the defect of 1 defective images, as their masks are black or lie outside data.region "
        "(the first: 15.png): all their tiles count as good.",
    )


def test_tiles_of_defective_images_without_masks_are_refused(tiles):
    listing, files_table = tiles
    area = files_table["defect_area"].where(~files_table["path"].isin(["09.png", "12.png"]))
    with pytest.raises(InputError, match=r"no mask for 2 defective images \(the first: 09\.png\).*mask_column.*mvtec:"):
        build(listing, files_table.assign(defect_area=area))


def test_what_the_listing_alone_tells_to_be_wrong_is_refused():
    good = ["good"] * 20
    check(listing_of([*good, *["crack"] * 8]))
    faults = [
        (listing_of([*good, *["crack"] * 3]), {}, "class crack has 3 groups"),
        (listing_of([*good, *["crack"] * 8], group=["p"] * 28), {}, "class crack has 1 group"),
        (listing_of([*good, *["crack"] * 8], split=["exam"] * 28), {}, "unknown splits 'exam'"),
        (listing_of([*good, *["crack"] * 8]), {"good_labels": ("ok",)}, "no image has the label"),
        (listing_of([*good, *["crack"] * 8]), {"strata": ("camera",)}, r"data\.stratify_columns"),
    ]
    for listing, changes, message in faults:
        with pytest.raises(InputError, match=message):
            check(listing, **changes)


def test_images_below_long_folder_names_are_not_taken_for_one_another():
    path = [f"a_folder_with_a_long_name/{number:02d}.png" for number in range(28)]
    check(listing_of(["good"] * 20 + ["crack"] * 8, path=path))


def test_a_listing_of_defective_images_alone_will_do_if_it_is_cut_into_tiles():
    listing = listing_of(["pit"] * 8 + ["crack"] * 8)
    check(listing, tiled=True)
    with pytest.raises(InputError, match="no image has the label 'good'"):
        check(listing)


def test_a_good_label_that_is_another_form_of_a_number_is_refused_with_the_form_that_it_has():
    with pytest.raises(InputError, match=r"no image has the label '0\.0'; the classes are: .*; write '0', quoted"):
        check(listing_of(["0"] * 20 + ["crack"] * 8), good_labels=("0.0",))


@pytest.mark.parametrize("remote", [False, True])
def test_an_earlier_manifest_tells_the_split_of_each_digest(parts, tmp_path, remote):
    manifest = build(*parts).table
    manifest.to_parquet(tmp_path / "m.parquet", index=False)
    address = str(tmp_path / "m.parquet")
    if remote:
        address = "memory://earlier/m.parquet"
        with fsspec.open(address, "wb") as stream:
            stream.write((tmp_path / "m.parquet").read_bytes())
    earlier = load_earlier(address)
    assert earlier == dict(zip(manifest["sha256"], manifest["split"], strict=True))
    assert len(earlier) == 16
    again = build(*parts, earlier=earlier, seed=7).table
    assert again["split"].tolist() == manifest["split"].tolist()


def test_an_earlier_manifest_that_is_none_is_refused(tmp_path):
    place = tmp_path / "m.parquet"
    with pytest.raises(InputError, match=r"data\.earlier_manifest=.*is not there"):
        load_earlier(str(place))
    with pytest.raises(InputError, match="is not there"):
        load_earlier("memory://nowhere/m.parquet")
    place.write_text("path,label\n")
    with pytest.raises(InputError, match="cannot be read as a manifest"):
        load_earlier(str(place))
    pd.DataFrame({"path": ["a.png"]}).to_parquet(place)
    with pytest.raises(InputError, match="cannot be read as a manifest"):
        load_earlier(str(place))
    for splits in (["train", "exam"], ["train", None], ["train", "test"]):
        pd.DataFrame({"sha256": ["a", "a"], "split": splits}).to_parquet(place)
        with pytest.raises(InputError, match="no split, an unknown one, or two"):
            load_earlier(str(place))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_whatever_is_linked_stays_on_one_side_of_every_split_and_fold(seed):
    generator = np.random.default_rng(seed)
    label = ["good"] * 60 + ["crack"] * 30
    group = [f"p{n}" if n < 20 else None for n in generator.integers(0, 60, 90)]
    listing = listing_of(label, group=group)
    sha256 = [f"{n:016x}" for n in np.where(generator.random(90) < 0.9, np.arange(90), 0)]
    pairs = generator.integers(0, 90, (6, 2))
    arguments = {"pairs": pairs, "seed": seed, "num_folds": 3}
    manifest = build(listing, files_of(listing.table["path"], sha256=sha256), **arguments).table
    rows = manifest.set_index("pack_index")
    for column in ("split", "fold"):
        assert (manifest.groupby("sha256")[column].nunique() == 1).all()
        assert (manifest.assign(part=group).groupby("part")[column].nunique() == 1).all()
        assert (rows.loc[pairs[:, 0], column].to_numpy() == rows.loc[pairs[:, 1], column].to_numpy()).all()
    assert (pd.crosstab(manifest["label"], manifest["split"]).to_numpy() > 0).all()
