"""The trainings of the simulation: no model depends on an image that it is not trained on, and parts stay together."""

import pytest
import torch
from operating_point_trainings import (
    Images,
    Recipe,
    Setting,
    assign_folds,
    draw,
    draw_fresh,
    train,
    train_linear,
)

SETTING = Setting("", parts=60, images_per_part=3, defective=0.4, wrong_labels=0.1)


def drawn(seed: int = 0) -> Images:
    return draw(SETTING, runs=2, generator=torch.Generator().manual_seed(seed))


def folds_of(images: Images) -> torch.Tensor:
    return assign_folds(images, 3, torch.Generator().manual_seed(1))


def test_parts_stay_together_and_folds_are_of_equal_size() -> None:
    images = drawn()
    folds = folds_of(images)
    for run in range(2):
        assert len(set(zip(images.groups.tolist(), folds[run].tolist(), strict=True))) == 60
        assert torch.bincount(folds[run]).tolist() == [60, 60, 60]
        defective = torch.bincount(folds[run][images.is_defect[run]])
        assert int(defective.max() - defective.min()) <= 3


@pytest.mark.parametrize("kind", ["network", "linear"])
def test_a_model_does_not_depend_on_images_that_it_was_not_trained_on(kind: str) -> None:
    def log_odds(images: Images) -> torch.Tensor:
        if kind == "linear":
            return train_linear(images, used, penalty=1.0).log_odds(fresh.features)
        return train(images, used, Recipe(4, 0.03, 2), torch.Generator().manual_seed(2)).log_odds(fresh.features)

    images, fresh = drawn(), drawn(1)
    folds = folds_of(images)
    used = torch.stack([folds != fold for fold in range(3)], dim=1)
    first = folds == 0
    changed = Images(torch.where(first[..., None], 100.0, images.features), images.is_defect ^ first, images.groups)
    before, after = log_odds(images), log_odds(changed)
    assert torch.allclose(before[:, 0], after[:, 0], atol=1e-5)
    assert not torch.allclose(before[:, 1], after[:, 1], atol=1e-2)


def test_trained_models_tell_fresh_defectives() -> None:
    images, generator = drawn(), torch.Generator().manual_seed(3)
    everything = torch.ones_like(images.is_defect)[:, None]
    good, defective = (
        draw_fresh(SETTING, runs=2, images=300, defective=kind, generator=generator) for kind in (False, True)
    )
    for networks in (
        train(images, everything, Recipe(8, 0.03, 8), generator),
        train_linear(images, everything, penalty=1.0),
    ):
        assert networks.log_odds(defective.features).mean() > 0.5 + networks.log_odds(good.features).mean()


def test_fresh_images_have_the_same_share_of_wrong_labels() -> None:
    # Of the parts labelled defective, .4 · .9 = .36 are, and .6 · .1 = .06 are not.
    generator = torch.Generator().manual_seed(4)
    one = Setting("", parts=1, images_per_part=1, defective=0.4, wrong_labels=0.1)
    fresh = draw_fresh(one, runs=1, images=40_000, defective=True, generator=generator)
    # Good parts and defective ones differ in the second moment of the first four features: 1, and 1 + E[d²]/4.
    distances = torch.tensor([2.5, 3.5, 4.5, 5.5])
    expected = (fresh.features[..., :4] ** 2).mean().item()
    assert expected == pytest.approx(1 + 0.36 / 0.42 * float((distances**2).mean()) / 4, rel=0.03)
    assert bool(fresh.is_defect.all())
