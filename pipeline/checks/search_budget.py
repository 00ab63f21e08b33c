"""Checks of a search before anything starts: the sampler and the storage of checkpoints."""

from __future__ import annotations

from pipeline.config import ComputeConfig, Config
from pipeline.sections.recipe import Recipe

#: Arbitrary bounds in place of those of a later range test.
ANY_BOUNDS = (1e-5, 1.0)


def check_search(config: Config) -> None:
    """Raise `InputError` if the sampler cannot search the space, or checkpoints cannot be written."""
    if config.search.num_trials > 1:
        _check_sampler(config)
    if config.compute.trial_storage is not None:
        check_trial_storage(config.compute)


def check_trial_storage(compute: ComputeConfig) -> None:
    """Raise `InputError` if checkpoints cannot be written to `compute.trial_storage`."""
    from components.errors import InputError
    from components.search.checkpoints import open_location

    place = compute.trial_storage
    assert place is not None
    try:
        system, folder = open_location(place)
        system.create_dir(folder, recursive=True)
        with system.open_output_stream(f"{folder}/.escapement") as stream:
            stream.write(b"")
        system.delete_file(f"{folder}/.escapement")
    except (OSError, ValueError) as error:
        raise InputError(
            f"compute.trial_storage={place}: cannot be written ({str(error).splitlines()[0]}); give a folder that "
            "every node sees, or the URI of an object store that you may write, such as s3://bucket/trials"
        ) from error


def _check_sampler(config: Config) -> None:
    from components.search.samplers import build_sampler
    from components.search.space import Space
    from pipeline.search_space import expand, sampler_settings, settings_of

    tests = config.lr_range_test
    rates = {
        (backbone, optimizer): ANY_BOUNDS for backbone in tests.backbones or () for optimizer in tests.optimizers or ()
    }
    default = Recipe(model=config.model, recipe=config.recipe.model_copy(update={"lr": ANY_BOUNDS[0]}))
    dimensions = tuple(expand(entry, rates, config.recipe.batch_size) for entry in config.search.space)
    space = Space(dimensions, settings_of(default))
    build_sampler(config.search.sampler, sampler_settings(config.search, space, seed=0))
