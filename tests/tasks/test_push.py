"""Push by hand: what is seen, what it is worth, what counts; and the box on the floor."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

from pathlib import Path
from runpy import run_path

import mujoco
import numpy as np
import pytest

from alula.build import build_task
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmRandomization, ArmSimConfig
from alula.sim.arm_scene import Scene
from alula.sim.mujoco.arm import MujocoArm
from alula.sim.mujoco.arm_model import build_arm_model
from alula.tasks import push

Follower = run_path(str(Path(__file__).parent / "following.py"))["Follower"]
PANDA = load_arm("panda")


def scene(tool, box, goal, started=(0.5, 0.0, 0.02)) -> Scene:
    """One arm at rest."""
    sensor = {
        "tool_position_w": tool, "tool_quat_w": (0, 1, 0, 0), "object_position_w": box, "object_quat_w": (1, 0, 0, 0),
        "object_velocity_w": (0.1, 0, 0), "object_angular_velocity_w": (0, 0, 0.5), "push_force_w": (20, 0, 0),
    }  # fmt: skip
    return Scene(
        joint_position=np.zeros((1, 8)),
        joint_velocity=np.zeros((1, 8)),
        sensor={k: np.array([v], float) for k, v in sensor.items()},
        goal={"position_w": np.array([goal], float), "start_w": np.array([started], float)},
    )


def test_rows_and_entries_fit_together():
    s = scene((0.4, 0.0, 0.1), (0.5, 0.1, 0.02), (0.6, 0.0, 0.02))
    rows = {e.name: r[0] for e, r in zip(push.entries(PANDA), push.observe(s), strict=True)}
    assert {e.name: e.size for e in push.entries(PANDA)} == {k: len(r) for k, r in rows.items()}
    np.testing.assert_allclose(rows["tool_to_object_w"], [0.1, 0.1, -0.08])
    np.testing.assert_allclose(rows["object_position_error_w"], [0.1, -0.1, 0.0])
    # half a turn about x
    np.testing.assert_allclose(rows["tool_rot_w"], [1, 0, 0, 0, -1, 0, 0, 0, -1], atol=1e-15)
    # tanh(20 / 20) = 0.7615942
    expected = [[0.1, 0, 0, 0, 0, 0.1, 0.7615942, 0, 0]]
    np.testing.assert_allclose(push.privileged(s), expected, atol=1e-7)
    assert build_task("push") is push


def reward_of(tool, box, goal, change=0.0, force=0.0) -> np.ndarray:
    """Of one arm whose hand points straight down, worth 0.2."""
    s = scene(tool, box, goal)
    s.sensor["push_force_w"] = np.array([[0.6 * force, 0.0, -0.8 * force]])
    return push.reward(s, np.full((1, 8), change), np.zeros((1, 8)))


def test_the_reward_by_hand():
    # The box 0.2 m from its target, the tool at its place 65 mm behind the box; then 0.1 m to the side, actions changed by 1 in
    # all 8. tanh 1 = 0.7615942, tanh 0.5 = 0.4621172, tanh 2 = 0.9640276
    box, goal = (0.5, 0.0, 0.02), (0.5, 0.2, 0.02)
    far = 2.0 * 0.2384058
    assert reward_of((0.5, -0.065, 0.02), box, goal) == pytest.approx(0.95 + far, abs=1e-6)
    beside = 0.5 * 0.5378828 + 0.25 * 0.0359724 + 0.2 - 0.04
    assert reward_of((0.4, -0.065, 0.02), box, goal, 1.0) == pytest.approx(beside + far, abs=1e-6)
    # 4 cm before the target it has arrived, wherever the hand is: tanh 0.2 = 0.1973753
    there = 0.95 + 2.0 * 0.8026247 + 1.0
    for tool in ((0.4, 0.1, 0.3), (0.5, 0.16, 0.02)):
        assert reward_of(tool, (0.5, 0.16, 0.02), goal) == pytest.approx(there, abs=1e-6)
    # 100 N on the box, tanh 2
    assert reward_of((0.5, 0.16, 0.02), (0.5, 0.16, 0.02), goal, force=100.0) == pytest.approx(there - 1.9280552, abs=1e-6)  # fmt: skip
    # at the target itself there is no way ahead
    assert reward_of((0.5, 0.2, 0.1), goal, goal) == pytest.approx(3.95)


@pytest.mark.parametrize(
    ("box", "ok", "kind", "ended"),
    [
        ((0.5, 0.151, 0.02), True, None, False),
        ((0.5, 0.149, 0.02), False, "moved, not to the target", False),
        ((0.5, 0.005, 0.02), False, "never moved the box", False),
        # more than 0.4 m from (0.5, 0)
        ((0.5, -0.41, 0.02), False, "pushed out of reach", True),
    ],
)
def test_success_and_failures(box, ok, kind, ended):
    s = scene((0.4, 0.0, 0.02), box, (0.5, 0.2, 0.02))
    assert push.succeeded(s).tolist() == [ok]
    assert push.failed(s).tolist() == [ended]
    assert [k for k, v in push.failures(s).items() if v[0]] == ([] if kind is None else [kind])
    assert push.measures(s)["error"][0] == pytest.approx(abs(box[1] - 0.2))


def test_starts_are_in_range():
    start = push.start(np.random.default_rng(0), 500, PANDA, lambda q: q)
    place, goal = start.pose_w["object"], start.goal["position_w"]
    for points in (place, goal):
        assert (points[:, :2] >= push.AREA[0]).all()
        assert (points[:, :2] <= push.AREA[1]).all()
        assert (points[:, 2] == push.HALF_HEIGHT).all()
    apart = np.linalg.norm(place[:, :3] - goal, axis=1)
    assert push.APART[0] <= apart.min() < 0.11
    assert 0.24 < apart.max() <= push.APART[1]
    np.testing.assert_allclose(np.linalg.norm(place[:, 3:], axis=1), 1.0)
    assert (start.joint_position[:, -1] == 0.0).all()
    again = push.start(np.random.default_rng(0), 500, PANDA, lambda q: q)
    np.testing.assert_array_equal(start.joint_position, again.joint_position)


def test_the_box_is_wider_than_the_hand_opens():
    assert PANDA.position_high[-1] < push.HALF_EDGE


def test_the_box_slides_as_far_as_friction_lets_it():
    model = build_arm_model(PANDA, push, ArmSimConfig())
    data = mujoco.MjData(model)
    data.qpos[:8] = push.start(np.random.default_rng(0), 1, PANDA, lambda q: q).joint_position
    data.ctrl[:] = data.qpos[:8]
    at, box = model.body("object").jntadr[0], data.body("object")
    data.qvel[model.jnt_dofadr[at]] = 0.5
    mujoco.mj_step(model, data, 200)
    # v^2 / (2 mu g) = 0.25 / (0.8 * 9.81)
    assert box.xpos[0] - 0.5 == pytest.approx(0.0319, abs=0.002)
    assert box.xpos[2] == pytest.approx(push.HALF_HEIGHT, abs=2e-4)


def test_what_stands_stays_and_the_critic_knows_the_friction():
    config = ArmSimConfig(randomization=ArmRandomization(friction=0.3))
    simulator = MujocoArm(PANDA, push, config, 8, threads=1, auto_reset=False)
    simulator.reset(0)
    for _ in range(100):
        rows = simulator.step(np.zeros((8, 8), np.float32)).privileged
    assert push.measures(simulator.scene)["moved"].max() < 3e-4
    # After the actor's 43 rows, the task's 9, the servos' lag, the last action and the clock come the parameters: nothing
    # but the friction is drawn, one factor for all shapes.
    drawn = rows[:, 43 + 9 + 8 + 8 + 1 :]
    (column,) = np.flatnonzero(np.ptp(drawn, axis=0) > 1e-6)
    assert 0.1 < np.abs(drawn[:, column]).max() <= 0.3
    assert np.isfinite(rows).all()


def test_a_script_pushes_the_box_to_its_target():
    config = ArmSimConfig(action_scale=0.25)
    simulator = MujocoArm(PANDA, push, config, 1, threads=1, auto_reset=False)
    simulator.reset(0)
    box = simulator.scene.goal["start_w"][0]
    way = simulator.scene.goal["position_w"][0] - box
    ahead = way / np.linalg.norm(way)
    behind, end = box - 0.09 * ahead, box + way - 0.05 * ahead
    follower = Follower(simulator)
    follower.go(behind + np.array([0.0, 0.0, 0.1]), push.DOWN, 0.0, 1.5)
    follower.go(behind, push.DOWN, 0.0, 0.6)
    follower.line(behind, end, push.DOWN, 0.0, 2.0)
    assert push.succeeded(simulator.scene).all()
    height = simulator.scene.sensor["object_position_w"][0, 2]
    assert height == pytest.approx(push.HALF_HEIGHT, abs=5e-4)


def test_the_hand_at_full_speed_goes_through_nothing():
    simulator = MujocoArm(PANDA, push, ArmSimConfig(), 32, threads=1, auto_reset=False)
    simulator.reset(0)
    rng, down = np.random.default_rng(1), np.zeros((32, 8), np.float32)
    # Shoulder and elbow as fast as actions go, downwards and to all sides
    down[:, 1] = down[:, 3] = 1.0
    for _ in range(6):
        down[:, [0, 4, 5, 6]] = rng.choice([-1.0, 1.0], (32, 4))
        for _ in range(15):
            simulator.step(down)
            scene = simulator.scene
            assert scene.sensor["object_position_w"][:, 2].min() > push.HALF_HEIGHT - 0.005
    assert simulator.diverged == 0
