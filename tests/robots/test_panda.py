"""The Panda and its hand: against Denavit-Hartenberg, numbers worked out by hand, and a cube to be held."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import math

import mujoco
import numpy as np
import pytest

from alula.robots.arm import load_arm

# a(i-1), d(i), alpha(i-1) in Craig's convention (Franka Control Interface, Denavit-Hartenberg parameters)
DH = (
    (0.0, 0.333, 0.0),
    (0.0, 0.0, -math.pi / 2),
    (0.0, 0.316, math.pi / 2),
    (0.0825, 0.0, math.pi / 2),
    (-0.0825, 0.384, -math.pi / 2),
    (0.0, 0.0, math.pi / 2),
    (0.088, 0.0, math.pi / 2),
)
FLANGE, TIP = 0.107, 0.1034
HAND_TURN = -math.pi / 4
# Links 1 to 7 (Gaz et al. 2019), then hand and fingers (franka_description)
MASS = (4.970684, 0.646926, 3.228604, 3.587895, 1.225946, 1.666555, 0.735522)
CENTRE = (
    (0.003875, 0.002081, -0.04762),
    (-0.003141, -0.02872, 0.003495),
    (0.027518, 0.039252, -0.066502),
    (-0.05317, 0.104419, 0.027454),
    (-0.011953, 0.041065, -0.038437),
    (0.060149, -0.014117, -0.010517),
    (0.010517, -0.004252, 0.061597),
)
# xx xy xz yy yz zz
INERTIA = (
    (0.70337, -0.000139, 0.006772, 0.70661, 0.019169, 0.009117),
    (0.007962, -0.003925, 0.010254, 0.02811, 0.000704, 0.025995),
    (0.037242, -0.004761, -0.011396, 0.036155, -0.012805, 0.01083),
    (0.025853, 0.007796, -0.001332, 0.019552, 0.008641, 0.028323),
    (0.035549, -0.002117, -0.004037, 0.029474, 0.000229, 0.008627),
    (0.001964, 0.000109, -0.001158, 0.004354, 0.000341, 0.005433),
    (0.012516, -0.000428, -0.001196, 0.010027, -0.000741, 0.004815),
)
HAND_MASS, HAND_CENTRE = 0.6544, (-0.0000376, 0.0119128, 0.020726)
FINGER_MASS, FINGER_CENTRE = 0.0291, (0.0, 0.015285, 0.0219675)
HOME = (0.0, 0.0, 0.0, -math.pi / 2, 0.0, math.pi / 2, -math.pi / 4)
POSES = (HOME, (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), (0.3, -0.6, 0.9, -1.9, 0.7, 2.0, -1.1))
# Half a cube [m], and its mass [kg]
HALF, CUBE_MASS = 0.02, 0.1


def panda(cube: bool = False) -> tuple[mujoco.MjModel, mujoco.MjData]:
    """The arm at home; with a cube on the floor where the hand points, and what its pads feel."""
    spec = mujoco.MjSpec.from_string(load_arm("panda").model)
    if cube:
        body = spec.worldbody.add_body(name="cube", pos=[0.5545, 0.0, HALF])
        body.add_freejoint()
        body.add_geom(type=mujoco.mjtGeom.mjGEOM_BOX, size=[HALF] * 3, mass=CUBE_MASS)
        for pad in ("left_pad", "right_pad"):
            touch, site = mujoco.mjtSensor.mjSENS_TOUCH, mujoco.mjtObj.mjOBJ_SITE
            spec.add_sensor(name=pad, type=touch, objtype=site, objname=pad)
    model = spec.compile()
    data = mujoco.MjData(model)
    data.qpos[:9], data.ctrl[:] = (*HOME, 0.04, 0.04), (*HOME, 0.04)
    mujoco.mj_forward(model, data)
    return model, data


def at(q) -> tuple[mujoco.MjModel, mujoco.MjData]:
    model, data = panda()
    data.qpos[:] = *q, 0.04, 0.04
    mujoco.mj_forward(model, data)
    return model, data


def frame(a: float, d: float, alpha: float, angle: float) -> np.ndarray:
    """Craig: Rx(alpha) Tx(a) Rz(angle) Tz(d), 4x4."""
    c, s, ca, sa = math.cos(angle), math.sin(angle), math.cos(alpha), math.sin(alpha)
    return np.array([
        [c, -s, 0, a],
        [s * ca, c * ca, -sa, -d * sa],
        [s * sa, c * sa, ca, d * ca],
        [0, 0, 0, 1],
    ])  # fmt: skip


def frames(q) -> list[np.ndarray]:
    """Frames 0 to 7 of the arm, and that of the hand."""
    found = [np.eye(4)]
    for angle, (a, d, alpha) in zip(q, DH, strict=True):
        found.append(found[-1] @ frame(a, d, alpha, angle))
    return [*found, found[-1] @ frame(0.0, FLANGE, 0.0, HAND_TURN)]


def masses(q, finger: float = 0.04) -> list[tuple[int, float, np.ndarray]]:
    """What moves: the last joint that carries it, mass, centre of mass in the world."""
    found = frames(q)
    lumps = [(i + 1, MASS[i], found[i + 1], CENTRE[i]) for i in range(7)]
    x, y, z = FINGER_CENTRE
    lumps.append((7, HAND_MASS, found[8], HAND_CENTRE))
    lumps.append((7, FINGER_MASS, found[8], (x, y + finger, z + 0.0584)))
    lumps.append((7, FINGER_MASS, found[8], (-x, -y - finger, z + 0.0584)))
    return [(i, m, t[:3, :3] @ np.array(c) + t[:3, 3]) for i, m, t, c in lumps]


def reach(x: float, z: float) -> tuple[float, ...]:
    """Joints that put the tip at (x, 0, z), hand down and turned as at home: two links in a plane."""
    upper, lower = math.hypot(0.316, 0.0825), math.hypot(0.384, 0.0825)
    forward, up = x - 0.088, z + TIP + FLANGE - 0.333
    far = math.hypot(forward, up)
    elbow = math.acos((upper**2 + lower**2 - far**2) / (2 * upper * lower))
    shoulder = math.acos((upper**2 + far**2 - lower**2) / (2 * upper * far))
    # The elbow lies 0.0825 m beside both links.
    q4 = elbow + math.atan(0.316 / 0.0825) + math.atan(0.384 / 0.0825) - 2 * math.pi
    q2 = math.atan2(forward, up) - shoulder - math.atan(0.0825 / 0.316)
    return (0.0, q2, 0.0, q4, 0.0, q2 - q4, -math.pi / 4)


def go(model, data, q, finger: float, seconds: float) -> None:
    """Commands in a straight line to joints and finger, then as they are."""
    steps = round(seconds / model.opt.timestep)
    for command in np.linspace(data.ctrl, (*q, finger), steps + 1)[1:]:
        data.ctrl[:] = command
        mujoco.mj_step(model, data)


def warnings(data) -> int:
    return sum(w.number for w in data.warning)


def test_panda_numbers():
    arm = load_arm("panda")
    assert arm.joint_names[:7] == tuple(f"panda_joint{i}" for i in range(1, 8))
    assert arm.joint_names[7:] == ("panda_finger_joint1",)
    # 166, 101, 166, -176, 166, -1, 166 degrees; 166, 101, 166, -4, 166, 215, 166 degrees
    low, high = np.degrees(arm.position_low[:7]), np.degrees(arm.position_high[:7])
    assert low == pytest.approx([-166, -101, -166, -176, -166, -1, -166], abs=0.05)
    assert high == pytest.approx([166, 101, 166, -4, 166, 215, 166], abs=0.05)
    assert arm.effort_max == (87, 87, 87, 87, 12, 12, 12, 100)
    # 124.6 and 149.5 degrees/s
    assert np.degrees(arm.velocity_max[:7]) == pytest.approx([124.6] * 4 + [149.5] * 3, abs=0.1)
    assert arm.home == (*HOME, 0.04)
    assert arm.control_dt == 0.001
    # 0.1 mm / 855 mm
    assert arm.position_noise == pytest.approx(0.1 / 855, rel=0.05)


def test_model_and_robot_file_of_the_panda_agree():
    arm, (model, _) = load_arm("panda"), panda()
    names = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT, i) for i in range(model.njnt)]
    assert tuple(names) == (*arm.joint_names, "panda_finger_joint2")
    limits = np.transpose([arm.position_low, arm.position_high])
    np.testing.assert_allclose(model.jnt_range[:8], limits)
    np.testing.assert_allclose(model.jnt_range[8], limits[7])
    np.testing.assert_allclose(model.jnt_actfrcrange[:8, 1], arm.effort_max)
    np.testing.assert_allclose(model.jnt_actfrcrange[:8, 0], -np.array(arm.effort_max))
    np.testing.assert_allclose(model.actuator_ctrlrange, limits)
    assert model.actuator_trnid[:, 0].tolist() == list(range(8))


@pytest.mark.parametrize("q", POSES)
def test_forward_kinematics_of_the_panda_are_those_of_denavit_and_hartenberg(q):
    _, data = at(q)
    found = frames(q)
    for i in range(1, 8):
        np.testing.assert_allclose(data.body(f"panda_link{i}").xpos, found[i][:3, 3], atol=1e-12)
    hand, grip = found[8], data.site("grip")
    np.testing.assert_allclose(data.site("flange").xpos, hand[:3, 3], atol=1e-12)
    np.testing.assert_allclose(grip.xpos, hand[:3, 3] + TIP * hand[:3, 2], atol=1e-12)
    np.testing.assert_allclose(grip.xmat.reshape(3, 3), hand[:3, :3], atol=1e-12)
    # The pads: open by 0.04 m to both sides of the tip, along y of the hand.
    for pad, side in (("left_pad", 1.0), ("right_pad", -1.0)):
        expected = grip.xpos + 0.04 * side * hand[:3, 1]
        np.testing.assert_allclose(data.site(pad).xpos, expected, atol=1e-12)


def test_two_poses_of_the_panda_by_hand():
    # All joints at zero: x = 0.088; z = 0.333 + 0.316 + 0.384 - 0.107 - 0.1034, y of the hand turned by 45 degrees
    _, data = at(POSES[1])
    assert data.site("grip").xpos == pytest.approx([0.088, 0.0, 0.8226])
    half = math.sqrt(0.5)
    assert data.body("panda_hand").xmat.reshape(3, 3)[:, 1] == pytest.approx([half, -half, 0.0])
    # Home, forearm level: x = 0.0825 + 0.384 + 0.088; z = 0.333 + 0.316 + 0.0825 - 0.107 - 0.1034; fingers along x
    _, data = at(HOME)
    assert data.site("grip").xpos == pytest.approx([0.5545, 0.0, 0.5211])
    hand = data.body("panda_hand").xmat.reshape(3, 3)
    assert hand[:, 2] == pytest.approx([0.0, 0.0, -1.0])
    assert np.abs(hand[:, 1]) == pytest.approx([1.0, 0.0, 0.0])


def test_masses_and_inertias_of_the_panda():
    # 0.629769 (base) + 4.970684 + 0.646926 + 3.228604 + 3.587895 + 1.225946 + 1.666555 + 0.735522 = 16.691901;
    # hand and fingers 0.6544 + 2 0.0291 = 0.7126
    model, data = at(POSES[2])
    assert model.body_mass.sum() == pytest.approx(17.404501)
    names = [f"panda_link{i}" for i in range(1, 8)]
    names += ["panda_hand", "panda_leftfinger", "panda_rightfinger"]
    for name, (_, mass, centre) in zip(names, masses(POSES[2]), strict=True):
        assert model.body(name).mass[0] == pytest.approx(mass)
        np.testing.assert_allclose(data.body(name).xipos, centre, atol=1e-9)
    for i, (xx, xy, xz, yy, yz, zz) in enumerate(INERTIA):
        published = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        axes, rot = data.body(names[i]).ximat.reshape(3, 3), frames(POSES[2])[i + 1][:3, :3]
        found = axes @ np.diag(model.body(names[i]).inertia) @ axes.T
        np.testing.assert_allclose(found, rot @ published @ rot.T, atol=1e-9)


@pytest.mark.parametrize("q", POSES)
def test_gravity_torques_of_the_panda(q):
    _, data = at(q)
    found, torque = frames(q), np.zeros(7)
    for last, mass, centre in masses(q):
        for j in range(1, last + 1):
            # tau_j = z_j . ((c - o_j) x m g z_w), what the joint must give
            axis, origin = found[j][:3, 2], found[j][:3, 3]
            torque[j - 1] += axis @ np.cross(centre - origin, [0.0, 0.0, 9.81 * mass])
    np.testing.assert_allclose(data.qfrc_bias[:7], torque, atol=1e-9)
    np.testing.assert_allclose(data.qfrc_gravcomp, data.qfrc_bias, atol=1e-9)
    assert (np.abs(torque) < load_arm("panda").effort_max[:7]).all()


def test_gravity_torque_at_the_wrist_of_the_panda_by_hand():
    # Home: x of frame 6 is level and the flange hangs 0.088 m before joint 6. Before it: link 6 by 0.060149 m, link 7
    # by 0.088 + cos(45) (0.010517 - 0.004252) = 0.09243 m, the hand, whose y points forward, by 0.088 + 0.0119128 m,
    # the fingers together by 0.088 m:
    # 9.81 (1.666555 0.060149 + 0.735522 0.09243 + 0.6544 0.0999128 + 0.0582 0.088) = 2.34194 N m, about -y, which
    # is the axis of joint 6: it lifts with a positive torque.
    _, data = at(HOME)
    assert data.qfrc_bias[5] == pytest.approx(2.34194, abs=1e-4)
    assert data.qfrc_bias[0] == pytest.approx(0.0, abs=1e-9)


def test_the_servos_of_the_panda_hold_home_and_nothing_touches():
    model, data = panda()
    for _ in range(400):
        mujoco.mj_step(model, data)
        assert data.ncon == 0
    assert warnings(data) == 0
    np.testing.assert_allclose(data.qpos, (*HOME, 0.04, 0.04), atol=1e-5)


def test_the_servos_of_the_panda_reach_a_pose_without_swinging():
    model, data = panda()
    goal = np.array(HOME) + 0.02
    data.ctrl[:7] = goal
    path = []
    for _ in range(200):
        mujoco.mj_step(model, data)
        path.append(data.qpos[:7].copy())
    moved = (np.array(path) - HOME) / 0.02
    # Time constant kv / kp = 0.05 s, ten steps. Friction holds what is left: 0.64 N m / 2500 N m/rad at most.
    assert np.all((moved[10] > 0.3) & (moved[10] < 0.9))
    assert moved.max() < 1.1
    np.testing.assert_allclose(path[-1], goal, atol=3e-4)


def test_fingers_of_the_panda_open_and_close_together():
    model, data = panda()
    for finger in (0.0, 0.03, 0.01, 0.04):
        data.ctrl[7] = finger
        before = data.qpos[7:9].copy()
        for _ in range(300):
            mujoco.mj_step(model, data)
            assert abs(data.qpos[7] - data.qpos[8]) < 2e-4
            # Never past the command: time constant 400 / 2000 = 0.2 s
            assert min(before[0], finger) - 2e-4 < data.qpos[7] < max(before[0], finger) + 2e-4
        np.testing.assert_allclose(data.qpos[7:9], finger, atol=2e-4)
    # From closed to open as fast as the limit of the fingers allows, 0.2 m/s, and no faster
    data.qpos[7:9], data.ctrl[7] = 0.0, 0.04
    speed = []
    for _ in range(100):
        mujoco.mj_step(model, data)
        speed.append(data.qvel[7])
    assert 0.1 < max(speed) < 0.2


def test_the_panda_lifts_a_cube():
    model, data = panda(cube=True)
    go(model, data, reach(0.5545, HALF), 0.04, 1.0)
    go(model, data, reach(0.5545, HALF), 0.04, 0.5)
    np.testing.assert_allclose(data.site("grip").xpos, [0.5545, 0.0, HALF], atol=5e-4)
    # Nothing but the floor touches the cube so far.
    assert data.sensor("left_pad").data[0] == data.sensor("right_pad").data[0] == 0.0
    np.testing.assert_allclose(data.body("cube").xpos, [0.5545, 0.0, HALF], atol=2e-4)
    go(model, data, reach(0.5545, HALF), 0.0, 0.5)
    go(model, data, reach(0.5545, HALF), 0.0, 1.0)
    # The servo's 2000 N/m at 20 mm, half of it on each pad: 20 N
    assert data.sensor("left_pad").data[0] == pytest.approx(20.0, rel=0.05)
    assert data.sensor("right_pad").data[0] == pytest.approx(20.0, rel=0.05)
    low = data.body("cube").xpos[2]
    go(model, data, reach(0.5545, 0.3), 0.0, 1.0)
    go(model, data, reach(0.5545, 0.3), 0.0, 5.0)
    cube = data.body("cube")
    # 5 s in the air: it creeps by less than 1 mm and does not turn.
    assert cube.xpos[2] - low == pytest.approx(0.28, abs=1e-3)
    np.testing.assert_allclose(cube.xpos[:2], [0.5545, 0.0], atol=1e-3)
    assert abs(cube.xmat[8]) > math.cos(math.radians(1.0))
    assert warnings(data) == 0
    # An open hand lets it fall.
    go(model, data, reach(0.5545, 0.3), 0.04, 1.5)
    assert cube.xpos[2] == pytest.approx(HALF, abs=5e-3)


def test_only_the_end_of_the_panda_touches_and_never_itself():
    model, _ = panda()
    robot = np.flatnonzero(model.geom_bodyid > 0)
    assert not model.geom_contype[robot].any()
    touching = {model.body(model.geom_bodyid[g]).name for g in robot if model.geom_conaffinity[g]}
    fingers = {"panda_leftfinger", "panda_rightfinger"}
    assert touching == {"panda_link6", "panda_link7", "panda_hand"} | fingers


def test_the_panda_stays_whole_whatever_is_commanded():
    model, data = panda(cube=True)
    rng = np.random.default_rng(0)
    low, high = model.actuator_ctrlrange.T
    for _ in range(40):
        # Much of it leads into the floor.
        data.ctrl[:] = rng.uniform(low, high)
        data.ctrl[1] = rng.uniform(0.6, 1.7)
        mujoco.mj_step(model, data, 100)
        assert warnings(data) == 0
    assert np.isfinite(data.qpos).all()
    joints = data.qpos[:9]
    assert (joints > model.jnt_range[:9, 0] - 0.05).all()
    assert (joints < model.jnt_range[:9, 1] + 0.05).all()
