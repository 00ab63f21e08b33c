"""What the listing tells, said before anything is read: by a dry run, too."""

import numpy as np
from PIL import Image

from pipeline.console import Console
from pipeline.sections.data import DataConfig
from pipeline.stages.prepare import source_digest


def test_what_was_taken_otherwise_than_it_stands_is_said_on_the_terminal(tmp_path, capsys):
    rows = []
    for number in range(24):
        Image.fromarray(np.full((8, 8), number, np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{'good' if number % 2 else 'crack'}")
    (tmp_path / "list.csv").write_text("\n".join(["Path,label", *rows, ","]))
    data = DataConfig(source=f"csv:{tmp_path / 'list.csv'}")
    source_digest(tmp_path / "storage", Console(), seed=0, data=data)
    said = capsys.readouterr().err
    assert "warning: data.path_column='path': the table's column 'Path' is taken.\n" in said
    assert "warning: Rows of the table that hold nothing but separators are left out: 1.\n" in said
