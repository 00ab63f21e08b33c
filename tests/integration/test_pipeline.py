"""The whole pipeline: what a run leaves behind, what the next one reuses, and that it can be repeated."""

import json
import math
import re

import pandas as pd
import pytest

pytestmark = pytest.mark.integration

STAGES = [
    "prepare",
    "embed",
    "first_model",
    "lr_range_test",
    "search",
    "confirm",
    "train",
    "deliver",
    "evaluate",
    "promote",
]
FILES = {
    "prepare": ["manifest.parquet", "pack/pack.json", "data_report.json", "data_report.html", "quarantine.csv"],
    "embed": [
        "embedding.json",
        "frozen_logits.npy",
        "frozen.safetensors",
        "doubtful.csv",
        "outliers.csv",
        "embed.html",
    ],
    "first_model": ["model/MLmodel", "operating_point.json"],
    "lr_range_test": ["curves.parquet", "lr_bounds.json"],
    "search": ["trials.parquet", "best.json"],
    "confirm": ["confirmation.json"],
    "train": [
        "members/fold-0/ended.pt",
        "history.parquet",
        "steps.parquet",
        "monitor.json",
        "training.json",
    ],
    "deliver": [
        "model/MLmodel",
        "model/artifacts/bundle/weights.safetensors",
        "model/artifacts/bundle/model.json",
        "model/artifacts/bundle/decode.py",
        "calibration_predictions.parquet",
        "operating_point.json",
        "delivery.json",
    ],
    "evaluate": ["test_predictions.parquet", "metrics.json", "report.html"],
    "promote": ["decision.json"],
}
FIGURES = {
    "prepare": {"samples.png", "splits.png"},
    "lr_range_test": {"range_test_adamw.png", "range_test_sgd.png"},
    "search": {"search.png"},
    "train": {f"learning_curves_fold-{fold}.png" for fold in range(3)},
    "evaluate": {"roc.png", "defect_scores.png", "confusion.png", "escapes.png", "overkills.png"},
}


def _members(place, done):
    """The trainings of the stage train."""
    return json.loads((place.result(done, "train") / "training.json").read_text(encoding="utf-8"))["members"]


def test_the_last_line_of_standard_output_sums_the_run_up(finished):
    place, done = finished
    summary = done.summary
    assert summary["status"] == "finished"
    assert summary["error"] is None
    assert summary["tracking_uri"] == place.tracking_uri
    assert re.fullmatch(r"[0-9a-f]{32}", summary["parent_run_id"])
    assert [stage["name"] for stage in summary["stages"]] == STAGES
    for stage in summary["stages"]:
        assert stage["action"] == "run"
        assert stage["reason"]
        assert re.fullmatch(r"[0-9a-f]{64}", stage["fingerprint"])
        assert re.fullmatch(r"[0-9a-f]{32}", stage["run_id"])
        assert 0 < stage["seconds"] <= summary["seconds"]
        assert stage["headline"]
    headline = summary["headline"]
    assert (headline["model_name"], headline["model_version"], headline["alias"]) == ("smoke", "1", "champion")
    assert headline["images"] == 160
    for rate in ("auroc", "escape_rate", "overkill_rate", "balanced_accuracy"):
        assert 0 <= headline[rate] <= 1


