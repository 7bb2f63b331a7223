"""Pivot-lift by hand: what is seen, what it is worth, what counts; what the hand can do with the box, and what it cannot."""

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.build import build_task
from alula.presets import get_preset
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.arm_scene import Scene
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import pivot_lift as task

Follower = run_path(str(Path(__file__).parent / "following.py"))["Follower"]
PANDA = load_arm("panda")
TRAINED = get_preset("panda-pivot-lift").sim
RANDOMIZED = ArmSimConfig(randomization=TRAINED.randomization)
"""Steps of joints, with what training randomises and delays."""
REST = task.TOP + task.HALF_HEIGHT
SQUEEZED = ((0.0, 0.0, 10.0), (0.0, 3.0, -8.0))
PRESSED = ((0.0, 0.0, -10.0), (0.0, 3.0, -8.0))
LEANING = ((0.0, 0.0, 10.0), (0.0, 9.0, -1.0))
BESIDE_EACH_OTHER = ((0.0, 0.0, 10.0), (0.0, 9.0, 1.0))


def scene(tool, box, forces=((0, 0, 0), (0, 0, 0))) -> Scene:
    """One arm at rest."""
    sensor = {
        "tool_position_w": tool, "tool_quat_w": (0, 1, 0, 0), "object_position_w": box, "object_quat_w": (1, 0, 0, 0),
        "object_velocity_w": (0.1, 0, 0), "object_angular_velocity_w": (0, 0, 0.5),
        "left_force_w": forces[0], "right_force_w": forces[1],
    }  # fmt: skip
    return Scene(
        joint_position=np.zeros((1, 8)),
        joint_velocity=np.zeros((1, 8)),
        sensor={k: np.array([v], float) for k, v in sensor.items()},
        goal={},
    )


def simulated(seed: int, config: ArmSimConfig) -> MujocoArm:
    """One arm at the start of an episode without end."""
    simulator = MujocoArm(PANDA, task, config, 1, threads=1, auto_reset=False)
    simulator.reset(seed)
    return simulator


def test_rows_and_entries_fit_together():
    s = scene((0.4, 0.0, 0.3), (0.5, 0.1, 0.2), SQUEEZED)
    rows = {e.name: r[0] for e, r in zip(task.entries(PANDA), task.observe(s), strict=True)}
    assert {e.name: e.size for e in task.entries(PANDA)} == {k: len(r) for k, r in rows.items()}
    np.testing.assert_allclose(rows["tool_to_object_w"], [0.1, 0.1, -0.1])
    # tanh(0.5) = 0.4621172, tanh(0.15) = 0.1488850, tanh(0.4) = 0.3799490
    forces = [0, 0, 0.4621172, 0, 0.1488850, -0.3799490]
    expected = [[0.1, 0, 0, 0, 0, 0.1, *forces, 1.0]]
    np.testing.assert_allclose(task.privileged(s), expected, atol=1e-7)
    assert build_task("pivot_lift") is task


def reward_of(tool, box, forces=((0, 0, 0), (0, 0, 0)), grip: float = 0.0, change: float = 0.0):
    """Of one arm whose hand points straight down, with the gripper's action and a change of all others."""
    action, before = np.zeros((1, 8)), np.full((1, 8), change)
    action[:, -1] = before[:, -1] = grip
    return task.reward(scene(tool, box, forces), action, before)


