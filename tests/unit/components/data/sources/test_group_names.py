"""Parts in the names of files: read by a pattern, and a pattern found only where names do tell parts."""

import pytest

from components.data.files import Files
from components.data.sources.group_names import FoundGroups, find_group_pattern, group_by_name
from components.data.sources.listing import make_listing
from components.errors import InputError


def listing(*paths, group=None):
    labels = [path.partition("/")[0] for path in paths]
    return make_listing(Files("/x"), {"path": paths, "label": labels, "group": group}, description="")


def found(paths):
    return find_group_pattern(paths, [path.partition("/")[0] for path in paths])


def test_what_the_patterns_group_holds_names_the_part():
    given = listing("bad/part02_1.png", "good/part01_1.png", "good/part01_2.png", "good/x.png")
    grouped = group_by_name(given, "(part[0-9]+)_")
    assert grouped.table["group"].tolist() == ["part02", "part01", "part01", None]
    assert grouped.notes == ("data.group_pattern is not found in the names of 1 image, which belong to no group.",)


def test_a_pattern_meets_names_in_either_form_of_their_accents():
    decomposed = "good/Geha\u0308use1_2.png"
    assert group_by_name(listing(decomposed), "(Geh\u00e4use[0-9])_").table["group"].tolist() == ["Gehäuse1"]


def test_a_pattern_that_no_path_has_is_refused():
    with pytest.raises(InputError, match=r"data\.group_pattern='\(x\)': found in none of 1 path .*good/1\.png"):
        group_by_name(listing("good/1.png"), "(x)")


def test_a_source_with_groups_takes_no_pattern():
    with pytest.raises(InputError, match=r"names the groups itself"):
        group_by_name(listing("good/1.png", group=["lot7"]), "([0-9])")


def test_parts_before_the_last_separator_are_found():
    paths = [f"{('good', 'bad')[view > 4]}/part{part:03}_{view}.png" for part in range(12) for view in range(1, 7)]
    assert found(paths) == FoundGroups(r"([^/]*\d[^/]*)[-_][^-_/]+$", groups=12, example="part000", images=6)
    groups = group_by_name(listing(*paths), found(paths).pattern).table["group"]
    assert groups.nunique() == 12  # good and bad views of a part are together


def test_parts_that_are_numbered_anew_in_each_folder_stay_apart():
    paths = [f"{label}/p{part}-{view}.png" for label in ("good", "bad") for part in range(8) for view in "ab"]
    assert found(paths) == FoundGroups(r"(.*/[^/]*\d[^/]*)[-_][^-_/]+$", groups=16, example="bad/p0", images=2)


def test_a_folder_of_each_part_is_found():
    paths = [f"{('good', 'bad')[part % 2]}/part{part}/{9 * part + view}.png" for part in range(12) for view in range(4)]
    assert found(paths) == FoundGroups(r"/([^/]*\d[^/]*)/[^/]+$", groups=12, example="part0", images=4)


@pytest.mark.parametrize(
    "paths",
    [
        [f"good/{number:04}.png" for number in range(60)],
        [f"good/img_{number:04}.png" for number in range(60)],  # the part would have no number
        [f"good/cast_0_{number}.png" for number in range(60)],  # one group
        [f"good/2024-05-{1 + number // 6:02}_{number:04}.png" for number in range(72)],  # serial numbers
        [f"cam{number % 2}/day{number % 5}/{number}.png" for number in range(100)],  # few large ones
        [f"{number % 12}/{number}.png" for number in range(60)],  # classes 0 to 11
        [f"class {number // 6}/{number // 6:02}_{number % 6}.png" for number in range(72)],  # the class in each name
        [f"good/part{part}_1.png" for part in range(60)],  # one image of each
        [],
    ],
)
def test_other_names_tell_no_parts(paths):
    assert found(paths) is None
