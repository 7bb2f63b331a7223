"""Real logs of arms against published figures (sources: docs/identify-arm.md)."""

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from alula.identification.arm_file import write_arm
from alula.identification.arm_identify import identify_arm
from alula.robots.arm import load_arm

bench = run_path(str(Path(__file__).parents[2] / "benchmarks" / "identify_arm.py"))


def folder_of(data_dir: Path, name: str) -> Path:
    if not (data_dir / name).is_dir():
        pytest.skip(f"real flight logs not found in {data_dir}: no {name}; set ALULA_DATA")
    return data_dir / name


@pytest.fixture(scope="module")
def panda(data_dir):
    return identify_arm(
        folder_of(data_dir, "panda_gaz2019"), robot="panda", columns=bench["PANDA_FILES"]
    )


def test_panda_predicts_unseen_halves_better_than_the_published_model(panda):
    # 20544 rows, 5.5 % of them repeated
    assert panda.dropped == {"not_finite": 0, "same_time": 0, "repeated": 1131}
    unseen = np.array([joint.held_out_rms for joint in panda.joints])
    assert np.all(unseen < bench["PANDA_PUBLISHED"])
    assert np.sum(unseen < 0.75 * np.array(bench["PANDA_PUBLISHED"])) >= 5
    # what friction explains, as in the published model
    bare = np.array([joint.residual_rms_without_friction for joint in panda.joints])
    assert np.all(bare > 1.5 * unseen)
    assert all(joint.r2 > 0.98 for joint in panda.joints)


def test_panda_friction_is_near_the_published_one(panda):
    gaz = bench["gaz_friction"]
    published = (gaz(np.ones((1, 7))) - gaz(-np.ones((1, 7))))[0] / 2.0
    for joint, other in zip(panda.joints, published, strict=True):
        coulomb, viscous, _ = panda.series[f"{joint.joint}.coulomb_viscous_offset"]
        # friction at 1 rad/s; the published friction has no viscous part and other masses beside it
        assert 0.65 < (coulomb + viscous) / other < 1.1
        assert joint.values["coulomb"] > 0.1
        # the log was taken without the hand that the model has
        assert joint.link_freedom is not None
        assert joint.values["armature"] is None


def test_panda_robot_file_for_simulation(panda, tmp_path):
    path = write_arm(panda, "panda", tmp_path / "panda-real.toml")
    arm = load_arm(path)
    assert arm.name == "panda"
    assert arm.model != load_arm("panda").model
    assert arm.home == load_arm("panda").home


def test_ur10e_sweep_of_joint_1(data_dir, tmp_path):
    log = folder_of(data_dir, "ur10e_innopolis") / bench["UR_SWEEP"]
    robot = bench["ur10e"](tmp_path, model=False)
    found = identify_arm(log, robot=robot, columns=bench["UR_COLUMNS"] | {"i": "14..19"})
    joint, *others = found.joints
    # a plain regression on the same file: 1.340 A, 2.229 A s/rad, R2 0.997
    assert joint.values["coulomb_a"] == pytest.approx(1.340, rel=0.04)
    assert joint.values["viscous_a"] == pytest.approx(2.229, rel=0.04)
    assert joint.r2 > 0.995
    # published: 12.548 N m and 21.256 N m s/rad at 10 N m/A
    assert joint.values["coulomb_a"] == pytest.approx(1.2548, rel=0.12)
    assert joint.values["viscous_a"] == pytest.approx(2.1256, rel=0.05)
    assert all("less than 2% of the log" in other.reasons["friction"] for other in others)


def test_ur10e_all_joints_by_the_torques_of_its_controller(data_dir, tmp_path):
    log = folder_of(data_dir, "ur10e_innopolis") / bench["UR_RUN"]
    robot = bench["ur10e"](tmp_path, model=False)
    columns = bench["UR_COLUMNS"] | {"i": "14..19", "tau": "26..31"}
    found = identify_arm(log, robot=robot, columns=columns)
    for k, joint in enumerate(found.joints):
        gain = bench["UR_GAIN"][k]
        assert joint.r2 > 0.97
        assert joint.values["coulomb_a"] == pytest.approx(bench["UR_COULOMB"][k] / gain, rel=0.25)
        assert joint.values["viscous_a"] == pytest.approx(bench["UR_VISCOUS"][k] / gain, rel=0.25)
    # the torques of the controller's model give gains 10 to 14 % above those published
    for k in (1, 2, 3):
        ratio = found.joints[k].values["drive_gain"] / bench["UR_GAIN"][k]
        assert 1.05 < ratio < 1.16
    low, high = found.joints[0].intervals["drive_gain"]
    assert low < bench["UR_GAIN"][0] < high
    # almost no torque but friction's at the last two
    assert [j.values["drive_gain"] for j in found.joints[4:]] == [None, None]


@pytest.mark.slow
def test_ur10e_by_a_model_of_its_geometry_and_masses(data_dir, tmp_path):
    log = folder_of(data_dir, "ur10e_innopolis") / bench["UR_RUN"]
    robot = bench["ur10e"](tmp_path, model=True)
    found = identify_arm(log, robot=robot, columns=bench["UR_COLUMNS"] | {"i": "14..19"})
    for k, joint in enumerate(found.joints):
        gain = bench["UR_GAIN"][k]
        assert joint.values["coulomb_a"] == pytest.approx(bench["UR_COULOMB"][k] / gain, rel=0.25)
        assert joint.held_out_rms < 0.18 * joint.effort_rms
