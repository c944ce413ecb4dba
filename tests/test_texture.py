"""Random fields are what their arguments say, and the same however they are read."""

import numpy as np
import pytest
from scipy import interpolate, ndimage

from transforms.degradations.texture import line_noise, read_field, smooth_noise, stretched


def rng(seed=0):
    return np.random.default_rng(seed)


def correlation(field, down, across):
    height, width = field.shape
    one, other = field[down:, across:], field[: height - down, : width - across]
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


# -- smooth_noise ----------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", [1, 4, 10.5, 25])
def test_smooth_noise_has_mean_zero_and_unit_variance(cell):
    fields = [smooth_noise(300, 400, rng(seed), cell=cell) for seed in range(5)]
    assert np.mean(fields) == pytest.approx(0, abs=0.1)
    assert np.std(fields) == pytest.approx(1, abs=0.1)
    assert fields[0].shape == (300, 400)
    assert fields[0].dtype == np.float32


def test_smooth_noise_knows_no_direction():
    fields = [smooth_noise(400, 400, rng(seed), cell=20) for seed in range(5)]
    for lag in (3, 8, 15):
        down = np.mean([correlation(field, lag, 0) for field in fields])
        across = np.mean([correlation(field, 0, lag) for field in fields])
        assert down == pytest.approx(across, abs=0.1)


def test_smooth_noise_is_alike_within_a_cell_and_unlike_beyond():
    field = smooth_noise(600, 600, rng(), cell=20, octaves=1)
    assert correlation(field, 0, 2) > 0.9
    assert abs(correlation(field, 0, 50)) < 0.1


def test_more_octaves_or_persistence_make_smooth_noise_rougher():
    def roughness(**how):
        field = smooth_noise(300, 300, rng(), cell=32, **how)
        return np.square(np.diff(field)).mean() / field.var()

    assert roughness(octaves=1) < roughness(octaves=3) < roughness(octaves=5)
    assert roughness(persistence=0.3) < roughness(persistence=0.8)


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1), (3, 4)])
@pytest.mark.parametrize("cell", [0.01, 1, 7, 1000])
def test_smooth_noise_of_any_size(shape, cell):
    field = smooth_noise(*shape, rng(), cell=cell)
    assert field.shape == shape
    assert np.isfinite(field).all()


# -- line_noise ------------------------------------------------------------------------------------


def test_line_noise_has_mean_zero_and_unit_variance():
    at = np.linspace(0, 1, 5000)
    curves = [line_noise(at, rng(seed), knots=40) for seed in range(20)]
    assert np.mean(curves) == pytest.approx(0, abs=0.1)
    assert np.std(curves) == pytest.approx(1, abs=0.1)


def test_line_noise_is_the_same_curve_however_densely_it_is_read():
    dense = line_noise(np.linspace(0, 1, 4001), rng(3), knots=5, octaves=7)
    sparse = line_noise(np.linspace(0, 1, 41), rng(3), knots=5, octaves=7)
    assert sparse == pytest.approx(dense[::100], abs=1e-4)


def test_an_octave_of_line_noise_is_a_spline_through_normal_values():
    knots = 6
    values = rng(1).standard_normal(knots + 3, dtype=np.float32)
    # Catmull & Rom's spline: cubic Hermite pieces with the slopes of the chords.
    slopes = (values[2:] - values[:-2]) / 2
    spline = interpolate.CubicHermiteSpline(np.arange(knots + 1), values[1:-1], slopes)
    at = np.linspace(0, 1, 500)
    ours = line_noise(at, rng(1), knots=knots, octaves=1)
    expected = spline(at * knots)
    assert ours / ours[0] == pytest.approx(expected / expected[0], abs=1e-3)


def test_line_noise_goes_on_level_beyond_its_ends():
    curve = line_noise(np.array([-2, 0, 1, 5]), rng(), knots=3)
    assert curve[0] == curve[1]
    assert curve[2] == curve[3]


# -- reading fields --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (9, 13)])
def test_a_field_is_read_as_scipy_reads_it(shape):
    field = rng().standard_normal(shape).astype(np.float32)
    down, across = rng(1).uniform(-2, 15, (2, 300))
    expected = ndimage.map_coordinates(field, [down, across], order=1, mode="nearest")
    assert read_field(field, across, down) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (7, 1), (9, 13)])
def test_a_grid_of_a_field_is_what_its_points_are(shape):
    field = rng().standard_normal(shape).astype(np.float32)
    down, across = rng(1).uniform(-2, 15, 20), rng(2).uniform(-2, 15, 30)
    points = np.meshgrid(down, across, indexing="ij")
    expected = ndimage.map_coordinates(field, points, order=1, mode="nearest")
    assert stretched(field, across, down) == pytest.approx(expected, abs=1e-5)
