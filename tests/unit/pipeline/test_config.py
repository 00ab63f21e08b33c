"""The configuration: what is refused and in which words, which value wins, what follows from the rest."""

import json
import typing

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from components.errors import InputError
from pipeline.config import Config, TrainConfig
from pipeline.loading import for_comparison, load, shipped_configs
from pipeline.overriding import override
from pipeline.sections.recipe import ModelConfig, Recipe, RecipeConfig
from pipeline.sections.search import DEFAULT_SPACE, SearchConfig
from pipeline.yaml_text import write_yaml


def faults_of(overrides: dict, source: str = "smoke") -> list[str]:
    with pytest.raises(InputError) as caught:
        load(source, overrides)
    return str(caught.value).splitlines()


@pytest.fixture
def written(tmp_path):
    def write(values: object) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(values if isinstance(values, str) else yaml.safe_dump(values), encoding="utf-8")
        return str(path)

    return write


# --- reading


def test_default_demo_and_smoke_are_shipped() -> None:
    assert {"default", "demo", "smoke"} <= set(shipped_configs())


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_configuration_loads(name: str) -> None:
    assert isinstance(load(name), Config)


@pytest.mark.parametrize("name", shipped_configs())
def test_every_shipped_configuration_survives_json_and_yaml(name: str) -> None:
    config = load(name)
    plain = config.model_dump(mode="json")
    assert Config.model_validate(json.loads(json.dumps(plain))) == config
    assert Config.model_validate(yaml.safe_load(yaml.safe_dump(plain))) == config


def test_a_resolved_configuration_loads_to_itself(written) -> None:
    config = load("demo", {"recipe.optimizer": "sgd"})
    assert load(written(config.model_dump(mode="json"))) == config


def test_an_empty_file_holds_the_defaults(written) -> None:
    assert load(written("")).train == TrainConfig()


def test_every_key_has_a_default() -> None:
    assert Config() == Config.model_validate({})


def test_a_key_that_stands_twice_in_a_file_is_refused(written) -> None:
    with pytest.raises(InputError, match=r"mine\.yaml: recipe stands twice, on lines 1 and 3"):
        load(written("recipe: {batch_size: 16}\ntrain: {epochs: 2}\nrecipe:\n  lr: 0.003\n"))


def test_a_dotted_key_in_a_file_is_answered_with_how_to_write_it(written) -> None:
    with pytest.raises(InputError, match="write the parts of a key one below the other"):
        load(written("data.good_labels: [a]\n"))


def test_a_printed_configuration_loads_to_itself(written) -> None:
    config = load("smoke", {"data.good_labels": "[010, no]", "recipe.lr": "1e-3", "data.metadata_columns": "[1e3]"})
    assert load(written(write_yaml(config.model_dump(mode="json")))) == config


def test_a_file_that_is_not_there_names_the_shipped_ones() -> None:
    with pytest.raises(InputError, match=r"config=nope: no such file; .*default, demo, smoke"):
        load("nope")


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "just words"])
def test_a_file_that_is_not_a_mapping_is_refused(written, text: str) -> None:
    with pytest.raises(InputError, match="config="):
        load(written(text))


def test_sections_are_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        load("smoke").train.epochs = 3  # type: ignore[misc]


# --- precedence and parsing


def test_an_override_beats_the_file_and_the_file_the_default(written) -> None:
    path = written({"train": {"epochs": 5, "patience": 4}})
    config = load(path, {"train.epochs": "7"})
    assert (config.train.epochs, config.train.patience) == (7, 4)
    assert config.search.max_epochs == Config().search.max_epochs


