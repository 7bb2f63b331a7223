"""Other physics and changed factors: what changes in the model, what stays, and what follows for the toy arm."""

# mujoco loads its names from a compiled module that the type checker cannot read.
# pyright: reportAttributeAccessIssue=false

from dataclasses import replace
from pathlib import Path
from runpy import run_path

import mujoco
import numpy as np
import pytest

from alula.evaluation.arm_episodes import run_episodes
from alula.evaluation.arm_physics import (
    Setting,
    delayed,
    objects,
    other_physics,
    resting,
    scale_contact_friction,
    scale_joint_friction,
    scale_link_mass,
    scale_object_mass,
    scale_object_size,
)
from alula.presets import get_preset
from alula.robots.arm import load_arm
from alula.sim.arm_config import ArmSimConfig
from alula.sim.mujoco.arm import MujocoArm
from alula.tasks import lift, pivot_lift

toy_setting = run_path(str(Path(__file__).parent / "toy_arm.py"))["toy_setting"]
PANDA = Setting(robot=load_arm("panda"), task=lift, config=ArmSimConfig())


def forward(observation: np.ndarray) -> np.ndarray:
    return np.ones((len(observation), 1), np.float32)


def test_other_physics_change_every_method() -> None:
    old, new = PANDA.simulator(1).model, other_physics(PANDA).simulator(1).model
    assert old.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    assert new.opt.integrator == mujoco.mjtIntegrator.mjINT_IMPLICIT
    assert (old.opt.solver, new.opt.solver) == (
        mujoco.mjtSolver.mjSOL_NEWTON,
        mujoco.mjtSolver.mjSOL_CG,
    )
    assert (old.opt.cone, new.opt.cone) == (
        mujoco.mjtCone.mjCONE_ELLIPTIC,
        mujoco.mjtCone.mjCONE_PYRAMIDAL,
    )
    # 20 ms in 4 and in 8 steps
    assert (old.opt.timestep, new.opt.timestep) == pytest.approx((0.005, 0.0025))
    assert new.geom_solref[:, 0] == pytest.approx(1.5 * old.geom_solref[:, 0])
    # the robot and the object are the same
    for name in ("body_mass", "geom_size", "geom_friction", "dof_damping", "actuator_gainprm"):
        np.testing.assert_array_equal(getattr(old, name), getattr(new, name))


def test_other_physics_find_the_same_motion() -> None:
    """Both methods solve one equation; what they differ by after 0.6 s at full speed is the step's own error."""
    runs = [
        run_episodes(forward, s.simulator(1), steps=30, seed=0, traced=1)
        for s in (toy_setting(), other_physics(toy_setting()))
    ]
    ends = [run.qpos[-1, 0, 0] for run in runs]
    # 0.6 rad and half a stair of 0.02, less the servo's lag (kv + damping) / kp = 0.105 s at 1 rad/s, and the
    # friction loss / kp = 0.001
    exact = 0.6 + 0.01 - 0.105 - 0.001
    # first order: half a step at 1 rad/s, of 5 ms and of 2.5 ms
    assert ends[0] - exact == pytest.approx(0.0025, abs=2e-4)
    assert ends[1] - exact == pytest.approx(0.00125, abs=2e-4)


def test_the_other_solver_comes_to_the_solution() -> None:
    """A convex problem has one: boxes in moving hands accelerate as Newton's method says."""
    config = replace(get_preset("panda-pivot-lift").sim, head_start=1.0)
    other = other_physics(Setting(robot=PANDA.robot, task=pivot_lift, config=config))
    simulator = MujocoArm(PANDA.robot, pivot_lift, other.config, 32, threads=1, edit=other.edit)
    simulator.reset(0)
    action = np.random.default_rng(0).uniform(-1.0, 1.0, (32, simulator.n_actions))
    action[:, 6] = -1.0
    for _ in range(5):
        simulator.step(action.astype(np.float32))
    model, state, found = simulator.model, simulator._physics, []
    for solver in (model.opt.solver, mujoco.mjtSolver.mjSOL_NEWTON):
        model.opt.solver = solver
        data = mujoco.MjData(model)
        for qpos, qvel, ctrl in zip(state.qpos, state.qvel, state.ctrl, strict=True):
            data.qpos[:], data.qvel[:], data.ctrl[:] = qpos, qvel, ctrl
            data.qacc_warmstart[:] = 0.0
            mujoco.mj_forward(model, data)
            found.append(data.qacc.copy())
    conjugate, newton = np.array(found).reshape(2, 32, -1)
    error = np.abs(conjugate - newton).max(1) / np.abs(newton).max(1)
    # With MuJoCo's 100 iterations a tenth of them is off by 7 %, some by all of it.
    assert error.max() < 0.03
    assert np.percentile(error, 90) < 3e-3


def test_a_model_with_pyramids_gets_elliptic_cones() -> None:
    setting = toy_setting()
    robot = replace(setting.robot, model=setting.robot.model.replace("elliptic", "pyramidal"))
    model = other_physics(replace(setting, robot=robot)).simulator(1).model
    assert model.opt.cone == mujoco.mjtCone.mjCONE_ELLIPTIC


