"""Arms: the reader against bad files, and the UR5e against Denavit-Hartenberg and numbers worked out by hand."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

import dataclasses
import math
from pathlib import Path

import mujoco
import numpy as np
import pytest
import tomli_w

from alula.build import load_any_robot
from alula.errors import AlulaError
from alula.robots.arm import BY_JOINT, PLAIN, Arm, known_arms, load_arm
from alula.robots.files import MAX_FILE_BYTES
from alula.robots.multirotor import known_robots, load_robot

MODEL = """<mujoco>
  <worldbody><body><geom size="0.1"/><joint name="slide" type="slide"/></body></worldbody>
</mujoco>
"""

# a, d, alpha of the UR5e (Universal Robots, DH parameters for calculations of kinematics and dynamics)
DH = (
    (0.0, 0.1625, math.pi / 2),
    (-0.425, 0.0, 0.0),
    (-0.3922, 0.0, 0.0),
    (0.0, 0.1333, math.pi / 2),
    (0.0, 0.0997, -math.pi / 2),
    (0.0, 0.0996, 0.0),
)
MASS = (3.761, 8.058, 2.846, 1.37, 1.3, 0.365)
CENTRE = (
    (0.0, -0.02561, 0.00193),
    (0.2125, 0.0, 0.11336),
    (0.15, 0.0, 0.0265),
    (0.0, -0.0018, 0.01634),
    (0.0, 0.0018, 0.01634),
    (0.0, 0.0, -0.001159),
)
# xx xy xz yy yz zz in the frame after each joint (UR's ROS 2 description)
INERTIA = (
    (0.00700210, 0.00000073, -0.00001053, 0.00648091, 0.00049994, 0.00657286),
    (0.01505885, -0.00005400, 0.00000563, 0.33388086, -0.00000181, 0.33247207),
    (0.00399632, -0.00001365, 0.00137272, 0.07879254, -0.00000660, 0.07848510),
    (0.00165491, -0.00000282, -0.00000438, 0.00135962, 0.00010157, 0.00126279),
    (0.00135617, -0.00000274, 0.00000444, 0.00127827, -0.00005048, 0.00096614),
    (0.00018694, 0.00000006, -0.00000017, 0.00018908, -0.00000092, 0.00025756),
)
POSES = (
    (0.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    (0.0, -math.pi / 2, math.pi / 2, -math.pi / 2, -math.pi / 2, 0.0),
    (0.3, -1.1, 0.9, -0.4, 0.7, 2.0),
)


def table(**change) -> dict:
    """A good file of an arm with one slide, to be spoilt."""

    def quantity(value, unit):
        return {"value": value, "unit": unit, "source": "worked out by hand"}

    good = {
        "name": "lift",
        "kind": "arm",
        "joint_names": ["slide"],
        "model": "lift.xml",
        "position_low": quantity([-1.0], "m"),
        "position_high": quantity([1], "m"),
        "velocity_max": quantity([0.5], "m/s"),
        "effort_max": quantity([100.0], "N"),
    }
    return {**good, **change}


def load(folder: Path, content: dict, model: str = MODEL) -> Arm:
    (folder / "lift.xml").write_text(model)
    (folder / "lift.toml").write_text(tomli_w.dumps(content))
    return load_arm(folder / "lift.toml")


def ur5e() -> tuple[mujoco.MjModel, mujoco.MjData]:
    model = mujoco.MjModel.from_xml_string(load_arm("ur5e").model)
    return model, mujoco.MjData(model)


def frames(q) -> list[np.ndarray]:
    """Frames 0 to 6 of the arm, 4x4: T_i = T_(i-1) Rz(q_i) Tz(d_i) Tx(a_i) Rx(alpha_i)."""
    found = [np.eye(4)]
    for angle, (a, d, alpha) in zip(q, DH, strict=True):
        c, s, ca, sa = math.cos(angle), math.sin(angle), math.cos(alpha), math.sin(alpha)
        step = [
            [c, -s * ca, s * sa, a * c],
            [s, c * ca, -c * sa, a * s],
            [0, sa, ca, d],
            [0, 0, 0, 1],
        ]
        found.append(found[-1] @ np.array(step))
    return found


def test_arms_and_multirotors_are_told_apart():
    assert known_arms() == ("panda", "ur5e")
    assert "ur5e" not in known_robots()
    with pytest.raises(
        AlulaError, match=r"^'ur5e' is an arm; allowed: crazyflie.*x500, or a \.toml file"
    ):
        load_robot("ur5e")
    with pytest.raises(AlulaError, match=r"^'crazyflie' is a multirotor; allowed: panda, ur5e"):
        load_arm("crazyflie")
    assert load_any_robot("ur5e") == load_arm("ur5e")
    with pytest.raises(
        AlulaError, match=r"unknown robot 'nope'; known: crazyflie.*x500, panda, ur5e, or"
    ):
        load_any_robot("nope")


@pytest.mark.parametrize("name", known_arms())
def test_every_shipped_arm_has_its_numbers_with_their_sources(name):
    arm = load_arm(name)
    assert arm.name == name
    assert set(arm.sources) == set(BY_JOINT) | set(PLAIN)
    assert all(len(source) > 10 for source in arm.sources.values())
    assert arm.model


def test_ur5e_numbers():
    arm = load_arm("ur5e")
    assert arm.joint_names[:3] == ("shoulder_pan_joint", "shoulder_lift_joint", "elbow_joint")
    assert arm.joint_names[3:] == ("wrist_1_joint", "wrist_2_joint", "wrist_3_joint")
    degrees = np.degrees([arm.position_low, arm.position_high])
    assert degrees[1] == pytest.approx([360, 360, 180, 360, 360, 360])
    assert degrees[0] == pytest.approx(-degrees[1])
    assert np.degrees(arm.velocity_max) == pytest.approx([180] * 6)
    assert arm.effort_max == (150, 150, 150, 28, 28, 28)
    # 0.03 mm / 850 mm
    assert arm.position_noise == pytest.approx(0.03 / 850, rel=0.01)


def test_model_and_robot_file_of_the_ur5e_agree():
    arm, (model, _) = load_arm("ur5e"), ur5e()
    names = [mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_JOINT, i) for i in range(model.njnt)]
    assert tuple(names) == arm.joint_names
    np.testing.assert_allclose(model.jnt_range, np.transpose([arm.position_low, arm.position_high]))
    np.testing.assert_allclose(model.jnt_actfrcrange[:, 1], arm.effort_max)
    np.testing.assert_allclose(model.jnt_actfrcrange[:, 0], -np.array(arm.effort_max))
    np.testing.assert_allclose(model.actuator_ctrlrange, model.jnt_range)
    assert model.actuator_trnid[:, 0].tolist() == list(range(6))


@pytest.mark.parametrize("q", POSES)
def test_forward_kinematics_of_the_ur5e_are_those_of_denavit_and_hartenberg(q):
    model, data = ur5e()
    data.qpos[:] = q
    mujoco.mj_forward(model, data)
    flange = data.site("flange")
    expected = frames(q)[-1]
    np.testing.assert_allclose(flange.xpos, expected[:3, 3], atol=1e-12)
    np.testing.assert_allclose(flange.xmat.reshape(3, 3), expected[:3, :3], atol=1e-12)


def test_the_stretched_ur5e_by_hand():
    # All joints at zero: x = -0.425 - 0.3922; y = -0.1333 - 0.0996 (both axes point to -y); z = 0.1625 - 0.0997
    assert frames(POSES[0])[-1][:3, 3] == pytest.approx([-0.8172, -0.2329, 0.0628])


def test_masses_and_inertias_of_the_ur5e():
    model, data = ur5e()
    # 3.761 + 8.058 + 2.846 + 1.37 + 1.3 + 0.365
    assert model.body_mass.sum() == pytest.approx(17.7)
    q = POSES[2]
    data.qpos[:] = q
    mujoco.mj_forward(model, data)
    for i, frame in enumerate(frames(q)[1:]):
        body = 2 + i
        assert model.body_mass[body] == pytest.approx(MASS[i])
        centre = frame[:3, :3] @ CENTRE[i] + frame[:3, 3]
        np.testing.assert_allclose(data.xipos[body], centre, atol=1e-9)
        xx, xy, xz, yy, yz, zz = INERTIA[i]
        published = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        axes = data.ximat[body].reshape(3, 3)
        found = axes @ np.diag(model.body_inertia[body]) @ axes.T
        np.testing.assert_allclose(found, frame[:3, :3] @ published @ frame[:3, :3].T, atol=1e-9)


def test_gravity_torque_of_the_stretched_ur5e_by_hand():
    model, data = ur5e()
    mujoco.mj_forward(model, data)
    # The shoulder carries 8.058 kg at 0.2125 m, 2.846 kg at 0.425 + 0.2422 m and the wrists' 3.035 kg at 0.8172 m:
    # 9.81 (1.71233 + 1.89885 + 2.48020) = 59.7566 N m; the elbow 2.846 at 0.2422 and 3.035 at 0.3922: 18.439 N m.
    # The arm points to -x and the axes to -y, so that gravity turns both joints towards positive angles.
    assert data.qfrc_bias == pytest.approx([0, -59.7566, -18.439, 0, 0, 0], abs=1e-3)
    assert data.qfrc_gravcomp == pytest.approx(data.qfrc_bias, abs=1e-9)


@pytest.mark.parametrize("q", POSES)
def test_gravity_torques_of_the_ur5e(q):
    model, data = ur5e()
    data.qpos[:] = q
    mujoco.mj_forward(model, data)
    found, torque = frames(q), np.zeros(6)
    for i, frame in enumerate(found[1:]):
        centre = frame[:3, :3] @ CENTRE[i] + frame[:3, 3]
        for j in range(i + 1):
            # tau_j = z_j . ((c - o_j) x m g z_w), what the joint must give
            axis, origin = found[j][:3, 2], found[j][:3, 3]
            torque[j] += axis @ np.cross(centre - origin, [0.0, 0.0, 9.81 * MASS[i]])
    np.testing.assert_allclose(data.qfrc_bias, torque, atol=1e-9)
    # What the servos may give is enough to hold every one of these poses.
    assert (np.abs(torque) < load_arm("ur5e").effort_max).all()


@pytest.mark.parametrize("q", POSES)
def test_the_servos_of_the_ur5e_hold_a_pose_and_nothing_touches(q):
    model, data = ur5e()
    data.qpos[:] = data.ctrl[:] = q
    for _ in range(1000):
        mujoco.mj_step(model, data)
    assert data.ncon == 0
    np.testing.assert_allclose(data.qpos, q, atol=1e-6)
    np.testing.assert_allclose(data.qfrc_actuator, data.qfrc_bias, atol=1e-3)


def test_the_servos_of_the_ur5e_reach_a_pose_without_swinging():
    model, data = ur5e()
    start, goal = np.array(POSES[1]), np.array(POSES[1]) + 0.02
    data.qpos[:], data.ctrl[:] = start, goal
    path = []
    for _ in range(600):
        mujoco.mj_step(model, data)
        path.append(data.qpos.copy())
    moved = (np.array(path) - start) / 0.02
    # Time constant kv / kp = 0.05 s: 63 % after about that, nothing left after ten.
    assert np.all((moved[50] > 0.3) & (moved[50] < 0.8))
    assert moved.max() < 1.1
    np.testing.assert_allclose(path[-1], goal, atol=1e-4)


def test_energy_of_the_free_ur5e_is_kept():
    model, data = ur5e()
    model.body_gravcomp[:] = 0.0
    model.actuator_gainprm[:] = model.actuator_biasprm[:] = 0.0
    model.geom_contype[:] = 0
    model.jnt_limited[:] = 0
    model.opt.timestep = 1e-4
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_RK4
    model.opt.enableflags |= mujoco.mjtEnableBit.mjENBL_ENERGY
    data.qpos[:] = POSES[2]
    mujoco.mj_forward(model, data)
    begin = data.energy.sum()
    for _ in range(5000):
        mujoco.mj_step(model, data)
    # It fell for half a second: much went from one kind of energy to the other, none was lost.
    assert data.energy[1] > 5.0
    assert data.energy.sum() == pytest.approx(begin, abs=1e-6)


def test_another_arm_by_path(tmp_path):
    arm = load(tmp_path, table())
    assert arm.position_high == (1.0,)
    assert arm.home == ()


def test_the_same_physics_has_the_same_hash(tmp_path):
    arm = load_arm("ur5e")
    assert dataclasses.replace(arm, sources={}).hash == arm.hash
    assert dataclasses.replace(arm, home=()).hash != arm.hash
    same = arm.model.replace("<compiler", "<!-- a remark -->\n\n  <compiler")
    assert dataclasses.replace(arm, model=same).hash == arm.hash
    heavier = arm.model.replace('mass="8.058"', 'mass="8.059"')
    assert heavier != arm.model
    assert dataclasses.replace(arm, model=heavier).hash != arm.hash
    # On any machine the same
    assert load(tmp_path, table()).hash == load(tmp_path, table()).hash


QUANTITY = {"value": [1.0], "unit": "m", "source": "x"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "multirotor"}, "kind is 'multirotor'; allowed: 'arm'"),
        ({"wings": 2}, "unknown quantity 'wings'; known: "),
        ({"name": 3}, "name and model must be strings"),
        ({"joint_names": "slide"}, "joint_names is slide; allowed: a list of strings"),
        ({"joint_names": ["slide", "slide"]}, "1 to 64 distinct names"),
        ({"joint_names": []}, "1 to 64 distinct names"),
        ({"joint_names": ["elbow"]}, "'elbow', unknown to the model; allowed: slide"),
        ({"position_low": 1.0}, r"\[position_low\] needs value, unit and source"),
        ({"position_low": {**QUANTITY, "unit": "deg"}}, "unit 'deg'; allowed: 'rad', 'm'"),
        ({"position_low": {**QUANTITY, "value": 1.0}}, "allowed: a list of numbers, one a joint"),
        ({"position_low": {**QUANTITY, "value": ["a"]}}, "position_low is 'a'; allowed: numbers"),
        ({"position_low": {**QUANTITY, "value": [True]}}, "allowed: numbers"),
        ({"position_low": {**QUANTITY, "value": [0.0, 0.0]}}, "allowed: 1 numbers, one a joint"),
        ({"position_low": {**QUANTITY, "value": [math.nan]}}, "allowed: finite"),
        ({"position_low": {**QUANTITY, "value": [2.0]}}, "2.0 at 'slide'; allowed: less than 1.0"),
        ({"velocity_max": {**QUANTITY, "value": [0.0], "unit": "m/s"}}, "allowed: > 0"),
        ({"home": {**QUANTITY, "value": [1.5]}}, "home is 1.5 at 'slide'; allowed: -1.0 to 1.0"),
        ({"control_dt": {"value": 0.0, "unit": "s", "source": "x"}}, "allowed: 0.0001 to 1 s"),
        ({"position_noise": {"value": -1, "unit": "m", "source": "x"}}, "allowed: >= 0"),
        ({"model": "other.xml"}, "model 'other.xml' is not there; allowed: a file in "),
        ({"model": "../lift.xml"}, "allowed: the name of a file in the same folder"),
        ({"model": "/etc/passwd"}, "allowed: the name of a file in the same folder"),
    ],
)
def test_bad_files_are_refused_in_one_line(tmp_path, change, message):
    with pytest.raises(AlulaError, match=message) as caught:
        load(tmp_path, table(**change))
    assert "\n" not in str(caught.value)
    assert "lift.toml" in str(caught.value)


@pytest.mark.parametrize("key", ["name", "joint_names", "position_low", "effort_max"])
def test_a_missing_quantity_is_named(tmp_path, key):
    content = table()
    del content[key]
    with pytest.raises(AlulaError, match=f"{key} is missing"):
        load(tmp_path, content)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("<mujoco", "not readable as XML"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><mujoco/>', "document type; allowed: none"),
        (MODEL.replace("<worldbody>", '<include file="b.xml"/><worldbody>'), "<include file>"),
        (MODEL.replace("<geom ", '<geom mesh="m" '), None),
        (MODEL.replace("<world", '<asset><mesh file="/etc/x.obj"/></asset><world'), "<mesh file>"),
        (MODEL.replace("<world", '<extension><plugin plugin="p"/></extension><world'), "<extension>"),
        (MODEL.replace("<world", '<compiler meshdir="/"/><world'), "<compiler meshdir>"),
        (MODEL.replace("<world", '<asset><texture type="cube" fileright="/x.png"/></asset><world'), "<texture fileright>"),
    ],
)  # fmt: skip
def test_a_model_is_one_file_of_plain_xml(tmp_path, model, message):
    if message is None:
        # Whether it can be simulated is for the simulator to say.
        assert load(tmp_path, table(), model)
        return
    with pytest.raises(AlulaError, match=message) as caught:
        load(tmp_path, table(), model)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "bodies",
    [
        '<replicate count="10000">{}</replicate>',
        '<replicate count="400"><body><replicate count="30">{}</replicate></body></replicate>',
        '<body><composite prefix="c" type="grid" count="40 40 40">{}</composite></body>',
        '<replicate count="1e9">{}</replicate>',
    ],
)
def test_models_that_would_take_minutes_to_compile_are_refused(tmp_path, bodies):
    model = MODEL.replace("</worldbody>", bodies.format('<geom size="1"/>') + "</worldbody>")
    few = '<replicate count="50"><geom size="0.1"/></replicate></worldbody>'
    load(tmp_path, table(), MODEL.replace("</worldbody>", few))
    with pytest.raises(AlulaError, match="model is one of more than 10000 elements, copies incl"):
        load(tmp_path, table(), model)


def test_a_model_of_many_elements_is_refused(tmp_path):
    many = '<geom size="1"/>' * 10_000
    with pytest.raises(AlulaError, match="more than 10000 elements"):
        load(tmp_path, table(), MODEL.replace("</worldbody>", many + "</worldbody>"))


def test_unreadable_files(tmp_path):
    with pytest.raises(
        AlulaError, match=r"unknown arm 'ur6'; known: panda, ur5e, or a \.toml file"
    ):
        load_arm("ur6")
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b"\xff = [")
    with pytest.raises(AlulaError, match="not readable as TOML"):
        load_arm(broken)
    broken.write_text("#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(AlulaError, match="larger than"):
        load_arm(broken)
    with pytest.raises(AlulaError, match="larger than"):
        load(tmp_path, table(), " " * (MAX_FILE_BYTES + 1))