def test_an_override_leaves_its_neighbours_in_a_nested_section_alone() -> None:
    config = load("demo", {"promote.gates.min_auroc": "0.9"})
    assert config.promote.gates.min_auroc == 0.9
    assert config.promote.gates.max_escape_rate == load("demo").promote.gates.max_escape_rate


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("recipe.lr", "1e-4", 1e-4),
        ("recipe.lr", "auto", "auto"),
        ("recipe.lr", "1", 1.0),
        ("recipe.weight_decay", "1E-2", 0.01),
        ("train.epochs", "3", 3),
        ("recipe.ema_decay", "null", None),
        ("recipe.ema_decay", "0.99", 0.99),
        ("data.good_labels", "[ok, fine]", ("ok", "fine")),
        ("data.good_labels", "[1, 2]", ("1", "2")),
        ("data.source", "csv:/a, b.csv", "csv:/a, b.csv"),
        ("data.source", "folder:C:\\images", "folder:C:\\images"),
        ("project.name", "007", "007"),
        ("data.metadata_columns", "[]", ()),
    ],
)
def test_an_override_is_read_as_yaml(key: str, text: str, value: object) -> None:
    node = load("smoke", {key: text})
    for part in key.split("."):
        node = getattr(node, part)
    assert node == value
    assert type(node) is type(value)


def test_text_that_only_looks_like_a_date_is_text() -> None:
    assert load("smoke", {"project.name": "2024-13-45"}).project.name == "2024-13-45"


def test_overriding_a_section_gives_a_new_one() -> None:
    before = Recipe(model=ModelConfig(), recipe=RecipeConfig())
    after = override(before, {"recipe.lr": "1e-3", "model.drop_rate": 0.2})
    assert (after.recipe.lr, after.model.drop_rate) == (1e-3, 0.2)
    assert (before.recipe.lr, before.model.drop_rate) == ("auto", 0.0)
    assert override(before, {}) == before


# --- faults


def test_all_faults_are_reported_at_once_with_their_paths() -> None:
    faults = faults_of(
        {
            "train.epochs": "0",
            "search.num_trials": "many",
            "data.splits.train": "0.9",
            "compute.device": "gpu",
            "recipe.lr": "-1",
        }
    )
    assert any(fault.startswith("train.epochs=0: ") and "1" in fault for fault in faults)
    assert any(fault.startswith("search.num_trials=many: ") for fault in faults)
    assert "data.splits: the four fractions sum to 1.4; they must sum to 1" in faults
    assert any(fault.startswith("compute.device=gpu: ") and "'cuda'" in fault for fault in faults)
    assert "recipe.lr=-1: must be greater than 0, or auto" in faults
    assert len(faults) == 5


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("train.epoch", "epochs"),
        ("recipe.optimiser", "optimizer"),
        ("data.splits.calibraton", "calibration"),
        ("promote.gates.max_escape", "max_escape_rate"),
        ("recipes.lr", "recipe"),
    ],
)
def test_a_misspelt_key_is_answered_with_the_one_that_was_meant(key: str, meant: str) -> None:
    fault = next(f for f in faults_of({key: "1"}) if "unknown key" in f)
    assert fault.endswith(f"did you mean {meant}?")


def test_a_key_that_has_moved_names_its_new_place() -> None:
    assert faults_of({"compute.precision": "bfloat16"}) == [
        "compute.precision: is now recipe.precision; write it there"
    ]


def test_a_misspelt_key_of_a_searched_dimension_is_answered_too() -> None:
    faults = faults_of({"search.space": "[{sets: recipe.lr, bounds: range_test, lo: 1}]"})
    assert faults == ["search.space.0.lo: unknown key; did you mean low?"]


def test_an_unknown_key_that_is_like_no_other_lists_those_that_are_known() -> None:
    assert faults_of({"train.zzz": "1"}) == ["train.zzz: unknown key; known here: epochs, patience, networks"]


@pytest.mark.parametrize("key", ["", "train.", ".epochs", "train..epochs", "train.epochs.deep", "seed.deep"])
def test_a_path_that_leads_nowhere_is_refused(key: str) -> None:
    assert faults_of({key: "1"})


def test_a_section_that_is_no_section_is_refused(written) -> None:
    with pytest.raises(InputError, match="train=3: "):
        load(written({"train": 3}))


@pytest.mark.parametrize("value", [".nan", ".inf", "0", "-1e-3", "fast"])
def test_a_learning_rate_that_is_no_positive_number_is_refused(value: str) -> None:
    assert all(fault.startswith("recipe.lr=") for fault in faults_of({"recipe.lr": value}))


