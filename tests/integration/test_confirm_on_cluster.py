"""A confirmation on a Ray cluster that shares no folder with its driver, and loses a node on the way."""

import json

import pytest

pytestmark = pytest.mark.integration

SETTINGS = {"train.epochs": 10, "train.patience": 10}


def test_a_node_that_is_killed_costs_a_confirmation_nothing_but_time(
    copy_finished_to, nodes, tmp_path, waiting, ending
) -> None:
    gone = ("confirm", "train", "evaluate", "promote")
    alone, place = (copy_finished_to(tmp_path / name, *gone) for name in ("alone", "cluster"))
    alone.let_a_trial_win()
    place.let_a_trial_win()
    expected = confirmation(alone, alone.run("confirm", SETTINGS))
    assert len(expected["trainings"]) >= 4, expected["statement"]

    on_cluster = SETTINGS | {"compute.ray_address": nodes.address, "compute.concurrent_trials": 2}
    # Workers fetch the data even though they see the folder: they need no shared file system for it.
    process = place.start(*place.pipeline("confirm", on_cluster), ESCAPEMENT_SHIP_DATA="always")
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
    assert place.running() == []
    place.end_leftovers()


def test_a_training_alone_is_a_task_of_the_cluster(copy_finished_to, nodes, tmp_path) -> None:
    """With the weights of one in process."""
    settings = {"train.epochs": 3, "search.confirm": "never"}
    alone, place = (copy_finished_to(tmp_path / name, "train", "evaluate", "promote") for name in ("alone", "cluster"))
    here = alone.run("train", settings)
    there = place.run("train", settings | {"compute.ray_address": nodes.address})
    weights = "model/artifacts/bundle/weights.safetensors"
    assert (alone.result(here, "train") / weights).read_bytes() == (place.result(there, "train") / weights).read_bytes()


def confirmation(place, done) -> dict:
    return json.loads((place.result(done, "confirm") / "confirmation.json").read_text())
