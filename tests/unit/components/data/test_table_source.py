"""Tables that people write by hand, by Excel and by pandas."""

import os

import numpy as np
import pandas as pd
import pytest

from components.data.sources import list_source
from components.errors import InputError


@pytest.fixture
def images(tmp_path, write_image):
    root = tmp_path / "set"
    for name in ("a.png", "b.png", "sub/c d.png", "ü.png"):
        write_image(root / name)
    return root


def csv(root, text, encoding="utf-8"):
    (root / "list.csv").write_bytes(text.encode(encoding))
    return f"csv:{root / 'list.csv'}"


def test_paths_are_relative_to_the_table_and_sorted(images, options):
    listing = list_source(csv(images, "path,label\nsub/c d.png,good\n./b.png,crack\nü.png,good\n"), options())
    assert listing.table["path"].tolist() == ["b.png", "sub/c d.png", "ü.png"]
    assert listing.table["label"].tolist() == ["crack", "good", "good"]
    assert listing.root == images.resolve()
    assert list(listing.table.index) == [0, 1, 2]


def test_group_split_and_metadata_columns_are_taken_and_gaps_are_none(images, options):
    source = csv(images, "file,class,part,set,camera\na.png,good,7,train,c1\nb.png,crack,,,\n")
    chosen = options(
        path_column="file",
        label_column="class",
        group_column="part",
        split_column="set",
        metadata_columns=("camera",),
    )
    table = list_source(source, chosen).table
    assert list(table.columns) == ["path", "label", "group", "split", "meta_camera"]
    assert table.loc[0].tolist() == ["a.png", "good", "7", "train", "c1"]
    assert table.loc[1].tolist() == ["b.png", "crack", None, None, None]


def test_text_stays_text_in_a_csv(images, options):
    table = list_source(csv(images, "path,label\na.png,001\nb.png,NA\nü.png,none\n"), options()).table
    assert table["label"].tolist() == ["001", "NA", "none"]


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8"), (", ", "utf-8")])
def test_other_separators_and_a_byte_order_mark_are_read(images, options, separator, encoding):
    text = f"path{separator}label\na.png{separator}good \nü.png{separator}crack\n"
    table = list_source(csv(images, text, encoding), options()).table
    assert table["label"].tolist() == ["good", "crack"]


def test_a_csv_in_another_encoding_is_refused_by_name(images, options):
    with pytest.raises(InputError, match=r"list\.csv' cannot be read as csv.*utf-8"):
        list_source(csv(images, "path,label\nü.png,good\n", "latin-1"), options())


@pytest.mark.parametrize("text", ["", "path,label\n", "path,label\na.png,good\nb.png,good,extra,more\n"])
def test_empty_and_ragged_tables_are_refused(images, options, text):
    with pytest.raises(InputError, match=r"data\.source|data\.path_column"):
        list_source(csv(images, text), options())


def test_missing_columns_are_named_together_with_those_there_are(images, options):
    chosen = options(group_column="part", metadata_columns=("camera",))
    with pytest.raises(InputError) as caught:
        list_source(csv(images, "file,class\na.png,good\n"), chosen)
    for text in ("data.path_column='path'", "data.label_column='label'", "data.group_column='part'"):
        assert text in str(caught.value)
    assert "data.metadata_columns='camera'" in str(caught.value)
    assert "the table has: file, class" in str(caught.value)


@pytest.mark.parametrize("empty", ["", "  ", "nan", "NaN"])
def test_empty_labels_are_refused_with_their_rows(images, options, empty):
    with pytest.raises(InputError, match=r"data\.label_column='label': 2 rows.*data rows 2, 3"):
        list_source(csv(images, f"path,label\na.png,good\nb.png,{empty}\nü.png,{empty}\n"), options())


def test_nan_labels_of_a_parquet_table_are_refused_too(images, options):
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["good", None]})
    frame.to_parquet(images / "list.parquet")
    with pytest.raises(InputError, match="1 rows have no value"):
        list_source(f"parquet:{images / 'list.parquet'}", options())


