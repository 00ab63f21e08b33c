"""The generated set: the same for the same seed, hard enough and not too hard."""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import timm
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from components.data.sources import generated, photographs
from components.data.sources.generated import list_generated
from components.errors import InputError


def _root(listing):
    return Path(listing.files.uri)


def _contents(listing):
    root = _root(listing)
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def _images(listing):
    return np.stack([np.asarray(Image.open(_root(listing) / path)) for path in listing.table["path"]])


def test_counts_sizes_and_columns_are_as_asked(options):
    listing = list_generated("count=60,size=32,defect_rate=0.5,parts=20", options())
    table = listing.table
    assert len(table) == 60
    assert set(table["label"]) == {"good", "scratch", "pit", "stain", "crack"}
    views = table["group"].value_counts()
    assert len(views) == 20
    assert views.between(2, 4).all()
    assert (table.groupby("group")["label"].nunique() == 1).all()
    assert (table.groupby("group")["label"].first() != "good").sum() == 10
    assert list(table.columns) == ["path", "label", "group", "split", "mask", "meta_camera", "meta_lot"]
    assert (table.groupby("group")["meta_lot"].nunique() == 1).all()
    assert table["meta_lot"].nunique() == 4
    for path in table["path"]:
        with Image.open(_root(listing) / path) as image:
            assert (image.size, image.mode, image.format) == ((32, 32), "L", "PNG")


def test_defective_images_have_a_mask_and_good_ones_none(options):
    listing = list_generated("count=60,size=32,defect_rate=0.5", options())
    defective = listing.table["label"] != "good"
    assert listing.table.loc[~defective, "mask"].isna().all()
    for path, mask in zip(listing.table.loc[defective, "path"], listing.table.loc[defective, "mask"], strict=True):
        assert mask == path.replace("images/", "masks/")
        with Image.open(_root(listing) / mask) as image:
            share = (np.asarray(image) > 0).mean()
            assert image.size == (32, 32)
        assert 0.001 < share < 0.3


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(options, tmp_path):
    def contents(text, cache):
        return _contents(list_generated(text, options(cache_dir=tmp_path / cache)))

    first = contents("count=24", "one")
    assert contents("count=24,seed=0", "two") == first
    assert contents("count=24,seed=1", "one") != first


def test_what_is_there_is_not_drawn_again(options):
    listing = list_generated("count=12", options())
    marked = _root(listing) / listing.table["path"][0]
    before = marked.stat().st_mtime_ns
    again = list_generated("count=12", options())
    assert again.files == listing.files
    pd.testing.assert_frame_equal(again.table, listing.table)
    assert marked.stat().st_mtime_ns == before
    assert [path.name for path in _root(listing).parent.iterdir()] == [_root(listing).name]


def test_a_drawing_that_fails_leaves_nothing_behind(options, monkeypatch):
    def fail(*_args, **_settings):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        list_generated("count=12", options())
    assert list(options().cache_dir.iterdir()) == []


def test_of_two_processes_that_draw_at_once_the_first_one_stays(options, monkeypatch):
    draw_all = generated._draw_all

    def overtaken(parameters, draft):
        monkeypatch.setattr(generated, "_draw_all", draw_all)
        list_generated("count=12", options())  # the other process, faster
        draw_all(parameters, draft)

    monkeypatch.setattr(generated, "_draw_all", overtaken)
    listing = list_generated("count=12", options())
    assert len(listing.table) == 12
    assert [path.name for path in _root(listing).parent.iterdir()] == [_root(listing).name]


