"""Tables that people write by hand, by Excel and by pandas."""

import os
import unicodedata
import zipfile

import fsspec
import numpy as np
import pandas as pd
import pytest

from components.data.sources.catalogue import list_source
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
    assert listing.files.uri == str(images.resolve())
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
    assert list(table.columns) == ["path", "label", "group", "split", "mask", "meta_camera"]
    assert table.loc[0].tolist() == ["a.png", "good", "7", "train", None, "c1"]
    assert table.loc[1].tolist() == ["b.png", "crack", None, None, None, None]


def test_a_confidence_is_read_as_a_number_from_both_kinds_of_tables(images, options):
    chosen = options(confidence_column="agreement", metadata_columns=("agreement",))
    text = "path,label,Agreement\na.png,good,0.6666666666666666\nb.png,crack,\nü.png,good,1\n"
    table = list_source(csv(images, text), chosen).table
    assert list(table.columns) == ["path", "label", "group", "split", "mask", "confidence", "meta_agreement"]
    assert table["confidence"].tolist() == [2 / 3, 1, 1]
    frame = pd.DataFrame({"path": ["a.png", "b.png"], "label": ["good", "crack"], "agreement": [2 / 3, np.nan]})
    frame.to_parquet(images / "list.parquet")
    assert list_source(f"parquet:{images / 'list.parquet'}", chosen).table["confidence"].tolist() == [2 / 3, 1]


def test_a_confidence_that_is_none_is_refused_with_its_line(images, options):
    source = csv(images, "path,label,agreement\na.png,good,1\nb.png,crack,80\nü.png,crack,often\n")
    with pytest.raises(InputError, match=r"2 images .*\('80' of b\.png in line 3, 'often' of ü\.png in line 4\)"):
        list_source(source, options(confidence_column="agreement"))
    with pytest.raises(InputError, match=r"data\.confidence_column='trust': no such column; the table has: path"):
        list_source(source, options(confidence_column="trust"))


def test_text_stays_text_in_a_csv(images, options):
    table = list_source(csv(images, "path,label\na.png,001\nb.png,NA\nü.png,none\n"), options()).table
    assert table["label"].tolist() == ["001", "NA", "none"]


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-8"), (", ", "utf-8")])
def test_other_separators_and_a_byte_order_mark_are_read(images, options, separator, encoding):
    text = f"path{separator}label\na.png{separator}good \nü.png{separator}crack\n"
    table = list_source(csv(images, text, encoding), options()).table
    assert table["label"].tolist() == ["good", "crack"]


def test_a_csv_in_another_encoding_is_refused_by_name(images, options):
    with pytest.raises(InputError, match=r"list\.csv' cannot be read as csv: line 2 is not UTF-8"):
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


@pytest.mark.parametrize("empty", ["", "  "])
def test_empty_labels_are_refused_with_their_lines(images, options, empty):
    with pytest.raises(InputError, match=r"data\.label_column='label': 2 rows.*lines 3, 4"):
        list_source(csv(images, f"path,label\na.png,good\nb.png,{empty}\nü.png,{empty}\n"), options())


def test_words_for_what_is_missing_are_values_and_a_note_says_so(images, options):
    listing = list_source(csv(images, "path,label,lot\na.png,good,nan\nb.png,None,7\n"), options(group_column="lot"))
    assert listing.table[["label", "group"]].to_numpy().tolist() == [["good", "nan"], ["None", "7"]]
    assert listing.notes == (
        "data.group_column='lot': 'nan' in 1 of 2 rows is a value like any other; leave cells without one empty.",
    )


@pytest.mark.parametrize("garbled", ["groÃŸ", "gro\ufffd"])
def test_letters_that_an_earlier_program_garbled_are_said(images, options, garbled):
    (note,) = list_source(csv(images, f"path,label\na.png,groß\nb.png,{garbled}\n"), options()).notes
    assert note.startswith(f"data.label_column='label': '{garbled}' was read in a wrong encoding")


