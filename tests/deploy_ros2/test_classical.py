"""Hold and landing fly in alula's own physics, with sensor noise, delay and disturbances; joints stay in bounds."""

import math
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula import frames
from alula.deploy_ros2.classical import Hold, JointHold, Land, _Rotors
from alula.deploy_ros2.samples import Sample
from alula.errors import AlulaError
from alula.robots.multirotor import GRAVITY, load_robot
from alula.sim.config import Limits, Randomization, SimConfig, Start
from alula.sim.multirotor.simulator import MultirotorSimulator
from alula.tasks import hover

flying = run_path(str(Path(__file__).parent / "flying.py"))
state = flying["state"]
ROBOTS = ("crazyflie", "crazyflie-l2f", "x500")
DELAYS = {"none": ((0, 0), (0, 0)), "action": ((2, 2), (0, 0)), "sensors": ((0, 0), (2, 2))}
DT, N = 0.01, 4


def fly(controllers, robot, delays, steps, *, change=lambda k, samples: samples, **randomization):
    """Positions and velocities [steps, N, 3] and throttles from up to 30 degrees of tilt and 1 m/s."""
    config = SimConfig(
        control_dt=DT,
        substeps=2,
        episode_steps=steps + 1,
        history=0,
        start=Start(
            position=0.0,
            tilt=math.pi / 6,
            velocity=1.0 / math.sqrt(3.0),
            angular_velocity=0.5,
            rotor_fraction=-1.0,
        ),
        limits=Limits(position=1e3, velocity=1e3, angular_velocity=1e3),
        randomization=Randomization(
            action_delay_steps=delays[0], observation_delay_steps=delays[1], **randomization
        ),
    )
    sim = MultirotorSimulator(robot, hover, config, N, auto_reset=False)
    observed, flown = sim.reset(1), []
    for k in range(steps):
        throttle = np.zeros((N, robot.n_rotors))
        for i, controller in enumerate(controllers):
            o = observed[i].astype(float)
            quat = frames.quat_from_rot(o[3:12].reshape(3, 3))
            samples = change(k, state(k * DT, o[:3], quat, o[12:15], o[15:18]))
            if k == 0:
                controller.start(0.0, samples)
            throttle[i] = controller.step(k * DT, samples)
        span = robot.throttle_max - robot.throttle_min
        action = 2.0 * (throttle - robot.throttle_min) / span - 1.0
        observed = sim.step(np.clip(action, -1.0, 1.0)).observation
        now = sim.state()
        flown.append((now.position_w.copy(), now.velocity_w.copy(), throttle))
    return tuple(np.array(x) for x in zip(*flown, strict=True))


@pytest.mark.parametrize("delay", DELAYS)
@pytest.mark.parametrize("name", ROBOTS)
def test_hold_stays_within_ten_centimetres(name, delay):
    robot = load_robot(name)
    position, _, throttle = fly([Hold(robot) for _ in range(N)], robot, DELAYS[delay], 700)
    away = np.linalg.norm(position, axis=2)
    assert away.max() < 1.2  # 1 m/s takes that to stop
    assert away[400:].max() < 0.1
    assert throttle.min() >= robot.throttle_min
    assert throttle.max() <= robot.throttle_max


@pytest.mark.parametrize("name", ROBOTS)
def test_hold_forgives_a_wrong_robot_file(name):
    robot = load_robot(name)
    wrong = {"mass": 0.1, "thrust": 0.1, "inertia": 0.2, "lag": 0.2}
    position, _, _ = fly([Hold(robot) for _ in range(N)], robot, DELAYS["action"], 700, **wrong)
    assert np.linalg.norm(position, axis=2)[500:].max() < 0.1


@pytest.mark.parametrize("name", ROBOTS)
def test_landing_descends_at_its_speed_and_straight(name):
    robot = load_robot(name)
    position, velocity, _ = fly([Land(robot) for _ in range(N)], robot, DELAYS["action"], 800)
    assert velocity[300:, :, 2].min() > -0.5
    assert velocity[300:, :, 2].max() < -0.2
    assert np.abs(position[400:, :, :2]).max() < 0.1


