"""What a user can get wrong ends at once, with one message: the key, its value, and what to do."""

import shutil
import sys
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.integration


@dataclass(frozen=True)
class Case:
    """A wrong input, and what the message has to say. `{here}` stands for the working directory."""

    name: str
    says: list[str]
    settings: dict[str, str] = field(default_factory=dict)
    command: str = "prepare"
    config: str = "smoke"
    options: list[str] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


PARTS = {"data.source": "folder:{here}/parts"}
CASES = [
    Case(
        "no such folder",
        ["data.source='folder:nowhere'", "the one that the images lie in"],
        {"data.source": "folder:nowhere"},
    ),
    Case(
        "an unknown kind of source",
        ["data.source='s3:bucket'", "folder:/path", "csv:/path.csv"],
        {"data.source": "s3:bucket"},
    ),
    Case(
        "one class only",
        ["data.source", "only the class good", "add images"],
        {"data.source": "folder:{here}/alike"},
    ),
    Case(
        "a class with fewer groups than splits",
        ["class crack has 2 groups", "4 splits", "merge the class"],
        {"data.source": "folder:{here}/scarce", "data.design": "hold_out"},
    ),
    Case(
        "a class with fewer groups than folds",
        ["data.design=cross_fit", "cannot be cut into two folds", "crack (1 group)", "add images of other parts"],
        {"data.source": "folder:{here}/scarce"},
    ),
    Case(
        "a monitor that rolls back on images that certify",
        ["monitor.action=rollback", "certify the model", "set data.design to hold_out"],
        {**PARTS, "monitor.action": "rollback"},
        command="train",
    ),
    Case(
        "views that training does not show",
        ["serving.views=8", "recipe.augment=horizontal_flip allows 1, 2 only", "quarter_turns"],
        {**PARTS, "serving.views": "8", "recipe.augment": "[horizontal_flip]"},
        command="train",
    ),
    Case(
        "no image decodes",
        ["data.source", "none of 8 images", "decoded", "crack/0.png", "point data.source"],
        {"data.source": "folder:{here}/torn"},
    ),
    Case(
        "too many quarantined",
        ["data.max_quarantined_fraction=0.01", "1 of 17 files", "broken.png", "raise the fraction"],
        {"data.source": "folder:{here}/partly"},
    ),
    Case(
        "a good label that is no class",
        ["data.good_labels=['fine']", "'fine'", "the classes are: crack, good"],
        {**PARTS, "data.good_labels": "[fine]"},
    ),
    Case(
        "good labels that leave no defect",
        ["data.good_labels=['crack', 'good']", "every class", "leave the defect classes out"],
        {**PARTS, "data.good_labels": "[crack, good]"},
    ),
    Case("an unknown key", ["data.imagesize", "did you mean image_size?"], {"data.imagesize": "48"}),
    Case("an unknown section", ["training", "unknown key", "train?"], {"training.epochs": "3"}),
    Case("a wrong type", ["train.epochs=many", "integer"], {"train.epochs": "many"}),
    Case("a value out of range", ["recipe.batch_size=1", "give at least 2, or auto"], {"recipe.batch_size": "1"}),
    Case(
        "several faults at once",
        ["train.epochs=many", "seed=-1", "data.imagesize", "recipe.optimizer=adamz", "sum to 1"],
        {
            "train.epochs": "many",
            "seed": "-1",
            "data.imagesize": "3",
            "recipe.optimizer": "adamz",
            "data.splits.test": "0.9",
        },
    ),
    Case(
        "a schedule for a schedule-free optimizer",
        ["optimizer=schedulefree_adamw takes no schedule", "use fixed or auto"],
        {"recipe.optimizer": "schedulefree_adamw", "recipe.schedule": "cosine"},
        command="run",
    ),
    Case(
        "a ramp that runs downwards",
        ["lr_range_test.ramp", "the lowest rate, then the highest"],
        {"lr_range_test.ramp": "[1, 0.00001]"},
        command="lr-range-test",
    ),
    Case(
        "an unknown method to compare",
        ["compare_lr.entries", "cosinus is unknown", "one-cycle"],
        command="compare-lr",
        options=["--entries", "cosinus"],
    ),
    Case(
        "an unknown optimizer to test",
        ["lr_range_test.optimizers", "adamq", "adamw"],
        command="lr-range-test",
        options=["--optimizers", "adamq"],
    ),
    Case(
        "weights that the hub would have, offline",
        ["model.weights='pretrained'", "resnet18", "check the network", "file:"],
        {**PARTS, "model.weights": "pretrained", "model.backbone": "resnet18"},
        command="lr-range-test",
        environment={"HF_HUB_OFFLINE": "1", "HF_HOME": "{here}/empty"},
    ),
    Case(
        "weights in a file that is not there",
        ["model.weights='file:lost.safetensors'", "no such file", "existing one"],
        {**PARTS, "model.weights": "file:lost.safetensors"},
        command="lr-range-test",
    ),
    Case(
        "an unknown backbone",
        ["model.backbone", "resnet19", "resnet18"],
        {**PARTS, "model.backbone": "resnet19"},
        command="lr-range-test",
    ),
    Case(
        "storage that cannot be written",
        ["storage.root={here}/a_file/storage", "cannot be written", "a folder that you may write"],
        {"storage.root": "{here}/a_file/storage"},
    ),
    Case(
        "storage on an object store",
        ["storage.root=s3://bucket/results", "not supported", "give a folder"],
        {"storage.root": "s3://bucket/results"},
    ),
    Case(
        "a tracking server that is not there",
        ["tracking.uri=http://127.0.0.1:9", "cannot be used", "start the server"],
        {**PARTS, "tracking.uri": "http://127.0.0.1:9"},
    ),
    Case(
        "a space through zero and a space upside down",
        ["search.space.0", "low=0 must be above 0 on a log scale", "search.space.1", "low=1 must be below high=0"],
        {
            "search.space": "[{sets: recipe.weight_decay, low: 0, high: 0.1, log: true}, "
            "{sets: recipe.augment_strength, low: 1, high: 0}]"
        },
        command="search",
    ),
    Case(
        "a space without a dimension",
        ["search.space: empty", "add a dimension or set search.num_trials=1"],
        {"search.space": "[]"},
        command="search",
    ),
    Case(
        "a rung beyond the last epoch",
        ["grace_epochs=9 must not exceed max_epochs=3"],
        {"search.grace_epochs": "9"},
        command="search",
    ),
    Case(
        "more trials at a time than there are cores",
        ["compute.concurrent_trials=9999", "ask for at most that"],
        {**PARTS, "compute.concurrent_trials": "9999"},
        command="search",
    ),
    Case(
        "more GPUs than there are",
        ["compute.gpus_per_trial=64", "ask for at most that, or 0"],
        {**PARTS, "compute.gpus_per_trial": "64"},
        command="search",
    ),
    Case(
        "a cluster that is not there",
        ["compute.ray_address=127.0.0.1:9", "cannot be reached", "null to run on this machine"],
        {**PARTS, "compute.ray_address": "127.0.0.1:9"},
        command="search",
    ),
    Case(
        "fewer trials than the folds take",
        ["search.num_trials=4 is too few", "5 folds of the last level", "to 22 at least"],
        {**PARTS, "search.sampler": "grid", "search.folds": "5", "data.num_folds": "5"},
        command="search",
    ),
    Case(
        "checkpoints that cannot be written",
        ["compute.trial_storage={here}/a_file/trials", "cannot be written", "object store"],
        {**PARTS, "compute.trial_storage": "{here}/a_file/trials"},
        command="search",
    ),
    Case(
        "an unknown stage to force",
        ["trian", "unknown", "the stages are", "train"],
        PARTS,
        options=["--force", "trian"],
    ),
    Case("an unknown configuration", ["config=smok", "no such file", "demo"], config="smok"),
    Case("a configuration that is no YAML", ["config=", "broken.yaml", "not valid YAML"], config="{here}/broken.yaml"),
    Case("a configuration that is a list", ["config=", "list.yaml", "list"], config="{here}/list.yaml"),
]


