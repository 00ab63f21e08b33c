"""What is refused before anything starts: computing power that is not there, and backbones that cannot be had."""

from types import SimpleNamespace

import pytest
import torch

from components.errors import InputError
from pipeline import commands
from pipeline.compute import resources
from pipeline.config import Config
from pipeline.loading import load


def preflight(config: Config, *running: str, reused: tuple[str, ...] = ()) -> None:
    plan = [SimpleNamespace(stage=SimpleNamespace(name=name), action="run") for name in running]
    plan += [SimpleNamespace(stage=SimpleNamespace(name=name), action="reused") for name in reused]
    commands.preflight(config, plan)  # type: ignore[arg-type]


def smoke(**overrides) -> Config:
    return load("smoke", {key.replace("__", "."): value for key, value in overrides.items()})


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.mark.parametrize("stage", ["lr_range_test", "compare_lr", "search", "train"])
def test_computing_power_that_is_not_there_is_refused_where_something_is_trained(stage) -> None:
    for overrides in ({"compute__device": "cuda"}, {"compute__num_threads": "1", "compute__concurrent_trials": "2"}):
        config = smoke(**overrides)
        with pytest.raises(InputError, match=r"^compute\."):
            preflight(config, stage)
        preflight(config, "prepare", reused=(stage,))


def test_a_cluster_that_does_not_answer_is_refused_where_it_is_used(monkeypatch) -> None:
    def refuse(address):
        raise InputError(f"compute.ray_address={address}: no")

    monkeypatch.setattr(resources, "_ask_cluster", refuse)
    config = smoke(compute__ray_address="auto")
    for stage in ("prepare", "lr_range_test", "train"):
        with pytest.raises(InputError, match=r"compute\.ray_address=auto: no"):
            preflight(config, stage)
    preflight(config, "promote", reused=("prepare", "train"))


def test_every_backbone_in_question_is_looked_for() -> None:
    known = "[test_efficientnet, test_resnet]"
    preflight(smoke(lr_range_test__backbones=known), "lr_range_test")
    with pytest.raises(InputError, match=r"model\.backbone='test_resnut' is not one of .* did you mean"):
        preflight(smoke(lr_range_test__backbones="[test_efficientnet, test_resnut]"), "lr_range_test")
    with pytest.raises(InputError, match=r"model\.weights='package': no package carries weights for 'test_resnet'"):
        preflight(
            smoke(
                lr_range_test__backbones="[tf_efficientnet_lite0, test_resnet]",
                model__backbone="tf_efficientnet_lite0",
                model__weights="package",
            ),
            "lr_range_test",
        )
    with pytest.raises(InputError, match=r"model\.backbone='test_vit' takes images of 160 px only"):
        preflight(smoke(lr_range_test__backbones="[test_efficientnet, test_vit]"), "lr_range_test")


def test_one_file_holds_the_weights_of_one_backbone(tmp_path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"")
    weights = f"file:{tmp_path}/w.safetensors"
    preflight(smoke(model__weights=weights), "lr_range_test")
    config = smoke(model__weights=weights, lr_range_test__backbones="[test_efficientnet, test_resnet]")
    with pytest.raises(InputError, match=r"holds the weights of one backbone, and test_efficientnet, test_resnet are"):
        preflight(config, "lr_range_test")
