"""The equations of motion against hand-computed numbers, conservation laws and a second derivation."""

import math
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.spatial.transform import Rotation

from alula.robots.multirotor import GRAVITY, Multirotor, known_robots, load_robot
from alula.sim.multirotor.equations import Disturbance, State, rotation

helper = run_path(str(Path(__file__).parent / "bodies.py"))
body, full_body, hexarotor = helper["body"], helper["full_body"], helper["hexarotor"]
derivative, fly, state = helper["derivative"], helper["fly"], helper["state"]
NO_THRUST = {"thrust_curve": [0.0, 0.0, 0.0]}
TURNED = list(Rotation.from_euler("ZYX", [0.7, -0.4, 1.1]).as_quat(scalar_first=True))
TUMBLE = [3.0, -2.0, 4.0]


def matrix(s: State) -> np.ndarray:
    return np.array(rotation(s.quat_wb), float).reshape(3, 3)


def test_rotation_is_the_rotation_of_the_quaternion() -> None:
    expected = Rotation.from_quat(TURNED, scalar_first=True).as_matrix()
    np.testing.assert_allclose(np.reshape(rotation(TURNED), (3, 3)), expected, atol=1e-15)
    # a quarter turn about z takes body x to world y
    half = math.sqrt(0.5)
    np.testing.assert_allclose(
        rotation([half, 0, 0, half]), [0, -1, 0, 1, 0, 0, 0, 0, 1], atol=1e-15
    )


def test_free_fall_is_a_parabola() -> None:
    s = fly(
        body(), state(body(), velocity_w=[1.0, -2.0, 3.0], quat_wb=TURNED), [0.0] * 4, 0.01, 100
    )
    # after 1 s: v = (1, -2, 3 - 9.81), p = (1, -2, 3 - 9.81 / 2)
    np.testing.assert_allclose(s.velocity_w, [1.0, -2.0, -6.81], rtol=1e-13)
    np.testing.assert_allclose(s.position_w, [1.0, -2.0, -1.905], rtol=1e-13)
    np.testing.assert_allclose(s.quat_wb, TURNED, rtol=1e-13)


@pytest.mark.parametrize("name", known_robots())
def test_hover_is_an_equilibrium(name: str) -> None:
    robot = load_robot(name)
    rest = state(robot, rotor_fraction=[robot.hover_throttle] * 4)
    np.testing.assert_allclose(derivative(robot, rest), 0.0, atol=1e-12)
    after = fly(robot, rest, [robot.hover_throttle] * 4, 0.01, 100)
    np.testing.assert_allclose(np.array(after.rows(), float), np.array(rest.rows()), atol=1e-12)


@pytest.mark.parametrize(
    ("rotor", "torque"),
    [
        # r x T e_z = (y T, -x T, 0) with T = 5 N; reaction -spin 0.02 m T
        (0, (-0.5, -0.5, -0.1)),  # M1 front-right, counter-clockwise
        (1, (-0.5, +0.5, +0.1)),  # M2 rear-right, clockwise
        (2, (+0.5, +0.5, -0.1)),  # M3 rear-left, counter-clockwise
        (3, (+0.5, -0.5, +0.1)),  # M4 front-left, clockwise
    ],
)
def test_one_rotor_alone(rotor: int, torque: tuple[float, float, float]) -> None:
    speed = [0.0] * 4
    speed[rotor] = 1.0
    d = derivative(body(), state(body(), rotor_fraction=speed))
    np.testing.assert_allclose(d[3:6], [0.0, 0.0, 5.0 - GRAVITY], atol=1e-14)
    # dw/dt = torque / (0.01, 0.01, 0.02)
    np.testing.assert_allclose(d[10:13], np.array(torque) / [0.01, 0.01, 0.02], rtol=1e-13)
    # and that is what one sees: front rotors lift the nose, right ones the right side
    s = fly(body(), state(body(), rotor_fraction=speed), speed, 1e-3, 20)
    r = matrix(s)
    nose, left, heading = r[2, 0], r[2, 1], r[1, 0]
    assert (nose > 0) == (rotor in (0, 3))
    assert (left > 0) == (rotor in (2, 3))
    assert (heading < 0) == (rotor in (0, 2)), "the body turns against a counter-clockwise rotor"


