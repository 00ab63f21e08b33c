"""What is refused of a search space before anything starts: each refusal has its key, value, rule and remedy."""

import pytest

from components.errors import InputError
from pipeline.checks.space import image_sizes
from pipeline.config import Config
from pipeline.loading import load

RATE = {"sets": "recipe.lr", "bounds": "range_test"}
DECAY = {"sets": "recipe.weight_decay", "low": 1e-5, "high": 0.1, "log": True}
LOSS = {"sets": "recipe.loss", "choices": ["cross_entropy", "focal"]}
GAMMA = {"sets": "recipe.focal_gamma", "low": 1.0, "high": 3.0, "when": {"recipe.loss": "focal"}}


def loaded(*space: dict, **overrides) -> Config:
    overrides = {key.replace("__", "."): value for key, value in overrides.items()}
    return load("smoke", {"search.space": list(space), **overrides})


def faults(*space: dict, **overrides) -> list[str]:
    with pytest.raises(InputError) as caught:
        loaded(*space, **overrides)
    return str(caught.value).splitlines()


# --- what may be searched


@pytest.mark.parametrize(
    "dimension",
    [
        {"sets": "model.backbone", "choices": ["resnet18", "mobilenetv3_small_050"]},
        {"sets": "model.drop_rate", "low": 0.0, "high": 0.5},
        {"sets": "model.drop_path_rate", "choices": [0.0, 0.1]},
        {"sets": "recipe.batch_size", "choices": [8, 16]},
        {"sets": "recipe.warmup_epochs", "low": 0.0, "high": 2.0},
        {"sets": "recipe.label_smoothing", "low": 0.0, "high": 0.2},
        {"sets": "recipe.freeze_epochs", "choices": [0, 1]},
        {"sets": "recipe.loss", "choices": ["cross_entropy", "focal", "class_balanced"]},
        {"sets": "recipe.augment", "choices": [["blur"], ["noise", "light"]]},
        {"sets": "recipe.clip_grad_norm", "choices": [None, 1.0]},
        {"sets": "recipe.layer_decay", "choices": [1.0]},
    ],
    ids=lambda dimension: dimension["sets"],
)
def test_what_shapes_a_training_may_be_searched(dimension: dict) -> None:
    assert loaded(dimension, RATE).search.space[0].sets == dimension["sets"]


def test_a_searched_backbone_is_embedded() -> None:
    backbones = {"sets": "model.backbone", "choices": ["mobilenetv3_small_050"]}
    config = loaded(backbones, RATE)
    assert config.embed.backbones == (config.model.backbone, "mobilenetv3_small_050")


@pytest.mark.parametrize(
    "key", ["recipe.schedule", "recipe.ema_decay", "recipe.final_lr_fraction", "recipe.cooldown_fraction"]
)
@pytest.mark.parametrize(("horizon", "why"), [("constant", "constant rate"), ("wsd", "cooled down")])
def test_the_schedule_is_not_searched_where_the_horizon_decides_it(key: str, horizon: str, why: str) -> None:
    (fault,) = faults({"sets": key, "choices": [0.1, 0.2]}, search__horizon=horizon)
    assert fault.startswith(f"search.space.0.sets={key}: cannot be searched: trials run at a constant rate")
    assert why in fault
    assert fault.endswith("(search.horizon=fixed searches schedules); remove it from the space")


def test_the_schedule_and_the_average_are_searched_under_the_fixed_horizon() -> None:
    space = (
        {"sets": "recipe.schedule", "choices": ["cosine", "one_cycle"]},
        {"sets": "recipe.ema_decay", "choices": [None, 0.99]},
        {"sets": "recipe.rise_fraction", "low": 0.1, "high": 0.5, "when": {"recipe.schedule": "one_cycle"}},
    )
    assert len(loaded(*space, search__horizon="fixed").search.space) == 3


@pytest.mark.parametrize(
    "key", ["recipe.objective", "recipe.escape_budget", "recipe.escape_cost", "recipe.defect_rate"]
)
@pytest.mark.parametrize("horizon", ["constant", "fixed"])
def test_what_trials_are_compared_by_is_not_searched(key: str, horizon: str) -> None:
    (fault,) = faults({"sets": key, "choices": [0.1]}, search__horizon=horizon)
    assert fault == (
        f"search.space.0.sets={key}: cannot be searched: trials are compared by it; remove it from the space"
    )


