"""The folds of a confirmation and of a model on a Ray cluster that shares no folder with its driver.

It loses one of its two nodes on the way.
"""

import json

import pytest

pytestmark = pytest.mark.integration

SETTINGS = {"train.epochs": 6}
WEIGHTS = "model/artifacts/bundle/weights.safetensors"


def test_a_node_that_is_killed_in_mid_training_of_a_fold_costs_nothing_but_time(
    copy_finished_to, nodes, tmp_path, waiting, ending
) -> None:
    gone = ("confirm", "train", "deliver", "evaluate", "promote")
    alone, place = (copy_finished_to(tmp_path / name, *gone) for name in ("alone", "cluster"))
    alone.let_a_trial_win()
    place.let_a_trial_win()
    here = alone.run("deliver", SETTINGS)
    expected = confirmation(alone, here)
    assert len(expected["trainings"]) >= 4, expected["statement"]

    on_cluster = SETTINGS | {"compute.ray_address": nodes.address, "compute.concurrent_trials": 2}
    # Workers fetch the data even though they see the folder: they need no shared file system for it.
    process = place.start(*place.pipeline("deliver", on_cluster), ESCAPEMENT_SHIP_DATA="always")
    waiting(lambda: list(place.storage.glob("confirm/*/unfinished/*/state.pt")) or process.poll() is not None)
    assert process.poll() is None, process.communicate()[1][-4000:]
    waiting(lambda: nodes.kill_one_at("ray::train_on_worker") or process.poll() is not None)
    done = ending(process)
    assert done.code == 0, done.stderr[-4000:]
    assert "its worker was lost" in done.stderr

    found = confirmation(place, done)
    timeless = ("chosen", "statement", "difference", "expected", "scores")
    assert {key: found[key] for key in timeless} == {key: expected[key] for key in timeless}
    assert found["kept"].keys() == expected["kept"].keys() != set()
    # The fold that is left to the stage train has gone to the cluster, too.
    mine, theirs = (where.result(ended, "deliver") for where, ended in ((place, done), (alone, here)))
    for file in (WEIGHTS, "calibration_predictions.parquet"):
        assert (mine / file).read_bytes() == (theirs / file).read_bytes(), file
    assert place.running() == []
    place.end_leftovers()


def confirmation(place, done) -> dict:
    return json.loads((place.result(done, "confirm") / "confirmation.json").read_text())
