"""A second model, of the other design, meets the champion on the same images; it takes its place only if it passes."""

import json

import pandas as pd
import pytest

pytestmark = pytest.mark.integration

#: Another seed gives other splits as well, so the champion has seen some of the new test images; with this one enough
#: unseen ones are left to compare on.
SECOND = {"seed": 8, "search.num_trials": 0, "data.design": "hold_out"}


@pytest.fixture(scope="module")
def challenged(tmp_path_factory, copy_finished_to):
    """The champion, and a second model that is to pass a gate which none can pass."""
    place = copy_finished_to(tmp_path_factory.mktemp("challenged"))
    return place, place.run("run", {**SECOND, "promote.gates.min_auroc": 1})


def _decision(place, done):
    return json.loads((place.result(done, "promote") / "decision.json").read_text(encoding="utf-8"))


def test_a_model_that_fails_a_gate_becomes_challenger_and_the_champion_stays(challenged):
    place, done = challenged
    decision = _decision(place, done)
    assert (decision["version"], decision["alias"], decision["promoted"]) == ("2", "challenger", False)
    assert decision["previous_champion"] == "1"
    assert "AUROC" in decision["reason"]
    (auroc, *_) = decision["gates"]
    assert (auroc["passed"], auroc["limit"]) == (False, 1.0)
    aliases = place.client().get_registered_model("smoke").aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "1", "challenger": "2"}
    assert done.summary["headline"]["alias"] == "challenger"


def test_the_design_hold_out_trains_one_network_and_certifies_on_its_calibration_split(challenged):
    place, done = challenged
    manifest = pd.read_parquet(place.result(done, "prepare") / "manifest.parquet")
    assert set(manifest["split"]) == {"train", "val", "calibration", "test"}
    train, folder = (place.result(done, stage) for stage in ("train", "deliver"))
    (whole,) = json.loads((train / "training.json").read_text())["members"]
    assert (whole["name"], whole["trained_in"]) == ("whole", "train")
    assert set(pd.read_parquet(train / "history.parquet")["member"]) == {"whole"}
    scored = pd.read_parquet(folder / "calibration_predictions.parquet")
    assert scored["image_id"].tolist() == manifest.loc[manifest["split"] == "calibration", "image_id"].tolist()
    point = json.loads((folder / "operating_point.json").read_text())["operating_point"]
    assert (point["evidence"]["kind"], point["evidence"]["not_certifying"]) == ("held_out", [])


def test_the_comparison_is_made_on_images_that_the_champion_has_not_seen(challenged, finished):
    place, done = challenged
    original, first = finished
    comparison = _decision(place, done)["comparison"]
    manifest = pd.read_parquet(original.result(first, "prepare") / "manifest.parquet")
    unseen = set(manifest.loc[manifest["split"] == "test", "sha256"])
    mine = pd.read_parquet(place.result(done, "evaluate") / "test_predictions.parquet")
    fresh = mine[mine["sha256"].isin(unseen)]
    assert 0 < comparison["images"] == len(fresh) < len(mine)
    assert comparison["left_out_as_seen_by_champion"] == len(mine) - len(fresh)


def test_the_comparison_gives_differences_and_bounds(challenged, finished):
    place, done = challenged
    original, first = finished
    comparison = _decision(place, done)["comparison"]
    theirs = pd.read_parquet(original.result(first, "evaluate") / "test_predictions.parquet")
    mine = pd.read_parquet(place.result(done, "evaluate") / "test_predictions.parquet")
    both = mine.merge(theirs, on="image_id", suffixes=("", "_champion"))
    assert len(both) == comparison["images"]
    for kind, wrong, margin in [("escape_rate", "accept", 0.03), ("overkill_rate", "reject", 0.05)]:
        record = comparison[kind]
        rows = both[both["is_defect"] == (kind == "escape_rate")]
        difference = (rows["decision"] == wrong).mean() - (rows["decision_champion"] == wrong).mean()
        assert record["difference"] == pytest.approx(difference)
        assert record["margin"] == margin
        assert record["upper_bound"] >= record["difference"]
        assert record["passed"] == (record["upper_bound"] <= margin)
        assert record["reason"]
    assert comparison["passed"] == all(comparison[kind]["passed"] for kind in ("escape_rate", "overkill_rate"))


def test_a_challenger_that_passes_becomes_champion(challenged):
    place, _ = challenged
    generous = {"promote.escape_margin": 0.99, "promote.overkill_margin": 0.99}
    again = place.run("run", {**SECOND, **generous})
    assert set(list(again.actions.values())[:-1]) == {"reused"}
    decision = _decision(place, again)
    assert [gate["passed"] for gate in decision["gates"]] == [True] * 4
    assert (decision["version"], decision["alias"], decision["promoted"]) == ("2", "champion", True)
    aliases = place.client().get_registered_model("smoke").aliases
    assert {alias: str(version) for alias, version in aliases.items()} == {"champion": "2"}
    assert len(place.client().search_model_versions("name = 'smoke'")) == 2