def test_a_rung_beyond_the_last_epoch_is_refused() -> None:
    assert faults_of({"search.grace_epochs": "9"}) == ["search: grace_epochs=9 must not exceed max_epochs=3"]


@pytest.mark.parametrize(("length", "rung"), [(1, 1), (3, 3), (9, 3), (10, 4), (27, 9)])
def test_the_first_rung_is_at_a_third_of_the_length_and_at_three_epochs_at_least(length: int, rung: int) -> None:
    assert SearchConfig(max_epochs=length).first_rung == rung
    assert SearchConfig(max_epochs=length, grace_epochs=1).first_rung == 1


def test_a_rung_before_the_first_epoch_is_refused() -> None:
    assert faults_of({"search.grace_epochs": "0"}) == ["search.grace_epochs=0: give at least 1, or auto"]


def test_an_object_store_is_refused_for_the_storage() -> None:
    assert "give a folder" in faults_of({"storage.root": "s3://bucket/x"})[0]


# --- what follows from the rest


def test_names_default_to_the_project() -> None:
    config = load("smoke", {"project.name": "castings"})
    assert (config.promote.model_name, config.tracking.experiment) == ("castings", "castings")
    given = load("smoke", {"promote.model_name": "m", "tracking.experiment": "e"})
    assert (given.promote.model_name, given.tracking.experiment) == ("m", "e")


def test_the_range_test_covers_the_recipe_and_the_searched_optimizers() -> None:
    assert load("smoke").lr_range_test.optimizers == ("adamw", "sgd")
    space = "[{sets: recipe.optimizer, choices: [sgd, adam]}]"
    assert load("smoke", {"search.space": space}).lr_range_test.optimizers == ("adamw", "sgd", "adam")


@pytest.mark.parametrize(
    ("changes", "folds"),
    [({}, 3), ({"budget": "5min"}, 5), ({"budget": "5min", "data.num_folds": 4}, 4),
     ({"budget": "5min", "data.design": "hold_out"}, 3)],
)  # fmt: skip
def test_with_a_budget_each_network_learns_from_four_fifths_unless_folds_are_given(changes, folds) -> None:
    assert load("demo", changes).data.num_folds == folds


def test_without_a_search_only_the_optimizer_of_the_recipe_is_range_tested() -> None:
    choices = [{"sets": "recipe.lr", "bounds": "range_test"}, {"sets": "recipe.optimizer", "choices": ["sgd", "adamw"]}]
    backbones = [*choices, {"sets": "model.backbone", "choices": ["resnet18", "test_resnet"]}]
    single = {"search.space": backbones, "search.num_trials": 1, "recipe.optimizer": "sgd"}
    config = load("smoke", {**single, "search.space": backbones})
    assert config.lr_range_test.optimizers == ("sgd",)
    assert config.embed.backbones == config.lr_range_test.backbones == (config.model.backbone,)
    pinned = {key: value for key, value in single.items() if key != "recipe.optimizer"}
    assert set(load("smoke", pinned | {"search.num_trials": 4}).lr_range_test.optimizers) == {"sgd", "adamw"}


def test_pinning_a_searched_key_takes_it_out_of_the_space() -> None:
    config = load("smoke", {"recipe.optimizer": "sgd", "recipe.lr": "0.1"})
    remaining = [dimension.sets for dimension in config.search.space]
    assert remaining == [d.sets for d in DEFAULT_SPACE if d.sets not in ("recipe.optimizer", "recipe.lr")]
    assert config.lr_range_test.optimizers == ("sgd",)
    assert (config.recipe.optimizer, config.recipe.lr) == ("sgd", 0.1)


def test_a_value_in_the_file_does_not_pin(written) -> None:
    config = load(written({"recipe": {"optimizer": "sgd"}}))
    assert "recipe.optimizer" in [dimension.sets for dimension in config.search.space]


def test_pinning_everything_leaves_nothing_to_search() -> None:
    pinned = {dimension.sets: "0.5" for dimension in DEFAULT_SPACE} | {"recipe.optimizer": "sgd"}
    assert "search.space: empty" in faults_of(pinned)[0]
    assert load("smoke", {**pinned, "search.num_trials": "1"}).search.space == ()
    assert load("smoke", {**pinned, "search.num_trials": "0"}).search.space == ()