@pytest.mark.parametrize("row", ["left, top.png,good,", "left, top.png,good"])
def test_a_label_that_a_separator_within_the_path_has_shifted_is_refused(images, options, row):
    text = f"path,label,lot{',remark' if row.endswith(',') else ''}\n{row}\n"
    with pytest.raises(InputError, match=r"names of images \('top\.png' in line 2\)"):
        list_source(csv(images, text), options())


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
    with pytest.raises(InputError, match=r"a\.png in lines 2 and 4"):
        list_source(csv(images, "path,label\na.png,good\nb.png,good\n./sub/../a.png,crack\n"), options())


def test_backslashes_of_another_system_are_understood(images, options):
    table = list_source(csv(images, "path,label\nsub\\c d.png,good\n"), options()).table
    assert table["path"].tolist() == ["sub/c d.png"]


@pytest.mark.parametrize("folder", ["D:\\line3\\set", "d:/line3/set", "\\\\nas\\line3"])
def test_full_paths_of_windows_are_taken_from_where_the_root_holds_them(images, options, folder):
    text = f"path,label,mask\n{folder}\\sub\\c d.png,good,\n{folder}\\a.png,crack,{folder}\\b.png\n"
    listing = list_source(csv(images, text), options(mask_column="mask"))
    assert listing.table["path"].tolist() == ["a.png", "sub/c d.png"]
    assert listing.table["mask"].tolist() == ["b.png", None]
    assert listing.notes == (
        f"data.path_column: paths that start with {folder} are taken below data.root from there on: 2.",
        f"data.mask_column: paths that start with {folder} are taken below data.root from there on: 1.",
    )


def test_a_full_path_of_windows_may_be_longer_than_a_name_here_can_be(images, options):
    path = "\\".join(["D:", *["folder" * 10] * 5, "a.png"])
    assert list_source(csv(images, f"path,label\n{path} ,good\n"), options()).table["path"].tolist() == ["a.png"]


def test_full_paths_of_windows_keep_the_folders_that_tell_them_apart(images, options):
    text = "path,label\nD:\\x\\good\\a.png,good\nD:\\x\\crack\\a.png,crack\n"
    with pytest.raises(InputError, match=r"2 full paths of another machine .*set data\.root to the folder here"):
        list_source(csv(images, text), options())


def test_full_paths_of_windows_are_found_at_an_address(archive, images, options):
    listing = list_source(csv(images, "path,label\nD:\\x\\images\\a.png,good\n"), options(root=f"zip://::{archive}"))
    assert listing.table["path"].tolist() == ["images/a.png"]


def test_blanks_around_a_path_are_no_part_of_it(images, options):
    text = "path;label\n a.png ;good\nsub/c d.png ;good\n"
    assert list_source(csv(images, text), options()).table["path"].tolist() == ["a.png", "sub/c d.png"]


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


# Masks


def test_masks_are_paths_like_the_images_and_may_be_missing(images, options, write_image):
    write_image(images / "masks/ä b.png")
    text = "path,label,mask\na.png,good,\nb.png,crack,./masks/../masks/ä b.png\nü.png,crack,gone.png\n"
    table = list_source(csv(images, text), options(mask_column="mask")).table
    assert table["mask"].tolist() == [None, "masks/ä b.png", "gone.png"]


def test_one_mask_may_serve_two_images(images, options):
    text = "path,label,mask\na.png,crack,ü.png\nb.png,crack,ü.png\n"
    assert list_source(csv(images, text), options(mask_column="mask")).table["mask"].tolist() == ["ü.png"] * 2


@pytest.mark.parametrize("path", ["../outside.png", "{outside}", "link.png"])
def test_masks_that_leave_the_root_are_refused(images, options, write_image, path):
    outside = write_image(images.parent / "outside.png")
    (images / "link.png").symlink_to(outside)
    text = f"path,label,mask\na.png,good,\nb.png,crack,{path.format(outside=outside)}\n"
    with pytest.raises(InputError, match=r"data\.mask_column: with data\.root=.*1 paths lead out"):
        list_source(csv(images, text), options(mask_column="mask"))