def test_the_reward_by_hand():
    # The box's side is 5 cm from its middle towards the edge, and fingers are to close 14 mm inside of it. From straight
    # above, y of the tool is opposite to y of the box, and z opposite to its z: not turned to it at all.
    # 0.1 m off and 3 cm behind the edge, where the gripper does not count: tanh 0.5 = 0.4621172, tanh 2 = 0.9640276, exp(-6.25) = 0.0019305
    far = 0.5 * 0.5378828 + 0.25 * 0.0359724
    behind = (0.5, task.EDGE + 0.03 + task.HALF_EDGE, REST)
    above = (0.5, behind[1] - 0.036, REST + 0.1)
    assert reward_of(above, behind) == pytest.approx(far, abs=1e-6)
    assert reward_of(above, behind, grip=1.0) == pytest.approx(far, abs=1e-6)
    assert reward_of(above, behind, change=1.0) == pytest.approx(far - 0.007, abs=1e-6)
    # 30 mm out over the edge: six sevenths of the way; opening counts there far off, closing at the place itself
    out = (0.5, task.EDGE - 0.03 + task.HALF_EDGE, REST)
    above, at = (0.5, out[1] - 0.036, REST + 0.1), (0.5, out[1] - 0.036, REST)
    assert reward_of(above, out, grip=1.0) == pytest.approx(far + 6 / 7 + 0.2 * 0.9980695, abs=1e-6)
    assert reward_of(at, out, grip=-1.0) == pytest.approx(0.75 + 6 / 7 + 0.5)
    # where no finger fits below neither does
    less = (0.5, task.EDGE - 0.024 + task.HALF_EDGE, REST)
    at = (0.5, less[1] - 0.036, REST)
    assert reward_of(at, less, grip=-1.0) == pytest.approx(0.75 + 5.4 / 7)
    # Closed fingers on top of it, 22 mm along the way of the fingers: exp(-(44 / 20)^2) of closing, 1 - exp(-(44 / 40)^2) of
    # opening; there the hand is turned to the side, and points inside
    d = 0.022
    near = 0.5 * (1 - np.tanh(5 * d)) + 0.25 * (1 - np.tanh(20 * d))
    expected = near + 0.6 * np.exp(-((d / 0.15) ** 2)) + 6 / 7
    s = scene((0.5, out[1] - 0.036, REST + d), out)
    s.sensor["tool_quat_w"][:] = np.sqrt(0.5), -np.sqrt(0.5), 0.0, 0.0
    for grip, hand in ((-1.0, 0.5 * np.exp(-4.84)), (1.0, 0.2 * (1 - np.exp(-1.21)))):
        action = np.array([[0.0] * 7 + [grip]])
        assert task.reward(s, action, action) == pytest.approx(expected + hand, abs=1e-6)
    # squeezed 6 cm up: 0.5 + 5 * 0.6 + 2; 4 cm up: 0.5 + 5 * 0.4; 15 cm: 0.5 + 5 * 0.5 + 2; all of the way out
    for height, held in ((0.06, 5.5), (0.04, 2.5), (0.15, 5.0), (0.3, 2.5), (-0.01, 0.5)):
        z = REST + height
        place = (0.5, 0.08, z)
        at = (0.5, 0.044, z)
        assert reward_of(at, place, SQUEEZED) == pytest.approx(0.75 + 1.0 + held)
        # pressed from above by both pads is not held, and 8 cm behind the edge nothing is out
        assert reward_of(at, place, PRESSED) == pytest.approx(0.75)


def test_the_hand_turns_to_the_side():
    # As if it pointed along y, its fingers opening along z: quaternion of a turn by -90 degrees about x
    half = np.sqrt(0.5)
    s = scene((0.5, 0.044, REST), (0.5, 0.08, REST))
    s.sensor["tool_quat_w"][:] = half, -half, 0.0, 0.0
    assert task.reward(s, np.zeros((1, 8)), np.zeros((1, 8))) == pytest.approx(0.75 + 0.6)