def test_the_kind_of_weights_is_not_searched() -> None:
    (fault,) = faults({"sets": "model.weights", "choices": ["none", "pretrained"]})
    assert "the same kind of weights; remove it" in fault


# --- values that go together


def test_two_searched_keys_whose_values_exclude_each_other_are_refused() -> None:
    space = (
        {"sets": "recipe.optimizer", "choices": ["adamw", "schedulefree_adamw"]},
        {"sets": "recipe.schedule", "choices": ["fixed", "cosine"]},
    )
    (fault,) = faults(*space, search__horizon="fixed")
    assert fault.startswith("search.space.1.sets=recipe.schedule: cosine excludes recipe.optimizer=")
    assert "takes no schedule" in fault
    assert fault.endswith("add a `when` to one of the two")
    space[1]["when"] = {"recipe.optimizer": "adamw"}
    assert loaded(*space, search__horizon="fixed")


def test_also_an_interval_may_not_go_with_a_choice() -> None:
    space = (
        {"sets": "recipe.ema_decay", "low": 0.9, "high": 0.99},
        {"sets": "recipe.optimizer", "choices": ["adamw", "schedulefree_adamw"]},
    )
    assert "schedulefree_adamw excludes recipe.ema_decay=" in faults(*space, search__horizon="fixed")[0]
    space[0]["when"] = {"recipe.optimizer": ["adamw", "sgd"]}
    assert loaded(*space, search__horizon="fixed")


def test_a_value_that_does_not_go_with_the_recipe_is_refused() -> None:
    (fault,) = faults({"sets": "recipe.optimizer", "choices": ["adamw", "schedulefree_sgd"]}, recipe__schedule="cosine")
    assert "takes no schedule" in fault


# --- conditions


