"""Checks before anything starts of what a design of the data allows.

With folds, the images that a network is scored on certify its model. So nothing may be stopped, picked or adapted by
them during its training.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.config import Config
from pipeline.sections.search import Dimension

REMEDY = "; set data.design to hold_out, which holds images out for this"


def design_faults(config: Config, space: Iterable[Dimension]) -> list[str]:
    """One line for each fault. space: what is searched."""
    design, faults, networks = config.data.design, [], config.train.networks
    if networks and design == "hold_out":
        faults.append(
            f"train.networks={networks}: data.design=hold_out trains one network; leave it out, or set data.design to "
            "cross_fit or auto"
        )
    elif networks and networks > config.data.num_folds:
        faults.append(
            f"train.networks={networks}: there is a network for each fold at most, and data.num_folds="
            f"{config.data.num_folds}; give at most as many"
        )
    if networks == 0 and config.search.num_trials:
        faults.append(
            f"search.num_trials={config.search.num_trials}: recipes of networks are searched, and train.networks=0 "
            "trains none; set search.num_trials to 0, or leave train.networks out"
        )
    if networks in (0, 1) and config.serving.deliver == "single":
        faults.append(
            "serving.deliver=single: a network on all images takes over the threshold of several, and "
            f"train.networks={networks}; set train.networks to 2 at least, or serving.deliver to auto"
        )
    if design == "hold_out":
        if config.serving.deliver == "ensemble":
            faults.append(
                "serving.deliver=ensemble: data.design=hold_out trains one network; set data.design to cross_fit or "
                "auto, or serving.deliver to auto or single"
            )
        return faults
    certify = "may certify" if design == "auto" else "certify"  # not where val or calibration images are given
    if config.monitor.action in ("stop", "rollback"):
        faults.append(
            f"monitor.action={config.monitor.action}: it keeps the best epoch on validation images, and with "
            f"data.design={design} these {certify} the model{REMEDY}, or monitor.action to observe"
        )
    schedules = {config.recipe.schedule_name}
    for dimension in space if config.search.num_trials > 1 else ():
        if dimension.sets == "recipe.schedule":
            schedules |= set(dimension.choices or ())
    if "plateau" in schedules:
        faults.append(
            f"recipe.schedule=plateau: it follows the validation loss, and with data.design={design} these images "
            f"{certify} the model{REMEDY}, or another schedule"
        )
    return faults
