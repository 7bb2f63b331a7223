"""What a policy sees of an arm's tool, its goals and an object: numbers worked out by hand, and what comes of bad ones."""

import math
from pathlib import Path
from runpy import run_path

import mujoco
import numpy as np
import pytest

from alula.deploy_ros2.arm_observation import OUTSIDE, ArmSources, outside, rotation_vector
from alula.deploy_ros2.runner import PolicyRunner, Status
from alula.deploy_ros2.samples import OBJECT, Sample
from alula.deploy_ros2.sim_arm import SimArm, SimArmConfig
from alula.errors import AlulaError
from alula.frames import rot_from_quat
from alula.robots.arm import Arm, load_arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import insert, lift, pivot_lift, push, reach

HERE = Path(__file__).parent
flying = run_path(str(HERE / "flying.py"))
tool_reach = run_path(str(HERE / "tool_reach.py"))
HALF = math.sqrt(0.5)
QUARTER = math.pi / 2
CLIPPED = Status.CLIPPED
"""Random policies clip numbers that are not near zero."""
# A bar of 2 m that turns about z at a height of 0.5 m, and one of 1 m at its end that turns about its own y.
MODEL = """<mujoco>
  <compiler angle="radian"/>
  <worldbody><body pos="0 0 0.5">
    <joint name="yaw"/><geom size="0.1"/>
    <body pos="2 0 0"><joint name="pitch" axis="0 1 0"/><geom size="0.1"/><site name="flange" pos="1 0 0"/></body>
  </body></worldbody>
</mujoco>"""
ARM = Arm(
    name="two-bars",
    joint_names=("yaw", "pitch"),
    position_low=(-3.0, -3.0),
    position_high=(3.0, 3.0),
    velocity_max=(1.0, 1.0),
    effort_max=(1.0, 1.0),
    model=MODEL,
)
SIZES = {
    "tool_position_w": 3, "tool_rot_w": 9, "tool_position_error_w": 3, "tool_rotation_error_w": 3, "tool_to_object_w": 3,
    "goal_position_w": 3, "object_position_w": 3, "object_rot_w": 9, "object_position_error_w": 3,
}  # fmt: skip


def samples(stamp=0.0, yaw=0.0, pitch=0.0, **others):
    """Joints in an order of their own, and other samples at once."""
    values = {
        "goal_position_w": (3.5, 0.25, 1.0),
        "goal_quat_w": (1.0, 0.0, 0.0, 0.0),
        "object_position_w": (2.0, 1.0, 0.0),
        "object_quat_w": (HALF, HALF, 0.0, 0.0),
    } | others
    joints = {"joint_position": (pitch, 7.0, yaw), "joint_velocity": (0.0, 0.0, 0.0)}
    names = ("pitch", "gripper", "yaw")
    return {n: Sample(value=np.array(v), stamp=stamp, names=names) for n, v in joints.items()} | {
        n: Sample(value=np.array(v, float), stamp=stamp) for n, v in values.items()
    }


def seen(name, **given):
    """One entry of these samples."""
    size, source = ArmSources(ARM, SIZES).entries()[name]
    filled = source(samples(**given), None, 0.0)
    assert filled is not None
    values, _ = filled
    assert len(values) == size == SIZES[name]
    return pytest.approx(values, abs=1e-12)


def test_the_tool_and_errors_by_hand():
    # Stretched along x the tool is at (3, 0, 0.5), turned by nothing.
    assert seen("tool_position_w") == [3.0, 0.0, 0.5]
    assert seen("tool_rot_w") == [1, 0, 0, 0, 1, 0, 0, 0, 1]
    assert seen("tool_position_error_w") == [0.5, 0.25, 0.5]
    assert seen("tool_to_object_w") == [-1.0, 1.0, -0.5]
    assert seen("object_position_error_w") == [1.5, -0.75, 1.0]
    assert seen("goal_position_w") == [3.5, 0.25, 1.0]
    assert seen("object_position_w") == [2.0, 1.0, 0.0]
    assert seen("object_rot_w") == [1, 0, 0, 0, 0, -1, 0, 1, 0]
    # A quarter turn to the left and the second bar straight down
    assert seen("tool_position_w", yaw=QUARTER, pitch=QUARTER) == [0.0, 2.0, -0.5]
    assert seen("tool_rot_w", yaw=QUARTER, pitch=QUARTER) == [0, -1, 0, 0, 0, 1, -1, 0, 0]
    assert seen("tool_position_error_w", yaw=QUARTER, pitch=QUARTER) == [3.5, -1.75, 1.5]