def test_a_condition_may_name_one_value_or_several() -> None:
    either = GAMMA | {"when": {"recipe.loss": ["focal"], "recipe.optimizer": ["adamw", "sgd"]}}
    assert loaded(LOSS, either).search.space[1].conditions() == {
        "recipe.loss": ("focal",), "recipe.optimizer": ("adamw", "sgd"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("when", "words"),
    [
        ({"recipe.los": "focal"}, ("when.recipe.los=focal", "did you mean loss?")),
        ({"recipe.loss": "focall"}, ("when.recipe.loss=focall", "'focal'")),
        ({"train.epochs": 3}, ("when.train.epochs=3", "unknown key")),
        ({"recipe.optimizer": "lamb"}, ("when.recipe.optimizer=lamb: never holds, since recipe.optimizer is adamw",
                                        "search recipe.optimizer")),
        ({"recipe.weight_decay": 0.01}, ("over an interval, so it never has that value; give it choices",)),
        ({"recipe.label_smoothing": 0.1}, ("cannot depend on itself",)),
    ],
    ids=lambda value: str(value)[:30],
)  # fmt: skip
def test_a_condition_that_no_trial_could_meet_is_refused(when: dict, words: tuple[str, ...]) -> None:
    smoothing = {"sets": "recipe.label_smoothing", "low": 0.0, "high": 0.1, "when": when}
    (fault,) = faults(DECAY, smoothing)
    assert fault.startswith("search.space.1")
    for part in words:
        assert part in fault


def test_a_value_of_a_condition_is_compared_as_its_key_has_it() -> None:
    """YAML reads 1e-2 as a text; the recipe's weight decay is the number."""
    smoothing = {"sets": "recipe.label_smoothing", "low": 0.0, "high": 0.1, "when": {"recipe.weight_decay": "1e-2"}}
    assert loaded(smoothing, RATE, recipe__weight_decay=0.01)


def test_a_wrong_choice_is_its_own_dimensions_fault_also_where_another_depends_on_it() -> None:
    optimizers = {"sets": "recipe.optimizer", "choices": ["adamw", "adamz"]}
    smoothing = {"sets": "recipe.label_smoothing", "low": 0.0, "high": 0.1, "when": {"recipe.optimizer": "adamw"}}
    found = faults(optimizers, smoothing, {"sets": "recipe.lrr", "choices": [1]})
    assert [fault.partition(":")[0] for fault in found] == [
        "search.space.0.sets=recipe.optimizer", "search.space.2.sets=recipe.lrr",
    ]  # fmt: skip


def test_a_condition_on_a_list_is_no_crash() -> None:
    policies = {"sets": "recipe.augment", "choices": [["blur"], ["noise"]]}
    strength = {"sets": "recipe.augment_strength", "low": 0.0, "high": 1.0, "when": {"recipe.augment": [["blur"]]}}
    assert loaded(policies, strength)
    (fault,) = faults(policies, strength | {"when": {"recipe.augment": [["light"]]}})
    assert "never holds" in fault


@pytest.mark.parametrize("length", [2, 3])
def test_conditions_that_go_round_in_a_circle_are_refused(length: int) -> None:
    keys = ["recipe.optimizer", "recipe.loss", "recipe.class_weights"][:length]
    values = [["adamw", "sgd"], ["cross_entropy", "focal"], ["none", "balanced"]]
    space = [
        {"sets": key, "choices": values[place], "when": {keys[place - 1]: values[(place - 1) % length][0]}}
        for place, key in enumerate(keys)
    ]
    found = faults(*space)
    assert found == [f"search.space: {', '.join(keys)} depend on each other in turn; leave one of their conditions out"]


# --- what would change nothing


@pytest.mark.parametrize(
    ("key", "loss"), [("recipe.focal_gamma", "focal"), ("recipe.class_balanced_beta", "class_balanced")]
)
def test_a_key_that_acts_under_one_loss_alone_has_to_have_it(key: str, loss: str) -> None:
    dimension = {"sets": key, "choices": [0.5, 0.9]}
    assert faults(dimension, RATE) == [
        f"search.space.0.sets={key}: has an effect only with recipe.loss={loss}; set that, or remove it"
    ]
    assert loaded(dimension, RATE, recipe__loss=loss)
    losses = {"sets": "recipe.loss", "choices": ["cross_entropy", loss]}
    assert faults(losses, dimension) == [
        f"search.space.1.sets={key}: has an effect only with recipe.loss={loss}; add when: {{recipe.loss: {loss}}}"
    ]
    assert loaded(losses, dimension | {"when": {"recipe.loss": loss}})


def test_a_condition_that_lets_it_be_drawn_where_it_does_not_act_is_not_enough() -> None:
    (fault,) = faults(LOSS, GAMMA | {"when": {"recipe.loss": ["focal", "cross_entropy"]}})
    assert fault.endswith("add when: {recipe.loss: focal}")


# --- samplers and schedulers


def test_folds_are_those_of_the_data() -> None:
    grid = {"search__sampler": "grid", "search__num_trials": 40}
    (fault,) = faults(RATE, **grid, search__folds=3, data__num_folds=5)
    assert fault == "search.folds=3: the folds are those of the data, and data.num_folds=5; give both the same number"
    assert loaded(RATE, **grid, search__folds=5, data__num_folds=5)


@pytest.mark.parametrize("num_trials", [0, 1])
def test_a_search_of_the_defaults_alone_needs_no_space(num_trials: int) -> None:
    assert loaded(search__num_trials=num_trials).search.space == ()
    assert loaded(RATE, DECAY, search__sampler="lipschitz", search__num_trials=num_trials)


def test_an_empty_space_is_refused() -> None:
    assert faults(search__num_trials=2) == [
        "search.space: empty, so there is nothing to search; add a dimension or set search.num_trials=1"
    ]


CHOICES = "[{sets: recipe.image_size, choices: [null, 32, 64]}, {sets: recipe.weight_decay, choices: [0, 0.1]}]"


def faults_of(overrides: dict) -> list[str]:
    with pytest.raises(InputError) as caught:
        load("smoke", {"data.image_size": "64", **overrides})
    return str(caught.value).splitlines()


@pytest.mark.parametrize(("text", "size"), [("32", 32), ("64", 64), ("null", None)])
def test_a_size_up_to_that_of_the_packed_images_is_taken(text: str, size: int | None) -> None:
    assert load("smoke", {"data.image_size": "64", "recipe.image_size": text}).recipe.image_size == size


def test_trainings_grow_from_a_smaller_size() -> None:
    assert load("smoke", {"data.image_size": "64", "recipe.grow_from": "32"}).recipe.grow_from == 32
    assert faults_of({"recipe.grow_from": "64"}) == [
        "recipe.grow_from=64: trainings begin at it and grow to 64 px; give a smaller size, or null for one size"
    ]
    assert len(faults_of({"recipe.image_size": "32", "recipe.grow_from": "48"})) == 1


def test_a_larger_size_is_refused_with_the_remedy() -> None:
    assert faults_of({"recipe.image_size": "65"}) == [
        "recipe.image_size=65: must not exceed data.image_size=64, the size of the packed images; "
        "use 64 at most, or raise data.image_size"
    ]


def test_a_size_below_what_networks_can_take_is_refused() -> None:
    assert faults_of({"recipe.image_size": "31"})[0].startswith("recipe.image_size=31: ")
    assert load("smoke", {"data.image_size": "16"}).recipe.image_size is None  # the pack's own size may be as small


def test_every_searched_size_is_looked_at() -> None:
    faults = faults_of({"search.space": "[{sets: recipe.image_size, choices: [32, 65, '80', null]}]"})
    assert [fault.partition(": must")[0] for fault in faults] == [
        "search.space.0.sets=recipe.image_size: 65",
        "search.space.0.sets=recipe.image_size: 80",
    ]
    assert load("smoke", {"data.image_size": "64", "search.space": CHOICES}).search.space[0].choices[1] == 32


def test_a_searched_size_that_is_pinned_is_none_of_the_space() -> None:
    space = "[{sets: recipe.image_size, choices: [32, 96]}, {sets: recipe.weight_decay, choices: [0, 0.1]}]"
    given = {"data.image_size": "64", "search.space": space, "recipe.image_size": "32"}
    assert image_sizes(load("smoke", given), "any", compared=True) == {"recipe.image_size=32": 32}


def test_a_batch_size_that_the_images_decide_is_none_to_choose() -> None:
    (fault,) = faults({"sets": "recipe.batch_size", "choices": ["auto", 16]}, RATE)
    assert fault.startswith("search.space.0.sets=recipe.batch_size: auto is decided by the number of images")
    (fault,) = faults_of({"compare_lr.entries": "[{name: own, sets: {recipe.batch_size: auto}}]"})
    assert fault.startswith("compare_lr.entries.0 (own): recipe.batch_size=auto: is that of the recipe already; give")


def test_the_methods_of_a_comparison_are_looked_at() -> None:
    entries = "[{name: large, sets: {recipe.image_size: 96}}, {name: small, sets: {recipe.image_size: 32}}]"
    (fault,) = faults_of({"compare_lr.entries": entries})
    assert fault.startswith("compare_lr.entries.0 (large): recipe.image_size=96: must not exceed")


def test_a_backbone_is_asked_about_all_sizes_that_it_will_see() -> None:
    entries = "[{name: small, sets: {recipe.image_size: 40}}]"
    given = {"data.image_size": "64", "compare_lr.entries": entries}
    asked = {"data.image_size=64": 64}
    assert image_sizes(load("smoke", given), "any", compared=False) == asked
    assert image_sizes(load("smoke", given), "any", compared=True) == asked | {
        "compare_lr.entries.0 (small): recipe.image_size=40": 40
    }
    own = load("smoke", {**given, "recipe.image_size": "48"})
    assert image_sizes(own, "any", compared=False) == {"recipe.image_size=48": 48}
    searched = image_sizes(load("smoke", {**given, "search.space": CHOICES}), "any", compared=False)
    assert set(searched.values()) == {32, 64}


def test_a_size_that_is_searched_for_one_backbone_alone_is_not_asked_of_another() -> None:
    space = (
        "[{sets: model.backbone, choices: [test_resnet, test_vit]}, "
        "{sets: recipe.image_size, choices: [96], when: {model.backbone: test_resnet}}]"
    )
    config = load("smoke", {"data.image_size": "160", "search.space": space})
    assert set(image_sizes(config, "test_vit", compared=False).values()) == {160}
    assert image_sizes(config, "test_resnet", compared=False) == {
        "data.image_size=160": 160,
        "search.space.1.sets=recipe.image_size: 96": 96,
    }