def test_masks_that_can_be_no_path_or_are_all_missing_are_refused(images, options):
    frame = pd.DataFrame({"path": ["a.png"], "label": ["good"], "mask": ["a\0b.png"]})
    frame.to_parquet(images / "list.parquet")
    with pytest.raises(InputError, match=r"data\.mask_column: .* cannot be the path of a file"):
        list_source(f"parquet:{images / 'list.parquet'}", options(mask_column="mask"))
    with pytest.raises(InputError, match=r"none of the 1 masks is there \(the first: m\.png\)"):
        list_source(csv(images, "path,label,mask\na.png,good,m.png\n"), options(mask_column="mask"))


def test_a_mask_column_that_is_not_there_is_named(images, options):
    with pytest.raises(InputError, match=r"data\.mask_column='mask': no such column"):
        list_source(csv(images, "path,label\na.png,good\n"), options(mask_column="mask"))


# Folders of parts


def test_a_partitioned_folder_is_a_table_whose_folder_names_are_a_column(images, options):
    for label, path in (("001", "a.png"), ("no%3Dt%20%C3%BC", "b.png")):
        (images / f"list.parquet/label={label}").mkdir(parents=True)
        pd.DataFrame({"path": [path]}).to_parquet(images / f"list.parquet/label={label}/part-0.snappy.parquet")
    for name in ("_SUCCESS", ".part-0.crc", "_metadata.parquet"):
        (images / "list.parquet" / name).write_bytes(b"")
    listing = list_source(f"parquet:{images / 'list.parquet'}/", options())
    assert listing.table[["path", "label"]].to_numpy().tolist() == [["a.png", "001"], ["b.png", "no=t ü"]]
    assert listing.files.uri == str(images.resolve())


def test_a_folder_of_parts_at_an_address_is_read_too(tmp_path, options):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as stream:
        for label, name in (("good", "a.png"), ("crack", "b.png")):
            part = pd.DataFrame({"path": [name]}).to_parquet()
            stream.writestr(f"set/list.parquet/label={label}/0.parquet", part)
            stream.writestr(f"set/{name}", name)
    listing = list_source(f"parquet:zip://set/list.parquet::{tmp_path / 'set.zip'}", options())
    assert listing.table[["path", "label"]].to_numpy().tolist() == [["a.png", "good"], ["b.png", "crack"]]


# Names in other forms

DECOMPOSED = unicodedata.normalize("NFD", "Gehäuse")


@pytest.mark.parametrize(
    ("listed", "there"),
    [("Gehäuse/ü.png", f"{DECOMPOSED}/ü.png"), (f"{DECOMPOSED}/ü.png", "Gehäuse/ü.png"), ("a.png\u200b", "a.png")],
)
def test_an_image_and_its_mask_are_found_under_another_form_of_their_names(
    tmp_path, options, write_image, listed, there
):
    write_image(tmp_path / there)
    write_image(tmp_path / f"m/{there}")
    source = csv(tmp_path, f"path,label,mask\n{listed},good,m\\{listed}\n")
    listing = list_source(source, options(mask_column="mask"))
    assert listing.table[["path", "mask"]].loc[0].tolist() == [there, f"m/{there}"]


def test_an_image_that_is_listed_in_two_forms_of_its_name_is_listed_twice(images, options):
    text = f"path,label\nü.png,good\n{unicodedata.normalize('NFD', 'ü.png')},crack\n"
    with pytest.raises(InputError, match="paths listed twice"):
        list_source(csv(images, text), options())


def test_a_link_out_of_the_root_is_refused_under_any_form_of_its_name(images, options, write_image):
    write_image(images.parent / "other/x.png")
    (images / DECOMPOSED).symlink_to(images.parent / "other")
    with pytest.raises(InputError, match="lead out of it"):
        list_source(csv(images, "path,label\nGehäuse/x.png,good\n"), options())


# Addresses


