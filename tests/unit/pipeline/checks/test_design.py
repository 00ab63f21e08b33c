"""What a design does not allow is refused before anything starts: nothing is stopped or picked on what certifies."""

import pytest

from components.errors import InputError
from pipeline.config import Config
from pipeline.loading import load

RATE = {"sets": "recipe.lr", "bounds": "range_test"}


def loaded(**overrides) -> Config:
    return load("smoke", {key.replace("__", "."): value for key, value in overrides.items()})


def faults(**overrides) -> list[str]:
    with pytest.raises(InputError) as caught:
        loaded(**overrides)
    return str(caught.value).splitlines()


def test_an_ensemble_needs_the_networks_of_the_folds() -> None:
    (fault,) = faults(serving__deliver="ensemble", data__design="hold_out")
    assert fault.startswith("serving.deliver=ensemble: data.design=hold_out trains one network; set data.design to")
    for design, deliver in (("cross_fit", "ensemble"), ("auto", "ensemble"), ("hold_out", "single")):
        assert loaded(serving__deliver=deliver, data__design=design).serving.deliver == deliver


def test_there_are_as_many_networks_as_folds_at_most() -> None:
    (fault,) = faults(train__networks=4)
    assert fault.startswith("train.networks=4: there is a network for each fold at most, and data.num_folds=3")
    (fault,) = faults(train__networks=2, data__design="hold_out")
    assert fault.startswith("train.networks=2: data.design=hold_out trains one network")
    (fault,) = faults(train__networks=1, serving__deliver="single")
    assert fault.endswith("train.networks=1; set train.networks to 2 at least, or serving.deliver to auto")
    (fault,) = faults(train__networks=0)
    assert fault.startswith("search.num_trials=4: recipes of networks are searched, and train.networks=0 trains none")
    assert loaded(train__networks=0, search__num_trials=0).train.networks == 0
    assert loaded(train__networks=3).train.networks == 3


@pytest.mark.parametrize("action", ["stop", "rollback"])
def test_a_monitor_that_ends_trainings_needs_images_that_certify_nothing(action: str) -> None:
    for design, certify in (("cross_fit", "certify"), ("auto", "may certify")):
        (fault,) = faults(monitor__action=action, data__design=design)
        assert fault == (
            f"monitor.action={action}: it keeps the best epoch on validation images, and with data.design={design} "
            f"these {certify} the model; set data.design to hold_out, which holds images out for this, or "
            "monitor.action to observe"
        )
    assert loaded(monitor__action=action, data__design="hold_out").monitor.action == action


@pytest.mark.parametrize("action", ["none", "observe"])
def test_one_that_only_observes_goes_with_any_design(action: str) -> None:
    assert loaded(monitor__action=action, data__design="cross_fit").monitor.action == action


def test_a_schedule_that_follows_the_validation_loss_needs_them_too_also_where_it_is_searched() -> None:
    (fault,) = faults(recipe__schedule="plateau", data__design="cross_fit")
    assert fault.startswith("recipe.schedule=plateau: it follows the validation loss")
    assert fault.endswith("set data.design to hold_out, which holds images out for this, or another schedule")
    assert loaded(recipe__schedule="plateau", data__design="hold_out").recipe.schedule == "plateau"
    schedules = {"sets": "recipe.schedule", "choices": ["cosine", "plateau"]}
    searched = {"search__space": [RATE, schedules], "search__horizon": "fixed", "data__design": "cross_fit"}
    (fault,) = faults(**searched)
    assert fault.startswith("recipe.schedule=plateau")
    assert loaded(**searched, recipe__schedule="cosine").recipe.schedule == "cosine"  # pinned
    assert loaded(**searched, search__num_trials=1).search.num_trials == 1  # not searched
    (fault,) = faults(**searched | {"data__design": "auto"})
    assert "with data.design=auto these images may certify the model; set data.design to hold_out" in fault
