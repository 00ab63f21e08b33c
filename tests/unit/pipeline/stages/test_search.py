"""What the search stage decides by itself: whose rate a trial gets, and which trial is the best."""

from types import SimpleNamespace

import pytest

from components.errors import InputError
from components.search.tuner import TrialResult
from pipeline.loading import load
from pipeline.sections.recipe import Recipe
from pipeline.stages import search

BOUNDS = {
    "adamw": SimpleNamespace(lower=1e-5, upper=1e-3, suggested=3e-4),
    "sgd": SimpleNamespace(lower=1e-3, upper=1e-1, suggested=2e-2),
}


def result(
    index: int, score: float | None, *, epochs: int = 3, status: str = "completed", scores: tuple[float, ...] = ()
) -> TrialResult:
    return TrialResult(index=index, status=status, epochs=epochs, score=score, scores=scores, seconds=1.0, message="")


def own_rate(trial: dict, configured: Recipe, *, within_bounds: bool = False) -> dict:
    return search._with_own_rate(trial, configured, BOUNDS, within_bounds=within_bounds)


@pytest.fixture
def configured() -> Recipe:
    config = load("smoke")
    return Recipe(model=config.model, recipe=config.recipe)


def test_an_automatic_rate_is_that_of_the_trials_own_optimizer(configured) -> None:
    assert own_rate({"recipe.optimizer": "sgd"}, configured)["recipe.lr"] == 2e-2
    assert own_rate({"recipe.optimizer": "adamw"}, configured)["recipe.lr"] == 3e-4
    chosen = {"recipe.optimizer": "sgd", "recipe.lr": "auto"}
    assert own_rate(chosen, configured)["recipe.lr"] == 2e-2


def test_a_rate_that_the_trial_sets_stays(configured) -> None:
    trial = {"recipe.optimizer": "sgd", "recipe.lr": 0.5}
    assert own_rate(trial, configured) == trial


def test_a_rate_of_the_range_test_follows_the_batch_size_of_the_trial(configured) -> None:
    four_times = {"recipe.batch_size": 64}  # the recipe's is 16
    sgd = own_rate({**four_times, "recipe.optimizer": "sgd", "recipe.lr": 0.01}, configured, within_bounds=True)
    assert sgd["recipe.lr"] == pytest.approx(0.04)
    adamw = own_rate({**four_times, "recipe.lr": 0.01}, configured, within_bounds=True)
    assert adamw["recipe.lr"] == pytest.approx(0.02)
    lamb = own_rate({**four_times, "recipe.optimizer": "lamb", "recipe.lr": 0.01}, configured, within_bounds=True)
    assert lamb["recipe.lr"] == pytest.approx(0.02)  # one of timm's, adaptive
    assert own_rate(four_times, configured)["recipe.lr"] == pytest.approx(2 * 3e-4)
    assert own_rate({**four_times, "recipe.lr": 0.01}, configured)["recipe.lr"] == 0.01


@pytest.mark.parametrize(
    ("trial", "ema_decay"),
    [({}, 0.9), ({"recipe.optimizer": "sgd"}, 0.9), ({"recipe.optimizer": "schedulefree_adamw"}, None)],
)
def test_trials_run_at_a_constant_rate_on_averages_of_one_kind(configured, trial: dict, ema_decay) -> None:
    recipe = search._at_horizon(configured, trial, load("smoke").search).recipe
    assert (recipe.schedule_name, recipe.ema_decay) == ("fixed", ema_decay)


def test_a_schedule_free_default_averages_by_itself_unless_the_trial_has_another_optimizer(configured) -> None:
    default = search.override(configured, {"recipe.optimizer": "schedulefree_sgd"})
    settings = load("smoke").search
    assert search._at_horizon(default, {}, settings).recipe.ema_decay is None
    assert search._at_horizon(default, {"recipe.optimizer": "adamw"}, settings).recipe.ema_decay == 0.9


def test_the_configured_space_becomes_one_of_the_trials(configured) -> None:
    config = load("smoke")
    ranges = {"adamw": (1e-5, 1e-3), "sgd": (1e-3, 1e-1)}
    space = [search._expand(dimension, ranges, config.recipe) for dimension in config.search.space]
    assert [dimension.sets for dimension in space] == [dimension.sets for dimension in config.search.space]
    rate = next(dimension for dimension in space if dimension.sets == "recipe.lr")
    assert rate.bounds == ranges
    assert rate.default == "adamw"