@pytest.mark.parametrize(
    ("tool", "box", "forces", "kind"),
    [
        ((0.5, 0.0, REST + 0.06), (0.5, 0.0, REST + 0.0501), SQUEEZED, None),
        ((0.5, 0.0, REST + 0.05), (0.5, 0.0, REST + 0.0499), SQUEEZED, "held, not lifted"),
        ((0.5, 0.0, REST + 0.06), (0.5, 0.0, REST + 0.06), PRESSED, "at the box, not held"),
        # 96 and 84 degrees apart
        ((0.5, 0.0, REST + 0.06), (0.5, 0.0, REST + 0.0501), LEANING, None),
        (
            (0.5, 0.0, REST + 0.06),
            (0.5, 0.0, REST + 0.06),
            BESIDE_EACH_OTHER,
            "at the box, not held",
        ),
        ((0.5, 0.0, REST + 0.079), (0.5, 0.0, REST), SQUEEZED[:1] * 2, "at the box, not held"),
        ((0.5, 0.0, REST + 0.081), (0.5, 0.0, REST), PRESSED, "never at the box"),
        ((0.5, 0.0, REST), (0.5, -0.2, 0.0075), PRESSED, "fell off the table"),
    ],
)
def test_success_and_failures(tool, box, forces, kind):
    s = scene(tool, box, forces)
    assert task.succeeded(s).tolist() == [kind is None]
    assert [k for k, v in task.failures(s).items() if v[0]] == ([] if kind is None else [kind])
    assert task.failed(s).tolist() == [kind == "fell off the table"]
    assert task.measures(s)["height"][0] == pytest.approx(box[2] - REST)
    assert task.measures(s)["overhang"][0] == pytest.approx(-0.05 - box[1])


def test_starts_are_in_range():
    start = task.start(np.random.default_rng(0), 500, PANDA, lambda q: q)
    pose = start.pose_w["object"]
    assert (pose[:, 2] == REST).all()
    assert pose[:, 0].min() >= task.START[0][0]
    assert pose[:, 0].max() <= task.START[1][0]
    yaw = 2.0 * np.arctan2(pose[:, 6], pose[:, 3])
    assert 0.19 < np.abs(yaw).max() <= task.YAW
    corners = [
        pose[:, 1] + task.HALF_EDGE * (np.sin(yaw) * i + np.cos(yaw) * j)
        for i in (-1, 1)
        for j in (-1, 1)
    ]
    behind = np.min(corners, axis=0) - task.EDGE
    assert task.START[0][1] <= behind.min() < 0.011
    assert 0.029 < behind.max() <= task.START[1][1]
    assert np.max(corners) < task.TABLE_HIGH[1]
    assert (start.joint_position[:, -1] == task.OPEN).all()


def test_head_starts_lie_still_or_are_held():
    config = replace(TRAINED, head_start=1.0)
    simulator = MujocoArm(PANDA, task, config, 256, threads=1, auto_reset=False)
    simulator.reset(0)
    height = task.measures(simulator.scene)["height"]
    in_air = height > 0.01
    assert 0.15 < in_air.mean() < 0.35
    assert np.abs(height[~in_air]).max() < 1e-9
    over = task.measures(simulator.scene)["overhang"][~in_air] + task.HALF_EDGE
    assert task.OVER[0] - 0.01 < over.min() < 0.0
    assert 0.04 < over.max() < task.HALF_EDGE
    still = np.zeros((256, simulator.n_actions), np.float32)
    closing = still.copy()
    closing[:, 6] = -0.5
    for _ in range(25):
        simulator.step(np.where(in_air[:, None], closing, still))
    s = simulator.scene
    # Hands that hold it go on; with the others nothing has happened: nothing was inside of anything else.
    assert task.privileged(s)[in_air, -1].all()
    assert np.abs(task.measures(s)["height"][~in_air]).max() < 2e-3
    assert np.linalg.norm(s.sensor["object_velocity_w"][~in_air], axis=1).max() < 0.05
    assert simulator.diverged == 0


def test_what_lies_on_the_table_stays():
    simulator = MujocoArm(PANDA, task, RANDOMIZED, 16, threads=1, auto_reset=False)
    simulator.reset(0)
    before = simulator.scene.sensor["object_position_w"]
    for _ in range(150):
        simulator.step(np.zeros((16, 8), np.float32))
    scene = simulator.scene
    # it settles by less than 0.1 mm, and nothing touches it
    assert np.abs(scene.sensor["object_position_w"] - before).max() < 1e-4
    assert np.abs(scene.sensor["object_velocity_w"]).max() < 1e-3
    assert not scene.sensor["left_force_w"].any()
    assert not scene.sensor["right_force_w"].any()
    assert scene.sensor["tool_position_w"][:, 2].min() > REST + 0.05


