"""Folders of class folders, tidy and untidy."""

import os
import zipfile

import fsspec
import pytest

from components.data.image_files import MARKER
from components.data.sources.catalogue import list_source
from components.errors import InputError


def listed(folder, options):
    return list_source(f"folder:{folder}", options())


def test_each_sub_folder_is_a_class_and_images_are_found_at_any_depth(tmp_path, options, write_image):
    write_image(tmp_path / "good/b.png")
    write_image(tmp_path / "good/lot 1/a.PNG")
    write_image(tmp_path / "crack/c.png")
    listing = listed(tmp_path, options)
    assert listing.table["path"].tolist() == ["crack/c.png", "good/b.png", "good/lot 1/a.PNG"]
    assert listing.table["label"].tolist() == ["crack", "good", "good"]
    assert listing.table["group"].tolist() == [None] * 3
    assert listing.table["split"].tolist() == [None] * 3
    assert listing.files.uri == str(tmp_path.resolve())
    assert "2 classes, 3 files" in listing.description


def test_unicode_names_are_kept_as_they_are(tmp_path, options, write_image):
    write_image(tmp_path / "gut/Prüfling 画像 ①.png")
    write_image(tmp_path / "Kratzer ✗/e\u0301.png")  # decomposed: not the same name as é
    listing = listed(tmp_path, options)
    assert set(listing.table["path"]) == {"gut/Prüfling 画像 ①.png", "Kratzer ✗/e\u0301.png"}
    assert all(listing.files.local(path).is_file() for path in listing.table["path"])


def test_a_name_that_is_not_utf8_is_refused(tmp_path, options, write_image):
    write_image(tmp_path / "good/a.png")
    try:
        (tmp_path / "good/a.png").rename(tmp_path / "good" / os.fsdecode(b"\xff.png"))
    except OSError:
        pytest.skip("this file system only takes UTF-8 names")
    with pytest.raises(InputError, match="not valid UTF-8"):
        listed(tmp_path, options)


def test_what_is_left_out_is_counted(tmp_path, options, write_image):
    write_image(tmp_path / "good/a.png")
    write_image(tmp_path / "good/._a.png")
    write_image(tmp_path / "good/.thumbs/a.png")
    write_image(tmp_path / "__MACOSX/a.png")
    write_image(tmp_path / "loose.png")
    (tmp_path / "empty").mkdir()
    for name in ("Thumbs.db", "notes.txt", "more.TXT", "README"):
        (tmp_path / "good" / name).write_text("x", encoding="utf-8")
    listing = listed(tmp_path, options)
    assert listing.table["path"].tolist() == ["good/a.png"]
    assert "3 files without an image extension (none 1, .txt 2)" in listing.description
    assert "2 hidden, 2 that systems or tools leave (Thumbs.db 1, __MACOSX 1)" in listing.description
    assert "1 image outside class folders" in listing.description
    assert "1 class folder without images (empty)" in listing.description
    assert listing.left_out.holds_images


def test_split_folders_give_the_split(tmp_path, options, write_image):
    for path in ("train/good/a.png", "Test/good/b.png", "valid/crack/c.png"):
        write_image(tmp_path / path)
    table = listed(tmp_path, options).table.set_index("path")
    assert table["label"].to_dict() == {
        "train/good/a.png": "good",
        "Test/good/b.png": "good",
        "valid/crack/c.png": "crack",
    }
    assert table["split"].to_dict() == {
        "train/good/a.png": "train",
        "Test/good/b.png": "test",
        "valid/crack/c.png": "valid",
    }


def test_a_mask_folder_beside_split_folders_is_not_taken_for_a_class(tmp_path, options, write_image):
    for path in ("train/good/a.png", "test/crack/b.png", "ground_truth/crack/b_mask.png"):
        write_image(tmp_path / path)
    with pytest.raises(InputError, match="train beside ground_truth"):
        listed(tmp_path, options)


