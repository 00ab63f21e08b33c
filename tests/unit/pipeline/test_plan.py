"""What is reused, what runs, and what is said about it, before anything starts."""

import dataclasses

import pytest

from components.errors import InputError
from pipeline import provenance, runner
from pipeline.provenance import Maker, package_versions
from pipeline.stage import read_record


def actions(plan: dict) -> list[str]:
    return [item.action for item in plan.values()]


def interrupt(context) -> None:
    (context.work / "half").write_text("done")
    (context.directory / "leftover.txt").write_text("old")
    raise KeyboardInterrupt


def test_without_results_everything_runs_in_order(plan) -> None:
    planned = plan()
    assert list(planned) == ["first", "second", "third"]
    assert actions(planned) == ["run", "run", "run"]
    assert planned["first"].reason == "no result yet"
    assert planned["third"].reason == "first runs"


def test_a_plan_writes_nothing(plan, storage) -> None:
    plan()
    assert not storage.exists()


def test_only_what_is_upstream_is_planned(plan) -> None:
    assert list(plan(until="second")) == ["first", "second"]
    assert list(plan(until="first")) == ["first"]


@pytest.mark.parametrize("call", [{"until": "fourth"}, {"force": ["fourth"]}])
def test_an_unknown_stage_lists_the_known(plan, call) -> None:
    with pytest.raises(InputError, match="stage=fourth: unknown; the stages are first, second, third"):
        plan(**call)


def test_a_result_that_stands_is_reused(plan, execute) -> None:
    execute()
    planned = plan()
    assert actions(planned) == ["reused"] * 3
    assert {item.reason for item in planned.values()} == {"unchanged"}


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({"train.epochs": "9"}, ["reused", "reused", "run"]),
        ({"recipe.batch_size": "8"}, ["reused", "run", "run"]),
        ({"seed": "1"}, ["run", "run", "run"]),
        ({"data.image_size": "32"}, ["run", "run", "run"]),
        ({"compute.num_threads": "1"}, ["reused"] * 3),
        ({"tracking.experiment": "other"}, ["reused"] * 3),
        ({"evaluate.gallery_size": "3"}, ["reused"] * 3),
    ],
)
def test_a_change_reruns_only_what_depends_on_it(plan, execute, overrides, expected) -> None:
    execute()
    assert actions(plan(overrides)) == expected


def test_a_change_of_the_source_reruns_everything(plan, execute, toys) -> None:
    execute()
    toys.source = "other pixels"
    assert actions(plan()) == ["run"] * 3


def test_the_source_is_asked_with_the_storage_and_the_declared_sections(plan, toys, storage) -> None:
    asked = []
    first = dataclasses.replace(
        toys.stages[0], external=lambda where, console, **given: asked.append((where, set(given))) or "x"
    )
    plan(stages=(first,), until="first")
    assert asked == [(storage, {"seed", "data"})]


def test_an_earlier_result_is_found_again_when_a_change_is_taken_back(plan, execute) -> None:
    execute()
    execute({"train.epochs": "9"})
    assert actions(plan()) == ["reused"] * 3
    assert actions(plan({"train.epochs": "9"})) == ["reused"] * 3


def test_forcing_a_stage_runs_it_and_all_below_it(plan, execute) -> None:
    execute()
    planned = plan(force=["second"])
    assert actions(planned) == ["reused", "run", "run"]
    assert planned["second"].reason == "forced"
    assert planned["third"].reason == "second runs"


def test_forcing_the_last_stage_leaves_the_others_alone(plan, execute) -> None:
    execute()
    assert actions(plan(force=["third"])) == ["reused", "reused", "run"]


def test_what_was_made_from_an_earlier_result_is_void_after_a_forced_run(plan, execute) -> None:
    execute()
    execute(force=["second"], until="second")
    planned = plan()
    assert actions(planned) == ["reused", "reused", "run"]
    assert planned["third"].reason == "second was made anew since"