@pytest.mark.parametrize("name", ROBOTS)
def test_a_coasting_hold_recovers_after_a_quarter_of_a_second(name):
    """No sample at all for 0.25 s: the rotors turn at the hover throttle, then the hold goes on."""
    robot = load_robot(name)

    def drop(k, samples):
        return {} if 400 <= k < 425 else samples

    position, _, throttle = fly(
        [Hold(robot) for _ in range(N)], robot, DELAYS["none"], 900, change=drop
    )
    assert throttle[410:424] == pytest.approx(robot.hover_throttle, abs=0.02)
    assert np.linalg.norm(position, axis=2).max() < 1.2
    assert np.linalg.norm(position, axis=2)[800:].max() < 0.1


@pytest.mark.parametrize("name", ROBOTS)
def test_without_position_a_landing_goes_down_by_velocity_and_without_both_gently(name):
    robot = load_robot(name)

    def drop(k, samples):
        gone = {"position_w"} if k < 400 else {"position_w", "velocity_w"}
        return {n: s for n, s in samples.items() if n not in gone}

    _, velocity, _ = fly([Land(robot) for _ in range(N)], robot, DELAYS["none"], 500, change=drop)
    assert velocity[300:400, :, 2].min() > -0.5
    assert velocity[300:400, :, 2].max() < -0.2
    # 1 s at 97 % of the weight: 0.3 m/s more, and what noise adds to the known disturbance
    more = velocity[499, :, 2] - velocity[399, :, 2]
    assert more.min() > -0.6
    assert more.max() < 0.0


def test_touch_down_is_noticed_and_stops_the_motors():
    robot = load_robot("crazyflie")
    land = Land(robot)
    land.start(0.0, {})
    height, noticed = 0.5, None
    for k in range(600):
        height = max(height - 0.35 * DT, 0.0)
        speed = -0.35 if height > 0.0 else 0.0
        throttle = land.step(k * DT, state(k * DT, (0, 0, height), velocity=(0, 0, speed)))
        if land.landed and noticed is None:
            noticed = k * DT
        assert land.landed == (not throttle.any())
    # 0.5 m / 0.35 m/s = 1.43 s, 0.9 LEAD / 0.35 = 0.64 s more for the target, and TOUCH_TIME 0.4 s
    assert noticed == pytest.approx(2.48, abs=0.06)
    land.start(6.0, {})
    assert not land.landed


def test_level_at_rest_every_rotor_turns_at_the_hover_throttle():
    for name in ROBOTS:
        robot = load_robot(name)
        hold = Hold(robot)
        hold.start(0.0, {})
        assert hold.step(0.0, state(0.0)) == pytest.approx(robot.hover_throttle, abs=1e-9)


def test_signs_of_the_corrections():
    """M1 front right, M2 rear right, M3 rear left, M4 front left."""
    robot, tilt = load_robot("x500"), 0.1

    def answer(**change):
        hold = Hold(robot)
        hold.start(0.0, {}, np.zeros(3))
        return hold.step(0.0, state(0.0, **change)) - robot.hover_throttle

    c, s = math.cos(tilt / 2), math.sin(tilt / 2)
    m = answer(quat=(c, s, 0, 0))  # right side down: the right rotors push
    assert min(m[0], m[1]) > 0.0 > max(m[2], m[3])
    m = answer(quat=(c, 0, s, 0))  # nose down: the front rotors push
    assert min(m[0], m[3]) > 0.0 > max(m[1], m[2])
    m = answer(
        rate=(0, 0, 0.2)
    )  # turns counter-clockwise: the counter-clockwise rotors M1, M3 push
    assert min(m[0], m[2]) > 0.0 > max(m[1], m[3])
    assert answer(position=(0, 0, -0.1)).min() > 0.0  # too low
    m = answer(position=(-0.1, 0, 0))  # behind the target: nose down, the rear rotors push
    assert min(m[1], m[2]) > 0.0 > max(m[0], m[3])
    m = answer(velocity=(0, 0.1, 0))  # drifts left: right side down, the left rotors push
    assert min(m[2], m[3]) > 0.0 > max(m[0], m[1])


