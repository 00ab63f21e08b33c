"""The generated set: the same for the same seed, hard enough and not too hard."""

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from components.data import generated
from components.data.loader import eval_batches, image_set, train_batches
from components.data.manifest import build_manifest, classes_of
from components.data.pack import build_pack, open_pack
from components.data.sources import content_digest, list_source
from components.errors import InputError


def test_counts_sizes_and_columns_are_as_asked(options):
    listing = list_source("generated:count=60,size=32,defect_rate=0.5,parts=20", options())
    table = listing.table
    assert len(table) == 60
    assert set(table["label"]) == {"good", "scratch", "pit", "stain"}
    views = table["group"].value_counts()
    assert len(views) == 20
    assert views.between(2, 4).all()
    assert (table.groupby("group")["label"].nunique() == 1).all()
    assert (table.groupby("group")["label"].first() != "good").sum() == 10
    assert list(table.columns) == ["path", "label", "group", "split", "meta_camera", "meta_lot"]
    assert (table.groupby("group")["meta_lot"].nunique() == 1).all()
    with Image.open(listing.root / table["path"][0]) as image:
        assert (image.size, image.mode, image.format) == ((32, 32), "L", "PNG")


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(options, tmp_path):
    def digest(text, cache):
        return content_digest(list_source(text, options(cache_dir=tmp_path / cache)))

    first = digest("generated:count=24", "one")
    assert digest("generated:count=24,seed=0", "two") == first
    assert digest("generated:count=24,seed=1", "one") != first


def test_what_is_there_is_not_drawn_again(options):
    listing = list_source("generated:count=12", options())
    marked = listing.root / listing.table["path"][0]
    before = marked.stat().st_mtime_ns
    assert list_source("generated:count=12", options()).root == listing.root
    assert marked.stat().st_mtime_ns == before
    assert [path.name for path in listing.root.parent.iterdir()] == [listing.root.name]


def test_a_drawing_that_fails_leaves_nothing_behind(options, monkeypatch):
    def fail(*_args):
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        list_source("generated:count=12", options())
    assert list(options().cache_dir.iterdir()) == []


def test_of_two_processes_that_draw_at_once_the_first_one_stays(options, monkeypatch):
    draw_all = generated._draw_all

    def overtaken(parameters, draft):
        monkeypatch.setattr(generated, "_draw_all", draw_all)
        list_source("generated:count=12", options())  # the other process, faster
        draw_all(parameters, draft)

    monkeypatch.setattr(generated, "_draw_all", overtaken)
    listing = list_source("generated:count=12", options())
    assert len(listing.table) == 12
    assert [path.name for path in listing.root.parent.iterdir()] == [listing.root.name]


@pytest.mark.parametrize("parts", [60, 120])
def test_the_extreme_numbers_of_views_are_met(options, parts):
    table = list_source(f"generated:count=240,size=16,parts={parts}", options()).table
    assert set(table["group"].value_counts()) == {240 // parts}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cuont=3", "does not know 'cuont=3'; .*count, size, defect_rate, parts, seed"),
        ("count", "does not know 'count'"),
        ("count=many", "count='many' has to be int"),
        ("count=1", "count='1' has to be int from 2"),
        ("size=8", "size='8' has to be int from 16 to 1024"),
        ("defect_rate=1.5", "defect_rate='1.5' has to be float from 0.0 to 1.0"),
        ("defect_rate=nan", "defect_rate='nan'"),
        ("count=240,parts=200", "parts='200' has to be int from 60 to 120"),
        ("seed=-1", "seed='-1'"),
    ],
)
def test_faulty_parameters_are_refused(options, text, message):
    with pytest.raises(InputError, match=message):
        list_source(f"generated:{text}", options())


def test_only_its_own_columns_can_be_asked_for(options):
    list_source("generated:count=12", options(group_column="group", metadata_columns=("lot",)))
    with pytest.raises(InputError, match="whose columns are: group, camera, lot"):
        list_source("generated:count=12", options(group_column="board"))


def test_a_tiny_network_learns_it_and_the_mean_brightness_does_not_tell(options, tmp_path):
    listing = list_source("generated:count=240,size=48,defect_rate=0.4,parts=80", options())
    result = build_pack(listing, size=48, directory=tmp_path, workers=2, on_progress=lambda *_: None)
    fractions = {"train": 0.7, "val": 0.1, "calibration": 0.1, "test": 0.1}
    manifest = build_manifest(listing, result, good_labels=["good"], fractions=fractions, seed=0, conflict="error")
    pack, classes = open_pack(tmp_path), classes_of(manifest)
    brightness = pack[manifest["pack_index"]].mean(axis=(1, 2, 3))
    assert 0.35 < roc_auc_score(manifest["is_defect"], brightness) < 0.65

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            auroc = _train_and_score(manifest, pack, classes)
    finally:
        torch.set_num_threads(threads)
    assert auroc > 0.9


def _train_and_score(manifest, pack, classes):
    model = timm.create_model("test_efficientnet", pretrained=False, num_classes=len(classes))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    train = image_set(manifest, pack, "train", classes)
    for epoch in range(6):
        for batch in train_batches(train, batch_size=16, augment_strength=0.3, seed=0, epoch=epoch):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(_scaled(batch)), batch.labels).backward()
            optimizer.step()
    model.eval()
    good, scores, defects = classes.index("good"), [], []
    with torch.inference_mode():
        for split in ("val", "calibration", "test"):
            for batch in eval_batches(image_set(manifest, pack, split, classes), batch_size=32):
                scores += (1.0 - model(_scaled(batch)).softmax(dim=1)[:, good]).tolist()
                defects += (batch.labels != good).tolist()
    return roc_auc_score(np.array(defects), np.array(scores))


def _scaled(batch):
    return batch.images.float() / 127.5 - 1.0
