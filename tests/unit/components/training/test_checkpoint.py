"""A checkpoint is either whole or not there, and is read without running code."""

import os
import pickle

import pytest
import torch

from components.training import checkpoint
from components.training.checkpoint import load_checkpoint, save_checkpoint

CPU = torch.device("cpu")
STATE = {"weights": {"a": torch.arange(3.0)}, "epoch": 2, "history": [{"loss": 0.5, "metrics": {"val": None}}]}


def test_tensors_and_plain_values_come_back(tmp_path) -> None:
    save_checkpoint(tmp_path / "last.pt", STATE)
    loaded = load_checkpoint(tmp_path / "last.pt", device=CPU)
    assert torch.equal(loaded["weights"]["a"], STATE["weights"]["a"])
    assert (loaded["epoch"], loaded["history"]) == (STATE["epoch"], STATE["history"])
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


def test_an_interruption_while_writing_leaves_the_earlier_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "last.pt"
    save_checkpoint(path, STATE)

    def half(state, target) -> None:
        target.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint.torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(path, {"epoch": 3})
    assert load_checkpoint(path, device=CPU)["epoch"] == 2


class Harm:
    def __reduce__(self):
        return os.mkdir, ("harm-was-done",)


def test_a_file_that_would_run_code_is_refused(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"x": Harm()}, tmp_path / "bad.pt")
    with pytest.raises(pickle.UnpicklingError):
        load_checkpoint(tmp_path / "bad.pt", device=CPU)
    assert not (tmp_path / "harm-was-done").exists()