def _images(folder, label, count, seed=0):
    (folder / label).mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng([seed, len(label)])
    for number in range(count):
        pixels = generator.integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / label / f"{number}.png")


@pytest.fixture(scope="module")
def empty_store(tmp_path_factory):
    """An MLflow store without a run: making its tables takes seconds."""
    from mlflow import MlflowClient

    file = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{file}").search_experiments()
    return file


@pytest.fixture
def place(workplace, empty_store):
    """An empty workplace with a store."""
    shutil.copy2(empty_store, workplace.folder / "mlflow.db")
    return workplace


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """Faulty data sets, configurations and places."""
    folder = tmp_path_factory.mktemp("faulty")
    for name, crack in {"parts": 8, "alike": 0, "scarce": 2, "partly": 8}.items():
        _images(folder / name, "good", 8)
        _images(folder / name, "crack", crack)
    (folder / "alike" / "crack").rmdir()
    (folder / "partly" / "crack" / "broken.png").write_bytes(b"no image")
    for label in ("good", "crack"):
        (folder / "torn" / label).mkdir(parents=True)
        for number in range(4):
            (folder / "torn" / label / f"{number}.png").write_bytes(f"no image {label} {number}".encode())
    (folder / "a_file").write_text("", encoding="utf-8")
    (folder / "broken.yaml").write_text("train: {epochs: 3\ndata: [", encoding="utf-8")
    (folder / "list.yaml").write_text("- train\n- data\n", encoding="utf-8")
    return folder


