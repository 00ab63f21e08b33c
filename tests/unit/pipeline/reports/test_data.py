"""The data report: every finding is told, nothing is told that was not found, and the worst comes first."""

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from pipeline.data.findings import DataFindings, exact_duplicates, summarise, warnings_of, write_tables
from pipeline.reports.data import cut, one_of_each, tail, write_data_report

SPLITS = ("train", "train", "val", "val", "calibration", "calibration", "test", "test")
CONFLICT_COLUMNS = ["group", "image_ids", "labels", "pack_index", "kind"]


@dataclass(frozen=True)
class Near:
    pairs: pd.DataFrame
    threshold: float
    note: str


@dataclass(frozen=True)
class Probe:
    images: int = 8
    folds: int = 2
    random_accuracy: float | None = 0.98
    random_interval: tuple[float, float] | None = (0.96, 0.99)
    grouped_accuracy: float | None = 0.64
    grouped_interval: tuple[float, float] | None = (0.6, 0.68)
    overstatement: float | None = 0.34
    overstatement_interval: tuple[float, float] | None = (0.3, 0.38)
    leaks: bool = True
    statement: str = "A random split would overstate accuracy by 34 points."


@dataclass(frozen=True)
class Cue:
    name: str
    score: float
    suspicious: bool
    statement: str
    low: float = 0.4
    high: float = 1.0
    label: str = "pit"


class FakeContext:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.figures: dict[str, Figure] = {}

    def log_figure(self, figure: Figure, name: str) -> None:
        assert name not in self.figures
        self.figures[name] = figure


@pytest.fixture
def pack() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)


@pytest.fixture
def clean() -> DataFindings:
    """Eight images, two of each split, one good and one with a pit; nothing is wrong with them."""
    paths = [f"{kind}/{split}.png" for split in ("train", "val", "calibration", "test") for kind in ("good", "pit")]
    manifest = pd.DataFrame(
        {
            "image_id": paths, "path": paths, "label": ["good", "pit"] * 4, "is_defect": [False, True] * 4,
            "group": [f"image:{number}" for number in range(8)], "split": SPLITS, "fold": [0, 0, 1, 1, -1, -1, -1, -1],
            "sha256": [f"{number}" for number in range(8)], "width": 20, "height": 10, "mode": "L", "format": "PNG",
            "pack_index": range(8),
        }
    )  # fmt: skip
    statistics = manifest[["image_id", "path", "width", "height", "mode", "format"]].assign(
        frames=1, orientation=1, defect_pixels=np.nan
    )
    return DataFindings(
        manifest=manifest,
        statistics=statistics,
        quarantine=pd.DataFrame({"path": [], "reason": []}),
        listing_description="folder of class folders /data: 2 classes, 8 files",
        root="/data",
        notes=(),
        warnings=(),
        conflicts=pd.DataFrame([], columns=CONFLICT_COLUMNS),
        largest_groups=pd.DataFrame([], columns=["group", "images", "labels", "reason"]),
        left_out=pd.DataFrame([], columns=["image_id", "label", "pack_index"]),
        near=Near(_pairs([]), 0.92, "No two images show the same thing."),
        audited=True,
        probe=Probe(grouped_accuracy=0.97, overstatement=0.01, leaks=False, statement="No measurable leakage."),
        shortcuts=[Cue("border", 0.5, False, "The border tells nothing.")],
        min_defect_note=None,
        digest="d1ge57",
    )


