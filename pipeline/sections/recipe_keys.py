"""The recipe's keys by what they shape: what a stage has no use for, and what a search cannot vary."""

from __future__ import annotations

#: What lays out the rate over the final training: the range test uses rates of its own, and most searches do.
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
#: What trainings are judged by: no training goes another way for it.
OBJECTIVE_KEYS = ("recipe.objective", "recipe.escape_budget", "recipe.escape_cost", "recipe.defect_rate")
#: What the hierarchical search goes through, level by level.
HIERARCHY_KEYS = ("recipe.lr", "recipe.batch_size", "recipe.weight_decay", "recipe.layer_decay")
#: What acts under one value of another key alone.
NEEDS = {
    "recipe.focal_gamma": ("recipe.loss", "focal"),
    "recipe.class_balanced_beta": ("recipe.loss", "class_balanced"),
}