def test_rotation_errors_by_hand():
    assert seen("tool_rotation_error_w") == [0.0, 0.0, 0.0]
    assert seen("tool_rotation_error_w", yaw=QUARTER) == [0.0, 0.0, -QUARTER]
    assert seen("tool_rotation_error_w", goal_quat_w=(HALF, HALF, 0, 0)) == [QUARTER, 0.0, 0.0]
    # q and -q are one attitude, and its length need not be exactly one.
    assert seen("tool_rotation_error_w", goal_quat_w=(-HALF, -HALF, 0, 0)) == [QUARTER, 0, 0]
    assert seen("tool_rotation_error_w", goal_quat_w=(1.02, 0, 0, 0)) == [0.0, 0.0, 0.0]
    # The tool shall turn on about its own x, which points along the world's y: Rz(90) Rx(90) = (1, 1, 1, 1) / 2.
    wanted = (0.5, 0.5, 0.5, 0.5)
    assert seen("tool_rotation_error_w", yaw=QUARTER, goal_quat_w=wanted) == [0.0, QUARTER, 0.0]


def test_rotation_vectors_of_every_length():
    rng = np.random.default_rng(0)
    for angle in (0.0, 1e-12, 1e-6, 0.1, 1.0, 2.0, 3.0, math.pi - 1e-7):
        for axis in (*np.eye(3), *-np.eye(3), *rng.normal(size=(20, 3))):
            n = axis / np.linalg.norm(axis)
            q = [math.cos(angle / 2), *(math.sin(angle / 2) * n)]
            found = rotation_vector(rot_from_quat(np.array(q)).ravel().tolist())
            assert found == pytest.approx(angle * n, abs=1e-9)
    # Half a turn has two vectors; either will do.
    assert np.abs(rotation_vector([-1, 0, 0, 0, -1, 0, 0, 0, 1])) == pytest.approx([0, 0, math.pi])
    assert all(map(math.isnan, rotation_vector([math.nan] * 9)))
    assert len(rotation_vector([0.0] * 9)) == 3


def test_what_must_come_from_elsewhere():
    assert outside(["joint_position", "tool_position_w"]) == ()
    assert outside(["object_position_error_w", "tool_position_error_w", "joint_position_error"]) == (
        "goal_position_w", "object_position_w", "joint_position_reference",
    )  # fmt: skip


@pytest.fixture(scope="module")
def policies(tmp_path_factory):
    folder = tmp_path_factory.mktemp("arm")
    actions = flying["joints"](ARM)
    return {
        name: flying["with_entries"](folder / f"{name}.onnx", [(name, size)], actions, ARM)
        for name, size in SIZES.items()
    }


@pytest.mark.parametrize("name", SIZES)
def test_every_sample_that_an_entry_is_made_of_must_be_there_and_sound(policies, name):
    runner = PolicyRunner(policies[name], ARM)
    assert runner.outside == OUTSIDE.get(name, ())
    made_of = runner.outside + (("joint_position",) if name.startswith("tool_") else ())
    given = samples()
    assert runner.step(0.0, {n: given[n] for n in made_of}).status & ~CLIPPED == Status.OK
    for k, missing in enumerate(made_of, 1):
        given = samples(0.01 * k)
        del given[missing]
        assert runner.step(0.01 * k, given).status == Status.STALE
    for bad in (math.nan, math.inf, -math.inf):
        for part in made_of:
            k += 1
            given = samples(0.01 * k)
            given[part].value[0] = bad
            assert runner.step(0.01 * k, given).status == Status.NOT_FINITE
            assert np.isfinite(runner.step(0.01 * k, given).command).all()
    assert runner.counters.not_finite == 3 * len(made_of)
    assert runner.counters.stale == len(made_of)


def test_an_object_may_be_old_but_a_goal_is_safetys_to_judge(policies):
    aged = samples(0.0)
    fresh = samples(10.0) | {n: s for n, s in aged.items() if n.startswith("goal")}
    for name in ("tool_position_error_w", "tool_rotation_error_w", "goal_position_w", "object_position_error_w"):  # fmt: skip
        assert PolicyRunner(policies[name], ARM).step(10.0, fresh).status & ~CLIPPED == Status.OK
    # 30 ms are three steps.
    for name in ("tool_to_object_w", "object_position_w", "object_rot_w", "object_position_error_w"):  # fmt: skip
        for age, status in ((0.029, Status.OK), (0.031, Status.STALE)):
            old = {n: s for n, s in samples(10.0 - age).items() if n.startswith("object")}
            given = samples(10.0) | old
            assert PolicyRunner(policies[name], ARM).step(10.0, given).status & ~CLIPPED == status
            assert (
                PolicyRunner(policies["tool_position_w"], ARM).step(10.0, given).status & ~CLIPPED
                == Status.OK
            )


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("goal_quat_w", (2.0, 0.0, 0.0, 0.0)),
        ("goal_quat_w", (0.0, 0.0, 0.0, 0.0)),
        ("goal_quat_w", (1.0, 0.0, 0.0)),
        ("joint_position", (0.0, 0.0)),
    ],
)
def test_no_attitude_and_no_numbers_hold(policies, part, value):
    given = samples()
    given[part] = Sample(value=np.array(value), stamp=0.0, names=given[part].names)
    runner = PolicyRunner(policies["tool_rotation_error_w"], ARM)
    assert runner.step(0.0, given).status == Status.NOT_FINITE


