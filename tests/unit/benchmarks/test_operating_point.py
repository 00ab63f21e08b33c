"""What the simulation of certificates writes."""

import json

from operating_point import as_text


def test_results_are_json_with_one_row_a_line() -> None:
    rows = [{"way": "ensemble", "folds": 3, "broken": {"value": 0.5}}, {"way": "hold-out", "folds": 0}]
    result = {"budget": 0.1, "settings": {"images independent": rows, "six images a part": rows[:1]}}
    text = as_text(result)
    assert json.loads(text) == result
    assert sum('"way"' in line for line in text.splitlines()) == 3