@pytest.fixture
def faulty(clean: DataFindings) -> DataFindings:
    """The same with one of every fault; image 8 of the pack was dropped for its label."""
    statistics = clean.statistics.assign(
        frames=[1, 3, *[1] * 6], orientation=[6, *[1] * 7], defect_pixels=[np.nan, 2, np.nan, 6, *[np.nan] * 4]
    )
    conflict = ("image:0", ("good/train.png", "pit/copy.png"), ("good", "pit"), (0, 8), "near duplicate")
    return dataclasses.replace(
        clean,
        manifest=clean.manifest.assign(group=["a", "a", *clean.manifest["group"].iloc[2:]], meta_camera=["left"] * 8),
        statistics=statistics,
        quarantine=pd.DataFrame({"path": ["pit/broken.png"], "reason": ["the file is empty"]}),
        notes=("The split of its own was pooled.",),
        warnings=("Class pit has 2 groups: 3 of 5 folds go without it.",),
        conflicts=pd.DataFrame([conflict], columns=CONFLICT_COLUMNS),
        largest_groups=pd.DataFrame(
            {"group": ["a"], "images": [2], "labels": ["good 1, pit 1"], "reason": ["near duplicates"]}
        ),
        near=Near(_pairs([(0, 1, 0.99), (0, 8, 0.95)]), 0.92, "2 pairs show the same thing."),
        probe=Probe(),
        shortcuts=[
            Cue("file format", 0.97, True, "The format tells."),
            Cue("file order", 0.8, True, "The order tells."),
            Cue("time stamp", 0.5, False, "No times are known.", label=""),
        ],
        min_defect_note="50 % of the defects span fewer than 4 px.",
    )


def test_warnings_come_in_the_order_of_their_weight(faulty: DataFindings) -> None:
    assert warnings_of(faulty) == [
        "The format tells.",
        "The order tells.",
        "A random split would overstate accuracy by 34 points.",
        "1 set of images that show the same thing (2 images) carry different labels: a label is wrong, or a defect is "
        "all that differs.",
        "1 file could not be used and were set aside.",
        "50 % of the defects span fewer than 4 px.",
        "Class pit has 2 groups: 3 of 5 folds go without it.",
    ]


def test_a_clean_data_set_is_called_so(clean: DataFindings, pack: np.ndarray, tmp_path: Path) -> None:
    page, _ = _page(clean, pack, tmp_path)
    assert warnings_of(clean) == []
    assert "Nothing suspicious was found." in page
    assert 'role="note"' not in page
    for said in (
        "No group has more than one image.",
        "No two images that show the same thing carry different labels.",
        "None was found.",
    ):
        assert said in page


def test_the_summary_is_plain_json_and_keeps_its_earlier_keys(faulty: DataFindings) -> None:
    summary = json.loads(json.dumps(summarise(faulty), allow_nan=False))
    assert {key: summary[key] for key in ("source", "root", "digest", "images", "groups", "quarantined")} == {
        "source": faulty.listing_description, "root": "/data", "digest": "d1ge57", "images": 8, "groups": 7,
        "quarantined": 1,
    }  # fmt: skip
    assert summary["counts"] == {
        name: dict.fromkeys(("train", "val", "calibration", "test"), 1) for name in ("good", "pit")
    }
    assert summary["folds"] == {name: {"0": 1, "1": 1} for name in ("good", "pit")}
    assert (summary["near_duplicate_pairs"], summary["near_duplicate_threshold"]) == (2, 0.92)
    assert (summary["label_conflicts"], summary["exact_duplicates"]) == (1, 0)
    assert summary["defect_size"] == {
        "images": 2, "smallest_px": 2.0, "median_px": 4.0, "note": "50 % of the defects span fewer than 4 px.",
    }  # fmt: skip
    assert summary["leakage"]["overstatement"] == 0.34
    assert [cue["name"] for cue in summary["shortcuts"]] == ["file format", "file order", "time stamp"]
    assert summary["largest_groups"][0]["images"] == 2


def test_numbers_of_numpy_do_not_break_the_summary(faulty: DataFindings) -> None:
    probe = Probe(random_accuracy=np.float32(0.5), random_interval=(np.float64(0.25), np.float64(0.75)), leaks=np.True_)
    changed = dataclasses.replace(faulty, probe=probe, shortcuts=[Cue("border", np.float64(0.5), np.False_, "")])
    summary = json.loads(json.dumps(summarise(changed)))
    assert summary["leakage"]["random_interval"] == [0.25, 0.75]
    assert summary["leakage"]["leaks"] is True


