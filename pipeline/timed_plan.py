"""The plan of a run with a budget: the stages up to `budget`, then those that its result configures."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from components.errors import InputError
from pipeline.config import Config
from pipeline.overriding import override
from pipeline.plan import PlannedStage, make_plan, upstream
from pipeline.runner import Later
from pipeline.stages import STAGES

BUDGET = "budget"


def has_budget(config: Config, until: str) -> bool:
    """Whether the clock decides on stages up to this one."""
    before = {stage.name for stage in upstream(STAGES, BUDGET)}
    return config.budget is not None and until not in before


def plan_until(config: Config, until: str) -> str:
    """The stage up to which the plan can be made before the run."""
    return BUDGET if has_budget(config, until) else until


def whole_plan(config: Config, *, until: str) -> list[PlannedStage]:
    """All stages up to `until`; of a run with a budget only those up to `budget` where it has no result yet."""
    plan = make_plan(config, STAGES, until=plan_until(config, until))
    if not has_budget(config, until) or plan[-1].action != "reused":
        return plan
    return [*plan, *_rest(_without_clock(config, plan[-1].directory), plan, until=until, force=())]


def later(config: Config, plan: Sequence[PlannedStage], *, until: str, force: Collection[str], ends_at: float) -> Later:
    """The stages after `budget`. ends_at: of the whole run, by `time.time`."""
    found = _read(plan[-1].directory)
    resolved = _without_clock(config, plan[-1].directory)
    return Later(
        plan=_rest(resolved, plan, until=until, force=force), config=resolved, ends_at=ends_at - found["afterwards"]
    )


def _rest(config: Config, plan: Sequence[PlannedStage], *, until: str, force: Collection[str]) -> list[PlannedStage]:
    done = {item.stage.name for item in plan}
    whole = make_plan(config, STAGES, until=until, force=force, settled=plan)
    return [item for item in whole if item.stage.name not in done]


def _without_clock(config: Config, folder: Path) -> Config:
    return override(config, _read(folder)["changes"])


def _read(folder: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((folder / "budget.json").read_text(encoding="utf-8"))
    return values


def check_budget(config: Config, until: str) -> None:
    """Raise `InputError` for what cannot have a budget, or cannot be beside one."""
    if config.budget is not None and until == "compare_lr":
        raise InputError(
            "budget: a comparison has lengths of its own, compare_lr.epochs and num_seeds; set budget to null for it"
        )
    if config.budget is not None and config.serving.deliver == "single":
        raise InputError(
            "serving.deliver=single: with a budget the networks of the folds are delivered, since one more on all "
            "images takes as long as they do; set it to auto, or leave budget out"
        )