def _refused(done, place):
    """The message, once it is sure that there is one and that nothing was left behind."""
    assert done.code == 2, done.stderr
    assert "Traceback" not in done.stderr
    message = "\n".join(line for line in done.stderr.splitlines() if line.startswith("error: "))
    assert message
    assert done.stderr.rstrip().endswith(message)  # the last thing said
    assert not list(place.folder.rglob("stage.json"))
    assert place.running() == []
    return message


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_it_is_refused_with_key_value_and_remedy(case, place, here):
    def fill(text):
        return text.replace("{here}", str(here))

    done = place.execute(
        *(sys.executable, "-m", "pipeline", case.command, "--config", fill(case.config)),
        *(f"--set={key}={fill(value)}" for key, value in case.settings.items()),
        *(*case.options, "--json"),
        **{key: fill(value) for key, value in case.environment.items()},
    )
    message = _refused(done, place)
    for part in case.says:
        assert fill(part) in message
    assert done.summary["status"] == "failed"
    assert done.summary["error"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "--set", "train.epochs"], ["--set train.epochs", "key=value"]),
        (["run", "--train.epochs"], ["--train.epochs", "--set key=value"]),
        (["run", "fast"], ["fast", "--set key=value"]),
        (["predict", "nowhere", "--model", "models:/smoke@champion"], ["images=nowhere", "no such file or folder"]),
    ],
)
def test_a_command_line_that_makes_no_sense_is_refused(arguments, says, place):
    message = _refused(place.execute(sys.executable, "-m", "pipeline", *arguments), place)
    for part in says:
        assert part in message


def test_a_run_that_fails_in_a_stage_is_marked_failed(place, here):
    done = place.execute(
        *(sys.executable, "-m", "pipeline", "prepare", "--config", "smoke"),
        f"--set=data.source=folder:{here}/torn",
    )
    _refused(done, place)
    ended = sorted((run.data.tags["escapement.stage"], run.info.status) for run in place.runs())
    assert ended == [("pipeline", "FAILED"), ("prepare", "FAILED")]
