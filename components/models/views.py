"""Which views of an image a model may average over: those in which training has shown it images.

A view is one of the eight symmetries of the square, numbered as `turned` in `components/models/forward.py` reads them.
Nothing heavy is imported, so that a configuration can be checked fast.
"""

from collections.abc import Collection, Mapping

from components.errors import InputError

MIRRORED, HALF_TURN, UPSIDE_DOWN = 4, 2, 6
"""Left to right; half a turn; top to bottom, which is the mirrored image after half a turn."""


def allowed_views(augment: Collection[str], strength: float) -> dict[int, tuple[int, ...]]:
    """The numbers of views that an augmentation allows, and the views of each number, 0 (the image as it is) first.

    Each is a group, so that the mean is the same for every view of an image, and holds the smaller ones, so that each
    step adds views. augment, strength: `recipe.augment` and `recipe.augment_strength`; 0 augments nothing.
    """
    if not strength:
        return {1: (0,)}
    across, down, turns = (kind in augment for kind in ("horizontal_flip", "vertical_flip", "quarter_turns"))
    groups: list[tuple[int, ...]] = [(0,)]
    if turns and not (across or down):
        groups += [(0, HALF_TURN), (0, 1, 2, 3)]
    elif turns or (across and down):
        groups += [(0, MIRRORED), (0, HALF_TURN, MIRRORED, UPSIDE_DOWN)]
    elif across:
        groups += [(0, MIRRORED)]
    elif down:
        groups += [(0, UPSIDE_DOWN)]
    if turns and (across or down):
        groups += [tuple(range(8))]
    return {len(group): group for group in groups}


def check_views(count: int, allowed: Collection[int], *, key: str, whose: str) -> None:
    """Raise InputError where an augmentation does not allow so many views. key: of the setting; whose: of it."""
    if count not in allowed:
        raise InputError(
            f"{key}={count}: {whose} allows {', '.join(map(str, sorted(allowed)))} only; give one of these or auto"
        )


def nested_views(allowed: Mapping[int, tuple[int, ...]]) -> tuple[int, ...]:
    """All views of `allowed_views`, in an order in which the first 1, 2, 4 and 8 are those of each number."""
    return tuple(dict.fromkeys(view for _, group in sorted(allowed.items()) for view in group))