def test_the_range_is_widened_where_weight_decay_is_searched_and_this_is_said() -> None:
    config = load("smoke")
    settings = config.search
    ranges = search._searched_ranges(settings, BOUNDS)
    assert ranges["adamw"] == pytest.approx((1e-5 / 1.5, 1.5e-3))
    assert "factor of 1.5" in search._adjustments(settings, config.recipe)[0]
    without = settings.model_copy(update={"space": tuple(d for d in settings.space if d.sets == "recipe.lr")})
    assert search._searched_ranges(without, BOUNDS)["adamw"] == (1e-5, 1e-3)
    assert search._adjustments(without, config.recipe) == []
    assert search._searched_ranges(settings.model_copy(update={"space": ()}), BOUNDS) == {}


def test_best_and_defaults_are_compared_after_the_last_epoch_that_both_reached() -> None:
    defaults = result(0, 0.6, epochs=1, status="stopped", scores=(0.6,))
    best = result(1, 0.9, scores=(0.65, 0.8, 0.9))
    assert search._gain(best, [defaults, best]) == {
        "score": 0.65,
        "score_of_defaults": 0.6,
        "compared_at_epoch": 1,
        "gain": pytest.approx(0.05),
    }
    assert search._gain(defaults, [defaults])["gain"] == 0.0


def test_without_a_score_of_the_defaults_there_is_no_gain() -> None:
    diverged = result(0, None, status="diverged", scores=(0.7,))
    best = result(1, 0.9, scores=(0.65, 0.8, 0.9))
    gain = search._gain(best, [diverged, best])
    assert (gain["score"], gain["score_of_defaults"], gain["gain"]) == (0.9, None, None)
    assert search._gain(None, [])["gain"] is None


def test_the_settings_of_a_trial_are_the_whole_recipe_with_dotted_keys(configured) -> None:
    settings = search.effective_settings(configured, {"recipe.lr": 0.5, "model.drop_rate": 0.1})
    assert (settings["recipe.lr"], settings["model.drop_rate"]) == (0.5, 0.1)
    assert settings["recipe.batch_size"] == 16
    assert set(settings) == {f"recipe.{key}" for key in type(configured.recipe).model_fields} | {
        f"model.{key}" for key in type(configured.model).model_fields
    }


def test_the_best_is_sought_among_those_that_went_furthest() -> None:
    early = result(2, 0.99, epochs=1, status="stopped")
    assert search._best([result(0, 0.7), result(1, 0.8), early]).index == 1


def test_of_equal_trials_the_first_is_kept_so_that_the_defaults_win_ties() -> None:
    assert search._best([result(1, 0.8), result(0, 0.8)]).index == 0


def test_what_diverged_or_failed_is_never_the_best() -> None:
    results = [result(0, None, status="failed"), result(1, None, status="diverged"), result(2, 0.1, epochs=1)]
    assert search._best(results).index == 2
    assert search._best(results[:2]) is None
    assert search._best([]) is None


def test_a_search_in_which_nothing_learned_is_said_with_the_remedy() -> None:
    failed, diverged = result(0, None, status="failed"), result(1, None, status="diverged")
    with pytest.raises(RuntimeError, match="all 1 trials failed"):
        search._raise_if_all_failed([failed])
    with pytest.raises(InputError, match=r"lower the bounds of recipe\.lr"):
        search._raise_if_all_failed([failed, diverged])
    search._raise_if_all_failed([failed, result(1, 0.5)])


def test_a_trial_table_has_a_row_per_trial_with_its_settings(configured) -> None:
    trials = [{}, {"recipe.optimizer": "sgd", "recipe.lr": 0.1, "recipe.weight_decay": 0.02}]
    table = search.trial_table(
        search.override(configured, {"recipe.lr": 3e-4}), trials, [result(0, 0.5), result(1, None, status="failed")]
    )
    assert table["optimizer"].tolist() == ["adamw", "sgd"]
    assert table["lr"].tolist() == [3e-4, 0.1]
    assert table["status"].tolist() == ["completed", "failed"]
    assert table.loc[1, "recipe.weight_decay"] == 0.02
