"""The demo's real images, on a stand-in for the package and, where it is installed, on the package."""

import importlib.util
from types import SimpleNamespace

import pytest

from components.data.sources import elpv
from components.data.sources.catalogue import list_source
from components.errors import InputError


@pytest.fixture
def package(tmp_path, monkeypatch, write_image):
    """A folder laid out as the package is, with one image of each probability."""
    data = tmp_path / "elpv_dataset" / "data"
    lines = []
    for number, probability in enumerate(("0.0", "0.3333333333333333", "0.6666666666666666", "1.0")):
        write_image(data / f"images/cell{number}.png")
        lines.append(f"images/cell{number}.png  {probability}    {'mono' if number % 2 else 'poly'}\n")
    (data / "labels.csv").write_text("".join(lines), encoding="utf-8")
    spec = SimpleNamespace(submodule_search_locations=[str(data.parent)])
    monkeypatch.setattr(elpv.importlib.util, "find_spec", lambda _name: spec)
    return data


@pytest.mark.parametrize(
    ("threshold", "defective"),
    [(0.3, 3), (1 / 3, 3), (0.34, 2), (0.5, 2), (2 / 3, 2), (0.67, 2), (0.7, 1), (1.0, 1)],
)
def test_the_threshold_divides_the_probabilities(package, options, threshold, defective):
    table = list_source("elpv", options(defect_threshold=threshold)).table
    assert (table["label"] == "defective").sum() == defective
    assert set(table["label"]) <= {"defective", "functional"}


def test_probability_and_type_are_metadata(package, options):
    table = list_source("elpv", options()).table
    assert table["meta_probability"].tolist() == ["0.00", "0.33", "0.67", "1.00"]
    assert table["meta_type"].tolist() == ["poly", "mono", "poly", "mono"]


@pytest.mark.parametrize(("threshold", "confidence"), [(0.5, [1, 2 / 3, 2 / 3, 1]), (0.3, [1, 1 / 3, 2 / 3, 1])])
def test_the_confidence_is_the_probability_of_the_label_in_exact_thirds(package, options, threshold, confidence):
    chosen = options(confidence_column="confidence", defect_threshold=threshold)
    assert list_source("elpv", chosen).table["confidence"].tolist() == pytest.approx(confidence, abs=1e-12)
    assert "confidence" not in list_source("elpv", options()).table


def test_a_missing_package_says_how_to_install_it(options, monkeypatch):
    monkeypatch.setattr(elpv.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[demo\]'"):
        list_source("elpv", options())


def test_a_group_column_that_the_set_has_not_is_refused(package, options):
    with pytest.raises(InputError, match=r"data\.group_column='module'.*probability, type, confidence"):
        list_source("elpv", options(group_column="module"))
    with pytest.raises(InputError, match=r"data\.confidence_column='probability'.*probability, type, confidence"):
        list_source("elpv", options(confidence_column="probability"))


@pytest.mark.skipif(importlib.util.find_spec("elpv_dataset") is None, reason="needs the demo extra")
def test_the_installed_package_has_the_published_counts(options):
    listing = list_source("elpv", options(defect_threshold=0.5))
    assert len(listing.table) == 2624
    assert (listing.table["label"] == "defective").sum() == 821  # 106 at 2/3 and 715 at 1
    assert all(listing.files.local(path).is_file() for path in listing.table["path"])
