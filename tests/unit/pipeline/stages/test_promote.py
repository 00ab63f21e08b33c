"""The comparison with the champion: the same image files, whatever each model cuts them into."""

import contextlib
from types import SimpleNamespace

import pandas as pd
import pytest

from components.data.files import Files
from components.errors import InputError, ModelError
from components.evaluation.gates import GateResult
from pipeline.config import ComputeConfig, PromoteConfig
from pipeline.sections.data import DataConfig
from pipeline.stages import promote

SETTINGS = PromoteConfig(bootstrap_samples=100)


class Champion:
    """Answers with the text that is in the file."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def predict(self, table: pd.DataFrame) -> pd.DataFrame:
        self.batches.append(len(table))
        return pd.DataFrame({"decision": [data.decode() for data in table["image"]]})


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A source of small files, a champion that reads them, and a stage context."""
    champion, loaded = Champion(), {}

    def load(folder, *, model_config):
        loaded.update(model_config)
        return champion

    monkeypatch.setattr(promote, "load_pyfunc", load)
    card = SimpleNamespace(good_classes=("good",), summary="1 network")
    monkeypatch.setattr(promote, "read_card", lambda folder: card)
    monkeypatch.setattr(promote, "read_seen_images", lambda folder: frozenset({"seen" * 4}))
    root = tmp_path / "images"
    root.mkdir()
    files = Files(str(root))
    monkeypatch.setattr(promote, "list_images", lambda data, storage: SimpleNamespace(files=files))
    context = SimpleNamespace(
        input=lambda stage, name: tmp_path / name,
        storage=tmp_path,
        compute=ComputeConfig(device="cpu"),
        console=SimpleNamespace(bar=lambda *arguments: contextlib.nullcontext(lambda count: None)),
    )
    registry = SimpleNamespace(download=lambda version: tmp_path)

    def compare(rows):
        """rows: (path, group, is_defect, our decision, sha256)."""
        table = pd.DataFrame(rows, columns=["path", "group", "is_defect", "decision", "sha256"])
        table.assign(defect_score=0.5, log_odds=0.0).to_parquet(tmp_path / "test_predictions.parquet")
        return promote._compare(context, registry, "1", seed=0, data=DataConfig(), settings=SETTINGS)

    return SimpleNamespace(
        root=root, files=files, context=context, compare=compare, champion=champion, loaded=loaded, folder=tmp_path
    )


def test_both_models_are_held_against_each_other_file_by_file(place) -> None:
    for name, decision in {"a": "accept", "b": "reject", "c": "review", "d": "accept"}.items():
        (place.root / name).write_text(decision)
    result = place.compare(
        [
            ("a", "ga", True, "accept", "a" * 64),  # two tiles: the second is the one that rejects
            ("a", "ga", False, "reject", "a" * 64),
            ("b", "gb", True, "accept", "b" * 64),
            ("c", "gc", False, "accept", "c" * 64),
            ("d", "gd", False, "accept", "d" * 64),
            ("d", "gd", False, "accept", "d" * 64),
        ]
    )
    assert (result["images"], result["left_out_as_seen_by_champion"]) == (4, 0)
    assert result["champion"] == "1 network"
    escapes, overkill = result["escape_rate"], result["overkill_rate"]
    assert (escapes["images"], escapes["only_challenger_wrong"], escapes["only_champion_wrong"]) == (2, 1, 1)
    # A review holds a good part back as a reject does.
    assert (overkill["images"], overkill["only_challenger_wrong"], overkill["only_champion_wrong"]) == (2, 0, 1)


def test_files_that_the_champion_has_seen_are_left_out_as_files(place) -> None:
    (place.root / "new").write_text("accept")
    result = place.compare(
        [
            ("old", "g", True, "reject", "seen" * 16),
            ("old", "g", False, "accept", "seen" * 16),
            ("new", "h", False, "accept", "f" * 64),
        ]
    )
    assert (result["images"], result["left_out_as_seen_by_champion"]) == (1, 1)


def test_where_the_champion_has_seen_everything_nothing_is_shown(place) -> None:
    result = place.compare([("old", "g", True, "reject", "seen" * 16)])
    assert (result["images"], result["passed"]) == (0, False)


def test_the_champion_gets_bytes_in_batches_and_no_leave_to_read_paths(place) -> None:
    paths = [f"{number:03d}" for number in range(promote.BATCH + 5)]
    for path in paths:
        (place.root / path).write_text("accept")
    decisions = promote._champion_decisions(place.context, place.folder, place.files, paths)
    assert decisions.tolist() == ["accept"] * len(paths)
    assert place.champion.batches == [promote.BATCH, 5]
    assert place.loaded == {"batch_size": promote.BATCH, "device": "cpu"}


def test_files_are_read_from_wherever_the_source_has_them(place) -> None:
    import fsspec

    system = fsspec.filesystem("memory")
    system.pipe("/promote-test/parts/a b ü", b"reject")
    files = Files("memory://promote-test")
    decisions = promote._champion_decisions(place.context, place.folder, files, ["parts/a b ü"])
    assert decisions.tolist() == ["reject"]
    with pytest.raises(InputError, match=r"1 test image is gone from memory://promote-test, for instance parts/b"):
        promote._champion_decisions(place.context, place.folder, files, ["parts/b"])


