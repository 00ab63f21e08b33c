"""The audit on a small pack: what is found does not depend on the way there."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from components.data.framing import Framing
from pipeline.data import audit as data_audit
from pipeline.data.audit import audit_data, find_duplicates, small_defects_note

FRAMING = Framing(size=64, region=None, fit="squash", tile_size=None, tile_overlap=0.0)
COUNT = 40


@pytest.fixture
def pack():
    """Noise; number 7 is nearly number 3."""
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 256, (COUNT, 64, 64), dtype=np.uint8)
    pictures[7] = np.clip(pictures[3].astype(int) + 3, 0, 255)
    return SimpleNamespace(framing=FRAMING, thumbnails=lambda rows: pictures[np.asarray(rows)])


def table_of(rows, digests=None):
    digests = [f"{(37 * row) % 100:02d}" * 32 for row in rows] if digests is None else digests
    return pd.DataFrame({"pack_index": rows, "sha256": digests, "box": ""})


def test_pairs_are_given_by_pack_index_in_any_order_of_the_pack(pack):
    rows = np.random.default_rng(1).permutation(COUNT)
    pairs = find_duplicates(table_of(rows), pack, symmetric=False).pairs
    assert [sorted(pair) for pair in pairs[["first", "second"]].to_numpy().tolist()] == [[3, 7]]


def test_identical_files_are_one_image(pack):
    table = table_of([*range(COUNT), 5])
    table.loc[COUNT, "sha256"] = table.loc[5, "sha256"]
    assert len(find_duplicates(table, pack, symmetric=False).pairs) == 1


def test_a_large_set_is_sampled(pack, monkeypatch):
    monkeypatch.setattr(data_audit, "MOST_IMAGES", 30)
    manifest = pd.DataFrame(
        {
            "image_id": [f"{number}.png" for number in range(COUNT)],
            "path": [f"{number}.png" for number in range(COUNT)],
            "label": ["good", "pit"] * (COUNT // 2),
            "group": [str(number) for number in range(COUNT)],
            "pack_index": range(COUNT),
        }
    )
    columns = ["bytes", "width", "height", "frames", "orientation", "modified", "brightness", "contrast", "sharpness"]
    statistics = pd.DataFrame(
        np.random.default_rng(1).random((COUNT, 11)), columns=[*columns, "border", "colour"]
    ).assign(mode="L", format="PNG")
    audit = audit_data(manifest, statistics, pack, seed=0)
    assert audit.probe.images == 30
    assert audit.notes == ("Leakage and shortcuts were looked into on 30 of 40 images.",)


@pytest.mark.parametrize(
    ("sides", "note"),
    [
        ([], None),
        ([8.0] * 20, None),
        ([8.0] * 19 + [1.0], None),  # one in twenty is tolerated
        ([8.0] * 18 + [2.0] * 2, "10% of the defects"),
        ([np.nan, 2.0], "100% of the defects"),
    ],
)
def test_a_warning_comes_when_more_than_one_defect_in_twenty_is_too_small(sides, note):
    said = small_defects_note(pd.DataFrame({"defect_pixels": np.array(sides, float)}), 96)
    assert said is None if note is None else note in said


def test_the_warning_names_the_size_that_would_do():
    """Two pixels at 96 are four at 192."""
    said = small_defects_note(pd.DataFrame({"defect_pixels": [2.0] * 10}), 96)
    assert "data.image_size=96" in said
    assert " 192 would show" in said
