"""The dispatcher and the content digest."""

import os
import shutil

import pytest

from components.data.sources import content_digest, list_source
from components.errors import InputError


@pytest.fixture
def folder(tmp_path, write_image):
    for name, level in (("good/a.png", 10), ("good/b.png", 20), ("crack/a.png", 30)):
        write_image(tmp_path / "parts" / name, level)
    return tmp_path / "parts"


def test_an_unknown_kind_lists_the_known_ones(options):
    with pytest.raises(InputError, match=r"data\.source='zip:/x.zip'.*folder.*csv.*parquet.*elpv.*generated"):
        list_source("zip:/x.zip", options())


@pytest.mark.parametrize("source", ["folder:", "csv:  ", "parquet"])
def test_a_kind_without_a_place_is_refused(source, options):
    with pytest.raises(InputError, match="names no place"):
        list_source(source, options())


def test_spaces_around_the_source_do_not_matter(folder, options):
    assert len(list_source(f" folder: {folder} ", options()).table) == 3


def test_the_digest_is_the_same_wherever_the_files_lie(folder, options, tmp_path):
    digest = content_digest(list_source(f"folder:{folder}", options()))
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert content_digest(list_source(f"folder:{tmp_path / 'elsewhere'}", options())) == digest
    assert len(digest) == 64


def test_the_digest_follows_bytes_names_and_labels(folder, options, write_image):
    digests = {content_digest(list_source(f"folder:{folder}", options()))}
    write_image(folder / "good/a.png", 11)
    digests.add(content_digest(list_source(f"folder:{folder}", options())))
    (folder / "good/a.png").rename(folder / "good/c.png")
    digests.add(content_digest(list_source(f"folder:{folder}", options())))
    (folder / "good").rename(folder / "fine")
    digests.add(content_digest(list_source(f"folder:{folder}", options())))
    assert len(digests) == 4


def test_the_digest_follows_group_split_and_metadata(folder, options):
    table = folder / "list.csv"
    digests = set()
    for group, camera in (("1", "a"), ("2", "a"), ("1", "b"), ("", "a")):
        table.write_text(f"path,label,part,camera\ngood/a.png,good,{group},{camera}\n", encoding="utf-8")
        chosen = options(group_column="part", metadata_columns=("camera",))
        digests.add(content_digest(list_source(f"csv:{table}", chosen)))
    assert len(digests) == 4


def test_a_file_that_cannot_be_read_does_not_stop_the_digest(folder, options):
    (folder / "good/gone.png").symlink_to(folder / "nowhere.png")
    os.mkfifo(folder / "good/pipe.png")
    assert len(content_digest(list_source(f"folder:{folder}", options()))) == 64