@pytest.mark.parametrize(
    "key",
    [
        "recipe.schedule",
        "recipe.ema_decay",
        "recipe.final_lr_fraction",
        "recipe.schedule_drops",
        "recipe.objective",
        "recipe.precision",
        "model.weights",
    ],
)
def test_a_searched_key_that_something_else_decides_is_refused(key: str) -> None:
    faults = faults_of({"search.space": f"[{{sets: {key}, choices: [1, 2]}}]"})
    assert len(faults) == 1
    assert f"sets={key}: cannot be searched: " in faults[0]


# --- samplers, schedulers and horizons that go together


def test_an_unknown_scheduler_is_refused_with_those_that_there_are() -> None:
    (fault,) = faults_of({"search.scheduler": "pbt"})
    assert "search.scheduler=pbt" in fault
    assert "'auto', 'asha', 'hyperband', 'median' or 'none'" in fault


@pytest.mark.parametrize(
    ("settings", "rule", "remedy"),
    [
        (
            {"sampler": "grid", "scheduler": "asha"},
            "sampler=grid compares trials of full length",
            "random, tpe or hybrid",
        ),
        ({"sampler": "lipschitz", "scheduler": "median"}, "scheduler=median ends them early", "scheduler none"),
        ({"sampler": "random", "folds": 5}, "folds=5: only the sampler grid cross-validates", "set folds to 0"),
        (
            {"scheduler": "median", "horizon": "wsd"},
            "horizon=wsd cools them down at the rungs alone",
            "horizon constant",
        ),
        (
            {"horizon": "fixed", "max_epochs": 9, "grace_epochs": 2},
            "grace_epochs=2 must be a quarter of max_epochs=9 at least",
            "at least: 3",
        ),
    ],
)
def test_a_sampler_a_scheduler_and_a_horizon_that_do_not_go_together_are_refused(
    settings: dict, rule: str, remedy: str
) -> None:
    (fault,) = faults_of({f"search.{key}": value for key, value in settings.items()})
    assert fault.startswith("search: ")
    assert rule in fault
    assert remedy in fault


@pytest.mark.parametrize(
    ("settings", "scheduler"),
    [
        ({"sampler": "hybrid"}, "asha"),
        ({"sampler": "tpe"}, "asha"),
        ({"sampler": "random"}, "asha"),
        ({"sampler": "grid"}, "none"),
        ({"sampler": "lipschitz"}, "none"),
        ({"sampler": "hierarchical"}, "none"),
        ({"sampler": "random", "scheduler": "median"}, "median"),
        ({"sampler": "random", "scheduler": "hyperband", "horizon": "wsd"}, "hyperband"),
        ({"sampler": "grid", "scheduler": "none"}, "none"),
        ({"sampler": "grid", "folds": 5}, "none"),
        ({"horizon": "fixed", "max_epochs": 9, "grace_epochs": 3}, "asha"),
        ({"horizon": "fixed", "max_epochs": 9, "scheduler": "none"}, "none"),
    ],
)
def test_what_goes_together_is_taken_and_the_automatic_scheduler_follows_the_sampler(
    settings: dict, scheduler: str
) -> None:
    assert SearchConfig(**settings).scheduler_name == scheduler


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("folds", 1),
        ("reduction_factor", 1),
        ("unstopped_fraction", 1.5),
        ("fork_fraction", 0),
        ("confirm", "sometimes"),
        ("confirm_seeds", 0),
        ("confirm_confidence", 0.5),
        ("gpu_hours", 0),
        ("time_budget_minutes", -1),
        ("failure_limit", 0),
        ("sampler", "bayes"),
        ("scheduler", "bohb"),
    ],
)
def test_a_value_out_of_its_range_names_its_key(key: str, value: object) -> None:
    (fault,) = faults_of({f"search.{key}": value})
    assert fault.startswith(f"search.{key}={value}: ")


