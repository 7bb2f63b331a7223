"""Single estimators against hand-worked numbers and made-up series."""

import numpy as np
import pytest

from alula.identification.complete import rising_range
from alula.identification.inertia import filtered, fit_ratio, rotor_torques
from alula.identification.intervals import (
    bootstrap_fit,
    chi_square,
    correlation_time,
    interval,
    student_t_975,
)
from alula.identification.logs import FlightLog, Signal
from alula.identification.noise import resting_interval, resting_noise
from alula.identification.openloop import rotation_vector, turn
from alula.identification.thrust import fit_asymmetric, fit_symmetric, lagged_throttle


def ar1(n: int, phi: float, rng) -> np.ndarray:
    x = np.zeros(n)
    noise = rng.standard_normal(n)
    for k in range(1, n):
        x[k] = phi * x[k - 1] + noise[k]
    return x


def test_lag_by_hand():
    # step 0 -> 1 at the second sample, lag 0.1 s, dt 0.1 s: ends 0, 1 - e^-1, 1 - e^-2; cell means
    u = np.array([[0.0], [1.0], [1.0]])
    expected = [0.0, 0.5 * 0.6321206, 0.5 * (0.6321206 + 0.8646647)]
    np.testing.assert_allclose(lagged_throttle(u, 0.1, 0.1, 0.1)[:, 0], expected, atol=1e-6)
    np.testing.assert_allclose(lagged_throttle(u, 0.1, 0.1, 0.1001)[:, 0], expected, atol=1e-6)


def test_lag_up_and_down_differ():
    u = np.concatenate((np.zeros(5), np.ones(5), np.zeros(5)))[:, None]
    s = lagged_throttle(u, 0.01, 0.02, 0.2)[:, 0]
    # rising for 50 ms: 1 - e^-2.5 = 0.918, mean with its predecessor 1 - e^-2 = 0.865: 0.8913
    assert s[9] == pytest.approx(0.5 * (2 - np.exp(-2.5) - np.exp(-2.0)))
    # falling for 50 ms from 0.9179: e^-0.25 and e^-0.2 of it
    assert s[14] == pytest.approx((1 - np.exp(-2.5)) * 0.5 * (np.exp(-0.25) + np.exp(-0.2)))


