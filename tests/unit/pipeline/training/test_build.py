"""From recipe keys to optimizer, schedule and calibration batches."""

import json
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from small_data import CLASSES, cross_fitted, data, doubted, weighed
from torch import nn

from components.errors import InputError
from components.models.losses import FocalLoss
from pipeline.config import ComputeConfig
from pipeline.overriding import override
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.training import build as training
from pipeline.training.data import TrainingData, fold_of


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """For a few numbers, more threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def recipe(**keys: object) -> Recipe:
    return Recipe(model=ModelConfig(), recipe=RecipeConfig(**{"lr": 0.1, "batch_size": 4, **keys}))


@pytest.fixture
def tiny(monkeypatch) -> None:
    """No timm model is built: these tests are about what goes around it."""

    class Built:
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2))
        mean = std = (0.5,) * 3

    monkeypatch.setattr(training, "new_model", lambda recipe, data, *, seed: Built)


def test_later_trainings_have_what_the_range_test_had_in_place_of_auto(tmp_path) -> None:
    settled = {"recipe.batch_size": 16, "recipe.precision": "bfloat16"}
    (tmp_path / "resolved.json").write_text(json.dumps({"overrides": settled, "bfloat16_share": 0.5}))
    found = training.resolved(recipe(batch_size="auto"), tmp_path / "resolved.json")
    assert found == recipe(batch_size=16, precision="bfloat16")


def learner(settings: Recipe, *, total_epochs: int = 6, count: int = 10, seed: int = 0):
    compute = ComputeConfig(device="cpu")
    return training.new_learner(settings, data(count), total_epochs=total_epochs, seed=seed, compute=compute)


def test_every_key_of_the_schedule_arrives() -> None:
    keys = {
        "schedule": "exp_range", "final_lr_fraction": 0.02, "schedule_drops": 4, "schedule_cycles": 5,
        "cycle_growth": 2.0, "cycle_low": 0.3, "rise_fraction": 0.4, "cooldown_fraction": 0.6, "plateau_factor": 0.7,
        "plateau_patience": 8, "warmup_epochs": 1.5,
    }  # fmt: skip
    found = training.new_schedule(recipe(**keys), data(), total_epochs=6)  # 8 images, 2 steps an epoch
    assert (found.name, found.warmup_steps, found.total_steps) == ("exp_range", 3, 12)
    assert (found.final_lr_fraction, found.schedule_drops, found.schedule_cycles, found.cycle_growth) == (
        0.02,
        4,
        5,
        2.0,
    )
    assert (found.cycle_low, found.rise_fraction, found.cooldown_fraction) == (0.3, 0.4, 0.6)
    assert (found.plateau_factor, found.plateau_patience) == (0.7, 8)


def test_warmup_takes_half_of_a_short_training_at_most() -> None:
    assert training.new_schedule(recipe(warmup_epochs=5), data(), total_epochs=2).warmup_steps == 2


def test_the_automatic_schedule_is_cosine_or_fixed_for_what_is_schedule_free() -> None:
    assert training.new_schedule(recipe(), data(), total_epochs=2).name == "cosine"
    assert training.new_schedule(recipe(optimizer="schedulefree_sgd"), data(), total_epochs=2).name == "fixed"


@pytest.mark.usefixtures("tiny")
def test_the_layer_keys_arrive() -> None:
    keys = {"layer_decay": 0.5, "layer_decay_towards": "output", "head_lr_ratio": 3.0, "weight_decay": 0.2, "lr": 0.1}
    optimizer = learner(recipe(optimizer="sgd", **keys)).stepper.optimizer
    assert isinstance(optimizer, torch.optim.SGD)
    # Towards the output: the first layer at the full rate, the head at half of it, times 3.
    assert {round(group["lr"], 9) for group in optimizer.param_groups} == {0.1, 0.15}


@pytest.mark.usefixtures("tiny")
def test_freezing_lasts_for_its_epochs_in_steps() -> None:
    stepper = learner(recipe(freeze_epochs=1.5, warmup_epochs=0, schedule="fixed", optimizer="sgd")).stepper
    frozen = []
    for _ in range(5):
        frozen.append(min(stepper.rates()) == 0)
        for group in stepper.optimizer.param_groups:
            for weight in group["params"]:
                weight.grad = torch.zeros_like(weight)
        stepper.step()
    assert frozen == [True, True, True, False, False]  # 2 steps an epoch


@pytest.mark.usefixtures("tiny")
def test_the_calibration_is_of_whole_batches_of_training_images_as_they_are() -> None:
    """11 images for training in batches of 4: two of these, drawn by the seed, the same each time, and none of val."""
    one, other = learner(recipe(), count=13), learner(recipe(), count=13, seed=1)
    values = [batch.images[:, 0, 0, 0].tolist() for batch in one.calibration()]
    assert [len(batch) for batch in values] == [4, 4]
    assert len(set(np.ravel(values))) == 8
    assert np.max(values) < 11
    assert [batch.images[:, 0, 0, 0].tolist() for batch in one.calibration()] == values
    assert [batch.images[:, 0, 0, 0].tolist() for batch in other.calibration()] != values


@pytest.mark.usefixtures("tiny")
def test_the_calibration_has_fifty_batches_at_most_and_one_at_least() -> None:
    assert len(list(learner(recipe(batch_size=2), count=150).calibration())) == 50
    (only,) = learner(recipe(batch_size=32)).calibration()
    assert len(only.labels) == 8


@pytest.mark.usefixtures("tiny")
def test_a_schedule_free_optimizer_under_a_schedule_is_refused() -> None:
    settings = recipe(optimizer="schedulefree_adamw")
    forced = settings.model_copy(update={"recipe": settings.recipe.model_copy(update={"schedule": "cosine"})})
    with pytest.raises(InputError, match=r"recipe\.schedule=cosine"):
        learner(forced)


# --- every key that shapes a training arrives


def test_the_loss_is_the_recipes() -> None:
    images = weighed(8, 2)
    plain = training.new_loss(recipe(class_weights="none", label_smoothing=0.1), images)
    assert isinstance(plain, nn.CrossEntropyLoss)
    assert (plain.weight, plain.label_smoothing) == (None, 0.1)
    focal = training.new_loss(recipe(loss="focal", focal_gamma=1.5, label_smoothing=0.2), images)
    assert isinstance(focal, FocalLoss)
    assert (focal.gamma, focal.label_smoothing) == (1.5, 0.2)
    assert focal.weight.tolist() == pytest.approx([0.625, 2.5])  # balanced: 10 / (2 · 8) and 10 / (2 · 2)
    counted = training.new_loss(recipe(loss="class_balanced", class_balanced_beta=0.5), images)
    assert isinstance(counted, nn.CrossEntropyLoss)
    # Of beta 0.5, 8 images are worth (1 - 1/256) · 2, and two are worth 1.5.
    assert float(counted.weight[1] / counted.weight[0]) == pytest.approx((255 / 128) / 1.5)


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "class_balanced"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_a_constant_prediction_costs_what_the_loss_of_the_training_says(loss: str, smoothing: float) -> None:
    """Over all pairs of constant logits, and over the drawn batches of the best of them."""
    images, settings = weighed(80, 20), recipe(loss=loss, label_smoothing=smoothing, batch_size=25)
    labels = torch.from_numpy(images.split("train").labels)
    module = training.new_loss(settings, images)
    gaps = torch.linspace(-4, 4, 2001)
    losses = torch.stack([module(torch.stack([torch.zeros(()), gap]).expand(100, 2), labels) for gap in gaps])
    assert training.loss_of_constant(settings, images) == pytest.approx(float(losses.min()), abs=1e-6)
    best = torch.stack([torch.zeros(()), gaps[losses.argmin()]]).expand(25, 2)
    drawn = torch.randint(100, (3000, 25), generator=torch.Generator().manual_seed(0))
    spread = float(torch.stack([module(best, labels[index]) for index in drawn]).std())
    # To first order: the weights of a batch vary as well, whose ratio is not quite their mean.
    assert training.spread_of_constant(settings, images) == pytest.approx(spread, rel=0.15, abs=2e-3)


# --- soft labels


@pytest.mark.parametrize("loss", ["cross_entropy", "focal", "class_balanced"])
def test_the_best_constant_prediction_is_that_of_the_soft_targets(loss: str) -> None:
    images, settings = doubted(), recipe(loss=loss, label_smoothing=0.1, batch_size=25)
    targets = torch.from_numpy(images.split("train").targets)
    module = training.new_loss(settings, images)
    gaps = torch.linspace(-4, 4, 2001)
    losses = torch.stack([module(torch.stack([torch.zeros(()), gap]).expand(100, 2), targets) for gap in gaps])
    assert training.loss_of_constant(settings, images) == pytest.approx(float(losses.min()), abs=1e-6)
    assert training.loss_of_constant(settings, images) != pytest.approx(
        training.loss_of_constant(settings, weighed(80, 20)), abs=1e-3
    )
    best = torch.stack([torch.zeros(()), gaps[losses.argmin()]]).expand(25, 2)
    drawn = torch.randint(100, (3000, 25), generator=torch.Generator().manual_seed(0))
    spread = float(torch.stack([module(best, targets[index]) for index in drawn]).std())
    assert training.spread_of_constant(settings, images) == pytest.approx(spread, rel=0.15, abs=2e-3)


def test_the_weights_of_the_classes_are_those_of_the_labels() -> None:
    weights = [training.new_loss(recipe(), images).weight.tolist() for images in (doubted(), weighed(80, 20))]
    assert weights[0] == weights[1]


@pytest.mark.usefixtures("tiny")
def test_a_training_learns_from_soft_targets_and_is_scored_by_the_labels(monkeypatch) -> None:
    images, settings = doubted(0.25, val=0.25), recipe(batch_size=20, schedule="fixed", augment_strength=0)
    one = training.new_learner(settings, images, total_epochs=1, seed=0, compute=ComputeConfig(device="cpu"))
    given: list[torch.Tensor] = []
    own = type(one.loss).forward
    monkeypatch.setattr(
        type(one.loss), "forward", lambda loss, logits, labels: given.append(labels) or own(loss, logits, labels)
    )
    (record,) = training.run_epochs(one, settings, images, until=1, workers=0)
    *taught, scored = given
    assert [len(labels) for labels in taught] == [20] * 5
    assert {tuple(target) for labels in taught for target in labels.tolist()} == {(1.0, 0.0), (0.75, 0.25)}
    assert scored.tolist() == [0, 1]
    assert np.isfinite(record.metrics["val_loss"])


@pytest.mark.usefixtures("tiny")
def test_the_size_of_the_recipe_reaches_the_model() -> None:
    assert learner(recipe()).preprocessing.size is None
    assert learner(recipe(image_size=32)).preprocessing.size == 32


@pytest.mark.usefixtures("tiny")
def test_images_grow_after_a_share_of_the_steps_also_of_those_that_were_left_out() -> None:
    grown = learner(recipe(image_size=64, grow_from=32, grow_share=0.5), total_epochs=6)  # of two steps each
    assert grown.training_preprocessing.size == 32
    grown.stepper.steps = 5
    assert grown.training_preprocessing.size == 32
    grown.stepper.skipped = 1
    assert (grown.training_preprocessing.size, grown.preprocessing.size) == (64, 64)
    assert learner(recipe(image_size=32, grow_from=32)).early is None  # a searched size may be as small


@pytest.mark.usefixtures("tiny")
def test_averaging_follows_its_key() -> None:
    assert learner(recipe()).averaged is None
    averaged = learner(recipe(ema_decay=0.7)).averaged
    assert averaged is not None
    assert averaged.decay == 0.7


@pytest.mark.parametrize("backbone", ["test_resnet", "mobilenetv3_small_050", "test_vit"])
@pytest.mark.parametrize("key", ["drop_rate", "drop_path_rate"])
def test_dropout_and_stochastic_depth_act_in_training_and_rest_in_evaluation(backbone: str, key: str) -> None:
    def differences(rate: float) -> tuple[float, float]:
        """Between two passes of one batch, in training and in evaluation."""
        base = Recipe(model=ModelConfig(backbone=backbone, weights="none"), recipe=RecipeConfig(batch_size=32))
        settings = override(base, {f"model.{key}": rate})
        model = training.new_model(settings, weighed(8, 2), seed=0).model
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):  # the last of a block starts at 0, where there is nothing to drop
                nn.init.ones_(module.weight)
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(0)
            images = torch.randn(4, 3, 160, 160)
            found = [float((model.train(mode)(images) - model(images)).abs().max()) for mode in (True, False)]
        return found[0], found[1]

    assert differences(0.0) == (0.0, 0.0)
    in_training, in_evaluation = differences(0.5)
    assert in_training > 1e-4
    assert in_evaluation == 0.0


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"objective": "overkill_at_budget", "escape_budget": 0.5}, 1.0),
        ({"objective": "overkill_at_budget", "escape_budget": 0.1}, 0.5),
        ({"objective": "cost", "escape_cost": 1.0}, 0.5),  # an overkill of four images, or an escape
        ({"objective": "auroc"}, 0.75),
    ],
)
def test_the_score_is_that_of_the_recipes_objective(keys: dict, expected: float) -> None:
    """Goods of the logits 0 and 2 for a defect, defectives of 1 and 3."""
    logits = np.array([[0, 0], [0, 2], [0, 1], [0, 3]], dtype=np.float32)
    found = training.validation_score(logits, np.array([0, 0, 1, 1]), recipe(**keys), data())
    assert found == pytest.approx(expected)


@pytest.mark.usefixtures("tiny")
def test_a_learner_may_be_given_another_schedule_than_the_recipes() -> None:
    other = training.new_schedule(recipe(schedule="one_cycle"), data(), total_epochs=3)
    built = training.new_learner(
        recipe(), data(), total_epochs=6, seed=0, compute=ComputeConfig(device="cpu"), schedule=other
    )
    assert built.stepper.schedule == other
    assert learner(recipe()).stepper.schedule.name == "cosine"


@pytest.mark.usefixtures("tiny")
def test_logits_are_scored_by_the_trainings_loss_and_by_the_objective() -> None:
    """Goods of −1 and 1 for a defect, a defective of 2: all pairs are in order; the loss is the mean of the three."""
    logits = np.array([[0, -1], [0, 1], [0, 2]], dtype=np.float32)
    labels = np.array([0, 0, 1])
    settings = recipe(class_weights="none", objective="auroc")
    found = training.scores_of(logits, labels, learner(settings), settings, data())
    expected = (np.log1p(np.exp(-1)) + np.log1p(np.exp(1)) + np.log1p(np.exp(-2))) / 3
    assert found == {"val_loss": pytest.approx(expected), "val_score": 1.0}


def test_a_learner_computes_in_the_precision_of_its_recipe(tiny) -> None:
    assert learner(recipe()).device.precision == "float32"
    assert learner(recipe(precision="bfloat16")).device.precision == "bfloat16"


@pytest.mark.usefixtures("tiny")
def test_an_epoch_without_validation_images_has_no_scores_and_its_weights_are_handed_out() -> None:
    images, settings = cross_fitted(), recipe()
    built = training.new_learner(settings, images, total_epochs=2, seed=0, compute=ComputeConfig(device="cpu"))
    handed: list[tuple] = []
    records = list(
        training.run_epochs(
            built, settings, images, until=2, workers=0, score_from=2,
            on_scored=lambda model, logits: handed.append((built.epoch, model.training, logits.shape)),
        )
    )  # fmt: skip
    assert [record.metrics for record in records] == [{}, {}]
    assert handed == [(2, False, (0, 2))]


@pytest.mark.usefixtures("tiny")
def test_epochs_are_scored_from_the_one_that_is_asked_for() -> None:
    images, settings = fold_of(cross_fitted(), 1), recipe()
    built = training.new_learner(settings, images, total_epochs=3, seed=0, compute=ComputeConfig(device="cpu"))
    records = list(training.run_epochs(built, settings, images, until=3, workers=0, score_from=3))
    assert [sorted(record.metrics) for record in records] == [[], [], ["val_loss", "val_score"]]


@pytest.mark.usefixtures("tiny")
def test_an_epoch_ends_when_its_share_of_the_time_is_over_and_the_schedule_goes_on(monkeypatch) -> None:
    """Of two epochs of two batches the first is too slow: its second batch is left out, and nothing of the second."""
    images, settings = cross_fitted(), recipe(batch_size=4)
    built = training.new_learner(settings, images, total_epochs=2, seed=0, compute=ComputeConfig(device="cpu"))
    clock = iter([0.0, 0.0, 9.0, 10.0, 10.0, 10.5])  # asked for the share and its begin, then after each batch
    monkeypatch.setattr(training.time, "time", lambda: next(clock))
    records = list(training.run_epochs(built, settings, images, until=2, workers=0, ends_at=16.0))
    assert [record.step for record in records] == [1, 3]
    assert (built.step, built.stepper.skipped) == (3, 1)


class Corner(nn.Module):
    """Logits by the pixel in the upper left corner."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return torch.stack([images[:, 0, 0, 0], torch.zeros(len(images))], dim=1)


@pytest.mark.usefixtures("tiny")
def test_views_are_scored_as_log_probabilities_of_the_turned_images() -> None:
    images, built = data(), learner(recipe())
    pixels = np.zeros((10, 8, 8, 3), dtype=np.uint8)
    pixels[:, 0, 0], pixels[:, 0, 7], pixels[:, 7, 7] = 10, 20, 30
    shown = TrainingData(images.manifest, pixels, CLASSES, ("good",))
    found = training.view_scores(Corner(), shown.split("val"), built, (0, 4, 2))
    corner = (np.array([10, 20, 30]) / 255 - 0.5) / 0.5
    assert found.shape == (3, 2, 2)
    np.testing.assert_allclose(found[:, 0, 0], -np.log1p(np.exp(-corner)), rtol=1e-5)
    np.testing.assert_allclose(np.exp(found).sum(axis=2), 1, rtol=1e-5)
