"""The whole search on a Ray cluster of three nodes on this machine, one of which is killed in mid-trial.

Nothing stops trials early, so that their scores do not depend on the order in which they end.
"""

import json
from pathlib import Path

import pandas as pd
import pytest

pytestmark = pytest.mark.integration

SEARCH = {
    "search.num_trials": 4,
    "search.max_epochs": 10,
    "search.grace_epochs": 2,
    "search.scheduler": "none",
    "search.sampler": "random",
    "compute.concurrent_trials": 2,
}


def scores(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(folder / "scores.parquet")
    return table.drop(columns="seconds").sort_values(["trial", "epoch"], ignore_index=True)


def events(place) -> list[dict]:
    found = list(place.storage.glob("search/*/unfinished/journal.jsonl"))
    lines = found[0].read_text().splitlines() if found else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def test_a_node_that_is_killed_in_mid_trial_costs_nothing_but_time(copy_finished_to, nodes, tmp_path, waiting, ending):
    alone, place = (copy_finished_to(tmp_path / name, "search", "confirm", "train") for name in ("alone", "cluster"))
    undisturbed = alone.run("search", SEARCH | {"compute.concurrent_trials": 1})

    on_cluster = SEARCH | {"compute.ray_address": nodes.address}
    # Workers fetch the data even though they see the folder: they need no shared file system for it.
    process = place.start(*place.pipeline("search", on_cluster), ESCAPEMENT_SHIP_DATA="always")

    def killed_in_the_midst() -> bool:
        saved = {event["trial"] for event in events(place) if event["event"] == "saved"}
        ended = {event["trial"] for event in events(place) if event["event"] == "ended"}
        return bool(saved - ended) and nodes.kill_one_at("ray::_Inner")

    waiting(lambda: process.poll() is not None or killed_in_the_midst())
    assert process.poll() is None, process.communicate()[1][-4000:]
    done = ending(process)
    assert done.code == 0, done.stderr[-4000:]

    table = pd.read_parquet(place.result(done, "search") / "trials.parquet")
    assert table["status"].tolist() == ["completed"] * 4
    expected = scores(alone.result(undisturbed, "search"))
    pd.testing.assert_frame_equal(scores(place.result(done, "search")), expected)
    best = [
        json.loads((where.result(ended, "search") / "best.json").read_text())["overrides"]
        for where, ended in ((alone, undisturbed), (place, done))
    ]
    assert best[0] == best[1]
    assert place.running() == []
    place.end_leftovers()
