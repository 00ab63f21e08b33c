"""What both recipes are trained with."""

from pipeline.confirmation.trainings import repeated_over_folds, repeated_over_seeds


def test_of_several_seeds_the_configured_one_is_the_models() -> None:
    found = repeated_over_seeds(5, 3)
    assert [(one.seed, one.fold, one.member, one.name) for one in found] == [
        (5, None, "whole", "seed-5"), (6, None, None, "seed-6"), (7, None, None, "seed-7")
    ]  # fmt: skip


def test_every_fold_has_a_seed_of_its_own_and_is_a_member() -> None:
    found = repeated_over_folds(5, [1, 3])
    assert [(one.seed, one.fold, one.member, one.words) for one in found] == [
        (6, 1, "fold-1", "fold 1"), (8, 3, "fold-3", "fold 3")
    ]  # fmt: skip