def test_thrust_fit_recovers_truth():
    rng = np.random.default_rng(3)
    dt, n = 0.004, 5000
    u = np.clip(0.6 + np.repeat(rng.uniform(-0.3, 0.3, (n // 50, 4)), 50, axis=0), 0, 1)
    s = lagged_throttle(u, dt, 0.05, 0.09)
    force = 4 * 0.01 + 0.02 * s.sum(1) + 0.12 * (s * s).sum(1) + 0.004 * ar1(n, 0.95, rng)
    valid = np.ones(n, dtype=bool)
    valid[1000:1100] = False
    force[1000:1100] = 1e3  # must not matter
    fit = fit_asymmetric(u, force, valid, dt, 0.07)
    assert fit.lag_up_s == pytest.approx(0.05, rel=0.05)
    assert fit.lag_down_s == pytest.approx(0.09, rel=0.05)
    for key, value in (
        ("c0", 0.01),
        ("c1", 0.02),
        ("c2", 0.12),
        ("lag_up", 0.05),
        ("lag_down", 0.09),
    ):
        lo, hi = fit.intervals[key]
        assert lo < value < hi, key
    assert fit.r2 > fit_symmetric(u, force, valid, dt).r2


def test_rotor_torques_by_hand():
    positions = np.array([[0.03, -0.02, 0], [-0.03, -0.02, 0], [-0.03, 0.02, 0], [0.03, 0.02, 0]])
    spin = np.array([1.0, -1.0, 1.0, -1.0])
    thrust = np.array([[1.0, 2.0, 3.0, 5.0]])
    # x: 0.02 (3 + 5 - 1 - 2) = 0.1; y: -0.03 (1 + 5 - 2 - 3) = -0.03; z: -(1 - 2 + 3 - 5) = 3
    np.testing.assert_allclose(rotor_torques(thrust, positions, spin), [[0.1, -0.03, 3.0]])


def test_ratio_bounds_hold_whichever_side_is_noisy():
    rng = np.random.default_rng(1)
    y = ar1(6000, 0.9, rng)
    valid = np.ones(y.size, dtype=bool)
    for on_x, on_y in ((0.8, 0.0), (0.0, 0.8), (0.5, 0.5)):
        noisy_x = 2.0 * (y + on_x * rng.standard_normal(y.size))
        noisy_y = y + on_y * rng.standard_normal(y.size)
        fit = fit_ratio(noisy_x, noisy_y, valid, 0.004, delay_s=0.0)
        assert fit.interval[0] < 2.0 < fit.interval[1]
        assert fit.low <= fit.value <= fit.high
        assert fit.low / fit.high == pytest.approx(fit.r2)


def test_ratio_finds_the_delay():
    x = ar1(4000, 0.98, np.random.default_rng(0))
    y = np.roll(x, 3)
    fit = fit_ratio(x, y, np.ones(x.size, dtype=bool), 0.004)
    assert fit.delay_s == pytest.approx(0.012, abs=0.0011)


def test_unrelated_series_are_not_observable():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 4000))
    assert not fit_ratio(x, y, np.ones(4000, dtype=bool), 0.004).observable


def test_correlation_time_of_ar1():
    # (1 + phi) / (1 - phi) = 19 for phi = 0.9
    x = ar1(200_000, 0.9, np.random.default_rng(0))
    assert correlation_time(x) == pytest.approx(19.0, rel=0.1)
    assert correlation_time(np.random.default_rng(0).standard_normal(50_000)) == pytest.approx(
        1, abs=0.1
    )


def test_intervals_cover_under_autocorrelation():
    # 60 series of a mean plus AR(1) noise: naive intervals would cover about 35 %
    hits = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        y = 1.0 + ar1(2000, 0.9, rng)
        deviations, widen = bootstrap_fit(np.ones((2000, 1)), y - y.mean(), seed=seed)
        lo, hi = interval(float(y.mean()), deviations[:, 0], widen)
        hits += lo < 1.0 < hi
    assert 52 <= hits <= 60


def test_rising_range():
    # vertex 0.01 / (2 * 0.13) = 0.03846
    assert rising_range((0.02, -0.01, 0.13))[:2] == (0.04, 1.0)
    assert rising_range((0.0, 0.1, 0.1))[:2] == (0.0, 1.0)
    assert rising_range((0.0, 0.2, -0.125))[:2] == (0.0, 0.79)


def resting_log(moving_from: int) -> FlightLog:
    rng = np.random.default_rng(0)
    time = np.arange(5000) / 500.0
    signals = {}
    for axis in "xyz":
        gyro = 0.01 + 0.003 * rng.standard_normal(5000)
        gyro[moving_from:] += np.sin(20 * time[moving_from:])
        signals[f"gyro_{axis}_rad_s"] = Signal(time, gyro)
    return FlightLog(path="x", format="csv", sha256="", signals=signals, dropped={})


def test_rest_is_found_and_measured():
    log = resting_log(2500)
    span = resting_interval(log)
    assert span is not None
    assert span[1] == pytest.approx(5.0, abs=0.3)
    noise = resting_noise(log, span)["gyro_x_rad_s"]
    assert noise.std == pytest.approx(0.003, rel=0.05)
    assert noise.mean == pytest.approx(0.01, abs=0.0005)
    assert noise.interval[0] < 0.003 < noise.interval[1]


def test_no_rest():
    assert resting_interval(resting_log(500)) is None


def test_turn_and_angle_by_hand():
    # 90 degrees about z maps x to y; its length comes back
    quarter = turn(np.array([[0.0, 0.0, np.pi / 2]]))
    np.testing.assert_allclose(quarter[0] @ [1, 0, 0], [0, 1, 0], atol=1e-9)
    np.testing.assert_allclose(
        rotation_vector(np.eye(3)[None], quarter), [[0, 0, np.pi / 2]], atol=1e-9
    )


def test_written_out_quantiles_against_scipy():
    from scipy.stats import chi2, t

    for dof in (3, 7, 20, 200):
        assert student_t_975(dof) == pytest.approx(t.ppf(0.975, dof), rel=0.01)
    for dof in (15, 40, 1000):
        low, high = chi_square(dof)
        assert low == pytest.approx(chi2.ppf(0.025, dof), rel=0.01)
        assert high == pytest.approx(chi2.ppf(0.975, dof), rel=0.01)


def test_filter_is_butterworth_forth_and_back():
    from scipy.signal import butter, sosfiltfilt

    x = ar1(4000, 0.9, np.random.default_rng(0))[:, None] + np.linspace(0, 3, 4000)[:, None]
    low = sosfiltfilt(butter(2, 25, fs=500, output="sos"), x, axis=0)
    ours = filtered(x, 0.002, 0.0, 25.0)
    assert np.std((ours - low)[50:-50]) < 0.01 * np.std(low)
    band = sosfiltfilt(butter(2, (2, 15), "bandpass", fs=500, output="sos"), x, axis=0)
    # scipy's band-pass and the product of low- and high-pass differ a little at the band's edges
    assert np.corrcoef(filtered(x, 0.002, 2.0, 15.0)[500:-500, 0], band[500:-500, 0])[0, 1] > 0.99
