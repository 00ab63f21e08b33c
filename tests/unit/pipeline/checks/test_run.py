"""What is refused before anything starts: by a run, by its dry run and by `doctor` from one list, and all at once."""

import shutil

import pytest
import torch

from components.errors import InputError
from pipeline import commands
from pipeline.checks import run as checks
from pipeline.compute import resources
from pipeline.config import Config
from pipeline.console import Console
from pipeline.loading import load


def preflight(config: Config, *running: str) -> None:
    for check in checks.CHECKS:
        if check.stages & set(running):
            check.find(config, set(running))


def smoke(**overrides) -> Config:
    return load("smoke", {key.replace("__", "."): value for key, value in overrides.items()})


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.parametrize("stage", ["lr_range_test", "compare_lr", "search", "train"])
def test_computing_power_that_is_not_there_is_refused_where_something_is_trained(stage) -> None:
    for overrides in ({"compute__device": "cuda"}, {"compute__num_threads": "1", "compute__concurrent_trials": "2"}):
        config = smoke(**overrides)
        with pytest.raises(InputError, match=r"^compute\."):
            preflight(config, stage)
        preflight(config, "prepare")


def test_a_gpu_without_bfloat16_is_said_before_the_run_or_refused(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert checks._compute(smoke(compute__device="auto", recipe__precision="auto"), {"evaluate"}) == (
        "cuda, float32",
        "recipe.precision=auto: this GPU has no bfloat16 units, so trainings compute in float32",
    )
    assert len(checks._compute(smoke(compute__device="auto", recipe__precision="float32"), {"evaluate"})) == 1
    with pytest.raises(InputError, match=r"recipe\.precision=bfloat16"):
        checks._compute(smoke(compute__device="auto", recipe__precision="bfloat16"), {"train"})


def test_a_precision_that_timed_steps_will_decide_on_is_said_to_be_open(monkeypatch) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": True})
    open_yet = smoke(compute__device="cpu", recipe__precision="auto")
    assert checks._compute(open_yet, {"evaluate"}) == ("cpu, float32, or bfloat16 if it trains faster",)
    assert checks._compute(smoke(compute__device="cpu"), {"evaluate"}) == ("cpu, float32",)
    for budget, expected in (("179s", "cpu, float32"), ("3min", "cpu, float32, or bfloat16 if it trains faster")):
        short = smoke(compute__device="cpu", recipe__precision="auto", budget=budget)
        assert checks._compute(short, {"evaluate"}) == (expected,)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True})
    assert checks._compute(open_yet, {"evaluate"}) == ("cpu, float32",)


def test_a_cluster_that_does_not_answer_is_refused_where_it_is_used(monkeypatch) -> None:
    def refuse(address):
        raise InputError(f"compute.ray_address={address}: no")

    monkeypatch.setattr(resources, "_ask_cluster", refuse)
    config = smoke(compute__ray_address="auto")
    for stage in ("prepare", "lr_range_test", "train"):
        with pytest.raises(InputError, match=r"compute\.ray_address=auto: no"):
            preflight(config, stage)
    preflight(config, "promote")


def test_every_backbone_in_question_is_looked_for() -> None:
    known = "[test_efficientnet, test_resnet]"
    preflight(smoke(embed__backbones=known), "lr_range_test")
    with pytest.raises(InputError, match=r"model\.backbone='test_resnut' is not one of .* did you mean"):
        preflight(smoke(embed__backbones="[test_efficientnet, test_resnut]"), "lr_range_test")
    with pytest.raises(InputError, match=r"model\.weights='package': no package carries weights for 'test_resnet'"):
        preflight(
            smoke(
                embed__backbones="[tf_efficientnet_lite0, test_resnet]",
                model__backbone="tf_efficientnet_lite0",
                model__weights="package",
            ),
            "lr_range_test",
        )
    with pytest.raises(
        InputError, match=r"data\.image_size=48: model\.backbone='test_vit' takes images of 160 px only"
    ):
        preflight(smoke(embed__backbones="[test_efficientnet, test_vit]"), "lr_range_test")


def test_one_file_holds_the_weights_of_one_backbone(tmp_path) -> None:
    config = smoke(model__weights=f"file:{tmp_path}/w.safetensors", embed__backbones="[test_efficientnet, test_resnet]")
    with pytest.raises(InputError, match=r"holds the weights of one backbone, and test_efficientnet, test_resnet are"):
        preflight(config, "lr_range_test")


