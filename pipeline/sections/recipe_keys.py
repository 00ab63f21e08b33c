"""Groups of the recipe's keys: those that a stage does not use, and those that a search cannot vary."""

from __future__ import annotations

#: Keys of the schedule of the final training: the range test and most searches do not use them.
SCHEDULE_KEYS = (
    "recipe.schedule",
    "recipe.final_lr_fraction",
    "recipe.schedule_drops",
    "recipe.schedule_cycles",
    "recipe.cycle_growth",
    "recipe.cycle_low",
    "recipe.rise_fraction",
    "recipe.cooldown_fraction",
    "recipe.plateau_factor",
    "recipe.plateau_patience",
    "recipe.ema_decay",
)
#: Keys of the objective, which do not change a training.
OBJECTIVE_KEYS = ("recipe.objective", "recipe.escape_budget", "recipe.escape_cost", "recipe.defect_rate")
#: Keys that only have an effect with one value of another key.
NEEDS = {
    "recipe.focal_gamma": ("recipe.loss", "focal"),
    "recipe.class_balanced_beta": ("recipe.loss", "class_balanced"),
}
