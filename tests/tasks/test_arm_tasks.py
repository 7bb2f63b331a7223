"""Reach and lift by hand: what is seen, what it is worth, what counts as success and as which failure."""

from dataclasses import replace

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.arm_scene import Scene
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import lift, reach

HALF = np.sqrt(0.5)


def reach_scene(position: list[list[float]], quat: list[list[float]], speed: float = 0.0) -> Scene:
    """Tools there; the goal of all is (0.4, 0, 0.5), turned by 90 degrees about z."""
    n = len(position)
    return Scene(
        joint_position=np.zeros((n, 6)),
        joint_velocity=np.full((n, 6), speed),
        sensor={"tool_position_w": np.array(position), "tool_quat_w": np.array(quat)},
        goal={
            "position_w": np.tile([0.4, 0.0, 0.5], (n, 1)),
            "quat_w": np.tile([HALF, 0.0, 0.0, HALF], (n, 1)),
        },
    )


def test_reach_sees_the_errors_of_its_tool() -> None:
    scene = reach_scene([[0.3, 0.1, 0.5], [0.4, 0.0, 0.5]], [[1, 0, 0, 0], [-HALF, 0, 0, -HALF]])
    rows = reach.observe(scene)
    entries = reach.entries(load_arm("ur5e"))
    assert [r.shape[1] for r in rows] == [e.size for e in entries]
    np.testing.assert_allclose(rows[2], [[0.1, -0.1, 0.0], [0.0, 0.0, 0.0]], atol=1e-15)
    # a quarter turn about the world's z; and none, for q and -q are one attitude
    np.testing.assert_allclose(rows[3], [[0, 0, np.pi / 2], [0, 0, 0]], atol=1e-7)
    measures = reach.measures(scene)
    np.testing.assert_allclose(measures["error"], [np.sqrt(0.02), 0.0])
    np.testing.assert_allclose(measures["angle"], [np.pi / 2, 0.0], atol=1e-7)


def test_reach_is_rewarded_by_its_formula() -> None:
    scene = reach_scene([[0.4, 0.0, 0.5], [0.4, 0.3, 0.5]], [[HALF, 0, 0, HALF]] * 2, speed=0.5)
    action, previous = np.full((2, 6), 0.5), np.full((2, 6), 0.25)
    # 1 - 0.01 / 0.3 - 0.2 * 0.1 - 0.01 * 6 / 16 - 0.002 * 6 / 4; 0.3 m away: sqrt(0.3^2 + 0.01^2) = 0.3001666
    # (1 - tanh(0.01 / 0.02)) / 2 = 0.2689414; 0.3 m away nothing
    common = 1.0 - 0.02 - 0.00375 - 0.003
    np.testing.assert_allclose(
        reach.reward(scene, action, previous),
        [common - 0.0333333 + 0.2689414, common - 1.0005554],
        atol=1e-6,
    )


def test_reach_succeeds_within_a_centimetre() -> None:
    scene = reach_scene([[0.4, 0.0099, 0.5], [0.4, 0.0101, 0.5]], [[1, 0, 0, 0]] * 2)
    assert reach.succeeded(scene).tolist() == [True, False]
    assert reach.failures(scene)["not at the goal"].tolist() == [False, True]
    assert not reach.failed(scene).any()


@pytest.mark.parametrize("robot", ["panda", "ur5e"])
def test_reach_begins_near_home_with_goals_above_the_floor(robot: str) -> None:
    simulator = MujocoArm(load_arm(robot), reach, ArmSimConfig(), 300)
    simulator.reset(0)
    scene = simulator.scene
    assert scene.goal["position_w"][:, 2].min() >= reach.LOWEST
    away = np.abs(scene.joint_position - simulator.robot.home)
    assert 0.9 * reach.SPREAD / 3 < away.max() <= reach.SPREAD / 3 + 1e-12
    # goals are poses of the tool: brought there, it has arrived
    start = reach.start(np.random.default_rng(0), 5, simulator.robot, simulator._tool_pose)
    np.testing.assert_allclose(np.linalg.norm(start.goal["quat_w"], axis=1), 1.0, atol=1e-9)
    seen = simulator._tool_pose(scene.joint_position)
    np.testing.assert_allclose(scene.sensor["tool_position_w"], seen[:, :3], atol=1e-12)


def test_reach_says_so_where_the_tool_stays_below_the_floor() -> None:
    """A UR5e that hangs from a ceiling at z = 0 has no goal."""
    arm = load_arm("ur5e")
    base = '<body name="base"'
    assert base in arm.model
    hung = replace(arm, model=arm.model.replace(base, base + ' euler="3.14159265 0 0"'))
    simulator = MujocoArm(hung, reach, ArmSimConfig(), 2)
    with pytest.raises(
        AlulaError, match=r"tool of 'ur5e' is below 0\.1 m in all of 1000 poses"
    ) as e:
        simulator.reset(0)
    assert "\n" not in str(e.value)