def test_a_missing_joint_moves_no_tool(policies):
    runner = PolicyRunner(policies["tool_position_w"], ARM)
    part = {"joint_position": Sample(value=np.array([0.0]), stamp=0.0, names=("yaw",))}
    assert runner.step(0.0, part).status == Status.STALE


def test_steps_are_counted_by_measurements_and_not_by_goals(policies):
    runner = PolicyRunner(policies["tool_position_error_w"], ARM)
    for k in range(20):
        # Measured evenly, called with a jitter that would be no step; a latched goal is of the time of the call.
        now = 1.0 + 0.01 * k + (0.004 if k % 2 else 0.0)
        given = samples(1.0 + 0.01 * k - 1e-4)
        goal = Sample(value=given["goal_position_w"].value, stamp=now)
        assert runner.step(now, given | {"goal_position_w": goal}).status & ~CLIPPED == Status.OK


def test_a_policy_of_the_tool_needs_a_model_with_one(tmp_path):
    bare, actions = flying["ARM"], flying["joints"]()
    entries = [("object_position_error_w", 3), ("joint_position", 2)]
    policy = flying["with_entries"](tmp_path / "a.onnx", entries, actions, bare)
    assert PolicyRunner(policy, bare).outside == ("goal_position_w", "object_position_w")
    policy = flying["with_entries"](tmp_path / "b.onnx", [("tool_rot_w", 9)], actions, bare)
    with pytest.raises(AlulaError, match="robot 'two-joint' has no model"):
        PolicyRunner(policy, bare)
    policy = flying["with_entries"](tmp_path / "c.onnx", [("tool_speed_w", 3)], actions, bare)
    with pytest.raises(AlulaError):
        PolicyRunner(policy, bare)


def test_an_arm_brings_its_tool_to_a_pose(tmp_path):
    """In MuJoCo, which knows better where the tool is: within 1 mm and 2 mrad, and to the joints that it takes."""
    arm, dt = load_arm("ur5e"), tool_reach["CONTROL_DT"]
    wanted = np.array(arm.home) + tool_reach["OFFSET"]
    position, quat = tool_reach["pose"](arm, wanted)
    sim = SimArm(arm, SimArmConfig(control_dt=dt, seed=1))
    runner = PolicyRunner(tool_reach["tool_policy"](tmp_path / "p.onnx", arm), arm)
    commanded = sim.position
    for k in range(400):
        now = 100.0 + k * dt
        goal = {"goal_position_w": position, "goal_quat_w": quat}
        given = {n: Sample(value=v, stamp=now) for n, v in goal.items()} | sim.measure(now)
        step = runner.step(now, given)
        assert step.status & ~CLIPPED == Status.OK
        commanded = commanded + step.command
        sim.command(commanded)
        sim.step()
    model = mujoco.MjModel.from_xml_string(arm.model)  # pyright: ignore[reportAttributeAccessIssue]
    data = mujoco.MjData(model)  # pyright: ignore[reportAttributeAccessIssue]
    data.qpos[:6] = sim.position
    mujoco.mj_kinematics(model, data)  # pyright: ignore[reportAttributeAccessIssue]
    tool = data.site("flange")
    assert np.linalg.norm(tool.xpos - position) < 1e-3
    turn = rot_from_quat(quat) @ tool.xmat.reshape(3, 3).T
    assert np.linalg.norm(rotation_vector(turn.ravel().tolist())) < 2e-3
    assert sim.position == pytest.approx(wanted, abs=5e-3)


@pytest.mark.parametrize(
    ("task", "name"),
    [(reach, "ur5e"), *((t, "panda") for t in (reach, lift, push, insert, pivot_lift))],
)
def test_the_robot_sees_what_the_policy_saw_in_training(task, name):
    """Every entry of the tasks, from joints, goal and object's pose alone, is the simulator's own."""
    robot = load_arm(name)
    sim = MujocoArm(robot, task, ArmSimConfig(), 4, threads=1)
    sim.reset(0)
    sim.step(np.full((4, sim.n_actions), 0.3))
    scene, entries = sim.scene, task.entries(robot)
    known = ArmSources(robot, [e.name for e in entries]).entries()
    wanted = np.concatenate(task.observe(scene), axis=1)
    for k in range(4):
        values = {"joint_position": scene.joint_position, "joint_velocity": scene.joint_velocity}
        values |= {f"goal_{n}": v for n, v in scene.goal.items()}
        if "hole_bias_w" in scene.goal:
            # What is told of the hole is off, in flight as in training.
            values["goal_position_w"] = scene.goal["position_w"] + scene.goal["hole_bias_w"]
        values |= {n: v for n, v in scene.sensor.items() if n in OBJECT}
        given = {n: Sample(value=v[k].astype(float), stamp=0.0) for n, v in values.items()}
        found = [known[e.name][1](given, None, 0.0) for e in entries]
        flat = [x for filled in found if filled is not None for x in filled[0]]
        assert flat == pytest.approx(wanted[k], abs=1e-6)
