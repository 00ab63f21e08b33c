"""The monitor on signals made by hand: each kind, near misses, grace periods, restoring, words at the end."""

import json
import math
from collections.abc import Iterable

import pytest

from components.optim.monitor.monitor import Signals, TrainingMonitor, Verdict

CHANCE = 1.0
STEPS = 400


def signals(step: int, **changes) -> Signals:
    """A quiet step; the probe is measured every ten."""
    measured = step % 10 == 0
    values = {
        "step": step,
        "loss": 0.5,
        "grad_norm": 1.0,
        "cosine": 0.0,
        "update_ratio": 0.02 if measured else math.nan,
        "probe_loss": 0.5 if measured else math.nan,
        "lr": 0.1,
        "in_grace_period": False,
    }
    if not measured:
        changes = {name: value for name, value in changes.items() if name not in ("update_ratio", "probe_loss")}
    return Signals(**(values | changes))


def monitor() -> TrainingMonitor:
    return TrainingMonitor(total_steps=STEPS, chance_loss=CHANCE)


def watch(sequence: Iterable[Signals], watcher: TrainingMonitor | None = None) -> list[Verdict]:
    watcher = watcher or monitor()
    return [verdict for entry in sequence if (verdict := watcher.update(entry)) is not None]


def quiet(steps: int = 200) -> list[Signals]:
    return [signals(step) for step in range(1, steps + 1)]


def oscillating(steps: int = 200) -> list[Signals]:
    """Quiet for 50 steps, which make the baseline, then rising to and fro with gradients twice as long."""
    rise = [
        signals(step, loss=0.5 + step / 1000, probe_loss=0.5 + step / 1000, cosine=-0.3, grad_norm=2.0)
        for step in range(51, steps + 1)
    ]
    return [*quiet(50), *rise]


def slow(steps: int = 200) -> list[Signals]:
    """Falls by 0.0005 a step from the chance loss, in small steps: 0.8 at the end of 400."""
    return [
        signals(step, loss=1 - step / 2000, probe_loss=1 - step / 2000, cosine=0.3, update_ratio=0.0005)
        for step in range(1, steps + 1)
    ]


def collapsed(steps: int = 200) -> list[Signals]:
    """At the chance loss with a tenth of the first gradients, after steps of a tenth of the weights."""
    return [
        signals(step, loss=1.0, probe_loss=1.0, grad_norm=1.0 if step <= 10 else 0.1, update_ratio=0.1)
        for step in range(1, steps + 1)
    ]


# --- steps


def test_a_quiet_training_gives_no_verdict_and_no_advice() -> None:
    watcher = monitor()
    assert watch(quiet(), watcher) == []
    assert watcher.conclude() == []


def test_an_oscillation_is_told_once_with_its_numbers() -> None:
    (verdict,) = watch(oscillating())
    # Of the first ten windows half oscillate: mean cosine −0.15, and a median norm between 1 and 2.
    assert (verdict.kind, verdict.step, verdict.epoch) == ("oscillating", 100, 1)
    assert verdict.evidence["cosine"] < -0.1
    assert verdict.evidence["grad_norm"] > verdict.evidence["grad_norm_baseline"] == 1.0
    assert "oscillated from epoch 1" in verdict.advice


def test_an_oscillation_that_went_away_is_told_again() -> None:
    first = oscillating(200)
    calm = [signals(step) for step in range(201, 401)]
    again = [
        signals(step, loss=step / 1000, probe_loss=step / 1000, cosine=-0.3, grad_norm=2.0) for step in range(401, 601)
    ]
    assert [verdict.kind for verdict in watch([*first, *calm, *again])] == ["oscillating", "oscillating"]


def test_a_collapse_to_chance_counts_as_a_rate_too_high() -> None:
    (verdict,) = watch(collapsed())
    assert (verdict.kind, verdict.step) == ("oscillating", 100)  # the first step with ten windows
    assert verdict.evidence["largest_update_ratio"] == 0.1


def test_a_slow_fall_is_told_after_a_quarter_of_the_training_and_once() -> None:
    (verdict,) = watch(slow(400))
    assert (verdict.kind, verdict.step) == ("too_slow", 100)
    assert verdict.evidence["probe_loss_at_the_end"] == pytest.approx(0.805)  # 0.955 less 300 × 0.0005
    assert "too low" in verdict.advice


def test_a_slow_fall_in_noise_is_told_without_a_positive_cosine() -> None:
    noisy = [Signals(**(vars(entry) | {"cosine": -0.02})) for entry in slow()]
    assert [verdict.kind for verdict in watch(noisy)] == ["too_slow"]


def test_a_bad_batch_is_a_spike_and_neither_oscillation_nor_divergence() -> None:
    sequence = quiet(200)
    sequence[119] = signals(120, loss=5.0, grad_norm=30.0, cosine=-0.4)
    (verdict,) = watch(sequence)
    assert (verdict.kind, verdict.step) == ("spike", 120)
    assert "10× the recent mean" in verdict.advice


def test_a_loss_that_explodes_is_a_divergence() -> None:
    (verdict,) = watch([*quiet(100), *[signals(step, loss=9.0) for step in range(101, 121)]])
    assert (verdict.kind, verdict.step) == ("diverged", 101)
    assert "18× its recent mean" in verdict.advice