def lift_scene(
    cube: list[list[float]], tool: list[list[float]], force: list[list[float]] | None = None
) -> Scene:
    """Cubes and tools there, upright; pads press so hard; all targets at (0.5, 0, 0.3)."""
    n = len(cube)
    forces = np.array(force or [[0.0, 0.0]] * n)
    upright = np.tile([1.0, 0.0, 0.0, 0.0], (n, 1))
    return Scene(
        joint_position=np.zeros((n, 8)),
        joint_velocity=np.zeros((n, 8)),
        sensor={
            "tool_position_w": np.array(tool), "tool_quat_w": upright,
            "object_position_w": np.array(cube), "object_quat_w": upright,
            "object_velocity_w": np.zeros((n, 3)),
            "left_force": forces[:, :1], "right_force": forces[:, 1:],
        },
        goal={"position_w": np.tile([0.5, 0.0, 0.3], (n, 1))},
    )  # fmt: skip


def test_lift_sees_what_its_entries_say() -> None:
    scene = lift_scene([[0.4, 0.1, 0.02]], [[0.4, 0.0, 0.1]])
    rows = dict(
        zip([e.name for e in lift.entries(load_arm("panda"))], lift.observe(scene), strict=True)
    )
    np.testing.assert_allclose(rows["tool_to_object_w"], [[0.0, 0.1, -0.08]], atol=1e-15)
    np.testing.assert_allclose(rows["object_position_error_w"], [[0.1, -0.1, 0.28]], atol=1e-15)
    np.testing.assert_allclose(rows["tool_rot_w"], np.eye(3).reshape(1, 9))
    sizes = [e.size for e in lift.entries(load_arm("panda"))]
    assert [r.shape[1] for r in rows.values()] == sizes


def test_lift_measures_and_judges() -> None:
    scene = lift_scene(
        [[0.5, 0.0, 0.251], [0.5, 0.0, 0.249], [0.5, 0.0, 0.02], [0.5, 0.0, 0.02]],
        [[0.5, 0.0, 0.251], [0.5, 0.0, 0.249], [0.5, 0.04, 0.02], [0.5, 0.2, 0.02]],
    )
    measures = lift.measures(scene)
    np.testing.assert_allclose(measures["error"], [0.049, 0.051, 0.28, 0.28])
    np.testing.assert_allclose(measures["height"], [0.231, 0.229, 0.0, 0.0])
    assert lift.succeeded(scene).tolist() == [True, False, False, False]
    kinds = lift.failures(scene)
    assert kinds["lifted, not at the target"].tolist() == [False, True, False, False]
    assert kinds["hovers over the cube without lifting"].tolist() == [False, False, True, False]
    assert kinds["never at the cube"].tolist() == [False, False, False, True]
    # every failure has one name
    np.testing.assert_array_equal(
        sum(k.astype(int) for k in kinds.values()), ~lift.succeeded(scene)
    )


def test_lift_fails_where_the_cube_is_out_of_reach() -> None:
    cube = [[0.5, 0.0, 0.02], [1.11, 0.0, 0.02], [0.5, -0.61, 0.02], [0.5, 0.0, -0.11]]
    assert lift.failed(lift_scene(cube, cube)).tolist() == [False, True, True, True]


def test_lift_is_worth_more_the_further_it_has_come() -> None:
    pressed, floor, target = [5.0, 5.0], [0.4, 0.1, 0.02], [0.5, 0.0, 0.3]
    half = [0.45, 0.05, 0.2]
    scene = lift_scene(
        [floor, floor, floor, half, target],
        [[0.4, 0.1, 0.3], floor, floor, half, target],
        [[0.0, 0.0], [0.0, 0.0], pressed, pressed, pressed],
    )
    still = np.zeros((5, 8))
    reward = lift.reward(scene, still, still)
    # far, at the cube, holding it, on the way, arrived
    assert (np.diff(reward) > 0.0).all()
    # a rough action costs, and the pads must both press
    rough = still.copy()
    rough[:, :-1] = 1.0
    assert (lift.reward(scene, rough, still) < reward).all()
    one = lift_scene([half], [half], [[5.0, 0.0]])
    assert lift.reward(one, still[:1], still[:1])[0] < reward[3]


def test_lift_is_rewarded_by_its_formula() -> None:
    place = [0.45, 0.05, 0.2]
    scene = lift_scene([place] * 2, [place] * 2, [[5.0, 5.0], [60.0, 2.5]])
    still = np.zeros((2, 8))
    # A tool that points up, flush with the cube: 0.75 - 0.4 + 0.5 + 0.25. Carried, sqrt(0.015) m from the target:
    # 0.5 + 5 (1 - 0.1224745 / 0.4) + 2 (1 - tanh 2.4494897) = 3.9690689 + 0.0295962
    # A grip of 1, and one of 2.5 / 5 times 2 - 60 / 40
    np.testing.assert_allclose(
        lift.reward(scene, still, still), [1.1 + 3.9986650, 1.1 + 0.25 * 3.9986650], atol=1e-7
    )
    # Cubes turned by 45 and 30 degrees: cos is 0.7071068 and 0.8660254, of it above 0.7 a share of 0.3
    turns = 0.5 * np.deg2rad([45.0, 30.0])
    scene.sensor["object_quat_w"] = np.stack(
        [np.cos(turns), 0 * turns, 0 * turns, np.sin(turns)], 1
    )
    np.testing.assert_allclose(
        lift.reward(scene, still, still),
        [0.6 + 0.0118447 + 3.9986650, 0.6 + 0.2767090 + 0.25 * 3.9986650],
        atol=1e-7,
    )


