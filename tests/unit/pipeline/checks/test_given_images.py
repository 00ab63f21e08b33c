"""The images that a person names: files as given, folders as prepare takes them."""

import os

import pytest

from components.errors import InputError
from pipeline.checks.given_images import list_given


@pytest.fixture
def here(tmp_path, monkeypatch):
    """The working folder; `here(*names)` puts files into it."""
    monkeypatch.chdir(tmp_path)

    def make(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"x")
        return tmp_path

    return make


def test_a_folder_gives_what_prepare_would_take_from_it_sorted(here) -> None:
    here("new/b/0.PNG", "new/[red] a.png", "new/batch.png/5.png", "new/._0.png", "new/.thumbs/0.png")
    folder = here("new/__MACOSX/a.png", "new/@eaDir/a.jpg", "new/phone.heic", "new/notes.txt") / "new"
    given = list_given([folder])
    assert given.paths == [str(folder / name) for name in ("[red] a.png", "b/0.PNG", "batch.png/5.png")]
    assert given.notes == (
        f"left out of {folder}: 1 picture of kinds that are not read (.heic 1; convert them to PNG), "
        "1 file without an image extension (.txt 1), 2 hidden, 2 that systems or tools leave (@eaDir 1, __MACOSX 1)",
    )


def test_a_file_is_taken_whatever_its_name(here) -> None:
    here("a.dat", ".hidden.png", "phone.heic")
    paths = [os.path.relpath(name) for name in ("phone.heic", "a.dat", ".hidden.png")]
    assert list_given([here() / name for name in paths]).paths == [str(here() / name) for name in paths]


def test_an_image_that_is_given_more_than_once_is_inspected_once(here) -> None:
    folder = here("new/a.png", "new/b.png") / "new"
    given = list_given([folder / "b.png", folder, folder / "b.png", folder / ".." / "new/a.png"])
    assert given.paths == [str(folder / "b.png"), str(folder / "a.png")]
    assert given.notes == ("3 images were given more than once; each is inspected once",)


def test_what_a_run_has_written_is_not_inspected(here) -> None:
    folder = here("new/a.png", "new/storage/ESCAPEMENT.TAG", "new/storage/b.png") / "new"
    assert list_given([folder]).paths == [str(folder / "a.png")]


def test_links_are_treated_as_prepare_treats_them(here) -> None:
    folder = here("new/a.png", "outside.png") / "new"
    (folder / "b.png").symlink_to(folder / "a.png")
    assert list_given([folder]).paths == [str(folder / "a.png"), str(folder / "b.png")]
    (folder / "c.png").symlink_to(here() / "outside.png")
    with pytest.raises(InputError, match=r"images: .*c\.png is a link that leaves"):
        list_given([folder])


@pytest.mark.parametrize("names", [(), ("notes.txt",), ("a.heic",), (".a.png",)])
def test_a_folder_without_an_image_is_refused_with_what_was_left_out(here, names) -> None:
    folder = here(*(f"new/{name}" for name in names)) / "new"
    folder.mkdir(exist_ok=True)
    with pytest.raises(InputError, match="no image file there.*" + ("left out of" if names else r"\)$")):
        list_given([folder])


def test_a_pipe_and_a_missing_file_are_refused(here) -> None:
    os.mkfifo(here() / "pipe.png")
    for name in ("pipe.png", "nowhere.png"):
        with pytest.raises(InputError, match=f"images=.*{name}: no such file or folder"):
            list_given([here() / name])


def test_a_name_that_text_cannot_hold_is_refused(here) -> None:
    try:
        (here("new/a.png") / "new" / os.fsdecode(b"\xff.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    with pytest.raises(InputError, match="not valid UTF-8; rename the file"):
        list_given([here() / "new"])
