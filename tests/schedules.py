"""A schedule for tests, of which each names only what it is about."""

from typing import Any

from components.optim.schedules import Schedule


def schedule_of(name: str, **changes: Any) -> Schedule:
    values = {
        "warmup_steps": 0,
        "total_steps": None,
        "final_lr_fraction": 0.01,
        "schedule_drops": 2,
        "schedule_cycles": 2,
        "cycle_growth": 1.0,
        "cycle_low": 0.25,
        "rise_fraction": 0.3,
        "cooldown_fraction": 0.2,
        "plateau_factor": 0.3,
        "plateau_patience": 1,
    }
    return Schedule(name=name, **(values | changes))