def test_lift_is_worth_less_with_the_pads_on_the_floor() -> None:
    scene = lift_scene([[0.4, 0.1, 0.0295]] * 2, [[0.4, 0.1, 0.0095]] * 2)
    # One hand points down, the other sideways, turned about its y; fingers 0.02 m open
    scene.sensor["tool_quat_w"] = np.array([[0, 1, 0, 0], [HALF, 0, HALF, 0]], float)
    scene.joint_position[:, -1] = 0.02
    close = np.zeros((2, 8))
    close[:, -1] = -1.0
    # 0.5 (1 - tanh 0.1) + 0.25 (1 - tanh 0.4) = 0.6051788; exp(-1) 0.25 2 = 0.1839397; flush 0.5 exp(-0.04) = 0.4803947
    # Both have 0.0095 - 0.009 m beneath them: 0.5 (1 - 0.5 / 1); the tool's axis is worth 0.4, and nothing
    common = 0.6051788 + 0.1839397 + 0.4803947 - 0.25
    np.testing.assert_allclose(lift.reward(scene, close, close), [common + 0.4, common], atol=1e-7)
    # An open hand at that distance: exp(-1) 0.25 0 + 0.1 (1 - exp(-1 / 4)) 2 = 0.0442398
    np.testing.assert_allclose(
        lift.reward(scene, -close, -close)[0],
        0.6051788 + 0.0442398 + 0.4803947 - 0.25 + 0.4,
        atol=1e-7,
    )
    # Turned about its x, one finger is beneath the other, and reaches 0.035 m from the middle
    scene.sensor["tool_quat_w"] = np.tile([HALF, HALF, 0, 0], (2, 1))
    np.testing.assert_allclose(
        lift.reward(scene, close, close), [0.6051788 + 0.1839397 + 0.4803947 - 0.5] * 2, atol=1e-7
    )


def test_lift_draws_playgrounds_ranges() -> None:
    simulator = MujocoArm(load_arm("panda"), lift, ArmSimConfig(), 500)
    simulator.reset(0)
    scene = simulator.scene
    for values, (low, high) in (
        (scene.sensor["object_position_w"][:, :2], lift.START),
        (scene.goal["position_w"], lift.TARGET),
    ):
        assert (values >= np.array(low) - 1e-12).all()
        assert (values <= np.array(high) + 1e-12).all()
        assert (np.ptp(values, axis=0) > 0.95 * (np.array(high) - low)).all()
    np.testing.assert_allclose(scene.sensor["object_position_w"][:, 2], lift.HALF_EDGE)
    # pads press by nothing, the gripper is open
    np.testing.assert_allclose(scene.joint_position[:, -1], 0.04)
    assert not scene.sensor["left_force"].any()


def test_lift_has_head_starts_in_the_hand_and_around_the_cube() -> None:
    robot = load_arm("panda")
    config = ArmSimConfig(head_start=1.0, action="end_effector_delta", gripper_scale=8.0)
    simulator = MujocoArm(robot, lift, config, 400, auto_reset=False)
    simulator.reset(0)
    scene = simulator.scene
    in_air = scene.sensor["object_position_w"][:, 2] > 0.1
    assert 0.4 < in_air.mean() < 0.6
    to_cube = lift.to_object(scene)
    np.testing.assert_allclose(to_cube[in_air], 0.0, atol=1e-9)
    np.testing.assert_allclose(scene.sensor["object_position_w"][~in_air, 2], lift.HALF_EDGE)
    np.testing.assert_allclose(scene.joint_position[:, -1], np.where(in_air, lift.HALF_EDGE, 0.04))
    assert (np.abs(to_cube[~in_air, :2]) <= lift.BESIDE).all()
    # 1 cm or so is what the spread of the joints adds.
    assert to_cube[~in_air, 2].max() < 0.015
    assert to_cube[~in_air, 2].min() > -lift.ABOVE - 0.015
    assert np.ptp(scene.sensor["object_position_w"][~in_air, :2], axis=0) == pytest.approx(
        np.array(lift.START[1]) - lift.START[0], abs=0.05
    )
    # Nothing is inside of anything: no cube is thrown away, and fingers that close keep what is in them.
    close = np.zeros((400, simulator.n_actions), np.float32)
    close[:, -1] = -1.0
    for _ in range(25):
        simulator.step(close)
    d = np.linalg.norm(lift.to_object(simulator.scene), axis=1)
    assert (d[in_air] < 0.02).all()
    low = ~in_air & (to_cube[:, 2] > -0.01)
    assert (d[low] < 0.02).all()
    assert simulator.diverged == 0
