"""The shortcut audit: can the label be told without looking at the part?

From cues such as the file format, the brightness or the order of the files, one at a time, by a small decision tree
under folds that keep groups whole. Geirhos et al. 2020, "Shortcut learning in deep neural networks", says why it
matters: a model takes whatever tells the classes apart.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.model_selection import PredefinedSplit, cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from components.data.audit.cues import CUES, Cue, make_cues
from components.data.audit.groupwise import groups_per_class, share_interval
from components.data.stratify import draw_folds

_FOLDS = 5
_CONFIDENCE = 0.95
_CHANCE = 0.5
# The lower bound from which a cue is suspicious. What is measured on the picture may be the defect, and on real sets it
# reaches .73 (brightness and contrast of steel; of solar cells .69): a warning at each of them would be read by no one.
_SUSPICIOUS = 0.6
_SUSPICIOUS_PICTURE = 0.75
_LEAVES = 8
_LEAVES_IN_SEQUENCE = 32  # a class may come in several runs


@dataclass(frozen=True)
class Shortcut:
    """How well one class can be told from the others by one cue alone.

    score: balanced accuracy for the class that is told best, `label`, against all others; low, high: its limits, with
    95 % confidence over all classes together. label: "" where nothing was measured.
    """

    name: str
    score: float
    low: float
    high: float
    suspicious: bool
    label: str
    statement: str


def audit_shortcuts(
    statistics: pd.DataFrame,
    paths: Sequence[str],
    labels: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
) -> list[Shortcut]:
    """One for each cue, worst first: the suspicious ones, then by score.

    statistics: N rows with the columns of the file pass (bytes, width, height, mode, format, frames, orientation,
    modified, brightness, contrast, sharpness, border, colour). paths: N names with folders. labels, groups: (N,) str.
    A class whose images are all in one group is left out.

    A class against the others, not all classes at once: where one class of seven is all PNG, the balanced accuracy over
    the seven is .29, hardly above chance, and that class is given away all the same.
    """
    spread = groups_per_class(labels, groups)
    spread = spread[spread >= 2]
    tested = np.flatnonzero(np.isin(labels, spread.index))
    if len(spread) < 2:
        return [_unmeasured(name, "Not tested: it takes two classes with two groups each.") for name in CUES]
    y, _ = pd.factorize(labels[tested], sort=True)
    group, _ = pd.factorize(groups[tested], sort=True)
    folds = PredefinedSplit(draw_folds(y, group, min(_FOLDS, int(spread.min())), seed=seed))
    cues = make_cues(statistics.iloc[tested], np.asarray(paths, dtype=object)[tested].tolist(), labels[tested])
    found = [_judge(cue, y, list(spread.index), group, folds, seed) for cue in cues]
    return sorted(found, key=lambda shortcut: (not shortcut.suspicious, -shortcut.score, shortcut.name))


def _judge(
    cue: Cue,
    y: np.ndarray,
    names: list[str],
    group: np.ndarray,
    folds: PredefinedSplit,
    seed: int,
) -> Shortcut:
    if not cue.numbers.shape[1]:
        return _unmeasured(cue.name, cue.silence)
    tree = DecisionTreeClassifier(
        max_leaf_nodes=max(_LEAVES_IN_SEQUENCE if cue.in_sequence else _LEAVES, 4 * len(names)),
        min_samples_leaf=max(1, min(5, len(y) // 20)),
        class_weight="balanced",
        random_state=seed,
    )
    told = cross_val_predict(tree, cue.numbers, y, cv=folds)
    scores = _against_others(told, y, len(names))
    best = int(np.argmax(scores))
    # Limits that hold for all classes together.
    confidence = 1 - (1 - _CONFIDENCE) / (len(names) if len(names) > 2 else 1)

    def limits(label: int) -> tuple[float, float]:
        right = ((told == label) == (y == label)).astype(float)
        return share_interval(right, group, (y == label).astype(int), confidence=confidence)[1:]

    score, (low, high) = float(scores[best]), limits(best)
    bar = _SUSPICIOUS_PICTURE if cue.of_the_picture else _SUSPICIOUS
    suspicious = low > bar
    accuracy = f"balanced accuracy {score:.2f} ({low:.2f} to {high:.2f}), chance {_CHANCE:.2f}"
    if suspicious:
        high_ones = np.flatnonzero(scores > bar) if len(names) > 2 else [best]
        others = sum(limits(int(label))[0] > bar for label in high_ones) - 1
        more = f" and {others} other{'s' * (others > 1)}" if others else ""
        statement = f"Class {names[best]}{more} can be told by {cue.name} alone ({accuracy}): "
        statement += f"{cue.describe(y == best)}. {cue.caution}"
    else:
        statement = f"No class can be told well by {cue.name} alone; best {names[best]} ({accuracy})."
    return Shortcut(cue.name, score, low, high, suspicious, names[best], statement)


def _against_others(told: np.ndarray, y: np.ndarray, classes: int) -> np.ndarray:
    """(classes,) balanced accuracy of each class against all others. told, y: (N,) int, the class predicted and own."""
    own, wrong = np.bincount(y, minlength=classes), told != y
    missed = np.bincount(y[wrong], minlength=classes) / own  # share of the class that is told as another
    taken = np.bincount(told[wrong], minlength=classes) / (len(y) - own)  # share of the others told as the class
    return 1 - (missed + taken) / 2


def _unmeasured(name: str, statement: str) -> Shortcut:
    return Shortcut(name, _CHANCE, _CHANCE, _CHANCE, False, "", statement)
