"""Weights files as people have them: each kind is read, or refused with what it is and what to do."""

import gzip
import os
import struct

import pytest
import timm
import torch
from safetensors.torch import save_file

from components.errors import InputError
from components.models.backbones import build_model
from components.models.weights import check_weights

BACKBONE = "test_efficientnet"


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        name: tensor.contiguous() for name, tensor in timm.create_model(BACKBONE, num_classes=3).state_dict().items()
    }


@pytest.fixture
def file(tmp_path):
    return tmp_path / "w.safetensors"


def check(file) -> str:
    return check_weights(BACKBONE, f"file:{file}")


def loaded(file, *, num_classes: int = 3) -> dict[str, torch.Tensor]:
    built = build_model(
        backbone=BACKBONE, weights=f"file:{file}", num_classes=num_classes, drop_rate=0, drop_path_rate=0, seed=1
    )
    return built.model.state_dict()


def renamed(state, *, prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor.clone() for name, tensor in state.items()}


@pytest.mark.parametrize(
    "prefix", ["module.", "model.", "backbone.", "state_dict.", "student.backbone.", "net.encoder."]
)
def test_the_names_of_a_wrapper_are_taken_off(state, file, prefix: str) -> None:
    save_file(renamed(state, prefix=prefix), file)
    assert f"the prefix {prefix} taken off its names" in check(file)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded(file).items())


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module._orig_mod.", "_orig_mod.module."])
def test_the_names_of_a_compiled_network_are_read(state, file, prefix: str) -> None:
    save_file(renamed(state, prefix=prefix), file)
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded(file).items())


def test_what_lies_beside_a_wrapped_network_is_left_out_and_counted(state, file) -> None:
    save_file(renamed(state, prefix="model.") | {"loss.weight": torch.ones(2)}, file)
    assert "1 tensors without that prefix left out" in check(file)


def test_two_networks_in_one_file_are_refused(state, file) -> None:
    save_file(renamed(state, prefix="student.") | renamed(state, prefix="teacher."), file)
    with pytest.raises(
        InputError, match=r"holds 2 networks of this kind \(student\., teacher\.\); keep the tensors of one"
    ):
        check(file)


def test_one_input_channel_is_spread_over_three_so_that_grey_images_give_the_same(state, file) -> None:
    grey = state | {"conv_stem.weight": state["conv_stem.weight"].sum(dim=1, keepdim=True)}
    save_file(grey, file)
    assert "its one input channel spread over three" in check(file)
    own = loaded(file)["conv_stem.weight"]
    assert own.shape[1] == 3
    torch.testing.assert_close(own.sum(dim=1, keepdim=True), grey["conv_stem.weight"])
    assert torch.equal(own[:, 0], own[:, 2])


def test_another_number_of_input_channels_is_refused_with_both_shapes(state, file) -> None:
    save_file(state | {"conv_stem.weight": torch.ones(24, 4, 3, 3)}, file)
    with pytest.raises(InputError, match=r"conv_stem\.weight, 24×4×3×3 where the backbone has 24×3×3×3"):
        check(file)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_are_read_as_float32(state, file, dtype) -> None:
    changed = {name: tensor.to(dtype) if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    save_file(changed, file)
    assert "read as float32" in check(file)
    own = loaded(file)
    assert own["conv_stem.weight"].dtype == torch.float32
    assert torch.equal(own["conv_stem.weight"], changed["conv_stem.weight"].float())


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn])
def test_quantised_weights_are_refused(state, file, dtype) -> None:
    save_file(state | {"conv_stem.weight": state["conv_stem.weight"].to(dtype)}, file)
    with pytest.raises(InputError, match=r"conv_stem\.weight is (I8|F8_E4M3), which is quantised; give the weights in"):
        check(file)


def test_values_that_are_not_finite_are_refused_by_the_name_of_their_tensor(state, file) -> None:
    bad = state["bn1.running_var"].clone()
    bad[:2] = torch.inf
    save_file(state | {"bn1.running_var": bad}, file)
    with pytest.raises(InputError, match=r"2 of 24 values of bn1\.running_var are not finite"):
        check(file)


def test_a_file_without_a_classifier_or_the_counters_of_its_norms_fills_the_rest(state, file) -> None:
    body = {name: tensor for name, tensor in state.items() if "classifier" not in name and "num_batches" not in name}
    save_file(body, file)
    check(file)
    own = loaded(file, num_classes=2)
    assert all(torch.equal(own[name], tensor) for name, tensor in body.items())


def test_another_architecture_is_told_by_how_much_fits(file) -> None:
    save_file(timm.create_model("test_resnet", num_classes=3).state_dict(), file)
    with pytest.raises(
        InputError, match=r"do not fit the backbone test_efficientnet: of 88, \d are there; \d+ missing"
    ):
        check(file)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 1234567\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"is empty \(0 bytes\); fetch it again"),
        (bytes(64), r"is empty \(64 bytes\)"),
        (LFS, "is a Git LFS pointer, not the weights; run `git lfs pull`"),
        (b"/annex/objects/SHA256E-s10--ab", "is a git-annex pointer"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "is a web page, not the weights; download the file itself"),
        (b"\xef\xbb\xbf \n<html>", "is a web page"),
        (b'{"error": "gated"}', r"is not a safetensors file but text \(.*gated.*\); download"),
        (b"PK\x03\x04rest", r"a zip archive, as torch\.save writes it .*convert it where you trust it"),
        (b"\x80\x02}q\x00.", "is a pickle, which can run code"),
        (gzip.compress(b"x" * 99, mtime=0), r"is compressed \(gzip\); unpack it"),
        (struct.pack("<Q", 999) + b'{"a":', r"is not a complete safetensors file \(.*\); fetch it again"),
        (b"\x05\x00\x00", "is not a complete safetensors file"),
        (b"\xff" * 40, "is not a complete safetensors file"),
    ],
)
def test_what_is_no_weights_file_is_told_by_its_first_bytes(file, content: bytes, said: str) -> None:
    file.write_bytes(content)
    with pytest.raises(InputError, match=rf"^model\.weights='file:.*w\.safetensors'.*{said}"):
        check(file)


def test_a_file_that_is_cut_off_within_its_tensors_is_refused(state, file) -> None:
    save_file(state, file)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"is not a complete safetensors file \(.*incomplete.*\); fetch it again"):
        check(file)


def test_a_folder_is_refused_with_the_files_in_it(tmp_path, file) -> None:
    file.write_bytes(b"")
    with pytest.raises(InputError, match=r"is a folder; name the file in it: w\.safetensors"):
        check(tmp_path)


def test_a_file_that_may_not_be_read_is_refused(monkeypatch, file) -> None:
    file.write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(InputError, match="may not be read"):
        check(file)


def test_a_home_that_there_is_not_is_refused() -> None:
    with pytest.raises(InputError, match="there is no such home folder"):
        check("~no-such-user/w.safetensors")