def test_a_step_with_a_verdict_on_its_loss_belongs_to_its_window_as_well() -> None:
    watcher = monitor()
    watch([*quiet(99), signals(100, loss=math.nan, grad_norm=math.nan)], watcher)
    assert watcher.state_dict()["_windows"]["_last_end"] == 100


@pytest.mark.parametrize("sequence", [oscillating(), slow(), collapsed()], ids=["oscillating", "slow", "collapsed"])
def test_nothing_is_judged_in_a_grace_period(sequence) -> None:
    assert watch([Signals(**(vars(entry) | {"in_grace_period": True})) for entry in sequence]) == []


def test_after_a_grace_period_ten_windows_are_needed() -> None:
    sequence = slow(240)
    sequence[94] = Signals(
        **(vars(sequence[94]) | {"in_grace_period": True})
    )  # step 95 spoils the window that ends at 100
    (verdict,) = watch(sequence)
    assert verdict.step == 200  # ten windows, from 110 to 200


# --- epochs


def test_a_plateau_is_told_in_its_epoch_with_the_step_under_way() -> None:
    watcher = monitor()
    watch(quiet(60), watcher)
    verdicts = [watcher.epoch_ended(epoch, 0.6, 0.7, 0.9) for epoch in range(1, 9)]
    assert [verdict is None for verdict in verdicts] == [True] * 5 + [False] + [True] * 2
    assert verdicts[5].kind == "plateau"
    assert (verdicts[5].epoch, verdicts[5].step) == (6, 60)
    assert verdicts[5].evidence["val_score"] == 0.9
    assert "a schedule that lowers it" in verdicts[5].advice


def test_a_plateau_of_memorised_images_is_not_blamed_on_the_rate() -> None:
    watcher = monitor()
    watch(quiet(60), watcher)
    verdicts = [watcher.epoch_ended(epoch, 0.01, 0.7, 0.9) for epoch in range(1, 7)]
    assert "memorised" in verdicts[-1].advice


def test_overfitting_is_told_and_is_no_matter_of_the_rate() -> None:
    watcher = monitor()
    watch(quiet(60), watcher)
    val = [0.9, 0.7, 0.5, 0.5, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1]
    found = [watcher.epoch_ended(epoch, 1.0 - 0.08 * epoch, loss, 0.9) for epoch, loss in enumerate(val, start=1)]
    assert [verdict.kind for verdict in found if verdict] == ["overfitting"]
    assert "not the cause" in watcher.conclude()[0]


# --- going back, going on


def test_after_a_rollback_the_past_is_no_evidence_and_the_same_fault_is_told_again() -> None:
    watcher = monitor()
    assert len(watch(oscillating(), watcher)) == 1
    watcher.rolled_back(step=0, epoch=0)
    assert [verdict.kind for verdict in watch(oscillating(), watcher)] == ["oscillating"]
    assert watcher.epoch_ended(1, 0.5, 0.5, 0.9) is None


def test_epochs_after_the_one_gone_back_to_are_forgotten() -> None:
    watcher = monitor()
    watch(quiet(60), watcher)
    for epoch in range(1, 6):
        watcher.epoch_ended(epoch, 0.6, 0.7, 0.9)
    watcher.rolled_back(step=20, epoch=2)
    assert watcher.state_dict()["_val_losses"] == [0.7, 0.7]
    assert [watcher.epoch_ended(epoch, 0.6, 0.7, 0.9) for epoch in (3, 4, 5)] == [None] * 3


@pytest.mark.parametrize("cut", [1, 55, 100, 109, 115])
@pytest.mark.parametrize("sequence", [oscillating(), slow(), collapsed(), quiet()[:119]], ids=["o", "s", "c", "q"])
def test_a_restored_monitor_gives_the_same_verdicts(sequence, cut) -> None:
    straight, saved, restored = monitor(), monitor(), monitor()
    sequence = [*sequence[:112], signals(113, loss=5.0), *sequence[113:]]
    expected = watch(sequence, straight)
    before = watch(sequence[:cut], saved)
    restored.load_state_dict(json.loads(json.dumps(saved.state_dict())))  # plain values alone
    assert before + watch(sequence[cut:], restored) == expected
    assert expected or len(sequence) < 113
    assert restored.conclude() == straight.conclude()


# --- words


def test_the_advice_at_the_end_has_a_sentence_per_kind_the_gravest_first() -> None:
    watcher = monitor()
    sequence = quiet(130)
    for step in (40, 129):
        sequence[step - 1] = signals(step, loss=5.0)
    watch([*sequence, *[signals(step, loss=9.0) for step in range(131, 141)]], watcher)
    diverged, spike = watcher.conclude()
    assert diverged.startswith("The loss diverged in epoch 1")
    assert spike.endswith("This was seen 2 times.")


@pytest.mark.parametrize(
    ("afterwards", "words"), [(quiet(), "up to 4× too high"), (oscillating(), "more than 4× too high")], ids=["q", "o"]
)
def test_how_much_too_high_is_said_where_rollbacks_have_shown_it(afterwards, words) -> None:
    watcher = monitor()
    for _ in range(2):
        watch(oscillating(), watcher)
        watcher.rolled_back(step=0, epoch=0)
    watch(afterwards, watcher)
    assert words in watcher.conclude()[-1]