def test_what_was_not_looked_for_is_null_and_not_zero(clean: DataFindings) -> None:
    summary = summarise(dataclasses.replace(clean, near=None, audited=False, probe=None, shortcuts=[]))
    assert summary["near_duplicate_pairs"] is None
    assert summary["near_duplicate_threshold"] is None
    assert summary["leakage"] is None
    assert summary["defect_size"] is None


def test_tiles_of_one_file_are_no_duplicates_of_each_other(clean: DataFindings) -> None:
    tiles = clean.manifest.assign(path="one.tif", sha256="same")
    assert exact_duplicates(tiles) == 0
    assert exact_duplicates(clean.manifest.assign(sha256=["x", "x", "x", *"abcde"])) == 2


def test_the_report_shows_every_finding(faulty: DataFindings, pack: np.ndarray, tmp_path: Path) -> None:
    page, run = _page(faulty, pack, tmp_path)
    for said in [
        *warnings_of(faulty),
        "The split of its own was pooled.",
        "2 pairs show the same thing.",
        "pit/broken.png",
        "the file is empty",
        "good/train.png, pit/copy.png",
        "1 file of several pages or frames",
        "1 file turned upright",
        "+34.0",
        "left",
    ]:
        assert re.sub(" %", "\u00a0%", said) in page or said in page, said
    assert set(run.figures) == {
        f"figures/{name}.png"
        for name in (
            "splits", "samples", "pairs", "largest_groups", "conflicts", "augmentation",
        )
    }  # fmt: skip


def test_the_least_alike_pair_comes_first_and_a_dropped_image_still_has_its_name(
    faulty: DataFindings, pack: np.ndarray, tmp_path: Path
) -> None:
    _, run = _page(faulty, pack, tmp_path)
    captions = [text.get_text() for axes in run.figures["figures/pairs.png"].axes for text in axes.texts]
    assert captions == [
        "0.950, upright\ngood: good/train.png\npit: pit/copy.png",
        "0.990, upright\ngood: good/train.png\npit: pit/train.png",
    ]


def test_galleries_stop_at_their_limit_and_say_of_how_many(
    clean: DataFindings, pack: np.ndarray, tmp_path: Path
) -> None:
    near = dataclasses.replace(clean.near, pairs=_pairs([(0, 1, 0.99)] * 500))
    _, run = _page(dataclasses.replace(clean, near=near), pack, tmp_path)
    figure = run.figures["figures/pairs.png"]
    assert sum(len(axes.images) for axes in figure.axes) == 24
    assert any("24 of 500 pairs" in text.get_text() for text in figure.texts)


def test_long_tables_are_cut_and_name_the_file_that_has_the_rest(
    clean: DataFindings, pack: np.ndarray, tmp_path: Path
) -> None:
    quarantine = pd.DataFrame({"path": [f"{number:03d}.png" for number in range(120)], "reason": "the file is empty"})
    page, _ = _page(dataclasses.replace(clean, quarantine=quarantine), pack, tmp_path)
    assert "50 of 120 rows; all of them are in quarantine.csv" in page
    assert "049.png" in page
    assert "050.png" not in page


def test_rare_values_of_metadata_share_a_row(clean: DataFindings, pack: np.ndarray, tmp_path: Path) -> None:
    manifest = pd.concat([clean.manifest] * 5, ignore_index=True)
    manifest["meta_lot"] = [*["big"] * 20, *(f"lot {number:02d}" for number in range(20))]
    page, _ = _page(dataclasses.replace(clean, manifest=manifest), pack, tmp_path)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page)
    assert "13 others" in cells  # 21 values, of which 8 have a row
    assert "lot 06" in cells
    assert "lot 07" not in cells


def test_without_the_audit_the_report_says_that_it_was_not_made(
    faulty: DataFindings, pack: np.ndarray, tmp_path: Path
) -> None:
    empty = dataclasses.replace(faulty, audited=False, probe=None, shortcuts=[])
    page, run = _page(dataclasses.replace(empty, near=None), pack, tmp_path)
    assert "Not looked for: data.audit is off." in page
    assert "data.near_duplicates: off" in page
    assert "figures/pairs.png" not in run.figures