def test_standard_output_is_left_to_the_summary(finished):
    _, done = finished
    assert len(done.stdout.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_every_stage_commits_its_files_and_keeps_no_scratch(finished):
    place, done = finished
    for stage, names in FILES.items():
        folder = place.result(done, stage)
        record = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
        assert record["run_id"] == done.stage(stage)["run_id"]
        assert set(names) <= set(record["artifacts"])
        assert all((folder / name).stat().st_size == size for name, size in record["artifacts"].items())
        assert not (folder / "unfinished").exists()


def test_the_metrics_are_valid_json_with_the_documented_keys(finished):
    place, done = finished
    text = (place.result(done, "evaluate") / "metrics.json").read_text(encoding="utf-8")

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    metrics = json.loads(text, parse_constant=refuse)
    predictions = pd.read_parquet(place.result(done, "evaluate") / "test_predictions.parquet")
    assert metrics["version"] == 4
    assert metrics["images"] == len(predictions)
    assert metrics["classes"] == ["crack", "good", "pit", "scratch", "stain"]
    assert metrics["good_classes"] == ["good"]
    assert {"auroc", "average_precision"} <= metrics["ranking"].keys()
    assert metrics["operating_points"].keys() == {"escape_budget", "balanced"}
    for point in metrics["operating_points"].values():
        for rate in ("escape_rate", "overkill_rate"):
            assert point[rate]["low"] <= point[rate]["value"] <= point[rate]["high"]
    assert metrics["class_metrics"]["per_class"].keys() == set(metrics["classes"])
    assert metrics["budget"].keys() == {"escape_budget", "confidence", "certified", "statement", "evidence"}
    assert metrics["budget"]["escape_budget"] == 0.2
    assert metrics["budget"]["evidence"]["kind"] == "out_of_fold"


def test_the_escapes_in_the_metrics_are_those_of_the_predictions(finished):
    place, done = finished
    folder = place.result(done, "evaluate")
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    predictions = pd.read_parquet(folder / "test_predictions.parquet")
    defective = predictions[predictions["is_defect"]]
    rate = metrics["operating_points"]["escape_budget"]["escape_rate"]
    assert rate["numerator"] == (defective["decision"] == "accept").sum()
    assert rate["denominator"] == len(defective)


@pytest.mark.parametrize(("stage", "name"), [("prepare", "data_report.html"), ("evaluate", "report.html")])
def test_a_report_loads_nothing_from_elsewhere(finished, stage, name):
    place, done = finished
    html = (place.result(done, stage) / name).read_text(encoding="utf-8")
    assert html.lstrip().lower().startswith("<!doctype html>")
    assert "</html>" in html
    assert not re.findall(r"""(?:src|href|data|action)\s*=\s*["']?\s*(?:https?:)?//[^"'\s>]*""", html)
    assert not re.findall(r"""(?:url\(|@import)\s*["']?\s*(?:https?:)?//""", html)
    assert not re.findall(r"<(?:link|iframe|script[^>]+src)", html)


def test_the_runs_form_one_tree_and_all_are_finished(finished):
    place, done = finished
    runs = {run.info.run_id: run for run in place.runs()}
    parents = {run_id: run.data.tags.get("mlflow.parentRunId") for run_id, run in runs.items()}
    root = done.summary["parent_run_id"]
    stages = [run_id for run_id, parent in parents.items() if parent == root]
    trials = [run_id for run_id, parent in parents.items() if parent == done.stage("search")["run_id"]]
    assert [runs[run_id].info.run_name for run_id in stages] == STAGES
    assert {done.stage(name)["run_id"] for name in STAGES} == set(stages)
    assert len(trials) == 2
    repeated = [run_id for run_id, parent in parents.items() if parent == done.stage("confirm")["run_id"]]
    assert len(repeated) == done.summary["headline"]["confirmation_trainings"]
    members = [run_id for run_id, parent in parents.items() if parent == done.stage("train")["run_id"]]
    assert {one["run_id"] for one in _members(place, done)} <= {*members, *repeated}
    assert runs.keys() == {root, *stages, *trials, *repeated, *members}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    for name in STAGES:
        assert runs[root].data.tags[f"stage.{name}"] == done.stage(name)["run_id"]


def test_the_root_holds_the_resolved_configuration_and_the_summary(finished):
    place, done = finished
    client, root = place.client(), done.summary["parent_run_id"]
    assert {"config.json", "summary.json"} <= {item.path for item in client.list_artifacts(root)}
    from mlflow.artifacts import load_text

    base = client.get_run(root).info.artifact_uri
    config = json.loads(load_text(f"{base}/config.json"))
    assert config["train"]["epochs"] == 2
    assert config["promote"]["model_name"] == "smoke"


def test_the_prepare_run_names_its_data_set(finished):
    place, done = finished
    run = place.client().get_run(done.stage("prepare")["run_id"])
    (used,) = run.inputs.dataset_inputs
    report = json.loads((place.result(done, "prepare") / "data_report.json").read_text(encoding="utf-8"))
    assert report["digest"].startswith(used.dataset.digest)
    assert len(used.dataset.digest) >= 32
    assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "prepare"}


@pytest.mark.parametrize("stage", FIGURES)
def test_the_figures_of_a_stage_are_artifacts_of_its_run(finished, stage):
    place, done = finished
    logged = place.client().list_artifacts(done.stage(stage)["run_id"], "figures")
    assert FIGURES[stage] <= {item.path.removeprefix("figures/") for item in logged}
    assert all(item.file_size > 1000 for item in logged)