def test_thrust_curve_and_its_scale() -> None:
    robot = body(thrust_curve=(0.1, 0.7, 4.2))
    s = state(robot, rotor_fraction=[0.5] * 4)
    # one rotor: 0.1 + 0.35 + 1.05 = 1.5 N; four: 6 N on 1 kg
    assert derivative(robot, s)[5] == pytest.approx(6.0 - GRAVITY, rel=1e-13)
    scaled = derivative(robot, s, thrust_scale=[2.0, 1.0, 1.0, 0.5])
    assert scaled[5] == pytest.approx(1.5 * 4.5 - GRAVITY, rel=1e-13)


def test_thrust_points_along_body_z() -> None:
    s = state(body(), quat_wb=TURNED, rotor_fraction=[1.0] * 4)
    expected = 20.0 * matrix(s)[:, 2] - [0.0, 0.0, GRAVITY]
    np.testing.assert_allclose(derivative(body(), s)[3:6], expected, rtol=1e-13)


def test_disturbance_pushes_in_the_world_and_turns_in_the_body() -> None:
    robot = body(mass=2.0, thrust_curve=(0.0, 0.0, 10.0))
    d = Disturbance(force_w=[1.0, 2.0, 3.0], torque_b=[0.01, -0.02, 0.03])
    found = derivative(robot, state(robot, quat_wb=TURNED), d=d)
    np.testing.assert_allclose(found[3:6], [0.5, 1.0, 1.5 - GRAVITY], rtol=1e-13)
    np.testing.assert_allclose(found[10:13], [1.0, -2.0, 1.5], rtol=1e-13)


def test_attitude_follows_the_body_rate() -> None:
    # 2 rad/s about body y for 0.5 s after a yaw: R = R_0 exp(1 [e_y])
    robot = body()
    start = Rotation.from_euler("z", 0.3)
    s = state(robot, quat_wb=list(start.as_quat(scalar_first=True)), angular_velocity_b=[0, 2.0, 0])
    end = fly(robot, s, [0.0] * 4, 1e-3, 500)
    expected = (start * Rotation.from_rotvec([0, 1.0, 0])).as_matrix()
    np.testing.assert_allclose(matrix(end), expected, atol=1e-12)


def test_gyroscopic_torque_does_no_work() -> None:
    robot = full_body()
    rng = np.random.default_rng(0)
    for _ in range(20):
        w, speed = rng.normal(0.0, 10.0, 3), rng.uniform(0.0, 1.0, 4)
        s = state(robot, angular_velocity_b=list(w), rotor_fraction=list(speed), quat_wb=TURNED)
        dw = derivative(robot, s, **NO_THRUST)[10:13]
        momentum = robot.rotor_inertia * 1000.0 * np.dot(robot.rotor_spin, speed)
        assert abs(momentum) > 1e-5
        torque = np.array(robot.inertia) * dw
        # J dw/dt = -w x (J w + h e_z)
        expected = -np.cross(w, np.array(robot.inertia) * w + [0.0, 0.0, momentum])
        np.testing.assert_allclose(torque, expected, rtol=1e-11, atol=1e-13)
        assert abs(w @ torque) < 1e-12 * np.linalg.norm(w) * np.linalg.norm(torque) + 1e-13


def test_torque_free_body_keeps_momentum_and_energy() -> None:
    robot = body(inertia=(0.011, 0.014, 0.021))
    s = state(robot, angular_velocity_b=TUMBLE, quat_wb=TURNED)
    inertia = np.array(robot.inertia)

    def momentum_and_energy(s: State) -> tuple[np.ndarray, float]:
        w = np.array(s.angular_velocity_b, float)
        return matrix(s) @ (inertia * w), 0.5 * w @ (inertia * w)

    before = momentum_and_energy(s)
    after_state = fly(robot, s, [0.0] * 4, 1e-3, 2000)
    after = momentum_and_energy(after_state)
    assert np.linalg.norm(np.subtract(after_state.angular_velocity_b, TUMBLE)) > 1.0
    np.testing.assert_allclose(after[0], before[0], rtol=1e-10)
    assert after[1] == pytest.approx(before[1], rel=1e-11)