def test_a_mask_folder_beside_other_split_folders_is_not_taken_for_a_class_either(tmp_path, options, write_image):
    for path in ("train/good/a.png", "train/crack/b.png", "ground_truth/crack/b_mask.png"):
        write_image(tmp_path / path)
    with pytest.raises(InputError, match="train beside ground_truth: split folders and others cannot be mixed"):
        listed(tmp_path, options)


@pytest.mark.parametrize(("inside", "shown"), [("", "set"), ("bottle/", "set/bottle")])
def test_the_layout_of_mvtec_is_refused_and_its_source_named(tmp_path, options, write_image, inside, shown):
    for path in ("train/good/a.png", "test/crack/b.png", "ground_truth/crack/b_mask.png"):
        write_image(tmp_path / "set" / inside / path)
    with pytest.raises(InputError, match=rf"MVTec-AD's layout; write data\.source=mvtec:{tmp_path}/{shown}$"):
        listed(tmp_path / "set", options)


@pytest.mark.parametrize("content", [(), ("loose.png",), ("good/readme.txt",)])
def test_a_folder_without_images_in_class_folders_is_refused(tmp_path, options, write_image, content):
    for name in content:
        write_image(tmp_path / "parts" / name)
    (tmp_path / "parts").mkdir(exist_ok=True)
    with pytest.raises(InputError, match="no images in class folders"):
        listed(tmp_path / "parts", options)


def test_a_missing_folder_and_a_file_are_refused(tmp_path, options, write_image):
    for place in (tmp_path / "nowhere", write_image(tmp_path / "a.png")):
        with pytest.raises(InputError, match=rf"data\.source='folder:{place}' is not a folder"):
            listed(place, options)


def test_a_link_that_leaves_the_folder_is_refused(tmp_path, options, write_image):
    secret = write_image(tmp_path / "outside.png")
    write_image(tmp_path / "parts/good/a.png")
    (tmp_path / "parts/good/b.png").symlink_to(secret)
    with pytest.raises(InputError, match=r"b\.png is a link that leaves"):
        listed(tmp_path / "parts", options)


def test_a_link_within_the_folder_is_an_image_of_its_own(tmp_path, options, write_image):
    write_image(tmp_path / "good/a.png")
    (tmp_path / "good/b.png").symlink_to(tmp_path / "good/a.png")
    assert listed(tmp_path, options).table["path"].tolist() == ["good/a.png", "good/b.png"]


def test_a_link_in_a_circle_is_left_to_the_quarantine(tmp_path, options, write_image):
    write_image(tmp_path / "good/a.png")
    (tmp_path / "good/b.png").symlink_to(tmp_path / "good/b.png")
    assert len(listed(tmp_path, options).table) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("place", [".", "good", "good/deep"])
def test_a_folder_that_cannot_be_listed_is_refused_and_not_skipped(tmp_path, options, write_image, place):
    write_image(tmp_path / "set/good/deep/a.png")
    (tmp_path / "set" / place).chmod(0o300)
    try:
        with pytest.raises(InputError, match="cannot be listed"):
            listed(tmp_path / "set", options)
    finally:
        (tmp_path / "set" / place).chmod(0o700)


@pytest.mark.parametrize("place", ["good/again", "again"])
def test_a_linked_folder_is_refused_as_it_may_lead_in_a_circle(tmp_path, options, write_image, place):
    write_image(tmp_path / "good/a.png")
    (tmp_path / place).symlink_to(tmp_path / "good")
    with pytest.raises(InputError, match="link to a folder"):
        listed(tmp_path, options)