@pytest.mark.parametrize("setting", [toy_setting(), PANDA], ids=["toy", "panda"])
def test_factors_change_what_they_say_and_nothing_else(setting: Setting) -> None:
    assert objects(setting) == ("object",)
    old = setting.simulator(1).model
    cube = old.body("object").id
    links = [b for b in range(1, old.nbody) if b != cube]
    joints = [old.joint(name).dofadr[0] for name in setting.robot.joint_names]
    fields = (
        "body_mass", "body_inertia", "dof_frictionloss", "dof_damping", "geom_friction",
        "geom_size", "geom_rbound", "dof_armature",
    )  # fmt: skip

    def changed(new: mujoco.MjModel, *allowed: str) -> None:
        for name in fields:
            if name not in allowed:
                np.testing.assert_allclose(getattr(new, name), getattr(old, name), err_msg=name)

    new = scale_link_mass(setting, 2.0).simulator(1).model
    changed(new, "body_mass", "body_inertia")
    assert new.body_mass[links] == pytest.approx(2.0 * old.body_mass[links])
    assert new.body_inertia[links] == pytest.approx(2.0 * old.body_inertia[links], rel=1e-6)
    assert new.body_mass[cube] == old.body_mass[cube]

    new = scale_object_mass(setting, 3.0).simulator(1).model
    changed(new, "body_mass", "body_inertia")
    # m a^2 / 6 of a cube of 0.3 kg and 0.04 m
    assert new.body_mass[cube] == pytest.approx(0.3)
    assert new.body_inertia[cube] == pytest.approx([0.3 * 0.04**2 / 6] * 3)
    assert new.body_mass[links] == pytest.approx(old.body_mass[links])

    new = scale_joint_friction(setting, 2.0).simulator(1).model
    changed(new, "dof_frictionloss", "dof_damping")
    assert new.dof_frictionloss[joints] == pytest.approx(2.0 * old.dof_frictionloss[joints])
    assert new.dof_damping[joints] == pytest.approx(2.0 * old.dof_damping[joints])

    new = scale_contact_friction(setting, 0.5).simulator(1).model
    changed(new, "geom_friction")
    assert new.geom_friction == pytest.approx(old.geom_friction * [0.5, 1.0, 1.0])

    new = scale_object_size(setting, 1.5).simulator(1).model
    changed(new, "geom_size", "geom_rbound", "body_inertia")
    assert new.geom("object").size == pytest.approx([0.03] * 3)
    assert new.body_inertia[cube] == pytest.approx([0.1 * 0.06**2 / 6] * 3)


def test_contacts_of_pairs_change_with_the_others() -> None:
    """Those with numbers of their own, and those that have their shapes'."""
    setting = toy_setting()
    own = setting.robot.model.replace('<geom type="plane"', '<geom name="floor" type="plane"')
    own = own.replace('<geom type="sphere"', '<geom name="ball" type="sphere"')
    pairs = """<contact>
      <pair geom1="floor" geom2="ball" friction="0.5 0.4 0.01 0.001 0.001" solref="0.02 1"/>
      <pair geom1="ball" geom2="floor"/>
    </contact></mujoco>"""
    robot = replace(setting.robot, model=own.replace("</mujoco>", pairs))
    setting = replace(setting, robot=robot)
    old = setting.simulator(1).model
    assert old.pair_friction[0, :3].tolist() == [0.5, 0.4, 0.01]
    new = scale_contact_friction(setting, 2.0).simulator(1).model
    assert new.pair_friction[:, :2] == pytest.approx(2.0 * old.pair_friction[:, :2])
    assert new.pair_friction[:, 2:] == pytest.approx(old.pair_friction[:, 2:])
    soft = other_physics(setting).simulator(1).model
    assert soft.pair_solref[:, 0] == pytest.approx(1.5 * old.pair_solref[:, 0])


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.0])
def test_an_object_of_another_size_lies_where_it_lay(factor: float) -> None:
    setting = toy_setting()
    assert resting(setting) == {"object": pytest.approx(0.02)}
    simulator = scale_object_size(setting, factor).simulator(2)
    run = run_episodes(forward, simulator, steps=25, seed=0, traced=2)
    # half its edge above the floor, from the start to the end, neither fallen nor thrown up
    assert run.qpos[:, :, 3] == pytest.approx(np.full((26, 2), 0.02 * factor), abs=5e-4)


def test_only_what_rests_on_something_fixed_has_another_size() -> None:
    def start_at(height: float):
        def start(*arguments):
            begun = toy_setting().task.start(*arguments)
            begun.pose_w["object"][:, 2] = height
            return begun

        return start

    assert resting(toy_setting(start=start_at(0.3))) is None
    # on a table 0.1 m high
    toy_objects = toy_setting().task.objects(None)
    table = '<geom type="box" size="0.2 0.2 0.05" pos="0.6 0 0.05"/></worldbody>'
    on_table = toy_setting(
        objects=lambda robot: toy_objects.replace("</worldbody>", table), start=start_at(0.12)
    )
    assert resting(on_table) == {"object": pytest.approx(0.02)}
    run = run_episodes(
        forward, scale_object_size(on_table, 1.5).simulator(1), steps=10, seed=0, traced=1
    )
    assert run.qpos[:, 0, 3] == pytest.approx(np.full(11, 0.13), abs=5e-4)


def test_a_delay_shifts_the_motion() -> None:
    """40 ms are two policy steps: the toy is where it was two steps before."""
    runs = [
        run_episodes(forward, s.simulator(1), steps=20, seed=0, traced=1).qpos[:, 0, 0]
        for s in (toy_setting(), delayed(toy_setting(), 0.04))
    ]
    assert runs[1][2:] == pytest.approx(runs[0][:-2], abs=1e-5)
    assert runs[0][10] > 0.05
