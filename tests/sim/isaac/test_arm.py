"""Isaac's orders and frames into ours and back: numbers by hand, against a worker that only notes what it is told."""

from typing import Any

import numpy as np
import pytest

from alula.errors import AlulaError
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.isaac.arm import IsaacArm, places, scalar_last
from alula.sim.isaac.isaac_lab import quaternion_order
from alula.tasks import lift, reach

S = np.sqrt(0.5)
ORIGIN_W = np.array([[10.0, 0.0, 0.0], [0.0, -20.0, 0.0]])


class Notes:
    """A worker whose joints and bodies stand in another order, far from the world's origin."""

    def __init__(self, quaternion: str = "xyzw", n_envs: int = 2) -> None:
        self.quaternion, self.told, self.answer, self.origin_w = (
            quaternion,
            [],
            {},
            ORIGIN_W[:n_envs],
        )

    def build(self, scene: dict[str, Any]):
        self.scene = scene
        self.joints = [j["name"] for j in scene["joints"]][::-1]
        self.bodies = ["panda_rightfinger", "panda_hand", "panda_leftfinger", "panda_link0"]
        if scene["urdf"].count("wrist_3_link"):
            self.bodies = ["wrist_3_link", "base"]
        n, b, d, f = len(self.origin_w), len(self.bodies), len(self.joints), len(scene["boxes"])
        identity = [0.0, 0.0, 0.0, 1.0] if self.quaternion == "xyzw" else [1.0, 0.0, 0.0, 0.0]
        self.answer = {
            "joint_position": np.zeros((n, d), np.float32),
            "joint_velocity": np.zeros((n, d), np.float32),
            "body_position": np.tile(self.origin_w[:, None], (1, b, 1)).astype(np.float32),
            "body_quat": np.tile(np.array(identity, np.float32), (n, b, 1)),
            "box_position": np.tile(self.origin_w[:, None], (1, f, 1)).astype(np.float32),
            "box_quat": np.tile(np.array(identity, np.float32), (n, f, 1)),
            "box_velocity": np.zeros((n, f, 3), np.float32),
            "box_angular_velocity": np.zeros((n, f, 3), np.float32),
            "touch_force": np.zeros((n, len(scene["touched"]), 3), np.float32),
        }
        said = {
            "joint_names": self.joints,
            "body_names": self.bodies,
            "quaternion": self.quaternion,
        }
        return said, self.origin_w

    def step(self, steps: int, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.told.append((steps, arrays))
        return dict(self.answer)


def panda(worker: Notes, **settings) -> IsaacArm:
    config = ArmSimConfig(noise=0.0, **settings)
    return IsaacArm(load_arm("panda"), lift, config, len(worker.origin_w), worker=worker)  # type: ignore[arg-type]


REST = np.zeros((2, 8), np.float32)


def test_a_reset_is_written_by_name_in_the_world_once() -> None:
    worker = Notes()
    arm = panda(worker)
    arm.reset(0)
    begin = arm.scene
    assert not worker.told
    arm.step(REST)
    steps, arrays = worker.told[0]
    assert steps == 4
    assert arrays["ids"].tolist() == [0, 1]
    row = [worker.joints.index(name) for name in arm.robot.joint_names]
    np.testing.assert_allclose(arrays["joint_position"][:, row], begin.joint_position, rtol=1e-6)
    # The finger that follows is where the first is.
    second = worker.joints.index("panda_finger_joint2")
    np.testing.assert_allclose(
        arrays["joint_position"][:, second], begin.joint_position[:, 7], rtol=1e-6
    )
    place = begin.sensor["object_position_w"] + ORIGIN_W
    np.testing.assert_allclose(arrays["box_position"][:, 0], place, rtol=1e-6)
    # w, x, y, z becomes x, y, z, w
    quat = begin.sensor["object_quat_w"]
    np.testing.assert_allclose(arrays["box_quat"][:, 0], quat[:, [1, 2, 3, 0]], atol=1e-6)
    assert {a.dtype for name, a in arrays.items() if name != "ids"} == {np.dtype(np.float32)}
    arm.step(REST)
    assert worker.told[1][1]["ids"].tolist() == []


def test_isaac_lab_2_gets_its_own_order() -> None:
    worker = Notes("wxyz")
    arm = panda(worker)
    arm.reset(0)
    quat = arm.scene.sensor["object_quat_w"]
    arm.step(REST)
    np.testing.assert_allclose(worker.told[0][1]["box_quat"][:, 0], quat, atol=1e-6)


def test_only_the_environment_that_ended_is_written() -> None:
    worker = Notes()
    arm = panda(worker)
    arm.reset(0)
    # The cube of environment 1 is 2 m from where it may be.
    worker.answer["box_position"][:, 0] = np.array([[0.5, 0.0, 0.02], [2.5, 0.0, 0.02]]) + ORIGIN_W
    t = arm.step(REST)
    assert t.terminated.tolist() == [False, True]
    arm.step(REST)
    assert worker.told[1][1]["ids"].tolist() == [1]
    assert worker.told[1][1]["joint_position"].shape == (1, 9)


def test_targets_go_to_joints_by_name_and_both_fingers() -> None:
    worker = Notes()
    arm = panda(worker)
    arm.reset(0)
    target = arm.scene.joint_position
    action = REST.copy()
    action[0, 1] = 1.0
    arm.step(action)
    told = worker.told[0][1]
    # Half of 2.175 rad/s for 0.02 s
    target[0, 1] += 0.5 * 2.175 * 0.02
    row = [worker.joints.index(name) for name in arm.robot.joint_names]
    np.testing.assert_allclose(told["target"][:, row], target, rtol=1e-6)
    np.testing.assert_allclose(
        told["target"][:, worker.joints.index("panda_finger_joint2")], target[:, 7], rtol=1e-6
    )
    assert not told["effort"].any()


@pytest.mark.parametrize("order", ["xyzw", "wxyz"])
def test_what_is_read_is_ours(order: str) -> None:
    worker = Notes(order)
    arm = panda(worker)
    arm.reset(0)
    answer = worker.answer
    answer["joint_position"][:] = np.arange(9.0)
    answer["joint_velocity"][:] = -np.arange(9.0)
    # The hand, 0.3 m up, turned by 90 degrees about y: its z axis, along which the tool is 0.1034 m away, is the world's x.
    hand = worker.bodies.index("panda_hand")
    answer["body_position"][:, hand] = np.array([0.0, 0.0, 0.3]) + ORIGIN_W
    turned = [S, 0.0, S, 0.0]
    answer["body_quat"][:, hand] = turned[1:] + turned[:1] if order == "xyzw" else turned
    # The cube turned by 90 degrees about z, turning about the world's x.
    about_z = [S, 0.0, 0.0, S]
    answer["box_position"][:, 0] = np.array([0.5, 0.1, 0.02]) + ORIGIN_W
    answer["box_quat"][:, 0] = about_z[1:] + about_z[:1] if order == "xyzw" else about_z
    answer["box_velocity"][:, 0] = [1.0, 2.0, 3.0]
    answer["box_angular_velocity"][:, 0] = [4.0, 0.0, 0.0]
    answer["touch_force"][0] = [[3.0, 0.0, 4.0], [0.0, -2.0, 0.0]]
    arm.step(REST)
    scene = arm.scene
    # Their joints stand backwards: finger 2 is 0, finger 1 is 1, panda_joint7 is 2.
    np.testing.assert_allclose(scene.joint_position[0], [8, 7, 6, 5, 4, 3, 2, 1])
    np.testing.assert_allclose(scene.joint_velocity[0], [-8, -7, -6, -5, -4, -3, -2, -1])
    np.testing.assert_allclose(scene.sensor["tool_position_w"], [[0.1034, 0.0, 0.3]] * 2, atol=1e-6)
    np.testing.assert_allclose(scene.sensor["tool_quat_w"], [turned] * 2, atol=1e-6)
    np.testing.assert_allclose(scene.sensor["object_position_w"], [[0.5, 0.1, 0.02]] * 2, atol=1e-5)
    np.testing.assert_allclose(scene.sensor["object_quat_w"], [about_z] * 2, atol=1e-6)
    np.testing.assert_allclose(scene.sensor["object_velocity_w"], [[1.0, 2.0, 3.0]] * 2)
    # In the cube's frame the world's x is -y.
    np.testing.assert_allclose(arm._physics.qvel[0, -3:], [0.0, -4.0, 0.0], atol=1e-5)
    # |(3, 0, 4)| and |(0, -2, 0)|
    np.testing.assert_allclose(scene.sensor["left_force"], [[5.0], [0.0]])
    np.testing.assert_allclose(scene.sensor["right_force"], [[2.0], [0.0]])


def test_a_turning_body_is_written_in_the_worlds_frame() -> None:
    worker = Notes()
    arm = panda(worker)
    arm.reset(0)
    physics = arm._physics
    physics.qpos[:, -4:], physics.qvel[:, -3:] = [S, 0.0, 0.0, S], [0.0, -4.0, 0.0]
    arm.step(REST)
    told = worker.told[0][1]["box_angular_velocity"][:, 0]
    np.testing.assert_allclose(told, [[4.0, 0.0, 0.0]] * 2, atol=1e-6)


def test_after_a_reset_sensors_are_of_the_new_state() -> None:
    worker = Notes()
    arm = panda(worker)
    arm.reset(0)
    first = arm.scene.sensor["tool_position_w"].copy()
    # Home, by hand: above the floor and before the base; forces are none.
    assert (np.abs(first - [0.55, 0.0, 0.5]) < 0.15).all()
    assert not arm.scene.sensor["left_force"].any()
    arm.step(REST)
    arm.reset(0)
    np.testing.assert_array_equal(arm.scene.sensor["tool_position_w"], first)


def test_what_is_lost_is_started_anew() -> None:
    worker = Notes()
    arm = panda(worker)
    arm.reset(0)
    worker.answer["joint_velocity"][1, 3] = np.nan
    t = arm.step(REST)
    assert t.terminated.tolist() == [False, True]
    assert np.isfinite(t.observation).all()
    assert arm.diverged == 1


def test_torques_are_limited() -> None:
    worker = Notes()
    arm = IsaacArm(
        load_arm("ur5e"), reach, ArmSimConfig(action="joint_torque", action_scale=1.0), 2, worker=worker  # type: ignore[arg-type]
    )  # fmt: skip
    arm.reset(0)
    arm.step(np.ones((2, 6), np.float32))
    told = worker.told[0][1]
    np.testing.assert_allclose(told["effort"][0, ::-1], [150.0, 150.0, 150.0, 28.0, 28.0, 28.0])
    assert not told["target"].any()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"randomization": ArmRandomization(mass=0.1)}, "body_mass"),
        ({"assisting_force": 1.0}, "assisting_force"),
    ],
)
def test_what_is_not_there_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(AlulaError, match=says):
        panda(Notes(), **settings)


def test_names_that_do_not_match_are_refused() -> None:
    assert places(["c", "a", "b"], ["a", "b", "c"], "joints").tolist() == [1, 2, 0]
    with pytest.raises(AlulaError, match="joints of Isaac: a, b; allowed: a, c"):
        places(["a", "b"], ["a", "c"], "joints")
    worker = Notes()
    build = worker.build

    def without_hand(scene):
        said, origin = build(scene)
        return said | {"body_names": ["panda_link0"]}, origin

    worker.build = without_hand  # type: ignore[method-assign]
    with pytest.raises(
        AlulaError, match="body 'panda_hand' is not among Isaac's; known: panda_link0"
    ):
        panda(worker)


def test_quaternion_orders() -> None:
    assert quaternion_order((1.0, 0.0, 0.0, 0.0)) == "wxyz"
    assert quaternion_order((0.0, 0.0, 0.0, 1.0)) == "xyzw"
    with pytest.raises(ValueError, match="default rotation"):
        quaternion_order((0.5, 0.5, 0.5, 0.5))
    assert scalar_last("xyzw")
    assert not scalar_last("wxyz")
    with pytest.raises(AlulaError, match="zyxw"):
        scalar_last("zyxw")
