"""What is planted is what faults.csv says, and nothing else."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from components.data.sources.generated import list_generated
from components.data.sources.planted import FAULTS


@pytest.fixture(params=["png", "jpeg"])
def planted(options, request):
    """A listing with 12 faults of each kind among 240 files, by path, and what was planted."""
    listing = list_generated(f"count=240,size=48,faults=0.2,format={request.param}", options())
    root = Path(listing.files.uri)
    faults = pd.read_csv(root / "faults.csv", dtype=str, keep_default_na=False)
    return root, listing.table.set_index("path"), faults


def _pairs(planted, kind):
    root, table, faults = planted
    for fault in faults[faults["fault"] == kind].itertuples():
        yield root, table.loc[fault.path], table.loc[fault.of]


def _pixels(path):
    with Image.open(path) as image:
        return np.asarray(image).astype(float)


def _best_shift(copy, origin):
    """(correlation, (down, right)) of the shift of up to 3 pixels at which the middles agree best."""
    middle = copy[4:-4, 4:-4].ravel()
    n = len(origin)
    found = []
    for down in range(-3, 4):
        for right in range(-3, 4):
            there = origin[4 - down : n - 4 - down, 4 - right : n - 4 - right].ravel()
            found.append((np.corrcoef(middle, there)[0, 1], (down, right)))
    return max(found)


def test_there_are_as_many_of_each_kind_as_asked_and_count_stays_the_number_of_files(planted):
    root, table, faults = planted
    assert faults["fault"].value_counts().to_dict() == dict.fromkeys(FAULTS, 12)
    assert len(table) == 240
    assert {path.relative_to(root).as_posix() for path in root.glob("images/*/*")} == set(table.index)
    masks = {path.relative_to(root).as_posix() for path in root.glob("masks/*/*")}
    assert masks == set(table["mask"].dropna())


def test_no_image_is_part_of_two_faults(planted):
    _, _, faults = planted
    involved = [*faults["path"], *faults.loc[faults["of"] != "", "of"]]
    assert len(set(involved)) == len(involved) == 12 * 7


def test_copies_have_parts_of_their_own(planted):
    _, table, faults = planted
    sizes = table["group"].value_counts()
    for fault in faults[faults["of"] != ""].itertuples():
        assert sizes[table.loc[fault.path, "group"]] == 1
        assert table.loc[fault.path, "group"] != table.loc[fault.of, "group"]
    assert (sizes > 1).sum() == (240 - 36) // 3


def test_duplicates_have_the_same_bytes_and_label(planted):
    for root, copy, origin in _pairs(planted, "duplicate"):
        assert (root / copy.name).read_bytes() == (root / origin.name).read_bytes()
        assert Path(copy.name).suffix == Path(origin.name).suffix
        assert (copy["label"], copy["meta_camera"], copy["meta_lot"]) == (
            origin["label"],
            origin["meta_camera"],
            origin["meta_lot"],
        )
        assert pd.isna(copy["mask"]) == (copy["label"] == "good")
        if copy["label"] != "good":
            assert (root / copy["mask"]).read_bytes() == (root / origin["mask"]).read_bytes()


def test_leaks_are_the_same_view_a_little_shifted_and_brightened_as_jpeg(planted):
    for root, copy, origin in _pairs(planted, "leak"):
        assert copy["label"] == origin["label"]
        with Image.open(root / copy.name) as image:
            assert image.format == "JPEG"
        seen, before = _pixels(root / copy.name), _pixels(root / origin.name)
        correlation, shift = _best_shift(seen, before)
        assert correlation > 0.95
        assert 1 <= max(map(abs, shift)) <= 2
        assert 0.92 < seen.mean() / before.mean() < 1.08
        if copy["label"] != "good":
            moved, still = _pixels(root / copy["mask"]), _pixels(root / origin["mask"])
            down, right = shift
            n = len(still)
            assert (moved[2:-2, 2:-2] == still[2 - down : n - 2 - down, 2 - right : n - 2 - right]).all()


def test_conflicts_have_another_label_and_every_other_one_the_same_bytes(planted):
    same = []
    for root, copy, origin in _pairs(planted, "conflict"):
        assert copy["label"] != origin["label"]
        same.append((root / copy.name).read_bytes() == (root / origin.name).read_bytes())
        if not same[-1]:
            assert _best_shift(_pixels(root / copy.name), _pixels(root / origin.name))[0] > 0.95
        assert pd.isna(copy["mask"]) == (copy["label"] == "good" or origin["label"] == "good")
    assert sum(same) == 6


def test_corrupt_files_are_cut_empty_or_text_and_none_can_be_decoded(planted):
    root, _, faults = planted
    corrupt = faults[faults["fault"] == "corrupt"]
    contents = [(root / path).read_bytes() for path in corrupt["path"]]
    assert sum(content == b"" for content in contents) == 4
    assert sum(content.startswith(b"This is not") for content in contents) == 4
    assert (corrupt["of"] == "").all()
    for content in contents:
        with pytest.raises(OSError):  # noqa: PT011  Pillow words it in many ways
            Image.open(io.BytesIO(content)).load()


def test_nothing_else_is_corrupt_or_twice_there(planted):
    root, table, faults = planted
    corrupt = set(faults.loc[faults["fault"] == "corrupt", "path"])
    sound = [path for path in table.index if path not in corrupt]
    digests = pd.Series([hashlib.sha256((root / path).read_bytes()).hexdigest() for path in sound])
    assert len(digests) - digests.nunique() == 12 + 6
    for path in sound:
        assert _pixels(root / path).shape == (48, 48)


def test_without_faults_the_file_has_a_header_only(options):
    listing = list_generated("count=12", options())
    assert Path(listing.files.uri, "faults.csv").read_text() == "path,fault,of\n"


def test_few_files_and_a_share_of_one_half_still_find_an_origin_each(options):
    listing = list_generated("count=8,size=16,faults=0.5", options())
    faults = pd.read_csv(Path(listing.files.uri, "faults.csv"))
    assert sorted(faults["fault"]) == sorted(FAULTS)
    assert len(listing.table) == 8