@pytest.mark.parametrize(
    ("dimension", "words"),
    [
        ("{sets: train.epochs, low: 1, high: 3}", "train: unknown key"),
        ("{sets: recipe.lrr, choices: [1]}", "did you mean lr?"),
        ("{sets: recipe.optimizer, choices: [adamw, adamz]}", "adamz"),
        ("{sets: recipe.weight_decay, low: 0.1, high: 3}", "recipe.weight_decay=3"),
        ("{sets: recipe.batch_size, low: 16, high: 64}", "recipe.batch_size"),
        ("{sets: recipe.lr, low: 3, high: 1}", "low=3 must be below high=1"),
        ("{sets: recipe.lr, low: 3}", "needs both low and high"),
        ("{sets: recipe.lr, low: 0, high: 1, log: true}", "above 0 on a log scale"),
        ("{sets: recipe.lr, choices: []}", "choices is empty"),
        ("{sets: recipe.lr}", "exactly one of"),
        ("{sets: recipe.lr, bounds: range_test, choices: [1]}", "exactly one of"),
        ("{sets: recipe.weight_decay, bounds: range_test}", "for recipe.lr only"),
        ("{low: 1, high: 2}", "search.space.0.sets"),
    ],
)
def test_a_dimension_that_no_trial_could_take_is_refused(dimension: str, words: str) -> None:
    faults = faults_of({"search.space": f"[{dimension}]"})
    assert any(words in fault for fault in faults)
    assert all(fault.startswith("search.space.0") for fault in faults)


def test_a_key_that_is_searched_twice_is_reported_once() -> None:
    twice = "[{sets: recipe.lr, bounds: range_test}, {sets: recipe.lr, low: 0.1, high: 1}]"
    assert faults_of({"search.space": twice}) == ["search.space.0.sets=recipe.lr: searched 2 times; keep one"]


@pytest.mark.parametrize("optimizers", ["[adam]", "[adamw]"])
def test_a_range_test_that_leaves_out_an_optimizer_that_needs_it_is_refused(optimizers: str) -> None:
    assert any(f.startswith("lr_range_test.optimizers") for f in faults_of({"lr_range_test.optimizers": optimizers}))


def test_a_list_of_backbones_that_leaves_out_one_that_is_searched_is_refused() -> None:
    space = "[{sets: recipe.lr, bounds: range_test}, {sets: model.backbone, choices: [test_resnet, test_vit]}]"
    own = load("smoke").model.backbone
    (fault,) = faults_of({"search.space": space, "embed.backbones": f"[{own}, test_vit]"})
    assert fault == (
        f"embed.backbones={own}, test_vit: leaves out test_resnet, which trainings may use; add it, or null for "
        "all that are used"
    )


def test_a_range_test_that_leaves_out_a_backbone_that_is_searched_is_refused_as_well() -> None:
    space = "[{sets: recipe.lr, bounds: range_test}, {sets: model.backbone, choices: [test_resnet, test_vit]}]"
    (fault,) = faults_of({"search.space": space, "lr_range_test.backbones": "[test_vit]"})
    assert fault.startswith("lr_range_test.backbones=test_vit: leaves out test_resnet, which trainings may use")


def test_a_backbone_that_is_embedded_only_is_not_range_tested_and_a_comparison_tests_the_models_own() -> None:
    own = load("smoke").model.backbone
    assert load("smoke", {"embed.backbones": f"[{own}, test_vit]"}).lr_range_test.backbones == (own,)
    space = "[{sets: recipe.lr, bounds: range_test}, {sets: model.backbone, choices: [test_resnet]}]"
    searched = load("smoke", {"search.space": space, "search.num_trials": "4"})
    assert searched.lr_range_test.backbones == (own, "test_resnet")
    assert for_comparison(searched).lr_range_test.backbones == (own,)
    assert load("smoke", {"lr_range_test.backbones": "[test_vit]"}).embed.backbones == (own, "test_vit")


def test_a_client_from_outside_a_cluster_is_refused() -> None:
    (fault,) = faults_of({"compute.ray_address": "ray://head:10001"})
    assert fault.startswith("compute.ray_address=ray://head:10001: trials do not run through Ray Client")


