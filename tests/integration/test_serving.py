"""The registered model, on the line: the same scores and decisions as on the test split, by every way to ask it."""

import base64
import json
import sys
import urllib.request

import pandas as pd
import pytest

pytestmark = pytest.mark.integration

#: Runs where this project cannot be imported, as on the line.
INSPECT = """
import json, sys
sys.modules["components"] = sys.modules["pipeline"] = None
from pathlib import Path
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model("models:/smoke@champion")
images = [Path(line).read_bytes() for line in sys.stdin.read().splitlines()]
table = model.predict(pd.DataFrame({"image": images}))
print(table.to_json(orient="records"))
"""


@pytest.fixture(scope="module")
def expected(finished):
    """The predictions of `evaluate`, with the path of each image file."""
    place, done = finished
    predictions = pd.read_parquet(place.result(done, "evaluate") / "test_predictions.parquet")
    (root,) = (place.storage / "generated").iterdir()
    return predictions.assign(file=[root / path for path in predictions["path"]])


def _check(answers, expected):
    answers = pd.DataFrame(answers)
    assert len(answers) == len(expected)
    assert answers["defect_score"].tolist() == pytest.approx(expected["defect_score"].tolist(), abs=1e-4)
    assert answers["decision"].tolist() == expected["decision"].tolist()
    assert answers["label"].tolist() == expected["predicted"].tolist()
    assert answers["error"].isna().all()


def test_the_loaded_model_agrees_with_the_evaluation_without_this_project(finished, expected, tmp_path):
    place, _ = finished
    script, listing = tmp_path / "inspect_images.py", tmp_path / "files"
    script.write_text(INSPECT, encoding="utf-8")
    listing.write_text("\n".join(map(str, expected["file"])), encoding="utf-8")
    done = place.execute(
        "bash", "-c", f"{sys.executable} {script} < {listing}", MLFLOW_TRACKING_URI=place.tracking_uri, PYTHONPATH=""
    )
    assert done.code == 0, done.stderr[-4000:]
    _check(json.loads(done.stdout.splitlines()[-1]), expected)


def test_the_scoring_server_answers_base64(finished, expected, unused_port, until_served):
    place, _ = finished
    port = unused_port()
    server = place.start(
        *(sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/smoke@champion"),
        *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
        MLFLOW_TRACKING_URI=place.tracking_uri,
        PYTHONPATH="",
    )
    address = f"http://127.0.0.1:{port}"
    try:
        until_served(f"{address}/ping", server)
        images = [[base64.b64encode(file.read_bytes()).decode()] for file in expected["file"]]
        question = json.dumps({"dataframe_split": {"columns": ["image"], "data": [*images, ["no image"]]}})
        request = urllib.request.Request(
            f"{address}/invocations", question.encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answers = json.load(response)["predictions"]
    finally:
        server.kill()
        place.end_leftovers(patience=0)
        server.communicate()
    _check(answers[:-1], expected)
    assert answers[-1]["decision"] == "review"  # a row that is no image does not cost the others their answer
    assert answers[-1]["error"]


def test_the_command_line_inspects_a_folder(finished, expected, tmp_path):
    place, _ = finished
    folder, chosen = tmp_path / "line", expected.sort_values("image_id").head(5)
    folder.mkdir()
    for file in chosen["file"]:
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "zz_torn.png").write_bytes(chosen["file"].iloc[0].read_bytes()[:200])
    (folder / "notes.txt").write_text("no image", encoding="utf-8")
    done = place.execute(
        *(sys.executable, "-m", "pipeline", "predict", "--model", "models:/smoke@champion", folder, "--json"),
        *("--output", tmp_path / "answers.csv"),
    )
    assert done.code == 0, done.stderr[-4000:]
    answers = done.summary["predictions"]
    assert [answer["image"] for answer in answers] == [
        *(str(folder / file.name) for file in chosen["file"]),
        str(folder / "zz_torn.png"),
    ]
    _check(answers[:-1], chosen)
    assert (answers[-1]["decision"], answers[-1]["defect_score"]) == ("review", None)
    assert len(pd.read_csv(tmp_path / "answers.csv")) == 6
