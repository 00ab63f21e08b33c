"""A search that goes on, with several trials at a time and all that may become of them, goes on as the same search."""

from copy import deepcopy

import numpy as np
import pytest

from components.search.samplers import SAMPLERS, build_sampler
from components.search.trial import Suggestion, TrialRecord

RATE = "recipe.lr"


def space_for(lab, name: str):
    if name == "lipschitz":
        return lab.space(lab.rate)
    if name == "hierarchical":
        return lab.space(lab.rate, lab.decay)
    return lab.space(lab.optimizer, lab.rate, lab.decay)


def goes_on(record: TrialRecord, rng: np.random.Generator) -> None:
    """An epoch's score, or an end: at its last epoch, stopped, diverged or failed."""
    epoch = record.epochs + 1
    fate = rng.random()
    if fate < 0.03:
        record.status = "failed"
    elif record.suggestion.point.get(RATE, 0.5) > 0.9:
        record.status = "diverged"
    else:
        record.scores[epoch] = 0.9 - 0.5 * (record.suggestion.point.get(RATE, 0.5) - 0.4) ** 2 + 0.01 * rng.random()
        if epoch == record.suggestion.epochs:
            record.status = "completed"
        elif fate < 0.1:
            record.status = "stopped"


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_new_sampler_suggests_from_the_same_history_what_the_old_one_does(lab, name: str, seed: int) -> None:
    space, rng = space_for(lab, name), np.random.default_rng(seed)
    settings = lab.settings(space, 24, seed=seed, folds=2 if name == "grid" else 0)
    old = build_sampler(name, settings)
    defaults = Suggestion(point=space.point({}), overrides={}, epochs=9)
    history = [TrialRecord(number=0, suggestion=defaults, unstopped=True)]
    answers = []
    for _ in range(2000):
        running = [record for record in history if not record.ended]
        if len(running) < 3 and len(history) < settings.num_trials:
            answer = old.suggest(len(history), history)
            assert build_sampler(name, settings).suggest(len(history), deepcopy(history)) == answer
            answers.append(answer)
            if isinstance(answer, Suggestion):
                history.append(TrialRecord(number=len(history), suggestion=answer, unstopped=False))
            elif not running:
                break
        if running:
            goes_on(running[rng.integers(len(running))], rng)
    assert all(record.ended for record in history)
    assert len(history) == settings.num_trials or answers[-1] == "done"
    assert ("wait" in answers) == (name in ("grid", "hierarchical"))
    seen = [
        (tuple(sorted(r.suggestion.point.items())), r.suggestion.epochs, r.suggestion.seed, r.suggestion.fold)
        for r in history
    ]
    assert len(set(seen)) == len(seen)
