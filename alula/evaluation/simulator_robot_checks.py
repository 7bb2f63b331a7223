"""What a simulator of multirotors or arms must do beside the protocol: free fall, order of joints and quaternions."""

from collections.abc import Callable

import numpy as np

from alula.errors import AlulaError
from alula.evaluation.simulator_cases import (
    DROPPED_FROM_W,
    DROPPED_TURNED,
    ArmCase,
    Case,
    FlightCase,
)
from alula.evaluation.simulator_checks import COMMON, CheckFailed, N, expect, random_actions
from alula.frames import quat_from_rot, rot_from_quat, rotation_between
from alula.robots.kinematics import Kinematics
from alula.robots.multirotor import GRAVITY
from alula.sim.arm_scene import OBJECT

FALL_STEPS = 10
"""Control steps of free fall."""
FRAME_POSITION, FRAME_ANGLE = 1e-3, 2e-3
"""Largest difference of the tool's pose from forward kinematics [m], [rad]."""


def no_step_before_reset(case: ArmCase) -> str:
    """A step before the first reset is refused."""
    try:
        case.make(N).step(np.full((N, case.n_actions), case.rest, np.float32))
    except AlulaError as e:
        expect("reset" in str(e), f"the error does not name reset: {e}")
    else:
        raise CheckFailed("a step before reset was taken")
    return ""


def vehicles_fall(case: FlightCase) -> str:
    """With the rotors at their least, the body falls with g less their thrust.

    ::

        z = (n_r f(u_min) / m - g) t^2 / 2      t = 0.2 s
    """
    robot = case.robot
    simulator = case.quiet(N, tilt=0.0, rotor_fraction=robot.throttle_min)
    simulator.reset(0)
    steps = round(0.2 / case.config.control_dt)
    for _ in range(steps):
        simulator.step(np.full((N, case.n_actions), -1.0, np.float32))
    t = steps * case.config.control_dt
    expected = (
        0.5 * t**2 * (robot.n_rotors * robot.thrust(robot.throttle_min) / robot.mass - GRAVITY)
    )
    place = simulator.state().position_w
    worst = float(np.abs(place - [0.0, 0.0, expected]).max())
    expect(
        worst <= 0.03 * abs(expected), f"after {t:g} s at {place[0].tolist()}; z is {expected:.4f}"
    )
    return f"{place[0, 2]:.4f} m in {t:g} s; {expected:.4f} without drag"


def vehicle_quaternion(case: FlightCase) -> str:
    """The true attitude, scalar first, is the observed rotation matrix where there is no noise."""
    simulator = case.quiet(N, tilt=1.0)
    observed = np.array(simulator.reset(3)[:, 3:12]).reshape(N, 3, 3)
    quat = simulator.state().quat_wb
    expect(np.abs(quat[:, 1:]).max() > 0.05, "no vehicle is tilted")
    worst = float(np.abs(rot_from_quat(quat) - observed).max())
    expect(worst < 1e-4, f"rotation matrices differ by {worst:.2g}")
    return f"within {worst:.1e}"


def joint_order(case: ArmCase) -> str:
    """The action of a joint moves the joint of that name, and in its direction."""
    robot = case.robot
    low, high, size = (
        np.array(x)
        for x in (robot.position_low, robot.position_high, case.config.action_size(robot))
    )
    simulator = case.quiet(N)
    for first in range(0, case.n_actions, N):
        simulator.reset(0)
        before = simulator.scene.joint_position.copy()
        joints = np.minimum(first + np.arange(N), case.n_actions - 1)
        rows = np.arange(N)
        # Away from the nearer limit
        sign = np.where(before < 0.5 * (low + high), 1.0, -1.0)[rows, joints]
        action = np.zeros((N, case.n_actions), np.float32)
        action[rows, joints] = 0.3 * sign
        for _ in range(10):
            simulator.step(action)
        moved = (simulator.scene.joint_position - before) / (3.0 * size)
        for row, joint in enumerate(joints):
            name, most = robot.joint_names[joint], int(np.abs(moved[row]).argmax())
            expect(most == joint, f"the action of {name} moves {robot.joint_names[most]}")
            share = float(moved[row, joint] * sign[row])
            # Half a gripper's way is its servo's lag.
            expect(0.2 < share < 1.6, f"{name} moved by {share:.2f} of what was commanded")
    return ", ".join(robot.joint_names)


