"""What the report says of the delivered model: what it is made of, what it costs, and the curves of each network."""

import json

import pandas as pd
import pytest

from pipeline.reports.delivery import delivery_section, training_section

SUMMARY = "2 networks (resnet18 at 128 px, 2 views) and 1 frozen classifier (resnet18 at 128 px, 1 view)"
BLEND = {
    "taken": True, "weights": [0.9, 0.2], "score": 0.9312, "score_of_frozen": 0.9, "log_loss_gain": 0.0123,
    "standard_error": 0.004,
}  # fmt: skip
ASSEMBLY = {
    "views": 2,
    "score": 0.92,
    "blend": None,
    "deliver": "ensemble",
    "compared_views": [
        {"views": 1, "score": 0.91, "latency_ms": 6.0},
        {"views": 2, "score": 0.92, "latency_ms": 9.6},
    ],
    "latency_ms": {
        "ensemble": {"1": 6.0, "2": 9.6}, "single": {"1": 3.0, "2": 4.8},
        "delivered": 9.64, "threads": 2, "device": "cpu", "limit": None,
    },
}  # fmt: skip


def member(name: str, kept_epoch: int) -> dict:
    return {
        "name": name, "seed": 3, "epochs": 4, "kept_epoch": kept_epoch, "trained_in": "train", "run_id": f"run-{name}",
    }  # fmt: skip


@pytest.fixture
def write(tmp_path):
    """The folder of the stage train, with what differs."""

    def make(*, members=None, ledger=(), **changes):
        members = members or [member("fold-0", 2), member("fold-1", 4)]
        training = {"delivered": SUMMARY, "members": members, "recipe": {"recipe": {"lr": 0.0012345, "a": None}}}
        (tmp_path / "training.json").write_text(json.dumps(training))
        (tmp_path / "operating_point.json").write_text(json.dumps({"assembly": ASSEMBLY | changes}))
        (tmp_path / "monitor.json").write_text(json.dumps({"advice": ["lower the rate"], "ledger": [*ledger]}))
        epochs = pd.DataFrame({"epoch": range(1, 5), "step": range(10, 50, 10)})
        losses = epochs.assign(train_loss=0.5, val_loss=0.6, val_score=[0.5, 0.7, 0.6, 0.65], lr=0.1)
        names = ("fold-0", "fold-1")
        history = pd.concat([losses.assign(member=name) for name in names], ignore_index=True)
        history.to_parquet(tmp_path / "history.parquet")
        history[["step", "member"]].assign(lr_head=0.1).to_parquet(tmp_path / "steps.parquet")
        return tmp_path

    return make


def test_the_chapter_says_what_is_delivered_and_what_an_image_costs(write) -> None:
    section = delivery_section(write())
    assert section.text.startswith(
        f"{SUMMARY}. An image takes 9.64 ms on 2 CPU threads, from its pixels to its logits; "
    )
    assert "no limit is set" in section.text
    limited = ASSEMBLY["latency_ms"] | {"limit": 12.0, "device": "cuda"}
    text = delivery_section(write(latency_ms=limited)).text
    assert "9.64 ms on a GPU" in text
    assert "the limit is 12 ms" in text
    assert section.notes == []


def test_each_number_of_views_has_its_score_and_its_cost_for_all_networks_and_for_one(write) -> None:
    (_, views), (_, networks) = delivery_section(write()).tables
    assert views.to_dict("records") == [
        {"views": "1", "score": "0.910", "ms, all networks": "6", "ms, one network": "3"},
        {"views": "2, delivered", "score": "0.920", "ms, all networks": "9.6", "ms, one network": "4.8"},
    ]
    assert networks["name"].tolist() == ["fold-0", "fold-1"]
    assert networks["kept epoch"].tolist() == [2, 4]
    alone = ASSEMBLY["latency_ms"] | {"delivered": 4.8}
    del alone["ensemble"]
    (_, views), _ = delivery_section(write(latency_ms=alone, deliver="single")).tables
    assert list(views) == ["views", "score", "ms, one network"]


def test_the_chapter_says_whether_the_frozen_features_join_and_why(write) -> None:
    (joins,) = delivery_section(write(blend=BLEND)).notes
    assert "(score 0.900 alone) joins: with it the log loss on unseen images falls by 0.0123 ± 0.0040" in joins
    (stays,) = delivery_section(write(blend=BLEND | {"taken": False, "standard_error": None})).notes
    assert "does not join" in stays
    assert "±" not in stays
    (lacks,) = delivery_section(write(blend={"taken": False, "reason": "it lacks scores"})).notes
    assert lacks == "The classifier on frozen features does not join: it lacks scores."


def test_of_one_network_trained_on_all_images_it_is_said_what_its_threshold_rests_on(write) -> None:
    text = delivery_section(write(deliver="single", members=[member("all", 4)])).text
    assert "trained on all images that are not test; what is said of views" in text
    assert "trained on all images" not in delivery_section(write(deliver="single", members=[member("whole", 4)])).text


def test_every_network_has_its_curves_with_the_epoch_that_was_kept_and_its_own_findings(write, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr("pipeline.reports.delivery.learning_curves", lambda history, **given: drawn.append(given))
    found = {"member": "fold-1", "step": 20, "kind": "spike", "action": "none"}
    section = training_section(write(members=[member("fold-0", 2)], ledger=[found]))
    assert [caption for caption, _ in section.figures] == ["Learning curves fold-0", "Learning curves fold-1"]
    assert [given["best_epoch"] for given in drawn] == [2, 4]  # one that is not delivered: its last
    assert [given["ledger"] for given in drawn] == [[], [found]]
    assert [len(given["steps"]) for given in drawn] == [4, 4]
    assert section.text.startswith("2 networks, 8 epochs together")
    assert section.notes == ["The monitor: lower the rate"]
    ((_, recipe),) = section.tables
    assert recipe.to_dict("records") == [{"setting": "lr", "value": "0.00123"}]


def test_the_curves_are_drawn(write) -> None:
    assert len(training_section(write()).figures) == 2