def test_a_hold_without_velocity_is_level():
    robot = load_robot("crazyflie")
    for position in ((0.0, 0.0, 0.0), (0.3, -0.2, 0.1)):
        hold = Hold(robot)
        hold.start(0.0, state(0.0), np.zeros(3))
        samples = state(0.0, position)
        del samples["velocity_w"]
        assert hold.step(0.0, samples) == pytest.approx(np.full(4, robot.hover_throttle))


def test_allocation_gives_the_thrust_and_torque_that_was_asked_for():
    robot = load_robot("x500")
    rotors = _Rotors(robot)
    weight = robot.mass * GRAVITY
    wanted = np.array([1.1 * weight, 0.3, -0.2, 0.02])
    for _ in range(100):
        rotors.throttle(wanted[0], wanted[1:], 0.01)
    assert rotors.effort() == pytest.approx(wanted, abs=1e-6)
    # Too much torque for the rotors: roll and pitch keep their direction, yaw gives way
    for _ in range(100):
        rotors.throttle(weight, np.array([30.0, 15.0, 5.0]), 0.01)
    force, roll, pitch, yaw = rotors.effort()
    assert roll / pitch == pytest.approx(2.0, rel=1e-6)
    assert roll > 1.5
    assert yaw < 0.5
    assert force > 0.0


BAD = [math.nan, math.inf, -math.inf, 1e300, -1e300]


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("make", [Hold, Land])
def test_whatever_comes_in_finite_throttles_come_out(make, bad):
    robot = load_robot("crazyflie")
    controller = make(robot)
    controller.start(bad, {})
    good = state(0.0)
    for name in good:
        for samples in (
            good | {name: Sample(value=np.full(len(good[name].value), bad), stamp=0.0)},
            good | {name: Sample(value=good[name].value, stamp=bad)},
            good | {name: Sample(value=np.zeros(1), stamp=0.0)},
            {n: s for n, s in good.items() if n != name},
        ):
            for now in (0.0, bad, 0.01):
                throttle = controller.step(now, samples)
                assert throttle.shape == (4,)
                assert np.isfinite(throttle).all()
                assert 0.0 <= throttle.min() <= throttle.max() <= 1.0


def test_a_target_that_is_no_position_is_where_the_vehicle_is():
    robot = load_robot("x500")
    hold = Hold(robot)
    hold.start(0.0, {}, np.array([math.nan, 0.0, 0.0]))
    throttle = hold.step(0.0, state(0.0, (7.0, 8.0, 9.0)))
    assert throttle == pytest.approx(robot.hover_throttle, abs=1e-9)


def test_settings_are_checked():
    with pytest.raises(AlulaError, match=r"descent is 2\.0 m/s; allowed: 0\.2 to 1"):
        Land(load_robot("x500"), descent=2.0)
    with pytest.raises(AlulaError, match="share at most 1"):
        JointHold(np.ones(2), share=1.5)
    with pytest.raises(AlulaError, match="allowed: 2 finite numbers"):
        JointHold(np.ones(2)).start(0.0, np.array([0.0, math.nan]))


def test_joints_go_to_their_target_within_their_speed_and_stay():
    hold = JointHold(np.array([2.0, 4.0]), share=0.5)
    hold.start(0.0, np.array([0.0, 1.0]), np.array([0.1, 0.9]))
    # 1 and 2 rad/s for 10 ms
    assert hold.step(0.01) == pytest.approx([0.01, 0.98])
    assert hold.step(0.02) == pytest.approx([0.02, 0.96])
    assert hold.step(5.0) == pytest.approx([0.07, 0.9])  # a pause counts as 50 ms
    assert hold.step(math.nan) == pytest.approx([0.07, 0.9])
    assert hold.step(1.0) == pytest.approx([0.07, 0.9])  # nor does the clock go back
    for k in range(10):
        last = hold.step(1.0 + 0.01 * k)
    assert last == pytest.approx([0.1, 0.9])
