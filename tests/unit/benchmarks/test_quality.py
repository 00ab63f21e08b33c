"""The benchmark of quality: its measures, its sets, the loop beside the pipeline, the summary and the figure."""

import functools
import json
import sys

import numpy as np
import pandas as pd
import pytest
import quality_loop
import quality_runs
import torch
from PIL import Image
from quality import beside_loops, settings_digest, summarise
from quality_figure import draw
from quality_measures import best_balanced_accuracy, overkill_at, ranking
from quality_sets import ImageSet, Split, find_sets

from components.models.backbones import build_model

SCORES = np.array([0.1, 0.4, 0.6, 0.2, 0.5, 0.9])
DEFECTIVE = np.array([False, False, False, True, True, True])


@pytest.mark.parametrize(
    ("escapes", "overkill"),
    [
        (0.0, 2 / 3),  # reject from 0.2, the lowest defective: 0.4 and 0.6 of the good ones
        (0.3, 2 / 3),  # not one whole defective may escape
        (0.34, 1 / 3),  # one may: reject from 0.5
    ],
)
def test_overkill_is_that_of_the_highest_threshold_that_lets_so_many_escape(escapes, overkill):
    assert overkill_at(SCORES, DEFECTIVE, escapes=escapes) == pytest.approx(overkill)


def test_the_best_balanced_accuracy_is_over_all_thresholds_and_never_splits_equal_scores():
    assert best_balanced_accuracy(SCORES, DEFECTIVE) == pytest.approx((2 / 3 + 2 / 3) / 2)  # reject from 0.5
    assert best_balanced_accuracy(np.zeros(6), DEFECTIVE) == 0.5
    assert best_balanced_accuracy(-SCORES[:2], DEFECTIVE[2:4]) == 0.5  # the wrong way round: reject all


def test_a_ranking_of_separated_scores_is_perfect():
    assert ranking(DEFECTIVE + 0.1 * SCORES, DEFECTIVE) == {"auroc": 1, "average_precision": 1, "overkill": 0}


def test_a_set_is_a_configuration_with_changes(tmp_path, capsys):
    missing, small = tmp_path / "nowhere", "operating_point.escape_budget"
    elpv, few = find_sets(["elpv", "x_sdd", "small"], x_sdd=missing, changes={"train.epochs": "2"})
    assert "left out" in capsys.readouterr().err
    assert (elpv.config, elpv.changes) == ("demo", {"train.epochs": "2"})
    assert few.changes[small] == 0.2
    options = few.options(tmp_path / "storage", train__epochs=3)
    assert options[:2] == ["--config", "demo"]
    assert {"--set=train.epochs=3", "--set=data.good_labels=[good]", f"--set=storage.root={tmp_path}/storage"} < {
        *options
    }
    with pytest.raises(SystemExit, match="neither a file, nor"):
        find_sets(["elvp"], x_sdd=missing, changes={})


def test_results_are_kept_by_all_settings_that_they_depend_on(tmp_path):
    own = tmp_path / "own.yaml"
    found = set()
    for epochs in (2, 3):
        own.write_text(f"train: {{epochs: {epochs}}}")
        found.add(settings_digest(ImageSet("own", str(own)), loop_lr=1e-3))
    found.add(settings_digest(ImageSet("own", str(own)), loop_lr=2e-3))
    changed = ImageSet("own", str(own), {"recipe.batch_size": 16})
    found.add(settings_digest(changed, loop_lr=1e-3))
    assert len(found) == 4
    assert settings_digest(changed, loop_lr=1e-3) in found


@pytest.mark.parametrize("earlier", [None, "earlier.parquet"])
def test_every_seed_has_the_same_test_images_unless_the_configuration_says_which(tmp_path, monkeypatch, earlier):
    """Also the seed 0: the configuration's own may be another."""
    own = tmp_path / "own.yaml"
    own.write_text(json.dumps({"seed": 3, "data": {"earlier_manifest": earlier}}))
    started = []

    def start(command, place):
        started.append(command)
        raise SystemExit

    monkeypatch.setattr(quality_runs, "_start", start)
    split = Split(pd.DataFrame(), (), "", {}, tmp_path / "test.parquet")
    for seed in (0, 3):
        with pytest.raises(SystemExit):
            quality_runs.run_ours(ImageSet("own", str(own)), split, "demo", seed, tmp_path)
    given = f"--set=data.earlier_manifest={split.test}"
    assert [given in command for command in started] == [earlier is None] * 2


def test_the_views_are_the_eight_symmetries_of_the_square():
    image = torch.arange(9).reshape(1, 3, 3)
    seen = {tuple(quality_loop.view(image, number).flatten().tolist()) for number in range(quality_loop.VIEWS)}
    assert len(seen) == 8
    assert torch.equal(quality_loop.view(image, 0), image)