def test_rotors_that_spin_up_take_their_momentum_from_the_body() -> None:
    # Without air (no thrust, no drag torque) R (J w + h e_z) is constant while the rotors change speed
    robot = full_body()
    s = state(robot, angular_velocity_b=TUMBLE, quat_wb=TURNED, rotor_fraction=[0.1, 0.9, 0.3, 0.6])
    airless = NO_THRUST | {"drag_b": [0.0] * 3}
    spin, inertia = np.array(robot.rotor_spin), np.array(robot.inertia)

    def momentum(s: State) -> np.ndarray:
        h = robot.rotor_inertia * robot.rotor_speed_max * (spin @ np.array(s.rotor_fraction, float))
        return matrix(s) @ (inertia * np.array(s.angular_velocity_b, float) + [0.0, 0.0, h])

    end = fly(robot, s, [0.9, 0.2, 0.8, 0.0], 1e-3, 500, **airless)
    exchanged = (
        robot.rotor_inertia * 1000.0 * (spin @ np.subtract(end.rotor_fraction, s.rotor_fraction))
    )
    assert abs(exchanged) > 0.02
    np.testing.assert_allclose(momentum(end), momentum(s), atol=1e-9)


def test_spinning_up_counter_clockwise_turns_the_body_clockwise() -> None:
    robot = body(rotor_inertia=2e-5)
    s = state(robot)
    d = derivative(robot, s, throttle=[1.0, 0.0, 0.0, 0.0], **NO_THRUST)
    # -I ds/dt w_max / J_z = -2e-5 (1 / 0.05) 1000 / 0.02 = -20 rad/s^2
    np.testing.assert_allclose(d[10:13], [0.0, 0.0, -20.0], atol=1e-12)
    # slowing down from full speed with the slower lag: +2e-5 (1 / 0.1) 1000 / 0.02 = +10
    s = state(robot, rotor_fraction=[1.0, 0.0, 0.0, 0.0])
    d = derivative(robot, s, throttle=[0.0] * 4, **NO_THRUST)
    np.testing.assert_allclose(d[10:13], [0.0, 0.0, 10.0], atol=1e-12)


