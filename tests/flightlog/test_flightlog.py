"""Every reported figure against the truth of a made-up flight."""

from dataclasses import replace

import numpy as np
import pytest

from alula.flightlog.analyse import analyse
from alula.identification.logs import read_log


@pytest.fixture(scope="module")
def report(flight_bag, policy, robot):
    return analyse(flight_bag, policy=policy, robot=robot)


def test_tracking_error_is_that_of_the_true_flight(report, flown):
    # what was flown from the first to the last command, against (0.03, 0, -0.04) m
    error = flown.position_w[1:] - (0.03, 0.0, -0.04)
    distance = np.linalg.norm(error, axis=1)
    found = report.tracking
    assert found.samples == pytest.approx(799, abs=1)
    assert found.rmse_m == pytest.approx(np.sqrt(np.mean(distance**2)), rel=2e-3)
    assert found.rmse_axes_m == pytest.approx(np.sqrt(np.mean(error**2, axis=0)), rel=2e-3)
    assert found.mean_axes_m == pytest.approx(error.mean(axis=0), rel=5e-3, abs=1e-5)
    assert found.percentiles_m[95] == pytest.approx(np.percentile(distance, 95), rel=5e-3)
    assert found.max_m == pytest.approx(distance.max(), rel=2e-2)


def test_latency_is_the_injected_one(report, flown):
    injected = flown.latency[np.isfinite(flown.latency)]
    found = report.timing.latency
    assert found.samples == 797
    assert found.percentiles_s[50] == pytest.approx(np.median(injected), abs=2e-6)
    assert found.percentiles_s[99] == pytest.approx(np.percentile(injected, 99), abs=2e-6)
    assert found.max_s == pytest.approx(0.004, abs=5e-6)
    assert found.std_s == pytest.approx(injected.std(), rel=1e-3)


def test_jitter_and_missed_deadlines_are_the_injected_ones(report, flown):
    sent = (flown.time + flown.latency)[np.isfinite(flown.latency)]
    found = report.timing
    assert found.control_dt == 0.01
    assert found.control_dt_known
    assert found.missed == 3
    assert found.worst_gap_s == pytest.approx(np.diff(sent).max(), abs=2e-6)
    assert found.period.std_s == pytest.approx(np.diff(sent).std(), rel=1e-3)


def test_events_are_changes_and_counters_their_growth(report):
    events = [(round(e.time_s, 2), e.level, e.text) for e in report.recording.events]
    # the first message of the bag is the reference at 0.1 ms
    assert events == [(3.05, "error", "low battery"), (5.05, "info", "fine")]
    assert report.recording.counters == {"steps": 790, "missed": 2}


def test_the_policys_own_actions_agree(report):
    found = report.agreement
    assert found.rms < 1e-6
    assert found.close == 1.0
    # all but the first 32 commands have their 32 past actions
    assert found.steps == 797 - 32
    assert found.suspicion is None


def test_a_sound_log_has_no_gaps(report):
    assert report.gaps == ()


def test_a_wrong_order_is_named(bag_writer, flown, policy, robot, tmp_path):
    bag = bag_writer(tmp_path / "bag", flown, reference=(0.03, 0.0, -0.04), order=(0, 2, 3, 1))
    found = analyse(bag, policy=policy, robot=robot).agreement
    assert not found.agrees
    assert found.suspicion == "the commands are in the order M1, M3, M4, M2"
    assert found.suspicion_rms < 1e-5


def test_a_velocity_in_the_wrong_axes_is_named(bag_writer, flown, policy, robot, tmp_path):
    # an odometry whose twist is in the world's axes: the writer takes R^T of it, so give it R v
    bag = bag_writer(
        tmp_path / "bag", flown, reference=(0.03, 0.0, -0.04), velocity=lambda v, rot: rot @ v
    )
    found = analyse(bag, policy=policy, robot=robot).agreement
    assert not found.agrees
    assert "the log has it in world axes" in found.suspicion
    assert found.suspicion_rms < 1e-5


def test_a_true_model_departs_little(flight_maker, bag_writer, policy, robot, tmp_path):
    flight = flight_maker(policy, robot, gusts=0.0, dither=0.02)
    report = analyse(bag_writer(tmp_path / "bag", flight), policy=policy, robot=robot)
    half, full = report.gap
    assert (half.horizon_s, full.horizon_s) == (pytest.approx(0.5), pytest.approx(1.0))
    assert half.windows > 100
    for gap in (half, full):
        for key, found in gap.quantities.items():
            for axis in range(3):
                assert found.sim[axis] < 0.02 * found.hold[axis] + 1e-4, (key, axis)
                assert found.sim[axis] < 0.05 * found.constant[axis] + 1e-4, (key, axis)


def test_a_constant_force_is_found_as_bias(flight_maker, bag_writer, policy, robot, tmp_path):
    force = 0.02 * robot.mass * 9.81
    flight = flight_maker(policy, robot, gusts=0.0, dither=0.02, force_w=(force, 0.0, 0.0))
    half, full = analyse(bag_writer(tmp_path / "bag", flight), policy=policy, robot=robot).gap
    for gap, t in ((half, 0.5), (full, 1.0)):
        # without the force the model falls short by a = F / m = 0.02 g: v = a t, p = a t^2 / 2
        a = 0.02 * 9.81
        assert gap.quantities["velocity_m_s"].bias[0] == pytest.approx(-a * t, rel=0.02)
        assert gap.quantities["position_m"].bias[0] == pytest.approx(-0.5 * a * t * t, rel=0.02)
        assert abs(gap.quantities["velocity_m_s"].bias[2]) < 0.02 * a * t


def test_weak_rotors_are_found_as_bias(flight_maker, bag_writer, policy, robot, tmp_path):
    weak = replace(robot, thrust_curve=tuple(0.96 * c for c in robot.thrust_curve))
    flight = flight_maker(policy, weak, gusts=0.0)
    half, _ = analyse(bag_writer(tmp_path / "bag", flight), policy=policy, robot=robot).gap
    # in hover the weak rotors carry m g, so the model's give m g / 0.96: it rises with g (1 / 0.96 - 1)
    expected = 0.5 * 9.81 * (1.0 / 0.96 - 1.0)
    assert half.quantities["velocity_m_s"].bias[2] == pytest.approx(expected, rel=0.05)


def test_a_window_cuts_everything(flight_bag, policy, robot):
    report = analyse(flight_bag, policy=policy, robot=robot, from_s=2.5, to_s=5.5)
    assert report.timing.missed == 1
    assert report.tracking.samples == pytest.approx(300, abs=2)
    assert len(report.recording.events) == 2
    assert report.agreement.steps == pytest.approx(300 - 33, abs=2)


def test_identify_reads_the_same_bag(flight_bag, flown):
    log = read_log(flight_bag)
    assert log.format == "rosbag2"
    assert log.n_motors == 4
    at = log.signals["position_z_m"]
    assert np.allclose(at.value, flown.position_w[:, 2], atol=1e-12)
    # the stamp of step k is k * 10 ms; the bag's first message came 0.1 ms after it
    assert at.time_s[100] == pytest.approx(1.0 - 0.0001, abs=1e-6)
    assert np.allclose(log.signals["velocity_x_m_s"].value, flown.velocity_w[:, 0], atol=1e-9)
    assert np.allclose(log.signals["motor_2"].value[:50], flown.throttle[:50, 1], atol=1e-7)