def test_a_probe_that_could_measure_nothing_is_a_sentence(
    clean: DataFindings, pack: np.ndarray, tmp_path: Path
) -> None:
    nothing = Probe(8, 0, None, None, None, None, None, None, leaks=False, statement="It takes two groups a class.")
    page, _ = _page(dataclasses.replace(clean, probe=nothing), pack, tmp_path)
    assert "It takes two groups a class." in page
    assert "keeping groups whole" not in page
    assert "Random split" not in page


def test_leakage_and_cues_have_their_intervals_and_a_cue_that_could_not_be_tried_is_told(
    faulty: DataFindings, pack: np.ndarray, tmp_path: Path
) -> None:
    page, _ = _page(faulty, pack, tmp_path)
    cells = re.findall(r"<td[^>]*>([^<]*)</td>", page.replace("\u00a0", " "))
    rows = {cells[place]: cells[place + 1 : place + 3] for place in range(len(cells) - 2)}
    assert rows["random"] == ["98.0 %", "96.0 % to 99.0 %"]
    assert rows["keeping groups whole"] == ["64.0 %", "60.0 % to 68.0 %"]
    assert rows["file format"] == ["97.0 %", "40.0 % to 100.0 %"]
    assert rows["time stamp"] == ["–", "–"]
    assert "No times are known." in page


def test_the_tables_name_images_instead_of_numbers(faulty: DataFindings, tmp_path: Path) -> None:
    assert write_tables(faulty, tmp_path) == ["near_duplicates.csv", "label_conflicts.csv"]
    pairs = pd.read_csv(tmp_path / "near_duplicates.csv")
    assert pairs[["first", "second"]].to_numpy().tolist() == [
        ["good/train.png", "pit/train.png"], ["good/train.png", "pit/copy.png"],
    ]  # fmt: skip
    conflicts = pd.read_csv(tmp_path / "label_conflicts.csv")
    assert conflicts.loc[0, "image_ids"] == "good/train.png, pit/copy.png"
    assert list(conflicts.columns) == ["group", "image_ids", "labels", "kind"]


def test_empty_tables_are_written_with_their_header(clean: DataFindings, tmp_path: Path) -> None:
    write_tables(dataclasses.replace(clean, near=None), tmp_path)
    assert (tmp_path / "near_duplicates.csv").read_text() == "first,second,correlation,symmetry\n"
    assert (tmp_path / "label_conflicts.csv").read_text() == "group,image_ids,labels,kind\n"


def test_names_are_cut_where_they_differ_least() -> None:
    assert (cut("abc", 3), cut("abcd", 3)) == ("abc", "ab…")
    assert (tail("abc", 3), tail("abcd", 3)) == ("abc", "…cd")


def test_of_a_large_conflict_every_label_is_shown() -> None:
    assert one_of_each(("good",) * 20 + ("pit",)) == [0, 20, 1, 2, 3, 4, 5, 6]


def _pairs(rows: list[tuple[int, int, float]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["first", "second", "correlation"])
    types = {"first": "int64", "second": "int64", "correlation": "float32"}
    return table.astype(types).assign(symmetry="upright")


def _page(findings: DataFindings, pack: np.ndarray, folder: Path) -> tuple[str, FakeContext]:
    context = FakeContext(folder)
    write_data_report(context, findings, pack, augmented=[[pack[0], pack[1]]])  # type: ignore[arg-type]
    return (folder / "data_report.html").read_text(encoding="utf-8").replace("&#39;", "'"), context


def test_of_many_classes_some_are_sampled_and_the_caption_says_how_many(
    clean: DataFindings, pack: np.ndarray, tmp_path: Path
) -> None:
    table = pd.concat([clean.manifest] * 10, ignore_index=True)
    labels = [f"PN-{row:03}" for row in range(len(table))]
    page, context = _page(dataclasses.replace(clean, manifest=table.assign(label=labels)), pack, tmp_path)
    assert len(context.figures["figures/samples.png"].axes[0].images) == 24
    assert f"for 24 of {len(table)} classes" in page