@pytest.mark.parametrize("parts", [60, 120])
def test_the_extreme_numbers_of_views_are_met(options, parts):
    table = list_generated(f"count=240,size=16,parts={parts}", options()).table
    assert set(table["group"].value_counts()) == {240 // parts}


def test_few_parts_have_equally_many_images(options):
    table = list_generated("count=50,size=16,parts=6", options()).table
    assert sorted(table["group"].value_counts()) == [8, 8, 8, 8, 9, 9]


def test_a_defect_is_shown_on_a_share_of_its_parts_images(options):
    table = list_generated("count=64,size=16,parts=8,defect_rate=0.5,shown=0.25", options()).table
    defective = (table["label"] != "good").groupby(table["group"]).sum()
    assert sorted(defective) == [0, 0, 0, 0, 2, 2, 2, 2]
    assert table["mask"].notna().tolist() == (table["label"] != "good").tolist()
    hardly = list_generated("count=64,size=16,parts=8,defect_rate=0.5,shown=0", options()).table
    assert (hardly["label"] != "good").sum() == 4  # one of each part


def test_defects_of_less_strength_change_less(options):
    usual, weak, none = (
        _images(list_generated(f"count=24,size=32,defect_rate=1,strength={strength}", options())).astype(float)
        for strength in (1, 0.5, 0)
    )
    assert 0 < np.abs(weak - none).mean() < 0.6 * np.abs(usual - none).mean()


def test_a_folder_is_filled_before_the_next_one_is_begun(options, monkeypatch):
    assert photographs._PER_FOLDER == 1000
    monkeypatch.setattr(photographs, "_PER_FOLDER", 100)
    listing = list_generated("count=210,size=16", options())
    folders = listing.table["path"].str.rpartition("/")[0].value_counts()
    assert folders.to_dict() == {"images/000": 100, "images/001": 100, "images/002": 10}


def test_jpeg_is_drawn_on_request(options):
    listing = list_generated("count=12,format=jpeg", options())
    for path in listing.table["path"]:
        with Image.open(_root(listing) / path) as image:
            assert (image.format, image.mode) == ("JPEG", "L")


def test_the_description_says_what_was_drawn_and_planted(options):
    plain = list_generated("count=12,size=16", options()).description
    drawn = "generated: 40 images of 13 parts, 16 px, defect rate 0.4, seed 0"
    assert plain == "generated: 12 images of 4 parts, 16 px, defect rate 0.4, seed 0"
    planted = list_generated("count=40,size=16,shortcut=size,format=jpeg", options()).description
    assert planted == f"{drawn}, jpeg; planted: a shortcut by size"
    hard = list_generated("count=40,size=16,shown=0.25,strength=0.5", options()).description
    assert hard == f"{drawn}, shown on 25% of a defective part's images, defects of strength 0.5"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "cuont=3",
            "does not know 'cuont=3'; .*count, size, defect_rate, parts, shown, strength, seed, shortcut, format",
        ),
        ("count", "does not know 'count'"),
        ("count=many", "count='many' has to be int"),
        ("count=1", "count='1' has to be int from 2"),
        ("count=1000001", "count='1000001' has to be int from 2 to 1000000"),
        ("size=8", "size='8' has to be int from 16 to 4096"),
        ("defect_rate=1.5", "defect_rate='1.5' has to be float from 0.0 to 1.0"),
        ("defect_rate=nan", "defect_rate='nan'"),
        ("count=240,parts=200", "parts='200' has to be int from 1 to 120"),
        ("shown=2", "shown='2' has to be float from 0.0 to 1.0"),
        ("strength=-1", "strength='-1' has to be float from 0.0 to 10.0"),
        ("seed=-1", "seed='-1'"),
        ("shortcut=colour", "shortcut='colour' has to be one of: none, format, brightness, size"),
        ("format=gif", "format='gif' has to be one of: png, jpeg"),
    ],
)
def test_faulty_parameters_are_refused(options, text, message):
    with pytest.raises(InputError, match=message):
        list_generated(text, options())


def test_only_its_own_columns_can_be_asked_for(options):
    list_generated("count=12", options(group_column="group", metadata_columns=("lot",)))
    with pytest.raises(InputError, match="whose columns are: group, camera, lot"):
        list_generated("count=12", options(group_column="board"))


@pytest.mark.parametrize(("size", "count"), [(64, 900), (128, 450)])
def test_no_single_figure_of_an_image_tells_whether_it_is_defective(options, size, count):
    listing = list_generated(f"count={count},size={size}", options())
    images = _images(listing).astype(np.float32)
    defective = listing.table["label"] != "good"
    figures = {
        "mean": images.mean(axis=(1, 2)),
        "standard deviation": images.std(axis=(1, 2)),
        "sharpness": np.array([cv2.Laplacian(image, cv2.CV_32F).var() for image in images]),
    }
    for name, values in figures.items():
        assert 0.3 < roc_auc_score(defective, values) < 0.7, name


def test_a_shortcut_by_brightness_makes_the_mean_tell(options):
    listing = list_generated("count=240,size=32,shortcut=brightness", options())
    means = _images(listing).mean(axis=(1, 2))
    assert roc_auc_score(listing.table["label"] != "good", means) > 0.8


def test_a_tiny_network_from_scratch_learns_it(options):
    listing = list_generated("count=320,size=48,defect_rate=0.5,parts=107", options())  # as smoke.yaml has it
    groups = np.random.default_rng(0).permutation(sorted(listing.table["group"].unique()))
    training = listing.table["group"].isin(set(groups[: len(groups) // 2])).to_numpy()
    classes, labels = np.unique(listing.table["label"], return_inverse=True)
    images = _images(listing)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = _train(images[training], labels[training], len(classes))
            with torch.inference_mode():
                shares = model(_tensor(images[~training])).softmax(dim=1)
    finally:
        torch.set_num_threads(threads)
    good = list(classes).index("good")
    assert roc_auc_score(labels[~training] != good, 1.0 - shares[:, good].numpy()) > 0.75


def _train(images, labels, classes):
    model = timm.create_model("test_efficientnet", pretrained=False, num_classes=classes)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    generator = np.random.default_rng(0)
    for _ in range(6):
        order = generator.permutation(len(images))
        for start in range(0, len(order) - 15, 16):
            batch = order[start : start + 16]
            turned = np.stack([np.rot90(image, generator.integers(4)) for image in images[batch]])
            flipped = turned[:, :, ::-1] if generator.random() < 0.5 else turned
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(_tensor(flipped)), torch.from_numpy(labels[batch])).backward()
            optimizer.step()
    return model.eval()


def _tensor(images):
    scaled = torch.from_numpy(np.ascontiguousarray(images)).float() / 127.5 - 1.0
    return scaled[:, None].expand(-1, 3, -1, -1)
