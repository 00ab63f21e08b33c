"""Every command of the documentation runs, shrunk to the smoke configuration; a new one has to be entered here."""

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).parents[2]
PAGES = sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/*.md")])

#: Installation and checks: run by .ci/run in an environment of their own.
RUN_BY_CI = {
    "pip install -e '.[demo]'",
    "pip install -e '.[demo,test]'",
    "pytest",
    'pytest tests/unit -m "not slow"',
    "ruff format --check .",
    "ruff check .",
    "mypy",
}
#: Run by the tests below, in one place, in this order.
RUN_HERE = (
    "mlflow run . --env-manager local --experiment-name solar-cells",
    "escapement init /data/castings",
    "escapement run --config castings.yaml --dry-run",
    "escapement run --config castings.yaml",
    "escapement predict --model models:/castings@champion new_images/",
    "mlflow models serve -m models:/castings@champion --env-manager local",
    "mlflow run . --env-manager local --experiment-name castings -P config=castings.yaml -P train.epochs=50",
    "mlflow run . --env-manager local --experiment-name castings -e search -P config=castings.yaml",
    "escapement embed --config castings.yaml",
    "escapement first-model --config castings.yaml",
    "escapement lr-range-test --config castings.yaml",
    "escapement lr-range-test --config castings.yaml --optimizers sgd,adamw,schedulefree_adamw",
    "escapement compare-lr --config castings.yaml --dry-run",
    "escapement compare-lr --config castings.yaml --entries cosine,adamw,schedule-free-adamw",
    "escapement run --config demo --dry-run",
    "escapement search --config castings.yaml",
    "escapement confirm --config castings.yaml",
    "escapement run --config castings.yaml --set recipe.optimizer=adamw",
    "python docs/configuration.py > docs/configuration.md",
    "python benchmarks/engine.py --json",
    "python benchmarks/precision.py --json",
    "python benchmarks/tracking.py --json",
    "python benchmarks/data.py --json",
    "python benchmarks/lr_range_test.py --json",
    "python benchmarks/monitor.py --json",
    "python benchmarks/operating_point.py --json",
    "python benchmarks/quality.py --json",
    "python benchmarks/search_overhead.py --json",
    "python benchmarks/search_simulation.py --json",
    "python benchmarks/search_peers.py --json",
    "python benchmarks/confirmation.py --json",
)
#: The same as one above with another parameter, or a command's name in running text.
COVERED = {
    "mlflow run",
    "mlflow ui",
    "escapement init",
    "escapement init FOLDER",
    "escapement predict",
    "escapement relocate",
    "escapement clean --config castings.yaml",
    "mlflow models serve",
    "python docs/configuration.py",
    "escapement compare-lr",
    "escapement lr-range-test",
    "escapement compare-lr --config castings.yaml",
    "escapement compare-lr --config demo --set compute.concurrent_trials=2",
    "escapement run --config castings.yaml --set search.num_trials=64",
    "escapement run --config castings.yaml --budget 10min",
    "escapement run --config best.yaml",
    "python benchmarks/search_peers.py --runs 14 --json",
    "python benchmarks/search_peers.py --first 19 --runs 16 --json",
}
#: Run on clusters by tests of their own: test_ray_job.py and test_search_on_cluster.py.
RUN_ON_CLUSTERS = {
    "ray job submit --working-dir . -- python -m pipeline run --config castings.yaml --set compute.ray_address=auto",
    "escapement run --config castings.yaml --set compute.ray_address=10.0.0.5:6379 "
    "--set compute.trial_storage=s3://bucket/trials",
}
#: Words in code style that start like a command and are none.
INLINE = re.compile(r"`((?:escapement|mlflow|python|pip|pytest|ray) [^`]+)`")


def commands_of(page):
    """Commands in the bash blocks and in the running text of a page, without comments."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    lines = [line.partition(" #")[0] for block in blocks for line in block.splitlines()]
    prose = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    inline = [re.sub(r"\s+", " ", found) for found in INLINE.findall(prose)]
    parts = [part.strip() for line in [*lines, *inline] for part in line.split(" && ")]
    return [part for part in parts if part and "…" not in part]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_documented_command_is_run_by_a_test(page):
    unknown = set(commands_of(page)) - RUN_BY_CI - set(RUN_HERE) - COVERED - RUN_ON_CLUSTERS
    assert not unknown


def test_the_extras_that_the_commands_install_exist():
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lists = [found for page in PAGES for found in re.findall(r"\.\[([\w,]+)\]", page.read_text(encoding="utf-8"))]
    named = {name for found in lists for name in found.split(",")}
    assert named <= set(extras)


def test_the_configuration_page_is_what_the_code_says():
    printed = subprocess.run(
        [sys.executable, "docs/configuration.py"], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert printed.stdout == (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")


def test_the_benchmark_of_the_engine_gives_ratios(workplace):
    tiny = shlex.split("--settings 0 --repeats 1")
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "engine.py", *tiny, "--json")
    assert done.code == 0, done.stderr[-2000:]
    (found,) = done.summary["results"]
    assert found.keys() == {"setting", "bare", "bare, fused", "engine", "monitored"}
    assert found["monitored"]["processor"] > 0


def test_the_benchmark_of_the_precision_gives_the_share_of_each_work(workplace):
    tiny = shlex.split("--backbones test_efficientnet --batch-size 2 --repeats 1 --json")
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "precision.py", *tiny)
    assert done.code == 0, done.stderr[-2000:]
    (found,) = done.summary["results"]
    assert found["training"]["share"] > 0
    assert found["inference"].keys() == {"float32", "bfloat16", "share"}


def test_the_benchmark_of_data_gives_ratios(workplace):
    tiny = "--images 8 --size 64 --side 32 --backbone test_efficientnet --batch-size 4 --batches 1 --repeats 1"
    command = [sys.executable, REPOSITORY / "benchmarks" / "data.py", *shlex.split(tiny), "--scale", "--json"]
    done = workplace.execute(*command)
    assert done.code == 0, done.stderr[-2000:]
    found = done.summary
    assert found["pass"]["megapixel"]["ratio_of_rates"]["median"] > 0
    assert found["pass"]["megapixel"]["again_with_1_percent_new"] > 0
    assert found["feeding"]["megapixel"]["images_per_second"].keys() == {"pack", "folder"}
    assert 0 < found["training_step"]["share"]["median"] < 1


def test_the_benchmark_of_the_range_test_gives_regrets(workplace):
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "lr_range_test.py", "--quick", "--json")
    assert done.code == 0, done.stderr[-2000:]
    assert done.summary["learnable"]
    assert done.summary["verdicts"]


def test_the_benchmark_of_the_monitor_gives_shares_with_intervals(workplace):
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "monitor.py", "--quick", "--json")
    assert done.code == 0, done.stderr[-2000:]
    assert done.summary


def test_the_simulation_of_certificates_gives_broken_shares_with_intervals(workplace):
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "operating_point.py", "--runs", "2", "--json")
    assert done.code == 0, done.stderr[-2000:]
    rows = done.summary["settings"]["images independent"]
    assert {row["folds"] for row in rows} == {0, 3, 5}
    assert all(0 <= row["broken"]["low"] <= row["broken"]["high"] <= 1 for row in rows if row["certified"])


def test_the_benchmark_of_quality_measures_a_run_and_the_loop_on_the_same_images(workplace, smoke_options):
    tiny = shlex.split("--sets smoke --seeds 1 --ours demo --loop 32x1 --json")
    source = "--set=data.source=generated:count=160,size=48,defect_rate=0.5,parts=54"
    options = [source, *smoke_options, "--set=search.num_trials=0"]
    options = [option for option in options if option != "--set=search.num_trials=2"]
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "quality.py", *tiny, *options)
    assert done.code == 0, done.stderr[-2000:]
    medians = done.summary["sets"]["smoke"]["medians"]
    assert {"ours, demo", "loop, 32 px, 1 epochs", "loop, 32 px, 1 epochs, 8 views"} <= medians.keys()
    assert all(0 <= row["auroc"] <= 1 and row["seconds"] > 0 and row["latency_ms"] > 0 for row in medians.values())


def test_the_benchmark_of_tracking_gives_ratios(workplace):
    few = shlex.split("--runs 100 --repeats 1")
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "tracking.py", *few, "--json")
    assert done.code == 0, done.stderr[-2000:]
    assert done.summary["elsewhere_ratio"] > 0


def test_the_benchmark_of_overhead_gives_both_sides(workplace):
    tiny = shlex.split("--trials 3 --slots 1 --seconds 0.5")
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "search_overhead.py", *tiny, "--json")
    assert done.code == 0, done.stderr[-2000:]
    assert 0 < done.summary["ours"]["overhead"] < 1
    assert done.summary["ray tune alone"]["median_start_seconds"] > 0


def test_the_simulation_of_searches_measures_every_part(workplace):
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "search_simulation.py", "--quick", "--json")
    assert done.code == 0, done.stderr[-2000:]
    assert {"stopping", "bandit", "speed", "verdicts"} <= done.summary.keys()
    assert all(row["epochs"] < row["epochs_without"] for study in done.summary["stopping"] for row in study["compared"])
    assert done.summary["speed"]["large"]["decisions_per_second"] > 0


def test_the_benchmark_against_peers_compares_pairs(workplace):
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "search_peers.py", "--quick", "--json")
    assert done.code == 0, done.stderr[-2000:]
    assert done.summary["mean_unseen_score"].keys() == {"ours", "random", "tpe"}
    assert 0 <= done.summary["against"]["tpe"]["wilcoxon_p"] <= 1


def test_the_benchmark_of_the_confirmation_gives_regrets(workplace):
    done = workplace.execute(sys.executable, REPOSITORY / "benchmarks" / "confirmation.py", "--json")
    assert done.code == 0, done.stderr[-2000:]
    assert {"constants", "sets", "mean", "reported"} <= done.summary.keys()


@pytest.fixture(scope="module")
def castings(tmp_path_factory, open_workplace):
    """A workplace with the README's configuration of class folders, and generated images in them."""
    from pipeline.data.sources import list_images
    from pipeline.sections.data import DataConfig

    place = open_workplace(tmp_path_factory.mktemp("castings"))
    source = DataConfig(source="generated:count=160,size=48,defect_rate=0.5,parts=54")
    listing = list_images(source, place.folder / "generator")
    for name, label in zip(listing.table["path"], listing.table["label"], strict=True):
        target = place.folder / "data" / "castings" / ("ok" if label == "good" else label) / Path(name).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(listing.files.read(name))
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    text = re.search(r"```yaml\n(.*?)```", readme, flags=re.DOTALL).group(1)
    (place.folder / "castings.yaml").write_text(text.replace("folder:/data/", f"folder:{place.folder}/data/"))
    new = place.folder / "new_images"
    new.mkdir()
    for image in sorted((place.folder / "data" / "castings" / "ok").glob("*.png"))[:3]:
        (new / image.name).write_bytes(image.read_bytes())
    return place


@pytest.fixture(scope="module")
def smoke_options():
    """What shrinks a documented run: the smoke configuration's keys but for its project and data source."""
    smoke = yaml.safe_load((REPOSITORY / "pipeline" / "configs" / "smoke.yaml").read_text())
    flat = {
        "data.image_size": 48,
        "data.num_folds": 3,
        "model.backbone": smoke["model"]["backbone"],
        "model.weights": "none",
        "lr_range_test.num_seeds": 1,
        "lr_range_test.steps_per_decade": 5,
        "lr_range_test.bootstrap_samples": 20,
        "evaluate.bootstrap_samples": 100,
        "promote.bootstrap_samples": 100,
        "compute.num_threads": 1,
        "search.num_trials": 2,
        "search.max_epochs": 1,
        "search.confirm_seeds": 1,
        "train.epochs": 1,
        "operating_point.escape_budget": 0.4,
        "promote.gates.min_auroc": 0,
        "promote.gates.max_escape_rate": 1,
        "promote.gates.max_overkill_rate": 1,
    }
    return [f"--set={key}={value}" for key, value in flat.items()]


def test_the_readmes_commands_on_the_users_own_images(castings, smoke_options, unused_port, until_served):
    planned = escapement(castings, "escapement run --config castings.yaml --dry-run", smoke_options)
    assert "no result yet" in planned.stderr
    assert not castings.storage.joinpath("prepare").exists()
    done = escapement(castings, "escapement run --config castings.yaml", [*smoke_options, "--json"])
    assert done.summary["headline"]["alias"] == "champion"
    predicted = escapement(castings, "escapement predict --model models:/castings@champion new_images/", ["--json"])
    assert len(predicted.summary["predictions"]) == 3
    assert_serves(castings, unused_port(), until_served)


def test_a_first_configuration_is_written_and_prepares(castings, smoke_options):
    command = f"escapement init {castings.folder}/data/castings --output first.yaml"
    found = escapement(castings, command, ["--json"]).summary
    assert found["good_labels"] == ["ok"]
    assert "data.group_pattern" in found["settings"]
    kept = [option for option in smoke_options if "data.image_size" not in option]
    prepared = escapement(castings, "escapement prepare --config first.yaml", [*kept, "--json"])
    assert prepared.summary["headline"]["images"] == found["images"]
    assert prepared.summary["headline"]["groups"] <= found["groups"]


def test_the_commands_of_the_page_on_frozen_features(castings, smoke_options):
    embedded = escapement(castings, "escapement embed --config castings.yaml", [*smoke_options, "--json"])
    assert 0 <= embedded.summary["headline"]["frozen_auroc"] <= 1
    first = escapement(castings, "escapement first-model --config castings.yaml", [*smoke_options, "--json"])
    assert (castings.result(first, "first_model") / "model" / "MLmodel").is_file()


def test_the_commands_of_the_learning_rate_page(castings, smoke_options):
    range_test = "escapement lr-range-test --config castings.yaml"
    assert escapement(castings, range_test, [*smoke_options, "--json"]).summary["headline"]["lr_suggested_adamw"] > 0
    several = escapement(
        castings, f"{range_test} --optimizers sgd,adamw,schedulefree_adamw", [*smoke_options, "--json"]
    )
    assert several.summary["headline"]["lr_suggested_schedulefree_adamw"] > 0
    small = ["--set=compare_lr.epochs=1", "--set=compare_lr.num_seeds=1", "--set=compare_lr.rate_factors=[1]"]
    planned = escapement(castings, "escapement compare-lr --config castings.yaml --dry-run", [*smoke_options, *small])
    assert "compare_lr" in planned.stderr
    compare = "escapement compare-lr --config castings.yaml --entries cosine,adamw,schedule-free-adamw"
    compared = escapement(castings, compare, [*smoke_options, *small, "--json"])
    assert compared.summary["headline"]["trainings"] == 3


def test_the_commands_of_the_search_page(castings, smoke_options):
    searched = escapement(castings, "escapement search --config castings.yaml", [*smoke_options, "--json"])
    assert searched.summary["headline"]["trials"] == 2
    best = castings.result(searched, "search") / "best.yaml"
    confirmed = escapement(castings, "escapement confirm --config castings.yaml", [*smoke_options, "--json"])
    assert [stage["name"] for stage in confirmed.summary["stages"]][-1] == "confirm"
    pinned = "escapement run --config castings.yaml --set recipe.optimizer=adamw"
    planned = escapement(castings, pinned, [*smoke_options, "--dry-run", "--json"])
    assert "recipe.optimizer" not in [entry["sets"] for entry in planned.summary["config"]["search"]["space"]]
    of_the_winner = escapement(castings, f"escapement run --config {best}", ["--dry-run", "--json"])
    assert of_the_winner.summary["config"]["search"]["num_trials"] == 0


def test_the_projects_commands_run_under_mlflow(castings, smoke_options):
    parameters = [f"-P{option.removeprefix('--set=')}" for option in smoke_options]
    folder = castings.folder
    place = [f"-Pstorage.root={castings.storage}"]
    for documented in (
        "mlflow run . --env-manager local --experiment-name castings -P config=castings.yaml -P train.epochs=50",
        "mlflow run . --env-manager local --experiment-name castings -e search -P config=castings.yaml",
    ):
        command = documented.replace("run .", f"run {REPOSITORY}").replace(" -P train.epochs=50", "")
        command = command.replace("castings.yaml", str(folder / "castings.yaml"))
        done = castings.execute(
            sys.executable, "-m", *shlex.split(command), *parameters, *place, MLFLOW_TRACKING_URI=castings.tracking_uri
        )
        assert done.code == 0, done.stderr[-3000:]
    assert not castings.running()


def escapement(place, command, options):
    """Run a documented `escapement …` as `python -m pipeline …`."""
    words = shlex.split(command)
    assert words[0] == "escapement"
    done = place.execute(sys.executable, "-m", "pipeline", *words[1:], *options)
    assert done.code == 0, done.stderr[-3000:]
    return done


def assert_serves(place, port, until_served):
    """The documented server starts, and answers; in a process group that is ended afterwards."""
    words = shlex.split("mlflow models serve -m models:/castings@champion --env-manager local")
    server = place.start(sys.executable, "-m", *words, "--port", str(port), MLFLOW_TRACKING_URI=place.tracking_uri)
    try:
        until_served(f"http://127.0.0.1:{port}/ping", server)
    finally:
        place.end_leftovers(patience=0)
        server.communicate()


def test_the_json_summary_is_the_last_line(castings, smoke_options):
    done = escapement(castings, "escapement run --config castings.yaml", [*smoke_options, "--json"])
    assert json.loads(done.stdout.splitlines()[-1])["status"] == "finished"
    assert {stage["action"] for stage in done.summary["stages"] if stage["name"] != "promote"} == {"reused"}