def test_the_loop_learns_bright_from_dark_and_leaves_its_scores(tmp_path, monkeypatch):
    draw_pixels = np.random.default_rng(0)
    rows = []
    for number in range(48):
        target = number % 2
        pixels = draw_pixels.integers(0, 80, (40, 40, 3)) + 150 * target
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{number}.png")
        rows.append((f"{number}.png", "test" if number < 8 else "train", target))
    pd.DataFrame(rows, columns=["path", "split", "target"]).to_parquet(tmp_path / "images.parquet")
    framing = {"size": 64, "region": None, "fit": "squash", "tile_size": None, "tile_overlap": 0.25}
    task = {"root": str(tmp_path), "framing": {**framing, "significant_bits": None}, "size": 32}
    (tmp_path / "task.json").write_text(json.dumps({**task, "epochs": 20, "lr": 3e-3, "seed": 0}))

    @functools.wraps(build_model)
    def tiny(**settings):
        return build_model(**{**settings, "backbone": "test_efficientnet", "weights": "none"})

    monkeypatch.setattr(quality_loop, "build_model", tiny)
    monkeypatch.setattr(sys, "argv", ["quality_loop.py", str(tmp_path)])
    with torch.random.fork_rng(devices=[]):
        quality_loop.main()
    with np.load(tmp_path / "scores.npz") as found:
        assert found["one_view"].shape == found["eight_views"].shape == (8, 2)
        assert np.exp(found["eight_views"]).sum(axis=1) == pytest.approx(1, abs=0.1)  # a mean of logarithms
        odds = found["eight_views"][:, 1] - found["eight_views"][:, 0]
        assert odds[1::2].min() > odds[::2].max()
        assert (found["seconds"] > 0).all()


def row(who, seed, seconds, auroc, **more):
    return {"who": who, "seed": seed, "seconds": seconds, "auroc": auroc, "threshold": "the test's best", **more}


ROWS = [
    *(row("loop, 128 px, 8 epochs", seed, 100.0 + seed, 0.92) for seed in range(3)),
    *(row("loop, 128 px, 8 epochs, 8 views", seed, 110.0, 0.93) for seed in range(3)),
    *(
        row("ours, demo", seed, 200.0, auroc, certified=True, kept=seed > 0, budget=0.1)
        for seed, auroc in enumerate((0.9, 0.94, 0.93))
    ),
]


def test_medians_over_the_seeds_and_multiples_of_the_loops_seconds_in_the_same_sitting():
    found = summarise([dict(one) for one in ROWS])
    assert found["ours, demo"]["auroc"] == 0.93
    assert found["ours, demo"]["ratio"] == pytest.approx(200 / 101)
    assert (found["ours, demo"]["certified"], found["ours, demo"]["kept"]) == (3, 2)
    assert found["loop, 128 px, 8 epochs"]["ratio"] == 1
    assert found["loop, 128 px, 8 epochs"]["overkill"] is None
    alone = summarise([row("ours, demo", 0, 200.0, 0.9)])
    assert alone["ours, demo"]["ratio"] is None


def test_a_run_with_a_budget_stands_beside_the_best_loop_of_that_time():
    times = {"128 px, 3 epochs": 70.0, "128 px, 8 epochs": 170.0}  # 20 s an epoch, with eight views
    rows = [row(f"loop, {name}, 8 views", 0, seconds, 0.9) for name, seconds in times.items()]
    assert quality_runs.loop_within("5min", rows) == (128, 14, "5min")
    assert quality_runs.loop_within("20s", rows) == (128, 1, "20s")
    rows += [row("loop, 128 px, within 5min", 0, 303.0, 0.92), row("loop, 176 px, 9 epochs", 0, 310.0, 0.99)]
    rows.append(row("ours, 5min", 0, 294.0, 0.925))
    assert beside_loops("5min", summarise(rows), ranks=True) == {
        "budget": "5min", "measure": "auroc", "ours": 0.925, "loop": 0.92, "loops_setting": "128 px, within 5min",
        "kept": 0.98,
    }  # fmt: skip


def test_the_figure_has_a_panel_for_each_set_and_a_mark_for_each_setting():
    rows = [dict(one) for one in ROWS]
    measured = {"images": 80, "tested": 20, "tested_defective": 8, "rows": rows, "medians": summarise(rows)}
    figure = draw({"sets": {"elpv": measured, "castings": measured, "small": measured}})
    shown = [axes for axes in figure.axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in shown][:2] == ["Solar cells (ELPV)", "castings"]
    assert all(axes.get_xscale() == "log" for axes in shown)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()][2:] == ["128 px, 8 epochs"]