def test_a_forced_run_that_is_interrupted_half_way_still_voids_what_is_below(plan, execute, toys) -> None:
    execute()
    toys.during["third"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute(force=["first"])
    assert actions(plan()) == ["reused", "reused", "run"]
    assert not plan()["third"].directory.exists()  # nothing half-written stays
    execute()
    assert actions(plan()) == ["reused"] * 3


def test_a_result_with_a_missing_file_is_made_anew(plan, execute) -> None:
    execute()
    (plan()["second"].directory / "out.txt").unlink()
    planned = plan()
    assert actions(planned) == ["reused", "run", "run"]
    assert planned["second"].reason == "its file out.txt is missing or changed"


def test_a_stage_that_acts_outside_is_never_reused(plan, execute, toys) -> None:
    stages = (*toys.stages[:2], dataclasses.replace(toys.stages[2], cached=False))
    execute(stages=stages)
    planned = plan(stages=stages)
    assert actions(planned) == ["reused", "reused", "run"]
    assert planned["third"].reason == "acts on the registry, so it is done each time"
    execute(stages=stages)
    assert toys.ran.count("third") == 2


def test_unfinished_work_is_continued_where_the_stage_can_and_made_anew_elsewhere(plan, execute, toys) -> None:
    toys.during["second"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute()
    planned = plan()
    assert planned["second"].action == "continued"
    assert planned["second"].reason == "resumes where it was interrupted"
    stages = (toys.stages[0], dataclasses.replace(toys.stages[1], resumes=False), toys.stages[2])
    planned = plan(stages=stages)
    assert (planned["second"].action, planned["second"].reason) == ("run", "was interrupted")


def test_forcing_unfinished_work_starts_it_over(plan, execute, toys) -> None:
    toys.during["second"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute()
    assert plan(force=["second"])["second"].action == "run"


def test_unfinished_work_on_an_earlier_result_is_not_gone_on_with(plan, execute, toys) -> None:
    toys.during["second"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute()
    execute(force=["first"], until="first")
    planned = plan()
    assert (planned["second"].action, planned["second"].reason) == ("run", "first was made anew since")


@pytest.mark.parametrize("text", [None, "", "{"])
def test_work_that_was_killed_as_it_began_is_started_over(plan, execute, toys, text) -> None:
    toys.during["second"] = interrupt
    with pytest.raises(KeyboardInterrupt):
        execute()
    begun = plan()["second"].directory / "unfinished" / "inputs.json"
    begun.unlink() if text is None else begun.write_text(text)
    assert (plan()["second"].action, plan()["second"].reason) == ("run", "was interrupted")


def test_a_commit_that_cannot_be_read_is_no_result(plan, execute) -> None:
    execute()
    (plan()["third"].directory / "stage.json").write_text("{")
    assert actions(plan()) == ["reused", "reused", "run"]


def test_a_commit_of_another_fingerprint_is_no_result(plan, execute) -> None:
    execute()
    record = read_record(plan()["third"].directory)
    dataclasses.replace(record, fingerprint="0" * 64).write()
    assert plan()["third"].reason == "stage.json holds another fingerprint"


# --- what changed, in words


def test_the_changed_key_is_named_with_both_values(plan, execute) -> None:
    execute()
    assert plan({"train.epochs": "9"})["third"].reason == "train.epochs 6 → 9"


def test_more_than_three_changed_keys_are_counted(plan, execute) -> None:
    execute()
    changed = {
        "recipe.batch_size": "8",
        "recipe.lr": "0.1",
        "recipe.layer_decay": "0.9",
        "recipe.weight_decay": "0",
        "recipe.label_smoothing": "0.1",
    }
    reason = plan(changed)["second"].reason
    assert reason.startswith("recipe.batch_size 16 → 8, recipe.label_smoothing 0.0 → 0.1, recipe.layer_decay")
    assert reason.endswith(" and 2 others")


def test_a_new_version_of_a_stage_is_named(plan, execute, toys) -> None:
    execute()
    stages = (*toys.stages[:2], dataclasses.replace(toys.stages[2], version=2))
    assert plan(stages=stages)["third"].reason == "the stage itself changed (version 1 → 2)"


def test_a_changed_source_is_named_as_such(plan, execute, toys) -> None:
    execute()
    toys.source = "other pixels"
    assert plan()["first"].reason == "its inputs changed"


def test_a_result_of_another_commit_or_other_versions_stands_and_says_so(plan, execute, monkeypatch) -> None:
    before = Maker("abc1234567", {**package_versions(), "torch": "2.13", "numpy": "1.0"})
    monkeypatch.setattr(runner, "current_commit", lambda: before.commit)
    monkeypatch.setattr(runner, "package_versions", lambda: before.versions)
    execute(until="first")
    monkeypatch.setattr(provenance, "current_commit", lambda: "def5678901")
    monkeypatch.setattr(provenance, "package_versions", lambda: {**before.versions, "torch": "2.14", "numpy": "2.0"})
    first, second = plan()["first"], plan()["second"]
    assert (first.action, first.reason) == ("reused", "unchanged; made by commit abc1234, torch 2.13 → 2.14")
    assert second.made_by == ""
    assert [stage.made_by for stage in execute(until="first").stages] == ["commit abc1234, torch 2.13 → 2.14"]


@pytest.mark.parametrize(
    ("commit", "now", "expected"),
    [
        ("a" * 40, "a" * 40, ""),
        ("a" * 40 + "+dirty", "a" * 40, "commit aaaaaaa+dirty"),
        ("unknown", "a" * 40, ""),
        ("a" * 40, "unknown", ""),
    ],
)
def test_a_commit_that_nobody_knows_is_no_difference(commit: str, now: str, expected: str) -> None:
    assert Maker(commit, {}).unlike(Maker(now, {"torch": "2.14"})) == expected