def test_an_automatic_rate_may_be_one_of_the_choices() -> None:
    space = "[{sets: recipe.lr, choices: [auto, 1e-3]}, {sets: recipe.weight_decay, choices: [0, 0.1]}]"
    assert load("smoke", {"search.space": space}).search.space[0].choices == ("auto", 0.001)
    untested = {"search.space": space, "lr_range_test.optimizers": "[sgd]"}
    assert "leaves out adamw" in faults_of(untested)[0]
    assert load("smoke", {**untested, "recipe.lr": "0.1"}).recipe.lr == 0.1  # pinned: nothing asks the range test


def test_searched_values_are_held_as_their_keys_hold_them() -> None:
    rate = "{sets: recipe.lr, low: 1e-4, high: 1, when: {recipe.optimizer: SGD}}"
    space = f"[{{sets: recipe.optimizer, choices: [AdamW, SGD]}}, {rate}]"
    config = load("smoke", {"search.space": space})
    assert config.search.space[0].choices == ("adamw", "sgd")
    assert config.search.space[1].when == {"recipe.optimizer": "sgd"}
    assert config.lr_range_test.optimizers == ("adamw", "sgd")


def test_an_empty_list_of_optimizers_means_those_that_are_used() -> None:
    assert load("smoke", {"lr_range_test.optimizers": "[]"}).lr_range_test.optimizers == ("adamw", "sgd")


def test_a_range_test_of_further_optimizers_is_allowed() -> None:
    assert load("smoke", {"lr_range_test.optimizers": "[sgd, adamw, adam]"}).lr_range_test.optimizers[2] == "adam"


def test_a_range_test_may_leave_out_an_optimizer_whose_rate_is_given() -> None:
    given = {"recipe.lr": "0.1", "recipe.optimizer": "sgd", "lr_range_test.optimizers": "[adam]"}
    assert load("smoke", given).lr_range_test.optimizers == ("adam",)


# --- defect types only


def test_without_a_good_class_nothing_may_ask_for_a_defect_score() -> None:
    faults = faults_of({"data.good_labels": "[]"})
    assert [fault.split("=")[0] for fault in faults] == ["recipe.objective", "promote.gates.min_balanced_accuracy"]


def test_without_a_good_class_balanced_accuracy_is_objective_and_gate() -> None:
    given = {
        "data.good_labels": "[]",
        "recipe.objective": "balanced_accuracy",
        "promote.gates.min_balanced_accuracy": "0.6",
    }
    assert load("smoke", given).data.good_labels == ()


# --- the one place of each key


def leaves(kind: type[BaseModel], prefix: str = "") -> dict[str, typing.Any]:
    found = {}
    for name, field in kind.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found |= leaves(field.annotation, f"{prefix}{name}.")
        else:
            found[prefix + name] = field
    return found


def test_every_key_can_be_reached_by_its_dotted_path() -> None:
    config = load("smoke")
    plain = config.model_dump()
    for path in leaves(Config):
        node = plain
        for part in path.split("."):
            node = node[part]
        value = node
        if path in ("search.space", "lr_range_test.optimizers"):
            continue
        assert override(config, {path: value}) == config, path


def test_a_plain_string_keeps_what_yaml_would_cut_or_read_otherwise() -> None:
    assert load("smoke", {"data.source": "folder:/lots/lot #2"}).data.source == "folder:/lots/lot #2"
    assert load("smoke", {"data.good_labels": "[good, 'no']"}).data.good_labels == ("good", "no")


@pytest.mark.parametrize("key", ["recipe.lr", "train.epochs", "recipe.weight_decay"])
def test_true_is_no_number(tmp_path, key: str) -> None:
    section, name = key.split(".")
    path = tmp_path / "config.yaml"
    path.write_text(f"{section}: {{{name}: true}}", encoding="utf-8")
    with pytest.raises(InputError, match=name):
        load(path)


@pytest.mark.parametrize("name", ["a/b", "../../x", "a b"])
def test_a_model_name_is_safe_as_a_file_and_in_the_registry(name: str) -> None:
    with pytest.raises(InputError, match=r"promote\.model_name"):
        load("smoke", {"promote.model_name": name})
