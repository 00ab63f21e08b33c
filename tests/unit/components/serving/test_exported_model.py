"""The MLflow model as its receiver has it: without this project, and behind the scoring server."""

import base64
import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import ModelSignature
from mlflow.pyfunc.scoring_server import infer_and_parse_data

from components.serving.bundle import load_bundle
from components.serving.export import ARTIFACT, MODEL_CONFIG, PYFUNC_FILE, pip_requirements, signature_fields

WITHOUT_THE_PROJECT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("components", "pipeline"):
            raise AssertionError(f"the exported model imports {name}")

sys.meta_path.insert(0, Refuse())
import mlflow, pandas
model = mlflow.pyfunc.load_model(sys.argv[1], model_config={"allow_paths": True, "device": "cpu"})
model.predict(pandas.DataFrame({"image": sys.argv[3:]})).to_json(sys.argv[2], orient="records")
assert not {"components", "pipeline"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def model_directory(exported, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("mlflow") / "model"
    mlflow.pyfunc.save_model(
        str(path),
        python_model=str(PYFUNC_FILE),
        artifacts={ARTIFACT: str(exported.bundle)},
        model_config=MODEL_CONFIG,
        signature=ModelSignature.from_dict(signature_fields(exported.card)),
        pip_requirements=pip_requirements(),
    )
    return path


@pytest.fixture(scope="module")
def in_process(model_directory, images) -> pd.DataFrame:
    model = mlflow.pyfunc.load_model(str(model_directory), model_config={"device": "cpu"})
    return model.predict(pd.DataFrame({"image": images}))


def test_the_export_pickles_nothing_and_holds_a_whole_bundle(model_directory, exported):
    suffixes = {path.suffix for path in model_directory.rglob("*") if path.is_file()}
    assert not suffixes & {".pkl", ".pickle", ".pt", ".pth", ".bin"}
    assert load_bundle(model_directory)[0] == exported.card


def test_bytes_and_base64_in_one_frame_are_answered_alike(model_directory, images, in_process):
    model = mlflow.pyfunc.load_model(str(model_directory), model_config={"device": "cpu"})
    mixed = [image if k % 2 else base64.b64encode(image).decode() for k, image in enumerate(images)]
    assert model.predict(pd.DataFrame({"image": mixed})).equals(in_process)
    assert in_process["error"].tolist() == [None] * len(images)


def test_mlflow_hands_every_container_over_one_row_an_image(model_directory, images, in_process):
    model = mlflow.pyfunc.load_model(str(model_directory), model_config={"device": "cpu"})
    texts = [base64.b64encode(image).decode() for image in images]
    as_objects = np.empty(len(images), dtype=object)
    as_objects[:] = images
    containers = [
        images, texts, tuple(texts), pd.Series(images), pd.Series(texts, name="image"), as_objects, np.array(texts),
        as_objects[:, None], {"image": images}, {"image": texts}, {"image": as_objects}, pd.DataFrame({"file": images}),
        pd.DataFrame({"camera": "a", "image": texts}), [{"image": text} for text in texts],
    ]  # fmt: skip
    for container in containers:
        assert model.predict(container).equals(in_process)
    for one in (images[0], texts[0], {"image": texts[0]}, {"image": images[0]}):
        assert model.predict(one)["label"].tolist() == in_process["label"].tolist()[:1]
    assert len(model.predict([])) == len(model.predict({"image": []})) == 0


@pytest.mark.parametrize("wrong", [None, 3, [1, 2], np.arange(2), [[b"x"]], [None]])
def test_what_is_no_image_is_reviewed_with_a_reason(model_directory, wrong):
    out = mlflow.pyfunc.load_model(str(model_directory), model_config={"device": "cpu"}).predict(wrong)
    assert set(out["decision"]) == {"review"}
    assert out["error"].str.contains("give image bytes or base64 text").all()


@pytest.mark.parametrize("wrong", [np.zeros((2, 4)), pd.DataFrame({"a": ["x"], "b": ["y"]}), {"picture": ["x"]}])
def test_a_container_without_one_image_a_row_is_refused(model_directory, wrong):
    with pytest.raises(ValueError, match="is needed"):
        mlflow.pyfunc.load_model(str(model_directory), model_config={"device": "cpu"}).predict(wrong)


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": ["camera", "image"], "data": [["a", "%"], ["a", None]]}},
        {"dataframe_split": {"data": [["%"], [None]]}},
        {"dataframe_records": [{"image": "%"}, {"image": None}]},
        {"instances": [{"image": "%"}, {"image": None}]},
        {"instances": ["%", None]},
        {"inputs": {"image": ["%", None]}},
        {"inputs": ["%", None]},
        {"inputs": [{"image": "%"}, {"image": None}]},
    ],
)
def test_each_form_of_a_request_is_read_row_by_row(model_directory, body):
    model = mlflow.pyfunc.load_model(str(model_directory), model_config={"device": "cpu"})
    out = model.predict(infer_and_parse_data(body, model.metadata.get_input_schema()))
    assert ["'%' is not base64" in out["error"][0], "no image is given" in out["error"][1], len(out)] == [True, True, 2]