def test_files_that_have_vanished_are_counted_before_any_is_judged(place) -> None:
    (place.root / "a").write_text("accept")
    with pytest.raises(InputError, match=r"2 test images are gone from .*, for instance b; restore them"):
        promote._champion_decisions(place.context, place.folder, place.files, ["a", "b", "c"])
    assert place.champion.batches == []


def test_a_file_that_vanishes_between_is_a_fault_of_the_source_too(place, monkeypatch) -> None:
    (place.root / "a").write_text("accept")
    stamps = Files.stamps

    def then_gone(self, paths):
        found = stamps(self, paths)
        (place.root / "a").unlink()
        return found

    monkeypatch.setattr(Files, "stamps", then_gone)
    with pytest.raises(InputError, match=r"the test image a in .* cannot be read"):
        promote._champion_decisions(place.context, place.folder, place.files, ["a"])


def test_a_file_that_cannot_be_read_is_named_with_the_reason(place, monkeypatch) -> None:
    (place.root / "a").write_text("accept")

    def refuse(self, path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Files, "read", refuse)
    with pytest.raises(InputError, match=r"the test image a in .* cannot be read: .*Permission denied"):
        promote._champion_decisions(place.context, place.folder, place.files, ["a"])


# --- models that have lost their files


@pytest.fixture
def promotion(monkeypatch):
    """`promotion(champion=…, registered=…, …)`: the decision on a model that passes its gates, and what was done."""
    monkeypatch.setattr(promote, "judge_gates", lambda metrics, gates: [GateResult("AUROC", 1.0, 0.0, True, "")])

    def decide(*, champion=None, registered=None, held=("m-1",), lost=(), loads=True, compare=None):
        done = SimpleNamespace(restored=[], loaded=[], warned=[], aliases={"champion": champion}, logged=[])

        def load(uri, *, model_config):
            done.loaded.append(uri)
            if not loads:
                raise ModelError(f"model={uri}: cannot be loaded")

        def log_model(*arguments, **options) -> str:
            done.logged.append("m-2")
            return "m-2"

        monkeypatch.setattr(promote, "load_pyfunc", load)
        monkeypatch.setattr(promote, "_compare", compare)
        monkeypatch.setattr(promote, "read_card", lambda folder: SimpleNamespace(summary="1 network"))
        context = SimpleNamespace(
            inputs={"deliver": SimpleNamespace(run_id="run", fingerprint="f")},
            run=SimpleNamespace(id="promote-run"),
            input=lambda stage, name: SimpleNamespace(read_text=lambda encoding: '{"model_id": "m-1"}'),
            console=SimpleNamespace(warn=done.warned.append),
            tracker=SimpleNamespace(
                holds_model=lambda model_id: model_id in held,
                lost_files=lambda model_id, folder: list(lost),
                restore_model=lambda model_id, folder: done.restored.append(model_id),
                log_model=log_model,
            ),
        )
        registry = SimpleNamespace(
            model_name="castings",
            version_of_model=lambda model_id: registered,
            version_with_alias=done.aliases.get,
            logged_model=lambda version: "m-1",
            register=lambda **options: "2",
            set_alias=done.aliases.__setitem__,
            tag_version=lambda version, tags: None,
        )
        done.decision = promote._decide(context, registry, seed=0, data=DataConfig(), settings=SETTINGS)
        return done

    return decide


def test_a_registered_model_that_has_lost_files_gets_them_back_and_is_loaded(promotion) -> None:
    done = promotion(champion="1", registered="1", lost=["MLmodel"])
    assert (done.restored, done.loaded) == (["m-1"], ["models:/m-1"])
    assert done.warned == ["of the logged model MLmodel was gone or changed (files: 1); logged again"]
    assert (done.decision["version"], done.decision["alias"]) == ("1", "champion")


def test_a_model_that_cannot_be_loaded_gets_no_alias(promotion) -> None:
    with pytest.raises(ModelError):
        promotion(loads=False)


def test_a_logged_model_that_was_deleted_is_logged_and_registered_anew_and_stays_champion(promotion) -> None:
    done = promotion(champion="1", registered="1", held=())
    assert done.logged == ["m-2"]
    assert done.warned == ["the logged model of version 1 was deleted: it is registered again"]
    assert (done.decision["version"], done.aliases["champion"]) == ("2", "2")


def test_against_a_champion_that_cannot_be_loaded_nothing_is_shown(promotion) -> None:
    def lost(*arguments, **options) -> None:
        raise ModelError("its files are gone")

    done = promotion(champion="7", registered=None, compare=lost)
    gate = done.decision["gates"][-1]
    assert (gate["name"], gate["passed"]) == ("non-inferior to champion (version 7)", False)
    assert "cannot be loaded, so it is not compared (its files are gone)" in gate["reason"]
    assert (done.decision["alias"], done.aliases["champion"]) == ("challenger", "7")