def test_each_trial_has_its_metrics_by_epoch(finished):
    place, done = finished
    client = place.client()
    trials = [run for run in place.runs() if "escapement.trial" in run.data.tags]
    table = pd.read_parquet(place.result(done, "search") / "trials.parquet").set_index("trial")
    for run in trials:
        row = table.loc[int(run.data.tags["escapement.trial"])]
        for metric in ("train_loss", "val_loss", "val_score", "lr"):
            history = client.get_metric_history(run.info.run_id, metric)
            assert [point.step for point in history] == list(range(1, row["epochs"] + 1))
            assert all(math.isfinite(point.value) for point in history)
        assert run.data.params["recipe.optimizer"] == row["optimizer"]
        assert float(run.data.params["recipe.lr"]) == pytest.approx(row["lr"])


def test_no_metric_has_two_values_for_one_step(finished):
    place, _ = finished
    client = place.client()
    for run in place.runs():
        for metric in run.data.metrics:
            if not metric.startswith("system/"):
                steps = [point.step for point in client.get_metric_history(run.info.run_id, metric)]
                assert steps == sorted(set(steps)), f"{metric} of {run.info.run_name}"


def test_the_run_of_each_member_has_its_metrics_by_epoch(finished):
    place, done = finished
    client, folder = place.client(), place.result(done, "train")
    table, steps = (pd.read_parquet(folder / name) for name in ("history.parquet", "steps.parquet"))
    members = _members(place, done)
    assert [one["name"] for one in members] == ["fold-0", "fold-1", "fold-2"]
    for one in members:
        own = table[table["member"] == one["name"]]
        history = client.get_metric_history(one["run_id"], "train_loss")
        assert [point.step for point in history] == own["epoch"].tolist() == [1, 2]
        assert [point.value for point in history] == pytest.approx(own["train_loss"].tolist())
        scored = client.get_metric_history(one["run_id"], "val_score")
        assert [point.step for point in scored] == [2]  # only the last epoch, on which nothing is picked
        losses = client.get_metric_history(one["run_id"], "step/loss")
        assert [point.step for point in losses] == steps.loc[steps["member"] == one["name"], "step"].tolist()


def test_each_image_that_is_not_test_is_scored_by_the_network_that_has_not_seen_it(finished):
    place, done = finished
    manifest = pd.read_parquet(place.result(done, "prepare") / "manifest.parquet")
    assert set(manifest["split"]) == {"train", "test"}
    assert set(manifest.loc[manifest["split"] == "train", "fold"]) == {0, 1, 2}
    scored = pd.read_parquet(place.result(done, "deliver") / "calibration_predictions.parquet")
    assert scored["image_id"].tolist() == manifest.loc[manifest["split"] == "train", "image_id"].tolist()
    chosen = json.loads((place.result(done, "deliver") / "operating_point.json").read_text())
    evidence = chosen["operating_point"]["evidence"]
    assert (evidence["kind"], evidence["folds"], evidence["not_certifying"]) == ("out_of_fold", 3, [0])
    card = json.loads((place.result(done, "deliver") / "model/artifacts/bundle/model.json").read_text())
    networks = [member for member in card["members"] if member["kind"] == "network"]
    assert len(networks) == 3
    assert sum(member["weight"] for member in networks) == pytest.approx(3 * networks[0]["weight"])


def test_the_logged_model_is_registered_and_champion(finished):
    place, done = finished
    client = place.client()
    (output,) = client.get_run(done.stage("deliver")["run_id"]).outputs.model_outputs
    version = client.get_model_version_by_alias("smoke", "champion")
    assert str(version.version) == done.summary["headline"]["model_version"] == "1"
    assert version.source == f"models:/{output.model_id}"
    assert version.run_id == done.stage("deliver")["run_id"]
    assert client.get_logged_model(output.model_id).status == "READY"


def test_no_process_outlives_the_run(finished):
    _, done = finished
    assert done.outlived == ()


def test_running_again_reuses_all_but_promote_and_registers_nothing(copy_of_finished, finished):
    place = copy_of_finished()
    again = place.run("run")
    _, first = finished
    assert again.actions == {**dict.fromkeys(STAGES, "reused"), "promote": "run"}
    for name in STAGES[:-1]:
        assert again.stage(name)["run_id"] == first.stage(name)["run_id"]
        assert again.stage(name)["headline"] == first.stage(name)["headline"]
    assert again.summary["parent_run_id"] != first.summary["parent_run_id"]
    client = place.client()
    assert len(client.search_model_versions("name = 'smoke'")) == 1
    assert str(client.get_model_version_by_alias("smoke", "champion").version) == "1"
    root = client.get_run(again.summary["parent_run_id"])
    assert root.data.tags["stage.deliver"] == first.stage("deliver")["run_id"]
    assert place.running() == []