def test_an_image_at_an_address_is_found_under_another_form_of_its_name(tmp_path, images, options):
    with zipfile.ZipFile(tmp_path / "mac.zip", "w") as stream:
        stream.writestr(f"{DECOMPOSED}/ü.png", "x")
    listing = list_source(csv(images, "path,label\nGehäuse/ü.png,good\n"), options(root=f"zip://::{tmp_path}/mac.zip"))
    assert listing.files.read(listing.table["path"][0]) == b"x"


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "set.zip"
    frame = pd.DataFrame({"path": ["a.png"], "label": ["good"]})
    with zipfile.ZipFile(path, "w") as stream:
        stream.writestr("lists/list.csv", "path,label,mask\nü b.png,good,\nsub\\c.png,crack,./m.png\n")
        stream.writestr("lists/list.parquet", frame.to_parquet())
        for name in ("lists/ü b.png", "lists/sub/c.png", "lists/m.png", "images/a.png", "images/../evil.png"):
            stream.writestr(name, name)
    return path


def test_a_table_at_an_address_has_its_images_beside_it(archive, options):
    listing = list_source(f"csv:zip://lists/list.csv::{archive}", options(mask_column="mask"))
    assert listing.table["path"].tolist() == ["sub/c.png", "ü b.png"]
    assert listing.table["mask"].tolist() == ["m.png", None]
    assert listing.files.uri == f"zip://lists::{archive}"
    assert listing.files.read("ü b.png") == "lists/ü b.png".encode()
    assert listing.description == f"table list.csv, images in zip://lists::{archive}: 2 classes, 2 files"


def test_table_and_images_may_lie_at_different_addresses(archive, images, options):
    root = f"zip://images::{archive}"
    for source in (csv(images, "path,label\na.png,good\n"), f"parquet:zip://lists/list.parquet::{archive}"):
        listing = list_source(source, options(root=root))
        assert (listing.files.uri, listing.table["path"].tolist()) == (root, ["a.png"])
    listing = list_source(f"parquet:zip://lists/list.parquet::{archive}", options(root=str(images)))
    assert listing.files.uri == str(images.resolve())


@pytest.mark.parametrize(
    "path", ["../evil.png", "a/../../evil.png", "..\\evil.png", "/images/a.png", "s3://bucket/a.png"]
)
def test_paths_that_leave_an_address_are_refused(archive, images, options, path):
    source = csv(images, f"path,label\na.png,good\n{path},good\n")
    with pytest.raises(InputError, match=r"data\.root='zip://images::.*1 paths lead out.*relative to the root"):
        list_source(source, options(root=f"zip://images::{archive}"))


def test_a_missing_image_at_an_address_is_left_to_the_quarantine_but_not_if_all_are(archive, images, options):
    chosen = options(root=f"zip://images::{archive}")
    assert len(list_source(csv(images, "path,label\na.png,good\ngone.png,good\n"), chosen).table) == 2
    with pytest.raises(InputError, match=r"none of the 1 images is there \(the first: gone\.png\)"):
        list_source(csv(images, "path,label\ngone.png,good\n"), chosen)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("csv:zip://::{archive}", "names no file"),
        ("csv:zip://lists/gone.csv::{archive}", r"gone\.csv::.*' cannot be read as csv.*no such file"),
        ("csv:zip://nowhere/list.csv::{archive}", r"data\.source='csv:zip://nowhere::.*holds no such folder"),
        ("csv:nosuchscheme://x/list.csv", "cannot be opened.*nosuchscheme"),
    ],
)
def test_a_missing_table_at_an_address_is_refused(archive, options, source, reason):
    with pytest.raises(InputError, match=reason):
        list_source(source.format(archive=archive), options())


def test_a_root_at_an_address_that_is_no_folder_is_refused_without_its_password(images, options):
    chosen = options(root="ftp://me:secret@127.0.0.1:1/images")
    with pytest.raises(InputError, match=r"data\.root='ftp://…@127\.0\.0\.1:1/images' cannot be opened") as caught:
        list_source(csv(images, "path,label\na.png,good\n"), chosen)
    assert "secret" not in str(caught.value)


def test_names_with_a_percent_sign_and_a_hash_are_taken_as_they_are(images, options):
    memory = f"memory://{os.urandom(8).hex()}"
    fsspec.filesystem("memory").pipe_file(f"{memory.removeprefix('memory:/')}/100%#1?.png", b"x")
    listing = list_source(csv(images, "path,label\n100%#1?.png,good\n"), options(root=memory))
    assert listing.files.read(listing.table["path"][0]) == b"x"
