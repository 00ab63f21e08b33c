"""The dispatcher."""

import pytest

from components.data.sources.catalogue import list_source
from components.errors import InputError


def test_an_unknown_kind_lists_the_known_ones(options):
    with pytest.raises(InputError, match=r"data\.source='zip:/x.zip'.*folder.*csv.*parquet.*mvtec.*elpv.*generated"):
        list_source("zip:/x.zip", options())


def test_an_address_without_a_kind_is_refused_without_showing_its_password(options):
    with pytest.raises(InputError, match=r"data\.source='ftp://…@host/images' is of no known kind"):
        list_source("ftp://me:secret@host/images", options())


@pytest.mark.parametrize("source", ["folder:", "csv:  ", "parquet", "mvtec:"])
def test_a_kind_without_a_place_is_refused(source, options):
    with pytest.raises(InputError, match="names no place"):
        list_source(source, options())


def test_spaces_around_the_source_do_not_matter(tmp_path, options, write_image):
    for name in ("good/a.png", "good/b.png", "crack/a.png"):
        write_image(tmp_path / "parts" / name)
    assert len(list_source(f" folder: {tmp_path / 'parts'} ", options()).table) == 3