def test_results_that_were_made_under_another_store_are_reused_and_registered(copy_of_finished):
    place = copy_of_finished()
    (place.folder / "mlflow.db").unlink()
    for _ in range(2):
        done = place.run("run")
        assert done.actions == {**dict.fromkeys(STAGES, "reused"), "promote": "run"}
        assert done.summary["headline"]["model_version"] == "1"
        assert done.summary["headline"]["alias"] == "champion"
    client = place.client()
    (version,) = client.search_model_versions("name = 'smoke'")
    assert client.get_logged_model(version.source.removeprefix("models:/")).status == "READY"


def test_the_recipe_that_was_confirmed_is_trained_once(finished):
    place, done = finished
    confirmed = json.loads((place.result(done, "confirm") / "confirmation.json").read_text(encoding="utf-8"))
    training = json.loads((place.result(done, "train") / "training.json").read_text(encoding="utf-8"))
    settings = {
        f"{section}.{key}": value for section, keys in training["recipe"].items() for key, value in keys.items()
    }
    assert confirmed["overrides"].items() <= settings.items()
    assert [one["seed"] for one in training["members"]] == [0, 1, 2]
    kept = {one["name"]: one["run_id"] for one in training["members"] if one["trained_in"] == "confirm"}
    assert kept == confirmed["kept"]
    if confirmed["trainings"]:  # the defaults have not won the search
        assert confirmed["chosen"] == ("winner" if confirmed["expected"] > 0 else "defaults")
        assert kept.keys() == {"fold-1", "fold-2"}  # those on which the search has chosen nothing
        assert done.stderr.count("takes over the training of the stage confirm") == 2