@pytest.mark.parametrize("dt", [0.001, 0.01, 0.05])
def test_rotors_follow_their_lag_exactly(dt: float) -> None:
    robot = body()
    steps = round(0.1 / dt)
    rising = fly(robot, state(robot), [0.8] * 4, dt, steps // 2).rotor_fraction
    falling = fly(
        robot, state(robot, rotor_fraction=[0.8] * 4), [0.3] * 4, dt, steps
    ).rotor_fraction
    # one lag each, 0.05 s up and 0.1 s down: 1 - 1/e = 63.212 % of the way
    np.testing.assert_allclose(rising, 0.8 * 0.6321205588, rtol=1e-9)
    np.testing.assert_allclose(falling, 0.8 - 0.5 * 0.6321205588, rtol=1e-9)


def test_terminal_velocity() -> None:
    robot = body(drag_b=(0.3, 0.2, 0.4))
    # v = m g / D: level against D_z = 0.4, on its side (body x down) against D_x = 0.3
    level = fly(robot, state(robot), [0.0] * 4, 0.05, 1200)
    np.testing.assert_allclose(level.velocity_w, [0.0, 0.0, -9.81 / 0.4], rtol=1e-9, atol=1e-9)
    side = list(Rotation.from_euler("y", 90, degrees=True).as_quat(scalar_first=True))
    fallen = fly(robot, state(robot, quat_wb=side), [0.0] * 4, 0.05, 1600)
    np.testing.assert_allclose(fallen.velocity_w, [0.0, 0.0, -9.81 / 0.3], rtol=1e-9, atol=1e-9)
    # and on the way v(t) = v_inf (1 - exp(-D t / m)): at 1 s, 24.525 (1 - e^-0.4) = 8.08540
    on_the_way = fly(robot, state(robot), [0.0] * 4, 0.01, 100)
    assert on_the_way.velocity_w[2] == pytest.approx(-8.08540, abs=1e-5)


def test_quaternion_stays_a_unit() -> None:
    robot = body()
    s = fly(robot, state(robot, angular_velocity_b=[20.0, -15.0, 25.0]), [0.0] * 4, 0.01, 2000)
    assert abs(np.linalg.norm(np.array(s.quat_wb, float)) - 1.0) < 1e-6
    # a norm that is off comes back quadratically: 1.01 -> 1.01 (3 - 1.0201) / 2 = 0.9998495
    off = fly(robot, state(robot, quat_wb=[1.01, 0.0, 0.0, 0.0]), [0.0] * 4, 0.01, 1)
    assert off.quat_wb[0] == pytest.approx(0.9998495, abs=1e-9)


def test_rk4_is_of_fourth_order() -> None:
    robot = full_body()
    s = state(robot, velocity_w=[3.0, -2.0, 1.0], quat_wb=TURNED, angular_velocity_b=TUMBLE,
              rotor_fraction=[0.2, 0.5, 0.9, 0.4])  # fmt: skip
    throttle = [0.9, 0.6, 0.3, 0.8]
    ends = {
        n: np.array(fly(robot, s, throttle, 0.4 / n, n).rows(), float) for n in (20, 40, 80, 1280)
    }
    errors = [np.linalg.norm((ends[n] - ends[1280])[:13]) for n in (20, 40, 80)]
    assert errors[0] > 1e-7, "the errors are above rounding"
    ratios = [errors[0] / errors[1], errors[1] / errors[2]]
    assert all(14.0 < r < 18.5 for r in ratios), ratios


def reference_flight(
    robot: Multirotor,
    s: State,
    throttle: np.ndarray,
    time: float,
    force: np.ndarray,
    torque: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """The same physics derived anew, with vectors and a rotation matrix, by an adaptive integrator."""
    inertia = np.diag(robot.inertia)
    arms = np.array(robot.rotor_position_b)
    spin = np.array(robot.rotor_spin)
    c0, c1, c2 = robot.thrust_curve

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        v, r, w, s = y[3:6], y[6:15].reshape(3, 3), y[15:18], y[18:]
        lag = np.where(throttle > s, robot.rotor_lag_up, robot.rotor_lag_down)
        s_dot = (throttle - s) / lag
        forces = np.outer(c0 + c1 * s + c2 * s**2, [0.0, 0.0, 1.0])
        drag = -r @ np.diag(robot.drag_b) @ r.T @ v
        v_dot = (r @ forces.sum(0) + drag + force) / robot.mass - [0.0, 0.0, 9.81]
        # every rotor's own angular momentum, and the torque with which it turns against the air
        axis = np.array([0.0, 0.0, 1.0])
        own = (spin * s * robot.rotor_speed_max * robot.rotor_inertia).sum() * axis
        own_dot = (spin * s_dot * robot.rotor_speed_max * robot.rotor_inertia).sum() * axis
        air = -robot.torque_per_thrust * (spin * forces[:, 2]).sum() * axis
        total = np.cross(arms, forces).sum(0) + air + torque
        # d/dt (J w + own) + w x (J w + own) = total
        w_dot = np.linalg.solve(inertia, total - own_dot - np.cross(w, inertia @ w + own))
        x, y_, z = w
        skew = np.array([[0, -z, y_], [z, 0, -x], [-y_, x, 0]])
        return np.concatenate([v, v_dot, (r @ skew).ravel(), w_dot, s_dot])

    start = np.concatenate([
        s.position_w, s.velocity_w, Rotation.from_quat(s.quat_wb, scalar_first=True).as_matrix().ravel(),
        s.angular_velocity_b, s.rotor_fraction,
    ])  # fmt: skip
    y = solve_ivp(slope, (0.0, time), start, method="DOP853", rtol=1e-11, atol=1e-12).y[:, -1]
    return y[:3], y[3:6], y[6:15].reshape(3, 3), y[15:18], y[18:]


@pytest.mark.parametrize("six", [False, True], ids=["four rotors", "six rotors"])
def test_against_a_second_derivation(six: bool) -> None:
    robot = hexarotor(drag_b=(0.3, 0.2, 0.4), rotor_inertia=2e-5) if six else full_body()
    n = robot.n_rotors
    rng = np.random.default_rng(3)
    throttle = rng.uniform(0.2, 0.9, n)
    s = state(robot, position_w=[0.1, -0.2, 0.3], velocity_w=[3.0, -2.0, 1.0], quat_wb=TURNED,
              angular_velocity_b=TUMBLE, rotor_fraction=list(rng.uniform(0.1, 1.0, n)))  # fmt: skip
    force, torque = np.array([0.3, -0.2, 0.5]), np.array([0.01, -0.02, 0.005])
    d = Disturbance(force_w=list(force), torque_b=list(torque))
    expected = reference_flight(robot, s, throttle, 0.5, force, torque)
    end = fly(robot, s, list(throttle), 1e-3, 500, d)
    found = (
        end.position_w,
        end.velocity_w,
        matrix(end),
        end.angular_velocity_b,
        end.rotor_fraction,
    )
    assert np.linalg.norm(np.subtract(expected[0], s.position_w)) > 0.5
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.array(a, float), b, atol=1e-8)
