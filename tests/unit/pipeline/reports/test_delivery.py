"""What the report says of the delivered model: what it is made of, what it costs, and the curves of each network."""

import json

import pandas as pd
import pytest

from components.report import figures_training
from pipeline.reports.delivery import delivery_section, training_sections

SUMMARY = "2 networks (resnet18 at 128 px, 2 views) and 1 frozen classifier (resnet18 at 128 px, 1 view)"
BLEND = {
    "taken": True, "weights": [0.9, 0.2], "score": 0.9312, "score_of_frozen": 0.9, "log_loss_gain": 0.0123,
    "standard_error": 0.004,
}  # fmt: skip
DELIVERY = {
    "summary": SUMMARY,
    "views": 2,
    "score": 0.92,
    "blend": None,
    "deliver": "ensemble",
    "compared_views": [
        {"views": 1, "score": 0.91, "log_loss": 0.4, "latency_ms": 6.0},
        {"views": 2, "score": 0.92, "log_loss": 0.3, "latency_ms": 9.6},
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


def trainings(folder, members, ledger=()) -> None:
    """The records of trainings of four epochs, as a stage leaves them."""
    training = {"members": members, "recipe": {"recipe": {"lr": 0.0012345, "a": None}}}
    (folder / "training.json").write_text(json.dumps(training))
    (folder / "monitor.json").write_text(json.dumps({"advice": ["lower the rate"], "ledger": [*ledger]}))
    epochs = pd.DataFrame({"epoch": range(1, 5), "step": range(10, 50, 10)})
    losses = epochs.assign(train_loss=0.5, val_loss=0.6, val_score=[0.5, 0.7, 0.6, 0.65], lr=0.1)
    history = pd.concat([losses.assign(member=one["name"]) for one in members], ignore_index=True)
    history.to_parquet(folder / "history.parquet")
    history[["step", "member"]].assign(lr_head=0.1).to_parquet(folder / "steps.parquet")


@pytest.fixture
def write(tmp_path):
    """The folders of the stages train and deliver, with what differs."""

    def make(*, ledger=(), networks=("fold-0", "fold-1"), **changes):
        train, deliver = tmp_path / "train", tmp_path / "deliver"
        for folder in (train, deliver):
            folder.mkdir(exist_ok=True)
        trainings(train, [member("fold-0", 2), member("fold-1", 4)], ledger)
        if "all" in networks:
            trainings(deliver, [member("all", 4)])
        (deliver / "delivery.json").write_text(json.dumps(DELIVERY | {"networks": networks} | changes))
        return train, deliver

    return make


def test_the_chapter_says_what_is_delivered_and_what_an_image_costs(write) -> None:
    section = delivery_section(*write())
    assert section.text.startswith(
        f"{SUMMARY}. An image takes 9.64 ms on 2 CPU threads, from its pixels to its logits; "
    )
    assert "no limit is set" in section.text
    limited = DELIVERY["latency_ms"] | {"limit": 12.0, "device": "cuda"}
    text = delivery_section(*write(latency_ms=limited)).text
    assert "9.64 ms on a GPU" in text
    assert "the limit is 12 ms" in text
    assert section.notes == []


def test_the_classifier_on_frozen_features_may_be_delivered_alone(write) -> None:
    section = delivery_section(*write(networks=[], summary="1 frozen classifier (resnet18 at 128 px, 1 view)"))
    assert "No network is delivered" in section.text
    assert "averaged" not in section.text
    ((_, views),) = section.tables
    assert views["views"].tolist() == ["1", "2"]


def test_each_number_of_views_has_its_score_and_its_cost_for_all_networks_and_for_one(write) -> None:
    (_, views), (_, networks) = delivery_section(*write()).tables
    assert views.to_dict("records") == [
        {"views": "1", "score": "0.910", "log loss": "0.400", "ms, all networks": "6", "ms, one network": "3"},
        {
            "views": "2, delivered",
            "score": "0.920",
            "log loss": "0.300",
            "ms, all networks": "9.6",
            "ms, one network": "4.8",
        },
    ]
    assert networks["name"].tolist() == ["fold-0", "fold-1"]
    assert networks["kept epoch"].tolist() == [2, 4]
    alone = DELIVERY["latency_ms"] | {"delivered": 4.8}
    del alone["ensemble"]
    (_, views), _ = delivery_section(*write(latency_ms=alone, deliver="single")).tables
    assert list(views) == ["views", "score", "log loss", "ms, one network"]


def test_the_chapter_says_whether_the_frozen_features_join_and_why(write) -> None:
    (joins,) = delivery_section(*write(blend=BLEND)).notes
    assert "(score 0.900 alone) joins: with it the log loss on unseen images is 0.0123 ± 0.0040 lower" in joins
    (stays,) = delivery_section(*write(blend=BLEND | {"taken": False, "standard_error": None})).notes
    assert "does not join" in stays
    assert "±" not in stays
    (lacks,) = delivery_section(*write(blend={"taken": False, "reason": "it lacks scores"})).notes
    assert lacks == "The classifier on frozen features does not join: it lacks scores."


def test_a_model_without_networks_has_no_table_of_them(write) -> None:
    section = delivery_section(*write(networks=[], deliver="single", blend=BLEND))
    assert [caption for caption, _ in section.tables] == ["Views of an image, on images that the networks had not seen"]
    assert "trained on all images" not in section.text


def test_of_one_network_trained_on_all_images_it_is_said_what_its_threshold_rests_on(write) -> None:
    assert "trained on all" not in delivery_section(*write(deliver="single", networks=["fold-0"])).text
    section = delivery_section(*write(deliver="single", networks=["all"]))
    assert "trained on all images that are not test; what is said of views" in section.text
    assert section.tables[1][1]["name"].tolist() == ["all"]


def test_every_network_has_its_curves_with_the_epoch_that_was_kept_and_its_own_findings(write, monkeypatch) -> None:
    drawn = []
    monkeypatch.setattr(figures_training, "learning_curves", lambda history, **given: drawn.append(given))
    found = {"member": "fold-1", "step": 20, "kind": "spike", "action": "none"}
    (section,) = training_sections(*write(networks=["all"], ledger=[found]))
    assert [caption.removeprefix("Learning curves ") for caption, _ in section.figures] == ["fold-0", "fold-1", "all"]
    assert [given["best_epoch"] for given in drawn] == [2, 4, 4]
    assert [given["ledger"] for given in drawn] == [[], [found], []]
    assert [len(given["steps"]) for given in drawn] == [4, 4, 4]
    assert section.text.startswith("3 networks, 12 epochs together")
    assert section.notes == ["The monitor: lower the rate"] * 2
    ((_, recipe),) = section.tables
    assert recipe.to_dict("records") == [{"setting": "lr", "value": "0.00123"}]


def test_the_curves_are_drawn(write) -> None:
    (section,) = training_sections(*write())
    assert len(section.figures) == 2