def test_another_budget_or_latency_limit_trains_nothing_again_and_one_that_nothing_meets_is_refused(copy_of_finished):
    place = copy_of_finished()
    refused = place.execute(*place.pipeline("run", {"serving.max_latency_ms": 0.001}))
    assert refused.code == 2, refused.stderr[-4000:]
    (error,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "serving.max_latency_ms=0.001: nothing meets it; the fastest, one test_efficientnet at 48 px, " in error
    assert "Traceback" not in refused.stderr

    changes = {"serving.deliver": "single", "serving.max_latency_ms": 60_000, "operating_point.escape_budget": 0.3}
    done = place.run("run", changes)
    again = ("first_model", "deliver", "evaluate", "promote")
    assert done.actions == {stage: "run" if stage in again else "reused" for stage in STAGES}
    folder = place.result(done, "deliver")
    (whole,) = json.loads((folder / "training.json").read_text())["members"]
    assert (whole["name"], whole["trained_in"]) == ("all", "deliver")
    assert set(pd.read_parquet(folder / "history.parquet")["member"]) == {"all"}
    assert json.loads((folder / "delivery.json").read_text())["networks"] == ["all"]
    point = json.loads((folder / "operating_point.json").read_text())["operating_point"]
    assert (point["evidence"]["kind"], point["evidence"]["folds"]) == ("transferred", 3)
    assert point["transfer"]["units"] > 0
    card = json.loads((folder / "model/artifacts/bundle/model.json").read_text())
    assert [member["kind"] for member in card["members"]].count("network") == 1
    assert done.summary["headline"]["model_version"] == "2"


def test_a_time_for_the_run_is_spent_from_the_first_model_on_and_its_plan_is_kept(copy_of_finished):
    place = copy_of_finished()
    budget = {"budget": "1min", "data.num_folds": 3}  # else five, of images that were prepared anew
    done = place.run("run", budget)
    timed = [*STAGES[:3], "budget", *STAGES[3:]]
    assert done.actions.keys() == set(timed)
    assert done.actions["prepare"] == "reused"
    assert done.actions["embed"] == "run"  # its views are a matter of time, too
    assert [stage for stage in timed if done.actions[stage] == "run"][-4:] == [
        "train",
        "deliver",
        "evaluate",
        "promote",
    ]
    found = json.loads((place.result(done, "budget") / "budget.json").read_text())
    training = json.loads((place.result(done, "train") / "training.json").read_text())
    assert len(training["members"]) == found["networks"] > 0
    assert {one["epochs"] for one in training["members"]} == {found["epochs"]}
    assert "the same without the clock: --set " in done.stderr

    again = place.run("run", budget)
    assert again.actions == {**dict.fromkeys(timed, "reused"), "promote": "run"}
    plain = place.run("train", found["changes"])  # what a clock may have shortened is another result
    assert plain.stage("train")["action"] == "run"


def test_another_number_of_epochs_reruns_training_and_what_follows(copy_of_finished, finished):
    place = copy_of_finished()
    changed = place.run("run", {"train.epochs": 1})
    assert changed.actions == {
        **dict.fromkeys(STAGES[:5], "reused"),
        **dict.fromkeys(STAGES[5:], "run"),
    }
    assert "train.epochs 2 → 1" in changed.stage("confirm")["reason"]
    assert changed.summary["headline"]["model_version"] == "2"
    assert place.result(finished[1], "train").is_dir()  # the earlier result is still there


def test_a_forced_stage_runs_anew_with_what_follows(copy_of_finished, finished):
    place = copy_of_finished()
    forced = place.run("run", {}, "--force", "train")
    assert forced.actions == {
        **dict.fromkeys(STAGES[:6], "reused"),
        **dict.fromkeys(STAGES[6:], "run"),
    }
    _, first = finished
    assert forced.stage("train")["fingerprint"] == first.stage("train")["fingerprint"]
    assert forced.stage("train")["run_id"] != first.stage("train")["run_id"]


def test_a_dry_run_shows_the_plan_and_writes_nothing(finished):
    place, _ = finished

    def everything():
        # But for the digests of files: one that was written just before it was hashed is hashed again. And the storage
        # is tried for whether it can be written.
        tried = (place.storage, place.storage / "files")
        kept = (path for path in place.folder.rglob("*") if path not in tried and path.parent != tried[1])
        return {path: path.stat().st_mtime_ns for path in kept}

    before = everything()
    done = place.run("run", {"train.epochs": 5}, "--dry-run")
    assert everything() == before
    plan = {stage["name"]: stage["action"] for stage in done.summary["stages"]}
    assert plan == {**dict.fromkeys(STAGES[:5], "reused"), **dict.fromkeys(STAGES[5:], "run")}
    assert done.summary["config"]["train"]["epochs"] == 5


def test_a_first_dry_run_makes_neither_results_nor_runs(workplace):
    workplace.run("run", None, "--dry-run")
    # The plan is made from the images' digests, which are kept, and generated images have to be drawn for it.
    assert [path.name for path in workplace.folder.iterdir()] == ["storage"]
    assert {path.name for path in workplace.storage.iterdir()} == {"ESCAPEMENT.TAG", "generated", "files"}
    assert not (workplace.folder / "mlflow.db").exists()


def test_the_same_configuration_and_seed_give_the_same_bytes(workplace, finished):
    again = workplace.run("deliver")
    place, first = finished

    def read(where, done, stage, name):
        return (where.result(done, stage) / name).read_bytes()

    assert again.actions.keys() == {*STAGES[:8]} - {"first_model"}
    for name in again.actions:
        assert again.stage(name)["fingerprint"] == first.stage(name)["fingerprint"]
    reports = [json.loads(read(*run, "prepare", "data_report.json")) for run in ((workplace, again), (place, first))]
    assert reports[0]["digest"] == reports[1]["digest"]
    for stage, name in [
        ("lr_range_test", "lr_bounds.json"),
        ("search", "best.json"),
        ("embed", "frozen_logits.npy"),
        ("embed", "frozen.safetensors"),
        ("deliver", "calibration_predictions.parquet"),
        ("deliver", "operating_point.json"),
        ("deliver", "model/artifacts/bundle/weights.safetensors"),
    ]:
        assert read(workplace, again, stage, name) == read(place, first, stage, name), name
    made = [json.loads(read(*run, "deliver", "delivery.json")) for run in ((workplace, again), (place, first))]
    for values in made:
        del values["model_id"], values["latency_ms"], values["compared_views"]  # the latter two are measured
    assert made[0] == made[1]
    confirmations = [
        json.loads(read(*run, "confirm", "confirmation.json")) for run in ((workplace, again), (place, first))
    ]
    for values in confirmations:
        values["trainings"] = [one | {"run_id": None} for one in values["trainings"]]
        values["kept"] = dict.fromkeys(values["kept"])
    assert confirmations[0] == confirmations[1]
    trials = [
        pd.read_parquet(where.result(done, "search") / "trials.parquet").drop(columns="seconds")
        for where, done in ((workplace, again), (place, first))
    ]
    pd.testing.assert_frame_equal(*trials)