def test_numbers_of_a_parquet_table_become_text(images, options):
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": [0, 1], "part": [7.0, np.nan], "gain": [1.5, 2.0]})
    frame.to_parquet(images / "list.parquet")
    chosen = options(group_column="part", metadata_columns=("gain",))
    table = list_source(f"parquet:{images / 'list.parquet'}", chosen).table
    assert table["label"].tolist() == ["0", "1"]
    assert table["group"].tolist() == ["7", None]
    assert table["meta_gain"].tolist() == ["1.5", "2"]


def test_a_file_that_is_no_parquet_is_refused(images, options):
    (images / "list.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(InputError, match="cannot be read as parquet"):
        list_source(f"parquet:{images / 'list.parquet'}", options())


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_missing_table_is_refused(tmp_path, options, kind):
    with pytest.raises(InputError, match="is not a file"):
        list_source(f"{kind}:{tmp_path / 'none'}", options())


@pytest.mark.parametrize("path", ["../outside.png", "sub/../../outside.png", "{outside}"])
def test_paths_that_leave_the_root_are_refused(images, options, write_image, path):
    outside = write_image(images.parent / "outside.png")
    with pytest.raises(InputError, match=r"data\.root=.*1 paths lead out"):
        list_source(csv(images, f"path,label\na.png,good\n{path.format(outside=outside)},good\n"), options())


@pytest.mark.parametrize("linked", ["file", "folder"])
def test_links_that_leave_the_root_are_refused(images, options, write_image, linked):
    outside = write_image(images.parent / "other/x.png")
    link = images / ("x.png" if linked == "file" else "other")
    link.symlink_to(outside if linked == "file" else outside.parent)
    path = "x.png" if linked == "file" else "other/x.png"
    with pytest.raises(InputError, match="lead out of it"):
        list_source(csv(images, f"path,label\n{path},good\n"), options())


def test_a_link_in_a_circle_is_left_to_the_quarantine(images, options):
    (images / "x.png").symlink_to(images / "x.png")
    assert len(list_source(csv(images, "path,label\na.png,good\nx.png,good\n"), options()).table) == 2


@pytest.mark.parametrize("path", ["x" * 300 + ".png", "a\0.png"])
def test_a_cell_that_cannot_be_a_path_is_refused(images, options, path):
    pd.DataFrame({"path": ["a.png", path], "label": ["good", "good"]}).to_parquet(images / "list.parquet")
    with pytest.raises(InputError, match="cannot be the path of a file"):
        list_source(f"parquet:{images / 'list.parquet'}", options())


def test_a_wider_root_lets_the_same_paths_in(images, options, write_image):
    outside = write_image(images.parent / "outside.png")
    source = csv(images, f"path,label\n{outside},good\nset/a.png,crack\n")
    listing = list_source(source, options(root=str(images.parent)))
    assert listing.table["path"].tolist() == ["outside.png", "set/a.png"]


def test_an_image_listed_twice_is_refused_however_it_is_written(images, options):
    with pytest.raises(InputError, match=r"a\.png in data rows 1 and 3"):
        list_source(csv(images, "path,label\na.png,good\nb.png,good\n./sub/../a.png,crack\n"), options())


def test_backslashes_of_another_system_are_understood(images, options):
    table = list_source(csv(images, "path,label\nsub\\c d.png,good\n"), options()).table
    assert table["path"].tolist() == ["sub/c d.png"]


def test_a_missing_image_is_left_to_the_quarantine_but_not_if_all_are_missing(images, options):
    listing = list_source(csv(images, "path,label\na.png,good\ngone.png,good\n"), options())
    assert len(listing.table) == 2
    with pytest.raises(InputError, match=r"none of the 2 images is there \(the first: x\.png\)"):
        list_source(csv(images, "path,label\nx.png,good\ny.png,good\n"), options())


def test_a_root_that_is_no_folder_is_refused(images, options):
    with pytest.raises(InputError, match=r"data\.root='/nowhere/at/all' is not a folder"):
        list_source(csv(images, "path,label\na.png,good\n"), options(root="/nowhere/at/all"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_table_without_permission_is_refused(images, options):
    source = csv(images, "path,label\na.png,good\n")
    (images / "list.csv").chmod(0)
    with pytest.raises(InputError, match="cannot be read"):
        list_source(source, options())