def turned_down(yaw: float) -> np.ndarray:
    """The hand straight down, its fingers turned about z (9)."""
    c, s = np.cos(yaw), np.sin(yaw)
    return (
        np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.reshape(task.tilted(0.0), (3, 3))
    ).ravel()


@pytest.mark.parametrize(
    ("beside", "yaw"),
    # over its middle in three directions, and across a corner at two depths
    [(0.0, 0.0), (0.0, np.pi / 4), (0.0, np.pi / 2), (0.02, np.pi / 4), (0.035, np.pi / 4)],
)
def test_no_grasp_from_above_lifts_the_box(beside, yaw):
    simulator = simulated(0, ArmSimConfig())
    follower = Follower(simulator)
    box, quat = (simulator.scene.sensor[f"object_{k}_w"][0] for k in ("position", "quat"))
    turn = 2.0 * np.arctan2(quat[3], quat[0])
    c, s = np.cos(turn), np.sin(turn)
    place = box + beside * np.array([c - s, s + c, 0.0])
    over, rot = place + np.array([0.0, 0.0, 0.07]), turned_down(yaw + turn)
    follower.go(over, rot, 0.04, 1.0)
    follower.go(place, rot, 0.04, 0.6)
    # Pressed down by the whole arm it does not sink into the table, once the blow is over.
    follower.go(place, rot, 0.04, 0.1)
    assert task.measures(simulator.scene)["height"][0] > -2e-4
    follower.go(place, rot, 0.0, 1.5)
    follower.go(over, rot, 0.0, 1.0)
    assert not task.succeeded(simulator.scene).any()
    assert task.measures(simulator.scene)["height"][0] < 0.002
    assert simulator.diverged == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_script_draws_the_box_over_the_edge_and_lifts_it(seed):
    # In the last one with what training randomises and delays
    simulator = simulated(seed, RANDOMIZED if seed == 2 else ArmSimConfig())
    follower = Follower(simulator)
    x, y, z = simulator.scene.sensor["object_position_w"][0]
    beside, out, side = task.EDGE - 0.016, task.EDGE + task.HALF_EDGE - 0.035, np.pi / 2
    for place, tilt, finger, seconds in (
        ((x, y, z + 0.05), 0.3, 0.0, 0.7),
        # pressed on from above, and drawn
        ((x, y, z + 0.0035), 0.3, 0.0, 0.3),
        ((x, out, z + 0.0035), 0.3, 0.0, 0.6),
    ):
        follower.go(place, task.tilted(tilt), finger, seconds)
    # its side is on the way to 35 mm beyond the edge, and it lies flat
    overhang = task.measures(simulator.scene)["overhang"][0]
    assert 0.02 < overhang + task.HALF_EDGE < 0.045
    assert task.measures(simulator.scene)["height"][0] > -0.002
    for place, tilt, finger, seconds in (
        ((x, out - 0.02, z + 0.05), 0.5, 0.02, 0.3),
        # round to the side, and the fingers above and below it
        ((x, task.EDGE - 0.1, z + 0.04), 1.0, 0.02, 0.5),
        ((x, task.EDGE - 0.08, z), side, 0.02, 0.5),
        ((x, beside, z), side, 0.02, 0.35),
        ((x, beside, z), side, 0.0, 0.5),
        ((x, beside, z + 0.09), side, 0.0, 0.5),
        ((x, beside, z + 0.09), side, 0.0, 0.15),
    ):
        follower.go(place, task.tilted(tilt), finger, seconds)
    assert task.succeeded(simulator.scene).all()
    assert task.measures(simulator.scene)["height"][0] == pytest.approx(0.09, abs=0.01)
