"""The folder of results: marked, and never one that a person keeps images in."""

import pytest

from components.data.image_files import MARKER
from components.errors import InputError
from pipeline.loading import load
from pipeline.storage import claim_storage

STAGES = ("prepare", "train")


@pytest.fixture
def claim(tmp_path, monkeypatch):
    """`claim(root, source)` in a folder with these files."""

    def make(root, source, *files):
        monkeypatch.chdir(tmp_path)
        for name in files:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        claim_storage(load("smoke", {"storage.root": root, "data.source": source}), STAGES)
        return (tmp_path / root / MARKER).exists()

    return make


def test_a_folder_that_is_there_is_marked_and_stays_so(claim):
    assert claim("storage", "folder:.", "good/a.png", "storage/files/0123456789abcdef.parquet")
    assert claim("storage", "folder:.", "storage/anything.png")


def test_a_folder_that_is_not_there_is_not_made(claim, tmp_path):
    assert not claim("storage", "folder:.", "good/a.png")
    assert not (tmp_path / "storage").exists()


@pytest.mark.parametrize("source", ["folder:.", "mvtec:./", "folder:train/.."])
def test_the_folder_of_the_images_is_refused_and_left_as_it_is(claim, tmp_path, source):
    with pytest.raises(
        InputError, match=r"storage\.root=\.: this is the folder of the images; give a folder of its own"
    ):
        claim(".", source, "train/good/a.png")
    assert not (tmp_path / MARKER).exists()


@pytest.mark.parametrize("source", ["folder:train", "folder:images/set"])
def test_images_where_results_are_kept_are_refused(claim, source):
    with pytest.raises(InputError, match=r"results are kept in its folder (train|images), where the images are"):
        claim(".", source, "train/good/a.png", "images/set/good/a.png")


@pytest.mark.parametrize(
    ("name", "holds"), [("train/good/a.png", "good"), ("images/a.png", "a.png"), ("generated/x/a.png", "x")]
)
def test_folders_of_a_person_where_results_would_be_are_refused(claim, name, holds):
    with pytest.raises(InputError, match=f"would be kept in its folder {name.split('/')[0]}, which holds {holds}"):
        claim(".", "generated:count=24", name)


@pytest.mark.parametrize("name", ["train/0123456789abcdef/a.png", "train/@eaDir/a.png", "images/.DS_Store", "b/a.png"])
def test_results_clutter_and_other_folders_are_no_hindrance(claim, name):
    assert claim(".", "generated:count=24", name)


@pytest.mark.parametrize("root", ["set/good", "set/good/day1"])
def test_a_folder_within_the_images_that_holds_some_is_refused(claim, root):
    with pytest.raises(InputError, match=r"it lies within the images and holds 0\.png, which would no longer count"):
        claim(root, "folder:set", "set/good/0.png", "set/good/day1/0.png")


def test_a_folder_within_the_images_of_its_own_is_taken(claim):
    assert claim("set/good/storage", "folder:set", "set/good/0.png", "set/good/storage/notes.txt")


def test_the_images_may_lie_beside_the_results(claim):
    assert claim(".", "folder:castings", "castings/good/a.png")
