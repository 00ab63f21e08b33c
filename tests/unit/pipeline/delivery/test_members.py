"""Which trainings are taken over, which are made, and what is left where one fails."""

import contextlib
from types import SimpleNamespace

import pytest

from components.errors import InputError
from pipeline.delivery import members
from pipeline.delivery.members import train_members, train_one
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training.job import TrainingSpec

SPEC = TrainingSpec(recipe=Recipe(model=ModelConfig(), recipe=RecipeConfig(lr=0.1, batch_size=32)), seed=3, epochs=2)
SPECS = {f"fold-{fold}": SPEC for fold in range(3)}


@pytest.fixture
def context(tmp_path) -> SimpleNamespace:
    said: list[str] = []
    return SimpleNamespace(
        directory=tmp_path / "train",
        inputs={"confirm": SimpleNamespace(directory=tmp_path)},
        run=SimpleNamespace(id="own"),
        tracker=None,
        ends_at=None,
        console=SimpleNamespace(say=said.append),
        said=said,
    )


HERE = SimpleNamespace(share=None)


@pytest.fixture
def trained(monkeypatch) -> SimpleNamespace:
    """Trainings that end at once: `failure` of those in `failing`; the names in `made`; the stores that a failure has
    thrown away in `discarded`.
    """
    seen = SimpleNamespace(made=[], discarded=[], failing=set(), places=0)

    def open_store(folder, writer=None) -> SimpleNamespace:
        name = folder.name
        return SimpleNamespace(
            ended=SimpleNamespace(failure="recipe.lr=0.1: diverged" if name in seen.failing else None),
            discard=lambda: seen.discarded.append(name),
            progress=SimpleNamespace(history=[]),
        )

    def open_job(runs, label, spec, folder, *, stage) -> SimpleNamespace:
        assert stage == "member"
        return SimpleNamespace(name=label, store=open_store(folder), run_id=f"run-{label}")

    def placement(context, *, trainings):
        seen.places = trainings
        return contextlib.nullcontext(HERE)

    def train_shown(context, title, jobs, place, *, trainings, epochs) -> None:
        assert (place, trainings, epochs) == (HERE, seen.places, 2)
        seen.made += [job.name for job in jobs]

    monkeypatch.setattr(members, "TrainingStore", open_store)
    monkeypatch.setattr(members, "range_test_says", lambda context, recipe: " (at most 0.5)")
    monkeypatch.setattr(members, "ChildRuns", lambda *args: None)
    monkeypatch.setattr(members, "open_job", open_job)
    monkeypatch.setattr(members, "placement_of_trainings", placement)
    monkeypatch.setattr(members, "train_shown", train_shown)
    monkeypatch.setattr(members, "run_training", lambda context, spec, store, *, known: seen.made.append(known))
    return seen


def test_what_the_confirmation_has_trained_is_taken_over_and_the_rest_is_trained(context, trained, folder) -> None:
    folder("kept/fold-1")
    folder("kept/fold-2")
    found = train_members(context, SPECS, {"fold-2": "c"}, stage="deliver")
    assert [one.name for one in found] == ["fold-0", "fold-1", "fold-2"]
    assert trained.made == ["fold-0", "fold-1"]
    assert [one.run_id for one in found] == ["run-fold-0", "run-fold-1", "c"]
    assert [one.trained_in for one in found] == ["deliver", "deliver", "confirm"]
    assert (context.directory / "members/fold-2/ended.pt").read_text() == "kept/fold-2"
    assert not (context.directory / "members/fold-1").exists()
    (line,) = context.said
    assert line.startswith("  fold-2: takes over the training of the stage confirm (run c)")


def test_where_all_were_trained_no_place_is_asked_for(context, trained, folder) -> None:
    for name in SPECS:
        folder(f"kept/{name}")
    assert len(train_members(context, SPECS, dict.fromkeys(SPECS, "c"), stage="train")) == 3
    assert (trained.made, trained.places) == ([], 0)


def test_one_that_fails_is_an_error_with_what_the_range_test_knows_and_starts_again(context, trained) -> None:
    trained.failing = {"fold-1"}
    with pytest.raises(InputError, match=r"^fold-1: recipe\.lr=0\.1: diverged \(at most 0\.5\)$"):
        train_members(context, SPECS, {}, stage="train")
    assert trained.made == ["fold-0", "fold-1", "fold-2"]
    assert trained.discarded == ["fold-1"]


def ends(monkeypatch, ends_at: float | None, *, at_once: int, pace: float) -> dict[str, float | None]:
    """When each of four trainings has to end, if each takes `pace` seconds from second 100 on."""
    clock = [100.0]
    monkeypatch.setattr(members.time, "time", lambda: clock[0])
    context = SimpleNamespace(ends_at=ends_at, console=SimpleNamespace(warn=lambda text: None))
    found = {}
    for name, spec in members.in_time(context, {f"fold-{n}": SPEC for n in range(4)}, at_once=at_once):
        found[name] = spec.ends_at
        if at_once == 1:
            clock[0] += pace
    return found


def test_each_training_has_its_share_of_the_time_that_is_left(monkeypatch) -> None:
    one_by_one = ends(monkeypatch, 180.0, at_once=1, pace=20.0)
    assert list(one_by_one.values()) == [120, 140, 160, 180]
    fast = ends(monkeypatch, 180.0, at_once=1, pace=8.0)  # leaves the others more
    assert list(fast.values()) == [120, 132, 148, 180]
    assert list(ends(monkeypatch, 180.0, at_once=2, pace=0.0).values()) == [140, 140, 180, 180]
    assert list(ends(monkeypatch, 180.0, at_once=8, pace=0.0).values()) == [180] * 4
    assert list(ends(monkeypatch, None, at_once=1, pace=5.0).values()) == [None] * 4


def test_when_the_time_is_over_no_further_training_begins_but_the_first_does(monkeypatch) -> None:
    assert list(ends(monkeypatch, 180.0, at_once=1, pace=50.0)) == ["fold-0", "fold-1"]
    assert list(ends(monkeypatch, 90.0, at_once=1, pace=50.0)) == ["fold-0"]


def test_a_single_network_has_the_run_of_its_stage_or_of_the_confirmation(context, trained, folder) -> None:
    own = train_one(context, "whole", SPEC, {})
    assert (own.run_id, own.trained_in) == ("own", "train")
    assert trained.made == [" (at most 0.5)"]
    folder("kept/whole")
    kept = train_one(context, "whole", SPEC, {"whole": "c"})
    assert (kept.run_id, kept.trained_in) == ("c", "confirm")
    assert (context.directory / "members/whole/ended.pt").is_file()