def tool_frame(case: ArmCase) -> str:
    """The tool's pose in its environment's frame is that of forward kinematics from the joint positions by name.

    A wrong order of joints or quaternions, and the world's origin in place of the environment's, show here.
    """
    simulator, chain = case.quiet(N), Kinematics(case.robot)
    simulator.reset(5)
    worst_position = worst_angle = 0.0
    for move in [None, *random_actions(case, N, 10, 0.5)]:
        if move is not None:
            simulator.step(move)
        scene = simulator.scene
        for row, q in enumerate(scene.joint_position):
            position, rot = chain.forward([float(x) for x in q])
            error = np.abs(scene.sensor["tool_position_w"][row] - position).max()
            quat = quat_from_rot(np.reshape(rot, (3, 3)))
            angle = np.linalg.norm(rotation_between(scene.sensor["tool_quat_w"][row], quat))
            worst_position = max(worst_position, float(error))
            worst_angle = max(worst_angle, float(angle))
    expect(worst_position <= FRAME_POSITION, f"the tool is {worst_position:.3g} m off")
    expect(worst_angle <= FRAME_ANGLE, f"the tool is turned by {worst_angle:.3g} rad")
    return f"within {worst_position:.1e} m and {worst_angle:.1e} rad"


def objects_fall(case: ArmCase) -> str:
    """An object let go in the air stands where it was put, falls with g and does not turn.

    ::

        z = z0 - g t^2 / 2      t = 0.2 s; an explicit step of dt makes it g t dt / 2 less or more
    """
    simulator = case.falling(N)
    simulator.reset(0)
    begin = DROPPED_FROM_W + np.outer(0.05 * np.arange(N), [1.0, 0.0, 0.0])
    put = float(np.abs(simulator.scene.sensor[f"{OBJECT}_position_w"] - begin).max())
    expect(put < 1e-4, f"it stands {put:.3g} m from where it was put")
    for _ in range(FALL_STEPS):
        simulator.step(np.zeros((N, case.n_actions), np.float32))
    t, dt = FALL_STEPS * case.config.control_dt, case.config.control_dt / case.config.substeps
    sensor = simulator.scene.sensor
    fall = sensor[f"{OBJECT}_position_w"] - begin
    expected = -0.5 * GRAVITY * t**2
    expect(np.abs(fall[:, :2]).max() < 1e-3, f"it moves aside by {np.abs(fall[:, :2]).max():.3g} m")
    off = float(np.abs(fall[:, 2] - expected).max())
    expect(off < GRAVITY * t * dt + 1e-3, f"it falls {fall[0, 2]:.4f} m in {t:g} s; {expected:.4f}")
    speed = float(np.abs(sensor[f"{OBJECT}_velocity_w"][:, 2] + GRAVITY * t).max())
    expect(speed < 0.01 * GRAVITY * t, f"its velocity is {speed:.3g} m/s from -g t")
    turned = rotation_between(sensor[f"{OBJECT}_quat_w"], np.tile(DROPPED_TURNED, (N, 1)))
    angle = float(np.linalg.norm(turned, axis=1).max())
    expect(angle < 1e-3, f"it is turned by {angle:.3g} rad from how it was put")
    return f"{fall[0, 2]:.4f} m in {t:g} s; {expected:.4f} in steps without end"


OF_FLIGHTS: tuple[Callable[[FlightCase], str], ...] = (vehicles_fall, vehicle_quaternion)
"""For multirotors."""
OF_ARMS: tuple[Callable[[ArmCase], str], ...] = (
    no_step_before_reset, joint_order, tool_frame,
)  # fmt: skip
"""For arms."""


def checks_of(case: Case) -> list[Callable[..., str]]:
    """The checks that a case can answer, in the order in which they are told."""
    if isinstance(case, FlightCase):
        return [*COMMON, *OF_FLIGHTS]
    if isinstance(case, ArmCase):
        return [*COMMON, *OF_ARMS, *([objects_fall] if case.has_object else [])]
    return [*COMMON]
