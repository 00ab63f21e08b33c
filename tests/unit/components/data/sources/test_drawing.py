"""Textures that differ from lot to lot and from part to part, and defects that have a form of their own."""

import numpy as np
import pytest
from scipy import ndimage

from components.data.sources.drawing import DEFECTS, TEXTURES, Lot, draw_defect, draw_lots, draw_mask, draw_texture


def _lot(texture="brushed", angle=0.0):
    return Lot(name="lot00", texture=texture, contrast=5.0, angle=angle, length=8.0, grain=1.0, finish=0.2)


def _texture(lot, seed=0, size=64):
    return draw_texture(round(1.25 * size), size=size, lot=lot, generator=np.random.default_rng(seed))


@pytest.mark.parametrize("texture", TEXTURES)
@pytest.mark.parametrize("size", [16, 47, 64])
def test_a_texture_has_mean_zero_and_unit_spread_whatever_its_size(texture, size):
    surface = _texture(_lot(texture), size=size)
    assert surface.shape == (round(1.25 * size), round(1.25 * size))
    assert surface.dtype == np.float32
    assert surface.mean() == pytest.approx(0.0, abs=1e-4)
    assert surface.std() == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize("texture", TEXTURES)
def test_two_parts_of_a_lot_share_no_pixels(texture):
    first, second = _texture(_lot(texture), seed=0), _texture(_lot(texture), seed=1)
    # The peak of the correlation over all shifts.
    spectrum = np.fft.fft2(first) * np.conj(np.fft.fft2(second))
    assert np.abs(np.fft.ifft2(spectrum).real / first.size).max() < 0.5


@pytest.mark.parametrize("angle", [0.0, 0.8, 2.0])
def test_brushed_grain_runs_along_the_lots_angle(angle):
    strength, steepest = _slopes(_texture(_lot(angle=angle), size=128))
    assert strength > 0.4
    assert _apart(steepest, angle + np.pi / 2) < 0.15


@pytest.mark.parametrize("angle", [0.0, 0.8, 2.0])
def test_pebbles_are_lit_from_the_upper_left_whatever_the_lot(angle):
    _, steepest = _slopes(_texture(_lot("cast", angle=angle), size=128))
    assert _apart(steepest, np.pi / 4) < 0.15


def test_circular_marks_run_in_another_direction_in_each_quarter():
    surface = _texture(_lot("ground"), size=128)
    quarters = [surface[:80, :80], surface[:80, 80:], surface[80:, :80], surface[80:, 80:]]
    assert np.mean([_slopes(quarter)[0] for quarter in quarters]) > _slopes(surface)[0] + 0.1


def _slopes(surface):
    """How much the slopes of the grey levels lie in one direction (0 to 1), and in which: the structure tensor."""
    gy, gx = np.gradient(surface.astype(float))
    difference, mixed = (gx**2 - gy**2).mean(), 2 * (gx * gy).mean()
    return np.hypot(difference, mixed) / (gx**2 + gy**2).mean(), 0.5 * np.arctan2(mixed, difference)


def _apart(angle, other):
    """Between two directions without a sense: 0 to pi / 2."""
    return abs((angle - other + np.pi / 2) % np.pi - np.pi / 2)


@pytest.mark.parametrize("count", [1, 4, 32])
def test_lots_take_the_textures_in_turn_and_contrasts_spread_over_their_range(count):
    lots = draw_lots(count, np.random.default_rng(0))
    assert len({lot.name for lot in lots}) == count
    assert {lot.texture for lot in lots} == set(TEXTURES) or count < len(TEXTURES)
    logarithms = np.sort(np.log([lot.contrast for lot in lots]))
    steps = np.log(3.2) + np.arange(count + 1) / count * np.log(7.5 / 3.2)
    assert ((steps[:-1] <= logarithms) & (logarithms <= steps[1:])).all()


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("size", [16, 48, 200])
def test_a_defect_shows_in_every_view_of_its_part(kind, size):
    side = round(1.25 * size)
    for seed in range(10):
        defect = draw_defect(side, kind, size=size, generator=np.random.default_rng(seed))
        assert np.abs(defect).max() == pytest.approx(1.0)
        core = np.abs(defect) > 0.3
        assert core.mean() < 0.25
        for top, left in ((0, 0), (0, side - size), (side - size, 0), (side - size, side - size)):
            assert core[top : top + size, left : left + size].sum() >= max(2, 0.25 * core.sum())


@pytest.mark.parametrize("kind", ["pit", "crack"])
def test_pits_and_cracks_are_dark(kind):
    for seed in range(10):
        defect = draw_defect(120, kind, size=96, generator=np.random.default_rng(seed))
        assert defect.min() == pytest.approx(-1.0)
        assert defect.max() <= 0.6 + 1e-5


def test_scratches_and_stains_are_dark_as_often_as_bright():
    for kind in ("scratch", "stain"):
        drawn = [draw_defect(60, kind, size=48, generator=np.random.default_rng(seed)) for seed in range(60)]
        assert 15 <= sum(defect.max() > 0.99 for defect in drawn) <= 45


def test_each_kind_has_its_form():
    def forms(kind):
        for seed in range(10):
            core = np.abs(draw_defect(160, kind, size=128, generator=np.random.default_rng(seed))) > 0.5
            rows, columns = np.nonzero(core)
            spread = np.sqrt(np.linalg.eigvalsh(np.cov(rows, columns)))
            thickness = 2 * ndimage.distance_transform_edt(core).max()
            yield spread[1] / spread[0], thickness / 128, core.mean()

    elongation, thickness, area = (
        {kind: np.median([form[at] for form in forms(kind)]) for kind in DEFECTS} for at in range(3)
    )
    assert elongation["scratch"] > 5
    assert elongation["stain"] < 1.5
    assert max(thickness["scratch"], thickness["crack"]) < 0.06 < thickness["pit"] < 0.16 < thickness["stain"]
    assert area["stain"] > 3 * max(area["scratch"], area["pit"], area["crack"])


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("size", [48, 256])
def test_a_mask_is_in_one_piece_and_holds_whatever_is_strong(kind, size):
    for seed in range(10):
        defect = draw_defect(round(1.25 * size), kind, size=size, generator=np.random.default_rng(seed))
        mask = draw_mask(defect, size=size)
        assert (mask.dtype, set(np.unique(mask))) == (np.uint8, {0, 255})
        assert (mask[np.abs(defect) > 0.3] == 255).all()
        assert (mask > 0).sum() < 1.6 * (np.abs(defect) > 0.3).sum() + 4
        pieces = ndimage.label(mask, structure=np.ones((3, 3)))[1]
        assert pieces <= (3 if kind == "pit" else 2)  # a pit may have two more beside it


def test_cracks_branch():
    ends = []
    for seed in range(12):
        core = draw_defect(320, "crack", size=256, generator=np.random.default_rng(seed)) < -0.3
        # A circle about the middle of a line without branches meets it at most twice.
        thick = ndimage.distance_transform_edt(core)
        row, column = np.unravel_index(np.argmax(ndimage.gaussian_filter(core.astype(float), 40)), core.shape)
        y, x = np.mgrid[:320, :320]
        away = np.hypot(y - row, x - column)
        ends.append(max(ndimage.label(core & (np.abs(away - r) < thick.max()))[1] for r in (20, 30, 40, 50, 60)))
    assert np.mean(np.array(ends) > 2) > 0.5


def test_the_same_generator_draws_the_same():
    for kind in DEFECTS:
        first, second = (draw_defect(60, kind, size=48, generator=np.random.default_rng(5)) for _ in range(2))
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(_texture(_lot("ground")), _texture(_lot("ground")))