def test_a_rate_that_the_backbone_does_not_have_is_refused_also_where_it_is_searched() -> None:
    space = "[{sets: model.drop_path_rate, low: 0.0, high: 0.3}]"
    with pytest.raises(InputError, match=r"model\.drop_path_rate=0\.3 is not supported by backbone 'vgg11'"):
        preflight(smoke(model__backbone="vgg11", search__space=space), "train")


def test_a_storage_that_can_be_written_is_made_and_left_empty(tmp_path) -> None:
    checks.check_storage(smoke(storage__root=str(tmp_path / "storage")))
    assert list((tmp_path / "storage").iterdir()) == []


def test_a_storage_that_is_a_file_is_refused(tmp_path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(InputError, match=r"storage\.root=.*taken.*cannot be written"):
        checks.check_storage(smoke(storage__root=str(tmp_path / "taken")))


@pytest.mark.parametrize(("free", "refused"), [(99_000_000, True), (1_500_000_000, False)])
def test_a_full_disk_is_refused_and_a_nearly_full_one_is_said(monkeypatch, tmp_path, free: int, refused: bool) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, free))  # type: ignore[attr-defined]
    if refused:
        with pytest.raises(InputError, match="only 99 MB free"):
            checks.check_storage(smoke())
    else:
        assert checks.check_storage(smoke())[1:] == (f"storage.root={tmp_path / 'storage'}: only 1.5 GB free",)


FAULTY = {"model.weights": "file:lost.safetensors", "data.source": "folder:lost", "compute.concurrent_trials": "9999"}


def test_run_and_dry_run_refuse_the_same_and_all_of_it_at_once() -> None:
    said = []
    for command in (
        lambda: commands.run("smoke", FAULTY, until="promote", force=[], as_json=False, starting=lambda run: None),
        lambda: commands.show_plan("smoke", FAULTY, until="promote", force=[], as_json=False),
    ):
        with pytest.raises(InputError) as caught:
            command()
        said.append(str(caught.value).splitlines())
    assert said[0] == said[1]
    assert [line.partition("=")[0] for line in said[0]] == [
        "data.source", "compute.concurrent_trials", "model.weights",
    ]  # fmt: skip


def test_a_fault_is_said_once_that_the_plan_and_a_check_find() -> None:
    with pytest.raises(InputError) as caught:
        checks.checked_plan(
            smoke(**{"model__weights": "file:lost.safetensors"}), until="train", force=[], console=Console(quiet=True)
        )
    assert str(caught.value) == (
        "model.weights='file:lost.safetensors': there is no such file; give the path of an existing one"
    )


def test_doctor_makes_every_check_of_a_run_and_starts_what_can_be_started(monkeypatch) -> None:
    started = []
    made = checks.Check(name="one", stages=checks.ALL, find=lambda config, running: ("found", "note"))
    begun = checks.Check(
        name="two",
        stages=frozenset({"search"}),
        find=lambda config, running: ("looked",),
        start=lambda config: started.append("two") or "began",  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr(checks, "CHECKS", (made, begun))
    found = {check.name: check for check in checks.run_checks("smoke", {"data.source": "folder:lost"})}
    assert (found["one"].detail, found["two"].detail) == ("found; note", "looked; began")
    assert started == ["two"]
    assert not found["data"].ok
    assert list(found) == ["configuration", "packages", "processor", "storage", "data", "one", "two"]


def test_a_store_that_is_not_there_yet_is_not_made_by_a_check(tmp_path) -> None:
    preflight(smoke(), "prepare")
    assert list(tmp_path.iterdir()) == []


def test_a_latency_on_more_threads_than_there_are_cores_cannot_be_measured(monkeypatch) -> None:
    monkeypatch.setattr(checks, "cpu_count", lambda: 4)
    (said,) = checks._serving(smoke(serving__num_threads=4, serving__max_latency_ms=60_000), {"deliver"})
    assert said == "at most 60000 ms, measured on 4 CPU threads"
    assert checks._serving(smoke(compute__num_threads=2), {"deliver"}) == (
        "no latency limit, measured on 2 CPU threads",
    )
    with pytest.raises(InputError, match=r"serving\.num_threads=5: this process may use 4 cores.*use at most 4"):
        preflight(smoke(serving__num_threads=5), "deliver")
    preflight(smoke(serving__num_threads=5), "train")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert checks._serving(smoke(serving__num_threads=5), {"deliver"}) == ("no latency limit, measured on the GPU",)