def test_paths_are_refused_unless_the_loader_allows_them(model_directory, images, in_process, tmp_path):
    path = tmp_path / "one.png"
    path.write_bytes(images[0])
    frame = pd.DataFrame({"image": [str(path)]})
    closed = mlflow.pyfunc.load_model(str(model_directory))
    assert closed.predict(frame)["decision"].tolist() == ["review"]
    opened = mlflow.pyfunc.load_model(str(model_directory), model_config={"allow_paths": True, "device": "cpu"})
    assert opened.predict(frame)["defect_score"].tolist() == pytest.approx(in_process["defect_score"][:1].tolist())


@pytest.mark.slow
def test_the_model_answers_where_this_project_is_not_there(model_directory, images, in_process, tmp_path):
    paths = [tmp_path / f"{k}.png" for k in range(len(images))]
    for path, image in zip(paths, images, strict=True):
        path.write_bytes(image)
    answers = tmp_path / "answers.json"
    command = [sys.executable, "-I", "-c", WITHOUT_THE_PROJECT, model_directory, answers, *paths]
    done = subprocess.run(list(map(str, command)), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = pd.DataFrame(json.loads(answers.read_text()))
    assert rows["decision"].tolist() == in_process["decision"].tolist()
    assert rows["defect_score"].tolist() == pytest.approx(in_process["defect_score"].tolist(), rel=1e-4)


@pytest.fixture(scope="module")
def server(model_directory, tmp_path_factory, unused_port, until_served):
    """The address of a scoring server on the exported model; ended, with its children, at the end."""
    folder = tmp_path_factory.mktemp("server")
    port = unused_port()
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model_directory)]
    command += ["--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdout=log,
            stderr=log,
            env={**os.environ, "PATH": path},
            start_new_session=True,
        )
        try:
            address = f"http://127.0.0.1:{port}"
            until_served(f"{address}/ping", process)
            yield address
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(timeout=300)


def post(address: str, body: dict) -> list[dict]:
    """The predictions; the answer has to be JSON in the strict sense, without NaN."""
    request = urllib.request.Request(
        f"{address}/invocations", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.loads(response.read(), parse_constant=lambda name: pytest.fail(f"{name} in the answer"))[
            "predictions"
        ]


@pytest.mark.slow
@pytest.mark.integration
def test_the_server_answers_base64_in_every_request_format_as_in_process(server, images, in_process):
    texts = [base64.b64encode(image).decode() for image in images]
    bodies = [
        {"dataframe_split": {"columns": ["image"], "data": [[text] for text in texts]}},
        {"dataframe_records": [{"image": text} for text in texts]},
        {"dataframe_records": [{"image": f"data:image/png;base64,{text}"} for text in texts]},
        {"instances": [{"image": text} for text in texts]},
        {"instances": texts},
        {"inputs": {"image": texts}},
        {"inputs": texts},
    ]
    for body in bodies:
        rows = pd.DataFrame(post(server, body))
        assert list(rows.columns) == list(in_process.columns)
        assert rows["label"].tolist() == in_process["label"].tolist()
        assert rows["decision"].tolist() == in_process["decision"].tolist()
        assert rows["defect_score"].tolist() == pytest.approx(in_process["defect_score"].tolist(), rel=1e-4)


@pytest.mark.slow
@pytest.mark.integration
def test_the_server_reads_no_file_for_a_client_and_one_bad_row_does_not_fail_the_others(
    server, images, in_process, tmp_path
):
    path = tmp_path / "secret.png"
    path.write_bytes(images[0])
    items = [base64.b64encode(images[0]).decode(), str(path), "broken", None]
    rows = post(server, {"dataframe_records": [{"image": item} for item in items], "params": {"allow_paths": True}})
    assert rows[0]["defect_score"] == pytest.approx(in_process["defect_score"][0], rel=1e-4)
    for row in rows[1:]:
        assert row["decision"] == "review"
        assert row["error"]
        assert row["label"] is row["defect_score"] is row["p_good"] is None
    assert "a path is read only with" in rows[1]["error"]