def test_the_root_itself_may_be_a_link(tmp_path, options, write_image):
    write_image(tmp_path / "real/good/a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert listed(tmp_path / "link", options).files.uri == str((tmp_path / "real").resolve())


def test_columns_that_a_folder_cannot_have_are_refused(tmp_path, options, write_image):
    write_image(tmp_path / "good/a.png")
    chosen = options(group_column="part", split_column="split", mask_column="m", metadata_columns=("c",), root="/")
    with pytest.raises(InputError, match=r"group_column.*split_column.*mask_column.*metadata_columns.*data\.root.*csv"):
        list_source(f"folder:{tmp_path}", chosen)
    with pytest.raises(InputError, match=r"data\.confidence_column='c': not with .*folder.*list the images in a table"):
        list_source(f"folder:{tmp_path}", options(confidence_column="c"))


def test_a_linked_folder_that_is_hidden_does_not_matter(tmp_path, options, write_image):
    write_image(tmp_path / "good/a.png")
    (tmp_path / "good/.again").symlink_to(tmp_path / "good")
    assert "1 hidden" in listed(tmp_path, options).description


def test_a_folder_and_a_pipe_named_like_images_are_told_apart(tmp_path, options, write_image):
    write_image(tmp_path / "good/a.png/b.png")
    os.mkfifo(tmp_path / "good/pipe.png")
    # Only reading tells that a pipe is none, and the quarantine says so.
    assert listed(tmp_path, options).table["path"].tolist() == ["good/a.png/b.png", "good/pipe.png"]


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as stream:
        for name in names:
            stream.writestr(name, "x")
    return path


@pytest.mark.parametrize("address", ["zip://::{zip}", "{memory}"])
def test_an_address_is_listed_as_a_folder_is(tmp_path, options, address):
    names = ["good/b.png", "good/lot 1/ü.PNG", "crack ✗/c.jpg", "good/.d/e.png", "good/.d/f.png", "good/g.txt", "h.png"]
    names += ["__MACOSX/i.png", "notes/j.txt"]
    memory = f"memory://{os.urandom(8).hex()}"
    for name in names:
        fsspec.filesystem("memory").pipe_file(f"{memory.removeprefix('memory:/')}/{name}", b"x")
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_text("x", encoding="utf-8")
    address = address.format(zip=zipped(tmp_path / "x.zip", names), memory=memory)
    there, here = listed(address, options), listed(tmp_path / "set", options)
    assert there.table.equals(here.table)
    assert there.table["path"].tolist() == ["crack ✗/c.jpg", "good/b.png", "good/lot 1/ü.PNG"]
    assert there.description == here.description.replace(here.files.uri, there.files.uri)
    assert "1 image outside class folders, 1 class folder without images (notes)" in there.description
    assert (
        "2 files without an image extension (.txt 2), 1 hidden, 1 that systems or tools leave (__MACOSX 1)"
        in there.description
    )
    assert there.files.uri == address


def test_split_folders_are_understood_at_an_address(tmp_path, options):
    archive = zipped(tmp_path / "x.zip", ["a/train/good/1.png", "a/test/good/2.png", "b/c.png"])
    assert listed(f"zip://a::{archive}", options).table["split"].tolist() == ["test", "train"]


@pytest.mark.parametrize("name", ["good/../../evil.png", "/etc/evil.png", "good//evil.png", "good/./evil.png"])
def test_an_archive_with_paths_that_leave_it_is_refused(tmp_path, options, name):
    archive = zipped(tmp_path / "x.zip", ["good/a.png", name])
    with pytest.raises(InputError, match=r"evil\.png', which is no path within it"):
        listed(f"zip://::{archive}", options)


def test_an_address_that_cannot_be_listed_is_refused_without_its_password(options, monkeypatch):
    monkeypatch.setattr("components.data.files.check_folder", lambda _uri: None)
    with pytest.raises(InputError, match=r"ftp://…@127\.0\.0\.1:1/x cannot be listed \(.*refused") as caught:
        listed("ftp://me:secret@127.0.0.1:1/x", options)
    assert "secret" not in str(caught.value)


def test_an_address_without_images_is_refused(tmp_path, options):
    with pytest.raises(InputError, match="no images in class folders; left out: 1 image outside class folders"):
        listed(f"zip://::{zipped(tmp_path / 'x.zip', ['a.png'])}", options)


CLUTTER = (
    "@eaDir",
    "#recycle",
    "$RECYCLE.BIN",
    "lost+found",
    "System Volume Information",
    "__macosx",
    "mlruns",
    ".git",
)


@pytest.mark.parametrize("below", ["", "good/", "good/day 1/"])
def test_folders_of_systems_are_no_classes_and_their_pictures_no_images(tmp_path, options, write_image, below):
    write_image(tmp_path / "good/a.png")
    for name in CLUTTER:
        write_image(tmp_path / below / name / "deep/thumb.jpg")
    listing = listed(tmp_path, options)
    assert listing.table["path"].tolist() == ["good/a.png"]
    assert "1 hidden, 7 that systems or tools leave (" in listing.left_out.text
    assert not listing.left_out.holds_images


def test_pictures_of_kinds_that_are_not_read_are_named_with_the_remedy(tmp_path, options, write_image):
    write_image(tmp_path / "good/a.png")
    for name in ("good/b.HEIC", "good/c.heic", "good/d.avif", "good/e.txt", "phone/f.dng"):
        write_image(tmp_path / name)
    left_out = listed(tmp_path, options).left_out
    assert "4 pictures of kinds that are not read (.avif 1, .dng 1, .heic 2; convert them to PNG)" in left_out.text
    assert "1 class folder without images (phone)" in left_out.text
    assert "1 file without an image extension (.txt 1)" in left_out.text
    assert left_out.holds_images


def test_a_folder_of_such_pictures_alone_is_refused_with_the_remedy(tmp_path, options, write_image):
    write_image(tmp_path / "good/a.heic")
    with pytest.raises(InputError, match=r"1 picture of kinds that are not read \(\.heic 1; convert them to PNG\)"):
        listed(tmp_path, options)


@pytest.mark.parametrize("place", ["results", "good/results", "good/deep/results", "linked"])
def test_a_marked_folder_is_left_out_whatever_it_is_called(tmp_path, options, write_image, place):
    write_image(tmp_path / "set/good/a.png")
    marked = tmp_path / ("elsewhere" if place == "linked" else f"set/{place}")
    write_image(marked / "train/0123456789abcdef/b.png")
    (marked / MARKER).write_text("", encoding="utf-8")
    if place == "linked":
        (tmp_path / "set/linked").symlink_to(marked)
    listing = listed(tmp_path / "set", options)
    assert listing.table["path"].tolist() == ["good/a.png"]
    assert listing.left_out.text == f"what runs have written ({place})"


def test_a_marked_folder_is_left_out_of_an_archive_too(tmp_path, options):
    names = ["good/a.png", f"old/{MARKER}", "old/train/b.png", f"good/x/{MARKER}", "good/x/y/c.png"]
    listing = listed(f"zip://::{zipped(tmp_path / 'x.zip', names)}", options)
    assert listing.table["path"].tolist() == ["good/a.png"]
    assert listing.left_out.text == "what runs have written (good/x, old)"


def test_a_marked_folder_is_no_source(tmp_path, options, write_image):
    write_image(tmp_path / "set/good/a.png")
    (tmp_path / "set" / MARKER).write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"give the folder of the images, and storage\.root another one"):
        listed(tmp_path / "set", options)


def test_folders_without_images_may_lie_beside_split_folders(tmp_path, options, write_image):
    for path in ("train/good/a.png", "test/good/b.png", "notes/c.txt", "mlruns/d.png", "@eaDir/e/f.jpg"):
        write_image(tmp_path / path)
    (tmp_path / "empty").mkdir()
    assert listed(tmp_path, options).table["split"].tolist() == ["test", "train"]


def test_images_right_in_a_split_folder_are_said_to_be_left_out(tmp_path, options, write_image):
    for path in ("train/good/a.png", "train/b.png", "test/good/c.png", "d.png"):
        write_image(tmp_path / path)
    assert listed(tmp_path, options).left_out.text == "2 images outside class folders"
