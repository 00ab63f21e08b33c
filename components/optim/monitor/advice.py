"""The messages of the monitor: what happened, in which epoch, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

#: Training loss as a share of the validation loss below which the training images are memorised.
MEMORISED = 0.2


def advise(kind: str, epoch: int, evidence: Mapping[str, float]) -> str:
    """Return one or two sentences on a finding; epoch: from 1."""
    return _SENTENCES[kind](epoch, evidence)


def conclusions(found: Sequence[Mapping[str, Any]], *, rollbacks: int, quiet: bool) -> list[str]:
    """Return a sentence per kind of finding, with its first occurrence and the number of occurrences.

    found: `kind`, `epoch` and `evidence` of each, in order. rollbacks: how often the rate was halved. quiet: whether no
    finding after the last rollback called for a lower rate.
    """
    sentences = []
    for kind in _SENTENCES:
        same = [entry for entry in found if entry["kind"] == kind]
        if same:
            again = f" This was seen {len(same)} times." if len(same) > 1 else ""
            sentences.append(advise(kind, same[0]["epoch"], same[0]["evidence"]) + again)
    if rollbacks:
        sentences.append(_after_rollbacks(rollbacks, quiet))
    return sentences


def _after_rollbacks(rollbacks: int, quiet: bool) -> str:
    factor = 2**rollbacks
    if quiet:
        return (
            f"The learning rate had to be divided by {factor}: it was up to {factor}× too high; start with 1/{factor} "
            "of it."
        )
    return (
        f"The learning rate was more than {factor}× too high: 1/{factor} of it failed as well. Repeat the range test."
    )


def _diverged(epoch: int, evidence: Mapping[str, float]) -> str:
    if "steps" not in evidence:
        return f"The loss or its gradient was not finite in epoch {epoch}: the learning rate is too high; lower it."
    times = evidence["loss"] / evidence["recent_mean_loss"]
    return (
        f"The loss diverged in epoch {epoch}, to {_times(times)} its recent mean: the learning rate is too high; lower "
        "it, or use a longer warmup."
    )


def _oscillating(epoch: int, evidence: Mapping[str, float]) -> str:
    if "spikes" in evidence:
        return (
            f"The loss had {evidence['spikes']:.0f} spikes within a few steps in epoch {epoch}: the learning rate is "
            "too high; lower it."
        )
    if "first_grad_norm" in evidence:
        return (
            f"Up to epoch {epoch} the model learned nothing, the gradients nearly vanished, and a step had changed the "
            f"weights by {evidence['largest_update_ratio']:.0%}: the learning rate is too high; lower it. If the model "
            "learns nothing at a lower rate either, check the labels."
        )
    return (
        f"The loss oscillated from epoch {epoch}: it rises, and successive gradients point in opposite directions "
        f"(cosine {evidence['cosine']:.2f}): the learning rate is too high; lower it."
    )


def _too_slow(epoch: int, evidence: Mapping[str, float]) -> str:
    return (
        f"The loss falls steadily but slowly (epoch {epoch}): at this pace it ends at "
        f"{evidence['probe_loss_at_the_end']:.2f} (guessing gives {evidence['chance_loss']:.2f}), and a step at the "
        f"highest rate changes the weights by {evidence['update_ratio']:.2%}: the learning rate is too low. Raise it, "
        "or extend the search to higher rates."
    )


def _plateau(epoch: int, evidence: Mapping[str, float]) -> str:
    stopped = f"The validation loss stopped falling over the {evidence['epochs']:.0f} epochs up to {epoch}"
    if evidence["train_loss"] < MEMORISED * evidence["val_loss"]:
        return f"{stopped}, and the model has memorised the training images: use more images or stronger augmentation."
    return f"{stopped}: a lower learning rate may help; use a schedule that lowers it (plateau, wsd, cosine)."


def _overfitting(epoch: int, evidence: Mapping[str, float]) -> str:
    return (
        f"Overfitting: from about epoch {evidence['best_epoch']:.0f} to {epoch} the validation loss rose from "
        f"{evidence['best_val_loss']:.2f} to {evidence['val_loss']:.2f} while the training loss fell. The learning "
        "rate is not the cause; the best epoch is kept. Fewer epochs, more augmentation or weight decay may help."
    )


def _spike(epoch: int, evidence: Mapping[str, float]) -> str:
    times = evidence["loss"] / evidence["recent_mean_loss"]
    return (
        f"The loss of a batch in epoch {epoch} was {_times(times)} the recent mean, and normal right after it: the "
        "cause is the batch rather than the learning rate; check its images and labels."
    )


def _times(factor: float) -> str:
    return f"{factor:.0f}×" if factor < 1000 else "more than 1000×"


#: The most severe first, which is their order at the end of a run.
_SENTENCES = {
    "diverged": _diverged,
    "oscillating": _oscillating,
    "too_slow": _too_slow,
    "overfitting": _overfitting,
    "plateau": _plateau,
    "spike": _spike,
}
