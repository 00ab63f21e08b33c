"""The axes of parallel coordinates: where each trial lies on the axis of a searched key, and the ticks beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.ticker import MaxNLocator

from components.report import style, trial_looks

BAND = 0.62
"""Share of its room over which the lines of a choice are spread."""


@dataclass(frozen=True)
class Axis:
    """Its name, the height of each trial in [0, 1] (nan where it has none), and its ticks as (height, text)."""

    name: str
    heights: np.ndarray
    ticks: Sequence[tuple[float, str]]


def axis_of(key: str, column: pd.Series, scale: str) -> Axis:
    """The axis of a searched key; scale: "log", "linear" or "choice"."""
    if scale == "choice":
        return _choice(trial_looks.plain_key(key), column)
    return numeric_axis(trial_looks.plain_key(key), column.to_numpy(dtype=float, na_value=np.nan), log=scale == "log")


def numeric_axis(name: str, values: np.ndarray, *, log: bool) -> Axis:
    """From the lowest value to the highest. values: (N,) float, nan where a trial has none."""
    values = np.where(np.isfinite(values) & ((values > 0) | (not log)), values, np.nan)
    known = np.log10(values) if log else values
    finite = known[np.isfinite(known)]
    if not finite.size:
        return Axis(name, known, [])
    low, high = float(finite.min()), float(finite.max())
    if high - low < 1e-12:
        text = style.rate(values[np.isfinite(values)][0]) if log else style.number(low)
        return Axis(name, np.where(np.isfinite(known), 0.5, np.nan), [(0.5, text)])
    ticks = _log_ticks(low, high) if log else _linear_ticks(low, high)
    return Axis(name, (known - low) / (high - low), [((place - low) / (high - low), text) for place, text in ticks])


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Powers of ten, every second or third where there are many; with the steps between where there are few."""
    for factors, at_least in (((1,), 3), ((1, 3), 2), ((1, 2, 5), 2), (range(1, 10), 1)):
        exponents = range(math.floor(low), math.ceil(high) + 1)
        places = [math.log10(factor) + exponent for exponent in exponents for factor in factors]
        inside = [place for place in places if low - 1e-9 <= place <= high + 1e-9]
        if len(inside) >= at_least:
            every = -(-len(inside) // 6)
            return [(place, style.rate(10**place)) for place in inside[::every]]
    return [(low, style.rate(10**low)), (high, style.rate(10**high))]


def _linear_ticks(low: float, high: float) -> list[tuple[float, str]]:
    places = MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)
    return [(place, style.number(round(place, 10))) for place in places if low - 1e-9 <= place <= high + 1e-9]


def _choice(name: str, column: pd.Series) -> Axis:
    """Equal room for each value; the lines of one value beside each other, in the order of the table."""
    known = column[column.notna()]
    values: list[Any] = list(dict.fromkeys(known))
    numbers = all(isinstance(value, int | float | np.number) for value in values)
    values = sorted(values) if numbers else sorted(values, key=str)
    heights = np.full(len(column), np.nan)
    room = 1 / max(len(values), 1)
    ticks = []
    for place, value in enumerate(values):
        own = np.flatnonzero((column == value).fillna(False).to_numpy(dtype=bool))
        middle = (place + 0.5) * room
        spread = min(BAND * room, 0.03 * (len(own) - 1))
        heights[own] = middle + spread * (np.linspace(-0.5, 0.5, len(own)) if len(own) > 1 else 0)
        ticks.append((middle, _text(value)))
    return Axis(name, heights, ticks)


def _text(value: Any) -> str:  # noqa: ANN401 - whatever the key holds
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    return style.number(float(value)) if isinstance(value, int | float | np.number) else str(value)
