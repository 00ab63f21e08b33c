"""Head starts on their way through a file."""

import numpy as np

from components.models.heads import HeadStart, read_head, save_heads


def head(value: float) -> HeadStart:
    return HeadStart(np.full((2, 3), value, np.float32), np.array([value, -value], np.float32))


def test_each_is_found_by_its_backbone_and_the_fold_that_it_leaves_out(tmp_path) -> None:
    save_heads(tmp_path, {("a.b/c", 0): head(1), ("a.b/c", 1): head(2), ("a.b/c", None): head(3), ("d", None): head(4)})
    for backbone, fold, value in (("a.b/c", 0, 1), ("a.b/c", 1, 2), ("a.b/c", None, 3), ("d", None, 4)):
        found = read_head(tmp_path, backbone, fold)
        assert found is not None
        np.testing.assert_array_equal(found.weight, head(value).weight)
        np.testing.assert_array_equal(found.bias, head(value).bias)
    assert read_head(tmp_path, "d", 0) is None
    assert read_head(tmp_path, "e", None) is None


def test_without_a_file_there_is_none(tmp_path) -> None:
    assert read_head(tmp_path, "a", None) is None
